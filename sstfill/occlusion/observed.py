# SPDX-License-Identifier: Apache-2.0
"""The measurement operator ObservedClouds: the archive's own cloud masks of other dates, moved,
flipped and cut out.
"""

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

Archive = xr.DataArray | Mask
Indices = NDArray[np.intp]
TRIES = (
    32  # windows looked at for one whose occluded share is right, and images beyond those needed
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ObservedClouds:
    """Clouds as an archive saw them: what a user has who has no simulated ones.

    A draw shows consecutive images from a random date on, in a window centred anywhere, flipped at
    random. Beyond its edges the archive is mirrored, so that clouds meet no seam, and a larger
    shape is tiled with it; in time it is played back and forth where it is shorter than the
    sequence. Up to 32 such windows are looked at for one whose occluded share lies within the
    bounds. If none does, single images that do are shown, each from a date and a window of its own;
    if no image does either (as for a single pixel), what came nearest to the bounds.

    Land says nothing about clouds: each land pixel of an image is taken to be as the sea pixel
    nearest to it. Occluded shares count all pixels of the window, those too. Instances are equal to
    themselves alone.

    Parameters
    ----------
    observed
        True where seen: DataArray ``(time, y, x)`` or ``(time, lat, lon)``, or NumPy array;
        ``obs.notnull()`` of an archive. A lazy one stays lazy, and a draw reads the images and rows
        it needs: load it first if memory allows and many masks are to be drawn.
    sea
        True at sea, ``(y, x)``; by default all is sea, and land that is never seen counts as
        clouded for ever.
    stride
        Images from one mask to the next; less than there are images.
    shift
        Centre the window anywhere; else its corner is the archive's.
    flip
        Flip y and x at random.
    min_share, max_share
        Bounds of the occluded share, 0 to 1: of the sequence, or of each of the single images.
    consecutive
        False shows single images in random order only, as a process without memory.

    Raises
    ------
    InputError
        Not bool, of other dims, without sea, not of one grid; in a draw: no image has a cloud, or
        none anything else.
    OptionError
        An option outside its range.

    >>> seen = np.tile([True, True, False, True], (6, 4, 1))
    >>> ObservedClouds(seen).draw((3, 2, 40), np.random.default_rng(0)).mean()
    np.float64(0.75)
    """

    name: ClassVar[str] = "observed-clouds"
    fill_value: ClassVar[float] = 1.0

    observed: Archive = field(repr=False, kw_only=False)
    sea: Archive | None = field(default=None, repr=False, kw_only=False)
    stride: int = 1
    shift: bool = True
    flip: bool = True
    min_share: float = 0.05
    max_share: float = 0.95
    consecutive: bool = True

    def __post_init__(self) -> None:
        images = len(self._series)
        check_number("stride", self.stride, 1, max(images - 1, 1), whole=True)
        check_number("min_share", self.min_share, 0, 1)
        check_number("max_share", self.max_share, 0, 1)
        check_order("share", self.min_share, self.max_share)
        if not self._at_sea.any():
            raise InputError("sea is False everywhere; give True at sea, or no mask at all")

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` (True = seen) of `shape` (time, y, x)."""
        frames, *plane = checked(shape)
        best, least = np.ones(0, bool), math.inf
        for mask in self._candidates(frames, plane, rng):
            if (away := self._away(mask)) < least:
                best, least = mask, away
            if least == 0:
                return best
        if best.all() or not best.any():
            self._check_varied()
        return best

    def split(self, parts: int | Sequence[float], *, gap: int = 5) -> tuple[ObservedClouds, ...]:
        """Cut the dates into disjoint blocks of time, as banks of masks for training, validation
        and test.

        Parameters
        ----------
        parts
            How many blocks of one length, or the share of each, which add up to 1.
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
        shares = _shares(parts)
        room = len(self._series) - gap * (len(shares) - 1)
        ends = np.rint(np.cumsum([0.0, *shares]) * max(room, 0)).astype(int)
        lengths = np.diff(ends)
        if lengths.min() <= self.stride:
            raise OptionError(
                f"{len(self._series)} images in parts {parts!r} with gap={gap} leave a block of {lengths.min()}, where "
                f"stride={self.stride} needs {self.stride + 1}; ask for fewer or more even parts, or a smaller gap"
            )
        starts = ends[:-1] + gap * np.arange(len(shares))
        blocks = (self._series[start : start + n] for start, n in zip(starts, lengths, strict=True))
        return tuple(replace(self, observed=block, sea=self._at_sea) for block in blocks)

    @cached_property
    def _series(self) -> xr.DataArray:
        """The archive, time first."""
        given = self.observed
        if isinstance(given, np.ndarray) and given.ndim == 3:
            given = xr.DataArray(given, dims=("time", "y", "x"))
        if (
            not isinstance(given, xr.DataArray)
            or given.ndim != 3
            or not given.size
            or "time" not in given.dims
        ):
            met = getattr(given, "dims", getattr(given, "shape", ""))
            raise InputError(
                f"observed is a {type(given).__name__} {met}; give a filled array (time, y, x)"
            )
        if given.dtype != bool:
            raise InputError(
                f"observed holds {given.dtype}; give True where seen, such as obs.notnull()"
            )
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
                f"sea holds {sea.dtype} of shape {sea.shape}; give bool on the archive's grid of {plane}, "
                "as sstfill.fields.sea.sea_mask does"
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
        """Images from dates in random order, those within the bounds if there are any; in turn if
        they are too few.
        """
        right: list[Mask] = []
        wrong: list[Mask] = []
        for date in rng.permutation(len(self._series))[: frames + TRIES]:
            image = self._read(np.array([date]), *self._window(plane, rng))
            (wrong if self._away(image) else right).append(image)
            if len(right) == frames:
                break
        images = np.concatenate(right or wrong)
        return images[np.arange(frames) % len(images)]

    def _dates(self, frames: int, rng: np.random.Generator) -> Indices:
        """Places of the images of a sequence in the archive."""
        images, steps = len(self._series), self.stride * np.arange(frames)
        if images > steps[-1]:
            return int(rng.integers(images - steps[-1])) + steps
        there_and_back = max(2 * images - 2, 1)
        return _reflected(int(rng.integers(there_and_back)) + steps, there_and_back, 0)

    def _window(self, plane: list[int], rng: np.random.Generator) -> tuple[Indices, Indices]:
        """Rows and columns of the archive that a window shows."""
        sizes = self._series.shape[1:]
        starts = [
            int(rng.integers(n)) - m // 2 if self.shift else 0
            for n, m in zip(sizes, plane, strict=True)
        ]
        down, right = flipped(self.flip, rng)
        rows, columns = (
            _reflected(k + np.arange(m), 2 * n, 1)
            for k, n, m in zip(starts, sizes, plane, strict=True)
        )
        return rows[::down], columns[::right]

    def _read(self, dates: Indices, rows: Indices, columns: Indices) -> Mask:
        """Compute what the archive shows of a window, (time, y, x); no more than the rows and
        columns it needs.
        """
        wanted = (dates, *self._nearest[:, rows[:, None], columns])
        keys, places = zip(*(_located(index) for index in wanted), strict=True)
        block = self._series.isel(dict(zip(self._series.dims, keys, strict=True))).to_numpy()
        times, down, right = places
        return block[times[:, None, None], down, right]

    def _away(self, mask: Mask) -> float:
        """How far the occluded share is from its bounds; 0 within them."""
        share = 1 - float(mask.mean())
        return max(self.min_share - share, share - self.max_share, 0.0)

    def _check_varied(self) -> None:
        """Raise `InputError` where all sea pixels of the archive are alike."""
        clear = cloudy = True
        for image in self._series:
            seen = image.to_numpy()[self._at_sea]
            clear, cloudy = clear and bool(seen.all()), cloudy and not seen.any()
            if not (clear or cloudy):
                return
        met = "has a cloud" if clear else "has anything but clouds"
        raise InputError(
            f"no image of {len(self._series)} {met} at sea; give a cloudy archive as observed, "
            "or take SyntheticClouds"
        )


def _reflected(index: Indices, period: int, repeat: int) -> Indices:
    """Fold places on a line that is mirrored at its ends, whose end points are shown twice
    (`repeat` 1) or once (0).
    """
    folded = index % period
    return np.minimum(folded, period - repeat - folded)


def _located(index: Indices) -> tuple[slice | Indices, Indices]:
    """Split places into those to read, each once and in order (a slice if evenly spaced), and where
    each then lies.
    """
    unique, inverse = np.unique(index, return_inverse=True)
    steps = np.diff(unique)
    if not steps.size or (steps == steps[0]).all():
        step = int(steps[0]) if steps.size else 1
        return slice(int(unique[0]), int(unique[-1]) + 1, step), inverse.reshape(index.shape)
    return unique, inverse.reshape(index.shape)


def _shares(parts: int | Sequence[float]) -> list[float]:
    if isinstance(parts, int | np.integer):
        check_number("parts", parts, 1, whole=True)
        return [1 / int(parts)] * int(parts)
    shares = [float(share) for share in parts]
    if not shares or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise OptionError(
            f"parts={parts!r} are not shares that add up to 1; give such as (0.8, 0.1, 0.1)"
        )
    return shares
