"""Promise: in a real browser the page's table sorts, searches and filters, and the page does nothing else: no request,
no error, no script but its own, no sideways scrolling on a phone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, found
from diff_results import halved, many, result, with_hypotheses

from saeray.analysis.diff.result import DiffResult
from saeray.analysis.evidence import Example
from saeray.analysis.excerpt import Excerpt

N = 2_000
HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
#: Columns of the table.
LATENT, DIFFERENCE, EQUAL_LENGTH, Q = 0, 1, 4, 7

UNFOLD = "document.querySelectorAll('details').forEach(one => { one.open = true })"
FOLD = "document.querySelectorAll('details').forEach(one => { one.open = false })"
SHOW_ALL = "document.querySelector('.controls button').click()"

pytestmark = pytest.mark.skipif(found() is None, reason="there is no Chromium here (Debian's package: chromium)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = found()
    assert path
    with Browser(path, tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def made() -> DiffResult:
    """Everything that a page can hold, with long and hostile words."""
    words = "Donaudampfschifffahrtsgesellschaftskapitänswitwe" * 3
    whole = with_hypotheses(halved(result(text=f"{words} {HOSTILE}"), "prompt_id"), words)
    sides = [{**side, "name": f"{side['name']}{words}"} for side in whole.sides]
    found_rows = many(N, whole, [HOSTILE, None, "Zebra", "zebra"])
    one = DiffResult(**{**vars(found_rows), "sides": sides})
    one = replace(one, beside={7: (Example(words, 0.0, Excerpt(words * 3, "", "")), None)})
    return one


@pytest.fixture(scope="module")
def file(made: DiffResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(made.page(), encoding="utf-8")
    return page


@pytest.fixture
def page(browser: Browser, file: Path) -> Browser:
    """The page, just loaded. Its table is folded, so that the tests do not wait for 2,000 rows to be laid out."""
    browser.open(file)
    return browser


def column(page: Browser, number: int) -> list[str]:
    """The texts of a column's rows, from the top."""
    rows = "[...document.querySelectorAll('[data-latents] tbody tr')]"
    shown: list[str] = page.run(f"{rows}.map(row => row.cells[{number}].textContent)")
    return shown


def latents(page: Browser) -> list[int]:
    """The numbers of the rows, from the top."""
    return [int(text.split()[0]) for text in column(page, LATENT)]


def sort(page: Browser, number: int) -> str:
    """Clicks a heading; what the heading then says of its order."""
    head = f"document.querySelectorAll('[data-latents] thead th')[{number}]"
    page.run(f"{head}.querySelector('button').click()")
    order: str = page.run(f"{head}.getAttribute('aria-sort')")
    return order


def status(page: Browser) -> str:
    said: str = page.run("document.querySelector('[role=status]').textContent")
    return said


def by_numbers(made: DiffResult, name: str, down: bool) -> list[Any]:
    """The values of a column in order, what is missing last."""
    values = made.rows.column(name).to_pylist()
    there = sorted((value for value in values if value is not None), reverse=down)
    return there + [None] * (len(values) - len(there))


def test_nothing_is_fetched_and_nothing_goes_wrong(page):
    """One file is all there is: one request, for the page itself, and a silent console."""
    assert [url.rsplit("/", 1)[-1] for url in page.requests()] == ["report.html"]
    assert page.errors() == []
    assert page.run("window.ran") is None, "a label is text"
    assert HOSTILE in column(page, LATENT)[0]


def test_headings_sort_by_what_is_read(page, made):
    """Numbers by value whatever their sign, minus or exponent, both ways, what is missing last; words by letters."""
    page.run(SHOW_ALL)
    shown = [float(f"{100 * one.as_py():.1f}") for one in made.rows.column("difference")]
    assert sort(page, DIFFERENCE) == "descending"
    assert latents(page) == sorted(range(N), key=lambda i: -shown[i])
    assert sort(page, DIFFERENCE) == "ascending"
    assert latents(page) == sorted(range(N), key=lambda i: shown[i])
    for down in (True, False):
        sort(page, EQUAL_LENGTH)
        expected = by_numbers(made, "difference_at_equal_length", down)
        read = [float(text.replace("−", "-")) if text else None for text in column(page, EQUAL_LENGTH)]
        assert read == [None if one is None else float(f"{100 * one:.1f}") for one in expected]
    sort(page, Q)
    assert sort(page, Q) == "ascending"
    level = [float(f"{one.as_py():.2g}") for one in made.rows.column("q")]
    assert latents(page) == sorted(range(N), key=lambda i: level[i])
    assert page.run("document.querySelectorAll('[aria-sort]').length") == 1
    assert sort(page, LATENT) == "ascending"
    assert latents(page)[:4] == [0, 1, 2, 3], "numbers in words are read as numbers"
    assert page.errors() == []


def test_searching_and_filtering_leave_what_passes_all(page, made):
    """Search is for words or a number, without case; the filters are those of the row; the count is said."""
    assert status(page) == "2,000 of 2,000, 200 shown"
    assert latents(page) == list(range(200)), "as the page has them"
    page.run(UNFOLD)
    page.run("document.querySelector('[data-latents] input[type=search]').focus()")
    page.send("Input.insertText", text="ZEBRA")
    assert latents(page) == [2, 3]
    assert status(page) == "2 of 2,000"
    for _ in "ZEBRA":
        page.press("Backspace", 8)
    assert status(page) == "2,000 of 2,000, 200 shown"
    page.run(FOLD)
    page.run(SHOW_ALL)
    assert status(page) == "2,000 of 2,000"
    page.run(
        "(() => { const one = document.querySelector('[data-latents] select'); one.value = 'less';"
        " one.dispatchEvent(new Event('change')) })()"
    )
    assert set(latents(page)) == set(range(0, N, 2))
    page.run("document.querySelector('[data-latents] input[value=length]').click()")
    assert set(latents(page)) == set(range(0, N, 6))
    page.run("document.querySelector('[data-latents] input[value=found]').click()")
    rows = made.rows.select(["latent", "q", "proposed_difference"]).to_pylist()
    passing = {row["latent"] for row in rows if row["q"] <= 0.05 and abs(row["proposed_difference"]) > 0.03}
    assert set(latents(page)) == passing & set(range(0, N, 6))
    assert sort(page, DIFFERENCE) == "descending"
    assert set(latents(page)) == passing & set(range(0, N, 6)), "what is hidden stays hidden"


def test_the_table_answers_the_keyboard_and_a_screen_reader(page):
    """Headings are buttons, controls have names, the state is in the markup."""
    page.run(UNFOLD)
    button = "document.querySelectorAll('[data-latents] thead th button')[1]"
    page.run(f"{button}.focus()")
    page.press("Enter", 13, "\r")
    assert page.run(f"{button}.parentElement.getAttribute('aria-sort')") == "descending"
    assert page.run(f"document.activeElement === {button}"), "the focus stays"
    unnamed = "[...document.querySelectorAll('input, select')].filter(one => !one.closest('label')).length"
    assert page.run(unnamed) == 0
    assert page.run("document.querySelectorAll('[data-latents] th:not([scope=col])').length") == 0


def test_two_thousand_rows_are_fast(page):
    """Sorting and searching answer within a blink: the browser works less than half a second for each, by the clock of
    its own thread, so that a busy machine does not decide."""
    page.run(UNFOLD)
    page.send("Performance.enable", timeDomain="threadTicks")
    search = (
        "const s = document.querySelector('input[type=search]'); s.value = '19'; s.dispatchEvent(new Event('input'))"
    )
    for step in ("document.querySelectorAll('[data-latents] th button')[2].click()", search):
        before = worked(page)
        page.run(f"(() => {{ {step}; document.body.offsetHeight }})()")
        assert worked(page) - before < 0.5


def worked(page: Browser) -> float:
    """Seconds that the page's thread has spent on scripts, style and layout."""
    told = {one["name"]: one["value"] for one in page.send("Performance.getMetrics")["metrics"]}
    return sum(told[name] for name in ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration"))


def test_no_other_script_runs(browser, file, tmp_path):
    """Were a hole in the escaping, the page's policy would still run nothing that stands in it."""
    holed = tmp_path / "holed.html"
    holes = "<script>window.ran = 1</script><b onclick='window.ran = 2' id=b>b</b><img src=x onerror='window.ran = 3'>"
    holed.write_text(file.read_text(encoding="utf-8").replace("</main>", f"{holes}</main>"), encoding="utf-8")
    browser.open(holed)
    browser.run("document.getElementById('b').click()")
    later = (
        "const one = document.createElement('script'); one.textContent = 'window.ran = 4'; document.body.append(one)"
    )
    browser.run(f"(() => {{ {later} }})()")
    assert browser.run("window.ran") is None
    assert len([said for said in browser.errors() if "Content Security Policy" in said]) >= 4
    assert status(browser) == "2,000 of 2,000, 200 shown", "its own script still runs"


def test_a_phone_never_scrolls_sideways(browser, file):
    """At 390 px with everything unfolded the body is as wide as the screen; wide tables scroll by themselves."""
    try:
        browser.send("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        browser.open(file)
        browser.run(UNFOLD)
        assert browser.run("[innerWidth, document.documentElement.scrollWidth, document.body.scrollWidth]") == [390] * 3
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")


def test_without_scripts_the_table_is_plain_and_whole(browser, file):
    """All rows, no control that would do nothing."""
    try:
        browser.send("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(file)
        assert len(latents(browser)) == N
        assert browser.run("document.querySelector('.controls').hidden")
        assert browser.run("document.querySelectorAll('[data-latents] th button').length") == 0
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
