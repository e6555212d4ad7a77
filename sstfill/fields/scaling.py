# SPDX-License-Identifier: Apache-2.0
"""Scale a field to the range of a network, by its observed values, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.checks import check_choice, check_number
from sstfill.errors import InputError, OptionError

Kind = Literal["standardise", "anomaly"]
KINDS = ("standardise", "anomaly")
SPREADS = 3.0
"""Standard deviations that become 1: nearly all values fall in (-1, 1), the range of tanh."""
PIECE = 1 << 20
"""Number of values that are converted to double precision at once."""
ROUNDING = 8 * float(np.finfo(float).eps)
"""Spread relative to the mean below which a field is constant but for rounding."""

V = TypeVar("V")


@dataclass(frozen=True)
class Scaling:
    """An invertible scaling of a field, the same for every pixel.

    Yin, Pajot, de Bezenac and Gallinari (2019) scale by (x - mean) / (3 std), where both come from
    the unoccluded truth; here they come from observed values only (`fit`), so that nothing of the
    values to be estimated leaks.

    Parameters
    ----------
    kind
        ``standardise``: (x - mean) / (3 std). ``anomaly``: x - mean, in the field's units.
    mean, std
        Of the observed values.

    Raises
    ------
    OptionError
        An unknown kind, a number that is not finite, or a `std` that is not positive.

    Examples
    --------
    >>> scaling = Scaling.fit(np.array([10.0, 14.0, np.nan]))
    >>> scaling
    Scaling(kind='standardise', mean=12.0, std=2.0)
    >>> scaling.apply(np.array([18.0])), scaling.invert(np.array([1.0]))
    (array([1.]), array([18.]))
    """

    kind: Kind
    mean: float
    std: float

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        if not math.isfinite(self.mean):
            raise OptionError(f"mean={self.mean!r} must be a finite number")
        check_number("std", self.std, 0, above=True)

    @classmethod
    def fit(cls, obs: Any, kind: Kind = "standardise") -> Scaling:
        """Compute mean and standard deviation of the observations, in one streaming pass.

        Sums are in double precision about a value of the field itself, so that a large mean costs
        no digits. Dask blocks are read one by one and not kept; chunks change the result by
        rounding only.

        Parameters
        ----------
        obs
            DataArray or array of any shape, NaN where nothing was observed.
        kind
            As for `Scaling`. The standard deviation of a constant field is taken as 1.

        Raises
        ------
        InputError
            If there is no observation, or an infinite one.
        OptionError
            An unknown kind.
        """
        check_choice("kind", kind, KINDS)
        data = obs.data if isinstance(obs, xr.DataArray) else obs
        found = _merged(_block_moments(data))
        if found.infinite:
            raise InputError(
                f"{found.infinite} observed values are infinite; set them to NaN before scaling"
            )
        if not found.number:
            raise InputError(
                "no value is observed (all NaN), so there is no scale; "
                "choose another period or region"
            )
        std = math.sqrt(found.squares / found.number)
        # a constant field: dividing by its rounding errors would blow these up
        if std <= ROUNDING * abs(found.mean):
            std = 1.0
        return cls(kind, found.mean, std)

    def of_sequence(self, seen: NDArray[np.floating]) -> Scaling:
        """Return the scaling of a sequence: the same, whatever is seen of it."""
        del seen
        return self

    def apply(self, values: V) -> V:
        """Scale values; NaN, shape, floating dtype and attributes stay, and Dask stays lazy.

        Parameters
        ----------
        values
            DataArray, NumPy array or torch tensor, in the units of the field.
        """
        return _pointwise(self._scale, values)

    def invert(self, values: V) -> V:
        """Bring scaled values back to the units of the field; types as in `apply`."""
        return _pointwise(self._unscale, values)

    def _scale(self, values: Any) -> Any:
        if self.kind == "anomaly":
            return values - self.mean
        return (values - self.mean) / (SPREADS * self.std)

    def _unscale(self, values: Any) -> Any:
        if self.kind == "anomaly":
            return values + self.mean
        return values * (SPREADS * self.std) + self.mean


@dataclass(frozen=True, kw_only=True)
class SequenceScaling:
    """A scaling of each sequence about its own level, where that of a field wanders.

    Over the seasons, sea surface temperature varies several times as much as within a week. One
    scaling for all seasons leaves a fraction of the range of tanh to what a network is to restore
    of a sequence, and it has to find the level besides.

    Parameters
    ----------
    mean
        Of the observed values of the field: the level of a sequence of which nothing is seen.
    std
        Of the observed values of sequences about the mean of each.
    kind
        Tells it from a `Scaling` where either is written down.
    """

    mean: float
    std: float
    kind: Literal["sequence"] = "sequence"

    @classmethod
    def fit(cls, obs: Any, sequences: Iterable[NDArray[np.floating]]) -> SequenceScaling:
        """Compute it by the observations of a field, and of some of its sequences.

        Raises
        ------
        InputError
            As `Scaling.fit`.

        >>> parts = [np.array([10.0, 12.0, np.nan]), np.array([20.0, 22.0])]
        >>> SequenceScaling.fit(np.concatenate(parts), parts)
        SequenceScaling(mean=16.0, std=1.0, kind='sequence')
        """
        mean, about_own = Scaling.fit(obs).mean, []
        for sequence in sequences:
            about_own.append((sequence - np.nanmean(sequence, dtype=np.float64)).ravel())
        std = Scaling.fit(np.concatenate(about_own)).std
        # constant sequences: dividing by their rounding errors would blow these up
        if std <= ROUNDING * abs(mean):
            std = 1.0
        return cls(mean=mean, std=std)

    def of_sequence(self, seen: NDArray[np.floating]) -> Scaling:
        """Return the scaling of a sequence: about the mean of what is seen of it, NaN elsewhere."""
        level = self.mean
        if np.isfinite(seen).any():
            level = float(np.nanmean(seen, dtype=np.float64))
        return Scaling("standardise", level, self.std)


def _pointwise(kernel: Any, values: Any) -> Any:
    """Run a kernel on an array or tensor, or on each block of a DataArray."""
    if not isinstance(values, xr.DataArray):
        return kernel(values)
    dtype = np.result_type(values.dtype, 1.0)
    return xr.apply_ufunc(
        kernel, values, dask="parallelized", output_dtypes=[dtype], keep_attrs=True
    )


class _Moments(NamedTuple):
    """Moments of some values.

    Attributes
    ----------
    number, mean, squares
        Number of finite values, their mean, and the sum of squares about it.
    infinite
        Number of values that are infinite.
    """

    number: int = 0
    mean: float = 0.0
    squares: float = 0.0
    infinite: int = 0


def _block_moments(data: Any) -> Iterable[_Moments]:
    if not hasattr(data, "dask"):
        return [_moments(np.asarray(data))]
    import dask

    tasks = [dask.delayed(_moments)(block) for block in data.to_delayed().ravel()]
    blocks: Iterable[_Moments] = dask.compute(*tasks)
    return blocks


def _moments(values: np.ndarray) -> _Moments:
    pieces = np.nditer(
        values,
        # in pieces: the whole in double precision would take twice the memory
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_dtypes=np.dtype(float),
        casting="same_kind",
        buffersize=PIECE,
    )
    return _merged(_piece_moments(np.asarray(piece)) for piece in pieces)


def _piece_moments(values: np.ndarray) -> _Moments:
    """Moments of 1-D float64 values, about one of them."""
    infinite = int(np.isinf(values).sum())
    values = values[np.isfinite(values)]
    if not values.size:
        return _Moments(infinite=infinite)
    # about a value of the field: squares of 300 K would lose the digits of a hundredth
    away = values - values[0]
    mean = away.mean()
    squares = float(np.square(away - mean).sum())
    return _Moments(values.size, float(values[0] + mean), squares, infinite)


def _merged(parts: Iterable[_Moments]) -> _Moments:
    """Combine the moments of parts, in their order (Chan, Golub & LeVeque 1983, eq. 2.1)."""
    total = _Moments()
    for part in parts:
        number = total.number + part.number
        fraction = part.number / max(number, 1)
        delta = part.mean - total.mean if total.number else part.mean
        squares = delta**2 * total.number * fraction
        total = _Moments(
            number,
            total.mean + delta * fraction,
            total.squares + part.squares + squares,
            total.infinite + part.infinite,
        )
    return total
