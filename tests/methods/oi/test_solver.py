# SPDX-License-Identifier: Apache-2.0
"""The interpolator against a dense solve with every observation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import gaussian
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from sstfill.fields.reading.dates import usual_step
from sstfill.methods.oi.covariance import Component, Covariance
from sstfill.methods.oi.geometry import positions
from sstfill.methods.oi.method import Oi
from sstfill.methods.oi.solver import FINE_SIDE, SIDE, Solver, per_day, tile_side
from sstfill.synthetic import ocean, sst

CLOSE = 1e-9
"""Difference allowed, of anomalies of variance 1."""
DAYS = np.array([0.0, 0.4, 1.9, 2.0, 4.7])
TWO = (
    Component("matern", 0.7, (150.0, 260.0), 5.0),
    Component("exponential", 0.3, (80.0, 60.0), 2.0),
)


def grid(lat: np.ndarray, lon: np.ndarray) -> xr.DataArray:
    values = np.zeros((len(DAYS), len(lat), len(lon)))
    return xr.DataArray(values, {"lat": lat, "lon": lon}, ("time", "lat", "lon"))


def curvilinear(lat: np.ndarray, lon: np.ndarray) -> xr.DataArray:
    places = {"lat": (("y", "x"), lat), "lon": (("y", "x"), lon)}
    return xr.DataArray(np.zeros((len(DAYS), *lat.shape)), places, ("time", "y", "x"))


def solver(field: xr.DataArray, **changes) -> Solver:
    same = {
        "days": DAYS,
        "flow": (0.0, 0.0),
        "cross": np.eye(1),
        "neighbours": 400,
        "within": (5, 8, 8),
    }
    return Solver(at=positions(field), **(same | changes))


def scattered(shape: tuple[int, ...], seed: int, missing: float = 0.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < missing, np.nan, rng.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("flow", [(0.0, 0.0), (0.1, -0.05)], ids=["still", "flow"])
@pytest.mark.parametrize(
    "lat", [np.linspace(41, 44, 5), np.linspace(60, 57, 5)], ids=["ascending", "descending"]
)
@pytest.mark.parametrize("noise", [0.3, 0.01])
@pytest.mark.parametrize(
    "parts", [TWO, (Component("gauss", 1.0, (200.0, 250.0), 6.0),)], ids=["two parts", "gauss"]
)
def test_equals_the_dense_solution(parts, noise, lat, flow) -> None:
    lon = np.linspace(178, 182, 6)
    covariance, values = Covariance(components=parts, noise=noise), scattered((1, 5, 5, 6), 1)
    targets = np.argwhere(np.isnan(values)).astype(np.int32)[::4]
    mean, variance = solver(grid(lat, lon), covariance=covariance, flow=flow)(values, targets)
    at = gaussian.sphere(*np.meshgrid(lat, lon, indexing="ij"))
    exact = [
        gaussian.posterior(values, t, at, DAYS, covariance, np.eye(1), flow, SIDE) for t in targets
    ]
    np.testing.assert_allclose(mean, [m for m, _ in exact], rtol=0, atol=CLOSE)
    np.testing.assert_allclose(variance, [v for _, v in exact], rtol=0, atol=CLOSE)
    assert np.std(mean) > 0.1 and variance.min() < 0.5  # not the first guess everywhere


def test_two_channels_equal_the_dense_solution() -> None:
    lat, lon = np.linspace(41, 44, 5), np.linspace(5, 9, 6)
    cross = np.array([[1.0, -0.7], [-0.7, 1.0]])
    values = scattered((2, 5, 5, 6), 2, missing=0.2)
    values[0][np.isfinite(values[1])] = (
        np.nan
    )  # of two observations at one place only the channel's own is used
    covariance = Covariance(components=TWO, noise=0.1)
    targets = np.argwhere(np.isnan(values)).astype(np.int32)[::9]
    assert set(targets[:, 0]) == {0, 1}
    mean, variance = solver(grid(lat, lon), covariance=covariance, cross=cross)(values, targets)
    at = gaussian.sphere(*np.meshgrid(lat, lon, indexing="ij"))
    exact = [gaussian.posterior(values, t, at, DAYS, covariance, cross, side=SIDE) for t in targets]
    np.testing.assert_allclose(mean, [m for m, _ in exact], rtol=0, atol=CLOSE)
    np.testing.assert_allclose(variance, [v for _, v in exact], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("shape,noise", [("exponential", 1e-5), ("matern", 2e-4), ("gauss", 1e-3)])
@pytest.mark.parametrize(
    "lat,lon", [((-60, 60), (0, 100)), ((70, 88), (0, 315))], ids=["global", "polar"]
)
@pytest.mark.parametrize(
    "length_scale", [(3000.0, 3000.0), (9000.0, 4000.0), (8000.0, 20000.0)], ids=str
)
def test_large_and_smooth_fields_keep_their_digits(shape, noise, lat, lon, length_scale) -> None:
    lat, lon, rng = np.linspace(*lat, 8), np.linspace(*lon, 8), np.random.default_rng(0)
    covariance = Covariance(components=(Component(shape, 1.0, length_scale, 20.0),), noise=noise)
    at, days = gaussian.sphere(*np.meshgrid(lat, lon, indexing="ij")), np.arange(3.0)
    points = np.argwhere(np.ones((1, 3, 8, 8), bool))
    full = gaussian.matrix(points, points, points[28], at, days, covariance, np.eye(1))
    roots, vectors = np.linalg.eigh(full)
    assert roots[0] > -1e-9  # a covariance, whatever the distance
    truth = (vectors * np.sqrt(np.maximum(roots, 0))) @ rng.normal(size=len(full))
    values = (
        (truth + np.sqrt(noise) * rng.normal(size=len(full))).reshape(1, 3, 8, 8).astype(np.float32)
    )
    values[rng.random(values.shape) < 0.6] = np.nan
    targets = np.argwhere(np.isnan(values)).astype(np.int32)
    field = xr.DataArray(np.zeros((3, 8, 8)), {"lat": lat, "lon": lon}, ("time", "lat", "lon"))
    mean, variance = solver(field, covariance=covariance, days=days)(values, targets)
    z = (mean - truth.reshape(values.shape)[tuple(targets.T)]) / np.sqrt(variance + noise)
    assert np.sqrt(np.mean(z**2)) < 3 and np.abs(mean).max() < 6


def test_drift_does_not_hang_on_when_the_series_began() -> None:
    field, values = grid(np.linspace(55, 58, 5), np.linspace(0, 10, 6)), scattered((1, 5, 5, 6), 3)
    targets = np.argwhere(np.isnan(values)).astype(np.int32)
    early, late = (
        solver(
            field,
            covariance=Covariance(components=TWO, noise=0.1),
            flow=(0.5, 0.2),
            days=DAYS + start,
        )(values, targets)
        for start in (0.0, 3650.0)
    )
    np.testing.assert_allclose(early, late, atol=1e-6)


@given(
    seed=st.integers(0, 10**6),
    missing=st.sampled_from([0.3, 0.8, 0.97]),
    first=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    spread=st.booleans(),
)
def test_a_window_with_a_part_of_the_gaps_gives_the_same(seed, missing, first, spread) -> None:
    """Tiles are those of the whole grid, whatever the window and the gaps that are asked for."""
    values = scattered((1, 5, 30, 30), seed, missing)
    field = grid(np.linspace(41, 44, 30), np.linspace(5, 9, 30))
    covariance = Covariance(components=TWO, noise=0.1)
    how = {"covariance": covariance, "neighbours": 20, "within": (2, 6, 6), "spread": spread}
    how["cell"] = ((11.0, 0.0), (0.0, 11.0))
    whole = solver(field, **how)
    rows, columns = (slice(n, n + 22) for n in first)
    part = solver(field[:, rows, columns], first=first, **how)
    # what lies as far inside as the halo reaches
    inside = 6 + SIDE - 1
    targets = np.argwhere(np.isnan(values)).astype(np.int32)
    within = (targets[:, 2:] >= np.add(first, inside)).all(axis=1)
    within &= (targets[:, 2:] < np.add(first, 22 - inside)).all(axis=1)
    every = np.stack(whole(values, targets))[:, within]
    shifted = targets[within] - np.array([0, 0, *first], np.int32)
    shown = np.ascontiguousarray(values[:, :, rows, columns])
    # equal to rounding: how many targets a tile has decides which sums are vectors
    close = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(np.stack(part(shown, shifted)), every, **close)
    one = np.stack(part(shown, shifted[:1]))
    np.testing.assert_allclose(one, every[:, :1], **close)


def test_nothing_near_gives_the_first_guess() -> None:
    values = np.full((1, 5, 5, 6), np.nan, np.float32)
    values[0, 0, 0, 0] = 3.0
    covariance = Covariance(components=(Component("gauss", 1.5, (10.0, 10.0), 0.2),), noise=0.1)
    mean, variance = solver(
        grid(np.linspace(41, 44, 5), np.linspace(5, 9, 6)), covariance=covariance
    )(values, np.array([[0, 4, 4, 5]], np.int32))
    assert (mean[0], variance[0]) == (0.0, 1.5)


def test_few_neighbours_cost_little() -> None:
    values, covariance = scattered((1, 5, 9, 9), 4), Covariance(components=TWO, noise=0.1)
    field = grid(np.linspace(41, 44, 9), np.linspace(5, 9, 9))
    targets = np.argwhere(np.isnan(values)).astype(np.int32)
    few, many = (
        solver(field, covariance=covariance, neighbours=n)(values, targets) for n in (64, 400)
    )
    assert np.sqrt(np.mean((few[0] - many[0]) ** 2)) < 0.1 * np.std(many[0])
    assert (few[1] >= many[1] - 1e-9).all()  # fewer observations never make one surer


def test_stated_error_covers_fields_of_the_model() -> None:
    covariance = Covariance(
        components=(Component("exponential", 1.0, (25.0, 25.0), 2.0),), noise=0.1
    )
    shape, rng = (6, 14, 14), np.random.default_rng(5)
    noisy = gaussian.draw(shape, 10.0, covariance, 8, seed=6)
    noisy += np.sqrt(covariance.noise) * rng.normal(size=noisy.shape)
    flat = xr.DataArray(
        np.zeros(shape), {d: (d, 10.0 * np.arange(14), {"units": "km"}) for d in "yx"}, list("tyx")
    )
    z = []
    for i, truth in enumerate(noisy):
        values = np.where(gaussian.clouds(shape, 0.6, seed=i), np.nan, truth)[np.newaxis].astype(
            np.float32
        )
        targets = np.argwhere(np.isnan(values)).astype(np.int32)
        mean, variance = solver(flat, covariance=covariance, days=np.arange(6.0), neighbours=30)(
            values, targets
        )
        z.append(np.abs(mean - truth[tuple(targets.T[1:])]) / np.sqrt(variance + covariance.noise))
    for level in (0.5, 0.8, 0.9, 0.95):
        assert np.mean(np.concatenate(z) <= ndtri(0.5 + level / 2)) == pytest.approx(
            level, abs=0.03
        )


def test_units_of_flow_and_time() -> None:
    assert per_day((0.0, -1.0)) == (-86.4, 0.0)
    assert usual_step(np.array([0.0, 1.0, 2.0, 9.0])) == 1.0 and usual_step(np.zeros(1)) == 1.0


@pytest.mark.parametrize("flow", [(0.0, 0.0), (0.1, -0.05)], ids=["still", "flow"])
@pytest.mark.parametrize("parts", [TWO, TWO[1:]], ids=["two parts", "exponential"])
@pytest.mark.parametrize("plane", [False, True])
def test_covariances_by_lag_are_nearly_those_of_distance(parts, flow, plane) -> None:
    field = grid(41 + 0.1 * np.arange(14), 5 + 0.1 * np.arange(15))
    if plane:
        km = {d: (d, 10.0 * np.arange(n), {"units": "km"}) for d, n in (("y", 14), ("x", 15))}
        field = xr.DataArray(np.zeros((5, 14, 15)), km, ("time", "y", "x"))
    values, covariance = scattered((1, 5, 14, 15), 3), Covariance(components=parts, noise=0.05)
    targets = np.argwhere(np.isnan(values)).astype(np.int32)
    how = {"covariance": covariance, "flow": flow, "days": np.arange(5.0), "neighbours": 60}
    by_lag, by_distance = solver(field, **how), solver(field, uneven=0.0, **how)
    assert by_lag.tables(by_lag.tiles(values, targets)).of_tile.min() >= 0
    mean, variance = by_lag(values, targets)
    exact, spread = by_distance(values, targets)
    assert not np.array_equal(mean, exact)  # it is another way
    np.testing.assert_allclose(mean, exact, rtol=0, atol=0.02)
    np.testing.assert_allclose(np.sqrt(variance), np.sqrt(spread), rtol=0.01)


LAT, LON = 41 + 0.5 * np.arange(8), 5 + 0.5 * np.arange(9)


@pytest.mark.parametrize(
    "days,lat,parts",
    [
        (np.array([0.0, 1.0, 2.4, 3.0, 4.0]), LAT, TWO),
        (np.arange(5.0), LAT + 39, TWO),
        (np.array([0.0, 1.0, 2.0, 3.0, 16.0]), LAT, TWO),
        (np.arange(5.0), LAT[:, np.newaxis] + 0.1 * np.arange(9), TWO),
        (np.arange(5.0), LAT, (Component("gauss", 1.0, (200.0, 250.0), 6.0),)),
    ],
    ids=["between dates", "meridians converge", "far apart", "curvilinear", "smooth"],
)
def test_what_whole_steps_do_not_tell_is_measured(days, lat, parts) -> None:
    field = grid(lat, LON) if lat.ndim == 1 else curvilinear(lat, LON + 0 * lat)
    # each tile sees all images and all of the grid
    values = scattered((1, 5, 8, 9), 3)
    targets = np.argwhere(np.isnan(values)).astype(np.int32)
    how = {"covariance": Covariance(components=parts, noise=0.05), "days": days}
    how |= {"within": (5, 9, 9), "step": 1.0}
    exact = solver(field, uneven=0.0, **how)(values, targets)
    np.testing.assert_array_equal(solver(field, **how)(values, targets), exact)


def test_which_pixels_are_asked_for_does_not_choose_the_way() -> None:
    """The last pixels of the tile are farther from what is observed than a table reaches."""
    values = np.full((1, 5, 40, 12), np.nan, np.float32)
    values[:, :, :2] = scattered((1, 5, 2, 12), 5, missing=0.2)
    field = grid(41 + 0.05 * np.arange(40), 5 + 0.05 * np.arange(12))
    covariance = Covariance(components=TWO, noise=0.05)
    one = solver(field, covariance=covariance, days=np.arange(5.0), within=(5, 40, 12))
    targets = np.argwhere(np.isnan(values[:, :1])).astype(np.int32)
    targets = targets[(targets[:, 2] >= 28) & (targets[:, 2] < 36)]
    together = np.stack(one(values, targets))
    alone = [np.stack(one(values, targets[i : i + 1])) for i in range(0, len(targets), 5)]
    np.testing.assert_allclose(np.concatenate(alone, axis=1), together[:, ::5], rtol=1e-9)


def test_repeated_coordinates_are_measured(recwarn: pytest.WarningsRecorder) -> None:
    field = grid(LAT, LON.repeat(2)[:9])
    values = scattered((1, 5, 8, 9), 3)
    targets = np.argwhere(np.isnan(values)).astype(np.int32)
    covariance = Covariance(components=TWO, noise=0.05)
    mean, _ = solver(field, covariance=covariance, cell=((55.0, 0.0), (0.0, 40.0)))(values, targets)
    assert np.isfinite(mean).all() and not recwarn


@pytest.mark.parametrize("times", [6, 2], ids=["many images", "few, by quadrant"])
def test_batches_of_tensors_agree_with_the_compiled_kernel(times, all_sea, monkeypatch):
    """What a GPU would do, done by torch on the CPU."""
    pytest.importorskip("torch")
    from sstfill.methods.oi import solver_batched

    obs = ocean(shape=(6, 20, 20), seed=5).sst[:times]
    obs[:, 6:18, 2:15] = np.nan
    method = Oi(
        length_scale=30.0,
        time_scale=2.0,
        noise=0.05,
        background="mean",
        covariance="matern",
        neighbours=20,
    )
    sea = all_sea(obs)
    # by distance, as batches do it
    monkeypatch.setattr("sstfill.methods.oi.method.Solver", partial(Solver, uneven=0.0))
    compiled = method.reconstruct(obs, sea)
    monkeypatch.setattr(
        "sstfill.methods.oi.method.pick_device",
        lambda device: "torch-cpu" if device == "cuda" else device,
    )
    torch_cpu = solver_batched.solve
    monkeypatch.setattr(
        solver_batched, "solve", lambda *given, device: torch_cpu(*given, device="cpu")
    )
    on_a_gpu = replace(method, device="cuda").reconstruct(obs, sea)
    for name in ("mean", "error"):
        np.testing.assert_allclose(on_a_gpu[name], compiled[name], rtol=1e-5, atol=1e-5)


def batched(
    one: Solver, values: np.ndarray, targets: np.ndarray, device: str = "cpu", **given
) -> np.ndarray:
    """Mean and variance by batches of tensors."""
    from sstfill.methods.oi import solver_batched

    tiles = one.tiles(values, targets)
    arrays = values, targets, tiles, one.space(), one.kernel()
    return np.stack(solver_batched.solve(*arrays, device=device, **given))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("side", [1, FINE_SIDE, SIDE])
@pytest.mark.parametrize(
    "parts,noise,flow",
    [
        (TWO, 0.05, (0.1, -0.05)),
        ((Component("gauss", 1.0, (200.0, 250.0), 6.0),), 0.01, (0.0, 0.0)),
    ],
    ids=["two parts, a flow", "gauss"],
)
def test_batches_solve_the_same_equations(side, parts, noise, flow, device) -> None:
    torch = pytest.importorskip("torch")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    cross = np.array([[1.0, -0.7], [-0.7, 1.0]])
    values = scattered((2, 5, 8, 9), 4)
    targets = np.argwhere(np.isnan(values)).astype(np.int32)
    how = {"covariance": Covariance(components=parts, noise=noise), "flow": flow, "cross": cross}
    one = solver(grid(LAT, LON), side=side, uneven=0.0, neighbours=30, **how)
    found = batched(one, values, targets, device)
    np.testing.assert_allclose(found, np.stack(one(values, targets)), rtol=0, atol=CLOSE)
    # few tiles at a time where their systems are large
    alone = batched(one, values, targets, device, bytes_at_once=1)
    np.testing.assert_allclose(alone, found, rtol=0, atol=1e-12)


def test_a_system_that_cannot_be_factorised_leaves_the_others_of_its_batch_alone() -> None:
    pytest.importorskip("torch")
    # two columns at one place, and hardly any noise
    field = grid(LAT, np.array([5.0, 5.0, 5.5, 6.0, 90.0, 90.5, 91.0, 91.5, 92.0]))
    values = scattered((1, 5, 8, 9), 3, missing=0.3)
    values[:, :, :, :2] = 1.0
    covariance = Covariance(components=TWO, noise=1e-18)
    one = solver(field, covariance=covariance, within=(1, 3, 3), uneven=0.0, neighbours=60)
    one = replace(one, cell=((55.0, 0.0), (0.0, 40.0)))
    targets = np.argwhere(np.isnan(values)).astype(np.int32)
    whole = batched(one, values, targets)
    assert np.isfinite(whole).all()
    beyond = targets[:, 3] >= 8
    assert beyond.any()
    np.testing.assert_allclose(
        whole[:, beyond], batched(one, values, targets[beyond]), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    "missing,expected", [("scattered", FINE_SIDE), ("clouds", SIDE), ("none", SIDE)]
)
@pytest.mark.parametrize("variables", [1, 2])
def test_tiles_are_small_where_gaps_are_scattered(missing, expected, variables, all_sea) -> None:
    obs = ocean(shape=(20, 32, 32), seed=5).sst
    obs = obs.fillna(15.0)
    if missing == "scattered":
        obs = obs.where(np.random.default_rng(0).random(obs.shape) < 0.5)
    if missing == "clouds":
        obs[:, 4:20, 6:24] = np.nan
    sea = all_sea(obs)
    if variables == 2:
        obs = xr.concat([obs, obs], "variable")
    assert tile_side(obs, sea) == expected


def test_scattered_gaps_of_a_smooth_field_are_filled_well(all_sea) -> None:
    truth = sst(shape=(8, 32, 32), step="6h", seed=0)
    obs = truth.where(np.random.default_rng(0).random(truth.shape) < 0.5)
    method = Oi(length_scale=20.0, time_scale=4.0, noise=1e-3, covariance="matern")
    gap = np.isnan(obs.values)
    errors = []
    for side in (SIDE, tile_side(obs, all_sea(obs))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "sstfill.methods.oi.covariance_fit.tile_side", lambda obs, sea, side=side: side
            )
            filled = method.reconstruct(obs, all_sea(obs))["mean"]
        errors.append(np.sqrt(np.mean((filled - truth).values[gap] ** 2)))
    assert errors[1] < 0.9 * errors[0]
