"""Results as one self-contained page: no network, no script but a table's own, readable on a phone, every word of a
document escaped."""
