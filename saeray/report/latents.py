"""The table of all latents: plain and whole in itself; a small script of this package lets a reader sort, search and
filter it. The script sees text that is on the page already, and only its own hash may run (saeray.report.page)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Line:
    """One row: cells of HTML, the first the words that are searched; `marks`: the filters that it passes."""

    cells_html: Sequence[str]
    marks: Sequence[str]


@dataclass(frozen=True)
class Filters:
    """What can be chosen: `which` mark -> text, one of them at a time; `only` mark -> text, each by itself."""

    which: Mapping[str, str]
    only: Mapping[str, str]


@cache
def script() -> str:
    """The script of the table, for `document`."""
    return files("saeray.report").joinpath("latents.js").read_text(encoding="utf-8")


def latents(caption_html: str, head_html: Sequence[str], lines: Iterable[Line], filters: Filters) -> str:
    """The table with its controls, which stay hidden until the script is there to answer them."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in head_html)
    body = "\n".join(
        f'<tr class="{" ".join(line.marks)}">' + "".join(f"<td>{cell}</td>" for cell in line.cells_html) + "</tr>"
        for line in lines
    )
    which = "".join(f'<option value="{mark}">{said}</option>' for mark, said in filters.which.items())
    only = "".join(
        f'<label><input type="checkbox" value="{mark}"> {said}</label>' for mark, said in filters.only.items()
    )
    return (
        '<div data-latents><div class="controls" hidden>'
        '<label>Search <input type="search" placeholder="a word or a latent’s number"></label>'
        f'<label>Show <select><option value="">all</option>{which}</select></label>{only}'
        '<span><span role="status"></span> <button type="button">show all</button></span></div>'
        f'<div class="wide" tabindex="0" role="region" aria-label="Table of latents"><table>'
        f"<caption>{caption_html}</caption><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div></div>"
    )
