"""Every prompt that saeray sends, in one place, in plain words; a file a purpose.

A change to any of them is a change of what was asked: cached replies to the old one are not found any more, and a test
that holds their digests says so.
"""

from saeray.llm.prompts.comparing import Difference, hypotheses, properties
from saeray.llm.prompts.framing import UNTRUSTED, fence
from saeray.llm.prompts.judging import JUDGE_SCHEMA, VERDICT_SCHEMA, judge, similarity
from saeray.llm.prompts.labelling import LABEL_SCHEMA, Example, kinds_of, label, syntactic
from saeray.llm.prompts.pairing import surprising

__all__ = [
    "JUDGE_SCHEMA",
    "LABEL_SCHEMA",
    "UNTRUSTED",
    "VERDICT_SCHEMA",
    "Difference",
    "Example",
    "fence",
    "hypotheses",
    "judge",
    "kinds_of",
    "label",
    "properties",
    "similarity",
    "surprising",
    "syntactic",
]
