"""From a diff to statements and to what is left of them: relabel, propose, verify, for each method, with the price.

    result = run(diff(store, target, others), store, HypothesesConfig(hypotheses=10, verify=True, llm=...), told=print)

Whatever ends a run early (the cap, a dead key, a service that is away) costs nothing that was there: the diff keeps its
findings, the methods that were finished and the statements that were not yet judged, and says in one line what stopped
it. The same command goes on from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from saeray.analysis.hypotheses.baselines import Notes, cluster, embedding, readings, summarise, take_notes
from saeray.analysis.hypotheses.cost import Meter, Row, Tally, encoder_cost, method_cost, total_cost
from saeray.analysis.hypotheses.estimate import stages_of
from saeray.analysis.hypotheses.estimate import told as told_estimate
from saeray.analysis.hypotheses.merge import Asking
from saeray.analysis.hypotheses.options import HypothesesConfig
from saeray.analysis.hypotheses.plain import JUDGE, NOTE, propose_plain, verify_plain
from saeray.analysis.hypotheses.propose import Found, Proposal, found_in, propose
from saeray.analysis.hypotheses.refusals import refuser
from saeray.analysis.hypotheses.statements import CLUSTER, LATENTS, SUMMARY, Hypotheses, Method
from saeray.analysis.hypotheses.steps import steps_of
from saeray.analysis.hypotheses.verify import Verification, verify
from saeray.errors import SaerayError, UsageError
from saeray.labels.llm.relabel import Relabelled, each_relabelled
from saeray.llm import Client, Progress, connect
from saeray.store import Store

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult

Watch = Callable[[str, Progress], None]
Told = Callable[[str], None]


@dataclass(frozen=True)
class Models:
    """Who is asked: the LLM that labels, proposes and reads, and the judge; both may be one client."""

    client: Client
    model: str
    judge: Client
    judge_model: str


def run(
    result: DiffResult,
    store: Store,
    config: HypothesesConfig,
    on_progress: Watch | None = None,
    told: Told | None = None,
) -> DiffResult:
    """`result` with `hypotheses`, where `config` asks for any.

    told: gets the estimate in one line before anything is sent. on_progress: the stage and how far it is. What stops
    the asking, before the first call or later, is in `Hypotheses.stopped`: no finding is lost with it. Raises
    UsageError for choices that do not go together and a model or key that is not there.
    """
    with models_of(config, store) as models:
        return run_each({"": result}, store, config, models, on_progress, told)[""]


@contextmanager
def models_of(config: HypothesesConfig, store: Store) -> Iterator[Models | None]:
    """The LLM and the judge, None where none is asked for. A command opens them before the diff is counted: a missing
    key should not cost a minute. Raises UsageError as `run` does."""
    config.check()
    if not config.hypotheses or config.llm is None:
        yield None
        return
    with ExitStack() as stack:
        client, model = connect(config.llm, store.root)
        stack.enter_context(client)
        judge, judge_model = client, model
        if config.judge is not None and config.judge != config.llm:
            judge, judge_model = connect(config.judge, store.root)
            stack.enter_context(judge)
        yield Models(client, model, judge, judge_model)


def run_each(
    results: Mapping[str, DiffResult],
    store: Store,
    config: HypothesesConfig,
    models: Models | None,
    on_progress: Watch | None = None,
    told: Told | None = None,
) -> dict[str, DiffResult]:
    """`run` for the diffs of several values of a column, under one cap; all estimates come first."""
    if not config.hypotheses:
        return dict(results)
    found: dict[str, Hypotheses] = {}
    works: dict[str, Work] = {}
    for value, one in results.items():
        try:
            if models is None:
                found[value] = without_llm(one, store, config)
                continue
            works[value] = Work(one, store, config, models, on_progress or (lambda stage, progress: None))
        except UsageError as error:  # texts that were not stored, too few documents
            found[value] = Hypotheses(config.question, (), (), total_cost([], None), str(error))
            continue
        if told is not None:
            told(f"{value}: {works[value].estimate()}" if value else works[value].estimate())
    found |= {value: work.do() for value, work in works.items()}
    return {value: replace(one, hypotheses=found[value]) for value, one in results.items()}


def without_llm(result: DiffResult, store: Store, config: HypothesesConfig) -> Hypotheses:
    """Statements from the names that hold, verified by the plain tests behind them."""
    proposal, tests = propose_plain(result, config.hypotheses)
    checked = verify_plain(proposal.hypotheses, tests, result.design.verifiers(), config.seed)
    encoder = encoder_cost(store, result.design.sides)
    method = Method(LATENTS, proposal.hypotheses, {}, checked, method_cost([], encoder), proposal.left_out, judge=JUDGE)
    note = f"{NOTE} The question was not used." if config.question else NOTE
    return Hypotheses(config.question, (method,), (), total_cost([], encoder), note=note)


@dataclass
class _Draft:
    """A method on its way. rows: its part of the ledger."""

    proposal: Proposal = field(default_factory=lambda: Proposal((), {}, {}))
    verification: Verification | None = None
    rows: list[Row] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)


class Work:
    """All methods for one diff. Raises UsageError, before anything is paid for, for sides and models that cannot be
    used."""

    def __init__(
        self, result: DiffResult, store: Store, config: HypothesesConfig, models: Models, on_progress: Watch
    ) -> None:
        self.result, self.store, self.config, self.models = result, store, config, models
        self._watch = on_progress
        self.proposers, self.verifiers = result.design.proposers(), result.design.verifiers()
        self.relabelled: list[Relabelled] = []
        self.drafts: dict[str, _Draft] = {}
        self.notes: Notes | None = None
        self.shared: list[Row] = []
        self.shared_tallies: list[Tally] = []
        self._refuse = refuser([side.name for side in result.design.sides])
        baselines = set(config.methods) - {LATENTS}
        self._readings = readings(self.proposers, config.documents) if baselines else []
        self._steps = steps_of(self.verifiers, config.documents, config.seed) if config.verify else None
        self._leaders = _leaders(result, config.top)
        if CLUSTER in config.methods:
            embedding(config.embedder, models.client)

    def estimate(self) -> str:
        """What is to come, in one line."""
        leaders = [len(self._leaders[side]) for side in (0, 1)]
        stages = stages_of(self.config, leaders, self.proposers, len(self._readings), self._steps)
        models = self.models
        return told_estimate(stages, models.client, models.model, models.judge, models.judge_model)

    def do(self) -> Hypotheses:
        """Every method that is asked for, and what there was of them when something ended the run."""
        self._meter = Meter([self.models.client, self.models.judge])
        stopped = None
        try:
            for name in self.config.methods:
                self._method_of(name)
        except SaerayError as error:  # Stop, or a store that cannot be written to: no finding is lost with it
            stopped = str(error)
        return self._hypotheses(stopped)

    def _method_of(self, name: str) -> None:
        """One method, from its proposals to their verification."""
        draft = self.drafts[name] = _Draft()
        client, judge = self._tallied(draft.tallies)
        try:
            if name == LATENTS:
                self._from_latents(draft, client)
            else:
                draft.proposal = self._from_notes(name, client)
            if self.config.verify:
                draft.verification = verify(
                    draft.proposal.hypotheses,
                    self.verifiers,
                    judge,
                    self.models.judge_model,
                    self.config.verifying(),
                    self._stage("verify"),
                )
        finally:
            draft.rows += self._meter.since()

    def _hypotheses(self, stopped: str | None) -> Hypotheses:
        encoder = encoder_cost(self.store, self.result.design.sides)
        order = sorted(self.drafts, key=lambda name: name != LATENTS)
        methods = tuple(self._done(name, self.drafts[name], encoder) for name in order)
        rows = [*self.shared, *(row for draft in self.drafts.values() for row in draft.rows)]
        cost = total_cost(rows, encoder if LATENTS in self.drafts else None)
        return Hypotheses(self.config.question, methods, tuple(self.relabelled), cost, stopped)

    def _done(self, name: str, draft: _Draft, encoder: Mapping[str, Any]) -> Method:
        if name == LATENTS:
            cost = method_cost(draft.rows, encoder, tallies=draft.tallies)
        else:
            cost = method_cost(draft.rows, None, self.shared, [*self.shared_tallies, *draft.tallies])
        done = draft.proposal
        judge = self.models.judge_model if draft.verification is not None else ""
        return Method(name, done.hypotheses, done.dropped, draft.verification, cost, done.left_out, judge)

    def _tallied(self, tallies: list[Tally]) -> tuple[Client, Client]:
        """The LLM and the judge, whose replies are counted in `tallies`."""
        client = judge = Tally(self.models.client)
        if self.models.judge is not self.models.client:
            judge = Tally(self.models.judge)
        tallies += [client] if judge is client else [client, judge]
        return client, judge

    def _from_latents(self, draft: _Draft, client: Client) -> None:
        """Relabels what leads the findings of either direction on the proposing half, and has the labels that hold
        there summed up. A label is scored on texts that neither proposed nor chose it."""
        rows = self.result.rows
        columns = (rows.column(name).to_pylist() for name in ("latent", "difference"))
        expected = dict(zip(*columns, strict=True))
        found: list[Found] = []
        left_out: dict[str, list[int]] = {}
        total = sum(len(leaders) for leaders in self._leaders.values())
        for side, leaders in self._leaders.items():
            if not leaders:
                continue
            kept: dict[int, str] = {}
            sides = self.proposers.sides if side == 0 else self.proposers.sides[::-1]
            current = {latent: text for latent in leaders if (text := self._called(latent))}
            model, options = self.models.model, self.config.relabelling()
            for one in each_relabelled(sides, leaders, current, client, model, options):
                self.relabelled.append(one)
                if one.kept:
                    kept[one.latent] = one.label
                else:
                    left_out.setdefault(_why(one, options.threshold), []).append(one.latent)
                tokens = client.ledger.totals().total
                self._watch("label", Progress(len(self.relabelled), total, tokens))
            found += found_in(self.proposers.sides, side, kept, expected)
        proposal = propose(found, self.config.hypotheses, self._asking(client, "propose"))
        for why, latents in proposal.left_out.items():
            left_out.setdefault(why, []).extend(latents)
        draft.proposal = replace(proposal, left_out={why: tuple(latents) for why, latents in left_out.items()})

    def _from_notes(self, name: str, client: Client) -> Proposal:
        if self.notes is None:
            # A statement on the others is asked for where latents have that direction too.
            both = len(self.proposers.sides) == 2
            try:
                reader, _ = self._tallied(self.shared_tallies)
                self.notes = take_notes(self._readings, both, self._asking(reader, "read"))
            finally:
                self.shared += self._meter.since()
        if name == SUMMARY:
            return summarise(self.notes, self.config.hypotheses, self._asking(client, "summarise"))
        return cluster(
            self.notes, self.config.hypotheses, self._asking(client, "cluster"), embedding(self.config.embedder, client)
        )

    def _called(self, latent: int) -> str | None:
        """The label to do better than: the name that holds here, else the store's."""
        name = self.result.names.of.get(latent)
        label: str | None = self.result.row(latent)["label"]
        return name.text if name is not None and name.borne_out else label

    def _asking(self, client: Client, stage: str) -> Asking:
        config, watch = self.config, self._stage(stage)
        return Asking(client, self.models.model, self._refuse, config.question, stage, config.thinking, watch)

    def _stage(self, stage: str) -> Callable[[Progress], None]:
        return lambda progress: self._watch(stage, progress)


def _leaders(result: DiffResult, top: int) -> dict[int, list[int]]:
    """Leading latents of the findings of either direction, `top` in all: half each, and what one leaves the other."""
    more, less = ([group.latents[0] for group in groups] for groups in (result.more, result.less))
    for_less = min(len(less), max(top // 2, top - len(more)))
    return {0: more[: top - for_less], 1: less[:for_less]}


def _why(one: Relabelled, threshold: float) -> str:
    if one.score is not None:
        return f"their label scored below {threshold:g} on these documents"
    if one.missing:
        return "their label could not be scored, its calls came to nothing"
    return "active in too few documents here to be labelled"
