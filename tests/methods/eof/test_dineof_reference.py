# SPDX-License-Identifier: Apache-2.0
"""DINEOF against the output that the Fortran reference program ships for its Alboran example."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr
from fortran_random import reference_points
from numpy.typing import NDArray

from sstfill.methods.common.matrix import ObservationMatrix
from sstfill.methods.eof.iteration import Exact, Iteration, Sweep, substitute, sweep
from sstfill.methods.eof.timefilter import diffusion_filter
from sstfill.methods.eof.truncation import DineofFit

SEED, ALPHA, NUMIT, TOLERANCE, MOST = 243435, 0.01, 3, 1e-3, 5  # dineof.init
POINTS = 2258
RECORD = 0x74  # where the values of a GHER file begin


class Alboran(NamedTuple):
    """The example's series, packed as the reference packs it, and what the reference made of it."""

    field: NDArray  # (times, pixels)
    observed: NDArray
    days: NDArray
    points: NDArray
    mean: float
    sea: NDArray  # (lon, lat)
    bench: Path

    def record(self, name: str) -> NDArray:
        raw = (self.bench / name).read_bytes()
        return np.frombuffer(raw, ">f8", count=POINTS, offset=RECORD).astype(float)

    @property
    def anomalies(self) -> NDArray:
        return np.where(self.observed, self.field - self.mean, 0.0)

    @property
    def matrix(self) -> ObservationMatrix:
        n, m = self.field.shape
        return ObservationMatrix(
            self.anomalies,
            self.observed.copy(),
            np.arange(m),
            np.arange(n),
            np.full(m, self.mean),
            np.ones(m),
        )


@pytest.fixture(scope="module")
def alboran(shared_data: Path) -> Alboran:
    with xr.open_dataset(shared_data / "dineof/alboran_sst.nc", decode_times=False) as ds:
        sea = ds["mask"].transpose("lon", "lat").values > 0
        field = np.ascontiguousarray(
            ds["sst"].transpose("time", "lon", "lat").values.astype(float)[:, sea]
        )
        days = ds["time"].values.astype(float)
    observed = np.isfinite(field)
    points = reference_points(observed, SEED)
    bench = shared_data / "bench/dineof_alboran2017"
    return Alboran(field, observed, days, points, field[observed].mean(), sea, bench)


@pytest.fixture(scope="module")
def swept(alboran: Alboran) -> tuple[Sweep, NDArray, NDArray, Exact, Iteration]:
    """The mode sweep of the reference, by this project's kernels: also X, what is missing, and the
    tools.
    """
    X, missing = alboran.anomalies, ~alboran.observed
    deviation = np.sqrt((X[alboran.observed] ** 2).mean())
    truth = X.ravel()[alboran.points]
    X.ravel()[alboran.points] = 0
    missing.ravel()[alboran.points] = True
    decompose = Exact(diffusion_filter(alboran.days, ALPHA, NUMIT))
    run = Iteration(deviation, TOLERANCE)
    return (
        sweep(X, missing, alboran.points, truth, MOST, decompose, run),
        X,
        missing,
        decompose,
        run,
    )


class TestReferenceProgram:
    def test_draws_the_same_points(self, alboran):
        assert len(alboran.points) == POINTS
        initial = alboran.anomalies.ravel()[alboran.points]
        np.testing.assert_allclose(initial, alboran.record("CVpoints_initial.dat"), atol=1e-12)

    def test_keeps_as_many_modes(self, swept):
        assert swept[0].best == 3

    def test_cross_validation_error_of_each_count(self, alboran, swept):
        with xr.open_dataset(alboran.bench / "DINEOF_diagnostics.nc") as ds:
            expected = ds["valc"].values[:MOST]
        np.testing.assert_allclose(swept[0].errors, expected, atol=1e-10)

    def test_estimates_at_the_points(self, alboran, swept):
        estimate = swept[1].ravel()[alboran.points]
        np.testing.assert_allclose(
            estimate, alboran.record("CVpoints_best_estimate.dat"), atol=1e-9
        )

    def test_modes_of_the_final_pass(self, alboran, swept):
        found, X, missing, decompose, run = swept
        X = X.copy()
        X.ravel()[alboran.points] = alboran.anomalies.ravel()[alboran.points]
        gap, last, change = ~alboran.observed, 0.0, np.inf
        while (
            change >= TOLERANCE
        ):  # measured in the gaps only, while `missing` still holds the points (its defect)
            modes = decompose(X, found.best)
            estimate = ((modes.V * modes.s) @ modes.U.T)[gap]
            change = np.sqrt(np.mean((estimate - last) ** 2)) / run.deviation
            last = estimate
            substitute(X, missing, modes)
        with xr.open_dataset(alboran.bench / "eof.nc") as ds:
            sigma, V, U = (
                ds["Sigma"].values,
                ds["V"].values,
                ds["Usst"].values.transpose(0, 2, 1)[:, alboran.sea],
            )
        np.testing.assert_allclose(modes.s, sigma, rtol=1e-8)
        np.testing.assert_allclose(np.abs(modes.V.T), np.abs(V), atol=1e-9)
        np.testing.assert_allclose(np.abs(modes.U.T), np.abs(U), atol=1e-6)


class TestThisProgram:
    """It puts the points back for the final pass, and keeps to the same modes."""

    @pytest.mark.parametrize("exact", [True, False])
    def test_same_count_and_error(self, alboran, exact):
        fit = DineofFit(exact=exact, alpha=ALPHA, max_modes=MOST)
        found = fit(alboran.matrix, alboran.points, alboran.days)
        assert len(found.modes.s) == 3
        assert found.cv_error == pytest.approx(0.4445164, rel=0.01)

    def test_observations_are_untouched(self, alboran):
        matrix = alboran.matrix
        DineofFit(exact=False, alpha=ALPHA, max_modes=MOST)(matrix, alboran.points, alboran.days)
        np.testing.assert_array_equal(
            matrix.values[alboran.observed], alboran.anomalies[alboran.observed]
        )
