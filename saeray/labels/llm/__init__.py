"""Labels from an LLM: proposed on one part of the documents, chosen on a second, scored on a third."""
