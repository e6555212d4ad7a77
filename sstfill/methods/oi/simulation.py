# SPDX-License-Identifier: Apache-2.0
"""Conditional simulation: draws from the posterior of optimal interpolation.

A draw is ``mean + (s + e) - sum_j w_j (s_j + e_j)``: s is a random field of the fitted covariance,
e the noise of observations, w the weights by which the mean is found from the observations j. The
interpolation of the simulated field errs as the mean does (Journel 1974, Econ. Geol. 69; Chiles &
Delfiner 2012, Geostatistics, chapter 7). All draws are solved by the factor that gives the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.fields.patches import Box, Patch, PatchGrid, Shape
from sstfill.fields.reading.dates import absolute_days
from sstfill.methods.common.threads import cores, in_threads
from sstfill.methods.oi import simulation_kernels
from sstfill.methods.oi.covariance_fit import FittedCovariance
from sstfill.methods.oi.geometry import Domain, Positions
from sstfill.methods.oi.solver import DAY, Solver
from sstfill.methods.oi.waves import RandomField
from sstfill.progress import track

if TYPE_CHECKING:
    from sstfill.methods.oi.method import PatchSolver

PATCHES = (1, 2, 2)
"""Patches (time, y, x) of a block whose random fields are evaluated at once."""
NOISE_SEED = 713
"""Purpose of the seed of the noise."""


class Job(NamedTuple):
    """Targets that are interpolated at once.

    Attributes
    ----------
    solver
        Which interpolates them.
    box
        Part of the shown values that it is given.
    targets
        Channel, time, y, x in this part, ``(n, 4)``.
    """

    solver: Solver
    box: Box
    targets: NDArray[np.int32]


class Solved(NamedTuple):
    """Posterior at the targets of a job, standardised.

    Attributes
    ----------
    mean, variance
        ``(n,)``; of the field without noise.
    site
        Row of `Drawn.values`, ``(n,)``.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    site: NDArray[np.int32]


class Drawn(NamedTuple):
    """Posterior at the targets of several jobs, and what each draw adds to their means.

    Attributes
    ----------
    solved
        In the order of the jobs.
    values
        Noise included, ``(site, member)``.
    """

    solved: Solved
    values: NDArray[np.float32]

    def at_targets(self, member: int) -> NDArray[np.float64]:
        """Standardised field of a member at the targets."""
        return self.solved.mean + self.values[self.solved.site, member]


@dataclass(frozen=True)
class Simulator:
    """Draw at the gaps of a window of a grid.

    Attributes
    ----------
    fitted
        The covariance.
    flow
        Eastward and northward, m/s.
    domain
        Extent of the whole grid.
    members
        Number of draws.
    seed
        Equal seeds draw alike.
    """

    fitted: FittedCovariance
    flow: tuple[float, float]
    domain: Domain
    members: int
    seed: int

    def __call__(
        self,
        standard: NDArray[np.float32],
        jobs: Sequence[Job],
        at: Positions,
        days: NDArray[np.float64],
        shown: Box,
    ) -> Drawn:
        """Interpolate and draw at the targets of some jobs.

        Parameters
        ----------
        standard
            Standardised anomalies ``(channel, time, y, x)``, NaN in the gaps.
        jobs
            The targets.
        at
            Positions of these pixels.
        days
            Absolute times of these images.
        shown
            Which part of the whole grid these are.
        """
        needed = np.zeros(standard.shape, bool)

        def mark(job: Job) -> None:
            values = np.ascontiguousarray(standard[:, *job.box])
            tiles = job.solver.tiles(values, job.targets)
            simulation_kernels.mark(needed[:, *job.box], job.targets, tiles)

        in_threads(mark, jobs)
        # the fields are known wherever they are asked for; the rest of the window costs nothing
        row = np.full(standard.shape, -1, np.int32)
        row[needed] = np.arange(np.count_nonzero(needed))
        draws = np.empty((np.count_nonzero(needed), self.members), np.float32)
        covariance, cross = self.fitted.covariance, self.fitted.cross
        field = RandomField.draw(
            covariance, cross, at, self.domain, self.flow, self.members, self.seed
        )
        field.fill(draws, row, days, shown)
        simulation_kernels.add_noise(
            draws,
            row,
            np.rint(days * DAY).astype(np.int64),
            shown[1].start,
            shown[2].start,
            np.sqrt(covariance.noise),
            np.random.SeedSequence([self.seed, NOISE_SEED]).generate_state(1, np.uint64)[0],
        )

        def solve(job: Job) -> Solved:
            values = np.ascontiguousarray(standard[:, *job.box])
            rows = np.ascontiguousarray(row[:, *job.box])
            tiles = job.solver.tiles(values, job.targets)
            kernels = job.solver.space(), job.solver.kernel(), job.solver.tables(tiles)
            mean, variance = simulation_kernels.solve_and_draw(
                values, job.targets, tiles, *kernels, draws, rows
            )
            return Solved(mean, variance, rows[tuple(job.targets.T)])

        solved = in_threads(solve, jobs)
        # a GPU rounds otherwise, and mean and error are to be those without draws
        for i, job in enumerate(jobs):
            if job.solver.device != "cpu":
                values = np.ascontiguousarray(standard[:, *job.box])
                mean, variance = job.solver(values, job.targets)
                solved[i] = solved[i]._replace(mean=mean, variance=variance)
        nothing = Solved(np.zeros(0), np.zeros(0), np.zeros(0, np.int32))
        parts = zip(nothing, *solved, strict=True)
        return Drawn(Solved(*map(np.concatenate, parts)), draws)


@dataclass(frozen=True)
class BlockSimulator:
    """Interpolate and draw in one block of a field; pickled whole to the worker that does it.

    Attributes
    ----------
    patches
        Interpolates each patch of the block.
    grid
        Of the patches.
    shape
        Of the whole field (time, y, x).
    days
        Absolute times of all images.
    simulator
        Draws.
    """

    patches: PatchSolver
    grid: PatchGrid
    shape: Shape
    days: NDArray[np.float64]
    simulator: Simulator

    def __call__(
        self, obs: NDArray, sea: NDArray[np.bool_], block: Patch
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Mean, error and members of the pixels inside a block, ``([member,] [variable,] time, y,
        x)``, from what it sees.
        """
        values = obs.reshape(-1, *obs.shape[-3:])
        standard = self.patches.standardised(values, sea, block.seen)
        jobs = []
        for patch in self.grid.touching(self.shape, block.inside):
            box = Patch(patch.seen, block.seen).within
            targets = self.patches.targets(values[:, *box], sea[box[1:]], patch)
            if len(targets):
                jobs.append(Job(self.patches.solver(patch.seen), box, targets))
        times, rows, columns = block.seen
        at = self.patches.at.part(rows, columns)
        drawn = self.simulator(standard, jobs, at, self.days[times], block.seen)
        # back from the boxes of the jobs to the block
        moved = [np.zeros((0, 4), np.int32)]
        for job in jobs:
            first = [0, *(part.start for part in job.box)]
            moved.append(job.targets + np.array(first, np.int32))
        return self._put(obs, np.concatenate(moved), drawn, block)

    def _put(
        self, obs: NDArray, targets: NDArray[np.int32], drawn: Drawn, block: Patch
    ) -> tuple[NDArray, NDArray, NDArray]:
        values = obs.reshape(-1, *obs.shape[-3:])
        filled, error = self.patches.restored(
            values, targets, drawn.solved.mean, drawn.solved.variance, block
        )
        members = self.simulator.members
        shape = (*obs.shape[:-3], *block.shape)
        fields = np.empty((members, len(values), *block.shape), obs.dtype)
        fields[:] = filled
        level, scatter = self.patches.background(targets, block.seen)
        channel, *place = targets.T
        within = [p - part.start for p, part in zip(place, block.within, strict=True)]
        for member in range(members):
            fields[member, channel, *within] = level + scatter * drawn.at_targets(member)
        return (
            filled.reshape(shape),
            error.astype(np.float32).reshape(shape),
            fields.reshape(members, *shape),
        )


def simulate(
    patches: PatchSolver, obs: xr.DataArray, sea: xr.DataArray, members: int, core: Shape
) -> xr.Dataset:
    """Interpolate and draw in a whole field, block by block.

    Parameters
    ----------
    patches
        Interpolates a patch.
    obs, sea
        The field, perhaps lazy, and True at sea.
    members
        Number of draws.
    core
        Of the patches.

    Returns
    -------
    Dataset
        ``mean`` and ``error``, bit for bit those of the patches without draws, and ``members``.
    """
    time, rows, columns = obs.shape[-3:]
    shape, method = (time, rows, columns), patches.method
    domain = Domain.of(obs.isel({dim: 0 for dim in obs.dims[:-2]}))
    simulator = Simulator(patches.fitted, method.flow, domain, members, method.seed)
    grid = PatchGrid(core=core, halo=patches.halo)
    block = (PATCHES[0] * core[0], PATCHES[1] * core[1], PATCHES[2] * core[2])
    blocks = PatchGrid(core=block, halo=patches.halo)
    block_simulator = BlockSimulator(patches, grid, shape, absolute_days(obs), simulator)
    draw = _at_once if obs.chunks is None else _lazily
    arrays = draw(block_simulator, blocks, obs, sea)
    dims = (obs.dims, obs.dims, ("member", *obs.dims))
    names = ("mean", "error", "members")
    found = xr.Dataset(
        {name: (d, array) for name, d, array in zip(names, dims, arrays, strict=True)}, obs.coords
    )
    if obs.chunks is not None:
        return found.chunk(obs.chunksizes)
    return found


def _at_once(
    simulator: BlockSimulator, blocks: PatchGrid, obs: xr.DataArray, sea: xr.DataArray
) -> Sequence[NDArray]:
    mean, error = np.empty(obs.shape, obs.dtype), np.empty(obs.shape, np.float32)
    drawn = np.empty((simulator.simulator.members, *obs.shape), obs.dtype)
    at_sea = sea.values.astype(bool)
    every = list(blocks.patches(simulator.shape))
    for block in track(every, "blocks", len(every)):
        found = simulator(obs.values[..., *block.seen], at_sea[block.seen[1:]], block)
        for whole, part in zip((mean, error, drawn), found, strict=True):
            whole[..., *block.inside] = part
    return mean, error, drawn


def _lazily(
    simulator: BlockSimulator, blocks: PatchGrid, obs: xr.DataArray, sea: xr.DataArray
) -> Sequence[Any]:
    """One task for each block; a block is computed alone, from what it sees."""
    import dask
    import dask.array as da

    lead, members = obs.shape[:-3], simulator.simulator.members
    shapes = ((*lead,), (*lead,), (members, *lead))
    dtypes = (obs.dtype, np.dtype(np.float32), obs.dtype)
    # delayed, the simulator is in the graph once, not in every task
    call = dask.delayed(_in_one_thread, pure=False)
    given = dask.delayed(simulator, pure=False, traverse=False)
    at_sea = dask.delayed(sea.values.astype(bool), pure=False)
    spans = []
    for axis, n in enumerate(simulator.shape):
        spans.append([inside for inside, _ in blocks.spans_along(axis, n, 0, n)])
    pieces: list[dict] = [{}, {}, {}]
    for block in blocks.patches(simulator.shape):
        found = call(given, obs.data[..., *block.seen], at_sea, block)
        for number, (before, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
            piece = da.from_delayed(found[number], (*before, *block.shape), dtype)
            pieces[number][tuple(part.start for part in block.inside)] = piece
    arrays = []
    for of_output in pieces:
        times = []
        for t in spans[0]:
            rows = []
            for y in spans[1]:
                row = [of_output[t.start, y.start, x.start] for x in spans[2]]
                rows.append(da.concatenate(row, axis=-1))
            times.append(da.concatenate(rows, axis=-2))
        arrays.append(da.concatenate(times, axis=-3))
    return arrays


def _in_one_thread(
    simulator: BlockSimulator, obs: NDArray, sea: NDArray[np.bool_], block: Patch
) -> tuple[NDArray, NDArray, NDArray]:
    with cores(1):  # Dask has threads of its own
        return simulator(obs, sea[block.seen[1:]], block)
