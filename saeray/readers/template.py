"""How a document is framed as chat turns, and which of the rendered characters are the document's own.

A template is rendered once a sequence of roles with a slot in the place of every content; the documents are then set
into the slots. So the frame cannot depend on a document, a document cannot act as template code, and the exact span of
every content is known. Whatever a template reads from the clock is pinned, or the same document would change from one
day to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from saeray.errors import SaerayError

# Llama 3.x prints "Today Date" into its system turn; this is the date its template falls back to without a clock.
PINNED_DATE = datetime(2024, 7, 26)
_SLOT = "saeray.slot.{}.5e1f"
_PADDING = " \n"


class TemplateError(SaerayError):
    """The reader's chat template cannot hold this sequence of roles."""


@dataclass(frozen=True)
class Frame:
    """The text around the contents of a conversation: `pieces[0] + content + pieces[1] + content + ... + pieces[-1]`.

    `strips` says whether the template trims each content; the slot then takes the content without outer white space.
    """

    pieces: tuple[str, ...]
    strips: bool

    def render(self, contents: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
        """The whole text and the span `[start, stop)` of every content in it, in characters."""
        text, spans = self.pieces[0], []
        for content, after in zip(contents, self.pieces[1:], strict=True):
            body = content.strip() if self.strips else content
            spans.append((len(text), len(text) + len(body)))
            text += body + after
        return text, spans

    def offset(self, content: str) -> int:
        """How many characters of `content` the template trims from its left."""
        return len(content) - len(content.lstrip()) if self.strips else 0


def frame(tokenizer: Any, roles: tuple[str, ...]) -> Frame:
    """The frame that `tokenizer`'s chat template puts around one content for each of `roles`.

    Raises TemplateError when the template refuses these roles or does not show every content once and in order.
    """
    try:
        padded = _render(tokenizer, roles, _PADDING)
    except Exception as error:  # templates raise through jinja with whatever text they like
        raise TemplateError(f"the reader's chat template refuses the roles {', '.join(roles)}: {error}") from error
    pieces, rest = [], padded
    for i in range(len(roles)):
        before, slot, rest = rest.partition(_SLOT.format(i))
        if not slot:
            raise TemplateError(f"the reader's chat template does not show the turn of role {roles[i]!r} in its place")
        pieces.append(before)
    pieces.append(rest)
    strips = not pieces[0].endswith(_PADDING)
    if not strips:  # the padding came through, so take it out of the frame again
        left, right = _PADDING, _PADDING[::-1]
        for i, piece in enumerate(pieces):
            piece = piece.removesuffix(left) if i < len(roles) else piece
            pieces[i] = piece.removeprefix(right) if i > 0 else piece
    return Frame(tuple(pieces), strips)


def _render(tokenizer: Any, roles: tuple[str, ...], padding: str) -> str:
    messages = [
        {"role": role, "content": padding + _SLOT.format(i) + padding[::-1]} for i, role in enumerate(roles)
    ]
    rendered: str = tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        date_string=PINNED_DATE.strftime("%d %b %Y"),
        strftime_now=PINNED_DATE.strftime,
    )
    return rendered


class Template:
    """A tokenizer's chat template with its frames kept, or no template at all (`enabled` False: texts are read raw)."""

    def __init__(self, tokenizer: Any, enabled: bool | None = None) -> None:
        has_one = bool(getattr(tokenizer, "chat_template", None))
        if enabled and not has_one:
            raise TemplateError("this reader has no chat template; set template: none to read texts raw")
        self.enabled = has_one if enabled is None else enabled
        self.frame = lru_cache(maxsize=4096)(lambda roles: frame(tokenizer, roles))
