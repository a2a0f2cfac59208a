"""Which concepts travel together: from counts of pairs to findings with their documents."""
