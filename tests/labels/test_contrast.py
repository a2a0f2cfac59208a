"""The contrasts against references of a few lines that loop where the code multiplies matrices."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labels.auto_corpus import D_SAE, HAND, NOISE, SORRY, side_of, texts

from saeray.labels import contrast
from saeray.labels.candidates import balanced
from saeray.labels.contexts import ACTIVE_FROM, HIGHEST, STRATA, gather, strongest


@pytest.fixture(scope="module")
def corpus():
    return gather(side_of(texts(200)), D_SAE)


@pytest.fixture(scope="module")
def part(corpus):
    return corpus.propose


@pytest.fixture(scope="module")
def peaks(corpus):
    return strongest(corpus.propose, corpus.threshold, strong=5, middling=4)


def test_weight_is_share_times_shrunk_log_ratio():
    """The formula, by hand: 20 of 40 peaks on a word that is 1% of all."""
    said = contrast.weight(np.array([20.0]), np.array([40.0]), np.array([0.01]))
    assert said[0] == pytest.approx(0.5 * math.log((20.08 / 48) / 0.01))


def test_shrinkage_keeps_rare_words_from_winning():
    """A word seen twice that is nowhere else says less than one seen in most peaks, though its ratio is far larger."""
    said = contrast.weight(np.array([2.0, 30.0]), np.array([48.0, 48.0]), np.array([1e-6, 1e-2]))
    assert said[1] > said[0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=60))
def test_commonest_counts_like_a_counter(pairs):
    """Shares are those of a plain count, the order that of the weights, and nothing below `least` is there."""
    row, item = np.array(pairs).T
    n = np.bincount(row, minlength=4)
    top = contrast.commonest(row, item, n, 6, k=6, least=2)
    counts, total = Counter(pairs), Counter(item.tolist())
    for r in range(4):
        expected = {}
        for i in range(6):
            if (c := counts[(r, i)]) >= 2:
                base = total[i] / len(pairs)
                said = c / n[r] * math.log((c + 8 * base) / (n[r] + 8) / base)
                if said > 0:
                    expected[i] = (c / n[r], said)
        found = [i for i in top.item[r].tolist() if i >= 0]
        assert sorted(found) == sorted(expected)
        for place, i in enumerate(found):
            assert top.share[r, place] == pytest.approx(expected[i][0], rel=1e-5)
            assert top.weight[r, place] == pytest.approx(expected[i][1], rel=1e-4)
        assert all(a >= b for a, b in zip(top.weight[r], top.weight[r][1:], strict=False))


def test_strongest_are_the_largest_and_the_middling_are_spread(corpus, part):
    """The first peaks of a latent are its largest maxima; the others are active, in order, and of other documents."""
    found = strongest(part, corpus.threshold, strong=5, middling=4)
    for latent in range(D_SAE):
        mine = found.pair[found.latent == latent]
        values = part.pair_value[part.pair_latent == latent]
        active = np.sort(values[values >= corpus.threshold[latent]])[::-1]
        assert found.n[latent] == len(mine) == min(len(active), 9)
        assert len(set(mine.tolist())) == len(mine)
        picked = part.pair_value[mine]
        assert picked[:5].tolist() == active[:5].tolist()
        assert (np.diff(picked) <= 0).all()


def test_threshold_is_a_share_of_the_strongest_mean(corpus, part):
    """Active begins at ACTIVE_FROM of the mean maximum of the strongest documents."""
    values = np.sort(part.pair_value[part.pair_latent == SORRY])[::-1][:HIGHEST].astype(float)
    assert corpus.threshold[SORRY] == pytest.approx(ACTIVE_FROM * values.mean(), rel=1e-5)
    assert np.isinf(corpus.threshold[D_SAE - 1])


def test_neighbours_stay_in_their_text(corpus, part, peaks):
    """The word before the peak is the text's own: a peak on the first word has none."""
    n_words = len(corpus.vocabulary.words)
    before = contrast.neighbours(part, peaks, -1, n_words, 4)
    names = corpus.vocabulary.words
    seen = Counter()
    for unit in peaks.unit[peaks.latent == SORRY].tolist():
        if unit > part.unit_first[part.unit_document[unit]]:
            seen[names[part.unit_word[unit - 1]]] += 1
    best = [names[i] for i in before.item[SORRY] if i >= 0]
    assert best[0] == "am"
    assert before.share[SORRY, 0] == pytest.approx(seen["am"] / peaks.n[SORRY])


def test_phrase_is_the_longest_common_run(corpus, part, peaks):
    """A latent on 'other' in 'on the other hand' is told by the whole phrase."""
    names = corpus.vocabulary.words
    found = contrast.phrases(part, peaks, np.array([w[0].isalnum() for w in names]))
    place, size = found.place[HAND], found.size[HAND]
    assert [names[i] for i in part.unit_word[place : place + size]] == ["on", "the", "other", "hand"]
    assert found.share[HAND] == 1
    assert found.place[NOISE] == -1


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(2, 4))
def test_equal_runs_have_equal_hashes(words, size):
    """Hashes of runs agree exactly where the runs agree."""
    array = np.array(words, np.int32)
    hashes = contrast.run_hashes(array, size)
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    assert len(hashes) == len(runs)
    assert len(set(hashes.tolist())) == len(set(runs))
    assert len(set(zip(hashes.tolist(), runs, strict=True))) == len(set(runs))


def test_class_terms_against_loops(corpus, part, peaks):
    """Class-based TF-IDF of one latent, counted document by document."""
    names = corpus.vocabulary.words
    n_words = len(names)
    has = contrast.document_words(part, n_words)
    wordlike = np.array([w.isalpha() and len(w) > 2 for w in names])
    terms = contrast.term_numbers(has, wordlike, 4, 0.5)
    top = contrast.class_terms(has, part, peaks, terms, 5)
    sets = [set(part.unit_word[a:b].tolist()) for a, b in zip(part.unit_first, part.unit_first[1:], strict=False)]
    sizes = np.diff(part.unit_first)
    for latent in (SORRY, HAND):
        documents = part.unit_document[peaks.unit[peaks.latent == latent]].tolist()
        longer = np.mean([sizes[d] for d in documents]) / sizes.mean()
        expected = {}
        for term in terms.tolist():
            count = sum(term in sets[d] for d in documents)
            base = min(0.95, sum(term in s for s in sets) / len(sets) * longer)
            if count >= 2:
                expected[term] = count / len(documents) * math.log((count + 8 * base) / (len(documents) + 8) / base)
        best = sorted((v for v in expected.values() if v > 0), reverse=True)[:5]
        assert top.weight[latent][: len(best)].tolist() == pytest.approx(best, rel=1e-4)
        assert all(expected[i] > 0 for i in top.item[latent].tolist() if i >= 0)


def test_rates_against_loops(corpus, part):
    """Rates of a test among active and silent documents, silent ones weighed to the active ones' lengths."""
    holds = (part.amount >= 1).astype(np.float32)[:, :40]
    active = corpus.active(part)
    found = contrast.test_rates(part, active, holds)
    for latent in (SORRY, NOISE):
        on = {
            int(d)
            for d, a in zip(
                part.pair_document[part.pair_latent == latent], active[part.pair_latent == latent], strict=True
            )
            if a
        }
        present = set(part.pair_document[part.pair_latent == latent].tolist())
        silent = [d for d in range(part.n_documents) if d not in present]
        share, used = np.zeros(40), 0.0
        for s in range(STRATA):
            quiet = [d for d in silent if part.stratum[d] == s]
            mine = sum(part.stratum[d] == s for d in on) / len(on)
            if quiet:
                share += mine * holds[quiet].mean(axis=0)
                used += mine
        assert found.silent[latent] == pytest.approx(share / used, abs=1e-5)
        assert found.active[latent] == pytest.approx(holds[sorted(on)].mean(axis=0), abs=1e-5)


def test_balanced_accuracy_against_loops():
    """Balanced accuracy with weighed silent documents, pulled to a half for few active ones."""
    rng = np.random.default_rng(0)
    active, said = (rng.random((3, 40)) < 0.4).astype(np.float32), (rng.random((3, 40)) < 0.5).astype(np.float32)
    silent = (1 - active) * (rng.random((3, 40)) < 0.8)
    strata = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 40)]
    found = balanced(active, silent.astype(np.float32), said, strata)
    for row in range(3):
        n = active[row].sum()
        true = (said[row] * active[row]).sum() / n
        false = sum(
            (said[row] * silent[row] * strata[:, s]).sum()
            / (silent[row] * strata[:, s]).sum()
            * (active[row] * strata[:, s]).sum()
            / n
            for s in range(2)
        )
        assert found[row] == pytest.approx(0.5 + ((true + 1 - false) / 2 - 0.5) * n / (n + 2), abs=1e-5)
    assert balanced(active * 0, silent.astype(np.float32), said, strata).tolist() == [0.5] * 3


def test_spot_shares_against_loops(part, peaks):
    """The share of a latent's peaks inside a test's spans, peak by peak."""
    found = contrast.spot_shares(part, peaks, block=7)
    bits = part.bits(peaks.unit)
    for latent in range(D_SAE):
        mine = peaks.latent == latent
        expected = bits[mine].mean(axis=0) if mine.any() else np.zeros(bits.shape[1])
        assert found[latent] == pytest.approx(expected, abs=1e-5)
