"""Surface tests: each finds what its name says, where it is, and nothing in plain prose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saeray.labels import surface
from saeray.labels.units import BREAK, units

PLAIN = "The old house stood near the water. People walked along the bank and talked of small matters."
FOUND = {
    "language_french": "Le chien est dans la maison et il ne veut pas sortir avec les enfants.",
    "language_german": "Der Hund ist nicht in dem Haus und wir haben auch keine Zeit für die Katze.",
    "language_spanish": "El perro está en la casa y no quiere salir con los niños porque es muy tarde.",
    "language_italian": "Il cane è nella casa e non vuole uscire con i bambini perché sono tutti della scuola.",
    "language_portuguese": "O cão não está na casa e também não quer sair com os meninos do bairro.",
    "language_dutch": "De hond is niet in het huis en wij zijn ook naar de stad gegaan met een vriend.",
    "language_turkish": "Bu köpek evde değil ve çok güzel bir gün olarak daha sonra gelecek gibi.",
    "language_vietnamese": "Con chó không ở trong nhà và những người này đã đi với các bạn của tôi.",
    "language_swahili": "Mbwa huyo wa mtoto ni katika nyumba ya watu na kwa hiyo hii ni habari za leo.",
    "language_romanian": "Câinele nu este în casă și copiii sunt la școală pentru că este o zi de lucru.",
    "language_polish": "Pies nie jest w domu, bo dzieci są w szkole i tak się bawią przez cały dzień oraz noc.",
    "language_nigerian_pidgin": "Di pipol dem dey vex sey goment no wan do wetin dem tok for di meeting.",
    "language_hausa": "Wannan ya ce kuma shi ne yana cikin gari da kasar mu, amma sun ce ba su san shi ba.",
    "language_yoruba": "Àwọn ọmọ náà ń lọ sí ilé ìwé láti kọ́ ẹ̀kọ́, wọ́n sì fún wọn ní ìwé gbogbo tí ó wà nínú rẹ̀.",
    "language_russian": "Собака не в доме, а дети в школе.",
    "language_greek": "Ο σκύλος δεν είναι στο σπίτι.",
    "language_arabic": "الكلب ليس في البيت",
    "language_hebrew": "הכלב לא נמצא בבית",
    "language_thai": "สุนัขไม่อยู่ในบ้าน",
    "language_hindi": "कुत्ता घर में नहीं है",
    "language_chinese": "狗不在房子里。",
    "language_japanese": "犬は家にいません。",
    "language_korean": "개는 집에 없습니다.",
    "language_not_english": "Le chien est dans la maison et il ne veut pas sortir avec les enfants.",
    "language_switch": PLAIN + " Le chien est dans la maison et il ne veut pas sortir avec les enfants de la ville.",
    "code_python": "import os\n\ndef run(self):\n    return self.x\n",
    "code_java": "public static void main(String[] args) {\n  System.out.println(new Thing(1));\n}\nprivate int x;",
    "code_rust": 'fn main() {\n    let mut x = Vec::new();\n    println!("{}", x);\n}',
    "code_javascript": "const x = 1;\nfunction go() { console.log(x === 2); }",
    "code_c": '#include <stdio.h>\nint main() { printf("x"); std::cout << 1; }',
    "code_sql": "SELECT name FROM users WHERE id = 3;",
    "code_html": "<div class='x'><p>hello</p></div>",
    "code_shell": "$ cd src\npip install thing\ngit clone x\n",
    "code_yaml": "name: x\nkind: y\nspec:\n  a: 1\n  b: 2\n  c: 3\n",
    "code_json": '{"a": 1, "b": 2, "c": 3, "d": 4}',
    "markdown_table": "| a | b |\n|---|---|\n| 1 | 2 |",
    "markdown_bold": "this is **bold** text",
    "markdown_heading": "# Title\n\ntext",
    "bullet_list": "- one\n- two\n- three",
    "numbered_list": "1. one\n2. two\n3. three",
    "code_block": "see\n```\nx = 1\n```\n",
    "markdown_link": "see [here](http://x.y)",
    "block_quote": "> said he\n\nyes",
    "latex": "so $x_1^2 + y$ holds",
    "equation": "3 + 4 = 7",
    "year": "it was in 1987",
    "date": "on 4 March and July 5",
    "currency": "it costs $45.20",
    "percent": "about 45% of them",
    "url": "go to https://a.b/c",
    "email": "write to a.b@c.org",
    "mention": "hello @user",
    "hashtag": "so nice #blessed",
    "emoji": "so nice 😀",
    "all_caps": "THIS IS LOUD",
    "no_capitals": "all of this is written in lower case only",
    "quotation": 'he said "this will not do" and left',
    "dialogue": '"I see," said Tom.\n"You do," she replied.',
    "question": "Where is it?",
    "exclamation": "Stop that!",
    "ellipsis": "well... perhaps",
    "parenthesis": "the house (an old one) stood",
    "semicolon": "it stood; it fell",
    "dash": "it stood -- and fell",
    "first_person": "I went to my house",
    "second_person": "you and your house",
    "hedging": "it might perhaps rain",
    "apologies": "I apologize, sorry",
    "refusal": "I'm sorry, but I cannot help with that.",
    "ai_self": "As an AI language model I have none.",
    "open_here": "Here are the words you asked for",
    "open_affirm": "Sure! Here is a list of words",
    "close_offer": "Let me know if you need more.",
    "greeting": "Hello there, friend",
    "thanks": "thank you for it",
    "insults": "you idiot",
    "profanity": "this is bullshit",
    "archaic": "thou hast thy reward",
    "slang": "gonna be fun lol",
    "contraction": "I don't know",
    "past_tense": "He walked and talked and looked and smiled and turned and waited and listened and laughed.",
    "positive": "a wonderful day",
    "negative": "a terrible day",
    "reasoning": "therefore it holds",
    "step_by_step": "First, we add them. Then we stop. Therefore it is so.",
    "self_correction": "Wait, that is wrong",
    "legal": "the parties hereby agree pursuant to this, notwithstanding all",
    "citation": "as shown (Smith et al., 2004) and [12]",
    "dateline": "LONDON (Reuters) - Shares fell",
    "very_short": "hello there",
    "topic_sports": "the team won the game this season when the coach scored",
    "topic_space": "the telescope saw a planet and a star in orbit",
    "multiple_choice": "Options: A) one, B) two, C) three, D) four",
    "speaker_turns": "Human: hi\nAssistant: hello\nHuman: bye",
    "repetition": "this is the same line again and again. " * 30,
}


def has(text: str) -> set[str]:
    amount = surface.measure(units(text)).amount
    return {test.name for test, value in zip(surface.tests(), amount, strict=True) if value >= 1}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_finds_its_own(name):
    """Each test holds in a text made to have the property."""
    assert name in has(FOUND[name])


def test_plain_prose_is_plain():
    """Ordinary prose is no code, no markup, no other language, no topic."""
    found = has(PLAIN)
    assert not [n for n in found if n.startswith(("code_", "markdown_", "language_", "topic_"))]
    assert not found & {"refusal", "ai_self", "emoji", "url", "question", "profanity", "insults", "latex", "citation"}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("dash", "We left – late as ever – and sang", True),
        ("dash", "We left—late as ever—and sang", True),
        ("dash", "**Answer:**\n  - one\n    - two\n - three", False),
        ("dash", "Title\n-----\n| a | b |\n| --- | -- |\n\n---\n", False),
        ("open_affirm", "Here are the words you asked for", False),
        ("open_affirm", "Yes, here are the words", True),
        ("open_here", "Here’s a list", True),
        ("open_here", "Sure! Here is a list", False),
    ],
)
def test_a_search_finds_what_its_name_says_and_not_its_likes(name, text, expected):
    """A bullet is no dash between clauses, and Here is no affirmation: a page prints these names as claims."""
    assert (name in has(text)) is expected


def test_place_inside_a_span():
    """A place in bold is in bold and the word after it is not; the same for a table row and for one French sentence."""
    text = units("this is **very bold** text")
    inside = surface.measure(text).inside(text.starts)[:, surface.index()["markdown_bold"]]
    assert [w for w, held in zip(text.words, inside, strict=True) if held] == ["**", "very", "bold", "**"]


def test_switch_marks_only_the_other_language():
    """In a text that switches, English words far from the border are not in the French span."""
    text = units(FOUND["language_switch"])
    inside = surface.measure(text).inside(text.starts)[:, surface.index()["language_french"]]
    assert not inside[:8].any()
    assert inside[-8:].all()


def test_names_are_unique_and_described():
    """Every test has a name of its own and a label of words that a person could search for."""
    names = [test.name for test in surface.tests()]
    assert len(set(names)) == len(names)
    assert all(len(test.label) > 3 and test.label.strip() == test.label for test in surface.tests())


def test_measuring_one_is_measuring_all():
    """Asked for one property only, the answer is the one of all together."""
    for name, text in FOUND.items():
        whole = surface.measure(units(text)).amount[surface.index()[name]]
        assert surface.measure(units(text), frozenset([name])).amount[surface.index()[name]] == pytest.approx(whole)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_measured(text):
    """No text breaks the tests; spans lie in the text (its end included) and amounts are finite."""
    cut = units(text)
    found = surface.measure(cut)
    assert np.isfinite(found.amount).all()
    assert all(0 <= a <= b <= len(text) + 1 for spans in found.spans.values() for a, b in spans)
    assert found.inside(cut.starts).shape == (len(cut.words), len(surface.tests()))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_units_are_the_text(text):
    """Units stand in order, do not overlap, and leave out nothing but space; a line break is one of them."""
    cut = units(text)
    assert (cut.starts[1:] >= cut.ends[:-1]).all()
    assert (cut.ends > cut.starts).all()
    for word, a, b in zip(cut.words, cut.starts.tolist(), cut.ends.tolist(), strict=True):
        assert text[a:b] == word or (word == BREAK and "\n" in text[a:b])
    covered = np.zeros(len(text), bool)
    for a, b in zip(cut.starts, cut.ends, strict=True):
        covered[a:b] = True
    assert all(text[i].isspace() for i in np.flatnonzero(~covered))


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [("I apologize", 4, "apologize"), ("a  b", 1, "b"), ("don't", 3, "don't"), ("好的", 1, "的")],
)
def test_unit_at_a_place(text, place, word):
    """A token that begins inside a word, or at the space before it, is that word."""
    cut = units(text)
    assert cut.words[int(cut.at(np.array([place], np.int32))[0])] == word


def test_hostile_length_is_quick():
    """Long runs of one character, as logs have, do not make a pattern backtrack for minutes."""
    for piece in (
        "a",
        "# ",
        "|",
        "1,",
        "A. ",
        " ",
        "\n",
        "(",
        "_a",
        "-",
        "x@",
        "/a",
        '" ',
        "A: ",
        "[",
        ":\n ",
        "$ a ",
        "'A",
    ):
        surface.measure(units(piece * (12_000 // len(piece))))
