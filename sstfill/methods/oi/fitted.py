# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation pinned to an archive: its covariance, and maps of its first guess, settled
once and for all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import config
from sstfill.fields import grid
from sstfill.fields.patches import Shape
from sstfill.methods.common.fitted_store import read_part, read_state, write_state
from sstfill.methods.common.fitted_windowed import narrowed
from sstfill.methods.common.threads import in_threads
from sstfill.methods.fitted import FITTINGS, STEPS, Archive, Fitting, Window
from sstfill.methods.interpolation.background import Background
from sstfill.methods.oi.covariance import Component, Covariance, reach
from sstfill.methods.oi.covariance_fit import FittedCovariance, fit, standardised
from sstfill.methods.oi.fitted_background import ABOUT, Images, fitted_background
from sstfill.methods.oi.geometry import Positions, Step, cell_steps, positions
from sstfill.methods.oi.method import FEW, Oi
from sstfill.methods.oi.method import KINDS as GUESSES
from sstfill.methods.oi.solver import Solver, per_day, rounded, usual_step
from sstfill.methods.oi.subsample import EXCERPT
from sstfill.nn.device import pick_device

TILE = 64
"""Side of the squares of the grid, in pixels, in each of which the places to look at are ranked for
themselves.
"""
TARGETS = 8192
"""Pixels that are interpolated at once in a thread."""


@dataclass(frozen=True)
class FittedOi:
    """Optimal interpolation whose covariance and first guess are settled.

    What is estimated for a pixel depends on the observations within `reach`, and of images of these
    times on the sample; not on which window it lies in.

    Attributes
    ----------
    folder
        Where it lies; the maps are read from there.
    method
        The options.
    fitted
        Covariance, and kind of the first guess.
    images
        How the means of the images are found.
    cell, step
        Size of a cell (y, x) in km and days between images, typical of the archive.
    cells
        Steps along y and along x, km northward and eastward, in squares of `TILE` pixels, ``(row,
        column, 2, 2)``.
    """

    folder: Path
    method: Oi
    fitted: FittedCovariance
    images: Images
    cell: tuple[float, float]
    step: float
    cells: NDArray[np.float64]

    @cached_property
    def within(self) -> Shape:
        """How far away (time, y, x) observations are looked for."""
        time, y, x = reach(self.fitted.covariance, self.cell, self.step, per_day(self.method.flow))
        return min(time, STEPS - self.images.steps), y, x

    @property
    def reach(self) -> Shape:
        """See `sstfill.methods.fitted.FittedMethod`."""
        time, y, x = self.within
        return time + self.images.steps, y, x

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.fitted.FittedMethod`; observed pixels come back as they are."""
        window = narrowed(window, self.reach)
        obs, at, sea = window.obs, positions(window.obs), window.sea.values.astype(bool)
        guess = self.first_guess(window)
        standard = standardised(obs, [guess], sea, at)
        inside, (times, *space) = window.inside, window.patch.within
        gap = np.isnan(inside.values) & (sea & at.known)[tuple(space)]
        origin = [side.start for side in window.patch.within]
        targets = np.insert(np.argwhere(gap) + origin, 0, 0, axis=1).astype(
            np.int32
        )  # of channel 0
        mean, variance = self._interpolated(standard, targets, window, at)
        scatter = np.broadcast_to(guess.scatter[tuple(space)], gap.shape)
        level = (guess.image[times, np.newaxis, np.newaxis] + guess.pixel[tuple(space)])[gap]
        noise = self.fitted.covariance.noise
        filled = inside.values.copy()
        filled[gap] = level + scatter[gap] * mean
        error = np.where(np.isfinite(filled), np.sqrt(noise) * scatter, np.nan).astype(np.float32)
        error[gap] = scatter[gap] * np.sqrt(variance + noise)
        found = {"mean": (inside.dims, filled), "error": (inside.dims, error)}
        return xr.Dataset(found, inside.coords, self._account)

    def first_guess(self, window: Window) -> Background:
        """What anomalies are taken about, and their scatter, in all that a window shows."""
        _, *space = window.patch.seen
        pixel, scatter = (read_part(self.folder, name, *space).astype(np.float64) for name in ABOUT)
        image = self.images.at(window.sample, grid.days(window.obs))
        return Background(pixel, image, scatter)

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.fitted.FittedMethod`."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)

    def _interpolated(
        self,
        standard: NDArray[np.float32],
        targets: NDArray[np.int32],
        window: Window,
        at: Positions,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posterior mean and variance at targets ``(n, 4)`` of a window, tiles with cells alike
        together.
        """
        mean, variance = np.empty(len(targets)), np.empty(len(targets))
        days, device = grid.days(window.obs), pick_device(self.method.device)

        def interpolate(job: tuple[tuple[Step, Step], NDArray[np.intp]]) -> None:
            cell, rows = job
            engine = Solver(
                at=at,
                days=days,
                covariance=self.fitted.covariance,
                flow=self.method.flow,
                cross=self.fitted.cross,
                neighbours=self.method.neighbours,
                within=self.within,
                device=device,
                cell=cell,
                step=self.step,
            )
            mean[rows], variance[rows] = engine(standard, targets[rows])

        jobs = self._jobs(targets, window)
        if device == "cpu":
            in_threads(interpolate, jobs)
        else:
            for job in jobs:
                interpolate(job)
        return mean, variance

    def _jobs(
        self, targets: NDArray[np.int32], window: Window
    ) -> Iterator[tuple[tuple[Step, Step], NDArray[np.intp]]]:
        """Rows of `targets` that share a ranking of places, a few thousand at a time, and the cell
        of that.
        """
        _, rows, columns = window.patch.seen
        tile = ((targets[:, 2] + rows.start) // TILE, (targets[:, 3] + columns.start) // TILE)
        shapes = np.array([rounded(tuple(y), tuple(x)) for y, x in self.cells.reshape(-1, 2, 2)])
        kinds, kind = np.unique(shapes.reshape(-1, 4), axis=0, return_inverse=True)
        of_target = kind.reshape(self.cells.shape[:2])[tile]
        for k in np.unique(of_target):
            y_north, y_east, x_north, x_east = kinds[k].tolist()
            same = np.flatnonzero(of_target == k)
            for start in range(0, len(same), TARGETS):
                yield ((y_north, y_east), (x_north, x_east)), same[start : start + TARGETS]

    @property
    def _account(self) -> dict[str, Any]:
        covariance = self.fitted.covariance
        return {
            "first_guess": self.fitted.kind,
            "components": covariance.described(),
            "noise": covariance.noise / covariance.variance,
            "log_score": self.fitted.log_score,
        }


def fit_archive(method: Oi, archive: Archive, folder: Path) -> FittedOi:
    """Fit covariance and first guess to an archive; maps of the latter in one pass over it."""
    bare = _bare(archive.obs)
    days = grid.days(archive.obs)
    kinds = GUESSES if archive.obs.sizes["time"] > FEW else ("mean",)
    kinds = kinds if method.first_guess == "auto" else (method.first_guess,)
    parts = {kind: Images.fit(archive, kind) for kind in kinds}
    times = _fullest(archive)
    known = {
        kind: time_part._replace(image=time_part.image[times])
        for kind, (_, time_part) in parts.items()
    }
    fitted = fit(
        archive.obs[times],
        archive.sea,
        method.covariance,
        kinds,
        method._fixed(),
        method.seed,
        known,
    )
    images, time_part = parts[fitted.kind]
    images = fitted_background(archive, fitted.kind, images, time_part, folder)
    write_state(
        folder,
        method.name,
        {
            "options": config.options(method),
            "fitted": _told(fitted),
            "images": images.told(),
            "cell": grid.cell_km(bare),
            "step": usual_step(days),
            "cells": _cells(bare).tolist(),
        },
    )
    return load(folder)


def load(folder: Path) -> FittedOi:
    """Read what `pin` or `FittedOi.save` wrote."""
    state = read_state(folder)
    dy, dx = state["cell"]
    return FittedOi(
        folder,
        config.build(Oi, state["options"]),
        _heard(state["fitted"]),
        Images.of(state["images"]),
        (dy, dx),
        state["step"],
        np.array(state["cells"]),
    )


def _bare(obs: xr.DataArray) -> xr.DataArray:
    """One image's coordinates, and no values."""
    coords = {name: c for name, c in obs.coords.items() if "time" not in c.dims}
    return xr.DataArray(np.broadcast_to(np.float32(0), obs.shape[1:]), coords, obs.dims[1:])


def _cells(bare: xr.DataArray) -> NDArray[np.float64]:
    """Typical steps along y and along x in squares of `TILE` pixels (and one around), ``(row,
    column, 2, 2)``.
    """
    starts = [range(0, n, TILE) for n in bare.shape]
    found = np.empty((len(starts[0]), len(starts[1]), 2, 2))
    for (i, y), (j, x) in ((a, b) for a in enumerate(starts[0]) for b in enumerate(starts[1])):
        square = bare[max(0, y - 1) : y + TILE + 1, max(0, x - 1) : x + TILE + 1]
        found[i, j] = cell_steps(positions(square))
    return found


def _fullest(archive: Archive) -> slice:
    """Consecutive images of which the sample shows most, as many as the covariance is fitted on."""
    most = min(EXCERPT[0], archive.obs.sizes["time"])
    total = np.cumsum([0, *np.isfinite(archive.sample).sum(1)])
    start = int(np.argmax(total[most:] - total[:-most]))
    return slice(start, start + most)


def _told(fitted: FittedCovariance) -> dict[str, Any]:
    """In plain values."""
    covariance = {
        "parts": [list(part) for part in fitted.covariance.parts],
        "noise": fitted.covariance.noise,
    }
    found = {
        "kind": fitted.kind,
        "covariance": covariance,
        "cross": fitted.cross,
        "log_score": fitted.log_score,
    }
    plain: dict[str, Any] = config.plain(found)
    return plain


def _heard(told: dict[str, Any]) -> FittedCovariance:
    parts = tuple(
        Component(s, v, (float(ly), float(lx)), t)
        for s, v, (ly, lx), t in told["covariance"]["parts"]
    )
    score = np.nan if told["log_score"] is None else told["log_score"]
    covariance = Covariance(parts=parts, noise=told["covariance"]["noise"])
    return FittedCovariance(
        kind=told["kind"], covariance=covariance, cross=np.array(told["cross"]), log_score=score
    )


FITTINGS[Oi.name] = Fitting(fit_archive, load)
