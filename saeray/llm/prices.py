"""What tokens cost. A model that is not in the table has no known price, and that is said, never guessed.

Money is a whole number of picodollars (1e-12 US dollars): a price of 0.0375 dollars a million tokens is 37,500 of them
a token, so sums are exact and the same in whatever order threads add them up.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from saeray.config import load_yaml, validate
from saeray.errors import UsageError
from saeray.llm.base import Usage

PICO = 1_000_000_000_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LongPrice(_Model):
    """Prices of a request whose prompt has more than `above` tokens."""

    above: int = Field(ge=1)
    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Price(_Model):
    """US dollars for a million tokens; thoughts are billed as output."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    long: LongPrice | None = None

    def cost(self, usage: Usage, factor: float = 1.0) -> int:
        """Picodollars of one request's tokens. factor: 0.5 in a batch.

        Discounts that a service gives by itself for a repeated beginning of a prompt are not taken off: a bill may be
        lower than this, never higher.
        """
        tier = self.long if self.long is not None and usage.tokens_in > self.long.above else self
        written = usage.tokens_out + usage.tokens_thinking
        return usage.tokens_in * _a_token(tier.input * factor) + written * _a_token(tier.output * factor)

    def worst(self, usage: Usage, factor: float = 1.0) -> int:
        """Picodollars that no request of at most these tokens passes, whatever tier it falls into."""
        cost = self.cost(usage, factor)
        if self.long is None:
            return cost
        short = Price(input=self.input, output=self.output)
        return max(cost, short.cost(usage, factor))


class Prices(_Model):
    """A price table. read: the day it was read; batch: the factor in batch jobs."""

    read: str
    source: str = ""
    batch: float = Field(default=1.0, gt=0, le=1)
    models: dict[str, Price]

    def of(self, model: str) -> Price | None:
        """The price of `model`; None: unknown."""
        return self.models.get(model.removeprefix("models/"))


def prices(path: str | None = None) -> Prices:
    """The package's table, with the models of the table at `path` (YAML of the same form) put over it; what else
    an own table does not name, the factor in batch jobs too, stays the package's."""
    text = resources.files("saeray.llm").joinpath("prices.yaml").read_text(encoding="utf-8")
    shipped = validate(Prices, yaml.safe_load(text), "prices.yaml")
    if path is None:
        return shipped
    if not Path(path).is_file():
        raise UsageError(f"no price table at {path}: give a YAML file like the package's saeray/llm/prices.yaml")
    own = load_yaml(Path(path), Prices)
    read = f"{own.read} (own table), {shipped.read}"
    batch = own.batch if "batch" in own.model_fields_set else shipped.batch
    return own.model_copy(update={"read": read, "batch": batch, "models": {**shipped.models, **own.models}})


def dollars(pico: int | None) -> float | None:
    """Picodollars as dollars."""
    return None if pico is None else pico / PICO


def _a_token(price: float) -> int:
    return round(price * PICO / 1_000_000)
