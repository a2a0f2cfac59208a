"""What regular expressions can tell of a text, a kind of them a file, in the order of the columns of measures."""

from saeray.labels.patterns.base import Pattern, Spans
from saeray.labels.patterns.code import CODE
from saeray.labels.patterns.kinds import KINDS
from saeray.labels.patterns.markdown import MARKDOWN
from saeray.labels.patterns.marks import MARKS
from saeray.labels.patterns.maths import MATHS
from saeray.labels.patterns.said import SAID
from saeray.labels.patterns.web import WEB

__all__ = ["PATTERNS", "Pattern", "Spans"]

PATTERNS: tuple[Pattern, ...] = (*CODE, *MARKDOWN, *MATHS, *MARKS, *WEB, *SAID, *KINDS)
