"""The page every report is: one HTML file with its style inside and nothing fetched.

Plain functions that return HTML. Parameters named `html` are HTML already; anything else is escaped here. The content
security policy forbids requests outright and every script but the one of a page's table, which is named by its hash, so
that a hole in the escaping would still run nothing.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

from saeray.analysis.evidence import Evidence
from saeray.report.text import marked, name, visible

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(title: str, html: Iterable[str], script: str = "") -> str:
    """The whole file; `title` is text for the tab, `script` a script of this package, the only one that can run."""
    style = files("saeray.report").joinpath("page.css").read_text(encoding="utf-8")
    # A title's content knows no elements, so what cannot be seen is left out of it rather than drawn.
    plain = visible("".join(c if c.isprintable() else " " for c in title))
    policy = _POLICY
    if script:
        policy += f"; script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
        script = f"<script>{script}</script>\n"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{plain}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(html)
        + f"\n</main>\n{script}</body>\n</html>\n"
    )


def section(heading_html: str, *html: str) -> str:
    """A heading and what is under it."""
    return f"<section>\n<h2>{heading_html}</h2>\n" + "\n".join(html) + "\n</section>"


def table(head_html: Sequence[str], rows_html: Iterable[Sequence[str]]) -> str:
    """Cells of HTML, the first column words and the others numbers; scrolls sideways when it is wide."""
    head = "".join(f"<th>{cell}</th>" for cell in head_html)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows_html)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def bar(label_html: str, colour: str, share: float, value_html: str, line: tuple[float, float] | None = None) -> str:
    """One line of a `bars` grid: label, a bar over `share` of the track, value; `line`: an interval across the bar."""
    drawn = f'<b class="{colour}" style="width:{100 * share:.2f}%"></b>'
    if line:
        drawn += f'<u style="left:{100 * line[0]:.2f}%;width:{100 * (line[1] - line[0]):.2f}%"></u>'
    return f'<span>{label_html}</span><span class="track">{drawn}</span><span>{value_html}</span>'


def card(row: Mapping[str, Any], evidence: Evidence, big_html: str, *html: str) -> str:
    """One latent: its label when it has one, its peak tokens, a big figure, what is given, its example sentences."""
    # A token below one in a hundred says nothing of the latent.
    common = ((token, share) for token, share in evidence.peak_tokens if share >= 0.01)
    tokens = [f'<span class="chip">{name(token)}</span> {share:.0%}' for token, share in common]
    peaks = "peaks on " + " · ".join(tokens) if tokens else "peaks on no common token"
    if not evidence.examples:
        peaks = "no evidence: the texts are not stored"
    head = f"{name(row['label'])} <small>{peaks}</small>" if row.get("label") else peaks
    return (
        f'<article class="finding"><header><h3>{head} <small>latent {row["latent"]}</small></h3>'
        f'<span class="big">{big_html}</span></header>'
        + "".join(html)
        + "".join(marked(example.excerpt) for example in evidence.examples)
        + "</article>"
    )


def made(lines: Iterable[tuple[str, str]], made_with: Mapping[str, Any]) -> str:
    """How to make the same page again: names and values (text) of the analysis, then of the store and the encoder."""
    every = [
        *lines,
        ("store", made_with["store"]),
        ("encoder fingerprint", made_with["fingerprint"]),
        ("latents in the encoder", f"{made_with['d_sae']:,}"),
        ("saeray", made_with["saeray"]),
    ]
    drawn = "".join(f"<dt>{visible(key)}</dt><dd>{name(value)}</dd>" for key, value in every)
    return section("How this was made", f"<dl>{drawn}</dl>")


def read_from(side: Mapping[str, Any]) -> str:
    """One line on the commits that a selection was read from."""
    plans = ", ".join(map(str, side["plans"]))
    return f"dataset {side['dataset']}, channel {side['channel']}, plans {plans}, commits {side['commits']}"


def points(share: float) -> str:
    """A difference of shares in signed percentage points: +12.3."""
    return f"{100 * share:+.1f}".replace("-", "−")


def tiny(p: float) -> str:
    """A p- or q-value with two digits; 0 only says that double precision ended."""
    return f"{p:.2g}" if p else "&lt; 1e-300"


def percent(share: float) -> str:
    """A share in percent; a small one keeps two digits, so that a thing that is there never reads 0.0%."""
    return f"{100 * share:.2g}%" if 0 < share < 0.001 else f"{100 * share:.1f}%"
