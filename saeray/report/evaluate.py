"""The pages of `evaluate`: one table by kind of property, then every property, how it was made, and what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saeray.report.page import document, made, section, table, tiny
from saeray.report.text import name, visible

if TYPE_CHECKING:
    from saeray.evaluate.labels import LabelsResult
    from saeray.evaluate.pooling import PoolingResult


def labels_page(result: LabelsResult) -> str:
    """One HTML file."""
    rows = result.rows.to_pylist()
    main = next(iter(result.sources))
    middle = next(row for row in result.compared if row["way"] == f"labels: {main}")
    body = [
        "<h1>Are latents found by their labels?</h1>",
        f"<p>{_extent(result)} Among {result.sources[main]:,} labels of source {name(main)}, the label of the latent "
        f"that tells a property best stands at place {middle['rank']:,g} in the median "
        f"({middle['within_20']:.0%} at 20 or before) when labels are in order of similarity to its words.</p>",
        section("By kind of property", _labels_compared(result.compared)),
        section(f"Every property, labels of {name(main)}", _labels_properties(rows, main)),
        made(_lines(result, [("labels", _counts(result.sources))]), result.made_with),
        section("What to keep in mind", _list(LABELS_NOTES)),
    ]
    return document("Are latents found by their labels?", body)


def pooling_page(result: PoolingResult) -> str:
    """One HTML file."""
    kinds = list(dict.fromkeys(row["kind"] for row in result.compared))
    body = [
        "<h1>Which pool tells a property best?</h1>",
        f"<p>{_extent(result)} Each way chooses on one half of the documents and is measured on the other, both "
        "ways round.</p>",
        *(section(f"Properties: {visible(kind)}", _pooling_kind(result.compared, kind)) for kind in kinds),
        _pooling_properties(result.rows.to_pylist()),
        made(_lines(result, []), result.made_with),
        section("What to keep in mind", _list(POOLING_NOTES)),
    ]
    return document("Which pool tells a property best?", body)


LABELS_NOTES = (
    "The latent that tells a property best is the one with the highest area under the ROC curve of its maximum, over "
    "all documents of the sample. “As good” takes the best-placed label of all latents within 0.02 of it: several "
    "latents often tell a property equally well, and which is first is chance.",
    "“First” is the latent whose label comes first, taken unseen. “Best of 20” is the best of the first twenty, "
    "chosen on one half of the documents and measured on the other.",
    "Beside labels: the similarity of each document’s own embedding with the property’s words, which needs no "
    "latents; and the best latent of all, chosen on one half with its labels known, which no search by words can "
    "expect to pass.",
    "Samples are richer in relevant documents than their sets. Areas under the curve do not depend on that share; "
    "average precision does and compares within this page only.",
)
POOLING_NOTES = (
    "Latent: held-out area under the ROC curve of the best single latent. Read-out: the same for a sum of fifty, "
    "weighted by their difference of class means over the variance.",
    "Gains are paired differences from max over the same properties; the interval is a bootstrap over properties, p a "
    "sign test. Properties of one file share documents, so both are a little too sure of themselves.",
    "Length: mean absolute rank correlation of the score with the number of tokens among documents that lack the "
    "property. A score that rises with length there is confounded with it; pure chance gives some 0.1.",
    "“words” counts words and marks, “length” is the number of tokens alone: the same choices and measures without an "
    "encoder.",
)


def _labels_compared(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["", "properties", "median rank", "at 20 or before", "rank, as good", "AUROC first", "best of 20"]
    head += ["precision first", "best of 20"]
    shown = ["rank", "within_20", "rank_as_good", "auroc_first", "auroc_best_of_20"]
    shown += ["precision_first", "precision_best_of_20"]
    form = {"rank": "{:,g}", "rank_as_good": "{:,g}", "within_20": "{:.0%}"}
    cells = (
        [f"{visible(row['kind'])} · {visible(row['way'])}", str(row["properties"])]
        + ["" if row[key] is None else form.get(key, "{:.3f}").format(row[key]) for key in shown]
        for row in rows
    )
    return table(head, cells)


def _labels_properties(rows: Sequence[Mapping[str, Any]], source: str) -> str:
    head = ["property", "best latent", "its label", "rank", "as good", "held-out AUROC", "first label", "AUROC"]
    cells = (
        [
            f"{visible(row['query'])} <small>{name(row['file'])}</small>",
            str(row["latent"]),
            name(row["label"] or "none"),
            f"{row['rank']:,g}",
            f"{row['rank_as_good']:,g}",
            f"{row['auroc_held_out']:.3f}",
            name(row["first_label"]),
            f"{row['auroc_first']:.3f}",
        ]
        for row in sorted(rows, key=lambda row: row["rank"])
        if row["source"] == source
    )
    return table(head, cells)


def _pooling_kind(rows: Sequence[Mapping[str, Any]], kind: str) -> str:
    head = ["", "latent", "gain on max", "better, worse", "p", "read-out", "gain on max", "better, worse", "p"]
    head += ["length, latent", "length, read-out"]
    own = [row for row in rows if row["kind"] == kind]
    cells = (
        [
            visible(row["way"]),
            *_gain(row, "auroc_latent"),
            *_gain(row, "auroc_readout"),
            f"{row['length_latent']:.2f}",
            f"{row['length_readout']:.2f}",
        ]
        for row in own
    )
    return f'<p class="soft">{own[0]["properties"]} properties.</p>' + table(head, cells)


def _gain(row: Mapping[str, Any], measure: str) -> list[str]:
    own = f"{row[measure]:.3f}"
    if row[f"{measure}_gain"] is None:
        return [own, "", "", ""]
    gain, lower, upper = (f"{row[f'{measure}_{key}']:+.3f}" for key in ("gain", "lower", "upper"))
    shown = f"{gain} ({lower} to {upper})".replace("-", "−")
    return [own, shown, f"{row[f'{measure}_better']}, {row[f'{measure}_worse']}", tiny(row[f"{measure}_p"])]


def _pooling_properties(rows: Sequence[Mapping[str, Any]]) -> str:
    ways = list(dict.fromkeys(row["way"] for row in rows))
    by_property: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        by_property.setdefault((row["query"], row["file"]), {})[row["way"]] = row["auroc_latent"]
    cells = (
        [f"{visible(query)} <small>{name(file)}</small>", *(f"{found[way]:.3f}" for way in ways)]
        for (query, file), found in by_property.items()
    )
    drawn = table(["property", *map(visible, ways)], cells)
    return f"<details><summary>Every property: held-out AUROC of the best latent</summary>{drawn}</details>"


def _extent(result: LabelsResult | PoolingResult) -> str:
    properties = len({(row["file"], row["query"]) for row in result.rows.select(["file", "query"]).to_pylist()})
    return f"{properties} properties on {sum(result.documents.values()):,} documents of {len(result.documents)} sets."


def _lines(result: LabelsResult | PoolingResult, more: list[tuple[str, str]]) -> list[tuple[str, str]]:
    used = [(key.replace("_", " "), str(value)) for key, value in result.parameters.items()]
    return [*used, ("documents", _counts(result.documents)), *more]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{key} {value:,}" for key, value in counts.items())


def _list(notes: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{note}</li>" for note in notes) + "</ul>"
