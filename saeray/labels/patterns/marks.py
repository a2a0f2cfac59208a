"""Punctuation: quotations, parentheses, dashes, and where a sentence stops."""

from __future__ import annotations

from saeray.labels.patterns.base import Pattern

MARKS = (
    Pattern("question", "questions", "in a question", r"[^.!?\n]*\?", 1, ("?", "？")),
    Pattern("question_mark", "question marks", "", r"\?", 1, ("?",)),
    Pattern("exclamation", "exclamation marks", "in an exclamation", r"[^.!?\n]*!", 1, ("!",)),
    Pattern("many_exclamations", "text full of exclamation marks", "", r"!", 4, ("!",)),
    Pattern("ellipsis", "ellipses, trailing off with dots", "before an ellipsis", r"\w*\s?(?:\.\.+|…)", 1, ("..", "…")),
    Pattern("parenthesis", "text in parentheses", "in parentheses", r"\([^()\n]{2,120}\)?", 1, ("(",)),
    Pattern("bracket", "square brackets", "in square brackets", r"\[[^\]\n]{0,80}\]", 1, ("[",)),
    Pattern("semicolon", "semicolons", "", r";", 1, (";",)),
    Pattern("colon", "colons", "", r":", 1, (":",)),
    Pattern("before_colon", "last word before a colon", "before a colon", r"[\w*)\]]+(?=:)", 1, (":",), spot=True),
    Pattern("before_comma", "word before a comma", "before a comma", r"\w+(?=,)", 1, (",",), spot=True),
    Pattern(
        "before_stop",
        "last word of a sentence",
        "at the end of a sentence",
        r"[^\W\d]\w*(?=[.!?](?:\s|$))",
        1,
        (".", "!", "?"),
        spot=True,
    ),
    # Not the bullets of a list, indented or not, nor rules and the lines of tables.
    Pattern(
        "dash",
        "dashes between words",
        "",
        r"(?<=[^\s*•|:–—-]) (?:[-–—]|--) (?=[^\s|–—-])|(?<=[^\s|–—-])(?:—|--)(?=[^\s|–—-])",
        1,
        ("-", "–", "—"),
    ),
    Pattern(
        "hyphenated", "hyphenated compounds", "in hyphenated compounds", r"\b[A-Za-z]+(?:-[A-Za-z]+)+\b", 1, ("-",)
    ),
    Pattern("slash", "words joined by a slash", "", r"\b[A-Za-z]+/[A-Za-z]+\b", 1, ("/",)),
    Pattern(
        "quotation",
        "text in quotation marks",
        "in a quotation",
        r"[\"“][^\"”\n]{2,400}[\"”]|``[^`\n]{2,400}''|(?<!\w)[‘'][A-Z][^'\n]{6,200}[,.!?]['’]",
        1,
        ('"', "“", "``", "'", "‘"),
    ),
    Pattern(
        "dialogue",
        "dialogue with quoted speech",
        "in dialogue",
        r"[,.!?]['’”\"]+ (?:[a-z]+ ){0,3}(?:said|asked|replied|cried|answered|he|she|I)\b|^[\"“]",
        2,
        ('"', "”", "'", "’", "“"),
    ),
    Pattern(
        "scare_quote",
        "single words in quotation marks",
        "in quotation marks",
        r"[\"“‘'](?:[A-Za-z-]+ ?){1,3}[\"”’'](?!\w)",
        1,
        ('"', "“", "‘", "'"),
    ),
    Pattern("possessive", "possessives with apostrophe s", "", r"\w+['’]s\b", 1, ("'", "’")),
    Pattern(
        "contraction",
        "contractions: don't, I'm, it's",
        "",
        r"\b\w+(?:n['’]t|['’](?:re|ve|ll|m|d))\b|\b(?i:it|that|there|here|what|who|he|she|how|where|let)['’]s\b",
        1,
        ("'", "’"),
    ),
    Pattern("spaced_marks", "punctuation set apart by spaces", "", r"\w [,.!?;:] ", 3, (" ,", " .", " ?", " !")),
    Pattern("initials", "initials and abbreviations such as U.S. or J. K.", "", r"\b[A-Z]\.(?: ?[A-Z]\.)*", 1, (".",)),
    Pattern(
        "enumeration",
        "series of items with commas and a final and",
        "in a series of items",
        r"\b\w+(?:, \w+(?: \w+)?){1,6},? (?:and|or) \w+",
        1,
        (",",),
    ),
)
