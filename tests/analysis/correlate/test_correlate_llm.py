"""Promise: an LLM's part of correlate says what the texts say, within its bounds, and without one nothing changes."""

import json
import re
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from corpus_words import WORDS
from llm_clients import MODEL, client_of
from pair_parts import Dense, Grid, labels, options
from stand_in import GeminiStandIn, at_rate, documents, keyword_judge
from test_pair_evidence import chosen

from saeray.analysis.correlate.asking import AskConfig
from saeray.analysis.correlate.indexed import parts_of
from saeray.analysis.correlate.llm import FILTER, asked, texts_of, with_llm
from saeray.analysis.correlate.options import CorrelateConfig
from saeray.analysis.correlate.run import correlate
from saeray.analysis.correlate.verified import SPLIT, Sample, bounds, counts, sample_of, shares, values, verified
from saeray.errors import SaerayError, UsageError
from saeray.labels.meanings import Meanings
from saeray.llm import Client, Usage
from saeray.llm.base import RawReply
from saeray.stats.association import npmi
from saeray.store import Store
from saeray.store.index import build_missing

N = 60
MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": 8}
SELECTION = {"name": "d", "dataset": "d", "documents": N}
NAMES = {k: f"the word w{k}" for k in range(8)}


def planted(n: int = N, size: int = 10, seed: int = 0) -> np.ndarray:
    """Eight latents at random, of which 0 and 5 stand in the last `size` documents too."""
    there = np.random.default_rng(seed).random((n, 8)) < 0.2
    there[:, [0, 5]] &= np.random.default_rng(seed + 1).random((n, 2)) < 0.3
    there[-size:, [0, 5]] = True
    return there


def written(there: np.ndarray):
    """Texts that hold the word of each latent that is present."""
    every = [" ".join([f"#{n}", *(f"w{k}" for k in np.flatnonzero(row))]) for n, row in enumerate(there)]
    return lambda side, numbers: [every[n] for n in numbers]


def rule(form: dict[str, str] | None = None, pairs: list[dict[str, str]] | None = None):
    """Judges by the last word, sorts labels by `form` (all others are of meaning; "?": both ways), names
    `pairs`."""

    def answer(system: str, prompt: str, schema: Any) -> Any:
        if "labels" in schema["properties"]:
            numbers = [int(n) for n in re.findall(r"^Label (\d+):", prompt, re.M)]
            told = {n: (form or {}).get(text, "meaning") for n, text in zip(numbers, documents(prompt), strict=True)}
            both = [{"number": n, "kind": kind} for n in numbers for kind in ("form", "meaning") if told[n] == "?"]
            return {"labels": (both + [{"number": n, "kind": k} for n, k in told.items() if k != "?"])[: len(numbers)]}
        if "pairs" in schema["properties"]:
            return {"pairs": pairs or []}
        return keyword_judge(system, prompt, schema)

    return answer


class Ruled:
    """The same rule without a server in between."""

    name, free, concurrency = "ruled", True, 1

    def __init__(self, answer):
        self._answer = answer

    def complete(self, request):
        return RawReply(json.dumps(self._answer(request.system, request.prompt, request.schema)), Usage(1, 1))

    def close(self):
        pass


def ran(there, server, names=NAMES, ask: dict[str, Any] | None = None, **changes):
    """What correlate finds with an LLM behind it."""
    used = options(llm=AskConfig(model=f"gemini:{MODEL}", **(ask or {"documents": 10_000, "findings": 1})), **changes)
    parts, read = [Grid(there)], labels(names)
    result = correlate(Dense(parts, used), parts, Meanings(names), used, SELECTION, MADE)
    with Client(server) if isinstance(server, Ruled) else client_of(server) as client:
        return asked(result, used, parts, read, written(there), (client, MODEL))


def test_a_finding_judged_on_every_document_has_the_figures_of_the_texts():
    """The judge says what the latents say, so its figures are theirs, with no room for doubt."""
    there = planted()
    with GeminiStandIn(rule()) as server:
        result = ran(there, server)
        assert result.summary()["llm"]["cost"]["calls"] == server.calls["generateContent"] == 2 * N + 1
    row, found = result.row(0), result.asked.verified[0]
    assert (row["i"], row["j"]) == (0, 5)
    assert (found.first, found.second) == ("the word w0", "the word w5")
    for share, value in (
        (found.npmi, row["npmi"]),
        (found.first_given_second, row["p_i_given_j"]),
        (found.second_given_first, row["p_j_given_i"]),
        (found.p_both, row["documents"] / N),
        (found.p_first, row["documents_i"] / N),
    ):
        assert [share.value, share.lower, share.upper] == pytest.approx([value] * 3, abs=1e-5)
    assert (found.judged, found.missing, found.hits, found.of) == (N, 0, row["documents"], row["documents"])
    assert result.table()[0]["verified_npmi"] == found.npmi.value
    json.dumps(result.summary(), allow_nan=False)


def test_a_concept_that_the_latent_misses_is_weighed_up_from_the_sample():
    """The first label also holds in documents without its latent: shares are of the texts, not of the latents."""
    there = planted(600, 40)
    words = there.copy()
    words[:, 0] |= np.random.default_rng(9).random(600) < 0.1
    parts = [Grid(there)]
    inside = 0
    for documents_ in (60, 120, 240):
        sample = sample_of(parts, 0, 5, ("a", "b"), documents_)
        assert [len(one) for one in sample.strata] == [
            min(size, round(share * documents_)) for size, share in zip(sample.sizes, SPLIT, strict=True)
        ]
        assert sum(sample.sizes) == 600
        found = verified(sample, *(words[sample.documents, k].astype(np.int64) for k in (0, 5)))
        both, one, other = int((words[:, 0] & words[:, 5]).sum()), int(words[:, 0].sum()), int(words[:, 5].sum())
        inside += found.npmi.lower <= npmi(both, one, other, 600) <= found.npmi.upper
        inside += found.first_given_second.lower <= both / other <= found.first_given_second.upper
        assert found.npmi.lower <= found.npmi.value <= found.npmi.upper
    assert inside >= 5


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    """100 samples of documents whose strata and answers are known; 88 of 100 would happen once in two hundred."""
    monkeypatch.setattr("saeray.analysis.correlate.verified.DRAWS", 400)
    rng = np.random.default_rng(0)
    sizes = (100, 500, 500, 8_900)
    outside = [[0.05, 0.8, 0.01, 0.14], [0.05, 0.01, 0.7, 0.24], [0.005, 0.05, 0.05, 0.895]]
    truth = np.array([[0.8, 0.1, 0.05, 0.05], *outside])
    true = values((np.array(sizes) / 10_000) @ truth)
    drawn = tuple(np.arange(n) for n in (20, 15, 15, 50))
    inside = np.zeros(3)
    for _ in range(100):
        cells = np.concatenate([rng.choice(4, n, p=p) for n, p in zip((20, 15, 15, 50), truth, strict=True)])
        found = verified(Sample("a", "b", drawn, sizes, True), (cells < 2).astype(int), (cells % 2 == 0).astype(int))
        three = (found.npmi, found.first_given_second, found.second_given_first)
        inside += [one.lower <= value <= one.upper for one, value in zip(three, true, strict=False)]
    assert (inside >= 88).all(), inside


def test_shares_and_measures_against_counting():
    """A document a document, against sums; the edges of NPMI as for counts."""
    stratum, first, second = np.array([0, 0, 1, 1, 1]), np.array([1, 0, 1, 1, 0]), np.array([1, 0, 0, 1, 1])
    cells = counts(stratum, first, second, 2)
    assert cells.tolist() == [[1, 0, 0, 1], [1, 1, 1, 0]]
    assert shares(cells, np.array([2, 8])).tolist() == pytest.approx([0.1 + 0.8 / 3, 0.8 / 3, 0.8 / 3, 0.1])
    assert np.isnan(shares(cells * [[0], [1]], np.array([2, 8]))).all()
    assert values(np.array([0.1, 0.2, 0.3, 0.4]))[0] == pytest.approx(float(npmi(10, 30, 40, 100)))
    assert values(np.array([0.0, 0.5, 0.5, 0.0]))[0] == -1
    assert np.isnan(values(np.array([1.0, 0, 0, 0]))[0])
    assert np.isnan(values(np.array([0.0, 0, 0.5, 0.5]))[1:3]).tolist() == [False, True]


@pytest.mark.parametrize("only", [lambda prompt: True, lambda prompt: "w5" in documents(prompt)[1]])
def test_missing_answers_are_counted_and_bounded(only):
    """A fifth of the calls never comes back, or of those about one kind of text: the truth lies between the bounds."""
    lost = at_rate(
        0.2, ["blocked", "wrong", "empty"], lambda prompt: prompt.startswith("The property") and only(prompt)
    )
    there = planted()
    with GeminiStandIn(rule(), lambda number, attempt, prompt: lost(number, 0, prompt)) as server:
        result = ran(there, server)
    found = result.asked.verified[0]
    assert found.missing > 0
    assert found.judged + found.missing == N
    assert found.worst <= found.npmi.value <= found.best
    assert found.worst <= result.row(0)["npmi"] <= found.best
    assert sum(result.asked.cost["missing"].values()) >= found.missing


def test_bounds_hold_for_every_completion():
    """Every way in which three missing documents of two strata could have been answered, tried out."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        cells, open_ = rng.integers(0, 4, (2, 4)), np.array([2, 1])
        sizes = np.array([10, 90])
        low, high = bounds(cells, cells.sum(axis=1) + open_, sizes)
        for first, second, third in product(range(4), repeat=3):
            full = cells.copy()
            for stratum, cell in ((0, first), (0, second), (1, third)):
                full[stratum, cell] += 1
            found = values(shares(full, sizes))[0]
            assert np.isnan(found) or low - 1e-6 <= found <= (1.0 if high is None else high) + 1e-6


def test_the_llm_sorts_labels_and_the_rule_what_it_leaves():
    """A label that the rule takes for syntax is saved, one that it lets pass is dropped, one without an answer goes by
    the rule; labels asked about are those of pairs that pass the other filters."""
    there = planted()

    def left(name: str, form: dict[str, str]):
        return ran(there, Ruled(rule(form)), {**NAMES, 5: name}, ask={"findings": 0})

    assert left("full stops", {}).rows.num_rows == 1
    dropped = left("the word w5", {"the word w5": "form"})
    assert dropped.rows.num_rows == 0
    assert dropped.toll[-1] == (FILTER, 0)
    assert dropped.findings == ()
    undecided = left("full stops", {"full stops": "?"})
    assert (undecided.rows.num_rows, undecided.asked.labels, undecided.asked.sorted) == (0, 2, 0)
    assert left("the word w5", {"the word w5": "?"}).rows.column("finding").to_pylist() == [0]


def test_what_the_llm_names_itself_is_verified_beside():
    """Pairs of the baseline come once each, are judged on a plain sample, and cost what the ledger says."""
    pairs = [
        {"first": "the word w0", "second": "the word w5", "reason": "they meet"},
        {"first": "The word w5.", "second": "the word w0", "reason": "again"},
        {"first": "the word w1", "second": "the word w9", "reason": ""},
    ]
    there = planted()
    with GeminiStandIn(rule(pairs=pairs)) as server:
        ask = {"documents": N, "findings": 2, "baseline": True, "batches": 2, "batch": 30}
        result = ran(there, server, ask=ask)
        stages = {one["stage"]: one["calls"] + one["cached"] for one in result.asked.cost["stages"]}
    one, other = result.asked.baseline
    assert (one.first, one.second, one.reason, one.of) == ("the word w0", "the word w5", "they meet", None)
    assert one.npmi.value == pytest.approx(result.row(0)["npmi"], abs=1e-5)
    assert other.p_second.value == 0
    assert other.npmi.value is None, "what is in no document goes with nothing"
    assert result.asked.named == 2
    assert stages["baseline"] == 2
    assert stages["verify baseline"] == 2 * 2 * N


def test_without_a_model_nothing_is_asked_or_said():
    """The same result, summary and parameters as ever."""
    used = options()
    parts = [Grid(planted())]
    result = correlate(Dense(parts, used), parts, Meanings(NAMES), used, SELECTION, MADE)
    assert with_llm(used, lambda: result) is result
    assert "llm" not in result.summary()
    assert "llm" not in result.parameters
    assert "verified_npmi" not in result.table()[0]


def test_texts_are_those_of_the_documents(store_of):
    """By number through all shards, of the channel that was asked for."""
    rows = [
        {
            "doc_id": f"d{k}",
            "model": "A",
            "messages": [
                {"role": "user", "content": f"user {k}" + " on" * 40},
                {"role": "assistant", "content": f"assistant {k}"},
            ],
        }
        for k in range(12)
    ]
    of = chosen(store_of(rows, keep=("model",)), channels=("user", "assistant"))
    parts = parts_of(of)
    numbers = np.array([11, 0, 3])
    assert [text.split(" on")[0] for text in texts_of(of, parts, 0, numbers)] == ["user 11", "user 0", "user 3"]
    assert texts_of(of, parts, 1, numbers) == ["assistant 11", "assistant 0", "assistant 3"]


def test_a_missing_key_or_text_is_told_before_anything_is_counted(store_of, monkeypatch):
    """Counting takes minutes."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    rows = [{"doc_id": f"d{k}", "text": f"{WORDS[0]} {k}" + " on" * 60, "model": "A"} for k in range(9)]
    ask = AskConfig(model=f"gemini:{MODEL}")
    store = store_of(rows, keep=("model",))
    config = CorrelateConfig(selection="d", store=store.uri, llm=ask)
    with pytest.raises(SaerayError, match="GEMINI_API_KEY"):
        with_llm(config, lambda: pytest.fail("counted"))
    bare = CorrelateConfig(selection="bare", store=without_texts(store).uri, llm=ask)
    with pytest.raises(UsageError, match="without its texts"):
        with_llm(bare, lambda: pytest.fail("counted"))


def without_texts(store: Store) -> Store:
    """`store` with an empty dataset `bare` that keeps no texts."""
    dataset = store.dataset("bare", create=True)
    plan = store.dataset("d").plans()[0]
    dataset.add_plan(plan.inputs, replace(plan.settings, store_text=False))
    return store


def test_the_whole_way_from_a_store(store_of, monkeypatch):
    """From the config alone: the documents are read from the index, and the cache lies in the store."""
    there = planted(size=10)
    rows = []
    for n, row in enumerate(there):
        words = " ".join(WORDS[k] for k in np.flatnonzero(row))
        rows.append({"doc_id": f"d{n:03}", "text": f"on n{n} {words}" + " on" * 20, "model": "A"})
    store = store_of(rows, keep=("model",))
    build_missing(store, "d")
    with GeminiStandIn(rule()) as server:
        monkeypatch.setenv("GEMINI_API_KEY", server.key)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        ask = AskConfig(model=f"gemini:{MODEL}", findings=1, documents=20)
        used = options(llm=ask).model_copy(update={"store": store.uri, "keep_syntactic": True})
        names = {k: f"the word {WORDS[k]}" for k in range(8)}
        parts = [Grid(there)]

        def run():
            return correlate(Dense(parts, used), parts, Meanings(names), used, SELECTION, {**MADE, "d_sae": 32})

        results = [with_llm(used, run) for _ in range(2)]
        assert server.calls["generateContent"] == 2 * results[0].asked.verified[0].judged
    found = results[0].asked.verified[0]
    assert (found.hits, found.of) == (4, 4)
    assert found.npmi.lower <= results[0].row(0)["npmi"] <= found.npmi.upper
    assert results[1].asked.verified == results[0].asked.verified
    assert results[1].asked.cost["calls"] == 0
