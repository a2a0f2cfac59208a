"""Set phrases: what an assistant says to open, refuse, hedge and close."""

from __future__ import annotations

from saeray.labels.patterns.base import Pattern, said

SAID = (
    said(
        "refusal",
        "refuses or says it is unable to do the task",
        "in refusals",
        r"\bI(?:'m| am)? (?:sorry|unable|not able|cannot|can['’]t|apologi[sz]e|won['’]t)\b|\bcannot (?:help"
        r"|assist|provide)|\bI don['’]t (?:have|feel)",
        ("I ", "I'm", "annot", "i "),
    ),
    said(
        "ai_self",
        "says that it is an AI language model",
        "where an AI speaks of itself",
        r"\b(?:as )?an AI\b|\bAI (?:language )?model|language model\b",
        ("AI", "language model"),
    ),
    said(
        "open_affirm",
        "opens with an affirmation such as Sure or Certainly",
        "in an affirmative opening",
        r"\A\W*(?:sure|certainly|of course|absolutely|yes|definitely|great|okay|i['’]d be happy)\b.{0,60}",
    ),
    said(
        "open_here",
        "opens with Here is or Here are",
        "in an opening with Here is",
        r"\A\W*here(?: is| are|['’]s)\b.{0,60}",
    ),
    said(
        "close_offer",
        "closes by offering more help",
        "in a closing offer of help",
        r"let me know\b.*|feel free to\b.*|\bhope (?:this|that|it) helps\b.*|any (?:other|more|further)"
        r" questions.*|happy to help.*|if you (?:need|have) any.*",
        ("et me", "eel free", "ope ", "ny ", "appy", "f you"),
    ),
    Pattern("ends_question", "ends with a question", "", r"[^.!?\n]*\?[\"'”’)\s]*\Z", 1, ("?",), flags=0),
    said(
        "greeting",
        "greetings: hello, hi, dear",
        "in a greeting",
        r"\b(?:hello|hi there|hi|hey|dear|good (?:morning|evening|afternoon)|welcome to)\b",
    ),
    said("thanks", "thanks", "in thanks", r"\bthank(?:s| you)\b", ("hank",)),
    said(
        "letter_close",
        "letter sign-offs: sincerely, regards",
        "",
        r"\b(?:sincerely|best regards|kind regards|yours (?:truly|faithfully)|warm regards|\[your name\])",
        ("incerely", "egards", "ours ", "our name"),
    ),
    said(
        "self_correction",
        "second thoughts: wait, actually, hmm",
        "in second thoughts",
        r"\b(?:wait|actually|hmm+|let me (?:re|check|think)|on second thought|no,|oops|i mean)\b",
    ),
    said(
        "step_by_step",
        "step-by-step reasoning",
        "in step-by-step reasoning",
        r"\bstep \d|\bfirst(?:ly)?,|\bsecond(?:ly)?,|\bnext,|\bthen,? we\b|\btherefore\b|\bfinally,|step by step",
        (),
        2,
    ),
    said(
        "conclusion",
        "conclusions and summaries",
        "in a conclusion",
        r"\bin (?:conclusion|summary|short)\b|\bto (?:sum up|summari[sz]e|conclude)\b|\boverall\b|\bultimately\b",
    ),
    said(
        "opinion",
        "personal opinions: I think, in my view",
        "in opinions",
        r"\bI (?:think|believe|feel|guess|suppose|agree|disagree)\b|\bin my (?:opinion|view)\b|\bIMHO\b|\bpersonally\b",
    ),
    said(
        "wish_plan",
        "intentions: going to, want to, would like",
        "",
        r"\b(?:going to|want to|wants to|plan to|would like to|decided to|try to|trying to)\b",
    ),
    said("conditional", "conditions: if, unless", "in conditions", r"\b(?:if|unless|provided that|in case|whether)\b"),
    said(
        "purpose",
        "purpose: in order to, so that",
        "",
        r"\b(?:in order to|so that|so as to|for the purpose of|aims? to|designed to)\b",
    ),
    said(
        "such_as",
        "examples after such as",
        "after ‘such as’",
        r"\b(?:such as|including|for example,|for instance,|e\.g\.,?)(?: \w+,?){1,4}",
    ),
    said(
        "passive", "passive voice", "", r"\b(?:is|was|were|are|been|be|being) \w+(?:ed|en|wn)\b", ("ed", "en", "wn"), 2
    ),
    said(
        "past_tense",
        "past-tense narration",
        "",
        r"\b(?:was|were|had|did|\w{3,}ed|went|came|said|saw|took|made|got|knew|felt|told)\b",
        (),
        8,
    ),
    said("progressive", "verbs in -ing", "", r"\b\w{3,}ing\b", ("ing",), 3),
    said("adverb", "adverbs in -ly", "", r"\b\w{3,}ly\b", ("ly",), 2),
    said(
        "superlative",
        "superlatives",
        "",
        r"\b(?:the )?(?:most|least|best|worst|\w{3,}est)\b",
        ("est", "most", "least", "worst"),
    ),
    said(
        "imperative_start",
        "commands and instructions",
        "in instructions",
        r"(?:^|[.:!] |^[ \t]*(?:\d+[.)]|[-*•]) *)(?:use|make|try|add|take|get|keep|be|write|create|find|go|look"
        r"|give|let|put|set|choose|consider|do not|don't|remember|ensure|check|place|mix|stir|click|run|open|see"
        r"|start|avoid|include)\b",
    ),
)
