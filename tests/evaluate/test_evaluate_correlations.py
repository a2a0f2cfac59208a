"""Promise: injected pairs are made as said, counted exactly, and right only where a finding joins both properties."""

import json
import re
import zlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pair_parts import Dense, Grid, options
from typer.testing import CliRunner

from saeray.analysis.correlate.labels import ReadLabels
from saeray.analysis.correlate.run import passing
from saeray.errors import UsageError
from saeray.evaluate.cli import evaluate_app
from saeray.evaluate.correlations import TOP, Way, _right, _Trials, evaluate_correlations, misses, recall
from saeray.evaluate.correlations_run import run_correlations
from saeray.evaluate.counted import Background
from saeray.evaluate.injected import BOTH, FIRST, SECOND, Injected, Only
from saeray.evaluate.injected_words import CONTENTS, EMOJI, GAPS
from saeray.evaluate.injections import FORMS, KINDS
from saeray.evaluate.worded import WordedPart, vocabulary_of, word_meanings
from saeray.labels.meanings import Meanings
from saeray.stats.cooccurrence import calibrate
from saeray.store import PlanSettings, Store, commit_shard, list_inputs, read_shard

D_SAE = 1024
CROATIAN = KINDS[0]


def background_texts(n: int = 300) -> list[str]:
    """Documents of four topics, each of 30 words of its own, and 60 words that any document may have."""
    rng = np.random.default_rng(0)
    texts = []
    for k in range(n):
        own = [f"topic{k % 4}word{w}" for w in rng.integers(0, 30, 8)]
        any_ = [f"common{w}" for w in rng.integers(0, 60, 12)]
        texts.append(" ".join(rng.permutation([*own, *any_])))
    return texts


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_texts_are_different_the_same_again_and_without_a_phrase_in_all(kind):
    texts = kind.texts(100, 0)
    assert len(set(texts)) == 100
    assert texts == kind.texts(100, 0)
    assert not set(texts) & set(kind.texts(100, 1)), "another seed draws others"
    sentences = Counter(part for text in texts for part in set(re.split(r"[.!?|\n]+", text)) if len(part) > 20)
    assert sentences.most_common(1)[0][1] < 60
    words = [len(text.split()) for text in texts]
    assert 15 < np.mean(words) < 80


def test_controls_have_one_property_each():
    first, second = CROATIAN.controls(20, 0)
    assert not any(set(text) & set(EMOJI) for text in first)
    assert all(set(text) & set(EMOJI) for text in second)
    assert not any("mora" in text or "Zagreb" in text for text in second)
    assert all(set(text) & set(EMOJI) for text in CROATIAN.texts(20, 0))


def test_every_gap_can_be_filled_and_every_kind_is_of_known_parts():
    gaps = {gap for pool in CONTENTS.values() for one in pool for gap in re.findall(r"\{(\w+)\}", one)}
    assert gaps <= set(GAPS)
    assert {kind.content for kind in KINDS} <= set(CONTENTS)
    assert {kind.form for kind in KINDS} == set(FORMS)
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("seed", range(4))
def test_counts_with_added_documents_are_those_of_counting_anew(seed):
    """Latents that come into the band by what is added are among them."""
    rng = np.random.default_rng(seed)
    rates = np.concatenate([rng.uniform(0.002, 0.5, 60), np.full(4, 0.01), [0.0, 0.55]])
    parts = [Grid(rng.random((n, 66)) < rates, kept=rng.random(n) < 0.9) for n in (200, 150)]
    extra = rng.random((40, 66)) < rates
    extra[:12, 60:65] = True
    added = Only(Grid(extra), np.arange(12))
    used = options(band=(0.02, 0.5), min_support=4, floor=0.1)
    background = Background(parts, 66, used, calibrate())
    for counted, whole in ((background.with_added(added), [*parts, added]), (background.alone(), parts)):
        whole = [part if isinstance(part, Grid) else Grid(extra, kept=part.kept) for part in whole]
        dense = Dense(whole, used)
        assert counted.documents == dense.documents
        assert counted.bands[0].tolist() == dense.bands[0].tolist()
        assert counted.pairs() == dense.pairs()
        for name in ("i", "j", "count", "npmi", "p_i_given_j", "p_j_given_i"):
            assert counted.edges().column(name).to_pylist() == pytest.approx(dense.edges().column(name).to_pylist())
        assert dense.found.num_rows > 20


def test_words_as_latents():
    vocabulary = vocabulary_of(["The cat, the CAT sat 😀.", "a cat 😀", "dog"], 2)
    assert list(vocabulary) == ["cat", "😀"]
    part = WordedPart(["The cat, the CAT sat 😀.", "😀 cat", "dog"], vocabulary)
    held = part.held(0, np.array([0, 1]))
    assert held.offsets.tolist() == [0, 2, 4]
    assert held.documents.tolist() == [0, 1, 0, 1]
    assert held.peak.tolist() == [1, 1, 6, 0]
    assert held.max.tolist() == [2, 1, 1, 1]
    assert part.lengths.tolist() == [8, 2, 1]
    assert part.held(0, np.array([], np.int64)).offsets.tolist() == [0]
    meanings = word_meanings({"the": 0, ",": 1, "cat": 2, "😀": 3}, Meanings())
    assert meanings.labels == {2: "cat", 3: "😀"}


@pytest.fixture(scope="module")
def trial():
    """500 documents of 40 latents, into which texts are put that have latents 0 to 3 (Croatian) and 4 to 7 (emoji)."""
    rng = np.random.default_rng(0)
    used = options(band=(0.001, 0.5), floor=0.2, alike=0.3, top=100)
    there = rng.random((500, 40)) < np.where(np.arange(40) < 8, 0.03, 0.3)
    own = rng.random((120, 40)) < 0.2
    own[:, :8] = False
    own[:90, :4] |= rng.random((90, 4)) < 0.95
    own[:60, 4:8] |= rng.random((60, 4)) < 0.95
    own[90:, 4:8] |= rng.random((30, 4)) < 0.95
    texts = {k: f"croatian {k}" if k < 4 else f"emoji {k}" if k < 8 else f"thing {k}" for k in range(40)}
    added = Injected(
        Grid(own),
        np.array([CROATIAN.name] * 120),
        np.zeros(120, np.int64),
        np.array([BOTH] * 60 + [FIRST] * 30 + [SECOND] * 30),
        [""] * 120,
    )
    background = Background([Grid(there)], 40, used, calibrate())
    return Way("latents", background, ReadLabels(Meanings(texts), 40, 0.25), added), used


def test_an_injected_pair_is_recalled_and_a_few_texts_are_not(trial):
    way, used = trial
    result = evaluate_correlations([way], [CROATIAN], [0], [4, 40], 1, used, {"name": "b", "documents": 500}, MADE)
    small, large = result.rows.to_pylist()
    assert (small["size"], small["rank"]) == (4, None)
    assert small["right_left"][0] == 0 or small["lost_to"] not in (None, "in the band, with support and NPMI")
    assert (large["rank"], large["rank_named"], large["lost_to"]) == (1, 1, None)
    assert {large["label_i"][:8], large["label_j"][:5]} == {"croatian", "emoji"}
    assert large["right_left"][0] >= large["right_left"][-1] > 0
    by_size = {row["size"]: row for row in result.table()}
    assert (by_size[4]["right_found"], by_size[40]["right_in_top"]) == (0, 1)
    json.dumps(result.summary(), allow_nan=False)
    html = result.page()
    assert CROATIAN.name in html
    assert result.page() == html


def test_right_is_a_latent_of_each_property(trial):
    """Two latents of one language hold in the injected documents too, and are not it."""
    way, used = trial
    first, second = _Trials(way, used).properties(CROATIAN, 0)
    assert np.flatnonzero(first).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(second).tolist() == [4, 5, 6, 7]
    i, j = np.array([0, 0, 4, 4, 0]), np.array([1, 4, 1, 5, 20])
    assert _right(first, second, i, j).tolist() == [False, True, True, False, False]


def test_what_a_filter_left_is_watched(trial):
    way, used = trial
    seen = {}
    added = way.added.only(np.arange(40))
    counts = way.background.with_added(added)
    parts = [*way.background.parts, added]
    found = passing(counts, parts, way.labels, used, watch=lambda name, i, j: seen.__setitem__(name, len(i)))
    assert seen == dict(found.toll)
    assert found.table.num_rows > 0


ROW = {"way": "latents", "kind": "k", "size": 10, "rank": 3, "rank_any": 1, "rank_named": None, "lost_to": None}
ROW |= {"right_left": [9, 2]}


def test_recall_counts_the_top_group_and_the_rest():
    rows = [
        ROW,
        ROW | {"rank": TOP + 1, "lost_to": "outranked by other findings"},
        ROW | {"rank": None, "rank_any": None, "lost_to": "labels far apart", "right_left": [4, 0]},
        ROW | {"size": 50},
    ]
    ten, fifty = recall(rows, ("way", "size"))
    assert (ten["injections"], ten["right_in_top"], ten["right_found"]) == (3, 0.3333, 0.6667)
    assert (ten["right_passes"], fifty["right_passes"]) == (0.6667, 1.0)
    assert (ten["any_in_top"], ten["named_found"], fifty["right_in_top"]) == (0.6667, 0.0, 1.0)
    lost = {row["lost_to"]: row["injections"] for row in misses(rows)}
    assert lost == {"outranked by other findings": 1, "labels far apart": 1}


MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": D_SAE}


def encode_hashed(config, on_progress=None):
    """What the pipeline does, without a model: each word is the latent of its hash."""
    store = Store.open(config.store, create=True)
    store.claim_encoder({"sae": {"d_sae": D_SAE, "digest": "hashed"}, "reader": "hashed"})
    dataset = store.dataset(config.dataset, create=True)
    dataset.add_plan(
        list_inputs(config.inputs),
        PlanSettings(text_column="text", keep=tuple(config.keep), shard_tokens=3_000),
    )
    for shard in dataset.missing():
        read = read_shard(dataset.plan_of(shard), shard)
        rows = [row | _hashed(row["text"]) for row in read.documents.drop_columns("row").to_pylist()]
        commit_shard(dataset, shard, pa.Table.from_pylist(rows, dataset.schema()), read.rejects, seconds=0.1)


def _hashed(text):
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    first = {}
    for place, word in enumerate(words):
        first.setdefault(zlib.crc32(word.encode()) % D_SAE, place)
    latents = sorted(first)
    return {
        "channel": "text", "n_tokens": len(words), "n_windows": 1, "truncated": False,
        "token_starts": list(range(len(words))), "latents": latents, "max": [1.0] * len(latents),
        "count": [1] * len(latents), "peak": [first[latent] for latent in latents],
    }  # fmt: skip


@pytest.fixture
def store(tmp_path) -> str:
    class Config:
        store, dataset, keep = str(tmp_path / "store"), "b", ()
        inputs = [str(tmp_path / "b.parquet")]  # noqa: RUF012

    pq.write_table(pa.table({"text": background_texts()}), Config.inputs[0])
    encode_hashed(Config)
    return Config.store


def test_from_a_store_to_a_result_and_nothing_is_encoded_twice(store, tmp_path):
    calls = []

    def encode(config, on_progress):
        calls.append(config.inputs)
        encode_hashed(config)

    def run():
        out = str(tmp_path / "out")
        return run_correlations(store, "b", out, [CROATIAN.name], [50], [0], 1, True, encode=encode)

    first, again = run(), run()
    assert len(calls) == 1
    assert first.rows.equals(again.rows)
    ways = {row["way"]: row for row in first.rows.to_pylist()}
    assert set(ways) == {"latents", "words"}
    assert ways["latents"]["pairs"] > 0
    assert first.background == {"name": "b", "documents": 300}


def test_what_is_wrong_is_one_line(store, tmp_path):
    with pytest.raises(UsageError, match="no kind of injection is called 'x'"):
        run_correlations(store, "b", str(tmp_path), ["x"], [10], [0], 1, False)
    for asked in (["--sizes", "ten"], ["--sizes", "0"], ["--seeds", "-1"], ["--seeds", "2,2"]):
        run = CliRunner().invoke(evaluate_app, ["correlations", "--store", store, "--background", "b", *asked])
        assert run.exit_code == 2
        assert "not a list of numbers" in run.stderr
    run = CliRunner().invoke(evaluate_app, ["correlations", "--store", store, "--background", "none"])
    assert run.exit_code == 2
    assert len(run.stderr.strip().splitlines()) == 1
