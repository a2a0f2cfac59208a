"""saeray: read what is in text at scale."""
