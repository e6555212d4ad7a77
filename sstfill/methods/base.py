# SPDX-License-Identifier: Apache-2.0
"""What a gap-filling method is, and the table in which each one is found by name."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import xarray as xr

from sstfill.errors import unknown


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


def seeded(cls: type[Any], seed: int) -> Any:
    """Make a method with default options, and this seed where it takes one."""
    return cls(seed=seed) if "seed" in getattr(cls, "__dataclass_fields__", {}) else cls()


def affordable(obs: xr.DataArray) -> list[str]:
    """Names of the methods that can do with so many images, and whose cost is bearable for so many
    values.

    A method of large cost says as `largest` beyond how many values it is used only where it is
    named.
    """
    fit = [n for n, cls in METHODS.items() if obs.sizes["time"] >= getattr(cls, "min_times", 1)]
    return [n for n in fit if obs.size <= getattr(METHODS[n], "largest", obs.size)]


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
