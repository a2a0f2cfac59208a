"""Guards that a label's score is earned: on documents nobody used before, against silent ones that are hard to tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_words import D_SAE, WORDS, WordEmbedder, labels_of, row, side_of, texts_of

from saeray.errors import SaerayError, UsageError
from saeray.labels.detection import NEIGHBOURS, gather, passage
from saeray.labels.score import midpoint, score_labels, with_scores
from saeray.labels.splits import split_of

TEXTS = texts_of(600)
TRUE = list(enumerate(WORDS))


def contains(test: dict[str, Any], texts: Sequence[str]) -> np.ndarray:
    """The test of these labels: is the word there?"""
    return np.array([float(test["word"] in text.split()) for text in texts])


def with_test(rows: Sequence[tuple[int, str]]) -> pa.Table:
    return pa.concat_tables([labels_of([r], evidence=json.dumps({"test": {"word": r[1]}})) for r in rows])


def scored(labels: pa.Table, texts: Sequence[str] = TEXTS, **options: Any) -> Any:
    options = {"embedder": WordEmbedder(), "predict": contains} | options
    return score_labels(side_of(texts), D_SAE, labels, **options)


def test_a_right_label_scores_1_and_a_wrong_one_about_a_half() -> None:
    """Latents that are words, labelled with their word and with the next word."""
    right = scored(with_test(TRUE)).table.to_pylist()
    assert [r["latent"] for r in right] == list(range(len(WORDS)))
    for r in right:
        assert r["n_positive"] == r["n_negative"] == 20
        assert r["n_hard"] == 10
        for name in ("auroc_embedding", "auroc_test", "balanced_accuracy_test", "auroc_hard"):
            assert r[name] == 1.0, name
        assert r["balanced_accuracy_embedding"] > 0.9
    wrong = scored(with_test([(i, WORDS[(i + 1) % len(WORDS)]) for i, _ in TRUE])).table.to_pylist()
    assert np.mean([r["balanced_accuracy_embedding"] for r in wrong]) == pytest.approx(0.5, abs=0.12)
    assert np.mean([r["balanced_accuracy_test"] for r in wrong]) == pytest.approx(0.5, abs=0.12)


def test_the_summary_has_means_intervals_and_shuffled_labels() -> None:
    """The mean stands beside its interval and beside what the same labels get when dealt to other latents."""
    found = scored(with_test([(i, word if i % 2 else "of") for i, word in TRUE]))
    own = found.summary["sources"]["mine"]
    values = found.table.column("balanced_accuracy_embedding").to_numpy().astype(float)
    figures = own["balanced_accuracy_embedding"]
    assert figures["mean"] == pytest.approx(values.mean(), abs=1e-4)
    half = 1.96 * values.std() / len(values) ** 0.5
    assert figures["low"] == pytest.approx(values.mean() - half, abs=0.3 * half)
    assert figures["high"] == pytest.approx(values.mean() + half, abs=0.3 * half)
    assert own["labels"] == own["scored"] == len(WORDS)
    shuffled = scored(with_test(TRUE)).summary["shuffled"]["balanced_accuracy_embedding"]
    assert shuffled["mean"] == pytest.approx(0.5, abs=0.12)


def test_propose_documents_are_never_read_and_score_documents_set_no_threshold() -> None:
    """Nothing of a propose document reaches a reader, and the choose and score documents are the splits' own."""
    embedder, tested = WordEmbedder(), []

    def recording(test: dict[str, Any], texts: Sequence[str]) -> np.ndarray:
        tested.extend(texts)
        return contains(test, texts)

    scored(with_test(TRUE), embedder=embedder, predict=recording)
    assert {split_of(text) for text in tested} == {"choose", "score"}
    assert {split_of(t) for t in embedder.asked if t not in WORDS} <= {"choose", "score"}
    assert len(set(embedder.asked)) == len(embedder.asked), "a text was embedded twice"


def test_the_threshold_comes_from_the_choose_documents() -> None:
    """A reader that says more of every score document passes all of them: ranks stay, the threshold does not follow."""

    class Drifting(WordEmbedder):
        def embed(self, texts: Sequence[str]) -> np.ndarray:
            found = super().embed(texts)
            for i, text in enumerate(texts):
                if len(text.split()) > 1:
                    present = float(WORDS[0] in text.split())
                    level = 0.2 * present + (0.7 if split_of(text) == "score" else 0.0)
                    found[i] = 0
                    found[i, 0], found[i, 1] = level, (1 - level**2) ** 0.5
                else:
                    found[i] = 0
                    found[i, 0] = 1
            return found

    [r] = scored(labels_of(TRUE[:1]), embedder=Drifting()).table.to_pylist()
    assert r["auroc_embedding"] == 1.0
    assert r["balanced_accuracy_embedding"] == 0.5
    assert r["auroc_test"] is None


def test_too_few_documents_give_no_score_and_are_counted() -> None:
    """A latent that is never there, and one that stands in too few score documents."""
    rare = [text + " zebra" if i % 150 == 0 else text for i, text in enumerate(TEXTS)]
    found = scored(labels_of([*TRUE, (9, "never"), (10, "nothing")]), texts=rare)
    by_latent = {r["latent"]: r for r in found.table.to_pylist()}
    assert by_latent[9]["n_positive"] == 0
    for name in ("auroc_embedding", "balanced_accuracy_embedding", "auroc_hard"):
        assert by_latent[9][name] is None
        assert by_latent[0][name] is not None
    assert found.summary["sources"]["mine"]["too_few_documents"] == 2
    everywhere = [f"river {text}" for text in TEXTS]
    assert scored(labels_of([(0, "river")]), texts=everywhere).table.column("auroc_embedding").to_pylist() == [None]


def test_scores_do_not_depend_on_shards_order_or_company() -> None:
    """The same documents in other tables and another order, the same labels alone: the same scores."""
    labels = with_test(TRUE)
    found = scored(labels).table
    order = np.random.default_rng(5).permutation(len(TEXTS))
    side = side_of([TEXTS[i] for i in order], step=37, ids=[f"d{i}" for i in order])
    again = score_labels(side, D_SAE, labels.take(pa.array([3, 1, 0, 2, 7, 6, 5, 4])), WordEmbedder(), predict=contains)
    assert again.table.equals(found)
    alone = scored(labels.slice(2, 1)).table
    assert alone.equals(found.slice(2, 1))


def test_copies_of_a_text_count_once() -> None:
    """A thousand copies of one answer are one document; the first by hash of its id stands for it."""
    copies = [*TEXTS, *[TEXTS[0]] * 50, *[TEXTS[1]] * 50]
    pools = gather(side_of(copies), D_SAE, {"propose": 5000, "choose": 5000, "score": 5000})
    assert sorted(text for pool in pools.values() for text in pool.texts) == sorted(set(TEXTS))


def test_a_sample_is_drawn_by_seed() -> None:
    """As many latents as asked, the same for a seed, others for another; all their labels."""
    labels = pa.concat_tables([labels_of(TRUE), labels_of(TRUE, "other")])
    drawn = [scored(labels, sample=3, seed=seed).table.column("latent").to_pylist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    for latents in drawn:
        assert len(latents) == 6
        assert len(set(latents)) == 3
    assert scored(labels, sample=None).table.num_rows == 16


@pytest.mark.parametrize("latent", range(len(WORDS)))
def test_positives_span_the_range_and_negatives_are_silent(latent: int) -> None:
    """Half the positives are the strongest, the others spread; hard negatives stand at a neighbour's peak."""
    pool = gather(side_of(TEXTS), D_SAE, {"score": 5000})["score"]
    near = pool.neighbours(np.array([latent]))[0]
    assert len(near) == NEIGHBOURS
    draw = pool.draw(latent, near, 20)
    texts = [pool.texts[i] for i in draw.rows]
    own = {t: row("", t) for t in pool.texts}
    value = {t: r["max"][r["latents"].index(latent)] for t, r in own.items() if latent in r["latents"]}
    assert len(set(texts)) == len(texts) == 40
    assert [t in value for t in texts] == draw.positive.tolist() == [True] * 20 + [False] * 20
    ranked = sorted(value.values(), reverse=True)
    assert sorted((value[t] for t in texts[:10]), reverse=True) == ranked[:10]
    for t, part in zip(texts[10:20], np.array_split(ranked[10:], 10), strict=True):
        assert part[-1] <= value[t] <= part[0]
    for t, place, positive, hard in zip(texts, draw.places, draw.positive, draw.hard, strict=True):
        word = t.split(" ")[place]
        if positive:
            assert word == WORDS[latent]
        if hard:
            present = [int(n) for n in near if n >= 0 and int(n) in own[t]["latents"]]
            assert word == WORDS[present[0]]


def test_random_negatives_are_a_fair_draw_of_silent_documents() -> None:
    """Over all latents the random silent documents hold other words as often as silent documents do."""
    pool = gather(side_of(TEXTS), D_SAE, {"score": 5000})["score"]
    drawn, silent = [], []
    for latent, word in TRUE:
        draw = pool.draw(latent, np.array([(latent + 1) % len(WORDS)]), 40)
        easy = ~draw.positive & ~draw.hard
        others = [w for w in WORDS if w != word]
        drawn += [sum(w in pool.texts[i].split() for w in others) for i in draw.rows[easy]]
        silent += [sum(w in t.split() for w in others) for t in pool.texts if word not in t.split()]
    assert np.mean(drawn) == pytest.approx(np.mean(silent), abs=4 * np.std(silent) / len(drawn) ** 0.5)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_the_threshold_is_half_way_between_the_classes(pairs: list[tuple[int, bool]]) -> None:
    scores, positive = np.array([s for s, _ in pairs], float), np.array([p for _, p in pairs])
    yes, no = scores[positive], scores[~positive]
    if len(yes) and len(no):
        assert midpoint(scores, positive) == pytest.approx((sum(yes) / len(yes) + sum(no) / len(no)) / 2)


@settings(max_examples=200)
@given(st.text(st.sampled_from("ab. \n"), min_size=1, max_size=700), st.data())
def test_a_passage_is_a_short_piece_of_its_text_around_the_place(text: str, data: st.DataObject) -> None:
    """It holds the place, is no wider than asked, and few places of one text make few passages."""
    at = data.draw(st.integers(0, len(text) - 1))
    found = passage(text, at)
    assert 0 < len(found) <= 200
    starts = [i for i in range(len(text)) if text.startswith(found, i)]
    assert any(i <= at < i + len(found) for i in starts)
    assert len({passage(text, i) for i in range(len(text))}) <= 3 * (1 + len(text) // 100)


def test_scores_are_written_beside_their_labels_alone() -> None:
    """A label that was not drawn keeps the score it had, and nothing else of a row changes."""
    labels = labels_of(TRUE)
    before = pa.array([0.25] * len(TRUE), pa.float32())
    labels = labels.set_column(labels.schema.get_field_index("score"), "score", before)
    scores = scored(labels, sample=3)
    after = with_scores(labels, scores)
    found = dict(
        zip(*(scores.table.column(c).to_pylist() for c in ("latent", "balanced_accuracy_embedding")), strict=True)
    )
    assert after.column("score").to_pylist() == [found.get(i, 0.25) for i, _ in TRUE]
    assert after.drop_columns("score").equals(labels.drop_columns("score"))
    assert after.schema == labels.schema


def test_what_cannot_be_scored_is_one_line() -> None:
    """No texts stored, no labels, labels of another SAE."""
    with pytest.raises(UsageError, match="without its texts"):
        score_labels(side_of(TEXTS, drop=["text"]), D_SAE, labels_of(TRUE), WordEmbedder())
    with pytest.raises(UsageError, match="no labels to score"):
        scored(labels_of([(0, " ")]))
    with pytest.raises(SaerayError, match="another SAE"):
        scored(labels_of([(99, "river")]))
