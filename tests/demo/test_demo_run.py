"""The whole path on what ships: reader, SAE and corpus, as a newcomer runs it.

Of the corpus a third of the prompts; `make soak` takes them all.
"""

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from clusters import quiet_ray

from saeray.config import EncodeConfig
from saeray.demo.run import _make_room, run_demo
from saeray.loading import sae_path
from saeray.pipeline.cluster import connected
from saeray.saes.load import sae_digest
from saeray.store import Store

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module", params=[20, pytest.param(60, marks=pytest.mark.soak)], ids="{} prompts".format)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict]]:
    shipped = [json.loads(line) for line in resources.files("saeray.demo").joinpath("corpus.jsonl").open()]
    rows = [row for row in shipped if row["prompt_id"] < request.param]
    assert len(rows) == 3 * request.param
    package, out = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("demo")
    (package / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # The Ray that the first run would start serves the second too.
    with quiet_ray(), connected(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("saeray.demo.run.resources", SimpleNamespace(files=lambda _: package, as_file=resources.as_file))
        yield out, run_demo(out, None, lambda _line: None)


def corpus(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "corpus.jsonl").read_text().splitlines()]


def telling_words(rows: list[dict], style: str, most: int = 40) -> set[str]:
    """Words by weighted log-odds of one style's answers against the others': the truth that needs no SAE."""
    inside, outside = Counter(), Counter()
    for row in rows:
        words = set(re.findall(r"[a-z']+", row["response"].lower()))
        (inside if row["style"] == style else outside).update(words)
    n = sum(row["style"] == style for row in rows)
    m = len(rows) - n

    def score(word: str) -> float:
        a, b = inside[word], outside[word]
        odds = math.log((a + 0.5) / (n - a + 0.5)) - math.log((b + 0.5) / (m - b + 0.5))
        return odds / math.sqrt(1 / (a + 0.5) + 1 / (b + 0.5))

    return set(sorted(inside, key=score, reverse=True)[:most])


def test_every_document_is_encoded_once(demo: tuple[Path, dict]) -> None:
    """Input rows = documents + rejects, and the store verifies."""
    out, _ = demo
    report = Store.open(str(out / "store")).dataset("demo").verify()
    assert report.ok
    assert report.documents + report.rejected == report.input_rows == len(corpus(out))


def test_pages_show_the_known_difference(demo: tuple[Path, dict]) -> None:
    """Among the pirate's strongest latents are those that peak on words which a plain count finds the pirate's."""
    out, result = demo
    words = telling_words(corpus(out), "pirate")
    table = pq.read_table(out / "pirate" / "result.parquet").to_pylist()
    assert {"latent"} <= set(table[0])
    summary = json.loads((out / "pirate" / "summary.json").read_text())
    strongest = summary["top"]["more_in_target"][:6]
    peaks = [{token.strip().lower() for token in finding["peak_tokens"]} for finding in strongest]
    assert sum(bool(tokens & words) for tokens in peaks) >= 2, (peaks, words)
    assert "<mark>" in (out / "pirate" / "report.html").read_text()
    assert [report["title"] for report in result["reports"]]


def test_again_encodes_nothing(demo: tuple[Path, dict]) -> None:
    """The demo's store resumes like any other."""
    out, _ = demo
    again = run_demo(out, None, lambda _line: None)
    assert again["encoded"]["encoded_shards"] == 0


def test_a_store_of_another_sae_is_made_anew_and_ones_own_is_kept(tmp_path: Path) -> None:
    """Who runs the demo again after an update gets the new SAE's pages, not a refusal."""
    config = EncodeConfig(inputs=["x"], dataset="demo", store=str(tmp_path / "store"))
    own = sae_digest(sae_path("builtin:smollm2-135m-l19-32k"))
    for digest, kept in ((own, True), ("0" * 64, False)):
        shutil.rmtree(config.store, ignore_errors=True)
        Store.open(config.store, create=True).claim_encoder({"sae": {"sha256": digest}})
        said: list[str] = []
        _make_room(config, said.append)
        assert (tmp_path / "store").exists() is kept
        assert bool(said) is not kept
