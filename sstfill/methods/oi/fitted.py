# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation fitted to an archive: its covariance, and maps of its background."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import config
from sstfill.errors import OptionError
from sstfill.fields.patches import Patch, Shape
from sstfill.fields.reading.dates import absolute_days, days_since_first, usual_step
from sstfill.fields.reading.positions import cell_km
from sstfill.methods.base import STEPS, Archive, Window
from sstfill.methods.common.fitted_store import read_part, read_state, write_state
from sstfill.methods.common.threads import in_threads
from sstfill.methods.interpolation.background import Background
from sstfill.methods.oi.covariance import search_radius
from sstfill.methods.oi.covariance_fit import FittedCovariance, fit_covariance, standardised
from sstfill.methods.oi.fitted_background import MAPS, ImageMeans, write_background
from sstfill.methods.oi.geometry import Domain, Positions, Step, cell_steps, positions
from sstfill.methods.oi.method import Oi
from sstfill.methods.oi.solver import SIDE, UNEVEN, Solver, per_day, rounded
from sstfill.methods.oi.subsample import EXCERPT
from sstfill.nn.device import pick_device

TILE = 64
"""Side, in pixels, of the squares of the grid that share a ranking of neighbours."""
TARGETS = 8192
"""Pixels that are interpolated at once in a thread."""
Cell = tuple[Step, Step]
"""Step along y and along x, each km northward and eastward."""


class _Gaps(NamedTuple):
    """The gaps inside a window, and what is known around them.

    Attributes
    ----------
    at, standard
        Positions of all that the window shows, and standardised anomalies ``(channel, time, y,
        x)``.
    where
        True at the gaps, ``(time, y, x)`` inside.
    targets
        Their channel, time, y, x in what is shown, ``(n, 4)``.
    level, scatter
        Background there, and scatter about it, ``(n,)``.
    spread
        Scatter of all that is inside, ``(time, y, x)``.
    """

    at: Positions
    standard: NDArray[np.float32]
    where: NDArray[np.bool_]
    targets: NDArray[np.int32]
    level: NDArray[np.float64]
    scatter: NDArray[np.float64]
    spread: NDArray[np.float64]


@dataclass(frozen=True)
class FittedOi:
    """Optimal interpolation with the covariance and the background of an archive.

    The estimate at a pixel depends on the observations within `halo`, and on the sample of the
    images of these times; not on the window in which the pixel lies.

    Attributes
    ----------
    folder
        Folder of the maps.
    method
        The options.
    fitted
        Covariance, and kind of the background.
    images
        How the means of the images are found.
    cell, step
        Size of a cell (y, x) in km and days between images, typical of the archive.
    cells
        Steps along y and along x, km northward and eastward, in squares of `TILE` pixels, ``(row,
        column, 2, 2)``.
    domain
        Extent of the archive's grid; None where an earlier version did not note it.
    side
        Of the tiles whose gaps share their observations: 1, each gap alone, in a job of an earlier
        version, so that its updates go on as they began.
    uneven
        See `sstfill.methods.oi.solver.UNEVEN`; 0 in such a job.
    """

    folder: Path
    method: Oi
    fitted: FittedCovariance
    images: ImageMeans
    cell: tuple[float, float]
    step: float
    cells: NDArray[np.float64]
    domain: Domain | None = None
    side: int = SIDE
    uneven: float = UNEVEN

    @classmethod
    def fit(cls, method: Oi, archive: Archive, folder: Path) -> FittedOi:
        """Fit covariance and background to an archive; maps of the latter in one pass over it."""
        kinds = method.backgrounds(archive.obs.sizes["time"])
        images = {kind: ImageMeans.fit(archive, kind) for kind in kinds}
        # consecutive images with most observations in the sample, as many as the fit uses
        most = min(EXCERPT[0], archive.obs.sizes["time"])
        total = np.cumsum([0, *np.isfinite(archive.sample).sum(1)])
        start = int(np.argmax(total[most:] - total[:-most]))
        times = slice(start, start + most)
        time_parts = {}
        for kind, (_, time_part) in images.items():
            time_parts[kind] = time_part._replace(image=time_part.image[times])
        excerpt = archive.obs[times]
        fitted = fit_covariance(
            excerpt, archive.sea, method.covariance, kinds, method.fixed, method.seed, time_parts
        )
        means, time_part = images[fitted.background]
        means = write_background(archive, fitted.background, means, time_part, folder)
        # One image's coordinates; no value is read.
        coords = {name: c for name, c in archive.obs.coords.items() if "time" not in c.dims}
        nothing = np.broadcast_to(np.float32(0), archive.obs.shape[1:])
        image = xr.DataArray(nothing, coords, archive.obs.dims[1:])
        state = {
            "options": config.options(method),
            "fitted": fitted.to_dict(),
            "images": means.to_dict(),
            "cell": cell_km(image),
            "step": usual_step(days_since_first(archive.obs)),
            "cells": _cells(image).tolist(),
            "domain": Domain.of(image).to_dict(),
            "side": fitted.side,
            "uneven": UNEVEN,
        }
        write_state(folder, method.name, state)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> FittedOi:
        """Read what `fit` or `save` wrote."""
        state = read_state(folder)
        dy, dx = state["cell"]
        domain = None
        if state.get("domain") is not None:
            domain = Domain.from_dict(state["domain"])
        return cls(
            folder,
            config.build(Oi, state["options"]),
            FittedCovariance.from_dict(state["fitted"]),
            ImageMeans.from_dict(state["images"]),
            (dy, dx),
            state["step"],
            np.array(state["cells"]),
            domain,
            state.get("side", 1),
            state.get("uneven", 0.0),
        )

    @cached_property
    def within(self) -> Shape:
        """Farthest steps (time, y, x) at which observations are looked for."""
        flow = per_day(self.method.flow)
        time, y, x = search_radius(self.fitted.covariance, self.cell, self.step, flow)
        return min(time, STEPS - self.images.steps), y, x

    @property
    def halo(self) -> Shape:
        """See `sstfill.methods.base.FittedMethod`."""
        time, y, x = self.within
        return time + self.images.steps, y + self.side - 1, x + self.side - 1

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.base.FittedMethod`; observed pixels come back as they are."""
        window = window.narrowed(self.halo)
        gaps = self._gaps(window)
        mean, variance = self._interpolated(gaps, window)
        return self._found(gaps, mean, variance, window)

    def simulate(self, window: Window, members: int) -> xr.Dataset:
        """See `sstfill.methods.base.FittedSimulates`; observed pixels come back as they are.

        Draws are made on the CPU, whatever the device of the method; how, see
        `sstfill.methods.oi.simulation`.
        """
        from sstfill.methods.oi import simulation  # SciPy's statistics take long to import

        if self.domain is None:
            raise OptionError(
                "the method was fitted by an earlier version of sstfill, without what draws need; "
                "fill the archive again with --refit"
            )
        window = window.narrowed(self.halo)
        gaps, seen = self._gaps(window), window.patch.seen
        whole = Patch(seen, seen).within
        days = days_since_first(window.obs)
        jobs, order = [], [np.zeros(0, np.intp)]
        for cell, rows in self._jobs(gaps.targets, window):
            solver = self._solver(gaps.at, days, cell, window)
            jobs.append(simulation.Job(solver, whole, gaps.targets[rows]))
            order.append(rows)
        simulator = simulation.Simulator(
            self.fitted, self.method.flow, self.domain, members, self.method.seed
        )
        absolute = absolute_days(window.obs, first=seen[0].start)
        found = simulator(gaps.standard, jobs, gaps.at, absolute, seen)
        # back from the order of the jobs to that of the targets
        back = np.argsort(np.concatenate(order))
        mean, variance, _ = found.solved
        estimate = self._found(gaps, mean[back], variance[back], window)
        drawn = np.empty((members, *gaps.where.shape), window.obs.dtype)
        drawn[:] = estimate["mean"].values
        for member in range(members):
            value = found.at_targets(member)[back]
            drawn[member, gaps.where] = gaps.level + gaps.scatter * value
        scales = self.fitted.covariance.mean_scales()
        return estimate.assign(members=(("member", *window.obs.dims), drawn, scales))

    def background(self, window: Window) -> Background:
        """Return the background of all that a window shows, and the scatter about it."""
        _, rows, columns = window.patch.seen
        pixel = read_part(self.folder, MAPS[0], rows, columns).astype(np.float64)
        scatter = read_part(self.folder, MAPS[1], rows, columns).astype(np.float64)
        image = self.images.at(window.sample, days_since_first(window.obs))
        return Background(pixel, image, scatter)

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.base.FittedMethod`."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)

    def _gaps(self, window: Window) -> _Gaps:
        """Find the gaps inside a window, and standardise what it shows."""
        _, rows, columns = window.patch.seen
        at = positions(window.obs, rows.start, columns.start)
        sea = window.sea.values.astype(bool)
        background = self.background(window)
        standard = standardised(window.obs, [background], sea, at)
        times, rows, columns = window.patch.within
        where = np.isnan(window.inside.values) & (sea & at.known)[rows, columns]
        origin = np.array([times.start, rows.start, columns.start])
        targets = np.zeros((np.count_nonzero(where), 4), np.int32)  # all of channel 0
        targets[:, 1:] = np.argwhere(where) + origin
        scatter = np.broadcast_to(background.scatter[rows, columns], where.shape)
        image = background.image[times, np.newaxis, np.newaxis]
        level = (image + background.pixel[rows, columns])[where]
        return _Gaps(at, standard, where, targets, level, scatter[where], scatter)

    def _found(
        self, gaps: _Gaps, mean: NDArray[np.float64], variance: NDArray[np.float64], window: Window
    ) -> xr.Dataset:
        """Mean and error inside a window, in field units, from the posterior at its gaps."""
        inside, noise = window.inside, self.fitted.covariance.noise
        filled = inside.values.copy()
        filled[gaps.where] = gaps.level + gaps.scatter * mean
        error = np.where(np.isfinite(filled), np.sqrt(noise) * gaps.spread, np.nan)
        error = error.astype(np.float32)
        error[gaps.where] = gaps.scatter * np.sqrt(variance + noise)
        found = {"mean": (inside.dims, filled), "error": (inside.dims, error)}
        return xr.Dataset(found, inside.coords, self.fitted.summary())

    def _solver(
        self, at: Positions, days: NDArray[np.float64], cell: Cell, window: Window
    ) -> Solver:
        _, rows, columns = window.patch.seen
        return Solver(
            at=at,
            days=days,
            covariance=self.fitted.covariance,
            flow=self.method.flow,
            cross=self.fitted.cross,
            neighbours=self.method.neighbours,
            within=self.within,
            first=(rows.start, columns.start),
            side=self.side,
            uneven=self.uneven,
            device=pick_device(self.method.device),
            cell=cell,
            step=self.step,
        )

    def _interpolated(
        self, gaps: _Gaps, window: Window
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior mean and variance at the gaps of a window."""
        targets = gaps.targets
        mean, variance = np.empty(len(targets)), np.empty(len(targets))
        days = days_since_first(window.obs)

        def interpolate(job: tuple[Cell, NDArray[np.intp]]) -> None:
            cell, rows = job
            solve = self._solver(gaps.at, days, cell, window)
            mean[rows], variance[rows] = solve(gaps.standard, targets[rows])

        if pick_device(self.method.device) == "cpu":
            in_threads(interpolate, self._jobs(targets, window))
        else:
            # the solver makes batches of its own, and copies the window to the GPU for each job
            for job in self._jobs(targets, window, max(1, len(targets))):
                interpolate(job)
        return mean, variance

    def _jobs(
        self, targets: NDArray[np.int32], window: Window, most: int = TARGETS
    ) -> Iterator[tuple[Cell, NDArray[np.intp]]]:
        """Rows of `targets` whose tiles have cells alike, so many at a time, and the cell.

        The cell is that of the tile in the whole archive, so that a pixel has the same neighbours
        in whatever window it lies.
        """
        _, rows, columns = window.patch.seen
        row, column = targets[:, 2] + rows.start, targets[:, 3] + columns.start
        kinds, kind = np.unique(rounded(self.cells).reshape(-1, 4), axis=0, return_inverse=True)
        of_target = kind.reshape(self.cells.shape[:2])
        # the square in which a tile of the solver begins serves all of its gaps
        tile_row, tile_column = row // self.side, column // self.side
        of_target = of_target[tile_row * self.side // TILE, tile_column * self.side // TILE]
        # gaps of one tile follow each other, so that few are divided
        by_tile = np.lexsort((tile_column, tile_row, targets[:, 1]))
        for k in np.unique(of_target):
            y_north, y_east, x_north, x_east = kinds[k].tolist()
            same = by_tile[of_target[by_tile] == k]
            for start in range(0, len(same), most):
                yield ((y_north, y_east), (x_north, x_east)), same[start : start + most]


def _cells(image: xr.DataArray) -> NDArray[np.float64]:
    """Typical steps along y and along x in squares of `TILE` pixels, ``(row, column, 2, 2)``."""
    rows, columns = range(0, image.shape[0], TILE), range(0, image.shape[1], TILE)
    found = np.empty((len(rows), len(columns), 2, 2))
    for y, x in product(rows, columns):
        # one pixel around, for a square of one pixel has no steps of its own
        square = image[max(0, y - 1) : y + TILE + 1, max(0, x - 1) : x + TILE + 1]
        found[y // TILE, x // TILE] = cell_steps(positions(square))
    return found
