"""Promise: the page of correlations has all figures, pictures and sentences of a finding, and obeys no text."""

import re

import numpy as np
import pyarrow as pa
import pytest
from test_hostile_text import HOSTILE, Page

from saeray.analysis.correlate.evidence import BOTH, FIRST, SECOND, PairExample, Piece
from saeray.analysis.correlate.groups import PairGroup
from saeray.analysis.correlate.options import FILTERS, CorrelateConfig
from saeray.analysis.correlate.run import CorrelateResult
from saeray.report.pair_pictures import graph, layout


def rows(label: str = "tables") -> pa.Table:
    label = label.encode("utf-8", "replace").decode()  # a label store holds no half characters
    return pa.table(
        {
            "i": pa.array([7, 3, 7], pa.uint32()),
            "j": pa.array([9, 4, 4], pa.uint32()),
            "npmi": [0.75, 0.5, 0.41],
            "documents": [40, 30, 20],
            "documents_i": [50, 60, 50],
            "documents_j": [80, 30, 21],
            "p_i_given_j": [0.5, 1.0, 0.95],
            "p_j_given_i": [0.8, 0.5, 0.4],
            "npmi_at_equal_length": [0.7, 0.45, 0.4],
            "log10_q": [-1234.0, -12.0, -9.0],
            "label_similarity": pa.array([0.01, None, 0.02]),
            "same_token": [0.1, 0.0, 0.0],
            "alike": [0.05, -0.1, 0.0],
            "label_i": [label, "lava", label],
            "label_j": ["emoji", None, None],
            "finding": pa.array([0, 1, 0], pa.int32()),
        }
    )


def result(label: str = "tables", text: str = "Here", channels=("text",), found: bool = True) -> CorrelateResult:
    pieces = (Piece(text), Piece(" table", FIRST), Piece(" with "), Piece("😀", SECOND), Piece(text, BOTH))
    groups = (PairGroup((0, 2), np.arange(40)), PairGroup((1,), np.arange(30)))
    used = CorrelateConfig(selection="d", store="s").model_dump()
    return CorrelateResult(
        rows=rows(label) if found else rows().slice(0, 0),
        findings=groups if found else (),
        toll=tuple((name, 1000 - 100 * k) for k, name in enumerate(FILTERS)),
        label_level=0.07,
        examples={0: [PairExample(text, (pieces, (Piece(text),)))], 1: []},
        selection={"name": text, "dataset": "d", "channel": "text", "documents": 9472, "plans": [0], "commits": "0-4"},
        channels=channels,
        pairs=210_000_000,
        latents=(20_494, 20_494),
        parameters=used,
        made_with={"saeray": "0.1", "store": "s3://b/s", "fingerprint": "f" * 64, "d_sae": 32768},
    )


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html.split("</style>")[1]))


def test_every_finding_has_its_figures_and_its_sentences():
    html = result().page()
    text = words(html)
    numbers = ["0.75", "0.70", "80.0%", "50.0%", "−1,234", "210,000,000 pairs", "and 1 like it", "latents 7 and 9"]
    for shown in (*numbers, "tables × emoji", "lava × latent 4", "cosine below 0.070", "9,472 documents"):
        assert shown in text
    assert text.index("tables × emoji") < text.index("lava × latent 4")
    assert re.search(r"<mark[^>]*> table</mark>", html)
    assert html.count("<mark") == 3
    assert "no evidence" in text, "the second has none"
    for name in FILTERS:
        assert name in text
    for source in ("s3://b/s", "f" * 64, "commits 0-4"):
        assert source in text


def test_pictures_are_inline_and_the_same_every_time():
    html = result().page()
    assert html.count("<svg") == 2
    assert html.count("<line") == 2, "one a finding"
    assert html.count("<circle") == 4
    # Three pairs, each either way round.
    assert html.count("<rect") == 6
    assert result().page() == html
    two = result(channels=("user", "assistant")).page()
    assert two.count("<rect") == 3, "rows are of one channel and columns of the other"
    assert "between user and assistant" in words(two)


def test_nothing_found_is_said():
    html = result(found=False).page()
    assert "None of these passes all filters" in words(html)
    assert "<svg" not in html
    assert "taken out" in html


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_text_or_a_label_becomes_markup(text):
    html = result(text, text).page()
    html.encode()
    page, plain = Page(html), Page(result("plain", "plain").page())
    assert page.elements <= plain.elements | {"i"}
    assert {key for key, _ in page.attributes} <= {key for key, _ in plain.attributes}
    acting = [
        c for c in html if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\u200f"
    ]
    assert acting == []


def test_the_page_fetches_nothing():
    html = result().page()
    assert "default-src 'none'" in html
    for fetched in ("src=", "href=", "url(", "@import", "<script", "http://", "https://"):
        assert fetched not in html


def test_layout_keeps_neighbours_near_and_all_on_the_page():
    edges = [(0, 1), (1, 2), (0, 2), (3, 4)]
    place = layout(5, edges)
    assert place.min() >= 0
    assert place.max() <= 1
    assert np.array_equal(place, layout(5, edges))
    apart = np.linalg.norm(place[:, None] - place[None], axis=2)
    assert max(apart[a, b] for a, b in edges) < min(apart[a, b] for a in range(3) for b in (3, 4))
    assert (apart[np.triu_indices(5, 1)] > 0.05).all(), "no two on one spot"
    assert graph([], ("text",)).startswith('<div class="wide"><svg')
