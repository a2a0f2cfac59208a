"""The page of correlations: what was looked at, the findings as a table, a map and a graph, and their sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from saeray.report.page import document, made, percent, read_from, section, table
from saeray.report.pair_pictures import graph, heat_map
from saeray.report.text import name, visible

if TYPE_CHECKING:
    from saeray.analysis.correlate.asking import Share, Verified
    from saeray.analysis.correlate.evidence import PairExample, Piece
    from saeray.analysis.correlate.run import CorrelateResult

#: Findings in the graph: more are a tangle on a page of this width.
DRAWN = 30
#: Latents of the heat map: 24 of 16 pixels are read without a lens.
MAPPED = 24


def page(result: CorrelateResult) -> str:
    """One HTML file."""
    between = " and ".join(name(channel) for channel in result.channels)
    where = f" between {between}" if len(result.channels) > 1 else ""
    body = [
        f"<h1>What travels together in {name(result.selection['name'])}{where}</h1>",
        f"<p>{_lede(result)}</p>",
        *_findings(result),
        *_verified(result),
        *_pictures(result),
        *_cards(result),
        _toll(result),
        *_all(result),
        made(_lines(result), result.made_with),
        section("What to keep in mind", "<ul>" + "".join(f"<li>{line}</li>" for line in _caveats(result)) + "</ul>"),
    ]
    return document(f"What travels together in {result.selection['name']}", body)


def called(label: str | None, latent: int) -> str:
    """What a latent is called, as text."""
    return label or f"latent {latent}"


def _lede(result: CorrelateResult) -> str:
    size, latents = result.selection["documents"], " and ".join(f"{n:,}" for n in dict.fromkeys(result.latents))
    text = (
        f"{result.pairs:,} pairs of {latents} latents were counted in {size:,} documents. "
        f"{result.toll[0][1]:,} of them stand together more often than chance would have it (NPMI of at least "
        f"{result.parameters['floor']:g}). "
    )
    if not result.findings:
        return text + "None of these passes all filters; the table of filters says where they went."
    n = len(result.findings)
    return text + (
        f"Most of those are one thing said twice. {result.rows.num_rows:,} remain after the filters, which make "
        f"{n:,} finding{'s' * (n > 1)}: concepts that are far apart in meaning, in documents that are otherwise unlike."
    )


def _findings(result: CorrelateResult) -> Iterator[str]:
    if not result.findings:
        return
    head = ["finding", "NPMI", "at equal length", "documents", "P(2 | 1)", "P(1 | 2)", "log10 q"]
    cells = []
    for number, group in enumerate(result.findings):
        row = result.row(number)
        more = f" <small>and {len(group.members) - 1:,} like it</small>" if len(group.members) > 1 else ""
        cells.append([_cell(f"{number + 1}. {_pair(row)}{more}"), *_figures(row)])
    told = "P(2 | 1): the share of the documents with the first latent that have the second too."
    yield section("Findings", f'<p class="soft">{told}</p>', table(head, cells))


def _verified(result: CorrelateResult) -> Iterator[str]:
    """What a judge found of the strongest findings, and of the pairs that the LLM named itself."""
    if result.asked is None:
        return
    head = ["NPMI in the texts", "P(1 | 2)", "P(2 | 1)", "where both latents are", "judged", "no answer"]
    told = (
        f"{name(result.asked.model)} judged either concept on a sample of documents, weighed up to all. In brackets "
        "95% intervals of the sample; the judge's own errors are not in them."
    )
    own = [[_cell(f"{k + 1}. {_concepts(one)}"), *_judged(one)] for k, one in sorted(result.asked.verified.items())]
    if own:
        yield section("Do they hold in the texts?", f'<p class="soft">{told}</p>', table(["finding", *head], own))
    if result.asked.baseline is not None:
        said = f"Shown batches of documents, the LLM named {result.asked.named:,} pairs. The first, judged alike:"
        rows = ([_cell(_concepts(one)), *_judged(one)] for one in result.asked.baseline)
        yield section("What the LLM names alone", f'<p class="soft">{said}</p>', table(["pair", *head], rows))


def _concepts(one: Verified) -> str:
    return f'<span class="t">{name(one.first)}</span> × <span class="o">{name(one.second)}</span>'


def _judged(one: Verified) -> list[str]:
    hits = "" if one.of is None else f"{one.hits:,} of {one.of:,}"
    given = (_share(one.first_given_second, percent), _share(one.second_given_first, percent))
    return [_share(one.npmi, lambda value: f"{value:.2f}"), *given, hits, f"{one.judged:,}", f"{one.missing:,}"]


def _share(one: Share, shown: Callable[[float], str]) -> str:
    if one.value is None or one.lower is None or one.upper is None:
        return "–"
    return f"{shown(one.value)} <small>({shown(one.lower)} to {shown(one.upper)})</small>"


def _figures(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['npmi']:.2f}",
        f"{row['npmi_at_equal_length']:.2f}",
        f"{row['documents']:,}",
        percent(row["p_j_given_i"]),
        percent(row["p_i_given_j"]),
        f"{row['log10_q']:,.0f}".replace("-", "−"),
    ]


def _pair(row: dict[str, Any]) -> str:
    first, second = (name(called(row[f"label_{side}"], row[side])) for side in "ij")
    return f'<span class="t">{first}</span> × <span class="o">{second}</span>'


def _cell(html: str) -> str:
    """A first column that wraps: with two labels in a line its figures would stand off the page."""
    return f'<div style="white-space:normal;min-width:20rem">{html}</div>'


def _pictures(result: CorrelateResult) -> Iterator[str]:
    if len(result.findings) < 2:
        return
    rows = [result.row(number) for number in range(len(result.findings))]
    yield section(
        "Map",
        '<p class="soft">NPMI of the strongest latents with each other, where it passes; the darker, the stronger.</p>',
        heat_map(result.rows, rows, result.channels, MAPPED),
    )
    yield section(
        "Graph",
        f'<p class="soft">The {min(len(rows), DRAWN)} strongest findings; a line is a pair, the thicker, the stronger.'
        "</p>",
        graph(rows[:DRAWN], result.channels),
    )


def _cards(result: CorrelateResult) -> Iterator[str]:
    cards = []
    for number, group in enumerate(result.findings):
        row = result.row(number)
        found = result.examples.get(number, ())
        shown = (
            "".join(_example(one, result.channels) for one in found) or "<p>no evidence: the texts are not stored</p>"
        )
        others = (result.rows.slice(member, 1).to_pylist()[0] for member in group.members[1:9])
        like = "".join(f"<li>{_pair(other)} {other['npmi']:.2f}</li>" for other in others)
        more = f"<p>Pairs like it:</p><ul>{like}</ul>" if like else ""
        cards.append(
            f"<details><summary>{number + 1}. {_pair(row)}</summary>"
            f'<p class="soft">latents {row["i"]} and {row["j"]} · together in {row["documents"]:,} of '
            f"{row['documents_i']:,} and {row['documents_j']:,} documents</p>{shown}{more}</details>"
        )
    if cards:
        yield section(
            "Examples",
            '<p class="soft">Documents in which both are strong; a line in its colour is under each peak.</p>',
            *cards,
        )


def _example(found: PairExample, channels: Sequence[str]) -> str:
    shown = []
    for side, pieces in enumerate(found.excerpts):
        label = f"<small>{name(channels[side])}</small>" if len(channels) > 1 else ""
        shown.append(f'{label}<blockquote dir="auto">{"".join(map(_piece, pieces))}</blockquote>')
    return "".join(shown)


def _piece(piece: Piece) -> str:
    if not piece.mark:
        return visible(piece.text)
    peak = piece.text if piece.text.strip() else "".join({"\n": "↵", "\t": "⇥"}.get(c, "␣") for c in piece.text[:8])
    line = {"i": "var(--target)", "j": "var(--other)"}.get(piece.mark, "var(--ink)")
    return f'<mark style="box-shadow:inset 0 -3px {line}">{visible(peak)}</mark>'


def _toll(result: CorrelateResult) -> str:
    cells, before = [], 0
    for filter_, left in result.toll:
        cells.append([visible(filter_), f"{left:,}", f"{before - left:,}" if before else ""])
        before = left
    return section("What the filters left", table(["filter", "pairs left", "taken out"], cells))


def _all(result: CorrelateResult) -> Iterator[str]:
    rows = result.rows.slice(0, 500).to_pylist()
    if rows:
        head = ["pair", "NPMI", "at equal length", "documents", "P(2 | 1)", "P(1 | 2)", "log10 q"]
        first = "All" if result.rows.num_rows <= len(rows) else "The first"
        drawn = table(head, ([_cell(_pair(row)), *_figures(row)] for row in rows))
        yield f"<details><summary>{first} {len(rows):,} pairs that pass</summary>{drawn}</details>"


def _lines(result: CorrelateResult) -> Iterator[tuple[str, str]]:
    used = result.parameters
    yield "documents", f"{result.selection['name']}: {result.selection['documents']:,}; {read_from(result.selection)}"
    low, high = used["band"]
    yield "band", f"latents in {100 * low:g}% to {100 * high:g}% of documents, in at least {used['min_support']}"
    yield "pairs", f"in at least {used['min_support']} documents, NPMI of at least {used['floor']:g}"
    if result.label_level is not None:
        yield (
            "labels",
            f"cosine below {result.label_level:.3f}, which {100 * used['label_quantile']:g}% of random pairs are below",
        )
    yield "documents otherwise", f"cosine of mean profiles below {used['alike']:g}"
    if len(result.channels) == 1:
        yield "peaks", f"on the same or next token in less than {100 * used['same_token']:g}% of shared documents"
    yield "length", f"at equal length at least {100 * used['at_equal_length']:g}% of NPMI is left"
    yield "q", f"Benjamini-Yekutieli over one-sided Fisher tests of {result.pairs:,} pairs, at most {used['q']:g}"
    kept = [word for word in ("syntactic", "unlabelled") if used[f"keep_{word}"]]
    if kept:
        yield "kept", f"{' and '.join(kept)} labels"


def _caveats(result: CorrelateResult) -> Iterator[str]:
    yield (
        "NPMI is 1 for latents that are always together and 0 for independent ones. Long documents inflate every pair: "
        "“at equal length” is the same against the count expected within classes of length."
    )
    yield (
        "q is the share of false discoveries to expect, over all pairs in the band, those that a filter took out among "
        "them. Documents count as independent: near-copies make q too small."
    )
    yield (
        "A pair is a hypothesis about these documents. Labels may be wrong and were mostly found elsewhere: read the "
        "sentences."
    )
    yield (
        "What is together in fewer documents than the support, or between concepts of like names, is not found; a "
        "latent that stands for several things hides what is rare."
    )
