"""Text of documents as HTML that can only be read: nothing runs, nothing hides, nothing turns its neighbours round.

Documents are hostile until shown otherwise. Markup is escaped; control and direction characters are shown by their
number instead of obeyed; every excerpt is isolated, so that right-to-left text stays in its box.
"""

from __future__ import annotations

import re
from html import escape

from saeray.analysis.excerpt import Excerpt

#: Controls but tab and newline, what is invisible, what turns the direction of text, halves of characters,
#: non-characters. The zero-width joiners stay: Persian, Hindi and family emoji need them.
_UNSEEN = re.compile(
    "([\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f])"
)
_BLANK_LINES = re.compile(r"\n\s*\n")


def visible(text: str) -> str:
    """`text` escaped for an element's content or a quoted attribute-free place, unseen characters shown as U+XXXX."""
    parts = _UNSEEN.split(text)
    # Odd parts are the characters that the pattern caught.
    return "".join(f'<i class="u">U+{ord(part):04X}</i>' if i % 2 else escape(part) for i, part in enumerate(parts))


def name(text: str) -> str:
    """A name from outside (selector, id, column value, token), isolated from the sentence that it stands in."""
    return f"<bdi>{visible(text)}</bdi>"


def marked(found: Excerpt) -> str:
    """An excerpt with its peak token marked; a token of space alone is drawn, so that there is something to mark. One
    without a peak is shown as it is."""
    if not found.peak:
        whole = _squeezed(found.before + found.after) + (" …" if found.cut_right else "")
        return f'<blockquote dir="auto">{visible(whole)}</blockquote>'
    start, whole = len(found.before), found.before + found.peak + found.after
    pieces, at = ["… "] if found.cut_left else [], 0
    for low, high in sorted([(start, start + len(found.peak)), *found.also]):
        low = max(low, at)
        if low < high:
            pieces += [visible(_squeezed(whole[at:low])), _mark(whole[low:high])]
            at = high
    pieces += [visible(_squeezed(whole[at:])), " …" if found.cut_right else ""]
    return f'<blockquote dir="auto">{"".join(pieces)}</blockquote>'


def _mark(text: str) -> str:
    """A marked place, without the space around it."""
    inner = text.strip()
    if not inner:
        return f"<mark>{''.join({chr(10): '↵', chr(9): '⇥'}.get(c, '␣') for c in text[:8])}</mark>"
    at = text.index(inner)
    return f"{visible(text[:at])}<mark>{visible(inner)}</mark>{visible(text[at + len(inner) :])}"


def _squeezed(text: str) -> str:
    return _BLANK_LINES.sub("\n", text)
