"""Promise: a reader in object storage is the reader it would be on a local disk, copied once a node and no more of it
than is needed.
"""

import json
import os
from pathlib import Path

import fsspec
import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import encoder_yaml, make_reader_dir, make_sae_dir

from saeray.config import EncoderConfig, encoder_config
from saeray.description import describe
from saeray.errors import SaerayError
from saeray.loading import encoder_of, sae_path, source_of, tokenizer_of
from saeray.readers import storage
from saeray.readers.model import Reader
from saeray.readers.source import cache_directory, prepare
from saeray.readers.storage import copy_from_storage, prepare_from_storage
from saeray.saes.load import inspect_sae, sae_digest

pytestmark = pytest.mark.usefixtures("own_cache")
LAYER = 1
LAST = "model-00003-of-00003.safetensors"  # its blocks come after the hook layer


def upload(directory, base):
    """The directory's files under a prefix of an in-memory object store."""
    store = fsspec.filesystem("memory")
    for file in directory.iterdir():
        store.pipe_file(f"/{base}/{file.name}", file.read_bytes())
    return f"memory://{base}"


@pytest.fixture
def remote(directory, tmp_path):
    yield upload(directory, tmp_path.name)
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def copied():
    """Names of the files on the node, as they were called in storage."""
    return sorted(file.name.split("-", 1)[1] for file in (cache_directory() / "shards").glob("*.safetensors"))


@pytest.mark.parametrize("model", ["remote", "remote/"])
def test_the_same_reader_as_on_a_disk(directory, remote, model):
    """Digests, tensors and residual vectors are those of the local directory; the last shard stays where it is."""
    expected = prepare(str(directory), LAYER)
    found = prepare_from_storage(model.replace("remote", remote), LAYER)
    assert found.digests == expected.digests
    assert found.tensors.keys() == expected.tensors.keys()
    ids = [np.arange(3, 60), np.arange(9, 12)]
    assert torch.equal(Reader(found, LAYER).residual(ids), Reader(expected, LAYER).residual(ids))
    files = {path.name for path in expected.tensors.values()}
    assert copied() == sorted(files)
    assert LAST not in files


def test_the_node_has_one_copy(remote, monkeypatch):
    """Whoever comes second finds every file there and asks storage for none of their bytes."""
    first = prepare_from_storage(remote, LAYER)
    monkeypatch.setattr(storage, "_ask", lambda *_: pytest.fail("read again"))
    assert prepare_from_storage(remote, LAYER) == first


def test_changed_weights_are_another_reader(directory, remote, tmp_path):
    """A file that changes in storage is copied again, into a directory of its own: the reader that runs keeps its."""
    before = prepare_from_storage(remote, LAYER)
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in directory.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    name = "model-00001-of-00003.safetensors"
    state = load_file(changed / name)
    state["model.embed_tokens.weight"] += 1
    save_file(state, changed / name, metadata={"format": "pt"})
    upload(changed, tmp_path.name)
    after = prepare_from_storage(remote, LAYER)
    assert after.directory != before.directory
    assert [key for key in before.digests if before.digests[key] != after.digests[key]] == [name]
    assert before.digests == prepare(str(directory), LAYER).digests


def test_one_file_without_an_index(tmp_path):
    """A small reader in a single file is read too."""
    directory = make_reader_dir(tmp_path / "reader", shards=1)
    found = prepare_from_storage(upload(directory, f"{tmp_path.name}-single"), LAYER)
    assert found.digests == prepare(str(directory), LAYER).digests


def spoil_index(file):
    def spoil(directory):
        path = directory / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"]["model.embed_tokens.weight"] = file
        path.write_text(json.dumps(index))

    return spoil


BROKEN = {
    "nothing there": (None, "cannot read memory://"),
    "no config": (lambda d: (d / "config.json").unlink(), r"no reader at memory://.*: it has no config\.json"),
    "a shard missing": (lambda d: (d / "model-00001-of-00003.safetensors").unlink(), "00001-of-00003.*is not there"),
    "a file elsewhere": (spoil_index("../../secret"), r"names '\.\./\.\./secret', no file in it"),
    "no name": (spoil_index(""), "names '', no file in it"),
    "the directory itself": (spoil_index("."), r"names '\.', no file in it"),
    "the one above": (spoil_index(".."), r"names '\.\.', no file in it"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_reader_that_is_not_whole_is_one_line(tmp_path, case):
    """What is not there is named by its address; an index cannot point out of the checkpoint."""
    spoil, message = BROKEN[case]
    base = f"memory://{tmp_path.name}-broken"
    if spoil:
        directory = make_reader_dir(tmp_path / "reader")
        spoil(directory)
        upload(directory, f"{tmp_path.name}-broken")
    with pytest.raises(SaerayError, match=message) as caught:
        prepare_from_storage(base, LAYER)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_a_configuration_names_a_bucket(directory, tmp_path, s3_uri, packed):
    """`reader.model: s3://…` and `sae.path: s3://…`, on a real S3 server, are the same encoder by all that its
    fingerprint is made of, and its rows are the same, in rectangles and in packs.
    """
    fsspec.filesystem("s3").put([str(file) for file in directory.iterdir()], s3_uri + "/")
    sae = make_sae_dir(tmp_path / "sae", d_in=32)
    fsspec.filesystem("s3").put([str(file) for file in sae.iterdir()], s3_uri + "/sae/")
    config = encoder_config(str(encoder_yaml(tmp_path / "encoder.yaml", directory, sae, LAYER)))
    local = config.model_dump()
    remote = local | {"reader": local["reader"] | {"model": s3_uri}, "sae": local["sae"] | {"path": f"{s3_uri}/sae"}}
    local, remote = (EncoderConfig.model_validate(one) for one in (local, remote))
    assert describe(remote) == describe(local)
    document = tokenizer_of(remote, source_of(remote)).text("What is the answer to this question?")
    encoders = [encoder_of(config, source_of(config), "cpu", packed=packed) for config in (local, remote)]
    rows = [encoder.encode([document])[0].rows[0] for encoder in encoders]
    assert len(rows[0].latents) > 0
    for name in ("latents", "max", "count", "peak", "sum"):
        assert np.array_equal(*(getattr(row, name) for row in rows))
    here = os.listdir(cache_directory() / "shards")
    assert not any(LAST in name for name in here)


def test_an_sae_in_storage_keeps_its_name(tmp_path):
    """Its digest, which names enter, is that of the local one."""
    sae = make_sae_dir(tmp_path / "sae", d_in=32)
    base = upload(sae, f"{tmp_path.name}-sae")
    assert sae_digest(str(copy_from_storage(base))) == sae_digest(str(sae))
    with pytest.raises(SaerayError, match="nowhere: it is not there"):
        copy_from_storage(f"{base}/nowhere")


def test_the_mark_of_a_folder_is_no_file(tmp_path, monkeypatch):
    """Consoles and some tools leave an empty object `prefix/`, which an S3 client lists as a file of the folder."""
    sae = make_sae_dir(tmp_path / "sae", d_in=32)
    base = upload(sae, f"{tmp_path.name}-marked")
    store = fsspec.filesystem("memory")
    mark = {"name": f"/{tmp_path.name}-marked/", "size": 0, "type": "file"}
    listed = store.ls(f"/{tmp_path.name}-marked", detail=True)
    monkeypatch.setattr(type(store), "ls", lambda *_, **__: [mark, *listed])
    assert sae_digest(str(copy_from_storage(base))) == sae_digest(str(sae))


@pytest.mark.parametrize("name", ["sae_weights.safetensors", "cfg.json"])
def test_a_single_file_brings_what_it_is_read_with(tmp_path, s3_uri, name):
    """On a real S3 server either file of a SAELens directory is the whole SAE, presence thresholds too, and nothing
    else of the folder is copied.
    """
    sae = make_sae_dir(tmp_path / "sae", d_in=32, presence=True)
    (sae / "README.md").write_text("of no matter")
    fsspec.filesystem("s3").put([str(file) for file in sae.iterdir()], s3_uri + "/sae/")
    found = sae_path(f"{s3_uri}/sae/{name}")
    assert sae_digest(found) == sae_digest(str(sae))
    assert inspect_sae(found)["presence"]
    assert {file.name for file in Path(found).parent.iterdir()} == {file.name for file in sae.iterdir()} - {"README.md"}


def test_a_single_file_that_is_all_comes_alone(tmp_path):
    """Of a folder of many SAEs one is copied, though the folder is no SAE."""
    store, base = fsspec.filesystem("memory"), f"{tmp_path.name}-many"
    for name in ("a.pt", "b.pt", "cfg.json"):
        store.pipe_file(f"/{base}/{name}", name.encode())
    found = Path(sae_path(f"memory://{base}/b.pt"))
    assert [file.name for file in found.parent.iterdir()] == ["b.pt"]
    assert found.read_bytes() == b"b.pt"


def test_weights_without_their_configuration_are_refused(tmp_path):
    """One line that says what the format is made of."""
    store, sae = fsspec.filesystem("memory"), make_sae_dir(tmp_path / "sae", d_in=32)
    store.pipe_file(f"/{tmp_path.name}-bare/sae_weights.safetensors", (sae / "sae_weights.safetensors").read_bytes())
    with pytest.raises(SaerayError, match=r"found sae_weights\.safetensors; .*a directory with cfg\.json and sae_w"):
        inspect_sae(sae_path(f"memory://{tmp_path.name}-bare/sae_weights.safetensors"))


def test_a_single_file_of_the_hub_brings_them_too(tmp_path, monkeypatch):
    """The hub is asked for the file, which says when it is not there, and for those beside it at the same revision."""
    sae = make_sae_dir(tmp_path / "snapshot" / "layer_2", d_in=32)
    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, file: asked.append((repo, file)))
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repo, allow_patterns: (asked.append((repo, *allow_patterns)), str(tmp_path / "snapshot"))[1],
    )
    assert sae_digest(sae_path("hub:some/saes/layer_2/cfg.json")) == sae_digest(str(sae))
    several = ["cfg.json", "sae_weights.safetensors", "presence.safetensors", "activation_scaler.json"]
    assert asked == [("some/saes", "layer_2/cfg.json"), ("some/saes", *[f"layer_2/{name}" for name in several])]


def test_a_file_that_another_client_changes_is_seen(directory, s3_server, s3_uri):
    """By a process that has looked before, too: s3fs keeps listings for its life."""
    fsspec.filesystem("s3").put([str(file) for file in directory.iterdir()], s3_uri + "/")
    before = prepare_from_storage(s3_uri, LAYER, weights=False).digests
    config = (directory / "config.json").read_bytes()
    s3_server.filesystem().pipe_file(f"{s3_uri}/config.json", config + b" ")
    after = prepare_from_storage(s3_uri, LAYER, weights=False).digests
    assert [name for name in before if before[name] != after[name]] == ["config.json"]
