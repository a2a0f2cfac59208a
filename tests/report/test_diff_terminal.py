"""Promise: what `saeray diff` prints is read without the docs: sides, what holds, what is left out, the page last."""

from dataclasses import replace

import pytest
from diff_results import halved, result, with_plain_statement
from test_each_page import each, less
from typer.testing import CliRunner

from saeray import diff_cli
from saeray.analysis.diff import each as by_values
from saeray.analysis.diff import run as of_two
from saeray.cli import app
from saeray.store import Store


@pytest.fixture
def printed(tmp_path, monkeypatch):
    """What the command prints of a result that is given: stdout and stderr as a person sees them."""

    def run(made, *words):
        monkeypatch.setattr(Store, "open", lambda *_, **__: None)
        monkeypatch.setattr(of_two, "diff", lambda *_, **__: made)
        monkeypatch.setattr(by_values, "diff_each", lambda *_, **__: made)
        monkeypatch.setattr(diff_cli, "_stated", lambda results, *_: results)
        done = CliRunner().invoke(app, ["diff", *words, "--store", "s", "--out", str(tmp_path)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr.splitlines()

    return run


def test_two_sides(printed):
    """Which is which, how many hold, what length may explain; no column that needs the docs."""
    made = replace(halved(result()), set_aside={"by_length": 4742, "by_given": 0})
    code, out, said = printed(made, "d:model=A", "d:model=B")
    assert code == 0
    assert " ".join(out.split("\n")[0].split()) == "finding points from to target other strongest on latent"
    assert out.split("\n")[1].split() == ["tables", "+32", "+28", "+36", "72%", "40%", "‘table’", "‘rare’", "7"]
    assert "a feature without a name" in out
    assert said[0].startswith("target: A; other: B; from and to: the 95% interval")
    assert said[1] == "findings with a name that holds: 1, without one: 1; at most 10 a side here"
    assert said[2] == "4,742 more features differ, but length may be all of it"
    assert said[-1].startswith("the page: ")


def test_nothing_found(printed):
    """One line, and where the page is."""
    code, out, said = printed(result(found=False), "d:model=A", "d:model=B")
    assert (code, out) == (0, "")
    assert [line.split(":")[0] for line in said] == ["nothing passes; the page says what was looked at", "the page"]


def test_every_value_has_a_line(printed):
    """More, else less, else nothing; how many are shown and where all are."""
    nothing = replace(result(), more=(), less=())
    code, out, said = printed(each(result(), less(result()), nothing), "d", "--by", "model")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line[:3] for line in lines[1:]] == [
        ["v0", "tables", "+32"],
        ["v1", "tables", "-32"],
        ["v2", "nothing", "that"],
    ]
    assert said[0].startswith("target: the model; other: the others; ")
    assert "findings with a name that holds: 2; here at most 1 of each model, of what it does more, or" in said[1]
    assert said[-1].startswith("the page: ")


def test_statements_come_before_findings_and_what_stopped_them_after_all(printed, tmp_path):
    """What was asked for first; a dead key is an exit of 1 after everything is written."""
    made = with_plain_statement(result())
    code, out, said = printed(made, "d:model=A", "d:model=B")
    assert code == 0
    assert out.index("The text has tables.") < out.index("tables  ")
    stopped = replace(made, hypotheses=replace(made.hypotheses, stopped="the key is dead"))
    (tmp_path / "report.html").unlink()
    code, out, said = printed(stopped, "d:model=A", "d:model=B")
    assert code == 1
    assert (tmp_path / "report.html").is_file()
    assert said[-1] == "error: the key is dead"
    assert said[-2].startswith("the page: ")
