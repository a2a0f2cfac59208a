"""Promise: two halves that share no key and no text, the one to propose and the other to measure."""

import numpy as np
import pyarrow as pa
import pytest

from saeray.analysis.diff.design import Design
from saeray.analysis.diff.halving import halve, halves_of
from saeray.analysis.diff.options import Options
from saeray.analysis.diff.run import compare, diff
from saeray.errors import UsageError
from saeray.labels.meanings import Meanings
from saeray.stats.intervals import newcombe
from saeray.stats.significance import fisher_midp

MADE = {"saeray": "0", "store": "s", "fingerprint": "f", "d_sae": 32}


def texts(name: str, n: int, rate: float, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng([seed, ord(name)])
    return [
        {"doc_id": f"{name}{i}", "text": f"the cat {'table' if rng.random() < rate else 'on'} {name}{i}"}
        for i in range(n)
    ]


def test_halves_keep_keys_and_texts_together(side_of):
    """An answer seen word for word in the proposing half would verify itself."""
    canned = [{"doc_id": f"c{i}", "text": "I cannot do that."} for i in range(8)]
    rows = {"a": texts("a", 200, 0.5), "b": [*texts("b", 200, 0.5), *canned[:4]]}
    rows["c"] = [*texts("c", 150, 0.5), *canned[4:]]
    sides = [side_of(own, name) for name, own in rows.items()]
    masks = halves_of(sides)
    assert masks[1][-4:].tolist() == [masks[1][-1]] * 4 == masks[2][-4:].tolist()
    assert all(0.35 < mask.mean() < 0.65 for mask in masks)
    again = halves_of(sides[::-1])[::-1]
    for one, other in zip(masks, again, strict=True):
        np.testing.assert_array_equal(one, other)
    key = np.arange(200) // 4
    design = Design(tuple(side.where(np.arange(side.n_documents) < 150) for side in sides), "max", (key[:150],) * 3, 38)
    names = pa.array([f"k{i}" for i in range(38)])
    halved, _ = halve(design, names, None)
    assert halved.proposing is None, "38 keys are too few"
    own = halves_of(design.sides, (names, design.keys))
    for mask in own:
        assert all(len(set(mask[key[:150] == k].tolist())) == 1 for k in range(38))


def test_each_figure_comes_from_its_half(side_of):
    """p and the proposed difference of the one half, the difference and its limits of the other, by a plain count."""
    found = {"a": texts("a", 300, 0.6), "b": texts("b", 260, 0.3)}
    sides = tuple(side_of(rows, name) for name, rows in found.items())
    design, facts = halve(Design(sides), None, None)
    assert facts == {"halves": True, "halves_by": "keys and texts", "why_no_halves": None}
    result = compare(design, MADE, Options(), Meanings(), facts)
    row = result.row(0)
    counts = []
    for name, mask in zip("ab", design.proposing, strict=True):
        has = np.array(["table" in row["text"] for row in found[name]])
        counts.append([(int(has[own].sum()), int(own.sum())) for own in (mask, ~mask)])
    (a, n), (c, m) = counts[0]
    (b, k), (d, j) = counts[1]
    assert row["p"] == pytest.approx(float(fisher_midp(a, n, b, k)))
    assert row["proposed_difference"] == pytest.approx(a / n - b / k)
    assert row["difference"] == pytest.approx(c / m - d / j)
    assert [row["lower"], row["upper"]] == pytest.approx([float(one) for one in newcombe(c, m, d, j)])
    assert row["documents"] == [c, d]
    assert row["confirmed"]
    assert [side["proposing"] for side in result.sides] == [n, k]
    held = {row["doc_id"] for row, own in zip(found["a"], design.proposing[0], strict=True) if not own}
    assert {example.doc_id for example in result.evidence[0].examples} <= held, "evidence is of the verifying half"
    # The design's halves are what a judge reads.
    assert set(design.verifiers().sides[0].doc_ids.to_pylist()) == held
    assert design.proposers().sides[0].n_documents + len(held) == 300


def test_a_proposal_that_the_other_half_refutes_is_not_confirmed(side_of):
    """More in the target's proposing half, no more in its other one."""
    design, facts = halve(Design((side_of(texts("a", 300, 0.5), "a"), side_of(texts("b", 300, 0.5), "b"))), None, True)
    sides = []
    for side, mask, name in zip(design.sides, design.proposing, "ab", strict=True):
        rate = [0.5, 0.9 if name == "a" else 0.1]
        words = ["table" if i % 10 < 10 * rate[int(own)] else "on" for i, own in enumerate(mask)]
        sides.append(
            side_of([{"doc_id": f"{name}{i}", "text": f"cat {w} {name}{i}"} for i, w in enumerate(words)], name)
        )
        assert side.n_documents == 300
    result = compare(Design(tuple(sides), proposing=design.proposing), MADE, Options(), Meanings(), facts)
    row = result.row(0)
    assert row["proposed_difference"] > 0.7
    assert (abs(row["difference"]) < 0.2, row["confirmed"]) == (True, False)
    assert result.more[0].latents == (0,), "it was proposed, so it is shown, as not confirmed"


def test_too_few_documents_have_no_halves_and_say_so(side_of, store_of):
    """50 a side in either half; asked for by force with fewer is refused."""
    sides = (side_of(texts("a", 90, 0.5), "a"), side_of(texts("b", 300, 0.5), "b"))
    design, facts = halve(Design(sides), None, None)
    assert design.proposing is None
    assert "there are 90 in all" in facts["why_no_halves"]
    assert design.proposers() is design is design.verifiers()
    with pytest.raises(UsageError, match="leave out --halves"):
        halve(Design(sides), None, True)
    result = compare(design, MADE, Options(), Meanings(), facts)
    assert result.rows.column("proposed_difference").to_pylist() == pytest.approx(
        result.rows.column("difference").to_pylist()
    )
    rows = [row | {"model": row["doc_id"][0].upper()} for row in (*texts("a", 150, 0.7), *texts("b", 150, 0.2))]
    bare = diff(store_of(rows, keep=("model",), store_text=False), "d:model=A", ["rest"])
    assert bare.parameters["halves_by"] == "keys alone, as the texts are not stored"
    assert bare.summary()["parameters"]["halves"]


def test_names_of_sides_and_their_order_change_no_figure(side_of):
    """Renamed sides, and target and other exchanged: the same differences, turned."""
    rows = {"a": texts("a", 300, 0.6), "b": texts("b", 260, 0.3)}
    one = halve(Design((side_of(rows["a"], "a"), side_of(rows["b"], "b"))), None, None)[0]
    other = halve(Design((side_of(rows["b"], "x"), side_of(rows["a"], "y"))), None, None)[0]
    first, second = (compare(design, MADE, Options(), Meanings()).row(0) for design in (one, other))
    assert first["p"] == pytest.approx(second["p"])
    assert first["difference"] == pytest.approx(-second["difference"])
    assert (first["lower"], first["upper"]) == (pytest.approx(-second["upper"]), pytest.approx(-second["lower"]))


@pytest.mark.parametrize("halves", [False, True])
def test_shuffles_of_one_corpus_report_next_to_nothing(side_of, halves):
    """Words at all rates, 40 shuffles: at q 0.05 some 2 report something; 7 would happen once in 300 runs."""
    rng = np.random.default_rng(0)
    words = ["table", "sorry", "great", "river", "seven", "cat", "on"]
    made = [
        " ".join(
            [w for w, rate in zip(words, (0.5, 0.3, 0.1, 0.05, 0.7, 0.9, 0.2), strict=True) if rng.random() < rate]
        )
        for _ in range(240)
    ]
    reporting = 0
    for seed in range(40):
        order = np.random.default_rng(seed).permutation(240)
        rows = [{"doc_id": str(i), "text": f"{made[i]} x{i}"} for i in order]
        design = Design((side_of(rows[:120], "a"), side_of(rows[120:], "b")))
        if halves:
            design = Design(design.sides, proposing=halves_of(design.sides))
        result = compare(design, MADE, Options(), Meanings())
        reporting += bool(result.more or result.less)
    assert reporting <= 6
