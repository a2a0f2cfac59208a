"""What one set of documents does more than others: the set-up, the tests, the names, the findings."""
