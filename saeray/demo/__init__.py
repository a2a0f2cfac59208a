"""The sample corpus of `saeray demo`: real answers of the embedded model to the same prompts in three styles.

A newcomer's first diff should be one whose right answer is plain to see, so that its report can be judged by reading.
`corpus.jsonl` is shipped as made by `make_corpus`, which states how.
"""
