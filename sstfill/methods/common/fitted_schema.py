# SPDX-License-Identifier: Apache-2.0
"""Schemas of the ``fitted.json`` of each method: keys, types, and finite and plausible numbers.

A fitted method serves every night for years, so each of its numbers is checked whenever it is read.
Maps are not checked here: a changed one is noticed by the fingerprint of the model
(`sstfill.archive.model`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sstfill.io.untrusted.documents import checked
from sstfill.validation.calibration import EXTREME

REMEDY = "fill the archive anew"
MAGNITUDE = 1e30
"""Largest number, in the units of the field or their square."""

Number = Annotated[float, Field(ge=-MAGNITUDE, le=MAGNITUDE)]
Positive = Annotated[float, Field(gt=0, le=MAGNITUDE)]
NotNegative = Annotated[float, Field(ge=0, le=MAGNITUDE)]
Scale = Annotated[float, Field(ge=1 / EXTREME, le=EXTREME)]
Logarithm = Annotated[float, Field(ge=-np.log(EXTREME) - 1e-6, le=np.log(EXTREME) + 1e-6)]
Fraction = Annotated[float, Field(ge=0, le=1 + 1e-6)]
KernelRadius = Annotated[float, Field(gt=0.1, le=100)]
"""In pixels."""
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/\\\x00.][^/\\\x00]*$")]
"""Name of a method; it becomes the name of a folder."""


class _StatePart(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _MethodState(_StatePart):
    method: Name
    options: dict[str, Any]


class BlendState(_StatePart):
    """As `sstfill.validation.blend.Blend.to_dict` returns it."""

    names: Annotated[list[Name], Field(min_length=1)]
    why: str
    scale: list[list[Scale]]
    weights: tuple[list[Positive], list[Positive], list[list[list[Fraction]]]]
    strata: tuple[list[Positive], list[Positive], list[list[Logarithm]]] | None

    @model_validator(mode="after")
    def _fits(self) -> BlendState:
        distance, lag, table = self.weights
        _check_table("weights", distance, lag, table, (len(self.names),))
        if list(map(len, self.scale)) != [len(self.names)]:
            raise ValueError(
                f"scale={self.scale}: there must be one number for each of {', '.join(self.names)}"
            )
        if self.strata is not None:
            _check_table("strata", *self.strata, ())
        return self


def _check_table(
    name: str, distance: list[float], lag: list[float], table: Any, inner: tuple[int, ...]
) -> None:
    """Raise `ValueError` unless a table has a row for each distance and a column for each lag, both
    increasing.
    """
    # NumPy makes no array of uneven rows; it raises an error that names no key.
    shape = np.array(table, float).shape if _is_even(table) else ()
    expected = (len(distance), len(lag), *inner)
    if shape != expected or not distance or not lag:
        raise ValueError(f"{name}: the table has shape {shape}, not {expected}")
    # Interpolation in the table takes increasing coordinates for granted.
    if sorted(set(distance)) != distance or sorted(set(lag)) != lag:
        raise ValueError(f"{name}: distances and lags must increase")


def _is_even(table: Any) -> bool:
    """Return whether lists within a list all have the same lengths."""
    if not isinstance(table, list) or not table or not isinstance(table[0], list):
        return True
    return len(set(map(len, table))) == 1 and all(map(_is_even, table))


class InterpolateState(_MethodState):
    """As `sstfill.methods.interpolation.fitted.FittedInterpolate` is saved."""

    lags: Annotated[list[NotNegative], Field(min_length=1)]
    gamma: Annotated[list[NotNegative], Field(min_length=1)]
    steps: Annotated[int, Field(strict=True, ge=1, le=10_000)]

    @model_validator(mode="after")
    def _fits(self) -> InterpolateState:
        if len(self.lags) != len(self.gamma) or sorted(self.lags) != self.lags:
            raise ValueError(
                f"lags and gamma have {len(self.lags)} and {len(self.gamma)} numbers, or lags do "
                "not increase"
            )
        return self


class ClimatologyState(_MethodState):
    """As a climatology is saved (`sstfill.methods.eof.fitted.archive_modes`)."""

    offset: Number
    harmonics: Annotated[int, Field(strict=True, ge=0, le=1000)]
    year: Annotated[float, Field(ge=300, le=400)] | None = (
        None  # None: that of the Gregorian calendar
    )


class SensorState(_StatePart):
    """The numbers of `sstfill.methods.eof.fitted.amplitude_model.Sensor`."""

    offset: Number
    noise: NotNegative
    least: Fraction


class CorrelationState(_StatePart):
    """As `sstfill.methods.eof.error_correlation.ErrorCorrelation`."""

    fraction: Annotated[float, Field(ge=0, le=1)]
    radius: tuple[KernelRadius, KernelRadius]


class ModesState(_MethodState):
    """As DINEOF and Bayesian EOFs are saved (`sstfill.methods.eof.fitted.archive_modes`)."""

    sensor: SensorState
    correlation: CorrelationState | None = None  # None: as former versions drew


class CovarianceState(_StatePart):
    """As `sstfill.methods.oi.covariance.Covariance`."""

    components: Annotated[
        list[tuple[str, NotNegative, tuple[Positive, Positive], Positive]], Field(min_length=1)
    ]
    noise: NotNegative


class CovarianceFitState(_StatePart):
    """As `sstfill.methods.oi.covariance_fit.FittedCovariance`."""

    background: Literal["mean", "trend", "pixel", "additive"]
    covariance: CovarianceState
    cross: list[list[Annotated[float, Field(ge=-1 - 1e-6, le=1 + 1e-6)]]]
    log_score: Number | None


class ImagesState(_StatePart):
    """As `sstfill.methods.oi.fitted_background.ImageMeans`."""

    every: Annotated[int, Field(strict=True, ge=1)]
    smoothing: tuple[Number, Number, Number] | None
    pixels: Annotated[int, Field(strict=True, ge=1)]
    level: Number
    pixel: list[Number]


class DomainState(_StatePart):
    """As `sstfill.methods.oi.geometry.Domain`."""

    centre: tuple[Number, Number, Number] | None
    radius: NotNegative
    turn: NotNegative


class OiState(_MethodState):
    """As `sstfill.methods.oi.fitted.FittedOi` is saved."""

    fitted: CovarianceFitState
    images: ImagesState
    cell: tuple[Positive, Positive]
    step: Positive
    cells: list[list[tuple[tuple[Number, Number], tuple[Number, Number]]]]
    domain: DomainState | None = None
    side: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    uneven: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _fits(self) -> OiState:
        if not self.cells or not _is_even(self.cells):
            raise ValueError("cells: squares of the grid are missing")
        return self


class GanState(_MethodState):
    """As `sstfill.methods.gan.fitted.FittedGan` is saved."""

    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    guesses: list[Literal["oi", "interpolate", "bayes_eof"]]
    account: dict[str, Any]
    weighed: BlendState | None


class ChoiceState(BaseModel):
    """What of an account is used again: the methods that were chosen, and the one that draws."""

    # The rest of the account is for readers, and new versions may tell more.
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    chosen: Annotated[list[Name], Field(min_length=1)]
    drawn_by: Name | None = None


class AutoState(_MethodState):
    """As `sstfill.methods.auto.fitted.FittedAuto` is saved."""

    account: ChoiceState
    weighed: BlendState | None

    @model_validator(mode="after")
    def _fits(self) -> AutoState:
        if "auto" in (*self.account.chosen, self.account.drawn_by):
            raise ValueError("account.chosen: 'auto' cannot be chosen by itself")
        if self.weighed is not None and not set(self.weighed.names) <= set(self.account.chosen):
            raise ValueError(
                f"weighed.names={self.weighed.names} are not all among {self.account.chosen}"
            )
        return self


STATES: dict[str, type[_MethodState]] = {
    "interpolate": InterpolateState,
    "climatology": ClimatologyState,
    "dineof": ModesState,
    "bayes_eof": ModesState,
    "oi": OiState,
    "gan": GanState,
    "auto": AutoState,
}
"""By name of the method; any other method saves its options only."""


def check_state(state: Mapping[str, Any], file: Path) -> None:
    """Raise `ReadError` unless the state of a fitted method holds what its method needs, and
    nothing else.

    >>> state = {"method": "interpolate", "options": {}}
    >>> state |= {"lags": [1.0], "gamma": [-1.0], "steps": 30}
    >>> check_state(state, Path("a.json"))  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
    ...
    sstfill.errors.ReadError: cannot read a.json: gamma.0=-1.0: input should be greater than or
    equal to 0; ... anew
    """
    checked(STATES.get(str(state.get("method")), _MethodState), state, file, remedy=REMEDY)
