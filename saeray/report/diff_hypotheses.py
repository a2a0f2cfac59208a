"""The hypotheses of a diff: each statement with its verified shares, how good the judge is, and the other methods
beside it. Without a language model: what one would add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saeray.analysis.hypotheses.statements import PLAIN
from saeray.report.cost import dollars
from saeray.report.diff_finding import amount, anchor, badges
from saeray.report.diff_shares import share_bar
from saeray.report.diff_sides import SideNames, colour, interval
from saeray.report.page import percent, points, section, table
from saeray.report.text import marked, name, visible

if TYPE_CHECKING:
    from saeray.analysis.diff.result import DiffResult
    from saeray.analysis.hypotheses.statements import Hypotheses, Hypothesis, Method
    from saeray.analysis.hypotheses.verify import Verified
    from saeray.labels.llm.relabel import Relabelled

METHODS = {
    "latents": "from latents",
    "llm-summary": "LLM alone, differences summarised",
    "llm-cluster": "LLM alone, properties clustered",
}


def hypotheses(result: DiffResult, sides: SideNames) -> Iterator[str]:
    """The sections, or the one sentence that stands for them: a plain test's statements are the findings themselves."""
    found = result.hypotheses
    if found is None or all(method.judge == PLAIN for method in found.methods):
        yield (
            '<p class="soft">No language model took part. One (<code>--hypotheses 10 --verify --llm …</code>) would '
            "sum the findings up, unnamed ones too, in at most ten statements and count the texts where each holds.</p>"
        )
        return
    first, *others = found.methods or (None,)
    yield section(
        "Hypotheses" if first is None or first.verification else "Hypotheses, not verified",
        *([f'<p class="note">{visible(found.stopped)}</p>'] if found.stopped else []),
        *(_method(found, first, result, sides) if first else ()),
        *([f'<p class="soft">{visible(found.note)}</p>'] if found.note else []),
        *_relabelled(found.relabelled),
    )
    if others:
        yield section(
            "Beside a language model alone",
            '<p class="soft">The same documents, the same question and the same verification, without '
            "latents. LLM tokens and prices are what each method would cost by itself.</p>",
            _compared(found.methods),
            *(_folded(method, result, sides) for method in others),
        )


def _method(found: Hypotheses, method: Method, result: DiffResult, sides: SideNames) -> Iterator[str]:
    yield f"<p>{_lede(found, method, bool(result.parameters.get('halves')))}</p>"
    yield from _statements(method, result, sides)
    yield from _left_out(method)
    yield from _judge(method)


def _lede(found: Hypotheses, method: Method, halves: bool) -> str:
    n = len(method.hypotheses)
    text = f"The question: “{name(found.question)}”. " if found.question else ""
    text += f"A language model put the findings as {n} statement{'s' * (n != 1)}. "
    done = method.verification
    if done is None:
        return text + "Nobody has checked them: with <code>--verify</code> a judge would."
    valid, confirmed = (sum(getattr(one, key) for one in done.verified) for key in ("valid", "confirmed"))
    judge = (f"A judge ({name(method.judge)})" if method.judge else "A judge") + " that was not told the sides"
    read = " and ".join(f"{size:,}" for size in done.documents)
    fresh = ", none of which had proposed anything" if halves else ""
    text += (
        f"{judge} read up to {read} texts{fresh}: {valid} of {n} are valid (more than 1 "
        f"point more frequent on the side they name), {confirmed} confirmed (the whole interval is above 0)."
    )
    if done.coverage is not None:
        text += (
            f" In {done.coverage:.0%} of {done.covered_of:,} cases at least one valid statement holds of the first "
            "side and of no other."
        )
    return text


def _statements(method: Method, result: DiffResult, sides: SideNames) -> Iterator[str]:
    if method.verification is None:
        yield from (_unchecked(one, result, sides) for one in method.hypotheses)
        return
    order = sorted(method.verification.verified, key=lambda one: (not one.confirmed, not one.valid, -one.difference))
    yield from (_checked(one, result, sides) for one in order)


def _unchecked(one: Hypothesis, result: DiffResult, sides: SideNames) -> str:
    expected = "" if one.expected is None else f" The latents behind it differ by up to {amount(one.expected)} points."
    return (
        f'<article class="finding"><header><h3>{name(one.statement)}</h3></header>'
        f"<p>Said to be more frequent in {_side(one, sides)}.{expected}</p>{_behind(one, result)}</article>"
    )


def _checked(one: Verified, result: DiffResult, sides: SideNames) -> str:
    said = one.hypothesis
    drawn, missing = [], []
    for i, (judged, yes, lost) in enumerate(zip(one.judged, one.yes, one.missing, strict=True)):
        answered = judged - lost
        if answered > 0:
            share, low, high = interval(yes, answered)
            drawn.append(share_bar(sides, i, share, (low, high), percent(share)))
        if lost:
            missing.append(f"{lost:,} of {judged:,} in {name(sides.short[i])}")
    limits = f"95% interval {points(one.lower)} to {points(one.upper)}"
    if missing:
        limits += (
            f"; no answer for {', '.join(missing)}, which alone could move the difference between "
            f"{points(one.bounds[0])} and {points(one.bounds[1])}"
        )
    read = " and ".join(f"{count:,}" for count in one.judged) + " texts"
    if one.saved_calls:
        read += f" and stopped {one.saved_calls:,} calls early, when it was settled"
    expected = (
        "" if said.expected is None else f" The latents behind it differ by up to {amount(said.expected)} points."
    )
    return (
        f'<article class="finding"><header><h3>{name(said.statement)}</h3>'
        f'<span class="big {colour(said.side)}">{points(one.difference)} <small>points</small></span></header>'
        f'{_badges(one)}<div class="bars">{"".join(drawn)}</div>'
        f'<p class="soft">Claimed of {_side(said, sides)}. {limits}. Read were {read}.{expected}</p>'
        f"{_behind(said, result)}</article>"
    )


def _badges(one: Verified) -> str:
    if one.confirmed:
        worst = ", missing answers at their worst" if any(one.missing) else ""
        said = [("good", f"confirmed: more frequent there{worst}")]
    elif one.valid:
        said = [("", "valid, not confirmed: the interval still holds 0")]
    else:
        said = [("bad", "not borne out")]
    if one.within_noise:
        said.append(("bad", "no larger than the judge’s own noise"))
    return badges(said)


def _side(one: Hypothesis, sides: SideNames) -> str:
    return sides.drawn(0) if one.side == 0 else sides.others()


def _behind(one: Hypothesis, result: DiffResult) -> str:
    """The latents that a statement rests on, linked to their cards, and the strongest sentence of the first."""
    parts = []
    if one.latents:
        links = []
        for latent in one.latents:
            label = result.row(latent)["label"]
            text = f"{latent} {name(label)}" if label else str(latent)
            links.append(f'<a href="#{anchor(latent)}">{text}</a>' if latent in result.evidence else text)
        parts.append(f"<p>Rests on: {'; '.join(links)}.</p>")
    shown = next((result.evidence[latent] for latent in one.latents if latent in result.evidence), None)
    if shown:
        parts += [marked(example.excerpt) for example in shown.examples[:2]]
    if one.reason:
        parts.append(f'<p class="soft">Reason given: {name(one.reason)}</p>')
    count = f"{len(one.latents)} latent{'s' * (len(one.latents) != 1)} and evidence behind it"
    return f"<details><summary>{count}</summary>{''.join(parts)}</details>" if parts else ""


def _left_out(method: Method) -> Iterator[str]:
    reasons = {**method.dropped, **{why: len(latents) for why, latents in method.left_out.items()}}
    if reasons:
        lost = {why: f" ({', '.join(map(str, latents))})" for why, latents in method.left_out.items()}
        items = "".join(f"<li>{visible(why)}: {n:,}{lost.get(why, '')}</li>" for why, n in reasons.items())
        yield f"<details><summary>What was left out, and why</summary><ul>{items}</ul></details>"


def _judge(method: Method) -> Iterator[str]:
    """How far the judge agrees with itself."""
    noise = method.verification.noise if method.verification else {}
    kinds = {"repeats": "asked again", "swapped": "asked with text and statement in the other order"}
    lines = [f"<li>{told}: {_changed(noise[kind])}</li>" for kind, told in kinds.items() if kind in noise]
    if lines:
        yield (
            "<details><summary>How steady the judge is</summary><p>Some questions that it had answered, put again:</p>"
            f"<ul>{''.join(lines)}</ul></details>"
        )


def _changed(one: Mapping[str, Any]) -> str:
    said = f"{one['differed']:,} of {one['answered']:,} answers changed"
    if one["rate"] is None:
        return said
    said += f" ({percent(one['rate'])}; 95% interval {percent(one['lower'])} to {percent(one['upper'])})"
    return said + f"; yes in {one['yes_first'][0]:.0%} before and {one['yes_again'][0]:.0%} after"


def _relabelled(found: Sequence[Relabelled]) -> Iterator[str]:
    """What the LLM made of the labels of the latents in question."""
    if not found:
        return
    rows = (
        [
            f"{one.latent} {name(one.label)}",
            "" if one.before is None else name(one.before),
            "" if one.score is None else f"{one.score:.2f}",
            "" if one.score_before is None else f"{one.score_before:.2f}",
            "kept" if one.kept else f"not used: {visible(one.why)}",
        ]
        for one in found
    )
    kept = sum(one.kept for one in found)
    head = ["label on these documents", "before", "score", "before", ""]
    yield (
        f"<details><summary>{len(found):,} latents labelled on these documents, {kept:,} well enough</summary>"
        '<p class="soft">The score: the share of right answers when the label alone has to tell texts with the latent '
        f"from texts without it.</p>{table(head, rows)}</details>"
    )


def _compared(methods: Sequence[Method]) -> str:
    head = ["method", "statements", "valid", "confirmed", "coverage", "calls", "LLM tokens", "price", "encoder"]
    rows = []
    for method in methods:
        done, cost = method.verification, method.cost
        rows.append(
            [
                visible(METHODS.get(method.method, method.method)),
                f"{len(method.hypotheses):,}",
                f"{sum(one.valid for one in done.verified):,}" if done else "not checked",
                f"{sum(one.confirmed for one in done.verified):,}" if done else "",
                "" if done is None or done.coverage is None else f"{done.coverage:.0%}",
                f"{cost['calls'] + cost['cached']:,}",
                f"{cost['all_tokens']:,}",
                dollars(cost["all_dollars"]),
                _read(cost.get("encoder")),
            ]
        )
    return table(head, rows)


def _read(encoder: Mapping[str, Any] | None) -> str:
    """What the encoder's part of a method was: tokens and, where commits state them, seconds."""
    if not encoder:
        return "not used"
    seconds = encoder.get("seconds")
    return f"{encoder['tokens']:,} tokens" + ("" if seconds is None else f", {seconds:,.0f} s")


def _folded(method: Method, result: DiffResult, sides: SideNames) -> str:
    label = visible(METHODS.get(method.method, method.method))
    drawn = "".join((*_statements(method, result, sides), *_left_out(method), *_judge(method)))
    n = len(method.hypotheses)
    return f"<details><summary>{n} statement{'s' * (n != 1)}: {label}</summary>{drawn}</details>"
