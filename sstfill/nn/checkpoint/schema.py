# SPDX-License-Identifier: Apache-2.0
"""The keys of a checkpoint's ``config.json``, with their types and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sstfill.errors import InputError
from sstfill.io.untrusted.documents import misfit, short

LARGEST = 4096
"""Largest number among a network's options: ten times the largest in use."""
MAGNITUDE = 1e30
"""Largest mean or spread, in the units of the field; its square is finite in single precision."""

Text = Annotated[str, Field(max_length=100_000)]
Positive = Annotated[float, Field(gt=0, le=MAGNITUDE)]
Side = Annotated[int, Field(strict=True, ge=1, le=100_000)]
Trait = Annotated[float, Field(ge=-1e6, le=1e6)]


class _ConfigPart(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ScalingConfig(_ConfigPart):
    """As `sstfill.fields.scaling.Scaling` or `SequenceScaling`; early checkpoints may have the kind
    ``log``.
    """

    kind: Literal["standardise", "anomaly", "log", "sequence"]
    mean: Annotated[float, Field(ge=-MAGNITUDE, le=MAGNITUDE)]
    std: Annotated[float, Field(ge=1 / MAGNITUDE, le=MAGNITUDE)]


class CheckpointConfig(_ConfigPart):
    """All keys of ``config.json`` but the network's, which `sstfill.nn.registry` checks.

    Attributes
    ----------
    format, sstfill_version, weights_sha256
        Added by `sstfill.nn.checkpoint.checkpoint.Checkpoint`.
    network
        Its name and options.
    channels
        What the compact network sees.
    objective, occlusion, trained, scores
        How it was trained, for people to read.
    data
        What it was trained on, and any notes of your own.
    variable, units, step_days, cell_km, spread
        Of the archive that it was trained on; a series unlike it calls for a warning.
    patch
        Images, height and width of the sequences.
    scaling
        Needed by the paper's networks.
    transform
        Of the values that it was trained on, see `sstfill.fields.transform.Transform`.
    traits
        Least and greatest value of each trait of the series in training; None where none is known.
    """

    format: Annotated[int, Field(strict=True, ge=1)]
    sstfill_version: Text
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    network: dict[str, Any]
    channels: Annotated[list[Text], Field(max_length=LARGEST)] | None = None
    objective: Text | None = None
    occlusion: Text | None = None
    trained: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    variable: Text | None = None
    units: Text | None = None
    step_days: Positive | None = None
    cell_km: Positive | None = None
    spread: Annotated[float, Field(ge=0, le=MAGNITUDE)] | None = None
    patch: tuple[Side, Side, Side] | None = None
    scaling: ScalingConfig | None = None
    transform: Literal["none", "log", "logit"] | None = None
    traits: (
        Annotated[list[tuple[Trait | None, Trait | None]], Field(min_length=3, max_length=3)] | None
    ) = None

    @model_validator(mode="after")
    def _ordered(self) -> CheckpointConfig:
        for low, high in self.traits or []:
            if low is not None and high is not None and low > high:
                raise ValueError(f"traits={low:g}, {high:g}: the least value stands first")
        return self


def check_config(config: Mapping[str, Any]) -> None:
    """Raise `InputError` unless a configuration is one that filling can rely on.

    The network's options are checked for their size only, before a network is built of them.

    >>> check_config({"format": 1, "sstfill_version": "0.1.0", "network": {}, "spread": -1.0})
    Traceback (most recent call last):
    ...
    sstfill.errors.InputError: spread=-1.0: input should be greater than or equal to 0
    """
    try:
        CheckpointConfig.model_validate(config)
    except ValidationError as error:
        text = misfit(error)
        if "is not a key of it" in text:
            text = f"{text}; notes of your own go under data"
        raise InputError(text) from None
    for option, value in dict(config["network"].get("options", {})).items():
        if not isinstance(value, bool | int | float | str):
            raise InputError(f"network.options.{option}={short(value)}: give a number")
        if isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise InputError(f"network.options.{option}={short(value)}: give at most {LARGEST}")
