"""Markdown: headings, lists, tables, emphasis, links."""

from __future__ import annotations

from saeray.labels.patterns.base import Pattern

MARKDOWN = (
    Pattern(
        "markdown_table", "Markdown tables", "in a Markdown table", r"^ *\|.*\|.*$|^[^|\n]+\|[^|\n]+\|.*$", 2, ("|",)
    ),
    Pattern("markdown_bold", "bold text in Markdown", "in bold", r"\*\*[^*\n]+\*\*|__[^_\n]+__", 1, ("**", "__")),
    Pattern(
        "markdown_italic",
        "emphasis with single asterisks or underscores",
        "in emphasis",
        r"(?<![\w*])\*[^*\s][^*\n]*\*(?![\w*])|(?<![\w_])_[^_\s][^_\n]*_(?![\w_])",
        1,
        ("*", "_"),
    ),
    Pattern("markdown_heading", "section headings in Markdown", "in a heading", r"^#{1,6} .+$", 1, ("# ",)),
    Pattern("bullet_list", "bulleted lists", "in a bulleted list", r"^[ \t]*[-*•+] +\S.*$", 2, ("- ", "* ", "•", "+ ")),
    Pattern(
        "bullet_mark",
        "bullets at the start of list items",
        "",
        r"^[ \t]*[-*•+] +\S+",
        2,
        ("- ", "* ", "•", "+ "),
        spot=True,
    ),
    Pattern(
        "numbered_list",
        "numbered lists, numbered steps",
        "in a numbered list",
        r"^[ \t]*\d{1,2}[.)] +\S.*$",
        2,
        (". ", ") "),
    ),
    Pattern("number_mark", "numbers at the start of list items", "", r"^[ \t]*\d{1,2}[.)]", 2, (".", ")"), spot=True),
    Pattern(
        "item_first_word",
        "first word of a list item",
        "at the start of a list item",
        r"^[ \t]*(?:[-*•+]|\d{1,2}[.)]) +(\S+)",
        2,
        ("- ", "* ", "• ", ". "),
        spot=True,
    ),
    Pattern("block_quote", "block quotations in Markdown", "in a block quotation", r"^> .*$", 1, ("> ",)),
    Pattern("markdown_link", "links in Markdown", "in a link", r"\[[^\]\n]+\]\([^)\n]+\)", 1, ("](",)),
    Pattern(
        "horizontal_rule",
        "rule lines of dashes or equals signs",
        "",
        r"^ *[-=_*~]{4,} *$",
        1,
        ("----", "====", "____", "****", "~~~~"),
    ),
    Pattern(
        "title_heading",
        "wiki-style headings with equals signs",
        "in a wiki heading",
        r"^ *=+ [^=\n]+ =+ *$",
        1,
        (" =",),
    ),
    Pattern(
        "short_label",
        "labels with a colon at the start of a line",
        "before a colon",
        r"^[ *#\w-]{0,3}[A-Z][\w ]{1,28}(?=:)",
        2,
        (":",),
    ),
)
