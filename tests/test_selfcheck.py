"""Guards against wrong latents that come without an error: what the self-check measures, and when it speaks up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_reader_dir, make_sae

from saeray.encoder import Encoder
from saeray.readers.model import Reader, load_tokenizer
from saeray.readers.source import prepare
from saeray.readers.tokens import DocumentTokenizer
from saeray.saes.batchtopk import BatchTopK
from saeray.selfcheck import SelfCheck, self_check

TEXTS = ["The quick brown fox jumps over the lazy dog.", "She sells sea shells by the sea shore. What is the answer?"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, DocumentTokenizer]:
    source = prepare(str(make_reader_dir(tmp_path_factory.mktemp("selfcheck") / "reader")), 2, None)
    return Reader(source, 2), DocumentTokenizer(load_tokenizer(source))


def measured(parts: tuple[Reader, DocumentTokenizer], sae: Any, **published: Any) -> SelfCheck:
    reader, tokenizer = parts
    found = self_check(Encoder(reader, sae), [tokenizer.text(text) for text in TEXTS], published, include_special=False)
    assert found is not None
    return found


def with_decoder(seed: int = 0) -> BatchTopK:
    random = torch.Generator().manual_seed(seed)
    sae = make_sae(d_in=32, architecture="batchtopk")
    return BatchTopK(
        sae.W_enc, sae.b_enc, sae.threshold, W_dec=torch.randn(96, 32, generator=random) / 6, b_dec=torch.zeros(32)
    )


def test_figures_agree_with_a_dense_reference(parts: tuple[Reader, DocumentTokenizer]) -> None:
    """L0, FVU, silence and special tokens' share, counted one token at a time in float64."""
    reader, tokenizer = parts
    sae = with_decoder()
    active, special, residual, rebuilt, fired = [], 0, [], [], set()
    for text in TEXTS:
        document = tokenizer.text(text)
        for vector, channel in zip(reader.residual([document.ids])[0], document.channel, strict=True):
            z = vector.double() @ sae.W_enc.double() + sae.b_enc.double()
            f = torch.where(z > 3.0, z, 0)
            if channel < 0:
                special += int((f > 0).sum())
                continue
            active.append(int((f > 0).sum()))
            fired |= set(torch.nonzero(f).flatten().tolist())
            residual.append(vector.double().numpy())
            rebuilt.append((f @ sae.W_dec.double()).numpy())
    x, y = np.array(residual), np.array(rebuilt)
    found = measured(parts, sae, l0=5)
    assert (found.documents, found.tokens) == (2, len(x))
    assert found.l0 == pytest.approx(np.mean(active))
    assert found.fvu == pytest.approx(((x - y) ** 2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-4)
    assert found.silent_share == pytest.approx(1 - len(fired) / 96)
    assert found.special_share == pytest.approx(special / (special + sum(active)))


def test_an_l0_far_from_the_published_one_is_said_with_its_causes(
    parts: tuple[Reader, DocumentTokenizer],
) -> None:
    """Twice off either way speaks up, as measured is silent, and without a published value only density does."""
    sae = make_sae(d_in=32)
    own = measured(parts, sae).l0
    assert measured(parts, sae, l0=own).warnings == ()
    assert measured(parts, sae).warnings == ()
    for published in (own / 2.1, own * 2.1):
        (warning,) = measured(parts, sae, l0=published).warnings
        assert "published L0" in warning
        assert "hook layer" in warning


def test_a_decoder_that_rebuilds_nothing_is_said(parts: tuple[Reader, DocumentTokenizer]) -> None:
    """A TopK's L0 is always right; what is wrong with it shows in FVU alone."""
    sae = with_decoder()
    assert any("unexplained" in warning for warning in measured(parts, sae).warnings)


def test_nothing_to_read_is_no_check(parts: tuple[Reader, DocumentTokenizer]) -> None:
    """An empty corpus is for planning to speak of."""
    assert self_check(Encoder(parts[0], make_sae(d_in=32)), [], {}, include_special=False) is None


def test_a_document_that_cannot_be_read_is_passed_over(parts: tuple[Reader, DocumentTokenizer]) -> None:
    """One bad document is a reject later on; it must not stop a run before it begins."""
    reader, tokenizer = parts
    bad = replace(tokenizer.text(TEXTS[0]), ids=tokenizer.text(TEXTS[0]).ids + 100_000)
    encoder = Encoder(reader, make_sae(d_in=32))
    found = self_check(encoder, [bad, tokenizer.text(TEXTS[1])], {}, include_special=False)
    alone = self_check(encoder, [tokenizer.text(TEXTS[1])], {}, include_special=False)
    assert found == alone
