"""The page of co-occurrence: what was counted, and the strongest pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from saeray.report.page import document, made, percent, read_from, section, table
from saeray.report.text import name


def page(summary: Mapping[str, Any], edges: Sequence[Mapping[str, Any]]) -> str:
    """One HTML file of `CooccurResult.summary()` and the first rows of its edges."""
    selection, band = summary["selection"], " to ".join(percent(share) for share in summary["band"])
    within = len(summary["channels"]) == 1
    what = "stand in the same documents" if within else f"stand together in {' and '.join(summary['channels'])}"
    latents = f"{summary['latents'][0]:,}" if within else " and ".join(f"{count:,}" for count in summary["latents"])
    passing = (
        f"{summary['edges']:,} of these are together in at least {summary['min_support']:,} documents with an NPMI of "
        f"{summary['floor']:g} or more"
    )
    body = [
        f'<h1>Which latents {name(what)} in <span class="t">{name(selection["name"])}</span></h1>',
        f"<p>{summary['documents']:,} documents. {latents} latents are in {band} of them, which makes "
        f"{summary['pairs']:,} pairs; {passing}.</p>",
        section("The strongest pairs", _edges(edges)) if edges else "<p>No pair passes.</p>",
        made([("selection", selection["name"]), ("read from", read_from(selection))], summary["made_with"]),
    ]
    return document(f"Pairs of latents in {selection['name']}", body)


def _edges(edges: Sequence[Mapping[str, Any]]) -> str:
    rows = (
        [
            f"{edge['i']} with {edge['j']}",
            f"{edge['npmi']:.3f}",
            f"{edge['count']:,}",
            percent(edge["p_i_given_j"]),
            percent(edge["p_j_given_i"]),
        ]
        for edge in edges
    )
    return table(["latents", "NPMI", "documents", "first, given second", "second, given first"], rows)
