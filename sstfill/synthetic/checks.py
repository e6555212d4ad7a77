# SPDX-License-Identifier: Apache-2.0
"""Checks of the options of a synthetic ocean; each raises `OptionError`."""

from __future__ import annotations

import math
import operator

import numpy as np
import pandas as pd

from sstfill.errors import OptionError, unknown


def shape(value: tuple[int, ...], dims: tuple[str, ...]) -> tuple[int, ...]:
    """Return `value` as one positive int for each of `dims`."""
    try:
        sizes = tuple(operator.index(n) for n in value)
    except TypeError:
        sizes = ()
    if len(sizes) != len(dims) or any(n < 1 for n in sizes):
        wanted = ", ".join(dims)
        raise OptionError(f"shape {value!r} is not {len(dims)} positive integers; give ({wanted})")
    return sizes


def integer(name: str, value: int, *, least: int) -> int:
    """Return `value` as an int of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise OptionError(f"{name} {value!r} is not an integer of {least} or more; give one")
    return number


def number(
    name: str,
    value: float,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
) -> float:
    """Return `value` as a finite float of at least `least`, above `above` and at most `most`."""
    bound = ""
    if above > -math.inf:
        bound = f" above {above:g}"
    elif least > -math.inf:
        bound = f" of {least:g} or more"
    if most < math.inf:
        bound += f" and at most {most:g}"
    try:
        result = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not (math.isfinite(result) and result >= least and above < result <= most):
        raise OptionError(f"{name} {value!r} is out of range; give a finite number{bound}")
    return result


def fraction(name: str, value: float) -> float:
    """Return `value` as a fraction in [0, 1)."""
    result = number(name, value)
    if not 0 <= result < 1:
        raise OptionError(f"{name} {value!r} is outside [0, 1); give 0.4 for 40 %, say")
    return result


def duration(name: str, value: str) -> float:
    """Return a length of time such as ``"6h"`` in seconds; it must be positive."""
    try:
        seconds = float(pd.to_timedelta(value).total_seconds())
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"{name} {value!r} is not a length of time; give one such as '6h' or '1D'"
        ) from error
    if not seconds > 0:
        raise OptionError(
            f"{name} {value!r} is not a positive length of time; give one such as '6h' or '1D'"
        )
    return seconds


def floating(value: str) -> np.dtype:
    """Return the dtype ``float32`` or ``float64``."""
    choices = ("float32", "float64")
    try:
        dtype = np.dtype(value)
    except TypeError as error:
        raise unknown("dtype", value, choices) from error
    if dtype.name not in choices:
        raise unknown("dtype", value, choices)
    return dtype


def wind(value: tuple[float, float]) -> tuple[float, float]:
    """Return the eastward and northward wind, m s-1."""
    try:
        u, v = value
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"wind {value!r} is not a pair; give (eastward, northward) in m/s, such as (6, 2)"
        ) from error
    return number("wind", u), number("wind", v)
