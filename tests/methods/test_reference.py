# SPDX-License-Identifier: Apache-2.0
"""DINEOF against the output that the Fortran reference program ships for its Alboran example."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from sstfill.methods.dineof_fit import DineofFit
from sstfill.methods.em import Exact, Iteration, Sweep, substitute, sweep
from sstfill.methods.matrix import ObservationMatrix
from sstfill.methods.timefilter import diffusion_filter

SEED, ALPHA, NUMIT, TOLERANCE, MOST = 243435, 0.01, 3, 1e-3, 5  # dineof.init
POINTS = 2258
RECORD = 0x74  # where the values of a GHER file begin

# The reference draws its points with gfortran's random_number: xoshiro256** (Blackman & Vigna 2021, ACM Transactions on
# Mathematical Software 47, 36), upper 53 bits of each word, the seed xored with the keys that libgfortran documents.
WORD = (1 << 64) - 1
KEYS = (0xBD0C5B6E50C2DF49, 0xD46061CD46E1DF38, 0xBB4F4D4ED6103544, 0x114A583D0756AD39)


def random_numbers(seed: int) -> Iterator[float]:
    """gfortran's random_number after random_seed(put=seed) with all elements equal."""

    def turned(x: int, bits: int) -> int:
        return ((x << bits) | (x >> (64 - bits))) & WORD

    s = [((seed << 32) | seed) ^ key for key in KEYS]
    while True:
        word = turned(s[1] * 5 & WORD, 7) * 9 & WORD
        shifted = s[1] << 17 & WORD
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = turned(s[3], 45)
        yield (word >> 11) * 2.0**-53


def drawn_points(present: NDArray, count: int) -> NDArray:
    """Flat positions in (times, pixels) of observed entries, pixel and time drawn in turn until one is present."""
    left, found, numbers = present.copy(), [], random_numbers(SEED)
    while len(found) < count:
        pixel, time = (int(r * n) for r, n in zip(islice(numbers, 2), left.shape[::-1], strict=True))
        if left[time, pixel]:
            left[time, pixel] = False
            found.append(time * left.shape[1] + pixel)
    return np.array(found)


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
            self.anomalies, self.observed.copy(), np.arange(m), np.arange(n), np.full(m, self.mean), np.ones(m)
        )


@pytest.fixture(scope="module")
def alboran(shared_data: Path) -> Alboran:
    with xr.open_dataset(shared_data / "dineof/alboran_sst.nc", decode_times=False) as ds:
        sea = ds["mask"].transpose("lon", "lat").values > 0
        field = np.ascontiguousarray(ds["sst"].transpose("time", "lon", "lat").values.astype(float)[:, sea])
        days = ds["time"].values.astype(float)
    observed = np.isfinite(field)
    points = drawn_points(observed, int(min(0.01 * field.size + 40, 0.03 * field.size)))
    bench = shared_data / "bench/dineof_alboran2017"
    return Alboran(field, observed, days, points, field[observed].mean(), sea, bench)


@pytest.fixture(scope="module")
def swept(alboran: Alboran) -> tuple[Sweep, NDArray, NDArray, Exact, Iteration]:
    """The mode sweep of the reference, by this project's kernels: also X, what is missing, and the tools."""
    X, missing = alboran.anomalies, ~alboran.observed
    deviation = np.sqrt((X[alboran.observed] ** 2).mean())
    truth = X.ravel()[alboran.points]
    X.ravel()[alboran.points] = 0
    missing.ravel()[alboran.points] = True
    decompose = Exact(diffusion_filter(alboran.days, ALPHA, NUMIT))
    run = Iteration(deviation, TOLERANCE)
    return sweep(X, missing, alboran.points, truth, MOST, decompose, run), X, missing, decompose, run


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
        np.testing.assert_allclose(estimate, alboran.record("CVpoints_best_estimate.dat"), atol=1e-9)

    def test_modes_of_the_final_pass(self, alboran, swept):
        found, X, missing, decompose, run = swept
        X = X.copy()
        X.ravel()[alboran.points] = alboran.anomalies.ravel()[alboran.points]
        gap, last, change = ~alboran.observed, 0.0, np.inf
        while change >= TOLERANCE:  # measured in the gaps only, while `missing` still holds the points (its defect)
            modes = decompose(X, found.best)
            estimate = ((modes.V * modes.s) @ modes.U.T)[gap]
            change = np.sqrt(np.mean((estimate - last) ** 2)) / run.deviation
            last = estimate
            substitute(X, missing, modes)
        with xr.open_dataset(alboran.bench / "eof.nc") as ds:
            sigma, V, U = ds["Sigma"].values, ds["V"].values, ds["Usst"].values.transpose(0, 2, 1)[:, alboran.sea]
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
        np.testing.assert_array_equal(matrix.values[alboran.observed], alboran.anomalies[alboran.observed])
