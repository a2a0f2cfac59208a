"""What an analysis cost, stage by stage: the ledger as a table, and what does not come from a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saeray.report.page import section, table
from saeray.report.text import name, visible

#: Columns of the table: key of the ledger's row -> heading.
COLUMNS = {
    "calls": "calls",
    "batched": "in batch jobs",
    "tokens_in": "tokens in",
    "tokens_out": "tokens out",
    "tokens_thinking": "thinking",
    "dollars": "dollars",
    "cached": "from cache",
    "saved_tokens": "tokens saved",
    "saved_dollars": "dollars saved",
}


def cost_section(cost: Mapping[str, Any]) -> str:
    """`cost`: what `analysis.hypotheses.cost.total_cost` gives: `stages` (rows of a ledger), their sums, and `encoder`,
    what reading the documents took, None where that is not known."""
    rows = [_row(_stage(row), row) for row in cost["stages"]]
    body = [table(["stage", *COLUMNS.values()], [*rows, _row("all", cost)])] if rows else ["<p>No call was made.</p>"]
    paid = f"Paid now: {dollars(cost['dollars'])}. In all, with what the cache saved: {cost['all_tokens']:,} tokens, "
    body.append(f"<p>{paid}{dollars(cost['all_dollars'])}.{_encoder(cost['encoder'])}{_lost(cost)}</p>")
    saved = "Saved: replies that the cache held already, at what they cost when they were first asked."
    return section("What it cost", *body, f'<p class="soft">{saved}</p>')


def _encoder(read: Mapping[str, Any] | None) -> str:
    if not read:
        return ""
    seconds = "" if read.get("seconds") is None else f" in {read['seconds']:,.0f} seconds of the workers"
    return f" Before that the encoder read {read['documents']:,} documents, {read['tokens']:,} tokens{seconds}."


def dollars(value: float | None) -> str:
    """Money; small sums keep two digits. None is a price that nobody has named."""
    if value is None:
        return "price unknown"
    return f"${value:,.2f}" if value == 0 or value >= 0.1 else f"${value:.2g}"


def _stage(row: Mapping[str, Any]) -> str:
    model = row.get("model")
    return visible(str(row["stage"])) + (f" <small>{name(str(model))}</small>" if model else "")


def _row(first_html: str, row: Mapping[str, Any]) -> list[str]:
    return [first_html, *(_cell(key, row) for key in COLUMNS)]


def _cell(key: str, row: Mapping[str, Any]) -> str:
    if key not in row:
        return ""
    return dollars(row[key]) if "dollars" in key else f"{row[key]:,}"


def _lost(total: Mapping[str, Any]) -> str:
    """Calls that ended without an answer, and those that broke off, which a service may charge for or not."""
    text = ""
    if total["missing"]:
        text += " Without an answer: " + ", ".join(f"{visible(why)} {n:,}" for why, n in total["missing"].items()) + "."
    if total["uncertain_calls"]:
        text += (
            f" {total['uncertain_calls']:,} calls broke off and may be charged for: up to "
            f"{dollars(total['uncertain_dollars'])} more."
        )
    return text
