# SPDX-License-Identifier: Apache-2.0
"""Background of optimal interpolation fitted to an archive: maps of the pixels, and how the mean of
an image is found.
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
from sstfill.fields.reading.dates import days_since_first
from sstfill.methods.base import Archive
from sstfill.methods.common.fitted_store import Map, create_maps, read_part, write_tile
from sstfill.methods.common.matrix import time_slabs
from sstfill.methods.interpolation.background import (
    PRIOR,
    Smoothing,
    TimePart,
    image_means,
    plane,
    posterior,
    smoothed_scatter,
)
from sstfill.methods.interpolation.interpolate import membrane

MAPS = ("oi_pixel", "oi_scatter")
"""Maps of the mean of each pixel, and of the scatter about the background; field units."""
NEAR = 8
"""Images before and after one from which its smoothed mean is computed."""
VALUES = 8_000_000
"""Most values of the sample that are used."""
MARGIN = 32
"""Pixels around a tile from which pixels never observed are filled and the scatter is smoothed."""
DIGITS = 2**20
"""Anomalies are summed as whole multiples of the standard deviation over this: whole numbers add up
to the same sum in any order, so that chunks do not matter.
"""
LARGEST = 2**11
"""Standard deviations to which anomalies are clipped in these sums."""


@dataclass(frozen=True)
class ImageMeans:
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
    def fit(cls, archive: Archive, kind: str) -> tuple[ImageMeans, TimePart]:
        """Fit the time part of a background to the sample; `pixel` is still empty."""
        every = -(-archive.sample.size // VALUES)
        # one memory layout whatever the chunks, so that sums are rounded alike
        sample = np.ascontiguousarray(archive.sample[:, ::every], np.float64)
        seen = np.isfinite(sample)
        if not seen.any():
            raise InputError(
                f"nothing is observed at the {sample.shape[1]} pixels looked at; check the sea mask"
            )
        level = float(sample[seen].mean())
        image, smoothing = np.zeros(len(sample)), None
        if kind == "additive":
            image, smoothing = image_means(
                sample[:, np.newaxis] - level, days_since_first(archive.obs)
            )
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
        coverage = count / self.pixels
        for t in range(len(mean)):
            near = slice(max(0, t - NEAR), t + NEAR + 1)
            _, smoothed = posterior(raw[near], coverage[near], self.smoothing, days[near])
            mean[t] = smoothed[t - near.start]
        return mean

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "every": self.every,
            "smoothing": None if self.smoothing is None else list(self.smoothing),
            "pixels": self.pixels,
            "level": self.level,
            "pixel": self.pixel.tolist(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> ImageMeans:
        """Build it from what `to_dict` returned."""
        smoothing = state["smoothing"]
        return cls(
            state["every"],
            None if smoothing is None else Smoothing(*smoothing),
            state["pixels"],
            state["level"],
            np.array(state["pixel"]),
        )


class Sums(NamedTuple):
    """Number, sum and sum of squares over time of the anomalies, ``(y, x)``; field units."""

    n: NDArray[np.int32]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    def pixel_means(self, kind: str) -> NDArray[np.float64]:
        """Mean anomaly of each pixel, drawn to zero where little is observed; or the trend."""
        if kind == "mean":
            return np.zeros(self.n.shape)
        if kind == "trend":
            return plane(self.n, self.total)
        return self.total / (self.n + PRIOR)

    def about(self, pixel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of squares over time about these means."""
        return np.maximum(self.squares - 2 * pixel * self.total + self.n * pixel**2, 0.0)


def write_background(
    archive: Archive, kind: str, means: ImageMeans, time_part: TimePart, folder: Path
) -> ImageMeans:
    """Write the maps of a background; return how the means of images are found about them."""
    ny, nx = archive.sea.shape
    create_maps(folder, dict.fromkeys(MAPS, Map()), ny, nx)
    sums = _sums(archive, time_part)
    of_pixels = sums.pixel_means(kind)
    squares = sums.about(of_pixels)
    overall = float(squares.sum() / max(sums.n.sum(dtype=np.int64), 1))
    for y, x in archive.tiles:
        rows = slice(max(0, y.start - MARGIN), min(ny, y.stop + MARGIN))
        columns = slice(max(0, x.start - MARGIN), min(nx, x.stop + MARGIN))
        inside = (
            slice(y.start - rows.start, y.stop - rows.start),
            slice(x.start - columns.start, x.stop - columns.start),
        )
        pixel, n = of_pixels[rows, columns], sums.n[rows, columns].astype(np.int64)
        if kind in ("pixel", "additive"):
            sea = archive.sea.values[rows, columns].astype(bool)
            observed = np.where(n > 0, pixel, np.nan)
            pixel = np.nan_to_num(membrane(observed, sea & (n == 0)))
        times = archive.obs.sizes["time"]
        scatter = smoothed_scatter(squares[rows, columns], n, overall, times)
        write_tile(folder, MAPS[0], (y, x), time_part.level + pixel[inside])
        write_tile(folder, MAPS[1], (y, x), scatter[inside])
    return replace(means, pixel=_at_points(archive, means.every, folder))


def _sums(archive: Archive, time_part: TimePart) -> Sums:
    """Sum the anomalies about the means of the images, in one pass.

    Blocks of the same images are summed at once, and no others: sums of a few hundred blocks as
    large as the image take more memory than all else.
    """
    level, image = time_part
    unit = float(np.nanstd(np.ascontiguousarray(archive.sample))) or 1.0
    mean = xr.DataArray(level + image, dims="time")
    obs = archive.obs.drop_vars("time", errors="ignore")
    n, total, squares = np.zeros((3, *archive.sea.shape), np.int64)
    for here in time_slabs(obs):
        anomaly = ((obs[here].astype(np.float64) - mean[here]) / unit).clip(-LARGEST, LARGEST)
        parts = {"total": anomaly, "squares": anomaly * anomaly}
        whole = (xr.Dataset(parts) * DIGITS).round().fillna(0).astype(np.int64)
        found = whole.sum("time").assign(n=anomaly.notnull().sum("time")).compute()
        n += found["n"].values
        total += found["total"].values
        squares += found["squares"].values
    land = ~archive.sea.values.astype(bool)
    n[land] = total[land] = squares[land] = 0
    return Sums(n.astype(np.int32), total * (unit / DIGITS), squares * (unit**2 / DIGITS))


def _at_points(archive: Archive, every: int, folder: Path) -> NDArray[np.float64]:
    """Means of the pixels at the points of the sample, ``(point,)``, as the map has them."""
    rows, columns = archive.points.rows[::every], archive.points.columns[::every]
    found = np.empty(len(rows))
    for y, x in archive.tiles:
        here = (rows >= y.start) & (rows < y.stop) & (columns >= x.start) & (columns < x.stop)
        tile = read_part(folder, MAPS[0], y, x)
        found[here] = tile[rows[here] - y.start, columns[here] - x.start]
    return found
