# SPDX-License-Identifier: Apache-2.0
"""What a gap-filling method is, and the table in which each one is found by name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import xarray as xr

from sstfill.errors import OptionError, unknown


@runtime_checkable
class Method(Protocol):
    """A frozen dataclass whose fields are its options, validated in ``__post_init__``."""

    name: ClassVar[str]
    multivariate: ClassVar[bool]
    min_times: ClassVar[int]

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Estimate the field at every sea pixel.

        Parameters
        ----------
        obs
            Observations, dims ``(time, lat, lon)`` or ``(time, y, x)``, NaN in the gaps; with a
            leading dim ``variable`` if `multivariate` and several are filled together.
        sea
            True at sea, the two spatial dims of `obs`.

        Returns
        -------
        Dataset
            ``mean`` (dims of `obs`), and where the method knows it ``error`` (one sigma, same
            dims and units). NaN where the method cannot tell.
        """
        ...


METHODS: dict[str, type[Any]] = {}


def check_number(
    option: str, value: Any, least: float, most: float = np.inf, *, whole: bool = False, above: bool = False
) -> None:
    """Raise `OptionError` unless an option is a finite number from `least` (or above it) to `most`.

    >>> check_number("modes", 2.5, 1, whole=True)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: modes=2.5 must be a whole number, 1 or more
    """
    kind = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    number = isinstance(value, kind) and not isinstance(value, bool) and np.isfinite(float(value))
    if number and value <= most and (value > least if above else value >= least):
        return
    lower = f"above {least:g}" if above else f"{least:g} or more"
    span = lower if most == np.inf else f"{'above ' if above else ''}{least:g} to {most:g}"
    raise OptionError(f"{option}={value!r} must be a {'whole' if whole else 'finite'} number, {span}")


def check_share(option: str, value: object) -> None:
    """Raise `OptionError` unless an option is a share, 0 or more and less than 1."""
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise OptionError(f"{option}={value!r} is a share; give 0 <= {option} < 1")


def check_choice(option: str, value: object, choices: Collection[str]) -> None:
    """Raise `OptionError` unless an option is one of `choices`."""
    if value not in choices:
        raise OptionError(f"{option}={value!r}; choose from {', '.join(choices)}")


def seeded(cls: type[Any], seed: int) -> Any:
    """Make a method with default options, and this seed where it takes one."""
    return cls(seed=seed) if "seed" in getattr(cls, "__dataclass_fields__", {}) else cls()


M = TypeVar("M", bound=type)


def register(cls: M) -> M:
    """Class decorator: enter a method into `METHODS` under its `name`."""
    METHODS[cls.name] = cls  # type: ignore[attr-defined]
    return cls


def method_class(name: str) -> type[Any]:
    """Return the method class registered as `name`; `OptionError` lists the choices."""
    if name not in METHODS:
        raise unknown("method", name, sorted(METHODS))
    return METHODS[name]
