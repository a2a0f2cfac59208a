"""The page of `stats`: how much is in a dataset, how latents spread over it, the most frequent with their evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from saeray.report.page import bar, card, document, made, percent, read_from, section, table
from saeray.report.text import name
from saeray.stats.quantiles import ERROR

if TYPE_CHECKING:
    from saeray.analysis.frequencies import StatsResult

#: Classes of document frequency by their lower ends; 1e-9 parts what is never present from what is.
_CLASSES = {
    "never": 0,
    "below 0.1%": 1e-9,
    "0.1% to 1%": 0.001,
    "1% to 10%": 0.01,
    "10% to 50%": 0.1,
    "50% and more": 0.5,
}


def page(result: StatsResult) -> str:
    """One HTML file."""
    side, summary = result.side, result.summary()
    body = [
        f'<h1>How often each latent is present in <span class="t">{name(side["name"])}</span></h1>',
        f"<p>{side['documents']:,} documents, median {side['median_tokens']:g} tokens. {summary['latents_present']:,} "
        f"of {result.total.d_sae:,} latents are present somewhere, {summary['mean_latents_per_document']:,} in a "
        "document on average.</p>",
        section("Latents by document frequency", _classes(result)),
        section("By length", _lengths(result)),
        *([section(f"By {name(result.by)}", _groups(result))] if result.by else []),
        section("The most frequent", *_frequent(result)),
        f'<p class="soft">Examples and peak tokens are from {result.sampled:,} of the documents; percentiles of maxima '
        f"are within {percent(ERROR)} of the value.</p>",
        made([("selection", side["name"]), ("read from", read_from(side))], result.made_with),
    ]
    return document(f"Latents of {side['name']}", body)


def _classes(result: StatsResult) -> str:
    lower = list(_CLASSES.values())
    counts = np.bincount(np.searchsorted(lower, result.total.frequency, side="right") - 1, minlength=len(lower))
    bars = (bar(label, "t", n / counts.max(), f"{n:,}") for label, n in zip(_CLASSES, counts, strict=True))
    return f'<div class="bars">{"".join(bars)}</div>'


def _lengths(result: StatsResult) -> str:
    rows = (
        [f"{one['from']:,} to {one['to']:,} tokens", f"{one['documents']:,}", f"{one['mean_latents']:,}"]
        for one in result.lengths()
    )
    return table(["", "documents", "latents in a document"], rows)


def _groups(result: StatsResult) -> str:
    rows = (
        [
            name(group),
            f"{found['documents']:,}",
            f"{found['tokens'] / max(found['documents'], 1):,.0f}",
            f"{found['latents_present']:,}",
            f"{found['mean_latents_per_document']:,}",
            f"{found['mean_active_per_token']:,}",
        ]
        for group, found in result.summary()["groups"].items()
    )
    return table(["", "documents", "tokens each", "latents present", "in a document", "on a token"], rows)


def _frequent(result: StatsResult) -> list[str]:
    return [
        card(
            row,
            result.evidence[row["latent"]],
            f"{percent(row['document_frequency'])} <small>of documents</small>",
            f'<p class="soft">active on {percent(row["token_frequency"])} of tokens, {_strengths(row)}</p>',
        )
        for row in result.table(len(result.evidence))
    ]


def _strengths(row: Mapping[str, Any]) -> str:
    """The percentiles of the maxima where it is present, and the largest."""
    percentiles = (f"{key} {value:.3g}" for key, value in row.items() if key.startswith("p") and key[1:2].isdigit())
    return ", ".join([*percentiles, f"at most {row['max']:.3g}"])
