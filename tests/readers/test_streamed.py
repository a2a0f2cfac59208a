"""Promise: weights that are streamed shard by shard are the very weights that transformers loads, and nothing more of
the checkpoint is read.
"""

import json
import multiprocessing
import threading
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_reader_dir

from saeray.errors import SaerayError
from saeray.readers import storage, streamed
from saeray.readers.model import Reader
from saeray.readers.shards import read_pieces, read_range
from saeray.readers.source import cache_directory, prepare
from saeray.readers.storage import node_copy, prepare_from_storage
from saeray.readers.streamed import CannotStream, load_streamed

pytestmark = pytest.mark.usefixtures("own_cache")
LAYER = 2
FIRST = "model-00001-of-00003.safetensors"


@pytest.fixture
def remote(directory, tmp_path):
    """The checkpoint in an in-memory object store."""
    base = f"memory://{tmp_path.name}"
    store = fsspec.filesystem("memory")
    for file in directory.iterdir():
        store.pipe_file(f"/{tmp_path.name}/{file.name}", file.read_bytes())
    yield base
    store.rm(f"/{tmp_path.name}", recursive=True)


def same_model(one, other):
    """Every parameter up to the hook layer and every buffer, bit for bit, with its dtype."""
    a, b = dict(one.named_parameters()), dict(other.named_parameters())
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        if name not in ("norm.weight", "ln_f.weight", "ln_f.bias"):
            assert torch.equal(a[name], b[name]), name
    a, b = dict(one.named_buffers()), dict(other.named_buffers())
    assert a.keys() == b.keys()
    assert all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("arch", ["llama", "qwen2", "gemma2", "gpt2"])
def test_the_same_weights_as_transformers_loads(tmp_path, arch, dtype):
    """Tensor by tensor what `Reader` has, for every family, in the stored precision and in another."""
    directory = make_reader_dir(tmp_path / "reader", arch=arch)
    source = prepare(str(directory), LAYER)
    expected = Reader(source, LAYER, dtype=dtype)._model
    model, timing = load_streamed(source, LAYER, dtype=dtype)
    same_model(model, expected)
    assert not any(p.is_meta or p.requires_grad for p in model.parameters())
    needed = sum(p.numel() * 4 for name, p in model.named_parameters() if not name.startswith(("norm", "ln_f")))
    assert needed <= timing.bytes <= needed + len(timing.files) * streamed.GAP
    assert timing.total >= timing.open


def test_the_same_residuals(directory):
    """A reader with streamed weights reads what `Reader` reads, to the last bit."""
    source = prepare(str(directory), LAYER)
    reader = Reader(source, LAYER)
    model, _ = load_streamed(source, LAYER, dtype=torch.float32)
    caught = []
    model.layers[-1].register_forward_hook(lambda module, inputs, out: caught.append(out))
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        model(input_ids=ids, use_cache=False)
    assert torch.equal(caught[0], reader.residual([ids[0].numpy()]))


def test_from_s3(directory, s3_uri, monkeypatch):
    """From a real S3 server by way of the node's copy, in ranges of several requests at once: the same tensors."""
    fsspec.filesystem("s3").put([str(file) for file in directory.iterdir()], s3_uri + "/")
    monkeypatch.setattr(storage, "PART", 3000)
    expected, _ = load_streamed(prepare(str(directory), LAYER), LAYER)
    model, timing = load_streamed(prepare_from_storage(s3_uri, LAYER), LAYER)
    same_model(model, expected)
    assert timing.bytes > 10 * 3000


def test_one_file_without_an_index(tmp_path):
    """A checkpoint in one file is read by its header, and later blocks' bytes are not."""
    directory = make_reader_dir(tmp_path / "reader", shards=1)
    expected = Reader(prepare(str(directory), 0), 0)._model
    found = prepare(str(directory), 0)
    assert not any("layers.1." in name or "lm_head" in name for name in found.tensors)
    model, _ = load_streamed(found, 0, dtype=torch.float32)
    same_model(model, expected)


def test_only_needed_bytes_in_file_order(directory, monkeypatch):
    """Ranges ascend within a file, hold the needed tensors, and never reach a block past the hook layer."""
    monkeypatch.setattr(streamed, "GAP", 0)
    asked = []
    real = streamed.read_range

    def note(path, begin, into):
        asked.append((path, begin, begin + len(into)))
        real(path, begin, into)

    monkeypatch.setattr(streamed, "read_range", note)
    found = prepare(str(directory), 1)
    load_streamed(found, 1)
    assert sorted(asked) == asked
    covered = sum(end - begin for _, begin, end in asked)
    sizes = {piece.name: piece.end - piece.begin for path in set(found.tensors.values()) for piece in read_pieces(path)}
    assert covered == sum(sizes[name] for name in found.tensors)


def shifted(path):
    """Puts a tensor of 7 bytes in front of the file's others, so that none of them begins at an even byte."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for one in header.values():
        if "data_offsets" in one:
            one["data_offsets"] = [at + 7 for at in one["data_offsets"]]
    header["odd"] = {"dtype": "U8", "shape": [7], "data_offsets": [0, 7]}
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(7) + data[8 + length :])


@pytest.mark.parametrize("span", [1, 5000, 2**29])
def test_small_spans_and_odd_bytes(tmp_path, monkeypatch, span):
    """However the reading is cut, and at whatever odd byte a tensor begins: the same tensors."""
    directory = make_reader_dir(tmp_path / "reader")
    expected, _ = load_streamed(prepare(str(directory), LAYER), LAYER)
    for file in directory.glob("*.safetensors"):
        shifted(file)
    source = prepare(str(directory), LAYER)
    assert {piece.begin % 2 for path in set(source.tensors.values()) for piece in read_pieces(path)[1:]} == {1}
    monkeypatch.setattr(streamed, "SPAN", span)
    same_model(load_streamed(source, LAYER)[0], expected)


def test_the_next_span_is_read_while_this_one_is_used(directory, monkeypatch):
    """Reading goes on in threads, at most `AHEAD` spans beyond the one in use."""
    monkeypatch.setattr(streamed, "SPAN", 1)
    source = prepare(str(directory), LAYER)
    main, started, used = threading.get_ident(), [], []
    read, place = streamed._read, streamed._set

    def note_read(span, pin):
        started.append(span.pieces[0].name)
        assert threading.get_ident() != main
        return read(span, pin)

    def note_use(module, name, piece, value):
        used.append(piece.name)
        assert len(started) <= len(used) + streamed.AHEAD
        place(module, name, piece, value)

    monkeypatch.setattr(streamed, "_read", note_read)
    monkeypatch.setattr(streamed, "_set", note_use)
    load_streamed(source, LAYER)
    assert sorted(started) == sorted(used) == sorted(source.tensors)
    assert len(used) > 20


def rewrite(path, change):
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def spoil_header(path):
    path.write_bytes(path.read_bytes()[:8] + b"x" * 100 + path.read_bytes()[108:])


def change_header(change):
    """The file with its header as `change` leaves it, padded to the length it had."""

    def spoil(path):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        change(header)
        text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
        assert len(text) == length
        path.write_bytes(data[:8] + text + data[8 + length :])

    return spoil


def two_on_one_place(header):
    header[UP]["data_offsets"] = header[UP.replace("up", "gate")]["data_offsets"]


UP = "model.layers.0.mlp.up_proj.weight"
SPOILED = {
    "truncated shard": (lambda p: p.write_bytes(p.read_bytes()[:-5]), r"00001-of-00003\.safetensors: it is truncated"),
    "not safetensors": (lambda p: p.write_bytes(b"nothing"), "truncated or no safetensors file"),
    "spoilt header": (spoil_header, "its header is spoilt"),
    "two tensors in one place": (change_header(two_on_one_place), r"its header is spoilt at model\.layers\.0\.mlp\."),
    "missing tensor": (lambda p: rewrite(p, lambda s: s.pop(UP)), rf"lack {UP}, which the checkpoint's index"),
    "wrong shape": (
        lambda p: rewrite(p, lambda s: s.update({UP: torch.zeros(3, 32)})),
        rf"{UP} is \[3, 32\] in the checkpoint and \[64, 32\]",
    ),
    "no shard": (lambda p: p.unlink(), "it is not there"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoilt_shard_is_one_clear_line(tmp_path, case):
    """Truncated, missing, of another shape, not safetensors: one line that names the file or the tensor."""
    spoil, message = SPOILED[case]
    directory = make_reader_dir(tmp_path / "reader")
    source = prepare(str(directory), LAYER)
    spoil(directory / FIRST)
    with pytest.raises(SaerayError, match=message) as caught:
        load_streamed(source, LAYER)
    assert "\n" not in str(caught.value)


def test_every_type_of_the_format_can_stand_beside(tmp_path):
    """A buffer of any type that safetensors knows, which the reader has no use for, does not keep it from loading."""
    directory = make_reader_dir(tmp_path / "reader")
    others = {
        "BOOL": torch.bool, "I8": torch.int8, "U8": torch.uint8, "I16": torch.int16, "U16": torch.uint16,
        "I32": torch.int32, "U32": torch.uint32, "I64": torch.int64, "U64": torch.uint64,
        "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
        "F16": torch.float16, "F64": torch.float64,
    }  # fmt: skip
    rewrite(directory / FIRST, lambda s: s.update({name: torch.zeros(3, dtype=t) for name, t in others.items()}))
    found = {piece.name: piece.dtype for piece in read_pieces(directory / FIRST)}
    assert others.items() <= found.items()
    load_streamed(prepare(str(directory), LAYER), LAYER)


def test_pinned_buffers_are_given_back(monkeypatch):
    """Once every GPU has its copies; torch would hold gigabytes of locked memory for the life of the process."""
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda gpu: calls.append(str(gpu)))
    monkeypatch.setattr(torch.accelerator, "empty_host_cache", lambda: calls.append("given back"))
    streamed._settle(set())
    assert calls == []
    streamed._settle({torch.device("cuda:0")})
    assert calls == ["cuda:0", "given back"]


def test_a_tensor_in_no_shard_is_named(tmp_path):
    """What the index does not know is missing, never filled with random numbers."""
    directory = make_reader_dir(tmp_path / "reader")
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    del index["weight_map"][UP]
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CannotStream, match=r"lacks layers\.0\.mlp\.up_proj\.weight, or has it under a name"):
        load_streamed(prepare(str(directory), LAYER), LAYER)


def test_processes_share_one_copy(tmp_path):
    """Many at once, one file, whole, and no scratch left; a copy of another size is made again."""
    content = bytes(range(256)) * 4000
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    path = tmp_path / "origin.bin"
    path.write_bytes(content)
    uri = f"local://{path}"
    workers = [context.Process(target=lambda: queue.put(str(node_copy(uri)))) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    (copy,) = found
    here = cache_directory() / "shards"
    assert sorted(file.name for file in here.iterdir()) == sorted(
        [copy.rsplit("/")[-1], copy.rsplit("/")[-1] + ".lock"]
    )
    assert Path(copy).read_bytes() == content
    with open(copy, "ab") as file:
        file.truncate(100)
    assert str(node_copy(uri)) == copy
    assert Path(copy).read_bytes() == content


def test_a_copy_that_fails_leaves_nothing(remote, monkeypatch):
    """Storage that breaks off: one line, no file in place and no scratch."""
    monkeypatch.setattr(storage, "_ask", lambda uri, begin, end: b"short")
    with pytest.raises(SaerayError, match="5 bytes of"):
        node_copy(f"{remote}/{FIRST}")
    assert all(file.suffix == ".lock" for file in (cache_directory() / "shards").iterdir())


def test_a_range_past_the_end_is_an_error(tmp_path):
    """Never fewer bytes than were asked for."""
    path = tmp_path / "ten"
    path.write_bytes(b"0123456789")
    found = bytearray(3)
    read_range(path, 2, memoryview(found))
    assert found == b"234"
    with pytest.raises(SaerayError, match="ends early, at byte 10 instead of 12"):
        read_range(path, 2, memoryview(bytearray(10)))


def test_the_line_states_bytes_and_seconds(directory):
    """One line with GB, files, and the seconds of every stage."""
    _, timing = load_streamed(prepare(str(directory), LAYER), LAYER)
    line = timing.line()
    assert line.startswith("weights: 0.00 GB from 2 file(s) in ")
    assert all(f"{stage} " in line for stage in ("open", "read", "copy"))
