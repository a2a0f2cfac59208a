"""The line before anything is sent names a cap that a user can reckon with."""

from __future__ import annotations

import pytest

from saeray.analysis.hypotheses.estimate import Stage, told
from saeray.llm import Cap, Client
from saeray.llm.gemini import Gemini

STAGES = [Stage("propose", 10, 1000, 100), Stage("verify", 10, 1000, 100, judge=True)]


@pytest.mark.parametrize(
    ("own", "judge", "line"),
    [
        (Cap(money=2), None, "the cap: 2.00 dollars. "),
        (Cap(money=2), Cap(money=2), "the cap: 2.00 dollars each. "),
        (Cap(money=2), Cap(money=3), "the cap: 2.00 dollars and 3.00 dollars. "),
        (Cap(), Cap(), "the cap: none. "),
    ],
)
def test_a_cap_that_two_models_have_each_is_said_to_be_each(own: Cap, judge: Cap | None, line: str) -> None:
    """A judge of its own has a cap of its own: both together may spend twice what one number says."""
    client = Client(Gemini(key="k"), cap=own)
    other = client if judge is None else Client(Gemini(key="k"), cap=judge)
    model = "gemini-2.5-flash"
    assert line in told(STAGES, client, model, other, model if judge is None else "gemini-2.5-pro")
    client.close()
    other.close()
