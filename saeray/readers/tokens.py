"""Documents as token sequences: which tokens are read, which of them enter a pool, and how long ones are cut.

Everything here is arithmetic on integers, without a model: the same document and the same reader give the same tokens,
masks and windows on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from saeray.errors import SaerayError
from saeray.readers.template import Template

Ints = npt.NDArray[np.int32]
LongPolicy = Literal["windows", "truncate", "skip"]


class DocumentError(SaerayError):
    """This one document cannot be encoded; the message is its reason among the rejects."""


@dataclass(frozen=True)
class Turn:
    """One message: the channel its tokens are pooled into, its role and its text."""

    role: str
    text: str


@dataclass(frozen=True)
class TokenizedDocument:
    """A document as the reader sees it.

    ids: int32[n], the frame's and the contents' tokens up to the last content token: what follows cannot influence
    them.
    channel: int32[n], index into `channels` of the pool a token enters, -1 for none.
    starts: int32[n], character offset of the token in its channel's text (0 where channel is -1).
    head: how many leading tokens stand before the first content; every later window starts with them again.
    """

    ids: Ints
    channel: Ints
    starts: Ints
    channels: tuple[str, ...]
    texts: tuple[str, ...]
    head: int
    truncated: bool = False

    def pooled(self, channel: int) -> npt.NDArray[np.intp]:
        """Positions of the tokens of one channel, in reading order: the order that `peak` counts in."""
        return np.flatnonzero(self.channel == channel)


@dataclass(frozen=True)
class Window:
    """One sequence for the reader: the document's head (later windows only), then tokens `[start, stop)`.

    Tokens before `fresh` are context that an earlier window has pooled already.
    """

    start: int
    stop: int
    fresh: int
    head: int

    def __len__(self) -> int:
        return self.head + self.stop - self.start


class DocumentTokenizer:
    """Turns texts and conversations into `TokenizedDocument`s.

    tokenizer: a fast Hugging Face tokenizer.
    role: the role that a plain text is given when the reader has a chat template.
    template: None to follow the tokenizer, False to read texts raw, True to insist on the template.
    include_special: let template and special tokens into the pools (they never are otherwise).
    """

    def __init__(
        self, tokenizer: Any, *, role: str = "assistant", template: bool | None = None, include_special: bool = False
    ) -> None:
        if not tokenizer.is_fast:
            raise SaerayError("the reader's tokenizer has no fast version, which character offsets need")
        self.tokenizer = tokenizer
        self.role = role
        self.template = Template(tokenizer, template)
        self.include_special = include_special
        added = tokenizer.get_added_vocab()
        self._special = {token for token in added if token} | set(tokenizer.all_special_tokens)
        if self.template.enabled:
            self.template.frame((role,))

    def text(self, text: str) -> TokenizedDocument:
        """One text as one turn, pooled into the channel `text`."""
        return self._document([Turn(self.role, text)], single=True)

    def messages(self, turns: Sequence[Turn]) -> TokenizedDocument:
        """A conversation; every role is a channel, its text the role's messages joined by a blank line."""
        if not self.template.enabled:
            raise DocumentError("messages need a reader with a chat template")
        if not turns:
            raise DocumentError("empty: no messages")
        # Templates print roles as they are: one that spells out a turn's end would forge a frame.
        if not all(turn.role.isprintable() and not self._mentions_special(turn.role) for turn in turns):
            raise DocumentError("a message's role is not plain text")
        return self._document(turns, single=False)

    def _document(self, turns: Sequence[Turn], single: bool) -> TokenizedDocument:
        channels = ("text",) if single else tuple(dict.fromkeys(turn.role for turn in turns))
        ids, spans, bodies = self._tokenize(turns)
        owner = np.full(len(ids), -1, np.int32)
        starts = np.zeros(len(ids), np.int32)
        texts = ["" for _ in channels]
        for turn, (begin, end), trimmed in zip(turns, bodies, self._trimmed(turns), strict=True):
            channel = 0 if single else channels.index(turn.role)
            joined = texts[channel] + "\n\n" if texts[channel] else ""
            # Wholly inside: a token that the template has a part in is the template's.
            inside = (spans[:, 0] >= begin) & (spans[:, 1] <= end) & (spans[:, 1] > spans[:, 0])
            owner[inside] = channel
            starts[inside] = spans[inside, 0] - begin + trimmed + len(joined)
            texts[channel] = joined + turn.text
        content = np.flatnonzero(owner >= 0)
        if not len(content):
            raise DocumentError("empty: no tokens")
        head, last = int(content[0]), int(content[-1]) + 1
        if self.include_special:
            # A frame token goes to the channel whose content follows it, as the role's own header does.
            following = np.append(content, content[-1])[np.searchsorted(content, np.arange(len(ids)))]
            starts = np.where(owner < 0, starts[following], starts).astype(np.int32)
            owner, last = owner[following], len(ids)
        owner = owner.copy()
        owner[0] = -1  # position 0 is an attention sink: its residual is some 100 times the size of any other
        if not (owner >= 0).any():
            raise DocumentError("empty: no tokens after the first position")
        return TokenizedDocument(ids[:last], owner[:last], starts[:last], channels, tuple(texts), head)

    def _trimmed(self, turns: Sequence[Turn]) -> list[int]:
        if not self.template.enabled:
            return [0] * len(turns)
        shape = self.template.frame(tuple(turn.role for turn in turns))
        return [shape.offset(i, turn.text) for i, turn in enumerate(turns)]

    def _tokenize(self, turns: Sequence[Turn]) -> tuple[Ints, npt.NDArray[np.int64], list[tuple[int, int]]]:
        """Token ids, their character spans in the rendered text, and the contents' character spans in it."""
        if not self.template.enabled:
            text = turns[0].text
            return *self._encode(text, special=True, split=self._mentions_special(text)), [(0, len(text))]
        shape = self.template.frame(tuple(turn.role for turn in turns))
        text, bodies = shape.render([turn.text for turn in turns])
        if not any(self._mentions_special(turn.text) for turn in turns):
            return *self._encode(text, special=False, split=False), bodies
        # A document that spells out a special token gets its characters, never the token: it must not end its turn.
        ids, spans = [], []
        edges = [0, *(edge for body in bodies for edge in body), len(text)]
        for i, (begin, end) in enumerate(pairwise(edges)):
            part, offsets = self._encode(text[begin:end], special=False, split=i % 2 == 1)
            ids.append(part)
            spans.append(offsets + begin)
        return np.concatenate(ids), np.concatenate(spans), bodies

    def _encode(self, text: str, *, special: bool, split: bool) -> tuple[Ints, npt.NDArray[np.int64]]:
        encoding = self.tokenizer(
            text, add_special_tokens=special, return_offsets_mapping=True, split_special_tokens=split, verbose=False
        )
        offsets = np.array(encoding["offset_mapping"], np.int64).reshape(-1, 2)
        return np.array(encoding["input_ids"], np.int32), offsets

    def _mentions_special(self, text: str) -> bool:
        return any(token in text for token in self._special)


def apply_long_policy(document: TokenizedDocument, policy: LongPolicy, window: int) -> TokenizedDocument:
    """The document as it is, or cut to `window` tokens (`truncate`); raises DocumentError for `skip`."""
    n = len(document.ids)
    if n <= window or policy == "windows":
        return document
    if policy == "skip":
        raise DocumentError(f"longer than the window: {n} tokens, {window} at most")
    kept = document.channel[:window]
    if not (kept >= 0).any():
        raise DocumentError("empty: no tokens inside the window")
    return TokenizedDocument(
        document.ids[:window], kept, document.starts[:window], document.channels, document.texts, document.head, True
    )


def windows(document: TokenizedDocument, window: int, overlap: int) -> list[Window]:
    """Overlapping windows that pool every token exactly once.

    window: most tokens a sequence may have, the repeated head included. overlap: tokens of context before the fresh
    ones.
    """
    n, head = len(document.ids), document.head
    if n <= window:
        return [Window(0, n, 0, 0)]
    step = window - head - overlap
    if step < 1:
        raise DocumentError(f"the frame before the first content is too long for windows of {window} tokens: {head}")
    cuts = [Window(0, window, 0, 0)]
    while cuts[-1].stop < n:
        fresh = cuts[-1].stop
        cuts.append(Window(fresh - overlap, min(fresh + step, n), fresh, head))
    return cuts
