# SPDX-License-Identifier: Apache-2.0
"""Checks of options, each with one error that states the value and what to give instead."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from sstfill.errors import OptionError


def check_number(
    option: str,
    value: Any,
    least: float,
    most: float = np.inf,
    *,
    whole: bool = False,
    above: bool = False,
) -> None:
    """Raise `OptionError` unless an option is a finite number from `least` (or above it) to `most`.

    >>> check_number("modes", 2.5, 1, whole=True)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: modes=2.5 must be a whole number, 1 or more
    """
    kind = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    number = isinstance(value, kind) and not isinstance(value, bool) and _is_finite(value)
    if number and value <= most and (value > least if above else value >= least):
        return
    span = f"above {least:g}" if above else f"{least:g}"
    if most != np.inf:
        span += f" to {most:g}"
    elif not above:
        span += " or more"
    if isinstance(value, int) and value.bit_length() > 64:
        # Python refuses to print thousands of digits
        shown = f"a number of {value.bit_length()} bits"
    else:
        shown = repr(value)
    raise OptionError(f"{option}={shown} must be a {'whole' if whole else 'finite'} number, {span}")


def _is_finite(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except OverflowError:  # a whole number that no float can hold
        return False


def check_most(option: str, value: float, most: int) -> None:
    """Raise `OptionError` for a number so large that it would only exhaust memory or time.

    >>> check_most("size", 10**12, 10_000)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: size=1000000000000 is more than 10,000; lower it
    """
    if value > most:
        raise OptionError(f"{option}={value} is more than {most:,}; lower it")


def check_fraction(option: str, value: object, *, zero: bool = True) -> None:
    """Raise `OptionError` unless 0 <= option < 1 (with ``zero=False``: 0 < option < 1)."""
    if isinstance(value, (int, float, np.floating)) and (0 < value < 1 or (zero and value == 0)):
        return
    sign = "<=" if zero else "<"
    raise OptionError(f"{option}={value!r} is not a fraction; give 0 {sign} {option} < 1")


def check_choice(option: str, value: object, choices: Collection[str]) -> None:
    """Raise `OptionError` unless an option is one of `choices`."""
    if value not in choices:
        raise OptionError(f"{option}={value!r}; choose from {', '.join(choices)}")
