"""Does a diff name a known difference? The sets, what counts as naming, what it is held against, the figures."""
