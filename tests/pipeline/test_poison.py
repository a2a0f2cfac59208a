"""Guards that bad work stays its own: a poison document is a reject, a shard of a cut file is told, the rest done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from runs import assert_whole, dataset_of, encode_config, random_texts, write_jsonl
from tiny import encoder_yaml, make_model, make_reader_dir, make_sae_dir, make_tokenizer
from transformers import AutoTokenizer

from saeray.config import encoder_config
from saeray.description import describe
from saeray.pipeline.encode import encode
from saeray.store import PlanSettings, Store, list_inputs

pytestmark = pytest.mark.usefixtures("ray_address")


def test_a_document_that_the_reader_fails_on_is_a_reject(tmp_path: Path) -> None:
    """Its tokenizer knows a token that the model has no embedding for: torch raises, for this document alone."""
    reader = make_reader_dir(tmp_path / "reader", shards=1)
    make_model(vocab=399).save_pretrained(reader)
    last = make_tokenizer().convert_ids_to_tokens(399).replace("Ġ", " ")
    tokenizer = AutoTokenizer.from_pretrained(reader)
    good = ["1 2 3", "4 5 6 7", "8 9"]
    assert max(max(tokenizer(text)["input_ids"]) for text in good) < 399
    assert 399 in tokenizer(f"1 2{last}")["input_ids"]
    inputs = write_jsonl(tmp_path / "a.jsonl", [good[0], f"1 2{last} secret", good[1], good[2]])
    yaml = encoder_yaml(tmp_path / "e.yaml", reader, make_sae_dir(tmp_path / "sae", d_in=32))

    result = encode(encode_config(inputs, tmp_path / "store", yaml))
    assert (result.shards, result.encoded, result.documents, result.rejects) == (1, 1, 3, 1)
    [reject] = dataset_of(tmp_path / "store").rejects().to_pylist()
    assert (reject["row"], reject["doc_id"]) == (1, "a.jsonl:1")
    assert reject["reason"].startswith("the reader failed on it: index out of range")
    assert "secret" not in reject["reason"]
    assert_whole(tmp_path / "store")


def test_a_shard_whose_input_was_cut_after_planning_is_reported_and_the_rest_is_done(
    encoder: Path, tmp_path: Path
) -> None:
    inputs = tmp_path / "in"
    write_jsonl(inputs / "a.jsonl", random_texts(5, 8, (20, 120)))
    cut = write_jsonl(inputs / "b.jsonl", random_texts(6, 8, (20, 120)))
    whole, stamp = cut.read_bytes(), cut.stat()
    store = Store.open(str(tmp_path / "store"), create=True)
    store.claim_encoder(describe(encoder_config(str(encoder))))
    dataset = store.dataset("texts", create=True)
    plan = dataset.add_plan(list_inputs([str(inputs)]), PlanSettings(shard_tokens=300))
    assert plan is not None
    lost = [shard.shard for shard in plan.shards if plan.input_of(shard).name == "b.jsonl"]
    cut.write_bytes(whole[: len(whole) // 2])

    config = encode_config(inputs / "a.jsonl", tmp_path / "store", encoder)
    result = encode(config)
    assert sorted(result.failed) == lost
    assert all("b.jsonl changed after it was planned" in reason for reason in result.failed.values())
    assert result.missing == len(lost)
    assert result.encoded == result.shards - len(lost) > 0

    cut.write_bytes(whole)
    os.utime(cut, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert encode(config).missing == 0
    assert_whole(tmp_path / "store")
