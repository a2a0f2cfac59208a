"""Promise: a document's row is what the whole model and the SAE's formula say, whatever else is encoded with it.

The reference knows nothing of windows, batches or chunks: the whole model, one unpadded document at a time, the SAE's
formula in float64, and pools over the full matrix of tokens x latents.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import make_model, make_reader_dir, make_sae, make_tokenizer

from saeray.encoder import EncodedDocument, Encoder, FailedDocument, PooledRow, merge, pool
from saeray.readers.model import Reader, quiet_transformers
from saeray.readers.source import prepare
from saeray.readers.tokens import DocumentTokenizer, TokenizedDocument, Turn
from saeray.saes.relu import ReLU

LAYER = 2
TOKENIZER = DocumentTokenizer(make_tokenizer())
# A value this close to the step at a threshold may fall on either side of it.
NEAR = 1e-3


VOCABULARY = ["the", "answer", "is", "more", "than", "question", "people", "é", "🙂", "42", "lazy", "dog", "<|im_end|>"]


def words(n, seed=0):
    return " ".join(np.random.default_rng(seed).choice(VOCABULARY, n))


TEXTS = [words(n, seed) for seed, n in enumerate([3, 40, 12, 1, 90, 13, 41, 12, 7, 64])]
CONVERSATION = [
    Turn("user", "What is the answer to this question?"),
    Turn("assistant", "I think that there is more to say."),
    Turn("user", "And the people?"),
    Turn("assistant", "The people were there."),
]


@pytest.fixture(scope="module")
def reader_dir(tmp_path_factory):
    return make_reader_dir(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def reader(reader_dir):
    return Reader(prepare(str(reader_dir), LAYER), LAYER)


@pytest.fixture(scope="module")
def whole(reader_dir):
    with quiet_transformers():
        return transformers.AutoModelForCausalLM.from_pretrained(reader_dir, dtype=torch.float32).eval()


def encoder_of(reader, architecture="jumprelu", *, presence=False, **settings):
    return Encoder(reader, make_sae(d_in=reader.d_in, architecture=architecture, presence=presence), **settings)


@torch.inference_mode()
def hidden(whole, ids):
    """float64 [n, d_in] of one unpadded sequence after the hook layer, from the whole model."""
    states = whole(torch.tensor(np.asarray(ids, np.int64))[None], output_hidden_states=True).hidden_states
    return states[LAYER + 1][0].double().numpy()


def activations(sae, x):
    """(f, margin): latent values [n, d_sae] by the architecture's formula in float64, and how far each pre-activation
    is from where f jumps or starts.
    """
    z = x @ sae.W_enc.double().numpy() + sae.b_enc.double().numpy()
    if sae.architecture == "topk":
        ordered = -np.sort(-z, axis=1)
        last, following = ordered[:, sae.k - 1 : sae.k], ordered[:, sae.k : sae.k + 1]
        return np.where(z >= last, np.maximum(z, 0), 0), np.where(z >= last, z - following, last - z)
    step = sae.threshold.double().numpy() if sae.architecture == "jumprelu" else np.zeros(sae.d_sae)
    return np.where(z > np.maximum(step, 0), z, 0), np.abs(z - step)


def check_row(row, f, margin):
    """A pooled row against f [n, d_sae]; latents that are near a step on some token may differ."""
    clear = (margin > NEAR).all(axis=0)
    assert clear.mean() > 0.8
    present = (f > 0).any(axis=0)
    dense = {name: np.zeros(f.shape[1]) for name in ("max", "count", "sum", "peak")}
    for name, values in dense.items():
        values[row.latents] = getattr(row, name)
    got = np.isin(np.arange(f.shape[1]), row.latents)
    np.testing.assert_array_equal(got[clear], present[clear])
    np.testing.assert_allclose(dense["max"][clear], f.max(axis=0)[clear], rtol=1e-3)
    np.testing.assert_allclose(dense["sum"][clear], f.sum(axis=0)[clear], rtol=1e-3)
    np.testing.assert_array_equal(dense["count"][clear], (f > 0).sum(axis=0)[clear])
    top = -np.sort(-f, axis=0)
    single = clear & present & ((top[0] - top[1] > NEAR) if len(f) > 1 else True)
    np.testing.assert_array_equal(dense["peak"][single], f.argmax(axis=0)[single])


def check_form(row):
    assert (np.diff(row.latents) > 0).all()
    assert (row.max > 0).all()
    assert (row.count >= 1).all()
    kinds = [getattr(row, name).dtype.name for name in ("latents", "max", "count", "peak", "sum")]
    assert kinds == ["int32", "float32", "int32", "int32", "float32"]


def same(one, other):
    """Bit for bit."""
    return all(
        np.array_equal(getattr(a, name).view(np.int32), getattr(b, name).view(np.int32))
        for a, b in zip(one.rows, other.rows, strict=True)
        for name in ("latents", "max", "count", "peak", "sum")
    )


@pytest.mark.parametrize("architecture", ["jumprelu", "relu", "topk"])
@pytest.mark.parametrize("chunk", [None, 7])
def test_rows_agree_with_the_dense_reference(reader, whole, architecture, chunk):
    """latents, max, count, sum and peak of every text and of a conversation's channels equal the reference's, also for
    documents longer than a chunk.
    """
    encoder = encoder_of(reader, architecture, chunk_tokens=chunk, batch_tokens=300)
    documents = [*map(TOKENIZER.text, TEXTS), TOKENIZER.messages(CONVERSATION)]
    found = encoder.encode(documents)
    total = 0
    for document, result in zip(documents, found, strict=True):
        assert result.n_windows == 1
        x = hidden(whole, document.ids)
        for channel, row in enumerate(result.rows):
            check_form(row)
            check_row(row, *activations(encoder.sae, x[document.pooled(channel)]))
            total += len(row.latents)
    assert total > 20 * len(documents)


def test_long_documents_agree_with_the_dense_reference(reader, whole):
    """A document of many windows pools each token once, from the first window that holds it, and `peak` counts over all
    of its channel's tokens, in a conversation too; the reference cuts the windows by hand.
    """
    window, overlap = 96, 16
    encoder = encoder_of(reader, window=window, overlap=overlap, chunk_tokens=32, batch_tokens=400)
    turns = [Turn(("user", "assistant")[i % 2], words(n, i)) for i, n in enumerate((120, 60, 10, 150))]
    documents = [TOKENIZER.messages(turns), *(TOKENIZER.text(words(n, n)) for n in (150, 2, 400))]
    found = encoder.encode(documents)
    for document, result in zip(documents, found, strict=True):
        ids, head, n = document.ids, document.head, len(document.ids)
        parts, done, count = [], 0, 0
        while done < n:
            begin = 0 if done == 0 else done - overlap
            prefix = 0 if done == 0 else head
            end = min(begin + window - prefix, n)
            parts.append(hidden(whole, np.concatenate([ids[:prefix], ids[begin:end]]))[prefix + done - begin :])
            done, count = end, count + 1
        x = np.concatenate(parts)
        assert len(x) == n
        assert result.n_windows == count
        for channel, row in enumerate(result.rows):
            check_row(row, *activations(encoder.sae, x[document.pooled(channel)]))
    assert [len(result.rows) for result in found] == [2, 1, 1, 1]
    assert found[3].n_windows > 5


def test_special_tokens_and_position_0_never_win_a_pool(reader, whole):
    """Although the sink and the frame have latents that the text has not, none of theirs is in the row."""
    encoder = encoder_of(reader)
    document = TOKENIZER.text("the answer")
    f, margin = activations(encoder.sae, hidden(whole, document.ids))
    own = document.channel == 0
    only_frame = (f[~own] > NEAR).any(axis=0) & ~(f[own] > 0).any(axis=0) & (margin[own] > NEAR).all(axis=0)
    assert only_frame.sum() > 5
    row = encoder.encode([document])[0].rows[0]
    assert not np.isin(np.flatnonzero(only_frame), row.latents).any()
    every = DocumentTokenizer(make_tokenizer(), include_special=True).text("the answer")
    f, margin = activations(encoder.sae, hidden(whole, every.ids)[1:])
    check_row(encoder.encode([every])[0].rows[0], f, margin)


def test_each_role_is_read_in_its_conversation(reader):
    """A role's row is of its tokens in the whole conversation; encoded alone it would be another."""
    encoder = encoder_of(reader)
    conversation = encoder.encode([TOKENIZER.messages(CONVERSATION)])[0]
    alone = encoder.encode([TOKENIZER.messages([turn for turn in CONVERSATION if turn.role == "assistant"])])[0]
    assert len(conversation.rows) == 2
    assert not np.array_equal(conversation.rows[1].latents, alone.rows[0].latents)


def test_alone_and_in_company(reader, whole):
    """Between batchings values agree within 1e-3 relative, and only latents at their threshold may differ."""
    documents = [TOKENIZER.text(text) for text in TEXTS]
    encoder = encoder_of(reader, batch_tokens=300, chunk_tokens=32)
    together = encoder.encode(documents)
    for document, result in zip(documents, together, strict=True):
        alone = encoder.encode([document])[0]
        a, b = alone.rows[0], result.rows[0]
        _, ia, ib = np.intersect1d(a.latents, b.latents, return_indices=True)
        np.testing.assert_allclose(a.max[ia], b.max[ib], rtol=1e-3)
        np.testing.assert_allclose(a.sum[ia], b.sum[ib], rtol=2e-3)
        _, margin = activations(encoder.sae, hidden(whole, document.ids)[document.pooled(0)])
        assert (margin.min(axis=0)[np.setxor1d(a.latents, b.latents)] < NEAR).all()


def test_the_same_documents_give_the_same_bits(reader):
    """Twice the same documents, the same bits; the order of other documents' arrival does not reach a row's form."""
    encoder = encoder_of(reader, batch_tokens=300)
    documents = [TOKENIZER.text(text) for text in TEXTS]
    first, second = encoder.encode(documents), encoder.encode(documents)
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_threads_do_not_change_a_bit():
    """One thread or two, the same bits, at the embedded reader's widths: there MKL splits sums by thread unless told
    not to (see saeray/__init__.py), and workers with different shares of a machine would write different files.
    """
    torch.manual_seed(0)
    model = make_model(layers=1, hidden=576, seed=0).model
    model.layers[0].mlp = transformers.models.llama.modeling_llama.LlamaMLP(
        transformers.LlamaConfig(hidden_size=576, intermediate_size=1536)
    )

    class Wide(Reader):
        """The reader's own code around a model of real widths that never was on disk."""

        def __init__(self):
            self.layer, self.dtype, self.device, self._model = 0, torch.float32, torch.device("cpu"), model.eval()
            self.d_in, self._residual = 576, None
            model.layers[-1].register_forward_hook(self._keep_residual)

    encoder = Encoder(Wide(), make_sae(d_in=576, d_sae=1024), batch_tokens=4096)
    random = np.random.default_rng(0)
    documents = []
    for n in (6, 9, 60, 64, 70, 100, 128, 300):
        channel = np.zeros(n, np.int32)
        channel[0] = -1
        ids = random.integers(0, 400, n).astype(np.int32)
        documents.append(TokenizedDocument(ids, channel, np.zeros(n, np.int32), ("text",), ("",), 1))
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append([encoder.encode([document])[0] for document in documents])
    torch.set_num_threads(1)
    assert all(same(a, b) for a, b in zip(*results, strict=True))


def test_tokens_by_latents_never_exist_whole(reader, monkeypatch):
    """The SAE sees at most `chunk_tokens` tokens at a time, and every pooled token once."""
    encoder = encoder_of(reader, chunk_tokens=16, batch_tokens=300)
    rows = []
    real = encoder.sae.encode
    monkeypatch.setattr(encoder.sae, "encode", lambda x: (rows.append(len(x)), real(x))[1])
    documents = [TOKENIZER.text(text) for text in TEXTS]
    encoder.encode(documents)
    assert max(rows) == 16
    assert sum(rows) == sum(len(document.pooled(0)) for document in documents)


def test_equal_maxima_peak_at_the_first_token(reader):
    """A latent of the same value everywhere peaks at the document's first token, over chunks and windows; its count and
    sum are the number of tokens.
    """
    sae = ReLU(torch.zeros(reader.d_in, 3), torch.tensor([1.0, 0.0, 2.0]))
    encoder = Encoder(reader, sae, window=64, overlap=8, chunk_tokens=10)
    document = TOKENIZER.text(words(200))
    result = encoder.encode([document])[0]
    n = len(document.pooled(0))
    assert result.n_windows > 3
    row = result.rows[0]
    assert row.latents.tolist() == [0, 2]
    assert row.max.tolist() == [1, 2]
    assert row.peak.tolist() == [0, 0]
    assert row.count.tolist() == [n, n]
    assert row.sum.tolist() == [n, 2 * n]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.lists(st.integers(0, 39), max_size=6), st.integers(0, 10**6))
def test_parts_merge_to_the_whole(n, cuts, seed):
    """However tokens are cut into parts, and in whatever order the parts come, they merge to the pool of all: values
    on a coarse grid, so that ties abound.
    """
    random = np.random.default_rng(seed)
    z = torch.from_numpy(random.integers(-2, 4, (n, 5)).clip(0).astype(np.float32))
    tokens = np.arange(n, dtype=np.int32)
    edges = sorted({0, n, *(cut for cut in cuts if cut < n)})
    parts = [pool(z[a:b], tokens[a:b]) for a, b in pairwise(edges)]
    random.shuffle(parts)
    merged = merge(parts)
    f = z.numpy()
    present = np.flatnonzero((f > 0).any(axis=0))
    np.testing.assert_array_equal(merged.latents, present)
    np.testing.assert_array_equal(merged.max, f.max(axis=0)[present])
    np.testing.assert_array_equal(merged.count, (f > 0).sum(axis=0)[present])
    np.testing.assert_array_equal(merged.peak, f.argmax(axis=0)[present])
    np.testing.assert_array_equal(merged.sum, f.sum(axis=0)[present])


def test_presence_thresholds(reader):
    """A latent is in the row when its maximum over the document is above its own threshold, strictly; what is kept is
    unchanged.
    """
    documents = [TOKENIZER.text(text) for text in [*TEXTS, words(150)]]
    settings = {"window": 96, "overlap": 8, "chunk_tokens": 16}
    plain = encoder_of(reader, **settings).encode(documents)
    encoder = encoder_of(reader, presence=True, **settings)
    threshold = encoder.sae.presence.numpy()
    for before, after in zip(plain, encoder.encode(documents), strict=True):
        a, b = before.rows[0], after.rows[0]
        keep = a.max > threshold[a.latents]
        assert 0 < keep.sum() < len(keep)
        np.testing.assert_array_equal(b.latents, a.latents[keep])
        np.testing.assert_array_equal(b.sum, a.sum[keep])
    exact = ReLU(torch.zeros(reader.d_in, 2), torch.tensor([1.0, 1.5]), presence=torch.tensor([1.0, 1.0]))
    assert Encoder(reader, exact).encode(documents[:1])[0].rows[0].latents.tolist() == [1]


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    """A reader whose embedding of one token is not a number, of another infinite; and those tokens' ids."""
    directory = make_reader_dir(tmp_path_factory.mktemp("poisoned"))
    file = directory / "model-00001-of-00003.safetensors"
    tensors = load_file(file)
    tokenizer = make_tokenizer()
    poison = {letter: tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "%~"}
    embedding = tensors["model.embed_tokens.weight"].clone()
    embedding[poison["%"]] = float("nan")
    embedding[poison["~"]] = float("inf")
    save_file(tensors | {"model.embed_tokens.weight": embedding}, file)
    return Reader(prepare(str(directory), LAYER), LAYER)


def test_activations_that_are_not_finite_fail_their_document_alone(poisoned):
    """A document whose residuals are NaN or infinite is a FailedDocument with a reason that is one line without its
    text; those batched and chunked together with it are as they would be without it.
    """
    texts = [TEXTS[1], TEXTS[1][:-4] + " % the", TEXTS[6], "~" + TEXTS[2]]
    encoder = encoder_of(poisoned, batch_tokens=4096, chunk_tokens=50)
    documents = [TOKENIZER.text(text) for text in texts]
    results = encoder.encode(documents)
    assert results[1] == results[3] == FailedDocument("the reader's activations are not finite")
    for i in (0, 2):
        alone = encoder.encode([documents[i]])[0]
        assert isinstance(results[i], EncodedDocument)
        np.testing.assert_array_equal(results[i].rows[0].latents, alone.rows[0].latents)
        np.testing.assert_allclose(results[i].rows[0].max, alone.rows[0].max, rtol=1e-3)


def with_ids(document, place, value):
    ids = document.ids.copy()
    ids[place] = value
    return TokenizedDocument(
        ids, document.channel, document.starts, document.channels, document.texts, document.head, document.truncated
    )


def test_a_document_that_the_reader_cannot_read_fails_alone(reader):
    """A token without an embedding makes the whole batch raise: that document alone fails, the rest are encoded."""
    documents = [TOKENIZER.text(text) for text in (TEXTS[1], TEXTS[1], TEXTS[6], TEXTS[9])]
    documents[1] = with_ids(documents[1], -1, 100_000)
    encoder = encoder_of(reader, batch_tokens=4096)
    results = encoder.encode(documents)
    assert isinstance(results[1], FailedDocument)
    assert results[1].reason.startswith("the reader failed on it: ")
    assert "\n" not in results[1].reason
    for i in (0, 2, 3):
        alone = encoder.encode([documents[i]])[0]
        np.testing.assert_array_equal(results[i].rows[0].latents, alone.rows[0].latents)


def test_one_bad_window_fails_its_document(reader):
    """A document of many windows of which one cannot be read is a FailedDocument, never a row of the rest."""
    documents = [TOKENIZER.text(words(200)), TOKENIZER.text(words(180))]
    documents[0] = with_ids(documents[0], 150, 100_000)
    results = encoder_of(reader, window=96, overlap=8).encode(documents)
    assert isinstance(results[0], FailedDocument)
    assert isinstance(results[1], EncodedDocument)


def test_a_frame_too_long_for_the_window_fails_its_document(reader):
    """A conversation that begins with more frame than a window holds cannot be cut; one that fits beside it can."""
    documents = [TOKENIZER.text(words(200)), TOKENIZER.text("the answer")]
    window = documents[0].head + 10
    results = encoder_of(reader, window=window, overlap=16).encode(documents)
    assert isinstance(results[0], FailedDocument)
    assert "too long for windows" in results[0].reason
    assert isinstance(results[1], EncodedDocument)


def test_a_reader_that_reads_nothing_any_more_raises(reader_dir):
    """An error that is the device's and not a document's is raised, so that no document is rejected for it."""
    reader = Reader(prepare(str(reader_dir), LAYER), LAYER)
    encoder = encoder_of(reader)
    documents = [TOKENIZER.text(text) for text in TEXTS[:3]]
    assert all(isinstance(result, EncodedDocument) for result in encoder.encode(documents))

    def broken(module, inputs):
        raise RuntimeError("the device is gone")

    reader._model.layers[1].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="the device is gone"):
        encoder.encode(documents)


def test_no_documents(reader):
    """Nothing in, nothing out; and a channel without a token has an empty row."""
    encoder = encoder_of(reader)
    assert encoder.encode([]) == []
    document = TOKENIZER.messages([Turn("user", ""), Turn("assistant", "the answer")])
    empty, row = encoder.encode([document])[0].rows
    check_form(empty)
    assert isinstance(empty, PooledRow)
    assert len(empty.latents) == 0
    assert len(row.latents) > 0


def test_bfloat16(reader_dir):
    """In bfloat16 the stated tolerance: of the latents present in either precision at least 90% are in both on these
    tiny random models, and their maxima agree within 5%.
    """
    source = prepare(str(reader_dir), LAYER)
    documents = [TOKENIZER.text(text) for text in TEXTS]
    sae = make_sae(d_in=32)
    fp32 = Encoder(Reader(source, LAYER), sae).encode(documents)
    half = Encoder(Reader(source, LAYER, dtype=torch.bfloat16), make_sae(d_in=32).to(torch.bfloat16)).encode(documents)
    shared = either = 0
    for a, b in zip(fp32, half, strict=True):
        both, ia, ib = np.intersect1d(a.rows[0].latents, b.rows[0].latents, return_indices=True)
        shared += len(both)
        either += len(np.union1d(a.rows[0].latents, b.rows[0].latents))
        np.testing.assert_allclose(a.rows[0].max[ia], b.rows[0].max[ib], rtol=0.05)
    assert shared >= 0.9 * either
