"""What the distributed job costs beside the bare encoder: tokens/s from first to last commit over the encoder's own.

    python bench/ray_overhead.py --input ANSWERS.parquet --column response --documents 700

Both encode the same shards with the same threads; the bare encoder runs first and again afterwards, because a shared
machine drifts. Start-up (connecting, describing the encoder, the first shard) is stated apart.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from common import arguments, load, report, texts

from saeray.config import EncodeConfig
from saeray.encoder import Encoder
from saeray.loading import source_of, tokenizer_of
from saeray.pipeline.encode import encode
from saeray.pipeline.rows import documents_of, tokenize
from saeray.readers.tokens import TokenizedDocument
from saeray.store import Store, read_shard


def bare(encoder: Encoder, shards: list[list[TokenizedDocument]]) -> float:
    """Pooled tokens a second of the encoder alone."""
    tokens = sum(int((document.channel >= 0).sum()) for shard in shards for document in shard)
    begin = time.perf_counter()
    for shard in shards:
        encoder.encode(shard)
    return tokens / (time.perf_counter() - begin)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--shard-tokens", type=int, default=20_000)
    parser.add_argument("--bare-shards", type=int, default=3)
    options = parser.parse_args()
    config, encoder = load(options, "float32")
    with tempfile.TemporaryDirectory() as directory:
        table = Path(directory) / "documents.jsonl"
        table.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(options)))
        store = str(Path(directory) / "store")
        begin = time.time()
        result = encode(
            EncodeConfig(
                inputs=[str(table)],
                dataset="overhead",
                store=store,
                encoder=config,
                shard_tokens=options.shard_tokens,
                threads=options.threads,
            )
        )
        dataset = Store.open(store).dataset("overhead")
        plan = dataset.plans()[0]
        commits = sorted(
            (path.stat().st_mtime, json.loads(path.read_text())["tokens"])
            for path in Path(store).glob("datasets/overhead/commits/*.json")
        )
        tokenizer = tokenizer_of(config, source_of(config))
        shards = []
        for shard in plan.shards[: options.bare_shards]:
            found = read_shard(plan, shard)
            shards.append(documents_of(tokenize(found, "x", tokenizer, config.long, config.window)[0]))
    encoder.encode(shards[0][:4])
    alone = bare(encoder, shards)
    seconds = commits[-1][0] - commits[0][0]
    together = sum(tokens for _, tokens in commits[1:]) / seconds
    alone = (alone + bare(encoder, shards)) / 2
    report(
        "ray_overhead",
        {
            "shards": len(commits),
            "tokens": result.tokens,
            "seconds_first_to_last_commit": seconds,
            "tokens_per_second": together,
            "bare_tokens_per_second": alone,
            "share_of_bare": together / alone,
            "seconds_to_first_commit": commits[0][0] - begin,
        },
    )


if __name__ == "__main__":
    main()
