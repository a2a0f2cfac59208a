"""How fast the 70B reader with its SAE is on one GPU: beside the card's own matrix products, and beside a plain loop.

    python bench/gpu_encode.py                  # on a machine with a GPU; no Ray, no weights, no network
    python bench/gpu_encode.py --device cpu --tiny     # the same code in seconds

The reader has Llama-3.3-70B's shape and random weights, which cost what real ones do: as many of the 51 blocks as the
memory plan fits. Documents have the lengths below and random tokens. Five things are measured, in this order:

1. rate: one large product (a token budget of rows through the MLP's up matrix) again and again, and the rate of a
   large copy. What follows is held against these two, measured on the same card minutes before.
   With `--dtype fp8` the same product in eight bits is measured too; floors and shares stay those of the first.
2. encode: documents through saeray's own Encoder to sparse rows on the host, for `--seconds`. FLOPs are counted: 2 x
   the entries of the kept blocks' matrices a token, 2 x d_in x d_sae a pooled token; attention left out.
3. idle: the part of those seconds in which the device had pooled one pack and not begun to read the next.
4. stages: a few packs more with events around each stage, each beside its floor: FLOPs over the rate, or bytes over
   the copy's rate.
5. reference: the same model in the straight loop of a hook: batches of 8 in the order given, padded to the longest,
   transformers' own attention, dense latents of every token copied to the host; and once more with a sparse matrix made
   of them there, as the reference toolkit does.

With `--stages N` the blocks are cut into N stages, on N GPUs where there are as many and else all on the first, which
shows what the stages themselves cost. Rate and share are then of the GPUs together; idle, stages and reference, which
are of one device, are left out.

Expected, by arithmetic and not measured. 51 blocks and the SAE are 88.35 GFLOP a token, so at a product rate of R
TFLOP/s a share s gives 11.3 x s x R tokens/s: for R = 700, 65% are 5,150 and 75% are 5,940. On 79 GiB 43 blocks of 51
fit in bf16 with packs of 16,384; `tokens_per_second_51` scales to 51 by FLOPs. Attention in documents of these lengths
is 0.5% of the FLOPs, at a quarter of the rate 2% of the time. Norms, rotation, activation and sums move some 1.15 MB a
token and block in separate kernels: 0.35 us at 3.3 TB/s beside 2.4 us of products at R = 700, or 14%, the largest loss
to expect and what `--compile inductor` would win. SAE and pools are 1.2% and 0.2%. So some 0.85 of R is the most for
eager blocks. The reference pads 416 tokens to 777 and copies 128 KiB a padded token, 13 us at 10 GB/s beside 150:
packing alone is then worth about 1.8 times, and 5 only if its host work (the sparse matrices) is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from gpu_clock import Clock, fp8_rate, rates
from gpu_model import BLOCKS, LLAMA_70B, TINY, as_documents, lengths_of, random_reader, random_sae
from scipy.sparse import csr_matrix
from torch import Tensor

import saeray.encoder
from saeray.encoder import Encoder
from saeray.errors import SaerayError
from saeray.pooling import CHUNK
from saeray.readers import packed
from saeray.readers.memory import Plan, make_plan, shape_of
from saeray.readers.pack_check import check_packs
from saeray.readers.packed import PackedReader
from saeray.readers.packing import packs, utilisation
from saeray.readers.staged import StagedReader
from saeray.readers.tokens import TokenizedDocument

REFERENCE_BATCH = 8


def plan_of(options: argparse.Namespace, config: Any, d_sae: int) -> Plan:
    """The most blocks that fit, or as many as were asked for; printed before anything is made."""
    gpus = len(set(devices_of(options)))
    memory = 2**34 if options.device == "cpu" else torch.cuda.mem_get_info()[0]
    most = options.blocks or (3 if options.tiny else BLOCKS)
    for blocks in range(most, 0, -1):
        try:
            shape = shape_of(config, blocks - 1)
            plan = make_plan(
                shape,
                d_sae=d_sae,
                memory=memory,
                dtype=options.dtype,
                window=options.tokens,
                gpus=gpus,
                most_tokens=options.tokens,
            )
        except SaerayError:
            if options.blocks or blocks == 1:
                raise
            continue
        print("\n".join(plan.lines()), flush=True)
        return plan
    raise AssertionError


def devices_of(options: argparse.Namespace) -> list[str]:
    """The device of each stage."""
    own = options.device == "cuda" and torch.cuda.device_count() >= options.stages > 1
    return [f"cuda:{i}" if own else options.device for i in range(options.stages)]


def stops_of(plan: Plan, stages: int) -> list[int]:
    """Where stages end: as planned, or evenly where the plan needs fewer."""
    if len(plan.stages) == stages:
        return [stage.stop for stage in plan.stages]
    blocks = len(plan.shape.blocks)
    return [blocks * (i + 1) // stages for i in range(stages)]


def encode(
    encoder: Encoder, documents: Sequence[TokenizedDocument], clock: Clock, seconds: float = 0
) -> dict[str, float]:
    """All documents to rows, again and again for `seconds`; tokens, pooled tokens and active latents of it.

    Marks are set where the device begins on a pack's blocks, has done them, and has pooled them; what lies between the
    last and the next pack's first is idle.
    """
    done: dict[str, float] = defaultdict(float)
    begun: list[Any] = []
    real = saeray.encoder.begin_pooling
    staged = isinstance(encoder.reader, StagedReader)  # several packs are under way: no mark is one pack's

    def timed(*args: Any, **options: Any) -> Any:
        if staged:
            return real(*args, **options)
        clock.add("blocks", begun.pop())
        with clock.stage("SAE and pools"):
            return real(*args, **options)

    hook = encoder.reader.model.register_forward_pre_hook(lambda *_: begun.append(clock.now()))
    saeray.encoder.begin_pooling = timed
    try:
        began = time.perf_counter()
        while not done or time.perf_counter() - began < seconds:  # whole rounds: packs of one round differ in lengths
            rows = [one.rows[0] for one in encoder.encode(documents)]
            done["tokens"] += sum(len(one.ids) for one in documents)
            done["pooled"] += sum(len(one.ids) - 1 for one in documents)
            done["active"] += float(sum(row.count.sum() for row in rows))
    finally:
        saeray.encoder.begin_pooling = real
        hook.remove()
    return done


def compile_blocks(reader: PackedReader, backend: str) -> None:
    """torch.compile of every block; attention, whose arguments change from pack to pack, stays as it is."""
    transformers.AttentionInterface.register(packed.NAME, torch.compiler.disable(packed.attend))
    for block in reader.blocks:
        block.compile(dynamic=True, backend=backend)


def stages(encoder: Encoder, documents: Sequence[TokenizedDocument], rate: float, copy: float) -> list[dict[str, Any]]:
    """Seconds, floor and their ratio of every stage of a few packs, with events between the modules of each block."""
    reader, sae = encoder.reader, encoder.sae
    clock = Clock(reader.device.type)
    hooks = []
    for block in reader.blocks:
        for name, module in (
            ("norms", block.input_layernorm), ("attention and its products", block.self_attn),
            ("norms", block.post_attention_layernorm), ("MLP", block.mlp),
        ):  # fmt: skip
            begun: list[Any] = []
            hooks.append(module.register_forward_pre_hook(lambda *_, begun=begun: begun.append(clock.now())))
            hooks.append(module.register_forward_hook(lambda *_, name=name, begun=begun: clock.add(name, begun.pop())))
    real = packed.in_packs

    def timed(*args: Any) -> Tensor:
        with clock.stage("attention alone"):
            return real(*args)

    packed.in_packs = timed
    try:
        done = encode(encoder, documents, clock)
    finally:
        packed.in_packs = real
        for hook in hooks:
            hook.remove()
    found = clock.seconds()
    found["products of attention"] = found.pop("attention and its products") - found["attention alone"]
    known = ("norms", "products of attention", "attention alone", "MLP")
    found["rest of the blocks"] = found.pop("blocks") - sum(found[name] for name in known)
    n, size, blocks, d = done["tokens"], reader.dtype.itemsize, len(reader.blocks), reader.d_in
    mlp = 2 * sum(p.numel() for block in reader.blocks for p in block.mlp.parameters())
    floors = {
        "norms": blocks * 2 * n * 2 * d * size / copy,
        "products of attention": n * (reader.flops_per_token() - mlp) / rate,
        "attention alone": reader.attention_flops([len(one.ids) for one in documents]) / rate,
        "MLP": n * mlp / rate,
        "SAE and pools": done["pooled"] * (2.0 * d * sae.d_sae / rate + 5 * sae.d_sae * size / copy),
        "rest of the blocks": blocks * 2 * n * 3 * d * size / copy,  # the two residual sums of each block
    }
    return [
        {"stage": name, "seconds": seconds, "floor": floors[name], "ratio": seconds / floors[name]}
        for name, seconds in sorted(found.items(), key=lambda one: -one[1])
    ]


@torch.inference_mode()
def reference(encoder: Encoder, documents: Sequence[TokenizedDocument], *, sparse: bool) -> float:
    """Tokens a second of the straight loop, with its sparse matrices or without; the reader comes back as it was."""
    reader, sae = encoder.reader, encoder.sae
    reader.model.set_attn_implementation("sdpa")
    caught: list[Tensor] = []
    hook = reader.blocks[-1].register_forward_hook(
        lambda _module, _inputs, out: caught.append(out[0] if isinstance(out, tuple) else out)
    )
    try:
        began, tokens = time.perf_counter(), 0
        for first in range(0, len(documents), REFERENCE_BATCH):
            batch = [one.ids for one in documents[first : first + REFERENCE_BATCH]]
            ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
            mask = np.zeros_like(ids)
            for i, one in enumerate(batch):
                ids[i, : len(one)], mask[i, : len(one)] = one, 1
            there = [torch.from_numpy(array).to(reader.device) for array in (ids, mask)]
            reader.model(input_ids=there[0], attention_mask=there[1], use_cache=False)
            dense = sae.encode(caught.pop().flatten(0, 1)).cpu()
            if sparse:
                rows = dense.float().numpy().reshape(*ids.shape, -1)
                [csr_matrix(row[: len(one)]) for row, one in zip(rows, batch, strict=True)]
            tokens += sum(map(len, batch))
        return tokens / (time.perf_counter() - began)
    finally:
        hook.remove()
        reader.model.set_attn_implementation(packed.NAME)


def machine(device: str) -> dict[str, Any]:
    """What ran it."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "cuda": torch.version.cuda}
    return {"device": name, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), **versions}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, to try the code")
    parser.add_argument("--dtype", choices=("bfloat16", "float32", "fp8"), default="bfloat16")
    parser.add_argument("--blocks", type=int, default=0, help="0: as many of 51 as fit")
    parser.add_argument("--tokens", type=int, default=16_384, help="most tokens in a pack")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--stages", type=int, default=1, help="stages the blocks are cut into, each on its own GPU")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--compile",
        choices=("inductor", "aot_eager", "eager"),
        help="torch.compile of the blocks; only inductor is fast",
    )
    parser.add_argument("--reference-documents", type=int, default=64, help="0 leaves the reference out")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this machine has no GPU that torch can use; try --device cpu --tiny")
    config = transformers.LlamaConfig(**TINY if options.tiny else LLAMA_70B)
    d_sae = 1000 if options.tiny else 65_536
    fp8 = options.dtype == "fp8"
    dtype = torch.bfloat16 if fp8 else getattr(torch, options.dtype)
    plan = plan_of(options, config, d_sae)
    up = (config.hidden_size, config.intermediate_size)
    rate, copy = rates(options.device, dtype, plan.tokens, up, min(5.0, options.seconds))

    rate_fp8 = fp8_rate(options.device, plan.tokens, up, min(5.0, options.seconds)) if fp8 else None
    devices, staged = devices_of(options), options.stages > 1
    reader = random_reader(config, stops_of(plan, options.stages), dtype, devices, fp8)
    if (wrong := check_packs(reader, 2048)) is not None:
        print(wrong, flush=True)
    if options.compile:
        compile_blocks(reader, options.compile)
    lengths = lengths_of(options.documents)
    documents = as_documents(lengths, config.vocab_size)
    sample = documents[0].ids[:64]
    sae = random_sae(reader, d_sae, reader.take([sample], [np.arange(1, len(sample))]))
    encoder = Encoder(reader, sae, window=plan.tokens, batch_tokens=plan.tokens, chunk_tokens=CHUNK)
    encode(encoder, documents[:20], Clock(options.device))  # the first pack loads kernels

    clock, began = Clock(options.device), time.perf_counter()
    done = encode(encoder, documents, clock, options.seconds)
    busy = 0.0 if staged else sum(clock.seconds().values())
    seconds, span = time.perf_counter() - began, 1.0 if staged else clock.span()
    flops = done["tokens"] * reader.flops_per_token() + done["pooled"] * 2.0 * reader.d_in * d_sae
    a_token = plan.shape.flops_per_token() + 2 * reader.d_in * d_sae
    whole = a_token + (BLOCKS - len(plan.shape.blocks)) * 2 * plan.shape.blocks[0].matrix
    figures: dict[str, Any] = {
        "bench": "gpu_encode",
        "tiny": options.tiny,
        "dtype": options.dtype,
        "kernel": reader.kernel,
        "blocks": len(plan.shape.blocks),
        "stages_of_blocks": stops_of(plan, options.stages),
        "devices": devices,
        "d_sae": d_sae,
        "pack_tokens": plan.tokens,
        "chunk_tokens": CHUNK,
        "pack_fill": utilisation(lengths, packs(lengths, plan.tokens), plan.tokens),
        "padding": 0,
        "matrix_tflops": rate / 1e12,
        "matrix_tflops_fp8": rate_fp8 and rate_fp8 / 1e12,
        "copy_gb_per_second": copy / 1e9,
        "seconds": seconds,
        "tokens": int(done["tokens"]),
        "tokens_per_second": done["tokens"] / seconds,
        "tokens_per_second_51": done["tokens"] / seconds * a_token / whole,
        "active_latents_a_token": done["active"] / done["pooled"],
        "tflops": flops / seconds / 1e12,
        "share_of_matrix_rate": flops / seconds / rate / len(set(devices)),
        "idle_between_batches": None if staged else max(0.0, 1 - busy / span),
        "compile": options.compile,
        # Modules inside a compiled block cannot be timed one by one.
        "stages": [] if options.compile or staged else stages(encoder, documents[:60], rate, copy),
    }
    if options.reference_documents and not staged:
        first = documents[: options.reference_documents]
        reference(encoder, first[:REFERENCE_BATCH], sparse=False)
        for name, sparse in (("reference", False), ("reference_sparse", True)):
            figures[f"{name}_tokens_per_second"] = reference(encoder, first, sparse=sparse)
            figures[f"{name}_times_slower"] = figures["tokens_per_second"] / figures[f"{name}_tokens_per_second"]
    if options.device == "cuda":
        figures["peak_gib"] = max(torch.cuda.max_memory_allocated(device) for device in devices) / 2**30
    figures["planned_gib"] = max(stage.total() for stage in plan.stages) / 2**30
    figures["machine"] = machine(options.device)
    print(json.dumps(figures, default=float), flush=True)
    return figures


if __name__ == "__main__":
    main()
