"""What `saeray correlate` can be asked, with the defaults and why they are so.

The authors of the method never gave their cut-offs. These were chosen on 9,472 documents of nineteen kinds (chat, news,
code, tweets, ...) read by the embedded encoder; docs/guides/correlate.md has the figures.
"""

from __future__ import annotations

from pydantic import Field

from saeray.analysis.correlate.asking import AskConfig
from saeray.config import CooccurConfig


class CorrelateConfig(CooccurConfig):
    """One `saeray correlate` run; the YAML that `jobs/correlate.py --config` reads."""

    out: str = "correlate"
    # Of 5.1 x 10^8 pairs in 9,472 documents 3.9 million reach 0.28 and 1.8 million 0.35, which leave a third more
    # findings and no more of what was injected.
    floor: float = Field(default=0.35, ge=-1, le=1)
    # False-discovery rate over all pairs in the band. At half a billion pairs a pair that 10 documents share is rarely
    # below 0.05 by Bonferroni, which bounds the chance of a single one.
    q: float = Field(default=0.05, gt=0, le=1)
    # The share of random pairs of labels that are less alike than a pair may be. A pair of unrelated meanings passes
    # with this chance: 0.25 alone lost 8 of 32 injections, and left two thirds of the findings.
    label_quantile: float = Field(default=0.5, gt=0, le=1)
    # Most pairs with an NPMI above 0.4 are two marks of one kind of document, whose documents are alike even where the
    # pair is not: their cosine is above 0.5 in 99 of 100, that of injected pairs between -0.1 and 0.2. At 0.25 twice as
    # many findings remain, and ten injected texts are grouped with others.
    alike: float = Field(default=0.1, ge=-1, le=1)
    same_token: float = Field(default=0.5, gt=0, le=1)  # peaks on the same or next token in this share: one thing
    # The least share of NPMI that is left at equal length: what length alone brings together has none. Asking for the
    # floor there took out all right pairs of 100 injected texts that are short, all in one class of length.
    at_equal_length: float = Field(default=0.5, ge=-1, le=1)
    keep_syntactic: bool = False
    keep_unlabelled: bool = False
    top: int = Field(default=100, ge=1)  # findings
    llm: AskConfig | None = None  # sorts labels and verifies findings; None: by rule, and nothing is asked


#: The filters in the order in which they are applied, as reports name them.
FILTERS = (
    "in the band, with support and NPMI",
    "both latents have a label",
    "neither label is of syntax",
    "labels far apart",
    "q-value over all pairs",
    "peaks on different tokens",
    "documents otherwise unlike",
    "not by length alone",
)
