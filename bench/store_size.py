"""How small the store is: bytes an active latent, and beside per-token pickles of the same documents.

    python bench/store_size.py --input ANSWERS.parquet --column response --documents 200

The pickles are what the reference toolkit (nickjiang2378/interp-embed) keeps: one pickle a dataset with a float32 CSR
matrix tokens x d_sae for every document, its max and sum rows, and its token strings.
"""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from common import arguments, load, report, texts, tokenized
from scipy.sparse import csr_matrix

from saeray.config import EncodeConfig
from saeray.pipeline.encode import encode
from saeray.readers.stream import reader_inputs, residuals
from saeray.store import Store


def main() -> None:
    options = arguments(__doc__.splitlines()[0]).parse_args()
    found = texts(options)
    config, encoder = load(options, "float32")
    documents = tokenized(config, found)
    rows = []
    inputs = [item for i, d in enumerate(documents) for item in reader_inputs(i, d, config.window, config.overlap)]
    for batch, x in residuals(encoder.reader, inputs, encoder.batch_tokens):
        begin = 0
        for item in batch:
            latents = encoder.sae.encode(x[begin : begin + len(item.take)]).float()
            begin += len(item.take)
            matrix = csr_matrix(latents.numpy())
            rows.append(
                {
                    "acts": matrix,
                    "max": csr_matrix(matrix.max(axis=0)),
                    "sum": csr_matrix(matrix.sum(axis=0)),
                    "tokens": [str(token) for token in item.ids],
                }
            )
    pickled = len(pickle.dumps(rows))
    with tempfile.TemporaryDirectory() as directory:
        table = Path(directory) / "documents.jsonl"
        table.write_text("".join(json.dumps({"text": text}) + "\n" for text in found))
        store = str(Path(directory) / "store")
        encode(EncodeConfig(inputs=[str(table)], dataset="size", store=store, encoder=config))
        dataset = Store.open(store).dataset("size")
        parts = sorted(Path(store).glob("datasets/size/documents/*.parquet"))
        whole = sum(part.stat().st_size for part in parts)
        columns: dict[str, int] = {}
        for part in parts:
            meta = pq.ParquetFile(part).metadata
            for group in range(meta.num_row_groups):
                for column in range(meta.num_columns):
                    chunk = meta.row_group(group).column(column)
                    name = chunk.path_in_schema.split(".")[0]
                    columns[name] = columns.get(name, 0) + chunk.total_compressed_size
        active = sum(
            int(np.sum(t["latents"].combine_chunks().value_lengths().to_numpy()))
            for t in dataset.scan(columns=["latents"])
        )
        count = dataset.count()
    report(
        "store_size",
        {
            "documents": count,
            "latents_a_document": active / count,
            "bytes_per_active_latent": (columns["latents"] + columns["max"]) / active,
            "row_bytes": whole / count,
            "column_bytes_a_document": {name: round(size / count, 1) for name, size in columns.items()},
            "pickle_bytes_a_document": pickled / len(rows),
            "times_smaller": pickled / whole,
            "times_smaller_latents_and_max": pickled / (columns["latents"] + columns["max"]),
        },
    )


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
