"""Pairs drawn: a heat map of latents with each other, and a graph whose layout is the same for the same pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Row = Mapping[str, Any]
#: A latent: side of the pair (0 where both are of one channel) and number.
Node = tuple[int, int]

CELL, MARGIN = 16, 230
WIDTH, HEIGHT = 810, 760
#: Characters of a label in a picture.
LETTERS = 30
ROUNDS = 300
#: How hard an edge pulls. At 1 the two ends of a pair lie under each other's labels.
PULL = 0.15


def heat_map(pairs: pa.Table, findings: Sequence[Row], channels: Sequence[str], most: int) -> str:
    """NPMI of the strongest `most` latents with each other (with two channels: of the first's with the second's)."""
    two = len(channels) > 1
    rows = list(dict.fromkeys(_nodes(row, two)[0] for row in findings))[:most]
    columns = list(dict.fromkeys(_nodes(row, two)[1] for row in findings))[:most]
    if not two:
        rows = columns = list(dict.fromkeys(node for row in findings for node in _nodes(row, two)))[:most]
    labels = _labels(findings, two)
    at = {(a, b): (y, x) for y, a in enumerate(rows) for x, b in enumerate(columns)}
    cells = []
    wanted = {*rows, *columns}
    for row in pairs.to_pylist():
        a, b = _nodes(row, two)
        if a not in wanted or b not in wanted:
            continue
        for place in {at.get((a, b)), None if two else at.get((b, a))} - {None}:
            y, x = place  # type: ignore[misc]
            title = f"{labels[a]} × {labels[b]}: {row['npmi']:.2f}"
            cells.append(
                f'<rect x="{MARGIN + CELL * x}" y="{CELL * y}" width="{CELL - 1}" height="{CELL - 1}" '
                f'fill="var(--target)" fill-opacity="{max(0.08, row["npmi"]):.2f}">'
                f"<title>{_plain(title)}</title></rect>"
            )
    words = [_text(labels[a], MARGIN - 6, CELL * y + 12, "end") for y, a in enumerate(rows)]
    foot = CELL * len(rows) + 6
    for x, b in enumerate(columns):
        left = MARGIN + CELL * x + 11
        words.append(f'<g transform="translate({left},{foot}) rotate(-60)">{_text(labels[b], 0, 0, "end")}</g>')
    size = MARGIN + CELL * len(columns) + 8, foot + 200
    return _svg(size, f"NPMI of {len(rows)} by {len(columns)} latents", [*sorted(cells), *words])


def graph(findings: Sequence[Row], channels: Sequence[str]) -> str:
    """Each finding a line between its two latents; latents that share lines lie near each other."""
    two = len(channels) > 1
    ends = [_nodes(row, two) for row in findings]
    nodes = list(dict.fromkeys(node for pair in ends for node in pair))
    number = {node: k for k, node in enumerate(nodes)}
    place = layout(len(nodes), [(number[a], number[b]) for a, b in ends])
    points = [(90 + (WIDTH - 180) * float(x), 24 + (HEIGHT - 56) * float(y)) for x, y in place]
    labels = _labels(findings, two)
    lines = []
    for row, (a, b) in zip(findings, ends, strict=True):
        (x1, y1), (x2, y2) = points[number[a]], points[number[b]]
        title = f"{labels[a]} × {labels[b]}: {row['npmi']:.2f}"
        lines.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var(--soft)" stroke-opacity="0.6" '
            f'stroke-width="{1 + 5 * row["npmi"]:.1f}"><title>{_plain(title)}</title></line>'
        )
    for node, (x, y) in zip(nodes, points, strict=True):
        colour = "var(--other)" if node[0] else "var(--target)"
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"></circle>')
        ends_of = [points[number[b if a == node else a]] for a, b in ends if node in (a, b)]
        above = y < np.mean([other for _, other in ends_of])  # away from its lines
        lines.append(_text(labels[node], x, y - 8 if above else y + 16, "middle"))
    return _svg((WIDTH, HEIGHT), f"{len(findings)} pairs of {len(nodes)} latents", lines)


def layout(nodes: int, edges: Sequence[tuple[int, int]]) -> Float64:
    """float64[nodes, 2] in 0..1: springs along edges and repulsion between all, from a circle; no chance in it.

    Fruchterman & Reingold 1991, Software: Practice and Experience 21:1129.
    """
    angle = 2 * np.pi * np.arange(nodes) / max(nodes, 1)
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 + 0.01 * np.arange(nodes)[:, None] % 0.07)
    ideal = np.sqrt(4.0 / max(nodes, 1))
    pairs = np.array(edges, np.int64).reshape(-1, 2)
    for step in range(ROUNDS):
        apart = place[:, None] - place[None]
        distance = np.maximum(np.linalg.norm(apart, axis=2), 1e-6)
        force = (apart * (ideal**2 / distance**2)[:, :, None]).sum(axis=1)
        pull = (place[pairs[:, 1]] - place[pairs[:, 0]]) * (
            PULL * np.linalg.norm(place[pairs[:, 1]] - place[pairs[:, 0]], axis=1)[:, None] / ideal
        )
        np.add.at(force, pairs[:, 0], pull)
        np.add.at(force, pairs[:, 1], -pull)
        force -= 0.3 * place  # keeps what hangs on nothing on the page
        length = np.maximum(np.linalg.norm(force, axis=1, keepdims=True), 1e-9)
        place += force / length * np.minimum(length, 0.2 * (1 - step / ROUNDS))
    low, high = place.min(axis=0, initial=0), place.max(axis=0, initial=1)
    found: Float64 = (place - low) / np.maximum(high - low, 1e-9)
    return found


def _nodes(row: Row, two: bool) -> tuple[Node, Node]:
    return (0, int(row["i"])), (int(two), int(row["j"]))


def _labels(findings: Sequence[Row], two: bool) -> dict[Node, str]:
    found = {}
    for row in findings:
        for node, side in zip(_nodes(row, two), "ij", strict=True):
            found[node] = row[f"label_{side}"] or f"latent {node[1]}"
    return found


def _text(label: str, x: float, y: float, anchor: str) -> str:
    short = label if len(label) <= LETTERS else label[: LETTERS - 1] + "…"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" fill="var(--ink)">{_plain(short)}</text>'
    )


def _plain(text: str) -> str:
    """Escaped for SVG, which knows none of the page's elements: what acts unseen becomes U+FFFD."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def _svg(size: tuple[float, float], title: str, parts: Sequence[str]) -> str:
    width, height = size
    return (
        f'<div class="wide"><svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{_plain(title)}">' + "\n".join(parts) + "</svg></div>"
    )
