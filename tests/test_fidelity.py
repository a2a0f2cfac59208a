"""Promise: every number of the fidelity report is what its definition says, by a plain count over Python's numbers."""

import json
import math
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import hypergeom
from tiny import make_encoder_yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

import compared
import fidelity

from saeray.config import encoder_config
from saeray.loading import source_of, tokenizer_of

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "what",
    "is",
    "answer",
    "question",
    "sea",
    "shells",
    "market",
    "people",
    "three",
]


def percentile(values, q):
    """The q-th percentile with straight lines between order statistics."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * q / 100
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def sets(x):
    """Of each row the columns that are present, with their values."""
    return [{j: float(x[i, j]) for j in range(x.shape[1]) if x[i, j]} for i in range(x.shape[0])]


def jaccard(one, other, among=None):
    found = []
    for a, b in zip(one, other, strict=True):
        a, b = ({j for j in row if among is None or j in among} for row in (a, b))
        if a | b:
            found.append(len(a & b) / len(a | b))
    return fmean(found) if found else math.nan


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-12, nan_ok=True), name


@st.composite
def readings(draw):
    """Two sparse tables of documents by latents, the second the first with some cells come, gone or changed."""
    rows, columns = draw(st.integers(12, 40)), draw(st.integers(3, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = random.beta(0.5, 1, columns)
    one = np.where(random.random((rows, columns)) < share, random.gamma(2, 1, (rows, columns)), 0).astype(np.float32)
    other = one * random.uniform(0.9, 1.1, one.shape).astype(np.float32)
    other[random.random(one.shape) < 0.1] = 0
    other = np.where(random.random(one.shape) < 0.05, np.float32(1), other)
    target = random.random(rows) < 0.5
    target[:2] = True, False
    return one, other, target


@settings(max_examples=25)
@given(readings())
def test_overlaps_frequencies_and_maxima(tables):
    """Against sets and counters, for any two tables."""
    one, other, _ = tables
    a, b = sets(one), sets(other)
    n = len(a)
    before, after = (Counter(j for row in rows for j in row) for rows in (a, b))
    bands = {"all": jaccard(a, b)}
    for low, high in ((0, 1), (1, 5), (5, 20), (20, 50), (50, 100)):
        inside = {
            j for j in range(one.shape[1]) if (low == 0 or 100 * before[j] > low * n) and 100 * before[j] <= high * n
        }
        bands[f"{low}-{high}%"] = jaccard(a, b, inside)
    sparse = csr_array(one), csr_array(other)
    same(compared.by_band(*sparse), bands)
    either = sorted(set(before) | set(after))
    change = [100 * (after[j] - before[j]) / n for j in either]
    noise = 0
    for j in either:
        p = (before[j] + after[j]) / 2 / n
        noise += abs(after[j] - before[j]) / n > 1.959964 * math.sqrt(max(0.0, p * (1 - p) / n)) + 1e-12
    same(
        compared.frequencies(*sparse),
        {
            "latents": len(either),
            "mean_points": fmean(map(abs, change)),
            "bias_points": fmean(change),
            "max_points": max(map(abs, change)),
            "beyond_1_point": sum(abs(after[j] - before[j]) * 100 > n for j in either),
            "beyond_noise": noise,
        },
    )
    errors = [abs(y[j] - x[j]) / x[j] for x, y in zip(a, b, strict=True) for j in x if j in y]
    same(
        compared.maxima(*sparse),
        {"median": median(errors), "p90": percentile(errors, 90), "p99": percentile(errors, 99)},
    )


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_cosines_and_errors_of_vectors(n, d, seed):
    """Against sums of Python's floats."""
    random = np.random.default_rng(seed)
    x = random.normal(0, 3, (n, d)).astype(np.float32)
    y = (x + random.normal(0, 0.3, (n, d))).astype(np.float32)
    cosines, errors = [], []
    for p, q in zip(x.tolist(), y.tolist(), strict=True):
        dot = math.fsum(s * t for s, t in zip(p, q, strict=True))
        cosines.append(dot / math.hypot(*p) / math.hypot(*q))
        errors.append(math.dist(p, q) / math.hypot(*p))
    same(
        compared.vectors(x, y),
        {
            "cosine_median": median(cosines),
            "cosine_p1": percentile(cosines, 1),
            "cosine_min": min(cosines),
            "error_median": median(errors),
            "error_p99": percentile(errors, 99),
        },
    )


def ranks(values):
    """From 1, equal values sharing the mean of their places."""
    return [(sum(v < x for v in values) + sum(v <= x for v in values) + 1) / 2 for x in values]


def midp(k, n1, m, n):
    """Two-sided mid-p of k of n1 and m - k of n - n1: tables less likely than this one, and half of those as likely."""
    chance = [hypergeom.pmf(i, n, m, n1) for i in range(m + 1)]
    less = sum(c for c in chance if c < chance[k] * (1 - 1e-9))
    equal = sum(c for c in chance if abs(c - chance[k]) <= chance[k] * 1e-9)
    return less + equal / 2


def side_counts(rows, target):
    return [Counter(j for row, t in zip(rows, target, strict=True) if t == side for j in row) for side in (True, False)]


@settings(max_examples=15)
@given(readings())
def test_what_becomes_of_a_diff(tables):
    """Top, ranks and significance of the differences against their definitions, one latent at a time."""
    one, other, target = tables
    n, sizes = len(target), (int(target.sum()), int((~target).sum()))
    drawn = np.random.default_rng(0).integers(0, n, n)
    found = []
    for table, sides in ((one, target), (other, target), (one[drawn], target[drawn])):
        size = int(sides.sum()), int((~sides).sum())
        if not all(size):
            return  # a redrawn side without documents has no difference
        rows = sets(table)
        here, there = side_counts(rows, sides.tolist())
        tested = [j for j in range(one.shape[1]) if 5 <= here[j] + there[j] <= n - 5]
        difference = {j: here[j] / size[0] - there[j] / size[1] for j in range(one.shape[1])}
        top = sorted(tested, key=lambda j: (-abs(difference[j]), j))[:20]
        ordered = sorted((midp(here[j], size[0], here[j] + there[j], n), j) for j in tested)
        passed = [i for i, (p, _) in enumerate(ordered) if p <= 0.05 * (i + 1) / len(ordered)]
        significant = {j for _, j in ordered[: passed[-1] + 1]} if passed else set()
        found.append((difference, set(tested), set(top), significant))
    (before, tested, top, real), (after, tested_too, top_too, real_too), (_, _, redrawn, _) = found
    both = sorted(tested | tested_too)
    change = [100 * abs(after[j] - before[j]) for j in top] or [math.nan]
    x, y = ([side[j] for j in both] for side in (before, after))
    rank = np.corrcoef(ranks(x), ranks(y))[0, 1] if len(set(x)) > 1 and len(set(y)) > 1 else math.nan
    figures = compared.diff(csr_array(one), csr_array(other), target)
    same(
        figures,
        {
            "top_kept": len(top & top_too) / len(top) if top else math.nan,
            "top_kept_redrawn": len(top & redrawn) / len(top) if top else math.nan,
            "top_change_mean_points": fmean(change),
            "top_change_max_points": max(change),
            "rank_correlation": rank,
            "significant": len(real),
            "significant_other": len(real_too),
            "significant_kept": len(real & real_too) / len(real) if real else math.nan,
        },
    )
    assert sizes[0] + sizes[1] == n


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny encoder's YAML, and a file of two sides of texts."""
    directory = tmp_path_factory.mktemp("fidelity")
    random = np.random.default_rng(0)
    lines = [
        {"side": "ab"[i % 2], "response": " ".join(random.choice(WORDS, random.integers(3, 40)).tolist())}
        for i in range(30)
    ]
    texts = directory / "texts.jsonl"
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    yaml = make_encoder_yaml(directory, window=36, overlap=8)
    return [
        "--encoder", str(yaml), "--input", str(texts), "--by", "side", "--sides", "a", "b", "--documents", "24",
        "--threads", "1",
    ]  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "fp8"])
def test_a_reading_is_what_the_encoder_encodes(tiny, precision):
    """Rows as `Encoder.encode` has them and vectors as the reader has them, long documents in their windows; against
    itself nothing changes.
    """
    config = encoder_config(tiny[1])
    tokenizer = tokenizer_of(config, source_of(config))
    documents = [tokenizer.text(" ".join(WORDS[:k])) for k in (4, 10, 13)]
    encoder = fidelity.encoder_in(config, precision, "cpu")
    found = fidelity.read(encoder, documents)
    assert found.vectors.shape == (sum(len(one.pooled(0)) for one in documents), 32)
    assert len(found.sinks) > len(documents)
    assert np.array_equal(found.sinks, np.tile(found.sinks[:1], (len(found.sinks), 1)))
    assert np.array_equal((found.documents > 0).sum(axis=0) > 0, (found.tokens > 0).sum(axis=0) > 0)
    for i, document in enumerate(encoder.encode(documents)):
        row = document.rows[0]
        latents = found.documents[[i]].tocoo().col
        assert len(set(latents) ^ set(row.latents.tolist())) <= 0.02 * len(latents)
        if precision == "float32":
            assert np.allclose(found.documents[[i]].toarray()[0][row.latents], row.max, rtol=1e-4)
    itself = compared.compare(found, found, np.array([False, False, True]))
    assert itself["residual"]["error_p99"] == itself["frequency"]["max_points"] == itself["maxima"]["p99"] == 0
    assert itself["tokens"]["overlap"] == itself["documents"]["all"] == 1
    if precision == "float32":
        short = encoder.reader.residual([documents[0].ids])[0].numpy()
        assert np.allclose(found.vectors[: len(documents[0].pooled(0))], short[documents[0].pooled(0)], atol=1e-4)
        assert np.allclose(found.sinks[0], short[0], atol=1e-4)


def test_one_command_prints_a_line_a_precision_and_a_table(tiny, capsys):
    """bfloat16 changes little and fp8 more; an SAE in float32 changes latents alone; the lines are JSON."""
    found = fidelity.main([*tiny, "--of", "bfloat16", "fp8", "bfloat16+sae32"])
    out = capsys.readouterr().out.splitlines()
    lines = [json.loads(line) for line in out[:3]]
    assert [line["precision"] for line in lines] == ["bfloat16", "fp8", "bfloat16+sae32"]
    assert all(line["n_documents"] == 24 and line["against"] == "float32" for line in lines)
    errors = [found[name]["residual"]["error_median"] for name in ("bfloat16", "fp8")]
    assert 0 < errors[0] < 0.02 < errors[1] < 0.5
    assert found["bfloat16+sae32"]["residual"] == found["bfloat16"]["residual"]
    assert found["bfloat16+sae32"]["tokens"] != found["bfloat16"]["tokens"]
    assert any(line.startswith("residual: cosine median") for line in out[3:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--by", "colour"], "no column colour in .*; it has side, response"),
        (["--sides", "a", "c"], "has side c"),
        (["--of", "int8"], "int8 is no precision: float32, bfloat16, fp8"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tiny, change, message):
    """A column or a side that is not there, a precision that there is not."""
    with pytest.raises(SystemExit, match=message):
        fidelity.main([*tiny, *change])
