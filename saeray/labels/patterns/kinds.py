"""Kinds of document: what a letter, a recipe or a licence gives itself away by."""

from __future__ import annotations

from saeray.labels.patterns.base import Pattern, said

KINDS = (
    said(
        "prompt_request",
        "requests or instructions to an assistant",
        "in a request",
        r"\A\W*(?:write|give|explain|describe|create|generate|list|make|tell|suggest|what|how|can you|please|find"
        r"|identify|design|summari[sz]e|rewrite|translate|classify)\b.{0,80}",
    ),
    Pattern(
        "citation",
        "scholarly citations such as et al. or [1]",
        "in citations",
        r"\bet al\b\.?|\[\d+(?:[,–-] ?\d+)*\]|\([A-Z]\w+(?: (?:and|&) \w+| et al\.?)?,? \d{4}\w?(?:[;,][^)]*)?\)",
        1,
        ("et al", "[", "("),
    ),
    said(
        "academic",
        "academic abstracts, scientific papers",
        "in scientific papers",
        r"\bwe (?:show|propose|present|study|find|demonstrate|investigate|consider|prove|derive|report)\b|\bin"
        r" this (?:paper|work|study)\b|\b(?:results|analysis|experiments?) (?:show|suggest|indicate|were)\b"
        r"|\bprevious(?:ly)? (?:stud|work|report|described)|\bet al\b",
        (),
        2,
    ),
    said(
        "legal",
        "legal boilerplate",
        "in legal boilerplate",
        r"\b(?:hereby|herein|thereof|pursuant|notwithstanding|hereinafter|therein|the parties|set forth|in"
        r" accordance with|liable|indemnif\w+|warrant(?:y|ies)|shall not|terms of (?:service|use))\b",
        (),
        2,
    ),
    said(
        "news_report",
        "news reports",
        "in news reports",
        r"\bsaid (?:on )?(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b(?:told|according to) (?:the"
        r" )?(?:[A-Z]\w+|reporters|officials)|\((?:AP|Reuters|CNN|AFP)\)|\bspokes(?:man|woman|person)\b"
        r"|\bofficials said\b|\bhe said\b|\bsays (?:he|she|the)\b",
    ),
    Pattern(
        "dateline",
        "news datelines such as LONDON (Reuters) -",
        "in a news dateline",
        r"^[A-Z][A-Za-z., ]{2,30}\((?:AP|Reuters|CNN|AFP|Reuters)\)|^[A-Z]{3,}[A-Z., ]* (?:--|-|—|–) ",
        1,
        ("(", "-", "—", "–"),
    ),
    said(
        "speech",
        "political speeches to citizens",
        "in political speeches",
        r"\bmy fellow|\bfellow[ -]citizens\b|\bour (?:nation|country|people|government)\b|\bthe congress\b|\bmr\."
        r" (?:speaker|president)|\bamerican people\b",
        (),
        2,
    ),
    said(
        "biography",
        "biographies: born, died, career",
        "in biographies",
        r"\b(?:was )?born (?:in|on|at)\b|\bdied (?:in|on|at)\b|\bhe (?:was|became|attended|graduated|served)\b"
        r"|\bshe (?:was|became|attended|graduated|served)\b|\(\d{4} ?[-–] ?\d{4}\)",
        (),
        2,
    ),
    said(
        "story_opening",
        "stories: once upon a time",
        "in stories",
        r"\bonce upon a time\b|\bthere (?:was|lived|once)\b|\bone (?:day|night|morning)\b|\bhappily ever\b"
        r"|\bsuddenly\b",
    ),
    said(
        "word_problem",
        "maths word problems",
        "in maths word problems",
        r"\bhow (?:many|much)\b|\bin total\b|\b(?:altogether|each|twice|half) (?:as|of|the|day|week)\b|\b\d+"
        r" (?:more|less|fewer|times)\b|\bthe answer is\b",
        (),
        2,
    ),
    said(
        "recipe",
        "cooking recipes",
        "in recipes",
        r"\b\d+(?:/\d+)? (?:cups?|tablespoons?|teaspoons?|tbsp|tsp|ounces?|oz|cloves?|minutes|grams?|g|ml)\b"
        r"|\bpreheat\b|\bserves \d",
        ("cup", "spoon", "tsp", "oz", "ounce", "clove", "minute", "gram", " g ", "ml", "reheat", "erve"),
        3,
    ),
    said(
        "definition",
        "definitions: is a, refers to, known as",
        "in definitions",
        r"\b(?:is|are) (?:an?|the) (?:type|kind|form|process|method|term|way|set|group)\b|\brefers? to\b"
        r"|\b(?:also )?(?:known|referred to|defined) as\b|\bmeans (?:that|the|to)\b",
    ),
    said(
        "sports_score",
        "match results and scores",
        "in match reports",
        r"\b\d{1,3}[-–]\d{1,3}\b.{0,40}\b(?:win|victory|loss|lead|defeat|draw|over)\b|\b(?:beat|defeated|scored"
        r"|won)\b.{0,40}\b\d",
    ),
    said(
        "thread_reply",
        "forum or mailing-list posts",
        "in forum posts",
        r"\bin article\b|\bwrites:|\bwrote:|\bposted\b|\bnewsgroup|\bhas anyone\b|\bdoes anyone\b|\bthanks in"
        r" advance\b|\banybody\b",
    ),
    said(
        "bug_report",
        "software bug reports",
        "in bug reports",
        r"\bbug\b|\bcrash(?:es|ed)?\b|\bdoes(?:n't| not) work\b|\bfix(?:ed)?\b|\berror\b|\bbroken\b",
        (),
        2,
    ),
    said(
        "license_header",
        "copyright and licence notices in source files",
        "in licence notices",
        r"\bcopyright\b|\blicensed under\b|\ball rights reserved\b|apache license|spdx-",
        ("opyright", "icense", "ights reserved", "SPDX"),
    ),
    said(
        "verse",
        "poems, verse or song lyrics in short lines",
        "in poems",
        r"^[A-Z'\"“][^\n.]{10,45}[,;!?.]?\n(?=[A-Z'\"“][^\n.]{10,45}[,;!?.]?\n)",
        ("\n",),
        3,
    ),
)
