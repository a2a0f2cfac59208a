"""The labels that a report reads by, one a latent, and how near their meanings are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from saeray.errors import SaerayError
from saeray.labels.groups import NEAR
from saeray.labels.predict import test_in
from saeray.labels.store import LabelStore
from saeray.store import Store

if TYPE_CHECKING:
    from saeray.labels.embedding import Embedder


@dataclass(frozen=True)
class Meanings:
    """labels: latent -> text. near: the cosine at which two labels mean the same; None where no embedder is there."""

    labels: Mapping[int, str] = field(default_factory=dict)
    near: float | None = None
    store: LabelStore | None = None
    embedder: Embedder | None = None

    @classmethod
    def of(cls, store: Store) -> Meanings:
        """The store's best labels, or those that ship with its SAE; near ones by MiniLM where it is installed."""
        own = LabelStore.of(store)
        labels = named(own)
        if not labels:
            return cls()
        from saeray.labels.embedding import Embedder

        try:
            return cls(labels, NEAR, own, Embedder())
        except SaerayError:  # without the embedder, the same words are still the same label
            return cls(labels, None, own)

    def tests(self, latents: Sequence[int]) -> dict[int, tuple[str, dict[str, Any]]]:
        """Label and test of those `latents` whose label has one in its evidence."""
        if self.store is None:
            return {}
        table = self.store.table()
        table = table.filter(pc.is_in(table.column("latent"), value_set=pa.array(latents, pa.uint32())))
        found = {}
        for row in table.select(["latent", "text", "evidence"]).to_pylist():
            if row["text"] == self.labels.get(row["latent"]) and (test := test_in(row["evidence"])):
                found[row["latent"]] = row["text"], test
        return found

    def embeddings(self, latents: Sequence[int]) -> NDArray[np.float32] | None:
        """Unit rows, float32 [len(latents), n], of the latents' labels; None where there is no embedder."""
        return self.embed([self.labels.get(latent, "") for latent in latents])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """Unit rows, float32 [len(texts), n]; None where there is no embedder."""
        if self.embedder is None:
            return None
        from saeray.labels.embedding import label_embeddings

        return label_embeddings(self.store, texts, self.embedder)


def named(labels: LabelStore, sources: Sequence[str] = ()) -> dict[int, str]:
    """The best label of each latent, but for those that say no more than that the latent is unclear."""
    table = labels.table()
    rows = zip(*(table.column(name).to_pylist() for name in ("latent", "text", "kind")), strict=True)
    unclear = {(latent, text) for latent, text, kind in rows if kind == "unclear"}
    return {latent: text for latent, text in labels.best(sources).items() if (latent, text) not in unclear}
