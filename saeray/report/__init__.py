"""Results as one self-contained page: no script, no network, readable on a phone, every word of a document escaped."""
