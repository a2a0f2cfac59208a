"""Automatic labels: planted meanings are found and said, from the right documents, the same every time."""

import json

import pytest
from labels.auto_corpus import (
    CODE,
    D_SAE,
    FRENCH,
    HAND,
    NEVER,
    NOISE,
    RARE,
    SORRY,
    SPACE,
    TABLE,
    encode,
    side_of,
    texts,
)

from saeray.errors import SaerayError
from saeray.labels.auto import auto_labels, facts_of, label
from saeray.labels.baselines import TOP_TOKENS, top_tokens
from saeray.labels.predict import predict
from saeray.labels.splits import split_of
from saeray.labels.store import LABEL_SCHEMA


@pytest.fixture(scope="module")
def corpus():
    return texts()


@pytest.fixture(scope="module")
def facts(corpus):
    return facts_of(side_of(corpus), D_SAE)


@pytest.fixture(scope="module")
def table(facts):
    return label(facts, date="2026-01-02")


@pytest.fixture(scope="module")
def rows(table):
    return {row["latent"]: row | {"evidence": json.loads(row["evidence"])} for row in table.to_pylist()}


@pytest.mark.parametrize(
    ("latent", "kind", "said"),
    [
        (SORRY, "word", "sorry"),
        (FRENCH, "form", "French"),
        (SPACE, "topic", "planet"),
        (TABLE, "form", "Markdown table"),
        (HAND, "word", "on the other hand"),
        (CODE, "form", "Python code"),
    ],
)
def test_planted_meaning_is_said(rows, latent, kind, said):
    """A latent of a word, a language, a topic, markup, a phrase or code is called so, with that kind."""
    assert said in rows[latent]["text"]
    assert rows[latent]["kind"] == kind


def test_noise_is_called_unclear(rows):
    """A latent that fires anywhere gets no claim."""
    assert rows[NOISE]["kind"] == "unclear"


def test_too_few_documents_no_label(rows):
    """A latent in two documents, and one in none, have no row."""
    assert RARE not in rows
    assert NEVER not in rows


def test_schema_source_and_date(table):
    """The rows are label rows: the source, model and date that were given, no score, sorted by latent."""
    assert table.schema.equals(LABEL_SCHEMA)
    assert set(table.column("source").to_pylist()) == {"auto"}
    assert set(table.column("date").to_pylist()) == {"2026-01-02"}
    assert table.column("score").null_count == table.num_rows
    assert table.column("latent").to_pylist() == sorted(table.column("latent").to_pylist())


def test_labels_are_short(rows):
    """A label is a phrase of at most 14 words, not a list of everything seen."""
    assert all(0 < len(row["text"].split()) <= 14 for row in rows.values())


def test_evidence_holds_what_the_contract_names(rows, corpus):
    """Shares, lifts and the frequency stand beside the label; the frequency is that of the documents read."""
    evidence = rows[SORRY]["evidence"]
    assert {"test", "tokens", "before", "after", "terms", "surface", "position", "documents", "frequency"} <= set(
        evidence
    )
    read = [i for i, t in enumerate(corpus) if split_of(t) != "score"]
    have = [i for i in read if SORRY in encode(corpus[i], i)["latents"]]
    assert evidence["frequency"] == pytest.approx(len(have) / len(read), abs=1e-4)


def test_own_test_tells_unseen_texts(rows):
    """The test in the evidence separates new texts with the property from new ones without it."""
    new = texts(160, seed=9)
    for latent in (SORRY, FRENCH, SPACE, TABLE, HAND, CODE):
        said = predict(rows[latent]["evidence"]["test"], new) >= 0.5
        truth = [latent in encode(t, 50 + i)["latents"] for i, t in enumerate(new)]
        hits = [s for s, t in zip(said, truth, strict=True) if t]
        alarms = [s for s, t in zip(said, truth, strict=True) if not t]
        assert sum(hits) / len(hits) > 0.9, latent
        assert sum(alarms) / len(alarms) < 0.15, latent


def test_score_documents_are_never_looked_at(corpus, table):
    """Whatever stands in the documents kept for scoring, the labels are the same: their score is honest."""
    kept = [t for t in corpus if split_of(t) != "score"]
    assert len(kept) < len(corpus)
    # The numbers of texts decide their latents in this corpus, so removed rows keep their places as empty texts.
    blanked = side_of([t if split_of(t) != "score" else " " for t in corpus])
    assert auto_labels(blanked, D_SAE, date="2026-01-02").equals(table)


def test_same_input_same_rows_whatever_the_batches(corpus, table):
    """Labels do not depend on how rows were cut into tables."""
    assert auto_labels(side_of(corpus, step=7), D_SAE, date="2026-01-02").equals(table)


def test_copies_of_a_text_count_once(corpus, facts):
    """A text that stands in a dataset ten times is evidence once."""
    twice = facts_of(side_of([*corpus, *corpus[:50]]), D_SAE)
    assert twice.corpus.propose.n_documents == facts.corpus.propose.n_documents


def test_top_tokens_are_the_commonest(table):
    """The plain baseline names the commonest peak tokens of each latent, with a test that predicts by them."""
    rows = {row["latent"]: row for row in top_tokens(table).to_pylist()}
    assert rows[SORRY]["text"].split(", ")[0] == "sorry"
    assert rows[SORRY]["source"] == TOP_TOKENS
    test = json.loads(rows[SORRY]["evidence"])["test"]
    assert predict(test, ["I am sorry.", "A green field."]).tolist() == [0.5, 0.0]


def test_no_texts_is_said():
    """A dataset stored without its texts is refused with the reason."""
    with pytest.raises(SaerayError, match="without its texts"):
        auto_labels(side_of(texts(20), text=False), D_SAE)


def test_latent_beyond_the_encoder_is_refused(corpus):
    """Rows of another SAE do not become labels of this one."""
    with pytest.raises(SaerayError, match="the encoder has 3"):
        auto_labels(side_of(corpus), 3)
