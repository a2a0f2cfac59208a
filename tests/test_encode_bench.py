"""Promise: the bench of the encoder refuses what it does not measure, before it measures anything."""

import sys
from pathlib import Path

import pytest
from tiny import make_encoder_yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

import encode


@pytest.mark.parametrize(
    ("dtype", "message"), [("fp8", r"gpu_encode\.py --dtype fp8"), ("float32", "give --reference-documents 0")]
)
def test_what_is_not_measured_is_one_line(tmp_path, monkeypatch, dtype, message):
    """Eight bits, which a CPU only emulates; the reference's loop for a reader that it cannot load."""
    monkeypatch.setattr(sys, "argv", ["encode.py", "--encoder", str(make_encoder_yaml(tmp_path, dtype=dtype))])
    with pytest.raises(SystemExit, match=message):
        encode.main()
