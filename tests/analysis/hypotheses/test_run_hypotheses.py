"""Promises of a whole run: what is planted is stated and its verified frequency is the truth, every token is counted,
nothing that was paid for is lost, and without an LLM there are statements too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from clerk import clerk, rows, share
from llm_clients import MODEL, client_of
from stand_in import GeminiStandIn, at_rate
from verify_parts import InProcess

from saeray.analysis.diff.design import Design
from saeray.analysis.diff.halving import halve
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.result import DiffResult
from saeray.analysis.diff.run import compare
from saeray.analysis.hypotheses import run as running
from saeray.analysis.hypotheses.options import HypothesesConfig
from saeray.analysis.hypotheses.plain import BEYOND, JUDGE, UNNAMED, statement_of, verify_plain
from saeray.analysis.hypotheses.run import Models, Work, without_llm
from saeray.analysis.hypotheses.statements import Hypotheses
from saeray.analysis.hypotheses.steps import steps_of
from saeray.analysis.sides import Side
from saeray.errors import UsageError
from saeray.labels.meanings import Meanings
from saeray.llm import Cache, Cap, Client, LLMConfig
from saeray.llm.base import Vectors
from saeray.stats.paired import tango
from saeray.store import Store, location

TABLE, SORRY, GREAT, RIVER = range(4)
MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": 32}
LABELS = {TABLE: "tables", SORRY: "refuses or says sorry"}
TESTS = {TABLE: {"kind": "words", "words": ["table"]}, SORRY: {"kind": "words", "words": ["sorry"]}}
KEYS = 160
ROWS = rows(KEYS)
#: A store whose two commits have twice the tokens of both sides, in 100 seconds.
STORE = cast(
    Store,
    SimpleNamespace(
        dataset=lambda name: SimpleNamespace(
            commits=lambda: [SimpleNamespace(tokens=TOKENS, seconds=60.0), SimpleNamespace(tokens=TOKENS, seconds=40.0)]
        )
    ),
)
TOKENS = sum(len(row["text"].split()) for row in ROWS)
ASKED = HypothesesConfig(hypotheses=4, verify=True, documents=20, early=False, repeats=2, score=4)
#: How the instructions of each stage begin.
SYSTEMS = {
    "You name what a detector": ["label"],
    "You turn measured differences": ["propose"],
    "You compare two groups": ["read"],
    "Readers compared": ["summarise", "cluster"],
    "You decide whether": ["label score", "verify", "verify noise"],
}
_made: list[DiffResult] = []


class Labelled(Meanings):
    """Labels with tests, without a store."""

    def tests(self, latents: Any) -> dict[int, tuple[str, dict[str, Any]]]:
        return {latent: (LABELS[latent], TESTS[latent]) for latent in latents if latent in TESTS}


@pytest.fixture
def result(side_of: Callable[..., Side]) -> DiffResult:
    """A diff of A and B, paired by prompt, in halves."""
    if not _made:
        of = {model: [row for row in ROWS if row["model"] == model] for model in "AB"}
        sides = tuple(side_of(found, f"d:model={model}") for model, found in of.items())
        key = np.arange(KEYS)
        whole = Design(sides, "max", (key, key), KEYS)
        design, _ = halve(whole, pa.array([f"p{i}" for i in key]), True)
        made = compare(design, MADE, Options(), Labelled(LABELS))
        _made.append(made)
    return _made[0]


class Embedding(InProcess):
    """One that embeds too."""

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        return Vectors(np.array([[len(text), sum(map(ord, text))] for text in texts], np.float32), 1)


def worked(
    result: DiffResult, client: Client, config: HypothesesConfig = ASKED, judge: Client | None = None, **told: Any
) -> Hypotheses:
    watch = told.get("on_progress") or (lambda stage, progress: None)
    work = Work(result, STORE, config, Models(client, MODEL, judge or client, MODEL), watch)
    told.get("told", len)(work.estimate())
    return work.do()


def judged_texts(result: DiffResult, config: HypothesesConfig = ASKED) -> list[list[str]]:
    """The texts that a judge is to read, a side each."""
    design = result.design.verifiers()
    order = steps_of(design, config.documents, config.seed).rows
    texts = [[row for t in side.scan(["text"]) for row in t.column("text").to_pylist()] for side in design.sides]
    return [[own[row] for row in rows_] for own, rows_ in zip(texts, order, strict=True)]


def test_a_planted_difference_becomes_a_statement_whose_verified_frequency_is_the_truth(result: DiffResult) -> None:
    """Words are planted; labels, statements, verdicts and the ledger of each stage are counted by hand."""
    lines: list[str] = []
    seen: list[tuple[str, int, int]] = []
    with GeminiStandIn(clerk) as server, client_of(server) as client:
        found = worked(result, client, told=lines.append, on_progress=lambda s, p: seen.append((s, p.done, p.total)))
        assert client.ledger.totals().total == server.total == found.cost["tokens"]
        assert found.cost["calls"] == server.calls["generateContent"]
    [method] = found.methods
    planted = {one.statement: (one.side, one.latents) for one in method.hypotheses}
    assert planted["The text has the word table"] == (0, (TABLE,))
    assert planted["The text has the word sorry"] == (1, (SORRY,))
    assert method.verification is not None
    texts = judged_texts(result)
    for one in method.verification.verified:
        word = one.hypothesis.statement.split()[-1]
        shares = [share(own, word) for own in texts]
        sign = -1 if one.hypothesis.side else 1
        assert [yes / n for yes, n in zip(one.yes, one.judged, strict=True)] == shares
        assert one.difference == pytest.approx(sign * (shares[0] - shares[1]))
        [latent] = one.hypothesis.latents
        assert one.hypothesis.expected == result.row(latent)["difference"], "of the verifying half"
    stages = {row["stage"]: row["calls"] for row in method.cost["stages"]}
    n = len(method.hypotheses)
    assert stages["verify"] == n * 40
    assert stages["propose"] == 2, "one a direction"
    assert stages["label"] == len(found.relabelled)
    assert sum(stages.values()) == method.cost["calls"] == found.cost["calls"]
    assert method.cost["encoder"] == {"documents": 2 * KEYS, "tokens": TOKENS, "seconds": 50.0}
    [line] = lines
    assert MODEL in line
    assert "label " in line
    assert {"label", "propose", "verify"} <= {stage for stage, _, _ in seen}
    assert all(done <= total for _, done, total in seen)
    assert json.loads(json.dumps(found.summary()))["methods"][0]["proposed"] == n


def test_every_latent_is_in_a_statement_or_left_out_with_why(result: DiffResult) -> None:
    """Labels that do not hold are dropped by their score, those whose calls failed by that; the reasons add up."""

    def rule(system: str, prompt: str, schema: Any) -> Any:
        answer = clerk(system, prompt, schema)
        if "label" in schema["properties"]:
            if answer["label"].endswith("table"):
                return {**answer, "label": "the word zebra"}
            return None if answer["label"].endswith("sorry") else answer
        return answer

    bare = replace(result, names=replace(result.names, of={}))
    at = bare.rows.schema.names.index("label")
    bare = replace(bare, rows=bare.rows.set_column(at, "label", pa.nulls(bare.rows.num_rows, pa.string())))
    with Client(InProcess(rule)) as client:
        found = worked(bare, client, ASKED.model_copy(update={"verify": False}))
    [method] = found.methods
    assert method.verification is None
    assert method.judge == ""
    leaders = {group.latents[0] for group in (*result.more, *result.less)}
    stated = {latent for one in method.hypotheses for latent in one.latents}
    lost = {latent: why for why, latents in method.left_out.items() for latent in latents}
    assert stated | set(lost) == leaders
    assert not stated & set(lost)
    assert "scored below 0.75" in lost[TABLE]
    assert "could not be scored" in lost[SORRY]
    assert {one.latent for one in found.relabelled} == leaders


def test_methods_stand_side_by_side_with_all_that_each_took(result: DiffResult) -> None:
    """The readers' notes are in the cost of both baselines and once in the total; the encoder is the latents' alone."""
    config = ASKED.model_copy(
        update={
            "methods": ("llm-summary", "latents", "llm-cluster"),
            "documents": 12,
            "embedder": "gemini-embedding-001",
        }
    )
    with GeminiStandIn(clerk) as server, client_of(server) as client:
        found = worked(result, client, config)
        assert found.cost["tokens"] == server.total
        assert found.cost["calls"] == server.calls["generateContent"] + server.calls["batchEmbedContents"]
    assert found.stopped is None
    assert [method.method for method in found.methods] == ["latents", "llm-summary", "llm-cluster"]
    systems = Counter(str(body.get("systemInstruction", "")) for body in server.bodies)
    by_stage = Counter({row["stage"]: row["calls"] for row in found.cost["stages"]})
    for begins, stages in SYSTEMS.items():
        arrived = sum(n for system, n in systems.items() if begins in system)
        assert arrived == sum(by_stage[stage] for stage in stages) > 0, begins
    latents, summary, clusters = found.methods
    read = next(row for row in found.cost["stages"] if row["stage"] == "read")
    assert read["calls"] == 12
    for method in (summary, clusters):
        assert read in method.cost["stages"]
        assert method.cost["shared_stages"] == ["read"]
        assert method.cost["encoder"] is None
        assert method.verification is not None
        assert "The text has the word table" in {one.statement for one in method.hypotheses}
    assert latents.cost["encoder"]["tokens"] == TOKENS
    summed = sum(method.cost["tokens"] for method in found.methods)
    assert summed == found.cost["tokens"] + read["tokens_in"] + read["tokens_out"] + read["tokens_thinking"]
    assert clusters.cost["all_tokens"] > clusters.cost["tokens"], "what two methods say is judged once, in both costs"
    assert summary.cost["all_tokens"] == summary.cost["tokens"]
    assert {row["stage"] for row in clusters.cost["stages"]} >= {"read", "embed", "cluster", "verify"}


def test_each_method_costs_what_it_would_alone(result: DiffResult) -> None:
    """Side by side a method is no cheaper for coming after another that asked the same."""
    names = ("latents", "llm-summary", "llm-cluster")
    config = ASKED.model_copy(update={"documents": 4, "repeats": 1, "embedder": "gemini-embedding-001"})
    with Client(Embedding(clerk)) as client:
        together = worked(result, client, config.model_copy(update={"methods": names}))
    for method in together.methods:
        with Client(Embedding(clerk)) as client:
            alone = worked(result, client, config.model_copy(update={"methods": (method.method,)}))
        assert method.cost["all_tokens"] == alone.cost["tokens"] > 0


def test_in_trouble_every_token_is_counted_and_the_statements_are_the_same(result: DiffResult) -> None:
    """A fifth of the calls fail at first: what was paid for them is in the ledger too."""
    calm = ASKED.model_copy(update={"documents": 5, "repeats": 0})
    with Client(InProcess(clerk)) as client:
        wanted = worked(result, client, calm)
    with GeminiStandIn(clerk, at_rate(0.2, ["429", "500", "cut", "wrong"])) as server:
        server.retry_delay = "0s"
        with client_of(server, attempts=8) as client:
            found = worked(result, client, calm)
        assert server.troubles.total() > 10
        assert found.cost["tokens"] == server.total
    assert found.methods[0].hypotheses == wanted.methods[0].hypotheses
    assert found.cost["retries"]


def test_a_rerun_is_free_and_says_the_same(result: DiffResult, tmp_path: Path) -> None:
    """No call is made for what was paid for; what it cost in all stays."""
    config = ASKED.model_copy(update={"methods": ("latents", "llm-summary"), "documents": 12})
    with Client(InProcess(clerk), cache=Cache(location(str(tmp_path)))) as client:
        first = worked(result, client, config)
    backend = InProcess(clerk)
    with Client(backend, cache=Cache(location(str(tmp_path)))) as client:
        again = worked(result, client, config)
    assert not backend.asked
    assert again.cost["calls"] == 0
    assert again.cost["all_tokens"] == first.cost["all_tokens"] == first.cost["tokens"]
    for one, other in zip(first.methods, again.methods, strict=True):
        assert one.hypotheses == other.hypotheses
        assert one.verification == other.verification
        assert one.cost["all_tokens"] == other.cost["all_tokens"], "of each method too"


@pytest.mark.parametrize("share_of", [0.02, 0.5, 0.9])
def test_the_cap_holds_and_what_was_there_stays(result: DiffResult, tmp_path: Path, share_of: float) -> None:
    """Nothing is spent beyond it; the diff keeps its findings, and the next run goes on from what was paid for."""
    config = ASKED.model_copy(update={"documents": 12})
    backend = InProcess(clerk)
    with Client(backend) as client:
        whole = worked(result, client, config)
    cap = int(share_of * whole.cost["tokens"])
    with Client(InProcess(clerk), cap=Cap(tokens=cap)) as client:
        found = worked(result, client, config)
    assert 0 < found.cost["tokens"] <= cap or share_of < 0.1
    assert found.stopped is not None
    assert "cap" in found.stopped
    assert "\n" not in found.stopped
    [method] = found.methods
    assert method.verification is None
    if share_of == 0.9:
        assert method.hypotheses == whole.methods[0].hypotheses, "statements that were not judged are kept"
    kept = replace(result, hypotheses=found)
    assert kept.table() == result.table()
    json.dumps(found.summary(), allow_nan=False)


def test_a_dead_key_costs_no_finding(result: DiffResult) -> None:
    """One line, no key in it, and the diff as it was."""
    with GeminiStandIn(clerk) as server:
        client, dead = client_of(server), server.key
        server.key = "AIzaTheOnlyOneThatLives"
        with client:
            found = worked(result, client)
    assert found.stopped is not None
    assert dead not in found.stopped
    assert found.methods[0].hypotheses == ()
    assert found.cost["tokens"] == 0


def test_another_judge_is_counted_apart(result: DiffResult) -> None:
    """Two services, two ledgers, one cost."""
    first, second = InProcess(clerk), InProcess(clerk)
    with Client(first) as client, Client(second) as judge:
        found = worked(result, client, ASKED.model_copy(update={"documents": 5}), judge)
        assert found.cost["tokens"] == client.ledger.totals().total + judge.ledger.totals().total
    verified = [row for row in found.cost["stages"] if row["stage"].startswith("verify")]
    assert sum(row["calls"] for row in verified) == len(second.asked) > 0
    assert found.cost["calls"] == len(first.asked) + len(second.asked)
    assert found.methods[0].cost["all_tokens"] == found.cost["tokens"]


def test_without_an_llm_statements_are_verified_by_their_plain_tests(result: DiffResult) -> None:
    """At no cost, on every document of the verifying half, with the paired interval; it says what a key would add."""
    found = without_llm(result, STORE, HypothesesConfig(hypotheses=10))
    [method] = found.methods
    assert method.judge == JUDGE
    by_latent = {one.latents[0]: one for one in method.hypotheses}
    assert by_latent[TABLE].statement == "The text has tables."
    assert by_latent[SORRY].statement == "The text refuses or says sorry."
    assert by_latent[SORRY].side == 1
    assert method.verification is not None
    config = ASKED.model_copy(update={"documents": None})
    texts = judged_texts(result, config)
    for one in method.verification.verified:
        word = {TABLE: "table", SORRY: "sorry", GREAT: "great", RIVER: "river"}[one.hypothesis.latents[0]]
        has = [np.array([word in text.split() for text in own]) for own in texts]
        own, other = has[:: -1 if one.hypothesis.side else 1]
        assert one.yes == tuple(int(side.sum()) for side in has)
        assert one.judged == tuple(map(len, texts))
        assert one.difference == pytest.approx(own.mean() - other.mean())
        lower, upper = tango((own & ~other).sum(), (other & ~own).sum(), len(own))
        assert (one.lower, one.upper) == pytest.approx((float(lower), float(upper)))
        assert one.confirmed == (lower > 0)
    assert "--llm" in found.note
    assert found.cost["calls"] == 0
    leaders = {group.latents[0] for group in (*result.more, *result.less)}
    assert set(by_latent) | {x for lost in method.left_out.values() for x in lost} == leaders
    few = without_llm(result, STORE, HypothesesConfig(hypotheses=2)).methods[0]
    assert len(few.hypotheses) == 2
    assert {one.side for one in few.hypotheses} == {0, 1}
    assert set(few.left_out) <= {BEYOND, UNNAMED}


def test_plain_tests_of_no_statement_verify_nothing(result: DiffResult) -> None:
    """A diff without a name that holds is no error."""
    assert verify_plain([], [], result.design.verifiers()).rate == 0.0
    unnamed = replace(result, names=replace(result.names, of={}))
    found = without_llm(unnamed, STORE, HypothesesConfig(hypotheses=3))
    assert found.methods[0].hypotheses == ()
    assert set(found.methods[0].left_out) == {UNNAMED}


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("texts with hedging and uncertainty", "The text has hedging and uncertainty."),
        ("texts about trade, prices", "The text has words that go together: trade, prices."),
        ("closes by offering more help", "The text closes by offering more help."),
        ("the word ‘an’", "The text has the word ‘an’."),
        ("‘a’, ‘b’, ‘c’", "The text has ‘a’, ‘b’ or ‘c’."),
    ],
)
def test_a_name_becomes_a_sentence_about_one_text(name: str, statement: str) -> None:
    """Whatever form names have."""
    test = {"kind": "words" if "‘" in name else "terms" if "about" in name else "surface"}
    assert statement_of(name, test) == statement


def test_choices_that_do_not_go_together_are_told_of_before_anything_is_sent(result: DiffResult) -> None:
    """One line each, and nothing asked."""
    ask = running.run
    with pytest.raises(UsageError, match="--verify checks hypotheses"):
        ask(result, STORE, HypothesesConfig(verify=True))
    with pytest.raises(UsageError, match="llm-summary reads documents with an LLM"):
        ask(result, STORE, HypothesesConfig(hypotheses=3, methods=("llm-summary",)))
    with pytest.raises(UsageError, match="--llm"):
        ask(result, STORE, HypothesesConfig(hypotheses=3, judge=LLMConfig(model="gemini:x")))
    with pytest.raises(UsageError, match="once"):
        ask(result, STORE, HypothesesConfig(hypotheses=3, methods=("latents", "latents")))
    assert ask(result, STORE, HypothesesConfig()) is result
    assert ask(result, STORE, HypothesesConfig(hypotheses=2)).hypotheses is not None


def test_documents_without_texts_cost_no_finding(result: DiffResult) -> None:
    """The diff is there by then: it is kept, with the line that says why there are no statements."""
    bare = tuple(replace(side, stored=side.stored - {"text"}) for side in result.design.sides)
    textless = replace(result, design=replace(result.design, sides=bare))
    for config in (HypothesesConfig(hypotheses=2), ASKED):
        with Client(InProcess(clerk)) as client:
            models = None if config is not ASKED else Models(client, MODEL, client, MODEL)
            found = running.run_each({"": textless}, STORE, config, models)[""].hypotheses
        assert found is not None
        assert found.stopped is not None
        assert "without its texts" in found.stopped
        assert found.cost["calls"] == 0
        json.dumps(found.summary())


def test_the_estimate_is_no_less_than_what_is_asked(result: DiffResult) -> None:
    """A user decides by it: calls may be fewer, never more."""
    lines: list[str] = []
    config = ASKED.model_copy(
        update={"methods": ("latents", "llm-summary", "llm-cluster"), "documents": 10, "embedder": "e"}
    )
    backend = Embedding(clerk)
    with Client(backend, cap=Cap(tokens=10**9)) as client:
        worked(result, client, config, told=lines.append)
        made = {row["stage"]: row["calls"] for row in client.ledger.rows()}
    calls = int(lines[0].split("at most ")[1].split(" calls")[0].replace(",", ""))
    assert len(backend.asked) <= calls
    assert f"read {made['read']}," in lines[0]
    assert f"propose {made['propose']}," in lines[0]
    assert "1,000,000,000 tokens" in lines[0]


def test_several_diffs_share_one_client_and_say_their_price_first(
    result: DiffResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cap for all values of a column; every estimate stands before the first call."""
    backend = InProcess(clerk)
    said: list[tuple[str, int]] = []
    monkeypatch.setattr(running, "connect", lambda config, root: (Client(backend), MODEL))
    config = ASKED.model_copy(update={"llm": LLMConfig(model="gemini:x"), "verify": False})
    store = cast(Store, SimpleNamespace(**vars(STORE), root=None))
    with running.models_of(config, store) as models:
        found = running.run_each(
            {"x": result, "y": result},
            store,
            config,
            models,
            None,
            lambda line: said.append((line[:2], len(backend.asked))),
        )
    assert said == [("x:", 0), ("y:", 0)]
    x, y = (found[value].hypotheses for value in "xy")
    assert x is not None
    assert y is not None
    assert x.methods[0].hypotheses == y.methods[0].hypotheses
    assert y.cost["calls"] == 0, "what one asked the other need not"
    assert x.cost["calls"] == len(backend.asked)
    assert [row["statement"] for row in x.table()] == [one.statement for one in x.methods[0].hypotheses]


def test_an_embedder_that_a_cap_could_not_count_is_refused_at_once(result: DiffResult) -> None:
    """Not after the notes were paid for."""
    config = ASKED.model_copy(update={"methods": ("llm-cluster",), "embedder": "gemini-embedding-001"})
    with GeminiStandIn(clerk) as server, client_of(server, cap=Cap(money=1.0)) as client:
        with pytest.raises(UsageError, match="price of gemini-embedding-001 is unknown"):
            worked(result, client, config)
        assert not server.calls
