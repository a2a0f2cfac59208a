"""What a reader in fewer bits changes: residuals, latents, document frequencies and the top of a diff.

    python bench/fidelity.py                                    # the demo's corpus: bfloat16 and fp8 against float32
    python bench/fidelity.py --input ANSWERS.parquet --column response --by model --sides A B --documents 400
    python bench/fidelity.py --against bfloat16 --of fp8 --device cuda --encoder llama-3.3-70b

One encoder after the other reads the same documents; everything is kept on the host and compared there. A table is
printed, and one JSON line for each precision. The numbers, all of pooled tokens unless said otherwise:

- residual: cosine and relative error |y - x| / |x| of each token's vector; `sink` is position 0, which enters no pool.
- tokens: overlap (Jaccard: of the latents active in either, the share active in both) of each token's active latents.
- documents: overlap of each document's latents, by the latent's document frequency under the reference.
- frequency: change in document frequencies; `beyond noise` counts latents whose change is more than 1.96 standard
  errors of a frequency counted on as many documents, sqrt(p (1 - p) / n): what another sample of texts would change.
- maxima: relative error of a document's pooled maximum where the latent is present under both.
- diff: the difference of two sides' document frequencies, of latents present in at least 5 documents and absent from 5.
  The share of the 20 largest that stay among them, and that would if the documents were drawn again, with replacement;
  by how much those 20 change; Spearman's correlation over all; and how many differences are significant (Fisher's
  mid-p, false-discovery rate 5%), with the share of them that the other has too.

The SAE is in the residual stream's precision; with `+sae32` behind the reader's it is in float32.
"""

from __future__ import annotations

import argparse
import gc
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from common import arguments, report
from compared import Figures, Float32, Reading, compare
from scipy.sparse import csr_array, vstack

from saeray.config import EncoderConfig, encoder_config
from saeray.encoder import Encoder
from saeray.errors import SaerayError
from saeray.loading import encoder_of, sae_path, source_of, tokenizer_of
from saeray.readers.batches import batches
from saeray.readers.stream import reader_inputs
from saeray.readers.tokens import DocumentError, TokenizedDocument, apply_long_policy
from saeray.saes.load import load_sae
from saeray.store import list_inputs, location
from saeray.store.rows import column_names, read_rows

PRECISIONS = ("float32", "bfloat16", "fp8", "bfloat16+sae32", "fp8+sae32")


@torch.inference_mode()
def read(encoder: Encoder, documents: Sequence[TokenizedDocument]) -> Reading:
    """The documents through the encoder, with what it drops on the way kept."""
    inputs = [x for i, one in enumerate(documents) for x in reader_inputs(i, one, encoder.window, encoder.overlap)]
    found: dict[int, tuple[Float32, csr_array]] = {}
    for indices in batches([len(item.ids) for item in inputs], encoder.batch_tokens):
        batch = [inputs[i] for i in indices]
        x = encoder.reader.take([one.ids for one in batch], [np.append(0, one.take) for one in batch])
        z = vstack([_sparse(encoder.sae.encode(part)) for part in x.split(encoder.chunk_tokens)], format="csr")
        vectors = x.float().cpu().numpy()
        edges = np.cumsum([0, *(1 + len(one.take) for one in batch)])
        for i, start, stop in zip(indices, edges[:-1], edges[1:], strict=True):
            found[i] = vectors[start:stop], z[start + 1 : stop]
    in_order = [found[i] for i in range(len(inputs))]
    tokens = vstack([latents for _, latents in in_order], format="csr")
    owners = np.repeat([item.owner for item in inputs], [len(item.take) for item in inputs])
    return Reading(
        np.concatenate([vectors[1:] for vectors, _ in in_order]),
        np.stack([vectors[0] for vectors, _ in in_order]),
        tokens,
        _pooled(tokens, owners, len(documents), encoder.sae.presence),
    )


def _sparse(z: torch.Tensor) -> csr_array:
    rows, columns = z.nonzero(as_tuple=True)
    values = z[rows, columns].float().cpu().numpy()
    return csr_array((values, (rows.cpu().numpy(), columns.cpu().numpy())), shape=tuple(z.shape))


def _pooled(
    tokens: csr_array, owners: npt.NDArray[np.int64], documents: int, presence: torch.Tensor | None
) -> csr_array:
    """Each document's maximum of each latent, [documents, d_sae], of tokens [tokens, d_sae] and their documents."""
    cells = tokens.tocoo()
    cell, where = np.unique(owners[cells.row] * tokens.shape[1] + cells.col, return_inverse=True)
    top = np.zeros(len(cell), np.float32)
    np.maximum.at(top, where, cells.data)
    row, column = np.divmod(cell, tokens.shape[1])
    keep = top > (0 if presence is None else presence.cpu().numpy()[column])
    return csr_array((top[keep], (row[keep], column[keep])), shape=(documents, tokens.shape[1]))


def table(found: dict[str, dict[str, Figures]]) -> str:
    """The figures of each precision, side by side."""
    width = max(10, *(len(name) for name in found)) + 2
    lines = [f"{'':36}" + "".join(f"{name:>{width}}" for name in found)]
    for part, figures in next(iter(found.values())).items():
        for name in figures:
            values = "".join(f"{_short(one[part][name]):>{width}}" for one in found.values())
            lines.append(f"{part + ': ' + name.replace('_', ' '):36}{values}")
    return "\n".join(lines)


def _short(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if math.isnan(value) else f"{value:.5f}" if 0.9 < value <= 1 else f"{value:.4g}"


def encoder_in(config: EncoderConfig, precision: str, device: str) -> Encoder:
    """The encoder with its reader in a precision; packed on a GPU."""
    dtype, _, sae = precision.partition("+")
    config = config.model_copy(update={"reader": config.reader.model_copy(update={"dtype": dtype})})
    gc.collect()  # the encoder before this one: its hooks are a cycle
    if device.startswith("cuda"):
        torch.cuda.empty_cache()  # what torch holds back is not free to the memory plan
    encoder = encoder_of(config, source_of(config), device, packed=device != "cpu")
    if sae:
        encoder.sae = load_sae(sae_path(config.sae.path), format=config.sae.format, device=device)
    return encoder


def sides(options: argparse.Namespace) -> list[list[str]]:
    """The texts of each side, in one random order, so that the sides of a paired file keep to the same prompts."""
    found: dict[str, list[str]] = {side: [] for side in options.sides}
    for one in list_inputs([options.input]):
        place = location(one.uri)
        names = column_names(one, place)
        for column in (options.column, options.by):
            if column not in names:
                raise SaerayError(f"no column {column} in {one.name}; it has {', '.join(names)}")
        for row in read_rows(one, place, (options.column, options.by)):
            text, side = row.cells.get(options.column), row.cells.get(options.by)
            if side in found and isinstance(text, str) and text.strip():
                found[side].append(text)
    for side, texts in found.items():
        if not texts:
            raise SaerayError(f"no document of {options.input} has {options.by} {side}")
    order = np.random.default_rng(0).permutation(max(len(texts) for texts in found.values()))
    return [[texts[i] for i in order if i < len(texts)][: options.documents // 2] for texts in found.values()]


def run(options: argparse.Namespace) -> dict[str, dict[str, Figures]]:
    """The figures of each precision; prints a JSON line for each and the table."""
    for precision in (options.against, *options.of):
        if precision not in PRECISIONS:
            raise SaerayError(f"{precision} is no precision: {', '.join(PRECISIONS)}")
    config = encoder_config(options.encoder)
    tokenizer = tokenizer_of(config, source_of(config))
    documents, target = [], []
    for side, texts in enumerate(sides(options)):
        for text in texts:
            try:
                documents.append(apply_long_policy(tokenizer.text(text), "truncate", options.most_tokens))
            except DocumentError:
                continue
            target.append(side == 0)
    reference = read(encoder_in(config, options.against, options.device), documents)
    found = {}
    for precision in options.of:
        found[precision] = compare(
            reference, read(encoder_in(config, precision, options.device), documents), np.array(target)
        )
        facts = {"precision": precision, "against": options.against, "encoder": options.encoder}
        facts |= {"n_documents": len(documents), "n_tokens": len(reference.vectors)}
        report("fidelity", facts | {part: _as_json(figures) for part, figures in found[precision].items()})
    print(table(found), flush=True)
    return found


def _as_json(figures: Figures) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 6) for name, value in figures.items()}


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Figures]]:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--against", default="float32")
    parser.add_argument("--of", nargs="+", default=["bfloat16", "fp8"])
    parser.add_argument("--by", default="style", help="the column that tells a diff's sides apart")
    parser.add_argument("--sides", nargs=2, default=["pirate", "plain"], help="two of its values")
    parser.add_argument("--most-tokens", type=int, default=2048, help="documents are cut there")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        return run(options)
    except SaerayError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
