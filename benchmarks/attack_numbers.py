# SPDX-License-Identifier: Apache-2.0
"""Sound files of numbers that no sea has: too large, too small, all alike, infinite, hardly any."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attack_inputs import series
from attack_yard import Case, Words
from numpy.typing import NDArray

METHODS = ("interpolate", "climatology", "dineof", "bayes_eof", "oi")
MAGNITUDES = (1e-300, 1e-40, 1e-20, 1e15, 1e20, 1e30, 1e37, 1e150, 1e300)


def odd(name: str, values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Change a field as `name` says, which may be a factor."""
    if name == "all alike":
        return np.where(np.isfinite(values), 15.0, np.nan)
    if name == "all zero":
        return np.where(np.isfinite(values), 0.0, np.nan)
    if name == "some infinite":
        return np.where(rng.random(values.shape) < 0.01, np.inf, values)
    if name == "nothing seen":
        return np.full(values.shape, np.nan)
    if name == "one value":
        return np.where(
            np.arange(values.size).reshape(values.shape) == values.size // 2, 15.0, np.nan
        )
    if name == "one outlier of 1e12":
        return np.where(
            np.arange(values.size).reshape(values.shape) == values.size // 2, 1e12, values
        )
    if name == "a far offset":
        return values + 1e9
    return (values - 15.0) * float(name)


def cases(home: Path, rng: random.Random) -> Iterator[Case]:
    """Each kind of numbers by some methods."""
    kinds = [
        *map(str, MAGNITUDES),
        "all alike",
        "all zero",
        "some infinite",
        "nothing seen",
        "one value",
        "one outlier of 1e12",
        "a far offset",
    ]
    for kind in kinds:
        for method in METHODS:
            for single in (False, True):
                if single == (rng.random() < 0.5):
                    yield Case(
                        f"{kind}, {'single' if single else 'double'} precision",
                        _arranged(kind, method, single),
                    )


def _arranged(kind: str, method: str, single: bool):  # type: ignore[no-untyped-def]
    def arrange(folder: Path, rng: random.Random) -> list[Words]:
        ds = series()
        with np.errstate(all="ignore"):
            values = odd(
                kind, ds["sst"].values.astype("f8"), np.random.default_rng(rng.randrange(2**32))
            )
            ds["sst"] = ds["sst"].copy(data=values.astype("f4" if single else "f8"))
        ds.to_netcdf(folder / "in.nc")
        return [["fill", "in.nc", "--out", "out.nc", "--method", method]]

    return arrange
