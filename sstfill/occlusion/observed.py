# SPDX-License-Identifier: Apache-2.0
"""The measurement operator ObservedClouds: the archive's own cloud masks of other dates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from sstfill.checks import check_number
from sstfill.errors import InputError, OptionError
from sstfill.occlusion.base import Mask, Shape, check_order, checked, flipped

CloudArchive = xr.DataArray | Mask
Indices = NDArray[np.intp]
TRIES = 32
"""Windows tried for one with the right occluded fraction, and images beyond those needed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ObservedClouds:
    """Clouds observed in an archive, for users without simulated ones.

    A draw takes consecutive images from a random date on, in a window centred anywhere and flipped
    at random. Beyond its edges the archive is mirrored, so that clouds have no seam, and a larger
    shape is tiled with it; in time it is played back and forth where it is shorter than the
    sequence. Up to 32 such windows are tried for one whose occluded fraction lies within the
    bounds. Failing that, single images within the bounds are taken, each from a date and a window
    of its own; failing that too (as for a single pixel), the window nearest to the bounds.

    Clouds over land are not observed: each land pixel of an image takes the value of the nearest
    sea pixel, and counts in the occluded fraction. Instances are equal only to themselves.

    Parameters
    ----------
    observed
        True where observed: DataArray ``(time, y, x)`` or ``(time, lat, lon)``, or NumPy array;
        ``obs.notnull()`` of an archive. A lazy one stays lazy, and a draw reads the images and rows
        it needs; load it first if memory allows and many masks are to be drawn.
    sea
        True at sea, ``(y, x)``; by default everywhere, and land that is never observed then counts
        as cloud.
    stride
        Images from one mask to the next; less than there are images.
    shift
        Centre the window anywhere; otherwise its corner is the archive's.
    flip
        Flip y and x at random.
    min_fraction, max_fraction
        Bounds of the occluded fraction, 0 to 1: of the sequence, or of each of the single images.
    consecutive
        False takes single images in random order only, as a process without memory.

    Raises
    ------
    InputError
        The arrays are not bool, have other dims or different grids, or there is no sea. In a draw:
        all images are free of clouds, or all are overcast.
    OptionError
        An option outside its range.

    >>> seen = np.tile([True, True, False, True], (6, 4, 1))
    >>> ObservedClouds(seen).draw((3, 2, 40), np.random.default_rng(0)).mean()
    np.float64(0.75)
    """

    name: ClassVar[str] = "observed-clouds"
    fill_value: ClassVar[float] = 1.0

    observed: CloudArchive = field(repr=False, kw_only=False)
    sea: CloudArchive | None = field(default=None, repr=False, kw_only=False)
    stride: int = 1
    shift: bool = True
    flip: bool = True
    min_fraction: float = 0.05
    max_fraction: float = 0.95
    consecutive: bool = True

    def __post_init__(self) -> None:
        images = len(self._series)
        check_number("stride", self.stride, 1, max(images - 1, 1), whole=True)
        check_number("min_fraction", self.min_fraction, 0, 1)
        check_number("max_fraction", self.max_fraction, 0, 1)
        check_order("fraction", self.min_fraction, self.max_fraction)
        if not self._at_sea.any():
            raise InputError("sea is False everywhere; give True at sea, or no mask at all")

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask of `shape` (time, y, x), True where observed."""
        frames, *plane = checked(shape)
        best, least = np.ones(0, bool), math.inf
        for mask in self._candidates(frames, plane, rng):
            excess = self._excess(mask)
            if excess < least:
                best, least = mask, excess
            if least == 0:
                return best
        # Nothing better was found; only now is the whole archive read to tell why.
        if best.all() or not best.any():
            self._check_varied()
        return best

    def split(self, parts: int | Sequence[float], *, gap: int = 5) -> tuple[ObservedClouds, ...]:
        """Split the dates into disjoint blocks of time, as for training, validation and test.

        Parameters
        ----------
        parts
            Number of blocks of equal length, or the fraction of each; fractions add up to 1.
        gap
            Images left out between two blocks, so that no cloud lies in both.

        Raises
        ------
        OptionError
            A block would have no more images than one `stride` spans.

        >>> train, test = ObservedClouds(np.ones((25, 1, 1), bool)).split((0.8, 0.2))
        >>> len(train.observed), len(test.observed)
        (16, 4)
        """
        check_number("gap", gap, 0, whole=True)
        fractions = _fractions(parts)
        # Gaps are cut off before the rest is shared out.
        usable = len(self._series) - gap * (len(fractions) - 1)
        ends = np.rint(np.cumsum([0.0, *fractions]) * max(usable, 0)).astype(int)
        lengths = np.diff(ends)
        if lengths.min() <= self.stride:
            raise OptionError(
                f"{len(self._series)} images in parts {parts!r} with gap={gap} leave a block of "
                f"{lengths.min()}, where stride={self.stride} needs {self.stride + 1}; "
                "ask for fewer or more even parts, or a smaller gap"
            )
        starts = ends[:-1] + gap * np.arange(len(fractions))
        blocks = []
        for start, length in zip(starts, lengths, strict=True):
            block = self._series[start : start + length]
            blocks.append(replace(self, observed=block, sea=self._at_sea))
        return tuple(blocks)

    @cached_property
    def _series(self) -> xr.DataArray:
        """The archive, time first."""
        given = self.observed
        if isinstance(given, np.ndarray) and given.ndim == 3:
            given = xr.DataArray(given, dims=("time", "y", "x"))
        if not isinstance(given, xr.DataArray) or given.ndim != 3 or "time" not in given.dims:
            met = getattr(given, "dims", getattr(given, "shape", ""))
            raise InputError(
                f"observed is a {type(given).__name__} {met}; give a filled array (time, y, x)"
            )
        if not given.size:
            raise InputError(f"observed is empty, {given.shape}; give a filled array (time, y, x)")
        if given.dtype != bool:
            raise InputError(
                f"observed holds {given.dtype}; give True where observed, such as obs.notnull()"
            )
        # Only the dims that are there; time goes first, rows before columns.
        return given.transpose("time", "y", "lat", "x", "lon", ..., missing_dims="ignore")

    @cached_property
    def _at_sea(self) -> Mask:
        """True at sea, on the archive's grid."""
        dims, plane = self._series.dims[1:], self._series.shape[1:]
        if self.sea is None:
            return np.ones(plane, bool)
        if isinstance(self.sea, xr.DataArray) and set(self.sea.dims) == set(dims):
            sea = self.sea.transpose(*dims).to_numpy()
        else:
            sea = np.asarray(self.sea)
        if sea.dtype != bool or sea.shape != plane:
            raise InputError(
                f"sea holds {sea.dtype} of shape {sea.shape}; give bool on the archive's grid of "
                f"{plane}, as sstfill.fields.reading.sea.sea_mask does"
            )
        return sea

    @cached_property
    def _nearest(self) -> NDArray[np.int32]:
        """Row and column of the sea pixel nearest to each pixel, (2, y, x)."""
        return distance_transform_edt(~self._at_sea, return_distances=False, return_indices=True)

    def _candidates(
        self, frames: int, plane: list[int], rng: np.random.Generator
    ) -> Iterator[Mask]:
        if self.consecutive:
            for _ in range(TRIES):
                yield self._read(self._dates(frames, rng), *self._window(plane, rng))
        yield self._singles(frames, plane, rng)

    def _singles(self, frames: int, plane: list[int], rng: np.random.Generator) -> Mask:
        """Single images of random dates, within the bounds if any is; repeated if too few are."""
        within: list[Mask] = []
        outside: list[Mask] = []
        # Without replacement, so that no image is shown twice while others are left.
        for date in rng.permutation(len(self._series))[: frames + TRIES]:
            image = self._read(np.array([date]), *self._window(plane, rng))
            if self._excess(image):
                outside.append(image)
            else:
                within.append(image)
            if len(within) == frames:
                break
        # Each is one image, (1, y, x).
        images = np.concatenate(within or outside)
        return images[np.arange(frames) % len(images)]

    def _dates(self, frames: int, rng: np.random.Generator) -> Indices:
        """Indices of the images of a sequence in the archive."""
        images = len(self._series)
        steps = self.stride * np.arange(frames)
        if images > steps[-1]:
            return int(rng.integers(images - steps[-1])) + steps
        # Back and forth the first and the last image are shown once, not twice in a row.
        period = max(2 * images - 2, 1)
        return _reflected(int(rng.integers(period)) + steps, period, 0)

    def _window(self, plane: list[int], rng: np.random.Generator) -> tuple[Indices, Indices]:
        """Rows and columns of the archive in a window."""
        (ny, nx), (height, width) = self._series.shape[1:], plane
        top = left = 0
        if self.shift:
            top = int(rng.integers(ny)) - height // 2
            left = int(rng.integers(nx)) - width // 2
        down, right = flipped(self.flip, rng)
        # A mirror image after each image: its period is twice the length.
        rows = _reflected(top + np.arange(height), 2 * ny, 1)
        columns = _reflected(left + np.arange(width), 2 * nx, 1)
        return rows[::down], columns[::right]

    def _read(self, dates: Indices, rows: Indices, columns: Indices) -> Mask:
        """Read a window of the archive, (time, y, x), and no more rows and columns than needed."""
        # Land pixels take their nearest sea pixel, which may lie outside the window.
        sea_rows, sea_columns = self._nearest[:, rows[:, None], columns]
        times, time = _located(dates)
        ys, y = _located(sea_rows)
        xs, x = _located(sea_columns)
        keys = dict(zip(self._series.dims, (times, ys, xs), strict=True))
        # Each row and column once, by slices or sorted lists; pointwise indexing of a lazy store
        # would read chunk after chunk.
        block = self._series.isel(keys).to_numpy()
        return block[time[:, None, None], y, x]

    def _excess(self, mask: Mask) -> float:
        """Distance of the occluded fraction from its bounds; 0 within them."""
        occluded = 1 - float(mask.mean())
        return max(self.min_fraction - occluded, occluded - self.max_fraction, 0.0)

    def _check_varied(self) -> None:
        """Raise `InputError` where all sea pixels of the archive are observed, or none is."""
        clear = cloudy = True
        for image in self._series:
            at_sea = image.to_numpy()[self._at_sea]
            clear = clear and bool(at_sea.all())
            cloudy = cloudy and not at_sea.any()
            # Most archives show both in their first image.
            if not clear and not cloudy:
                return
        met = "has a cloud" if clear else "has anything but clouds"
        raise InputError(
            f"no image of {len(self._series)} {met} at sea; give a cloudy archive as observed, "
            "or use SyntheticClouds"
        )


def _reflected(index: Indices, period: int, repeat: int) -> Indices:
    """Fold indices on a line that is mirrored at its ends.

    With `repeat` 1 its end points are shown twice in a row, with 0 once.
    """
    folded = index % period
    return np.minimum(folded, period - repeat - folded)


def _located(index: Indices) -> tuple[slice | Indices, Indices]:
    """Split indices into those to read, each once and in order, and the position of each in these.

    The first part is a slice if they are evenly spaced, since stores read slices faster.
    """
    unique, inverse = np.unique(index, return_inverse=True)
    position = inverse.reshape(index.shape)
    steps = np.diff(unique)
    if not steps.size:
        return slice(int(unique[0]), int(unique[0]) + 1, 1), position
    if (steps == steps[0]).all():
        return slice(int(unique[0]), int(unique[-1]) + 1, int(steps[0])), position
    return unique, position


def _fractions(parts: int | Sequence[float]) -> list[float]:
    if isinstance(parts, int | np.integer):
        check_number("parts", parts, 1, whole=True)
        return [1 / int(parts)] * int(parts)
    fractions = list(map(float, parts))
    if not fractions or min(fractions) <= 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise OptionError(
            f"parts={parts!r} are not fractions that add up to 1; give (0.8, 0.1, 0.1), say"
        )
    return fractions
