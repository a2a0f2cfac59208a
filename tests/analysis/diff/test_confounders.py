"""Promise: a difference that length or the prompt explains is counted apart, and one that they do not is a finding."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array
from scipy.stats import hypergeom, norm, pearson3

from saeray.analysis.diff.confounders import (
    classes,
    mantel,
    mantel_by_key,
    separable,
    skewness,
    tail,
)
from saeray.analysis.diff.design import Design
from saeray.analysis.diff.halving import halves_of
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.run import compare, diff
from saeray.analysis.sides import Side
from saeray.errors import UsageError
from saeray.labels.meanings import Meanings
from saeray.stats.length import edges, standardise
from saeray.stats.significance import benjamini_hochberg, fisher_midp

MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": 300}


def side(name: str, n_tokens: np.ndarray, present: np.ndarray) -> Side:
    """A side without texts from a matrix bool[documents, latents]."""
    rows, columns = np.nonzero(present)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(present)))]).astype(np.int32)

    def lists(values: np.ndarray) -> pa.ListArray:
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(values))

    table = pa.table({
        "doc_id": [f"{name}{i}" for i in range(len(present))], "channel": ["text"] * len(present),
        "n_tokens": n_tokens.astype(np.int32), "latents": lists(columns.astype(np.uint32)),
        "max": lists(np.ones(columns.size, np.float32)), "count": lists(np.ones(columns.size, np.int32)),
    })  # fmt: skip
    source = {"dataset": "d", "plans": [0], "commits": "0", "shards_missing": 0}
    names = frozenset(table.schema.names)
    return Side(
        name, "d", "text", table.column("doc_id"), n_tokens, names, source, lambda c: iter([table.select([*c])])
    )


def of_one_source(rng: np.random.Generator, name: str, cut: int, spikes: int = 0) -> Side:
    """400 texts; each latent has its own rate a token, so presence follows length. `cut`: a third of the text, say.
    `spikes`: latents added to half of the documents, whatever their length."""
    rate = np.exp(np.random.default_rng(1).normal(-5.5, 1.5, 300))
    n_tokens = np.maximum(np.exp(rng.normal(5.3, 0.7, 400)).astype(np.int64) // cut, 3)
    present = rng.random((400, 300)) < 1 - np.exp(-n_tokens[:, None] * rate)
    present[:, :spikes] |= rng.random((400, spikes)) < 0.5
    return side(name, n_tokens, present)


@pytest.mark.parametrize("halves", [False, True])
def test_one_source_cut_to_a_third_reports_length_and_nothing_else(halves):
    """Nearly all 300 latents differ, by up to 40 points; at q 0.05 one run in twenty may report one of them."""
    reporting = aside = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        design = Design((of_one_source(rng, "a", 1), of_one_source(rng, "b", 3)))
        if halves:
            design = Design(design.sides, proposing=halves_of(design.sides))
        result = compare(design, MADE, Options(), Meanings())
        reporting += bool(result.more or result.less)
        aside += result.set_aside["by_length"]
        assert "a is longer than b" in result.length["differs"][0]
        assert result.summary()["not_separable"]["from_length"] == result.set_aside["by_length"]
        assert result.by_length
    assert aside > 10 * 150
    assert reporting <= 2, "one of 20 expected; 3 of 10 would happen once in a hundred"


def test_what_length_does_not_explain_is_found_beside_it():
    """Three latents in half of the longer side's documents: found, with several hundred that only follow length."""
    rng = np.random.default_rng(3)
    design = Design((of_one_source(rng, "a", 1, spikes=3), of_one_source(rng, "b", 2)))
    result = compare(design, MADE, Options(), Meanings())
    assert {latent for group in result.more for latent in group.latents} == {0, 1, 2}
    assert result.set_aside["by_length"] > 100


def texts_of_one_source(
    rng: np.random.Generator, cut: float, real: int, n: int = 100, m: int = 250
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Counts [2, strata, m] and sizes [2, strata, 1] of two halves of `n` texts a side, one side's cut. The first
    `real` latents, in a sixth of texts, are added to 30% of the other's, whatever their length."""
    rate = np.exp(np.where(np.arange(m) < real, -7, rng.normal(-5.5, 1.5, m)))
    tokens = [np.maximum(np.exp(rng.normal(5.3, 0.7, 2 * n)) / by, 3).astype(int) for by in (1, cut)]
    has = [rng.random((2 * n, m)) < 1 - np.exp(-t[:, None] * rate) for t in tokens]
    has[0][:, :real] |= rng.random((2 * n, real)) < 0.3
    inner = edges(np.concatenate(tokens), classes(n))
    strata = [np.searchsorted(inner, t, side="right") for t in tokens]
    halves = []
    for half in (slice(None, None, 2), slice(1, None, 2)):
        counts = [
            [h[half][s[half] == j].sum(0) for j in range(len(inner) + 1)] for h, s in zip(has, strata, strict=True)
        ]
        sizes = [np.bincount(s[half], minlength=len(inner) + 1) for s in strata]
        halves.append((np.array(counts), np.array(sizes)[:, :, None]))
    return halves


def decided(rng: np.random.Generator, cut: float, real: int = 0) -> dict[str, np.ndarray]:
    """What is separable: as it is decided, without halves, and with the chosen ones alone tested where they were chosen
    (as it was once)."""
    halves = texts_of_one_source(rng, cut, real)
    (x, n), _ = halves
    documents, size = x.sum(axis=1), n.sum(axis=(1, 2))
    proposed = documents[0] / size[0] - documents[1] / size[1]
    sign = np.where(proposed >= 0, 1.0, -1.0)
    q = benjamini_hochberg(fisher_midp(documents[0], size[0], documents[1], size[1]))
    rates = standardise(x, n)
    large = (q <= 0.05) & (np.abs(proposed) > 0.03) & (sign * (rates[0] - rates[1]) > 0.03)
    p, fresh = (tail(sign * mantel(*half, (1, 0)), sign * skewness(*half, (1, 0))) for half in halves)
    borne_out = np.ones(sign.size, bool)
    once = large.copy()
    once[large] = benjamini_hochberg(p[large]) <= 0.05
    return {
        "halves": separable(p, fresh, large, borne_out, 0.05),
        "none": separable(p, None, large, borne_out, 0.05),
        "once": once,
    }


def test_what_is_chosen_for_its_difference_is_tested_where_it_was_not_chosen():
    """60 corpora of one source, one side half as long again: 5% report a latent, where testing what was chosen on the
    documents that chose it reports some in a third and more."""
    found = [decided(np.random.default_rng(seed), 1.5) for seed in range(60)]
    reporting = {rule: sum(bool(one[rule].any()) for one in found) for rule in found[0]}
    assert reporting["halves"] <= 8, "3 expected; 9 of 60 would happen four times in a thousand"
    assert reporting["none"] <= 8
    assert reporting["once"] >= 20, "the reference must be able to fail"


def test_differences_beside_length_are_kept_with_twice_the_length():
    """Ten latents of 250, 25 points more on the longer side, 100 texts a side and half: most are kept, few others."""
    found = [decided(np.random.default_rng(seed), 2.0, real=10)["halves"] for seed in range(20)]
    assert np.mean([one[:10].mean() for one in found]) > 0.6
    assert np.mean([one[10:].sum() / max(one.sum(), 1) for one in found]) < 0.1


def test_the_fresh_p_values_are_weighted_by_the_others_and_stepped_up():
    """Against a loop over how many are kept; what no fresh document bears out goes by the proposing ones, over all."""
    rng = np.random.default_rng(8)
    p, fresh = rng.random(80) ** 4, rng.random(80) ** 3
    chosen = rng.random(80) < 0.6
    every = np.ones(80, bool)
    found = separable(p, fresh, chosen, every, 0.2)
    weight = np.array([np.exp(2 * min(max(norm.isf(one), -3), 3)) for one in p])
    weight = weight / weight[chosen].mean()
    own = sorted(fresh[chosen] / weight[chosen])
    most = max((k for k in range(1, len(own) + 1) if own[k - 1] <= 0.2 * k / len(own)), default=0)
    assert 0 < found.sum() == most
    assert not found[~chosen].any()
    assert fresh[found].max() <= 0.2 * most / len(own) * weight[found].max()
    alone = chosen & (benjamini_hochberg(p) <= 0.2)
    assert (separable(p, None, chosen, every, 0.2) == alone).all()
    assert (separable(p, fresh, chosen, ~every, 0.2) == (found | alone)).all()
    assert not separable(p, fresh, ~every, every, 0.2).any()


def test_the_tail_of_a_rare_latent_is_skewed():
    """Five documents on a side with an eighth of all: the skewness is the hypergeometric's, the tail within a factor of
    5 of the exact one, where the normal law is off by 10,000. Against Pearson's type III, both ways."""
    counts, n = np.array([[[5]], [[0]]]), np.array([[[100]], [[700]]])
    z, skewed = mantel(counts, n, (1, 0)), skewness(counts, n, (1, 0))
    law = hypergeom(800, 5, 100)
    assert skewed[0] == pytest.approx(float(law.stats("s")))
    assert law.sf(4) < tail(z, skewed)[0] < 5 * law.sf(4)
    assert norm.sf(z[0]) < law.sf(4) / 10_000
    grid = np.linspace(-3, 5, 9)
    for one in (-1.5, -0.2, 0.0, 0.3, 2.0):
        np.testing.assert_allclose(tail(grid, one), pearson3.sf(grid, one), rtol=1e-6, atol=1e-12)
    both = np.array([[[5, 3], [2, 4]], [[0, 6], [9, 1]]]), np.array([[[40], [30]], [[35], [50]]])
    np.testing.assert_allclose(skewness(*both, (0, 1)), -skewness(*both, (1, 0)))
    variance, third = np.zeros(2), np.zeros(2)
    for j in range(2):
        for i in range(2):
            every, having = both[1][:, j, 0].sum(), both[0][:, j, i].sum()
            _, v, s = hypergeom(every, having, both[1][0, j, 0]).stats("mvs")
            variance[i] += v
            third[i] += s * v**1.5
    np.testing.assert_allclose(skewness(*both, (1, 0)), third / variance**1.5)


def naive_z(counts: np.ndarray, n: np.ndarray) -> float:
    """Mantel-Haenszel of one latent, stratum by stratum: counts and n [2, strata]."""
    beyond = variance = 0.0
    for j in range(counts.shape[1]):
        a, m, n1, n2 = counts[0, j], counts[:, j].sum(), n[0, j], n[1, j]
        every = n1 + n2
        if every > 1:
            beyond += a - n1 * m / every
            variance += n1 * n2 * m * (every - m) / (every**2 * (every - 1))
    return beyond / variance**0.5


def test_mantel_is_the_textbook_sum_over_strata():
    """Against a loop, and on Mantel & Haenszel's example of one table: (a - E) / sqrt(V)."""
    rng = np.random.default_rng(0)
    n = rng.integers(1, 30, (2, 6))
    counts = rng.binomial(n[:, :, None], 0.4, (2, 6, 12))
    z = mantel(counts, n[:, :, None], (1, 0))
    np.testing.assert_allclose(z, [naive_z(counts[:, :, i], n) for i in range(12)])
    np.testing.assert_allclose(mantel(counts, n[:, :, None], (0, 1)), -z)
    assert mantel(np.zeros((2, 6, 1)), n[:, :, None], (1, 0))[0] == 0


def test_mantel_over_versions_is_the_permutation_variance():
    """Scores 0, 1, 2: the mean and spread of the sum over 20,000 shuffles of who has the latent within each stratum."""
    rng = np.random.default_rng(4)
    version, stratum = rng.integers(0, 3, 90), rng.integers(0, 2, 90)
    has = rng.random(90) < 0.3 + 0.1 * version

    def table(having):
        return np.array([[(having & (version == v) & (stratum == s)).sum() for s in range(2)] for v in range(3)])

    n = table(np.ones(90, bool))
    sums = []
    for _ in range(20_000):
        shuffled = has.copy()
        for s in range(2):
            shuffled[stratum == s] = rng.permutation(has[stratum == s])
        sums.append((version * shuffled).sum())
    expected = ((version * has).sum() - np.mean(sums)) / np.std(sums)
    assert mantel(table(has)[:, :, None], n[:, :, None], (0, 1, 2))[0] == pytest.approx(expected, rel=0.02)


def test_mantel_by_key_is_mantel_for_keys_of_one_and_honest_for_pairs():
    """Alone the two agree; where pairs agree it sees what the other cannot; where keys repeat it is not fooled."""
    rng = np.random.default_rng(5)
    n, m = 200, 60
    stratum = rng.integers(0, 3, (2, n))
    here = rng.random((2, n, m)) < 0.3 + 0.2 * stratum[:, :, None]
    strata = [s[:, None] for s in stratum]
    alone = mantel_by_key([csr_array(h) for h in here], strata, [np.arange(n), np.arange(n, 2 * n)], 2 * n, 3)
    counts = np.array([[h[s == j].sum(axis=0) for j in range(3)] for h, s in zip(here, stratum, strict=True)])
    size = np.array([[(s == j).sum() for j in range(3)] for s in stratum])[:, :, None]
    np.testing.assert_allclose(alone, mantel(counts, size, (1, 0)), atol=0.05)
    # Each document four times: four times the documents are no more evidence.
    tiled = mantel_by_key(
        [csr_array(np.tile(h, (4, 1))) for h in here],
        [np.tile(s, (4, 1)) for s in strata],
        [np.tile(np.arange(n), 4), np.tile(np.arange(n, 2 * n), 4)],
        2 * n,
        3,
    )
    np.testing.assert_allclose(tiled, alone, rtol=1e-6)
    # 12% of pairs one way and 2% the other, in one stratum: z is McNemar's.
    base = rng.random(n) < 0.3
    kind = rng.choice(3, n, p=[0.12, 0.02, 0.86])
    a, b = np.where(kind == 0, True, np.where(kind == 1, False, base)), np.where(kind < 2, kind == 1, base)
    keys = np.arange(n)
    one = [np.zeros((n, 1), np.int64)] * 2
    z = mantel_by_key([csr_array(a[:, None]), csr_array(b[:, None])], one, [keys, keys], n, 1)[0]
    only = (a & ~b).sum(), (b & ~a).sum()
    assert z == pytest.approx((only[0] - only[1]) / np.sqrt(sum(only)), rel=0.01)
    assert norm.sf(z) < 1e-3


def test_strata_of_each_latents_own_standardise_as_common_ones_do():
    """Classes of prompts are each latent's own: all at once against one latent at a time."""
    rng = np.random.default_rng(6)
    n = rng.integers(2, 40, (2, 2, 8))
    x = rng.binomial(n, 0.3)
    rates = standardise(x, n)
    for i in range(8):
        np.testing.assert_allclose(rates[:, i], standardise(x[:, :, i : i + 1], n[:, :, i : i + 1])[:, 0])


@pytest.mark.parametrize(("smallest", "expected"), [(10, 5), (60, 10), (10_000, 20)])
def test_more_documents_make_finer_classes_of_length(smallest, expected):
    assert classes(smallest) == expected


def conversations(n: int = 160) -> list[dict]:
    """Prompts ask for a table more often of A; who is asked obliges, and B says sorry whatever it is asked."""
    rng = np.random.default_rng(7)
    found = []
    for model, asked, sorry in (("A", 0.8, 0.1), ("B", 0.2, 0.6)):
        for i in range(n):
            ask = rng.random() < asked
            words = ["table"] * ask + ["sorry"] * bool(rng.random() < sorry)
            found.append({
                "doc_id": f"{model}{i}", "model": model,
                "messages": [{"role": "user", "content": f"the cat {'table' if ask else 'on'} {i}"},
                             {"role": "assistant", "content": f"the cat {' '.join(words)} on {model} {i}"}],
            })  # fmt: skip
    return found


@pytest.mark.parametrize("halves", [False, True])
def test_a_difference_of_prompts_is_not_one_of_responses(store_of, halves):
    """A has more tables because it is asked for more; given the prompt there is no difference. Sorry stays."""
    found = conversations()
    store = store_of(found, keep=("model",))
    plain = diff(store, "d:model=A", ["rest"], channel="assistant", halves=halves)
    assert 0 in {latent for group in plain.more for latent in group.latents}
    result = diff(store, "d:model=A", ["rest"], channel="assistant", given="user", halves=halves)
    assert result.more == ()
    assert [group.latents for group in result.by_given] == [(0,)]
    assert [group.latents for group in result.less] == [(1,)]
    table, sorry = result.row(0), result.row(1)
    assert (table["difference_given"], table["separable_from_given"]) == (pytest.approx(0, abs=1e-12), False)
    assert sorry["separable_from_given"]
    assert plain.row(0)["difference_given"] is None
    if not halves:
        rates = []
        for model in "AB":
            answers = [r["messages"][1]["content"].split() for r in found if r["model"] == model]
            rates.append(np.mean(["sorry" in words for words in answers]))
        # No prompt says sorry, so the one class has all documents.
        assert sorry["difference_given"] == pytest.approx(rates[0] - rates[1])


def test_the_other_channel_must_be_another(store_of):
    store = store_of(conversations(60), keep=("model",))
    with pytest.raises(UsageError, match="name the other one"):
        diff(store, "d:model=A", ["rest"], channel="user", given="user")
    with pytest.raises(UsageError, match="no rows of channel 'system'"):
        diff(store, "d:model=A", ["rest"], channel="user", given="system")
