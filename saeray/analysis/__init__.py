"""Store and statistics in, one result out: every analysis returns an object that prints, writes and renders itself."""
