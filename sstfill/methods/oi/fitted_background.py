# SPDX-License-Identifier: Apache-2.0
"""First guess of optimal interpolation pinned to an archive: maps of the pixels, and how an image's
mean is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.fields import grid
from sstfill.methods.base import Archive
from sstfill.methods.common.fitted_store import Map, create_maps, read_part, write_tile
from sstfill.methods.interpolation.background import (
    PRIOR,
    Smoothing,
    TimePart,
    images,
    posterior,
    scattered,
)
from sstfill.methods.interpolation.interpolate import membrane

ABOUT = ("oi_pixel", "oi_scatter")
"""Maps of the mean of each pixel, and of the scatter about the first guess; field units."""
NEAR = 8
"""Images before and after one that its smoothed mean is worked out from."""
VALUES = 8_000_000
"""Of the sample, from so many at most."""
MARGIN = 32
"""Pixels around a tile from which the pixels that are never observed are filled, and the scatter is
smoothed.
"""
DIGITS = 2**20
"""Anomalies are summed in whole multiples of the standard deviation over this: such sums hang on no
order.
"""
LARGEST = 2**11
"""In standard deviations: anomalies are clipped to this, either way, where they are summed."""


@dataclass(frozen=True)
class Images:
    """How the means of images are found from the sample of a few at a time.

    Attributes
    ----------
    every
        Stride by which points of the sample are taken.
    smoothing
        None where images have no mean of their own.
    pixels
        How many of these points are ever observed.
    level
        Mean of all, field units.
    pixel
        Means of these points, ``(point,)``.
    """

    every: int
    smoothing: Smoothing | None
    pixels: int
    level: float
    pixel: NDArray[np.float64]

    @classmethod
    def fit(cls, archive: Archive, kind: str) -> tuple[Images, TimePart]:
        """Fit the time part of a first guess to the sample; the means of the points are still to be
        found.
        """
        every = -(-archive.sample.size // VALUES)
        sample = np.ascontiguousarray(
            archive.sample[:, ::every], np.float64
        )  # one layout, so one rounding
        seen = np.isfinite(sample)
        if not seen.any():
            raise InputError(
                f"nothing is observed at the {sample.shape[1]} pixels looked at; check the sea mask"
            )
        level = float(sample[seen].mean())
        image, smoothing = np.zeros(len(sample)), None
        if kind == "additive":
            image, smoothing = images(sample[:, np.newaxis] - level, grid.days(archive.obs))
        pixels = max(1, int(np.count_nonzero(seen.any(0))))
        return cls(every, smoothing, pixels, level, np.zeros(0)), TimePart(level, image)

    @property
    def steps(self) -> int:
        """How many images before and after one matter to its mean."""
        return 0 if self.smoothing is None else NEAR

    def at(self, sample: NDArray[np.float32], days: NDArray[np.float64]) -> NDArray[np.float64]:
        """Smoothed means ``(time,)`` of images of which a sample ``(time, point)`` is known."""
        mean = np.zeros(len(sample))
        if self.smoothing is None:
            return mean
        anomaly = np.ascontiguousarray(sample[:, :: self.every], np.float64) - self.pixel
        seen = np.isfinite(anomaly)
        count = seen.sum(1)
        raw = np.where(seen, anomaly, 0.0).sum(1) / np.maximum(count, 1)
        for t in range(len(mean)):
            near = slice(max(0, t - NEAR), t + NEAR + 1)
            mean[t] = posterior(raw[near], count[near] / self.pixels, self.smoothing, days[near])[
                1
            ][t - near.start]
        return mean

    def told(self) -> dict[str, Any]:
        """In plain values."""
        smoothing = None if self.smoothing is None else list(self.smoothing)
        return {
            "every": self.every,
            "smoothing": smoothing,
            "pixels": self.pixels,
            "level": self.level,
            "pixel": self.pixel.tolist(),
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Images:
        """Make it from plain values."""
        smoothing = None if told["smoothing"] is None else Smoothing(*told["smoothing"])
        return cls(told["every"], smoothing, told["pixels"], told["level"], np.array(told["pixel"]))


class Sums(NamedTuple):
    """Over time, of each pixel's anomalies: number, sum and sum of squares, ``(y, x)`` each; field
    units.
    """

    n: NDArray[np.int32]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]


def fitted_background(
    archive: Archive, kind: str, found: Images, time_part: TimePart, folder: Path
) -> Images:
    """Write the maps of a first guess; return how the images' means are found about them."""
    ny, nx = archive.sea.shape
    create_maps(folder, dict.fromkeys(ABOUT, Map()), ny, nx)
    n, total, squares = sums = _sums(archive, time_part)
    overall = _overall(sums, kind)
    for tile in archive.tiles:
        seen = tuple(
            slice(max(0, s.start - MARGIN), min(most, s.stop + MARGIN))
            for s, most in zip(tile, (ny, nx), strict=True)
        )
        here = tuple(
            slice(t.start - s.start, t.stop - s.start) for t, s in zip(tile, seen, strict=True)
        )
        wet = archive.sea.values[seen].astype(bool)
        pixel, scatter = _pixels(Sums(n[seen], total[seen], squares[seen]), wet, kind, overall)
        for name, values in zip(ABOUT, (time_part.level + pixel, scatter), strict=True):
            write_tile(folder, name, tile, values[here])
    return replace(found, pixel=_at_points(archive, found.every, folder))


def _sums(archive: Archive, time_part: TimePart) -> Sums:
    """Sum the anomalies about the means of the images, in one pass block by block; the same
    whatever the blocks.
    """
    level, image = time_part
    unit = float(np.nanstd(np.ascontiguousarray(archive.sample))) or 1.0
    about = xr.DataArray(level + image, dims="time")
    anomaly = (
        (archive.obs.drop_vars("time", errors="ignore").astype(np.float64) - about) / unit
    ).clip(-LARGEST, LARGEST)
    whole = (anomaly * DIGITS).round().fillna(0).astype(np.int64)
    squares = (anomaly * anomaly * DIGITS).round().fillna(0).astype(np.int64)
    lazy = xr.Dataset(
        {
            "n": anomaly.notnull().sum("time"),
            "total": whole.sum("time"),
            "squares": squares.sum("time"),
        }
    )
    done, wet = lazy.compute(), archive.sea.values.astype(bool)
    n, total, square = (np.where(wet, done[name].values, 0) for name in ("n", "total", "squares"))
    return Sums(n.astype(np.int32), total * (unit / DIGITS), square * (unit**2 / DIGITS))


def _overall(sums: Sums, kind: str) -> float:
    """Mean square about the first guess, of all pixels."""
    return float(_about(sums, _own(sums, kind)).sum() / max(sums.n.sum(dtype=np.int64), 1))


def _pixels(
    sums: Sums, wet: NDArray[np.bool_], kind: str, overall: float
) -> tuple[NDArray, NDArray]:
    """Mean of each pixel of a tile (and its margin), apart from what all have in common, and the
    scatter.
    """
    own = _own(sums, kind)
    squares = _about(sums, own)
    if kind != "mean":
        own = np.nan_to_num(membrane(np.where(sums.n > 0, own, np.nan), wet & (sums.n == 0)))
    return own, scattered(squares, sums.n.astype(np.int64), overall)


def _own(sums: Sums, kind: str) -> NDArray[np.float64]:
    return np.zeros(sums.n.shape) if kind == "mean" else sums.total / (sums.n + PRIOR)


def _about(sums: Sums, pixel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of squares over time about the first guess."""
    return np.maximum(sums.squares - 2 * pixel * sums.total + sums.n * pixel**2, 0.0)


def _at_points(archive: Archive, every: int, folder: Path) -> NDArray[np.float64]:
    """Means of the pixels at the points of the sample, ``(point,)``, as the map has them."""
    rows, columns = (a[::every] for a in archive.points)
    found = np.empty(len(rows))
    for y, x in archive.tiles:
        here = (rows >= y.start) & (rows < y.stop) & (columns >= x.start) & (columns < x.stop)
        found[here] = read_part(folder, ABOUT[0], y, x)[
            rows[here] - y.start, columns[here] - x.start
        ]
    return found
