"""Many findings into few statements: in batches that fit a prompt, whose statements are merged until one prompt holds
them all. Whatever is left out on the way is counted, with why.

The reference implementation skips a batch whose call fails. Here its findings are named as missing: a diff that lost a
quarter of its latents to a full server must not look like one that found little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from saeray.llm import Client, Progress
from saeray.llm.prompts import Difference
from saeray.llm.prompts import hypotheses as ask

Source = Literal["detectors", "readers", "statements"]

#: Findings in one prompt, as in the reference implementation.
BATCH = 50
#: Most statements of one batch, so that two batches always become fewer than they were.
MOST_A_BATCH = 25
# Why a finding is in no statement.
NOT_TAKEN, REFUSED, UNMERGED = (
    "taken up in no statement",
    "only in statements that were refused",
    "their statement was not taken up when statements were merged",
)
NO_NUMBER, NUMBERS, TWICE = "rests on no number that exists", "numbers that do not exist", "said twice"


@dataclass(frozen=True)
class Statement:
    """A statement and the items (their numbers) that it rests on."""

    text: str
    reason: str
    numbers: tuple[int, ...]


@dataclass
class Gathered:
    """`statements`, largest first as the model put them. `refused`: why -> how many statements; `lost`: why -> the
    numbers of the items that are in no statement. Every item is in a statement or lost."""

    statements: list[Statement] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lost: dict[str, list[int]] = field(default_factory=dict)

    def lose(self, why: str, numbers: Sequence[int]) -> None:
        """Notes that items are in no statement."""
        if numbers:
            self.lost.setdefault(why, []).extend(numbers)


@dataclass(frozen=True)
class Asking:
    """Who is asked, for what, and in which stage of the ledger. refuse: says why a statement is of no use. thinking:
    most tokens of thought before an answer; None leaves it to the service, whose thoughts then count as output."""

    client: Client
    model: str
    refuse: Callable[[str], str | None]
    question: str = ""
    stage: str = "propose"
    thinking: int | None = 0
    on_progress: Callable[[Progress], None] | None = None


def gather(
    items: Sequence[Difference],
    most: int,
    asking: Asking,
    *,
    source: Source = "detectors",
    batches: Sequence[Sequence[Difference]] | None = None,
) -> Gathered:
    """At most `most` statements of `items`, whose numbers tell them apart. batches: how they are dealt in the first
    round, by default in equal parts of at most BATCH. Raises what the client raises."""
    found = Gathered()
    if not items or most < 1:
        found.lose(NOT_TAKEN, [one.number for one in items])
        return found
    parts = [list(batch) for batch in batches or _split(items) if batch]
    found.statements = _round(parts, _asked(most, parts), asking, source, found)
    found.lose(*_left([one.number for one in items], found, NOT_TAKEN))
    alone = len(parts) == 1
    while not alone and found.statements:
        pool = found.statements
        parts = _split(_as_items(pool, items))
        found.statements = _round(parts, _asked(most, parts), asking, "statements", found, pool)
        alone = len(parts) == 1 or len(found.statements) >= len(pool)
        found.lose(*_left([number for one in pool for number in one.numbers], found, UNMERGED))
    cut, found.statements = found.statements[most:], found.statements[:most]
    found.lose(*_left([number for one in cut for number in one.numbers], found, UNMERGED))
    kept = {number for one in found.statements for number in one.numbers}
    found.lost = {why: sorted(set(numbers) - kept) for why, numbers in found.lost.items() if set(numbers) - kept}
    found.refused = +found.refused
    return found


def told(parts: Sequence[Sequence[Difference]], most: int, asking: Asking, source: Source) -> Gathered:
    """At most `most` statements of each part, which are not merged with those of other parts."""
    found = Gathered()
    found.statements = _round(parts, most, asking, source, found)
    found.lose(*_left([one.number for part in parts for one in part], found, NOT_TAKEN))
    found.refused = +found.refused
    return found


def _round(
    parts: Sequence[Sequence[Difference]],
    most: int,
    asking: Asking,
    source: Source,
    found: Gathered,
    pool: Sequence[Statement] | None = None,
) -> list[Statement]:
    """One call a part. pool: the statements that the parts are made of, from 1; those of a part whose call comes to
    nothing stay as they are, strongest first, since they are paid for."""
    options: dict[str, Any] = {"most": most, "question": asking.question, "source": source}
    requests = [ask(asking.model, part, **options, thinking_budget=asking.thinking) for part in parts]
    replies = asking.client.complete_many(requests, asking.stage, asking.on_progress)
    statements: list[Statement] = []
    for part, reply in zip(parts, replies, strict=True):
        under = {one.number: (one.number,) if pool is None else pool[one.number - 1].numbers for one in part}
        if reply.missing is None:
            statements += _read(reply.value["hypotheses"][:most], under, asking, found)
        elif pool is None:
            found.lose(f"the call for their batch came to nothing ({reply.missing})", list(under))
        else:
            found.refused[f"not merged, the call came to nothing ({reply.missing})"] += len(part)
            statements += [pool[one.number - 1] for one in sorted(part, key=_size, reverse=True)]
    return _once(statements, found)


def _read(
    values: Sequence[Any], under: Mapping[int, tuple[int, ...]], asking: Asking, found: Gathered
) -> list[Statement]:
    """The statements of one reply that are of use. under: number in the prompt -> the items it stands for."""
    statements = []
    for value in values:
        text, named = " ".join(value["statement"].split()), dict.fromkeys(int(one) for one in value["numbers"])
        known = [number for number in named if number in under]
        numbers = tuple(dict.fromkeys(item for number in known for item in under[number]))
        found.refused[NUMBERS] += len(named) - len(known)
        why = asking.refuse(text) or (None if numbers else NO_NUMBER)
        if why is None:
            statements.append(Statement(text, " ".join(value["reason"].split()), numbers))
        else:
            found.refused[why] += 1
            found.lose(*_left(numbers, found, REFUSED))
    return statements


def _once(statements: Sequence[Statement], found: Gathered) -> list[Statement]:
    """Equal statements as one, with the items of all."""
    kept: dict[str, Statement] = {}
    for one in statements:
        key = one.text.lower().rstrip(".")
        if key in kept:
            found.refused[TWICE] += 1
            one = replace(kept[key], numbers=tuple(dict.fromkeys((*kept[key].numbers, *one.numbers))))
        kept[key] = one
    return list(kept.values())


def _left(numbers: Sequence[int], found: Gathered, why: str) -> tuple[str, list[int]]:
    """Those of `numbers` that are in no statement and that nothing else was said of."""
    known = {number for one in found.statements for number in one.numbers}
    known |= {number for lost in found.lost.values() for number in lost}
    return why, [number for number in dict.fromkeys(numbers) if number not in known]


def _as_items(statements: Sequence[Statement], items: Sequence[Difference]) -> list[Difference]:
    """Statements to be merged, from 1, each with the shares of the strongest item it rests on."""
    of = {one.number: one for one in items}
    led = [max((of[number] for number in one.numbers), key=_size) for one in statements]
    return [
        Difference(place, one.text, lead.target, lead.others)
        for place, (one, lead) in enumerate(zip(statements, led, strict=True), start=1)
    ]


def _asked(most: int, parts: Sequence[Any]) -> int:
    return most if len(parts) == 1 else min(most, MOST_A_BATCH)


def _size(one: Difference) -> float:
    return -1.0 if one.target is None or one.others is None else abs(one.target - one.others)


def _split(items: Sequence[Difference]) -> list[list[Difference]]:
    """Parts of like size, at most BATCH each; the strongest are dealt over all of them."""
    n = -(-len(items) // BATCH)
    return [list(items[start::n]) for start in range(n)]
