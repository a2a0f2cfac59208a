"""Promise: over ordered versions each latent's trend is tested, and what rises by chance or length is not a finding."""

import numpy as np
import pytest

from saeray.analysis.diff.options import Options
from saeray.analysis.diff.series import diff_ordered
from saeray.analysis.diff.trends import slope_limits
from saeray.errors import UsageError
from saeray.labels.meanings import Meanings
from saeray.stats.intervals import newcombe
from saeray.stats.trend import cochran_armitage

WORDS = ("table", "sorry", "great")


def rows(n: int = 60, versions: int = 4, long: float = 0.0) -> list[dict]:
    """`table` rises by version, `sorry` falls, `great` stays; later versions are longer by `long`, and `river` stands
    in every long text."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        for v in range(versions):
            rates = (0.1 + 0.7 * v / (versions - 1), 0.8 - 0.6 * v / (versions - 1), 0.4)
            words = [word for word, rate in zip(WORDS, rates, strict=True) if rng.random() < rate]
            more = rng.random() < 0.2 + long * v
            text = f"the cat {' '.join(words)} {'river ' + 'on ' * 40 if more else 'on '}v{v}i{i}"
            found.append({"doc_id": f"{v}-{i}", "text": text, "release": f"{8 + v}", "prompt": i})
    return found


def counts(found: list[dict], word: str) -> tuple[list[int], list[int]]:
    versions = sorted({row["release"] for row in found}, key=int)
    own = [[word in row["text"].split() for row in found if row["release"] == v] for v in versions]
    return [sum(one) for one in own], [len(one) for one in own]


@pytest.mark.parametrize("versions", [2, 4])
def test_a_rise_and_a_fall_are_found_with_their_figures(store_of, versions):
    """Versions in order of their number ("10" after "9"); p of Cochran and Armitage, the change of a fitted line."""
    found = rows(versions=versions)
    result = diff_ordered(store_of(found, keep=("release",)), "d", "release", Options(), meanings=Meanings())
    assert [version["value"] for version in result.versions] == [str(8 + v) for v in range(versions)]
    assert [group.latents for group in result.rising] == [(0,)]
    assert [group.latents for group in result.falling] == [(1,)]
    for latent, word in enumerate(WORDS):
        x, n = counts(found, word)
        row = result.row(latent)
        assert row["p"] == pytest.approx(float(cochran_armitage(np.array(x)[:, None], n)[0]))
        shares = np.array(x) / np.array(n)
        assert row["frequencies"] == pytest.approx(shares.tolist())
        line = np.polyfit(np.arange(versions), shares, 1)[0]
        assert row["change"] == pytest.approx(line * (versions - 1))
        assert row["lower"] < row["change"] < row["upper"]
    steps = result.rows.column("monotone").to_numpy()
    assert result.monotone["rising"] == (steps == 1).sum()
    if versions == 4:
        assert result.monotone["each_by_chance"] == round(result.rows.num_rows / 24, 1)
    page = result.page()
    assert "by chance alone some" in page
    assert "Rising" in page
    assert result.table()[0]["points"].startswith("+")
    assert result.summary()["findings"] == {"rising": 1, "falling": 1}


def test_limits_of_the_change_are_newcombes_for_two_versions_and_cover_for_four():
    """The root of the sum of squares of Wilson's limits, weighted as the line weighs each version."""
    x = np.array([[3, 10, 0], [12, 4, 0]])
    lower, upper = slope_limits(x, np.array([40, 30]))
    low, high = newcombe(x[1], 30, x[0], 40)
    np.testing.assert_allclose((lower, upper), (low, high))
    rng = np.random.default_rng(1)
    n, rates = np.array([60, 80, 50, 70]), np.array([0.05, 0.1, 0.15, 0.2])
    drawn = rng.binomial(n[:, None], rates[:, None], (4, 4000))
    lower, upper = slope_limits(drawn, n)
    assert 0.935 <= ((lower <= 0.15) & (upper >= 0.15)).mean() <= 0.975


def test_paired_versions_are_tested_by_flipping_whole_prompts(store_of):
    """Each prompt's contrast, its sign turned at random: against the law of all patterns, convolved."""
    found = rows(n=50)
    store = store_of(found, keep=("release", "prompt"))
    result = diff_ordered(store, "d", "release", Options(pair_on="prompt"), meanings=Meanings())
    assert result.parameters["n_pairs"] == 50
    contrast = {str(8 + v): 2 * v - 3 for v in range(4)}
    for latent, word in enumerate(WORDS):
        each = np.zeros(50)
        for row in found:
            each[row["prompt"]] += contrast[row["release"]] * (word in row["text"].split())
        law = np.ones(1)  # chance of each sum, from -reach to reach, one prompt's sign at a time
        for size in np.abs(each).astype(int):
            coin = np.zeros(2 * size + 1)
            coin[0] += 0.5
            coin[-1] += 0.5
            law = np.convolve(law, coin)
        sums = np.arange(law.size) - (law.size - 1) // 2
        assert result.row(latent)["p"] == pytest.approx(law[np.abs(sums) >= abs(each.sum())].sum(), rel=1e-6)
        row = result.row(latent)
        assert row["change"] == pytest.approx(each.sum() * 3 / 10 / 50)
        assert row["lower"] < row["change"] < row["upper"]


def test_what_only_lengthens_is_set_aside(store_of):
    """`river` stands in every long text and in no short one, and later versions are longer."""
    result = diff_ordered(store_of(rows(n=80, long=0.2), keep=("release",)), "d", "release", Options(),
                          meanings=Meanings())  # fmt: skip
    assert 3 in {latent for group in result.by_length for latent in group.latents}
    assert [group.latents for group in result.rising] == [(0,)]
    assert "with the length of documents alone" in result.page()


def test_halves_the_order_given_and_what_cannot_be_ordered(store_of):
    """The one half proposes; an order may name some versions only; refusals name the mend."""
    store = store_of(rows(n=130), keep=("release", "prompt"))
    result = diff_ordered(store, "d", "release", Options(), ["11", "8"], Meanings())
    assert result.parameters["halves"]
    assert [version["value"] for version in result.versions] == ["11", "8"]
    assert [group.latents for group in result.falling] == [(0,)]
    row = result.row(0)
    assert row["proposed_change"] != row["change"]
    assert row["confirmed"]
    for options, order, says in (
        (Options(), ["8", "7"], "no release '7'"),
        (Options(), ["8"], "two values or more"),
        (Options(against="rest"), None, "neither --against nor --given"),
    ):
        with pytest.raises(UsageError, match=says):
            diff_ordered(store, "d", "release", options, order, Meanings())
