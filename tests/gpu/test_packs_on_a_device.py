"""Promise: on a GPU packs give what each document gives alone, the host waits when it must and not before, and memory
that comes short costs half a budget.

float32 on a CPU agrees to the last bit (16 roundings without MKL); bfloat16 on a GPU, where a document alone is read by
another kernel than a pack, to `BOUND` of a token's vector: half a step of bfloat16, twice a block, added up like a
random walk, five times over.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from tiny import make_sae

from saeray.encoder import EncodedDocument, Encoder
from saeray.pooling import begin_pooling
from saeray.readers.pack_check import check_packs, distance
from saeray.readers.packed import PackedReader
from saeray.readers.tokens import TokenizedDocument
from saeray.saes.relu import ReLU

BLOCKS = 2
BOUND = 5 * 2.0**-8 * (2 * BLOCKS) ** 0.5
LENGTHS = [1, 2, 3, 17, 64, 100, 333, 1, 1500]


def reader_on(device, hidden=64, heads=4, blocks=BLOCKS):
    """A random Llama in the device's precision; heads of 16, which flash attention takes."""
    config = transformers.LlamaConfig(
        num_hidden_layers=blocks, hidden_size=hidden, intermediate_size=2 * hidden, vocab_size=400,
        num_attention_heads=heads, num_key_value_heads=max(1, heads // 2), max_position_embeddings=16_384,
        initializer_range=0.2,
    )  # fmt: skip
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(copy.deepcopy(config), dtype=torch.float32).eval()
    torch.set_rng_state(state)
    return PackedReader(model.to(device, torch.bfloat16 if device == "cuda" else torch.float32))


def sequences(lengths, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 400, n).astype(np.int32) for n in lengths]


def alone(reader, ids):
    """Each document by transformers' own attention, by itself."""
    return [reader.read(replace(reader.pack([one]), kernel="exact")) for one in ids]


def split(x, lengths):
    assert len(x) == sum(lengths)
    return [x[a:b] for a, b in pairwise(np.cumsum([0, *lengths]).tolist())]


def assert_near(found, expected):
    assert distance(found, expected) <= (16 * 2.0**-23 if found.device.type == "cpu" else BOUND)


def document(ids):
    channel = np.zeros(len(ids), np.int32)
    channel[0] = -1
    return TokenizedDocument(ids, channel, np.zeros(len(ids), np.int32), ("text",), ("",), 1)


def test_the_kernel_is_the_devices(device):
    """On a GPU packs are read by variable-length attention, and the check at loading leaves it in place."""
    reader = reader_on(device)
    assert reader.kernel == ("varlen" if device == "cuda" else "exact")
    assert check_packs(reader, 2048) is None


def test_packed_is_one_at_a_time(device):
    """Documents of 1 to 1,500 tokens in one pack."""
    reader = reader_on(device)
    ids = sequences(LENGTHS)
    for part, one in zip(split(reader.read(reader.pack(ids)), LENGTHS), alone(reader, ids), strict=True):
        assert_near(part, one)


def test_the_longest_documents(device):
    """16,384 tokens between documents of one: the same as alone, and the neighbours' edges are where they were."""
    reader = reader_on(device, hidden=16, heads=1, blocks=1)
    lengths = [1, 16_384, 1]
    ids = sequences(lengths)
    for part, one in zip(split(reader.read(reader.pack(ids)), lengths), alone(reader, ids), strict=True):
        assert_near(part, one)


def test_a_batch_of_one_token(device):
    """One document of one token."""
    reader = reader_on(device)
    ids = sequences([1])
    found = reader.read(reader.pack(ids))
    assert found.shape == (1, 64)
    assert_near(found, alone(reader, ids)[0])


def test_neighbours_change_nothing(device):
    """Other tokens in every other document: not a bit of this one changes."""
    reader = reader_on(device)
    ids, others = sequences(LENGTHS), sequences(LENGTHS, seed=1)
    first = split(reader.read(reader.pack(ids)), LENGTHS)
    for kept in (0, 5, 8):
        changed = [one if i == kept else other for i, (one, other) in enumerate(zip(ids, others, strict=True))]
        second = split(reader.read(reader.pack(changed)), LENGTHS)
        assert torch.equal(first[kept], second[kept])
        assert not torch.equal(first[6], second[6])


def test_rows_in_company_and_alone(device):
    """The longest window, one token, and a document of many windows through the encoder: of the latents present either
    way at least 90% are in both, and their maxima agree within 5% (on a CPU all of them and to 1e-5).
    """
    reader = reader_on(device)
    encoder = Encoder(reader, make_sae(d_in=64).to(device, reader.dtype), window=2048, batch_tokens=16_384)
    documents = [document(ids) for ids in sequences([2048, 2, 5000, 300, 64])]
    exact = device == "cpu"
    shared = either = 0
    for one, together in zip(documents, encoder.encode(documents), strict=True):
        (expected,) = encoder.encode([one])
        assert isinstance(together, EncodedDocument)
        assert together.n_windows == expected.n_windows
        a, b = together.rows[0], expected.rows[0]
        both, at, bt = np.intersect1d(a.latents, b.latents, return_indices=True)
        shared, either = shared + len(both), either + len(np.union1d(a.latents, b.latents))
        np.testing.assert_allclose(a.max[at], b.max[bt], rtol=1e-5 if exact else 0.05)
    assert either > 50
    assert shared >= (1 if exact else 0.9) * either


def test_a_pack_in_flight_changes_no_bit(device):
    """Rows asked for while the next pack is read, and its latents are made, are those of one pack after the other."""
    reader = reader_on(device)
    encoder = Encoder(reader, make_sae(d_in=64).to(device, reader.dtype), batch_tokens=700)
    documents = [document(ids) for ids in sequences([600, 500, 400, 300, 200, 100, 90, 80] * 2)]
    found = encoder.encode(documents)

    def one_after_the_other(_, inputs, packs):
        for pack in packs:
            yield encoder._batch([inputs[i] for i in pack])

    encoder._streamed = one_after_the_other
    for one, other in zip(found, encoder.encode(documents), strict=True):
        for name in ("latents", "max", "count", "peak", "sum"):
            assert getattr(one.rows[0], name).tobytes() == getattr(other.rows[0], name).tobytes()


@pytest.mark.parametrize("d_sae", [7, 96, 1000])
def test_pools_are_the_dense_reference(device, d_sae):
    """Against float64: latents that are chosen small whole numbers, so that ties, zeros and latents on every token
    abound and each of the five numbers is exact; chunks cut documents, and d_sae is a multiple of no tile.
    """
    lengths = [1, 40, 0, 7, 130]
    x = torch.from_numpy(np.random.default_rng(0).integers(-3, 4, (sum(lengths), d_sae)).astype(np.float32))
    x[:, 0], x[:, 1] = 2.0, -1.0
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    sae = ReLU(torch.eye(d_sae), torch.zeros(d_sae)).to(device, dtype)
    found = begin_pooling(sae, x.to(device, dtype), lengths, chunk_tokens=33, segments=2).rows()
    for i, part in enumerate(torch.split(x.double().clamp(min=0), lengths)):
        z = part.numpy()
        latents = np.flatnonzero((z > 0).any(axis=0)) if len(z) else np.zeros(0, np.int64)
        active = z[:, latents]
        expected = (latents, active.max(axis=0, initial=0), (active > 0).sum(axis=0), active.sum(axis=0))
        got = found.row(i)
        for one, other in zip((got[0], got[1], got[2], got[4]), expected, strict=True):
            np.testing.assert_array_equal(one, other)
        if len(z):
            np.testing.assert_array_equal(got[3], active.argmax(axis=0))


def test_the_host_does_not_wait_inside_a_batch(gpu):
    """From the second pack on nothing from upload to pools asks the device for a number; rows() alone does."""
    reader = reader_on(gpu)
    sae = make_sae(d_in=64).to(gpu, torch.bfloat16)
    batches = [([*map(np.asarray, sequences([300, 100, 20], seed))], [np.arange(1, n) for n in (300, 100, 20)])
               for seed in range(4)]  # fmt: skip
    poolings = []
    for x in reader.stream(batches[:1]):  # kernels and pinned memory are loaded and taken the first time
        poolings.append(begin_pooling(sae, x, [299, 99, 19]))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for x in reader.stream(batches):
            poolings.append(begin_pooling(sae, x, [299, 99, 19]))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    first, again = poolings[0].rows(), poolings[1].rows()
    assert first.latents.tobytes() == again.latents.tobytes()
    assert len(poolings) == 5


def test_memory_that_comes_short_halves_the_budget(gpu, caplog):
    """On a card of which this process may have half a GiB, packs of 131,072 tokens cannot be read and smaller ones are;
    one line says so, and the rows are those of small packs.
    """
    reader = reader_on(gpu, hidden=512, heads=8)
    sae = make_sae(d_in=512).to(gpu, torch.bfloat16)
    documents = [document(ids) for ids in sequences([1024] * 128)]
    expected = Encoder(reader, sae, batch_tokens=4096).encode(documents)
    torch.cuda.empty_cache()
    used = torch.cuda.memory_reserved() + 2**29
    torch.cuda.set_per_process_memory_fraction(used / torch.cuda.get_device_properties(0).total_memory)
    try:
        encoder = Encoder(reader, sae, batch_tokens=131_072)
        with caplog.at_level(logging.WARNING):
            found = encoder.encode(documents)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert encoder.batch_tokens < 131_072
    assert all("the token budget is now" in record.message for record in caplog.records)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, EncodedDocument)
        _, at, bt = np.intersect1d(one.rows[0].latents, other.rows[0].latents, return_indices=True)
        assert len(at) >= 0.9 * len(np.union1d(one.rows[0].latents, other.rows[0].latents))
        np.testing.assert_allclose(one.rows[0].max[at], other.rows[0].max[bt], rtol=0.05)
