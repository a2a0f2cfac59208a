"""Is this SAE at home in this reader? A look at a few hundred tokens of the user's own text before the corpus is read.

Wrong latents come without an error: another layer's SAE, a missing activation scale, a TopK read as a ReLU all give
numbers. What tells them is how many latents are active (L0), what the decoder makes of them (FVU), and where they are
active. L0 alone is not enough: for a TopK it is k whatever the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saeray.encoder import Encoder
from saeray.readers.tokens import TokenizedDocument, apply_long_policy

TOKENS, LONGEST = 600, 256  # pooled tokens looked at, and the most of one document: about a second of two cores
# L0 varies with the text: measured 24 to 42 over kinds of text for an SAE whose mean is 32. A wrong layer or scale is
# off by more than twice.
L0_BAND = 2.0
# Text unlike what an SAE was trained on has been seen at twice its FVU; a wrong layer gives 0.8 and more.
FVU_FACTOR, FVU_MOST = 2.5, 0.7
MOST_DENSE = 0.25  # share of all latents active on a token: a threshold lost on the way gives a half
MOST_SPECIAL = 0.5


@dataclass(frozen=True)
class SelfCheck:
    """What was measured, beside what is published (None where it is not).

    l0: mean active latents a pooled token. fvu: fraction of variance unexplained on pooled tokens, None without a
    decoder. silent_share: latents active on none of them (on so few tokens most are: no count of dead ones).
    special_share: share of all firing that falls on template, special and first tokens, pooled or not.
    """

    documents: int
    tokens: int
    l0: float
    published_l0: float | None
    fvu: float | None
    published_fvu: float | None
    silent_share: float
    special_share: float
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}
        return found | {"warnings": list(self.warnings)}


@torch.inference_mode()
def self_check(
    encoder: Encoder, documents: Sequence[TokenizedDocument], published: Mapping[str, Any], *, include_special: bool
) -> SelfCheck | None:
    """Measures the encoder on the first `TOKENS` pooled tokens of `documents`; None when they have none.

    published: `l0` and `fvu` as the checkpoint states them, either may be missing.
    """
    sae = encoder.sae
    active = special = tokens = 0
    error = 0.0
    fired = torch.zeros(sae.d_sae, dtype=torch.bool, device=encoder.reader.device)
    kept: list[Tensor] = []
    used = 0
    for document in documents:
        if tokens >= TOKENS:
            break
        cut = apply_long_policy(document, "truncate", document.head + LONGEST)
        try:
            hidden = encoder.reader.residual([cut.ids])[0, : len(cut.ids)]
        except (RuntimeError, IndexError):  # encoding will say why, of this document or of all
            continue
        pooled = torch.from_numpy(np.flatnonzero(cut.channel >= 0)).to(hidden.device)
        x = hidden[pooled]
        if not torch.isfinite(x).all():
            continue
        f = sae.encode(x)
        on = f > 0
        fired |= on.any(dim=0)
        active += int(on.sum())
        others = torch.from_numpy(np.flatnonzero(cut.channel < 0)).to(hidden.device)
        special += int((sae.encode(hidden[others]) > 0).sum()) if len(others) else 0
        if sae.W_dec is not None:
            target = sae.prepare(x).float()
            error += float((target - sae.decode(f).float()).pow(2).sum())
            kept.append(target)
        tokens += len(x)
        used += 1
    if not tokens:
        return None
    total = torch.cat(kept) if kept else None
    fvu = None if total is None else error / max(float((total - total.mean(0)).pow(2).sum()), 1e-12)
    found = SelfCheck(
        documents=used,
        tokens=tokens,
        l0=active / tokens,
        published_l0=_number(published.get("l0")),
        fvu=fvu,
        published_fvu=_number(published.get("fvu")),
        silent_share=float((~fired).double().mean()),
        special_share=special / max(special + active, 1),
    )
    return SelfCheck(**{**asdict(found), "warnings": tuple(_warnings(found, sae.d_sae, include_special))})


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _warnings(found: SelfCheck, d_sae: int, include_special: bool) -> list[str]:
    """One line for each figure out of its band, with what usually causes it."""
    said = []
    cause = "usually another hook layer or another model than it was trained on, or an activation scale left out"
    if not found.l0:
        said.append(f"no latent is active on any of {found.tokens} tokens: {cause}")
    elif found.published_l0:
        if not 1 / L0_BAND <= found.l0 / found.published_l0 <= L0_BAND:
            said.append(
                f"{found.l0:,.1f} latents are active a token and the SAE's published L0 is {found.published_l0:,.1f}: "
                f"{cause}"
            )
    elif found.l0 > MOST_DENSE * d_sae:
        said.append(f"{found.l0:,.1f} of {d_sae:,} latents are active a token, which is not sparse: {cause}")
    if found.fvu is not None:
        most = min(1.0, max(FVU_FACTOR * found.published_fvu, 0.3)) if found.published_fvu else FVU_MOST
        if found.fvu > most:
            beside = f" (published: {found.published_fvu:.2f})" if found.published_fvu else ""
            said.append(
                f"the SAE leaves {found.fvu:.0%} of the residual stream's variance unexplained{beside}: {cause}"
            )
    if include_special and found.special_share > MOST_SPECIAL:
        said.append(
            f"{found.special_share:.0%} of all firing is on template and special tokens, which this encoder lets into "
            "its pools: leave them out (include_special: false)"
        )
    return said
