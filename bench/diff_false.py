"""False findings of a diff: how often it reports anything where nothing differs, or nothing but length; and what of
planted differences it keeps beside that.

    python bench/diff_false.py --store STORE --dataset alpaca8 --runs 100
    python bench/diff_false.py --store STORE --dataset alpaca8 --runs 40 --planted 10 --size 0.25

`shuffled`: the documents of one dataset in two sides by chance. `longer`: in two sides by their lengths and chance, so
that one side's texts are as many times longer as --ratios says (nearly) and differ in nothing else. `shorter than
many`: the same with the target one in eight. `report_something`: the proposing half puts a finding; `show_something`:
the measuring half confirms one, so that the page lists it. Names play no part.

`--planted` latents, each in 2 to 30% of the documents, are put into as many more of the target's as make `--size`:
`kept` of them are in findings, and `false` is the share of the findings' latents that were not planted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
from common import report
from numpy.typing import NDArray

from saeray.analysis.diff.options import Options
from saeray.analysis.diff.run import compare
from saeray.analysis.diff.setup import arrange
from saeray.analysis.sides import Side, open_side, provenance
from saeray.labels.meanings import Meanings
from saeray.stats.frequency import flat
from saeray.stats.intervals import wilson
from saeray.store import Store

Bool = NDArray[np.bool_]
Split = Callable[[np.random.Generator, NDArray[np.int64]], Bool]

#: The target's share of the documents where it is held against many.
MANY = 1 / 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--documents", type=int, default=200, help="of the target in each run")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--ratios", type=float, nargs="*", default=[1.5, 2.0])
    parser.add_argument("--no-halves", action="store_true")
    parser.add_argument("--planted", type=int, default=0)
    parser.add_argument("--size", type=float, default=0.25)
    options = parser.parse_args()
    store = Store.open(options.store)
    base = in_memory(open_side(store, options.dataset))
    made = provenance(store)
    held = np.concatenate([flat(batch, "latents") for table in base.scan(["latents"]) for batch in table.to_batches()])
    frequency = np.bincount(held, minlength=made["d_sae"]) / base.n_documents
    middling = np.flatnonzero((frequency > 0.02) & (frequency < 0.3))
    used = Options(halves=not options.no_halves)
    ways: dict[str, tuple[float, Split]] = {"shuffled": (0.5, by_length(1.0, 0.5))}
    for ratio in options.ratios:
        ways[f"longer x{ratio:g}"] = 0.5, by_length(ratio, 0.5)
        ways[f"shorter than many x{ratio:g}"] = MANY, by_length(1 / ratio, MANY)
    for way, (share, split) in ways.items():
        start, found, shown, median = time.perf_counter(), [], [], []
        kept, false = [], []
        for run in range(options.runs):
            rng = np.random.default_rng(run)
            taken = rng.permutation(base.n_documents) < round(options.documents / share)
            sample = base.where(taken)
            target = split(rng, sample.lengths)
            sides = [sample.where(target, "a"), sample.where(~target, "b")]
            real = rng.permutation(middling)[: options.planted]
            if options.planted:
                sides[0] = with_more(sides[0], real, options.size / (1 - frequency[real]), rng)
            design = arrange(sides, None, used)
            result = compare(design.design, made, used, Meanings(), design.facts)
            found.append(len(result.more) + len(result.less))
            orders = [result.order(side) for side in (0, 1)]
            shown.append(sum(len(order.best) + len(order.guesses) for order in orders))
            latents = {latent for group in (*result.more, *result.less) for latent in group.latents}
            kept.append(len(latents & set(real.tolist())) / max(options.planted, 1))
            false.append(len(latents - set(real.tolist())) / max(len(latents), 1))
            median.append(np.median(sides[0].lengths) / np.median(sides[1].lengths))
        reporting = int(np.count_nonzero(found))
        low, high = wilson(np.array([reporting]), options.runs)
        report(
            "diff_false",
            {
                "way": way,
                "halves": not options.no_halves,
                "runs": options.runs,
                "documents_of_target": options.documents,
                "median_length_ratio": round(float(np.mean(median)), 2),
                "report_something": reporting / options.runs,
                "interval": [round(float(low[0]), 3), round(float(high[0]), 3)],
                "show_something": float(np.mean(np.array(shown) > 0)),
                "findings_a_run": float(np.mean(found)),
                **({"kept": float(np.mean(kept)), "false": float(np.mean(false))} if options.planted else {}),
                "seconds": round(time.perf_counter() - start, 1),
            },
        )


def in_memory(side: Side) -> Side:
    """A side that is read once, and has no texts: names cost most of a diff."""
    columns = sorted(side.stored - {"text"})
    table = pa.concat_tables(side.scan(columns))
    return replace(side, stored=frozenset(columns), scan=lambda wanted: iter([table.select(list(wanted))]))


def with_more(side: Side, latents: NDArray[np.int64], chance: NDArray[np.float64], rng: np.random.Generator) -> Side:
    """The side with each of `latents` in further documents, in each that lacks it with its `chance`."""
    table = pa.concat_tables(side.scan(sorted(side.stored)))
    rows = table.column("latents").to_pylist()
    new = [set(latents[rng.random(latents.size) < chance].tolist()) - set(row) for row in rows]
    order = [np.argsort([*row, *sorted(more)], kind="stable") for row, more in zip(rows, new, strict=True)]
    for name in ("latents", "max", "peak", "count", "sum"):
        if name in side.stored:
            field = table.schema.field(name)
            added = [sorted(more) if name == "latents" else [1] * len(more) for more in new]
            both = zip(table.column(name).to_pylist(), added, order, strict=True)
            column = pa.array([np.array([*own, *more])[at].tolist() for own, more, at in both], field.type)
            table = table.set_column(table.schema.get_field_index(name), field, column)
    return replace(side, scan=lambda wanted: iter([table.select(list(wanted))]))


def by_length(ratio: float, share: float) -> Split:
    """A split in which `share` of the documents are the target and the median lengths have `ratio`, by a logistic law
    of the logarithm of length whose slope is sought on the documents themselves; by chance alone for a ratio of 1."""

    def split(rng: np.random.Generator, lengths: NDArray[np.int64]) -> Bool:
        place = np.log(np.maximum(lengths, 1))
        place = (place - place.mean()) / max(place.std(), 1e-9)
        chance = rng.logistic(size=len(lengths))
        size = int(share * len(lengths))

        def target(slope: float) -> Bool:
            score = slope * place + chance
            return np.asarray(score >= np.sort(score)[-size])

        def off(slope: float) -> float:
            there = target(slope)
            return abs(np.log(np.median(lengths[there]) / np.median(lengths[~there]) / ratio))

        return target(0.0 if ratio == 1 else min(np.linspace(-6, 6, 121), key=off))

    return split


if __name__ == "__main__":
    main()
