"""Mathematics and numbers: formulas, units, dates, sums."""

from __future__ import annotations

from saeray.labels.patterns.base import Pattern

MATHS = (
    Pattern(
        "latex",
        "LaTeX mathematics",
        "in LaTeX",
        r"\$[^$\n]*[\\^_{}=][^$\n]*\$|\\(?:frac|sqrt|begin|end|alpha|beta|sum|int|text|left|cdot|times|mathbf"
        r"|mathrm|mathcal|phi|lambda|mu|gamma|sigma|pi)\b|\\[\[\](]",
        1,
        ("\\", "$"),
    ),
    Pattern(
        "equation",
        "equations and arithmetic",
        "in equations",
        r"\d\s*[-+*/×÷x^]\s*\$?\d[^\n]{0,30}?=|=\s*\$?\d|\b[a-z] ?= ?[-\d]",
        1,
        ("=",),
    ),
    Pattern("number", "numbers in digits", "", r"\d[\d.,]*", 3),
    Pattern("big_number", "large numbers with thousands separators", "", r"\b\d{1,3}(?:,\d{3})+\b", 1, (",",)),
    Pattern("decimal", "decimal numbers", "", r"\b\d+\.\d+\b", 1, (".",)),
    Pattern(
        "fraction_ratio",
        "fractions, ratios and scores such as 3/4 or 2-1",
        "",
        r"\b\d{1,3}[/:-]\d{1,3}\b",
        1,
        ("/", ":", "-"),
    ),
    Pattern("year", "years such as 1999", "", r"\b(?:1[5-9]\d\d|20\d\d)s?\b", 1, ("1", "2")),
    Pattern(
        "date",
        "dates",
        "in dates",
        r"\b\d{1,2}(?:st|nd|rd|th)? (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w*|\b(?:Jan|Feb|Mar|Apr"
        r"|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\w*\.? \d{1,2}\b|\b\d{4}-\d\d-\d\d\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b",
    ),
    Pattern("clock", "clock times", "", r"\b\d{1,2}:\d\d\b|\b\d{1,2} ?[ap]\.?m\b", 1, (":", "m")),
    Pattern(
        "currency",
        "amounts of money",
        "in amounts of money",
        r"[$£€¥₦] ?\d[\d.,]*(?: ?(?:million|billion|bn|m|k)\b)?|\b\d[\d.,]{0,12} (?:dollars|euros|pounds|cents)\b",
        1,
        ("$", "£", "€", "¥", "₦", "dollar", "euro", "pound", "cents"),
    ),
    Pattern("percent", "percentages", "", r"\d(?:\.\d+)? ?(?:%|percent|per cent)", 1, ("%", "per")),
    Pattern(
        "units_of_measure",
        "measurements with units",
        "",
        r"\b\d[\d.,]{0,12} ?(?:km|kg|cm|mm|m|g|mph|ft|feet|inches|miles|degrees|°C|°F|hours|minutes|metres|meters"
        r"|kilometres|GB|MB|Hz|ml)\b",
    ),
    Pattern("ordinal", "ordinal numbers such as 19th", "", r"\b\d+(?:st|nd|rd|th)\b", 1, ("st", "nd", "rd", "th")),
    Pattern(
        "multiple_choice",
        "multiple-choice options A, B, C, D",
        "in multiple-choice options",
        r"(?:^|[\s,'\"(\[])[A-E][).]\s?\S",
        3,
        (")", "."),
        joined=True,
    ),
)
