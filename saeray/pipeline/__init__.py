"""The Ray modules: the only ones in saeray that import ray."""
