"""What a reader and its SAE need of a GPU's memory, worked out before anything loads.

Loading 90 GB takes minutes and an allocator's error names no cause, so the sum is done first, from the configuration
alone: the kept blocks, the embedding, the SAE's encoder half, the activations of one batch, the pooling state, and what
CUDA keeps for itself. The plan says how many tokens a batch may hold, or over how many GPUs the blocks are staged, or
why neither will do.

    shape = shape_of(load_config(source, 50), 50)
    plan = make_plan(shape, d_sae=65_536, memory=80 * 2**30, dtype="fp8", window=2048)
    print("\\n".join(plan.lines()))

The activations are those of transformers' eager blocks (three phases, of which the largest counts); they were checked
against the tensors that are alive at one time in a forward pass of the true shape on the meta device.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Literal

from saeray.errors import SaerayError

GIB = 2**30
Mend = Literal["stages", "fp8"]
Mends = Collection[Mend]
Precision = Literal["float32", "bfloat16", "fp8"]
Sizes = dict[str, int]  # bytes by what takes them
_WEIGHT = {"float32": 4, "bfloat16": 2, "fp8": 1}  # bytes of an entry of a block's matrix
_OTHER = {"float32": 4, "bfloat16": 2, "fp8": 2}  # of activations, embedding, norms and SAE
# The CUDA context, the libraries' workspaces and what the allocator cannot hand out again. Taken, not yet measured.
RESERVE = 2 * GIB
# More rows make no product faster (16,384 x 8,192 fills every tile of a GPU many times over) and a retry dearer.
MOST_TOKENS = 32_768
ANGLES = 2048  # bytes of a token's id, position, sines and cosines (two of a head's size, up to 256 in float32)
STEP = 256  # budgets are multiples of this
MOST_STAGES = 8  # the GPUs of one machine
SCRATCH_LATENTS = 2**26  # entries an activation of the SAE may use as scratch, see saes/base.py


@dataclass(frozen=True)
class Block:
    """One decoder block: entries of its matrices, their output rows in all, entries of its vectors."""

    matrix: int
    rows: int
    vector: int


@dataclass(frozen=True)
class ReaderShape:
    """A decoder cut after its hook layer.

    d_in: width of the residual stream. query, key: heads x head size, of queries and of keys. mlp: width between the
    block's up and down products. embedding: entries of the token (and position) tables. blocks: the kept ones.
    """

    d_in: int
    query: int
    key: int
    mlp: int
    embedding: int
    blocks: tuple[Block, ...]

    def flops_per_token(self) -> int:
        """2 x entries of the kept blocks' matrices; attention scores left out."""
        return 2 * sum(block.matrix for block in self.blocks)

    def weights(self, dtype: Precision, first: int = 0, stop: int | None = None) -> int:
        """Bytes of blocks first..stop. fp8 has a float32 scale for every output row of a matrix."""
        scale = 4 if dtype == "fp8" else 0
        return sum(
            block.matrix * _WEIGHT[dtype] + block.rows * scale + block.vector * _OTHER[dtype]
            for block in self.blocks[first:stop]
        )

    def activations(self, dtype: Precision) -> int:
        """Bytes a token at the fullest moment of a block: the largest of its three phases.

        The embedding's vectors and the block's input live through all of it. Norm: with them the residual and two
        float32 copies. Attention: the normed input, queries four times over while they are turned, keys as often. MLP:
        the residual, the normed input and three of the wide tensors; in fp8 their product, its float32 scaling and its
        eight bits instead.
        """
        b = _OTHER[dtype]
        wide = self.mlp * (b + 4 + 1) if dtype == "fp8" else 3 * self.mlp * b
        norm = self.d_in * (3 * b + 8)
        attention = b * (3 * self.d_in + 4 * self.query + 4 * self.key)
        return ANGLES + max(norm, attention, 4 * self.d_in * b + wide)


def shape_of(config: Any, layer: int) -> ReaderShape:
    """The shape of a transformers configuration's decoder cut after block `layer`; no weight is read or made.

    Parameters are counted on a model without storage, so that biases, extra norms and experts are in.
    """
    from saeray.readers.streamed import empty_model

    model = empty_model(config, layer)
    text = model.config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    keys = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    blocks: list[dict[str, int]] = [{"matrix": 0, "rows": 0, "vector": 0} for _ in range(layer + 1)]
    embedding = 0
    for name, parameter in model.named_parameters():
        number = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if number is None:
            embedding += parameter.numel() if parameter.dim() > 1 else 0
        elif parameter.dim() > 1:
            blocks[number]["matrix"] += parameter.numel()
            blocks[number]["rows"] += parameter.shape[0]
        else:
            blocks[number]["vector"] += parameter.numel()
    return ReaderShape(
        int(text.hidden_size),
        head * text.num_attention_heads,
        head * keys,
        int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        embedding,
        tuple(Block(**block) for block in blocks),
    )


@dataclass(frozen=True)
class Stage:
    """What one GPU holds: blocks first..stop and, in bytes, what they and the rest of it take."""

    first: int
    stop: int
    parts: Sizes

    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Plan:
    """tokens: the budget of one batch; each stage has one. memory: bytes of one GPU. gpus: those given to a replica."""

    shape: ReaderShape
    dtype: Precision
    d_sae: int
    tokens: int
    memory: int
    stages: tuple[Stage, ...]
    gpus: int = 1

    def evenness(self) -> float:
        """The share of all GPUs' rate that stages at work at once can reach: the slowest sets the pace."""
        work = [_work(self.shape, self.d_sae, stage.first, stage.stop) for stage in self.stages]
        return sum(work) / (len(work) * max(work))

    def idle(self) -> str | None:
        """The line about GPUs that were given for nothing."""
        more = self.gpus - len(self.stages)
        return f"{more} of {self.gpus} GPUs have nothing to do: give --num-gpus {len(self.stages)}" if more else None

    def lines(self) -> list[str]:
        """What to print before loading, a line a thing, sizes in GiB."""
        n = len(self.shape.blocks)
        flops = self.shape.flops_per_token() + 2 * self.shape.d_in * self.d_sae
        head = f"memory plan: blocks 0-{n - 1} in {self.dtype}, SAE of {self.d_sae:,} latents, "
        lines = [head + f"{flops / 1e9:.1f} GFLOP a token, {len(self.stages)} GPU(s) of {_gib(self.memory)} a replica"]
        for number, stage in enumerate(self.stages):
            name = f"GPU {number}, blocks {stage.first}-{stage.stop - 1}: " if len(self.stages) > 1 else ""
            parts = ", ".join(f"{what} {_gib(size)}" for what, size in stage.parts.items() if size)
            lines.append(f"  {name}{parts}; in all {_gib(stage.total())}, free {_gib(self.memory - stage.total())}")
        if (used := len(self.stages)) > 1:
            lines.append(f"  {used} stages at work at once, at {self.evenness():.0%} of {used} GPUs' rate at most")
        return [*lines, f"  a batch holds up to {self.tokens:,} tokens"]


def make_plan(
    shape: ReaderShape,
    *,
    d_sae: int,
    memory: int,
    dtype: Precision,
    window: int,
    gpus: int = 1,
    chunk_tokens: int = 2048,
    segments: int = 512,
    most_tokens: int = MOST_TOKENS,
    mends: Mends = (),
) -> Plan:
    """The plan with the fewest GPUs, and of those one that holds `most_tokens` before one that is more even.

    memory: bytes of one GPU. window: the longest sequence, which a batch must hold. gpus: how many a replica may take.
    chunk_tokens: tokens whose latents exist at one time. segments: documents pooled at one time (`saeray.pooling`).
    mends: what the caller can do beside taking a larger GPU. Raises SaerayError with the numbers and those of the mends
    that would do when it cannot fit.
    """
    fixed = _fixed(shape, d_sae, dtype, chunk_tokens, segments)
    for count in range(1, min(gpus, len(shape.blocks)) + 1):
        most = max(most_tokens, -(-window // STEP) * STEP)
        best = _best_split(shape, d_sae, dtype, memory, fixed, window, count, most)
        if best is not None:
            tokens, cuts = min(best[0], most), best[1]
            stages = tuple(_stage(shape, dtype, fixed, tokens, first, stop) for first, stop in cuts)
            return Plan(shape, dtype, d_sae, tokens, memory, stages, gpus)
    raise SaerayError(_why_not(shape, d_sae, dtype, memory, fixed, window, gpus, mends))


def _fixed(shape: ReaderShape, d_sae: int, dtype: Precision, chunk: int, segments: int) -> Sizes:
    """Bytes that do not depend on the blocks or on the batch: the embedding, the SAE, the pooling."""
    b = _OTHER[dtype]
    # Latents, the activation's scratch, and one byte each while active tokens are counted; four numbers a segment.
    latents = chunk * (d_sae * (b + 1) + shape.d_in * b) + min(chunk * d_sae, SCRATCH_LATENTS) * b
    return {
        "embedding": shape.embedding * b,
        "SAE": (shape.d_in * d_sae + d_sae) * b + 8 * d_sae,
        "latents of a chunk": latents,
        "pooling state": segments * d_sae * 16,
    }


def _stage(shape: ReaderShape, dtype: Precision, fixed: Sizes, tokens: int, first: int, stop: int) -> Stage:
    last = stop == len(shape.blocks)
    parts = {"blocks": shape.weights(dtype, first, stop), "embedding": fixed["embedding"] if first == 0 else 0}
    parts |= {name: size if last else 0 for name, size in fixed.items() if name != "embedding"}
    parts["activations"] = tokens * _per_token(shape, dtype, last)
    return Stage(first, stop, parts | {"CUDA reserve": RESERVE})


def _per_token(shape: ReaderShape, dtype: Precision, last: bool) -> int:
    """A block's activations; with the SAE the pooled tokens' vectors too. What a stage is handed takes the place of the
    embedding's vectors, and what it hands on has left before its next batch begins (see `staged`).
    """
    return shape.activations(dtype) + (shape.d_in * _OTHER[dtype] if last else 0)


def _best_split(
    shape: ReaderShape, d_sae: int, dtype: Precision, memory: int, fixed: Sizes, window: int, count: int, most: int = 0
) -> tuple[int, list[tuple[int, int]]] | None:
    """(token budget, (first, stop) of every stage) of the most even split that holds `most` tokens, or if none does a
    window; None when none does.
    """
    best: tuple[tuple[bool, int, int], list[tuple[int, int]]] | None = None
    blocks = len(shape.blocks)
    for cuts in _splits(blocks, count):
        tokens = min(
            (memory - _stage(shape, dtype, fixed, 0, *cut).total()) // _per_token(shape, dtype, cut[1] == blocks)
            for cut in cuts
        )
        tokens = tokens // STEP * STEP
        if tokens < window:
            continue
        # All stages work at once, so the slowest sets the pace.
        pace = max(_work(shape, d_sae, first, stop) for first, stop in cuts)
        if best is None or (tokens < most, pace, -tokens) < best[0]:
            best = (tokens < most, pace, -tokens), cuts
    return None if best is None else (-best[0][2], best[1])


def _work(shape: ReaderShape, d_sae: int, first: int, stop: int) -> int:
    """FLOPs a token of one stage, the SAE's among the last one's."""
    own = 2 * sum(block.matrix for block in shape.blocks[first:stop])
    return own + (2 * shape.d_in * d_sae if stop == len(shape.blocks) else 0)


def _splits(blocks: int, count: int) -> Iterator[list[tuple[int, int]]]:
    """Ways to cut the blocks into stages: any first and last one, what is between them evenly."""
    if count == 1:
        yield [(0, blocks)]
        return
    for first in range(1, blocks - count + 2):
        for last in range(1, blocks - first - count + 3):
            between, middle = count - 2, blocks - first - last
            if between == 0 and middle:
                continue
            edges = [0, first, *(first + middle * (i + 1) // between for i in range(between)), blocks]
            yield list(pairwise(edges))


def _why_not(
    shape: ReaderShape, d_sae: int, dtype: Precision, memory: int, fixed: Sizes, window: int, gpus: int, mends: Mends
) -> str:
    whole = _stage(shape, dtype, fixed, window, 0, len(shape.blocks))
    parts = ", ".join(f"{what} {_gib(size)}" for what, size in whole.parts.items() if size)
    found = []
    if "stages" in mends:
        counts = range(gpus + 1, min(MOST_STAGES, len(shape.blocks)) + 1)
        enough = (n for n in counts if _best_split(shape, d_sae, dtype, memory, fixed, window, n) is not None)
        found += [f"{n} GPUs a replica (--num-gpus {n})" for n in islice(enough, 1)]
    if "fp8" in mends and dtype != "fp8":
        fixed = {name: size * _OTHER["fp8"] // _OTHER[dtype] for name, size in fixed.items()}
        fits = _best_split(shape, d_sae, "fp8", memory, fixed, window, gpus) is not None
        found += ["fp8 (the reader's dtype)"] if fits else []
    found.append("a larger GPU" if window <= 2048 else "a larger GPU or a shorter window")
    return (
        f"the reader does not fit: one batch of {window:,} tokens needs {_gib(whole.total())} ({parts}) and "
        f"{gpus} GPU(s) of {_gib(memory)} were given; use {' or '.join(found)}"
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
