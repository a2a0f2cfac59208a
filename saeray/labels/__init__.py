"""What latents mean: labels from anywhere in one store, made from the corpus, scored, and compared by their meaning."""

from saeray.labels.formats import export_labels, import_labels
from saeray.labels.store import LABEL_SCHEMA, LabelStore

__all__ = ["LABEL_SCHEMA", "LabelStore", "export_labels", "import_labels"]
