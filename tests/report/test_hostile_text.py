"""Promise: whatever a document, a name, a label or a statement holds, the page shows it and obeys none of it."""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser

import pytest
from diff_results import halved, result, with_hypotheses
from hypothesis import given
from hypothesis import strategies as st

from saeray.analysis.evidence import Evidence, Example
from saeray.analysis.excerpt import Excerpt
from saeray.report.page import card, document, made, section
from saeray.report.text import marked, name, visible

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title><script>alert(1)</script>",
    "</style><svg/onload=alert(1)>",
    "</script><script>alert(1)</script>",
    "</td></tr></table></details><script>",
    "<!-- --> ]]> &lt;b&gt; &#60;",
    "left \u202ethgir ot\u202c \u2066x\u2069 \u200f",
    "NUL \x00 bell \x07 escape \x1b[31m del \x7f c1 \x9b",
    "half \ud800 of a pair",
    "hidden \U000e0041\U000e0042 \ufeff \u200b \xad text",
    "עברית العربية 👩\u200d👩\u200d👧 e\u0301",
    "a" * 5000,
]
VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails on an element that is not closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.words = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes |= {(key, value) for key, value in attrs}
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open):
            self.words += data


def page_of(text: str) -> str:
    example = Example(text, 1.0, Excerpt(text, text, text))
    row = {"latent": 7, "label": text}
    facts = {"saeray": "0", "store": text, "fingerprint": text, "d_sae": 9}
    body = [section(name(text), card(row, Evidence((example,), ((text, 1.0),)), "1")), made([(text, text)], facts)]
    return document(text, body)


def diff_of(text: str) -> str:
    """A diff's page that holds `text` in every place that comes from outside."""
    made = with_hypotheses(halved(result(text=text), "key"), text)
    sides = [{**one, "name": f"d:model={text}{i}"} for i, one in enumerate(made.sides)]
    used = {**made.parameters, "pair_on": text, "halves_by": text}
    facts = {**made.made_with, "command": text, "store": text}
    found = result(
        text=text, sides=sides, parameters=used, made_with=facts, hypotheses=made.hypotheses, design=made.design
    )
    found = replace(found, beside={7: (Example(text, 0.0, Excerpt(text, "", text)), None)})
    unnamed = replace(found, names=result(found=False).names)
    return found.page() + unnamed.page()


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_text_becomes_markup_in_a_diff(text):
    html = diff_of(text)
    html.encode()
    page, plain = Page(html), Page(diff_of("plain"))
    assert page.elements <= plain.elements | {"i"}
    assert {key for key, _ in page.attributes} <= {key for key, _ in plain.attributes} | {"class"}
    acting = [
        c for c in html if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\u200f"
    ]
    assert acting == []


@pytest.mark.parametrize("text", ["plain", "</script><script>alert(1)</script>"])
def test_the_one_script_of_a_page_is_the_one_that_its_policy_names(text):
    html = diff_of(text)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == html.count("<script") == 2, "one a page"
    assert "alert(1)" not in "".join(scripts)
    for script in scripts:
        named = b64encode(sha256(script.encode()).digest()).decode()
        assert html.count(f"script-src 'sha256-{named}'") == 2
    for policy in re.findall(r'Content-Security-Policy" content="([^"]+)"', html):
        assert policy.startswith("default-src 'none'")
        assert "unsafe-inline" not in policy.split("script-src")[1]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_text_becomes_markup(text):
    html = page_of(text)
    html.encode()
    page, plain = Page(html), Page(page_of("plain"))
    assert page.elements <= plain.elements | {"i"}
    assert page.attributes <= plain.attributes | {("class", "u")}


@pytest.mark.parametrize("text", HOSTILE)
def test_no_character_that_acts_unseen_is_left(text):
    html = page_of(text)
    acting = [
        c for c in html if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\u200f"
    ]
    assert acting == []
    assert not any(0xD800 <= ord(c) < 0xE000 for c in html)


def test_what_acts_unseen_is_shown_by_its_number():
    assert visible("a\u202eb\x00") == 'a<i class="u">U+202E</i>b<i class="u">U+0000</i>'
    assert visible("👩\u200d👧 עב") == "👩\u200d👧 עב", "joiners and right-to-left letters are text"


@given(st.text())
def test_text_survives_escaping(text):
    shown = visible(text)
    shown.encode()
    assert "<" not in shown.replace('<i class="u">', "").replace("</i>", "")
    if '<i class="u">' not in shown:
        assert unescape(shown) == text or "\r" in text or "\x0c" in text


def test_the_mark_is_on_the_token_and_never_empty():
    assert "The<mark>cat</mark> sat" not in marked(Excerpt("The", " cat", " sat"))
    assert "The <mark>cat</mark> sat" in marked(Excerpt("The", " cat", " sat"))
    several = Excerpt("A cat and ", "a <b>", " cat", also=((2, 5), (13, 99), (16, 19)))
    assert "A <mark>cat</mark> and <mark>a &lt;b&gt;</mark> <mark>cat</mark></blockquote>" in marked(several)
    assert "end.<mark>↵↵</mark>Next …" in marked(Excerpt("end.", "\n\n", "Next", cut_right=True))


def test_the_page_forbids_itself_scripts_and_requests():
    html = page_of("x")
    assert "default-src 'none'" in html
    for fetched in ("src=", "href=", "url(", "@import", "http://", "https://"):
        assert fetched not in html
