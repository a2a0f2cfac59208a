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

from saeray.errors import SaerayError, first_line

# Llama 3.x prints "Today Date" into its system turn; this is the date its template falls back to without a clock.
PINNED_DATE = datetime(2024, 7, 26)
# Stands before a template and hides the `strftime_now` that transformers gives it. A function of our own cannot be
# passed in: transformers turns everything but plain data into text. Jinja drops the line break after the block.
_PINNED_CLOCK = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(
        f" | replace('%{code}', '{PINNED_DATE.strftime('%' + code)}')"
        for code in ("-d", "-m", "-H", "-I", "-M", *"aAbBcdfHIjmMpSUwWxXyY")
    )
    + " }}{% endmacro %}\n"
)
_SLOT = "saeray.slot.{}.5e1f"
_ANY_SLOT = _SLOT.split("{")[0]
# White space that no template prints of itself around a content: where it is gone, the template trims.
_PADDING = " \t\n"
_MOST_ROLES_NAMED = 8


class TemplateError(SaerayError):
    """The reader's chat template cannot hold this sequence of roles."""


@dataclass(frozen=True)
class Frame:
    """The text around the contents of a conversation: `pieces[0] + content + pieces[1] + content + ... + pieces[-1]`.

    `trims[i]` says whether the template trims content i on its left and on its right; some trim the assistant's turns
    and not the user's.
    """

    pieces: tuple[str, ...]
    trims: tuple[tuple[bool, bool], ...]

    def render(self, contents: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
        """The whole text and the span `[start, stop)` of every content in it, in characters."""
        parts, spans, length = [self.pieces[0]], [], len(self.pieces[0])
        for content, (left, right), after in zip(contents, self.trims, self.pieces[1:], strict=True):
            body = content.lstrip() if left else content
            body = body.rstrip() if right else body
            spans.append((length, length + len(body)))
            parts += [body, after]
            length += len(body) + len(after)
        return "".join(parts), spans

    def offset(self, index: int, content: str) -> int:
        """How many characters the template trims from the left of `content`, the one at `index`."""
        return len(content) - len(content.lstrip()) if self.trims[index][0] else 0


def frame(tokenizer: Any, roles: tuple[str, ...]) -> Frame:
    """The frame that `tokenizer`'s chat template puts around one content for each of `roles`.

    Raises TemplateError when the template refuses these roles or does not show every content once and in order.
    """
    named = ", ".join(roles[:_MOST_ROLES_NAMED]) + (", ..." if len(roles) > _MOST_ROLES_NAMED else "")
    try:
        rest = _render(tokenizer, roles)
    except Exception as error:  # templates raise through jinja with whatever text they like
        raise TemplateError(f"the reader's chat template refuses the roles {named}: {first_line(error)}") from error
    pieces, trims = [""], []
    for i, role in enumerate(roles):
        before, slot, rest = rest.partition(_SLOT.format(i))
        if not slot:
            raise TemplateError(f"the reader's chat template does not show the turn of role {role!r} in its place")
        left, right = not before.endswith(_PADDING), not rest.startswith(_PADDING[::-1])
        pieces[-1] += before if left else before.removesuffix(_PADDING)
        rest = rest if right else rest.removeprefix(_PADDING[::-1])
        trims.append((left, right))
        pieces.append("")
    pieces[-1] = rest
    if any(_ANY_SLOT in piece for piece in pieces):
        raise TemplateError(f"the reader's chat template shows a turn more than once for the roles {named}")
    return Frame(tuple(pieces), tuple(trims))


def _render(tokenizer: Any, roles: tuple[str, ...]) -> str:
    messages = [{"role": role, "content": _PADDING + _SLOT.format(i) + _PADDING[::-1]} for i, role in enumerate(roles)]
    rendered: str = tokenizer.apply_chat_template(
        messages,
        chat_template=_PINNED_CLOCK + tokenizer.get_chat_template(),
        tokenize=False,
        date_string=PINNED_DATE.strftime("%d %b %Y"),
    )
    return rendered


class Template:
    """A tokenizer's chat template with its frames kept, or none (`enabled` False: texts are read raw)."""

    def __init__(self, tokenizer: Any, enabled: bool | None = None) -> None:
        has_one = bool(getattr(tokenizer, "chat_template", None))
        if enabled and not has_one:
            raise TemplateError("this reader has no chat template; set template: none to read texts raw")
        self.enabled = has_one if enabled is None else enabled
        self.frame = lru_cache(maxsize=4096)(lambda roles: frame(tokenizer, roles))
