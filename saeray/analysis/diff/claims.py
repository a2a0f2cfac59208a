"""What a finding claims: the part of its name that its plain test asks, and the order in which findings are read.

A label says more than its test: "the word ‘if’ in conditions" is tested as the word alone. What was not tested is no
claim, so it stands apart from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from saeray.analysis.diff.names import Kind, Name, Test
from saeray.labels.groups import LatentGroup
from saeray.labels.surface import index, tests
from saeray.labels.words import printable, quoted

Groups = tuple[LatentGroup, ...]

#: What a list of terms is called, of which a text must have several.
TOGETHER = "words that go together"
#: Words are many and cheap: the findings on form or topic come first unless a word differs twice as much as any.
WORDS_COUNT = 0.5
#: How labels begin that say where a latent peaks, and whose test asks for the words that stand beside or hold it.
BESIDE = ("the word after ", "the word before ", "word part ")


@dataclass(frozen=True)
class Order:
    """The findings of one direction. `standing`: those whose claim holds, by kind, largest difference first; `guesses`:
    differences that no tested name explains; `weak`: what fresh texts did not bear out."""

    standing: tuple[tuple[Kind, Groups], ...]
    guesses: Groups
    weak: Groups

    @property
    def best(self) -> Groups:
        """Those that stand, in the order they are read."""
        return tuple(group for _, groups in self.standing for group in groups)


def by_kind(names: Mapping[LatentGroup, Name]) -> tuple[tuple[Kind, Groups], ...]:
    """Groups by what their names ask for, largest difference first (`Name.told`). A kind goes by its first, that of
    words by half of it."""
    of: dict[Kind, list[LatentGroup]] = {}
    for group in sorted(names, key=lambda group: (-names[group].told, -abs(names[group].gap))):
        of.setdefault(names[group].kind, []).append(group)

    def size(kind: Kind) -> float:
        return names[of[kind][0]].told * (WORDS_COUNT if kind == "words" else 1.0)

    return tuple((kind, tuple(of[kind])) for kind in sorted(of, key=lambda kind: (-size(kind), kind)))


def claim_of(name: Name) -> str:
    """What a name claims; the examples of a form are those that its search finds here ("negation: not, don't, no")."""
    said = claimed(name.text, name.test)[0]
    form, colon, _ = said.partition(": ")
    if colon and name.finds and name.test.get("kind") == "surface" and name.kind != "topic":
        return f"{form}: {', '.join(map(printable, name.finds))}"
    return said


def claimed(text: str, test: Test) -> tuple[str, str]:
    """What the test of a name asks, and what else the name says, "" for nothing: ("the word ‘if’", "mostly in
    conditions")."""
    kind = test.get("kind")
    if kind == "surface":
        return _surface(text, str(test.get("name")))
    if kind == "words" and text.startswith(BESIDE):
        return " or ".join(quoted(test["words"]).rsplit(", ", 1)), f"strongest on {text}"
    if kind == "words":
        setting = next((one for one in _settings() if text.endswith(f" {one}")), "")
        said = text.removesuffix(f" {setting}")
        # A test for words asks for any of them.
        said = said if ":" in said else " or ".join(said.rsplit(", ", 1))
        return said, f"mostly {setting}" if setting else ""
    words, about, terms = text.partition(" in texts about ")
    if about or text.startswith("texts about "):
        # That words stand together is tested, that they make a subject is the reader's to say.
        return f"{TOGETHER}: {terms or text.removeprefix('texts about ')}", f"strongest on {words}" if about else ""
    return text, ""


def _surface(text: str, name: str) -> tuple[str, str]:
    """A topic's own words and the names of languages belong to the claim; peak words and settings do not. What is asked
    is what the test is called now, whatever it was called when the label was made."""
    found = index().get(name)
    if found is None or tests()[found].family in ("topic", "language"):
        return text, ""
    label = tests()[found].label
    if label not in text:
        return label, ""
    before, after = text.split(label, 1)
    where, _, words = after.partition(": ")
    words = before.removesuffix("texts with ").removesuffix(" in ") or words
    seen = [f"strongest on {words}"] if words and words != label else []
    return label, ", ".join([*seen, *([f"mostly {where.strip()}"] if where.strip() else [])])


@cache
def _settings() -> tuple[str, ...]:
    """The settings that follow a word in a label, longest first."""
    return tuple(sorted({test.setting for test in tests() if test.setting}, key=lambda one: (-len(one), one)))
