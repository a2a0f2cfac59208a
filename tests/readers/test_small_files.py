"""Promise: who needs a reader's tokenizer and configuration alone fetches and digests these alone, wherever it lies:
its weights may be 140 GB.
"""

import shutil
from fnmatch import fnmatch
from pathlib import Path

import fsspec
import huggingface_hub
import pytest
import s3fs
from tiny import encoder_yaml, make_gguf, make_sae_dir

from saeray.config import EncoderConfig, encoder_config
from saeray.errors import SaerayError
from saeray.loading import memory_plan, source_of, tokenizer_of
from saeray.readers import source as source_module
from saeray.readers.source import cache_directory

pytestmark = pytest.mark.usefixtures("own_cache")
LAYER = 2
#: What decides the token ids and the blocks' shapes, and the index; all else is weights.
SMALL = {
    "chat_template.jinja",
    "config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture
def config(directory, tmp_path):
    sae = make_sae_dir(tmp_path / "sae", d_in=32)
    return encoder_config(str(encoder_yaml(tmp_path / "encoder.yaml", directory, sae, LAYER)))


@pytest.fixture
def digested(monkeypatch):
    """Names of the files whose digests are made."""
    names = []
    real = source_module.file_digest
    monkeypatch.setattr(source_module, "file_digest", lambda path: (names.append(path.name), real(path))[1])
    return names


def at(config, model):
    """The same reader in another place."""
    raw = config.model_dump()
    return EncoderConfig.model_validate(raw | {"reader": raw["reader"] | {"model": model}})


def ids(config, source):
    return tokenizer_of(config, source).text("What is the answer to this question?").ids.tolist()


def check(found, whole, config):
    """No weights, the whole reader's digests of what is there, and the same tokens."""
    assert found.tensors == {}
    assert found.digests.items() < whole.digests.items()
    assert set(whole.digests) - set(found.digests) == {path.name for path in whole.tensors.values()}
    assert ids(config, found) == ids(config, whole)
    parts = [memory_plan(config, source, "cpu").stages[0].parts for source in (found, whole)]
    assert parts[0] == parts[1]


def test_from_a_directory(config, digested):
    """The weights beside them are neither opened nor digested; they may be absent."""
    found = source_of(config, weights=False)
    assert set(digested) == SMALL - {"model.safetensors.index.json"}
    check(found, source_of(config), config)


def test_from_object_storage(directory, config, s3_uri, monkeypatch):
    """What a real S3 server is asked for: the small files' bytes, each once a node, and none of the weights'."""
    fsspec.filesystem("s3").put([str(file) for file in directory.iterdir()], s3_uri + "/")
    fetched = []
    real = s3fs.S3FileSystem._cat_file

    async def counted(self, path, *args, **kwargs):
        data = await real(self, path, *args, **kwargs)
        fetched.append((path.rsplit("/", 1)[-1], len(data)))
        return data

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", counted)
    remote = at(config, s3_uri)
    found = source_of(remote, weights=False)
    assert sorted(fetched) == sorted((name, (directory / name).stat().st_size) for name in SMALL)
    assert source_of(remote, weights=False) == found
    assert len(fetched) == len(SMALL)
    here = {file.name.split("-", 1)[1] for file in (cache_directory() / "shards").iterdir() if file.is_file()}
    assert {name for name in here if not name.endswith(".lock")} == SMALL
    check(found, source_of(remote), remote)
    assert {name for name, _ in fetched} - SMALL == {f"model-0000{i}-of-00003.safetensors" for i in (1, 2)}


def test_from_the_hub(directory, config, tmp_path, monkeypatch):
    """The hub is asked by patterns that no file of weights has, and only once."""
    asked = []

    def download(name, *, revision, allow_patterns):
        asked.append(allow_patterns)
        (tmp_path / "hub").mkdir(exist_ok=True)
        for file in directory.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, tmp_path / "hub")
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    remote = at(config, "some/reader")
    found = source_of(remote, weights=False)
    assert len(asked) == 1
    assert {file.name for file in (tmp_path / "hub").iterdir()} >= SMALL
    assert not list((tmp_path / "hub").glob("*.safetensors"))
    check(found, source_of(remote), remote)


def test_a_gguf_file_is_whole(config, tmp_path):
    """Its tokenizer is inside: it is converted as for an encoder, once a node."""
    remote = at(config, str(make_gguf(tmp_path / "tiny.gguf")))
    assert source_of(remote, weights=False) == source_of(remote)


@pytest.mark.parametrize("place", ["local", "memory"])
def test_no_reader_there_is_one_line(config, tmp_path, place):
    """As of a whole one."""
    (tmp_path / "empty").mkdir()
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}-none/README.md", b"nothing")
    model = {"local": str(Path(tmp_path / "empty")), "memory": f"memory://{tmp_path.name}-none"}[place]
    with pytest.raises(SaerayError, match=r"^no reader at .*: it has no config\.json$"):
        source_of(at(config, model), weights=False)
