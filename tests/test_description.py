"""Promise: only the very files that a store was claimed with encode into it, and knowing so costs no second digest."""

import hashlib
import shutil

import pytest
from safetensors.torch import load_file, save_file
from tiny import make_encoder_yaml, make_sae

from saeray import description
from saeray.config import encoder_config
from saeray.description import claimed_encoder, claimed_tokenizer, describe
from saeray.errors import ChangedFiles, SaerayError
from saeray.saes import save_sae

FIRST, LAST = "model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"
IS_ANOTHER = "is not the one that the store was claimed with: {} not what it was; put that back and run again, or use"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("made")
    make_encoder_yaml(directory)
    return directory


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """The reader and SAE of an encoder, in this test's own directories, and a node that has seen none of them."""
    monkeypatch.setenv("SAERAY_CACHE", str(tmp_path / "cache"))
    for name in ("reader", "sae"):
        shutil.copytree(made / name, tmp_path / name)
    yaml = (made / "encoder.yaml").read_text().replace(str(made), str(tmp_path))
    (tmp_path / "encoder.yaml").write_text(yaml)
    return tmp_path


@pytest.fixture
def config(place):
    return encoder_config(str(place / "encoder.yaml"))


def change_weights(path):
    """Other numbers in a file of the same size, put in its place by renaming."""
    state = load_file(path)
    name = max(state, key=lambda key: state[key].numel())
    state[name] = state[name] + 1
    save_file(state, path.with_suffix(".new"), metadata={"format": "pt"})
    path.with_suffix(".new").replace(path)


def change_sae(path):
    """The SAE of another seed, of the same shapes."""
    save_sae(make_sae(d_in=32, seed=1), str(path.parent), metadata={"model_name": "tiny"}, decoder=False)


def change_text(path):
    path.write_text(path.read_text() + "\n")


CHANGES = {
    "weights": (f"reader/{FIRST}", change_weights, f"{FIRST} is"),
    "configuration": ("reader/config.json", change_text, "config.json is"),
    "tokenizer": ("reader/tokenizer.json", change_text, "tokenizer.json is"),
    "template": ("reader/chat_template.jinja", change_text, "chat_template.jinja is"),
    "a tokenizer file more": ("reader/added_tokens.json", lambda path: path.write_text("{}"), "added_tokens.json is"),
    "SAE": ("sae/sae_weights.safetensors", change_sae, "its weights or its configuration are"),
    "SAE's configuration": ("sae/cfg.json", change_text, "its weights or its configuration are"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_file_is_refused_before_anything_loads(config, place, monkeypatch, case):
    """Weights, configuration, tokenizer, template and SAE: one line that names what changed and the mend."""
    file, change, named = CHANGES[case]
    claimed = describe(config)
    change(place / file)
    monkeypatch.setattr(description, "encoder_of", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ChangedFiles) as caught:
        claimed_encoder(claimed, config, "cpu")
    line = str(caught.value)
    assert IS_ANOTHER.format(named) in line
    assert str(place / file.split("/")[0]) in line
    assert "\n" not in line


@pytest.mark.parametrize("case", ["weights", "SAE"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_changes_while_it_is_loaded_is_refused(config, place, monkeypatch, case, packed):
    """Between the digest and the last tensor lie minutes: what was loaded may be half of one and half of the other."""
    file, change, named = CHANGES[case]
    claimed = describe(config)
    real = description.encoder_of

    def load(*args, **reading):
        change(place / file)
        return real(*args, **reading)

    monkeypatch.setattr(description, "encoder_of", load)
    with pytest.raises(ChangedFiles, match="claimed with: " + named):
        claimed_encoder(claimed, config, "cpu", packed=packed)


def test_what_is_no_part_of_the_claim_may_change(config, place):
    """Blocks past the hook layer and what lies beside the checkpoint decide no row."""
    claimed = describe(config)
    change_weights(place / "reader" / LAST)
    (place / "reader" / "README.md").write_text("news")
    (place / "sae" / "README.md").write_text("news")
    assert claimed_encoder(claimed, config, "cpu").reader.d_in == 32
    claimed_tokenizer(claimed, config)


@pytest.mark.parametrize("case", ["configuration", "tokenizer", "template", "a tokenizer file more"])
def test_a_tokenizer_of_other_files_is_refused(config, place, case):
    """It would give other token ids to the very same reader."""
    file, change, named = CHANGES[case]
    claimed = describe(config)
    assert claimed_tokenizer(claimed, config).text("What is the answer?").ids.tolist()
    change(place / file)
    with pytest.raises(ChangedFiles, match="claimed with: " + named):
        claimed_tokenizer(claimed, config)


def test_a_tokenizer_needs_no_weights(config, place):
    """A node that only tokenizes need not have them, and they are not looked at."""
    claimed = describe(config)
    for file in (place / "reader").glob("*.safetensors"):
        file.unlink()
    claimed_tokenizer(claimed, config)
    with pytest.raises(SaerayError, match=f"lacks {FIRST}"):
        claimed_encoder(claimed, config, "cpu")


def test_a_node_makes_each_digest_once(config, monkeypatch):
    """The claim and every worker after it: no byte is read for a digest twice, of 90 GB or of an SAE of 4 GB."""
    made = []
    file_digest, sae_digest = hashlib.file_digest, description.sae_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: (made.append(file.name), file_digest(file, kind))[1])
    monkeypatch.setattr(description, "sae_digest", lambda path: (made.append(path), sae_digest(path))[1])
    claimed = describe(config)
    expected = [*claimed["reader"]["files"], "sae"]
    assert sorted(str(path).rsplit("/", 1)[-1] for path in made) == sorted(expected)
    for _ in range(2):
        claimed_encoder(claimed, config, "cpu")
        claimed_tokenizer(claimed, config)
        assert describe(config) == claimed
    assert len(made) == len(expected)


def test_the_claim_names_the_sae_by_its_plain_digest(config):
    """What is noted for a node is what reading the files gives, so stores of earlier runs stay theirs."""
    for _ in range(2):
        assert describe(config)["sae"]["sha256"] == description.sae_digest(config.sae.path)
