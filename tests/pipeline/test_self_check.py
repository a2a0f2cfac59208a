"""Guards that an encode run looks at its SAE first: warned of and kept with the dataset, or refused under strict."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
from runs import dataset_of, encode_config, files_below
from tiny import encoder_yaml, make_sae_dir

from saeray.errors import SaerayError
from saeray.pipeline.encode import encode

pytestmark = pytest.mark.usefixtures("ray_address")


@pytest.fixture
def far_off(encoder: Path, tmp_path: Path) -> Path:
    """An encoder whose SAE publishes an L0 that it is nowhere near."""
    sae = make_sae_dir(tmp_path / "sae", d_in=32)
    config = json.loads((sae / "cfg.json").read_text())
    config["metadata"]["l0"] = 0.5
    (sae / "cfg.json").write_text(json.dumps(config))
    return encoder_yaml(tmp_path / "far_off.yaml", encoder.parent / "reader", sae)


def test_an_sae_out_of_its_band_is_warned_of_or_refused(
    texts: Path, far_off: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Strict leaves nothing behind; otherwise the figures are kept, and a later strict run goes by them."""
    small = tmp_path / "in"
    small.mkdir()
    shutil.copy(texts / "a.jsonl", small)
    store = tmp_path / "store"
    with pytest.raises(SaerayError, match=r"published L0 is 0\.5.*without --strict"):
        encode(encode_config(small, store, far_off, strict=True))
    assert files_below(store) == {}

    with caplog.at_level(logging.WARNING):
        result = encode(encode_config(small, store, far_off))
    assert "published L0 is 0.5" in caplog.text
    assert result.encoded == result.shards
    kept = dataset_of(store).self_check()
    assert kept == result.self_check
    assert kept["published_l0"] == 0.5
    assert kept["l0"] > 1
    assert 0 < kept["special_share"] < 1
    with pytest.raises(SaerayError, match="published L0"):
        encode(encode_config(small, store, far_off, strict=True))


def test_an_sae_in_its_band_passes_a_strict_run(undisturbed_store: Path) -> None:
    """The run that made this store was one."""
    kept = dataset_of(undisturbed_store).self_check()
    assert kept is not None
    assert kept["warnings"] == []
