"""From what is known of a latent to the few words that a person reads: what it is, where, and of what kind.

The name that tells best where the latent is active wins (balanced accuracy on documents that proposed nothing), with a
bonus for what is true at the peak itself: that a document is in French explains a peak on a French word, but a peak on
"hope" in a cover letter is about "hope".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from saeray.labels.languages import SMALL_WORDS
from saeray.labels.surface import SurfaceTest
from saeray.labels.words import MARKS, grouped, named, quoted, stem

#: Active proposing documents below which there is no label, and below which a label is only what was seen.
FEWEST, SUPPORT = 4, 8
#: Active documents for a claim about documents that nothing at the peak supports.
ENOUGH = 16
#: Bonus for what holds at every peak, in points of balanced accuracy.
AT_PEAK = 0.25
#: The same for terms that stand near the peak: what they have in common is for the reader to find.
NEAR = 0.15
#: What a test that holds in the document but not at the peak loses.
ELSEWHERE = 0.06
#: Chosen words that cover less of the peaks than this do not name the latent by themselves.
COVERED = 0.4
#: A setting is told when it holds at this share of the peaks and this many times as often as at all latents' peaks.
SETTING_SHARE, SETTING_LIFT = 0.7, 3.0
#: A label whose test is no better than this, and whose word covers less than half of the peaks, is unclear.
UNCLEAR = 0.6
#: The same for words that cover less than COVERED: of 8 such labels read by hand 6 were wrong.
SCATTERED = 0.66

Listed = list[tuple[str, float, float]]


@dataclass(frozen=True)
class Held:
    """A surface test and a latent: balanced accuracy `ba` on choosing documents; `active` and `silent`: the shares of
    such proposing documents that have it; `sure`: their balanced accuracy less three standard errors, for the best of
    300 tests is high by chance; `spot`: the share of peaks inside it; `base`: that of all latents' peaks."""

    test: SurfaceTest
    ba: float
    active: float
    silent: float
    sure: float
    spot: float
    base: float

    @property
    def lift(self) -> float:
        return self.spot / max(self.base, 0.003)

    @property
    def at_peak(self) -> bool:
        return self.spot >= SETTING_SHARE and self.lift >= SETTING_LIFT


@dataclass(frozen=True)
class Seen:
    """One latent: `words`, `before`, `after`, `terms`, `near` as (word, share, weight), most weight first; `ba`:
    balanced accuracy on choosing documents of the candidates "words", "phrase", "terms", "near"; `tokens`: the peak
    tokens with their shares; `inside_word`: the share of peaks that begin inside a word."""

    n_active: int
    words: Listed = field(default_factory=list)
    before: Listed = field(default_factory=list)
    after: Listed = field(default_factory=list)
    phrase: tuple[str, float] = ("", 0.0)
    terms: Listed = field(default_factory=list)
    near: Listed = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    ba: dict[str, float] = field(default_factory=dict)
    tokens: list[tuple[str, float]] = field(default_factory=list)
    inside_word: float = 0.0
    position: float = 0.5


@dataclass(frozen=True)
class Named:
    """A label: its `text`, its `kind` (form, word, topic, position, unclear) and the `test` that predicts with it."""

    text: str
    kind: str
    test: dict[str, Any]


def chosen_words(listed: Listed, most: int = 4) -> list[tuple[str, float]]:
    """The words to name a latent by: of different stems, most share first, none under 6% or a fifth of the first."""
    groups = grouped([(word, share) for word, share, _ in listed])
    return [(word, share) for word, share in groups if share >= max(0.06, 0.2 * groups[0][1])][:most]


def chosen_terms(listed: Listed, most: int = 6) -> list[str]:
    """Terms of different stems, most weight first."""
    return [word for word, _ in grouped([(word, said) for word, _, said in listed])][:most]


def name(seen: Seen) -> Named | None:
    """The label of a latent, or None below FEWEST active documents."""
    if seen.n_active < FEWEST:
        return None
    words = chosen_words(seen.words)
    coverage = sum(share for _, share in words)
    terms, near = seen.ba.get("terms", 0.5), seen.ba.get("near", 0.5)
    options: list[tuple[float, str]] = [
        (seen.ba.get("words", 0.5) + AT_PEAK * coverage, "words"),
        (seen.ba.get("phrase", 0.5) + AT_PEAK * seen.phrase[1] + 0.03 if seen.phrase[0] else 0.0, "phrase"),
        (max(terms, near) + NEAR * _mean_share(seen.near) if max(terms, near) >= 0.6 else 0.0, "terms"),
    ]
    form = best_form(seen)
    if form:
        options.append((form_score(form), "form"))
    _, best = max(options)
    tested = form.ba if best == "form" and form else max(terms, near) if best == "terms" else seen.ba.get(best, 0.5)
    if coverage < COVERED and best in ("words", "phrase") and (part := _around(seen, words)):
        return part
    if seen.n_active < SUPPORT or (tested < UNCLEAR and coverage < 0.5 and not (form and form.at_peak)):
        return _unclear(seen, words)
    if best == "words" and coverage < COVERED and tested < SCATTERED:
        return _unclear(seen, words)
    if best == "phrase":
        return Named(_in_setting(named(seen.phrase[0]), seen), "word", _words_test([seen.phrase[0]]))
    if best == "words":
        return _word(seen, words, coverage)
    if best == "terms":
        return _topic(seen, words, coverage)
    assert form is not None
    return _form(seen, form, words, coverage)


def _around(seen: Seen, words: list[tuple[str, float]]) -> Named | None:
    """What the peaks share when their words differ: a part of the word or a neighbour of it; None if nothing."""
    known = {w for w, _, _ in seen.words}
    pieces = [(t, share) for t, share in seen.tokens if share >= 0.12 and t.isalnum() and t not in known][:3]
    if sum(share for _, share in pieces) >= COVERED:
        holders = [w for w, _, _ in seen.words if any(t in w for t, _ in pieces)][:3]
        shown = f"word part {quoted([t for t, _ in pieces])}" + (f" as in {quoted(holders)}" if holders else "")
        return Named(shown, "word", _words_test(holders) if holders else {"kind": "none"})
    for listed, where in ((seen.before, "after"), (seen.after, "before")):
        if listed and listed[0][1] >= 0.5:
            shown = f"the word {where} {named(listed[0][0])}"
            shown += f": {quoted([w for w, _ in words[:3]])}" if words else ""
            return Named(_in_setting(shown, seen), "word", _words_test([listed[0][0]]))
    return None


def best_form(seen: Seen) -> Held | None:
    """The surface test that explains the latent best: by balanced accuracy and by holding at the peak."""
    able = [
        h
        for h in seen.held
        if (h.at_peak and h.ba >= 0.52)
        or (seen.n_active >= ENOUGH and h.sure > 0.55 and h.ba >= 0.65 and not h.test.spot)
    ]
    return max(able, key=form_score, default=None)


def form_score(held: Held) -> float:
    """Comparable with other candidates: balanced accuracy, and the bonus for what is more at peaks than elsewhere."""
    if held.test.family in ("shape", "topic"):
        return held.ba + 0.02
    bonus = AT_PEAK * (held.spot - held.base) * min(1.0, held.lift / SETTING_LIFT)
    return held.ba + max(0.0, bonus) - (0.0 if held.at_peak else ELSEWHERE)


def setting_of(seen: Seen) -> str:
    """Where the peaks stand, in words that follow a word ("in Python code"); '' when nothing is clear."""
    able = [h for h in seen.held if h.test.setting and h.at_peak]
    best = max(able, key=lambda h: (h.spot - h.base) * h.lift**0.25, default=None)
    if best:
        return best.test.setting
    whole = [
        h for h in seen.held if h.test.setting and h.active >= 0.75 and h.silent <= 0.15 and h.test.family != "manner"
    ]
    best = max(whole, key=lambda h: h.active - h.silent, default=None)
    return best.test.setting if best else ""


def _word(seen: Seen, words: list[tuple[str, float]], coverage: float) -> Named:
    test = _words_test(forms_of(seen.words, words))
    shown = quoted([w for w, _ in words])
    if coverage < 0.35:
        shown += " and the like"
    meaning = _meaning(seen, words)
    if meaning:
        return Named(f"{meaning}: {shown}", "word", test)
    if len(words) == 1 and words[0][0] not in MARKS:
        shown = f"the word {shown}" if words[0][0][0].isalpha() else shown
    return Named(_in_setting(shown, seen), "word", test)


def _meaning(seen: Seen, words: list[tuple[str, float]]) -> str:
    """The list of words that the peaks are from, when there are several words and one list holds nearly all."""
    if len(words) < 2:
        return ""
    able = [h for h in seen.held if h.test.family == "manner" and h.spot >= 0.75 and h.lift >= 4]
    best = max(able, key=lambda h: h.spot * h.lift**0.25, default=None)
    return best.test.label.split(":")[0] if best else ""


def _in_setting(shown: str, seen: Seen) -> str:
    where = setting_of(seen)
    if where and not (where.startswith("after") or shown.strip("‘’") in where):
        return f"{shown} {where}"
    near = chosen_terms([t for t in seen.near if t[1] >= 0.12 and f"‘{t[0]}’" not in shown], 3)
    topic = max((h for h in seen.held if h.test.family == "topic" and h.ba >= 0.65), key=lambda h: h.ba, default=None)
    if topic and topic.test.setting:
        return f"{shown} {topic.test.setting}"
    return f"{shown} near {', '.join(near)}" if near else shown


def _topic(seen: Seen, words: list[tuple[str, float]], coverage: float) -> Named:
    listed = seen.near if seen.ba.get("near", 0.5) > seen.ba.get("terms", 0.5) else seen.terms
    terms = chosen_terms(listed)
    test = {"kind": "terms", "terms": [w for w, _, _ in listed], "least": 2}
    topic = max((h for h in seen.held if h.test.family == "topic" and h.ba >= 0.65), key=lambda h: h.ba, default=None)
    shown = (
        f"{topic.test.label.split(':')[0]}: {', '.join(terms[:4])}" if topic else f"texts about {', '.join(terms[:4])}"
    )
    # A comma in texts about the sea tells nothing of the sea.
    told = [w for w, _ in words[:2] if w not in MARKS and w not in SMALL_WORDS]
    if coverage >= 0.35 and told:
        shown = f"{quoted(told)} in {shown}" if not topic else f"{shown}; ‘{told[0]}’"
    return Named(shown, "topic", test)


def _form(seen: Seen, form: Held, words: list[tuple[str, float]], coverage: float) -> Named:
    test = {"kind": "surface", "name": form.test.name}
    kind = (
        "topic"
        if form.test.family == "topic"
        else "position"
        if form.test.spot and form.test.name != "capitalised"
        else "form"
    )
    label = form.test.label
    if form.test.name == "language_not_english":
        label = _languages(seen) or label
    # What holds in the document alone is where the peaks are, not what they are.
    around = form.test.family not in ("shape",) and not form.at_peak and kind == "form"
    if around:
        whole = label.startswith(("text", "a ", "opens", "closes", "refuses")) or label.endswith(" text")
        label = label if whole else f"texts with {label}"
    where = ""
    if form.at_peak and not form.test.spot and form.test.family != "language":
        others = [
            h for h in seen.held if h.at_peak and h.test.setting and h.test.name != form.test.name and h.lift >= 4
        ]
        best = max(others, key=lambda h: h.spot - h.base, default=None)
        where = f" {best.test.setting}" if best and best.test.setting != form.test.setting else ""
    if (coverage >= 0.4 or form.test.name == "number") and ":" not in label:
        common = [w for w, share in words if share >= 0.12][:3] or [w for w, share in seen.tokens if share >= 0.3]
        label = f"{quoted(common)} in {label}" if common and around else label + where
        label = f"{label}: {quoted(common)}" if common and not around else label
    elif kind == "topic":
        label = f"{label.split(':')[0]}: {', '.join(chosen_terms(seen.terms)[:4])}"
    else:
        label += where
    return Named(label, kind, test)


def _languages(seen: Seen) -> str:
    """Text in several languages, those that most peaks are in named; '' when none stands out."""
    able = [h for h in seen.held if h.test.family == "language" and h.test.setting and h.spot >= 0.08]
    names = [h.test.setting.removeprefix("in ").removesuffix(" text") for h in sorted(able, key=lambda h: -h.spot)]
    if len(names) > 1 and sum(h.spot for h in able) >= SETTING_SHARE:
        return f"text in {', '.join(names[:-1])} or {names[-1]}"
    return f"text in other languages, such as {', '.join(names[:3])}" if names else ""


def _unclear(seen: Seen, words: list[tuple[str, float]]) -> Named:
    """What was seen, without a claim."""
    at = f"unclear, seen at {quoted([w for w, _ in words[:3]])}" if words else "unclear"
    near = chosen_terms([t for t in seen.near if t[1] >= 0.1], 3)
    test = _words_test(forms_of(seen.words, words)) if words else {"kind": "none"}
    return Named(f"{at} near {', '.join(near)}" if near else at, "unclear", test)


def forms_of(listed: Listed, words: list[tuple[str, float]]) -> list[str]:
    """The chosen words with the other forms of their stems that were seen."""
    stems = {stem(word) for word, _ in words}
    return [word for word, _, _ in listed if stem(word) in stems]


def _words_test(words: list[str]) -> dict[str, Any]:
    return {"kind": "words", "words": words}


def _mean_share(listed: Listed) -> float:
    best = [share for _, share, _ in listed[:3]]
    return sum(best) / len(best) if best else 0.0
