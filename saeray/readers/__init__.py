"""Text to residual stream: where a reader's weights come from, how a document is framed, cut and batched."""
