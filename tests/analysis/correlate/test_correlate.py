"""Promise: a pair that should not be is found, each filter takes out its own kind and says so, chance is nothing."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from pair_parts import Axes, Dense, Grid, labels, options

from saeray.analysis.correlate.groups import group_pairs
from saeray.analysis.correlate.options import FILTERS
from saeray.analysis.correlate.pairs import FEWEST, Profiles, look
from saeray.analysis.correlate.run import correlate, passing
from saeray.labels.meanings import Meanings
from saeray.stats.association import log_p_together

N = 400


def noise(latents: int, seed: int = 0, n: int = N, share: float = 0.2) -> np.ndarray:
    return np.random.default_rng(seed).random((n, latents)) < share


def planted(size: int = 30) -> np.ndarray:
    """Eight latents at random, of which 0 and 5 stand in the last `size` documents too."""
    there = noise(8)
    there[:, [0, 5]] &= noise(2, 1, share=0.3)
    there[-size:, [0, 5]] = True
    return there


def found(there, used=None, read=None, **part):
    parts = [Grid(there, **part)]
    used = used or options()
    return passing(Dense(parts, used), parts, read or labels(), used)


def pairs_of(result) -> list[tuple[int, int]]:
    return [(row["i"], row["j"]) for row in result.table.to_pylist()]


def test_a_planted_pair_is_found_with_its_figures():
    there = planted()
    row = found(there).table.to_pylist()[0]
    both, n_i, n_j = int((there[:, 0] & there[:, 5]).sum()), int(there[:, 0].sum()), int(there[:, 5].sum())
    assert (row["i"], row["j"], row["documents"]) == (0, 5, both)
    assert row["npmi"] == pytest.approx(math.log(both * N / (n_i * n_j)) / math.log(N / both))
    assert (row["p_i_given_j"], row["p_j_given_i"]) == (both / n_j, both / n_i)
    corrected = float(log_p_together(both, n_i, n_j, N)) + math.log(28 * sum(1 / k for k in range(1, 29)))
    assert row["log10_q"] == pytest.approx(corrected / math.log(10))
    assert row["npmi_at_equal_length"] == pytest.approx(row["npmi"]), "all documents are of one length"


def test_independent_columns_give_no_pair_beyond_the_stated_rate():
    """At 0.05 over all pairs, some pair in 1 of 20 corpora or fewer; 5 of 20 would happen once in four hundred."""
    used = options(floor=-1.0, min_support=1)
    reporting = sum(found(noise(60, seed), used).table.num_rows > 0 for seed in range(20))
    assert reporting <= 4


def test_a_shuffled_pair_is_no_pair():
    there = planted()
    assert pairs_of(found(there)) == [(0, 5)]
    shuffled = there.copy()
    shuffled[:, 5] = np.random.default_rng(3).permutation(shuffled[:, 5])
    assert pairs_of(found(shuffled)) == []


def test_each_filter_takes_out_its_own_and_says_so():
    """The planted pair passes them all, and falls to the one whose fault it is given."""
    there = planted()
    far = {k: f"{letter} thing" for k, letter in enumerate("abcdefgh")}
    read = labels(far, embedder=Axes())
    assert read.level == 0, "of eight labels no two are alike"
    # Unrelated labels have a cosine of exactly 0 here, the level itself; a share of less alike ones makes it positive.
    read.level = 0.5
    whole = found(there, read=read)
    assert pairs_of(whole) == [(0, 5)]
    assert [name for name, _ in whole.toll] == list(FILTERS)

    def lost(read=read, used=None, **part):
        toll = dict(found(there, used, read, **part).toll)
        return next(name for name, left in toll.items() if left == 0)

    near = labels(far | {5: "another"}, embedder=Axes())
    near.level = 0.5
    assert lost(near) == "labels far apart"
    assert lost(labels({k: v for k, v in far.items() if k != 5})) == "both latents have a label"
    assert lost(labels(far | {5: "full stops and commas"})) == "neither label is of syntax"
    assert lost(used=options(q=1e-60)) == "q-value over all pairs"
    together = [np.tile(10 * np.arange(8), (N, 1))]
    together[0][:, 5] = 1
    assert lost(peaks=together) == "peaks on different tokens"
    together[0][:, 5] = 2
    assert pairs_of(found(there, read=read, peaks=together)) == [(0, 5)], "two tokens on is not the next"
    assert lost(used=options(alike=-1.0)) == "documents otherwise unlike"
    long = np.where(np.arange(N) >= N - 90, 900, 100)
    row = found(there, read=read, lengths=long).table.to_pylist()[0]
    assert row["npmi_at_equal_length"] < 0.9 * row["npmi"]
    assert lost(lengths=long, used=options(at_equal_length=0.9)) == "not by length alone"


def test_filters_can_be_left_out():
    there, texts = planted(), {0: "the word ‘of’", 1: "x"}
    assert pairs_of(found(there, read=labels(texts))) == []
    used = options(keep_unlabelled=True, keep_syntactic=True)
    result = found(there, used, labels(texts))
    assert pairs_of(result) == [(0, 5)]
    assert not {FILTERS[1], FILTERS[2]} & set(dict(result.toll))
    assert result.table.to_pylist()[0]["label_i"] == "the word ‘of’"


def test_more_candidates_than_are_looked_at_are_told(monkeypatch):
    monkeypatch.setattr("saeray.analysis.correlate.run.MOST_CANDIDATES", 1)
    there = planted()
    there[:40, [1, 2]] = True
    result = found(there)
    assert result.table.num_rows == 1
    assert dict(result.toll)["the 1 strongest"] == 1
    assert dict(result.toll)[FILTERS[4]] > 1


def test_marks_of_one_kind_of_document_are_no_surprise():
    """Latents 0 to 59 are marks of one kind of document and 60 to 119 of another; 1 of the first and 60 of the second
    meet in some documents of their own. Pairs inside a kind are as strong, and their documents alike."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], [150, 150, 400])
    there = rng.random((700, 130)) < 0.01
    there[:, :60] |= (kind == 0)[:, None] & (rng.random((700, 60)) < 0.5)
    there[:, 60:120] |= (kind == 1)[:, None] & (rng.random((700, 60)) < 0.5)
    there[400:460, [1, 60]] = True
    read = labels(d_sae=130)
    every = pairs_of(found(there, read=read))
    assert {(0, 2), (61, 62), (1, 60)} <= set(every)
    assert len(every) > 1000
    left = pairs_of(found(there, options(alike=0.25), read))
    # What 1 and 60 share documents with inside their kinds lacks the documents of their own, and so may stay.
    assert [pair for pair in left if not {1, 60} & set(pair)] == []
    assert (1, 60) in left


@pytest.mark.parametrize("within", [True, False])
def test_what_documents_say_of_pairs_is_counted_right(within):
    """Against loops over documents, in two parts of which some documents are left out."""
    rng = np.random.default_rng(5)
    parts, kept_rows = [], []
    for n in (90, 60):
        sides = [rng.random((n, 6)) < 0.5 for _ in range(1 if within else 2)]
        peaks = [rng.integers(0, 6, (n, 6)) for _ in sides]
        part = Grid(*sides, peaks=peaks, lengths=rng.integers(1, 50, n), kept=rng.random(n) < 0.8)
        parts.append(part)
        kept_rows += [(part, d) for d in np.flatnonzero(part.kept)]
    last = 0 if within else 1
    frequencies = [sum(p.sides[s][p.kept].sum(axis=0) for p in parts) for s in range(last + 1)]
    profiles = Profiles([np.arange(6)] * (last + 1), frequencies, len(kept_rows))
    i, j = np.array([0, 0, 4, 2]), np.array([1, 5, 5, 3])
    seen = look(parts, i, j, profiles.of, within)
    made = {id(part): profiles.of(part) for part in parts}
    mean = np.mean([made[id(p)][d] for p, d in kept_rows], axis=0)
    edges = seen.inner.tolist()
    for k, (a, b) in enumerate(zip(i, j, strict=True)):
        has_i = [(p, d) for p, d in kept_rows if p.sides[0][d, a]]
        has_j = [(p, d) for p, d in kept_rows if p.sides[last][d, b]]
        both = [one for one in has_i if one in has_j]
        near = sum(abs(int(p.peaks[0][d, a]) - int(p.peaks[last][d, b])) <= 1 for p, d in both)
        assert seen.near[k] == (near if within else 0)
        for counted, rows in ((seen.n_i, has_i), (seen.n_j, has_j)):
            strata = [sum(p.lengths[d] >= edge for edge in edges) for p, d in rows]
            assert counted[k].tolist() == np.bincount(strata, minlength=len(edges) + 1).tolist()
        vectors = []
        for rows in (has_i, has_j):
            alone = [one for one in rows if one not in both]
            rows = alone if len(alone) >= FEWEST else rows
            vectors.append(np.sum([made[id(p)][d] - mean for p, d in rows], axis=0))
        cosine = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
        assert seen.alike[k] == pytest.approx(cosine, abs=1e-4)
    assert seen.n.sum() == len(kept_rows)


def table(*pairs):
    return pa.table({"i": [i for i, _ in pairs], "j": [j for _, j in pairs]})


def test_pairs_of_one_set_of_documents_are_one_finding():
    there = np.zeros((100, 8), bool)
    there[:20, [0, 1]] = True
    there[5:25, [2, 3]] = True  # 15 of 20 documents with the first
    there[40:60, [4, 5]] = True
    there[18:58, [6, 7]] = True  # 2 of 20 with the first, 18 of 20 with the third
    groups = group_pairs(table((0, 1), (2, 3), (4, 5), (6, 7)), [Grid(there)], labels(), 10)
    assert [group.members for group in groups] == [(0, 1), (2, 3)]
    assert groups[1].documents.tolist() == list(range(40, 60))
    assert len(group_pairs(table((0, 1), (2, 3), (4, 5), (6, 7)), [Grid(there)], labels(), 1)) == 1


def test_documents_are_numbered_through_all_parts():
    there = np.zeros((10, 8), bool)
    there[3, [0, 1]] = True
    (group,) = group_pairs(table((0, 1)), [Grid(there), Grid(there)], labels(), 5)
    assert group.documents.tolist() == [3, 13]


def test_pairs_of_latents_with_one_meaning_are_one_finding():
    there = np.zeros((80, 8), bool)
    for k, pair in enumerate([(0, 1), (2, 3), (3, 4)]):
        there[20 * k : 20 * k + 20, list(pair)] = True
    there[20:40, 4] = False
    read = labels({0: "cats", 1: "maps", 2: "maps", 3: "cats", 4: "boats"})
    groups = group_pairs(table((0, 1), (2, 3), (3, 4)), [Grid(there)], read, 10)
    assert [group.members for group in groups] == [(0, 1), (2,)], "cats and maps either way round; cats and boats apart"
    assert group_pairs(table(), [Grid(there)], read, 10) == ()


def test_between_two_channels_tokens_are_not_compared():
    user, assistant = noise(6), noise(6, 9)
    user[-40:, 2] = True
    assistant[-40:, 4] = True
    peaks = [np.zeros((N, 6), int)] * 2
    parts, used = [Grid(user, assistant, peaks=peaks)], options(floor=0.1)
    result = passing(Dense(parts, used), parts, labels(), used)
    assert pairs_of(result) == [(2, 4)]
    assert FILTERS[5] not in dict(result.toll)


MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": 8}
SELECTION = {
    "name": "d",
    "dataset": "d",
    "channel": "text",
    "documents": N,
    "plans": [0],
    "commits": "0",
    "shards_missing": 0,
}


def test_a_result_says_the_same_every_time_and_fits_json():
    parts, used = [Grid(planted())], options()

    def make():
        return correlate(Dense(parts, used), parts, Meanings({0: "a", 5: "b"}), used, SELECTION, MADE)

    one, other = make(), make()
    assert json.dumps(one.summary(), allow_nan=False) == json.dumps(other.summary())
    assert one.page() == other.page()
    assert one.rows.equals(other.rows)
    assert one.summary()["left"][FILTERS[0]] >= one.summary()["passing"] == 1
    assert one.table()[0]["label_i"] == "a"
    assert one.rows.column("finding").to_pylist() == [0]
    assert one.summary()["pairs"] == 28


def test_nothing_found_is_a_result():
    parts, used = [Grid(noise(8))], options(floor=0.9)
    result = correlate(Dense(parts, used), parts, Meanings(), used, SELECTION, MADE)
    assert (result.findings, result.table(), result.rows.num_rows) == ((), [], 0)
    assert "None of these passes all filters" in result.page()
