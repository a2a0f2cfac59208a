"""Guards that what means the same is one finding, and that nothing else is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from saeray.analysis.sides import Side, spread
from saeray.labels import coactivity
from saeray.labels.coactivity import nearest, pairs_above
from saeray.labels.groups import LatentGroup, group, groups_of_side, near_level, presence


def at_angles(*degrees: float) -> np.ndarray:
    """Unit vectors in a plane."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Jaccard similarity beyond chance of two columns of 0 and 1, from its definition."""
    n = len(a)
    either = int((a | b).sum())
    if not either:
        return 0.0
    p, q = a.sum() / n, b.sum() / n
    expected = p * q / (p + q - p * q)
    return 0.0 if expected > 1 - 1e-9 else ((a & b).sum() / either - expected) / (1 - expected)


def test_the_same_label_is_one_group_whatever_its_case_and_stop() -> None:
    """A report does not say one thing three times; a latent without a label joins nobody."""
    labels = {7: "Apologies", 3: "apologies.", 9: "lists", 4: "", 8: "Apologies "}
    found = group([7, 3, 9, 4, 5, 8], labels=labels)
    assert found == [
        LatentGroup("Apologies", (7, 3, 8), "same label"),
        LatentGroup("lists", (9,), ""),
        LatentGroup("latent 4", (4,), ""),
        LatentGroup("latent 5", (5,), ""),
    ]


def test_a_chain_of_near_labels_does_not_become_one_group() -> None:
    """0, 30, 60 and 90 degrees: each is near the next only; members must be near their representative."""
    labels = dict(enumerate("abcd"))
    found = group(range(4), labels=labels, embeddings=at_angles(0, 30, 60, 90), near=0.8)
    assert [g.latents for g in found] == [(0, 1), (2, 3)]
    assert {g.why for g in found} == {"near label"}


def test_a_chain_of_like_documents_does_not_become_one_group() -> None:
    """Blocks of 100 documents that shift by 15: neighbours share 0.74, next but one 0.54."""
    blocks = np.zeros((2000, 6), np.float32)
    for i in range(6):
        blocks[15 * i : 15 * i + 100, i] = 1
    found = group(range(6), labels={}, documents_csr=sparse.csr_matrix(blocks), weight=[6, 5, 4, 3, 2, 1])
    assert [g.latents for g in found] == [(0, 1), (2, 3), (4, 5)]
    assert {g.why for g in found} == {"same documents"}


def test_the_heaviest_latent_represents_and_names_its_group() -> None:
    """The name is the representative's label, or that of the heaviest member with one."""
    labels = {0: "cats", 1: "felines", 2: "dogs"}
    vectors = at_angles(0, 10, 90)
    by_order = group(range(3), labels=labels, embeddings=vectors, near=0.9)
    assert by_order[0] == LatentGroup("cats", (0, 1), "near label")
    by_weight = group(range(3), labels=labels, embeddings=vectors, near=0.9, weight=[0.2, 0.9, 0.5])
    assert by_weight == [LatentGroup("felines", (1, 0), "near label"), LatentGroup("dogs", (2,), "")]
    same = np.zeros((100, 2), np.float32)
    same[:20] = 1
    unnamed = group([5, 6], labels={6: "lists"}, documents_csr=sparse.csr_matrix(same), weight=[2, 1])
    assert unnamed == [LatentGroup("lists", (5, 6), "same documents")]


def test_without_weights_the_most_frequent_latent_represents() -> None:
    """Frequency is the weight when documents are given."""
    documents = np.zeros((100, 2), np.float32)
    documents[:18, 0] = documents[:20, 1] = 1
    found = group([3, 4], labels={3: "rare", 4: "common"}, documents_csr=sparse.csr_matrix(documents))
    assert found == [LatentGroup("common", (4, 3), "same documents")]


def test_dense_latents_are_not_one_because_both_are_everywhere() -> None:
    """Two independent latents in 90% of documents have a Jaccard similarity of 0.82 by chance alone."""
    rng = np.random.default_rng(3)
    documents = (rng.random((3000, 2)) < 0.9).astype(np.float32)
    both = (documents > 0).all(1).sum() / (documents > 0).any(1).sum()
    assert both > 0.8
    assert len(group([0, 1], labels={}, documents_csr=sparse.csr_matrix(documents))) == 2


def test_latents_of_few_documents_are_not_compared() -> None:
    """Two latents that met nine documents, the same nine, are left alone at a support of ten."""
    documents = np.zeros((500, 2), np.float32)
    documents[:9] = 1
    assert len(group([0, 1], labels={}, documents_csr=sparse.csr_matrix(documents), min_support=10)) == 2
    assert len(group([0, 1], labels={}, documents_csr=sparse.csr_matrix(documents), min_support=9)) == 1


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.bool_, st.tuples(st.integers(2, 30), st.integers(2, 12)), fill=st.booleans()),
    st.sampled_from([0.2, 0.5, 0.7, 1.0]),
    st.integers(1, 4),
)
def test_pairs_are_those_of_the_definition(documents: np.ndarray, level: float, least: int) -> None:
    """Every pair at the level is found once, none else, whichever product makes them."""
    wanted = {
        (i, j)
        for i, j in itertools.combinations(range(documents.shape[1]), 2)
        if min(documents[:, i].sum(), documents[:, j].sum()) >= least
        and np.float32(similarity(documents[:, i], documents[:, j])) >= level
    }
    for rate in (1e-9, 1e30):  # never sparse, always sparse
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(coactivity, "_SPARSE_RATE", rate)
            patch.setattr(coactivity, "_BLOCK", 3)
            patch.setattr(coactivity, "_OTHERS", 4)
            found = list(zip(*pairs_above(sparse.csr_matrix(documents.astype(np.float32)), level, least), strict=True))
        assert {(min(p), max(p)) for p in found} == wanted
        assert len(found) == len(wanted)


def test_the_nearest_are_those_most_alike() -> None:
    """Against the definition, for every latent; what is no more alike than chance is no neighbour."""
    rng = np.random.default_rng(1)
    documents = rng.random((60, 20)) < rng.uniform(0.05, 0.6, 20)
    found = nearest(sparse.csr_matrix(documents.astype(np.float32)), np.arange(20), 4)
    for i in range(20):
        value = [(-np.float32(similarity(documents[:, i], documents[:, j])), j) for j in range(20) if j != i]
        expected = [j for v, j in sorted(value)[:4] if v < 0]
        assert [j for j in found[i] if j >= 0] == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_every_latent_is_in_one_group(texts: list[str], random: object) -> None:
    """A partition, whatever the labels and the order."""
    latents = list(range(100, 100 + len(texts)))
    random.shuffle(latents)  # type: ignore[attr-defined]
    found = group(latents, labels=dict(zip(latents, texts, strict=True)))
    assert sorted(i for g in found for i in g.latents) == sorted(latents)
    assert len(found) == len({t for t in texts if t}) + texts.count("")


def test_the_level_is_a_quantile_of_random_pairs() -> None:
    """Of all pairs 1 - quantile are nearer; with too few pairs to say, only equals are near."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    level = near_level(vectors, 0.99)
    pairs = [float(a @ b) for a, b in itertools.combinations(vectors, 2)]
    assert np.mean(np.array(pairs) >= level) == pytest.approx(0.01, abs=1e-3)
    assert near_level(vectors[:20], 0.9995) == 1.0


def side_of(latents: list[list[int]], step: int = 7) -> Side:
    table = pa.table({"latents": pa.array(latents, pa.list_(pa.uint32()))})

    def scan(columns: Sequence[str]) -> Iterator[pa.Table]:
        for at in range(0, table.num_rows, step):
            yield table.slice(at, step).select(list(columns))

    ids = pa.chunked_array([[str(i) for i in range(len(latents))]])
    return Side("d", "d", "text", ids, np.ones(len(latents), np.int64), frozenset(["latents"]), {}, scan)


def test_presence_is_of_drawn_documents() -> None:
    """Rows and columns stand in the order asked for, across batches, of some documents when there are too many."""
    rows = [[i % 5, 5 + i % 3] for i in range(40)]
    side = side_of(rows)
    assert presence(side, [6, 2], 100).toarray().tolist() == [[float(6 in r), float(2 in r)] for r in rows]
    drawn = list(itertools.compress(rows, spread(len(rows), 12)))
    assert len(drawn) == 12
    assert presence(side, [6, 2], 12).toarray().tolist() == [[float(6 in r), float(2 in r)] for r in drawn]


def test_groups_of_a_side_are_those_of_its_documents() -> None:
    """Latents 1 and 4 stand in the same documents, 2 in others."""
    rows = [[1, 4] if i % 4 == 0 else [2] if i % 4 == 1 else [] for i in range(80)]
    found = groups_of_side(side_of(rows), [4, 2, 1], labels={1: "one", 2: "two"})
    assert found == [LatentGroup("one", (4, 1), "same documents"), LatentGroup("two", (2,), "")]


def test_the_findings_of_a_diff_are_grouped_at_once() -> None:
    """400 findings with labels and 5,000 documents: a fraction of a second."""
    rng = np.random.default_rng(0)
    documents = sparse.csr_matrix((rng.random((5000, 400)) < 0.1).astype(np.float32))
    vectors = rng.normal(size=(400, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = {i: f"label {i // 2}" for i in range(400)}
    start = time.perf_counter()
    found = group(range(400), labels=labels, embeddings=vectors, documents_csr=documents)
    assert len(found) == 200
    assert time.perf_counter() - start < 5
