# SPDX-License-Identifier: Apache-2.0
"""The practice ocean: it moves like one, its clouds drift and hide what they should, and every
option is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cf_xarray  # noqa: F401  (the accessor .cf)
import numpy as np
import pytest
import scipy.ndimage
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from sstfill import synthetic
from sstfill.errors import OptionError
from sstfill.synthetic import spectrum
from sstfill.synthetic.sqg import Turbulence
from sstfill.synthetic.temperature import _flow

SMALL = settings(max_examples=15, deadline=None)
sizes = st.tuples(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33))


@pytest.fixture(scope="module", autouse=True)
def advanced_anew() -> Iterator[None]:
    """Compute each flow, where the other tests remember those that they have had."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Turbulence, "advance", Turbulence.advance.__wrapped__)
        yield


@pytest.fixture(scope="module")
def field() -> xr.DataArray:
    return synthetic.sst()


@pytest.fixture(scope="module")
def scene() -> xr.Dataset:
    return synthetic.ocean(seed=4)


def anomaly(field: xr.DataArray) -> np.ndarray:
    return (field - field.mean(("time", "lon"))).values


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


# temperature


def test_sst_is_a_cf_field_in_celsius(field: xr.DataArray) -> None:
    assert field.dims == ("time", "lat", "lon")
    assert field.shape == (24, 64, 64)
    assert field.dtype == "float32"
    assert field.attrs["standard_name"] == "sea_surface_temperature"
    assert set(field.cf.axes) == {"T", "X", "Y"}
    assert field.cf["latitude"].name == "lat"
    assert (np.diff(field.time) == np.timedelta64(6, "h")).all()
    assert float(field.lat.mean()) == pytest.approx(38)
    assert float(field.lon.mean()) == pytest.approx(-60)
    assert np.isfinite(field).all()


def test_cells_are_square_at_the_centre(field: xr.DataArray) -> None:
    north = float(field.lat.diff("lat")[0]) * 111.195
    east = float(field.lon.diff("lon")[0]) * 111.195 * np.cos(np.deg2rad(38))
    assert north == pytest.approx(5)
    assert east == pytest.approx(5)


def test_a_seed_is_an_ocean() -> None:
    one, same, other = (synthetic.ocean(shape=(3, 20, 24), seed=s) for s in (1, 1, 2))
    xr.testing.assert_identical(one, same)
    for name in ("truth", "sea"):
        assert not np.array_equal(one[name], other[name], equal_nan=True)
    assert not np.array_equal(one.sst.isnull(), other.sst.isnull())


def test_images_change_continuously(field: xr.DataArray) -> None:
    values = anomaly(field)
    lags = [correlation(values[lag:], values[: len(values) - lag]) for lag in (1, 4, 12, 20)]
    assert 0.98 < lags[0] < 0.9999
    assert lags == sorted(lags, reverse=True)
    assert lags[-1] < 0.85


def test_short_steps_and_long_ones_tell_the_same_story() -> None:
    fine = synthetic.sst(shape=(9, 32, 32), step="3h")
    coarse = synthetic.sst(shape=(3, 32, 32), step="12h")
    np.testing.assert_allclose(fine[::4], coarse, atol=0.02)


def test_spectrum_is_that_of_turbulence() -> None:
    n, wavelength = 160, 40.0
    flow = Turbulence(shape=(n, n), wavelength=wavelength, gradient=0.0, hand=1.0)
    theta = flow.start(np.random.default_rng(0), turnovers=20)
    ky, kx = spectrum.wavenumbers((n, n), 1.0)
    ring = np.rint(np.hypot(ky, kx) * n / (2 * np.pi)).astype(int)
    power = np.bincount(ring.ravel(), (np.abs(theta) ** 2 * spectrum.multiplicity((n, n))).ravel())
    first, last = (
        round(1.5 * n / wavelength),
        round(n / 3 * 0.6),
    )  # between the eddies and the damping
    k = np.arange(first, last)
    slope = np.polyfit(np.log(k), np.log(power[k]), 1)[0]
    assert -3 < slope < -1.2  # -5/3 in an endless inertial range; coherent eddies steepen it


def test_advection_alone_keeps_the_variance() -> None:
    flow = Turbulence(shape=(48, 64), wavelength=20.0, gradient=0.01, hand=-1.0)
    theta = flow.start(np.random.default_rng(0), turnovers=3)
    tendency = flow.temperature(flow._advection(theta)).astype("float64")
    temperature = flow.temperature(theta).astype("float64")
    assert abs((tendency * temperature).mean()) < 1e-4 * np.sqrt((tendency**2).mean())
    assert (temperature**2).mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("lat", "hand"), [(40.0, 1), (-40.0, -1)])
def test_warm_eddies_turn_as_their_hemisphere_has_them(lat: float, hand: int) -> None:
    flow = _flow((40, 48), grid_km=5.0, gradient=0.0, lat=lat)
    theta = flow.start(np.random.default_rng(0), turnovers=5)
    u, v = (np.fft.irfft2(f * theta, s=flow.shape) for f in flow.factors[:2])
    vorticity = (np.roll(v, -1, 1) - np.roll(v, 1, 1) - np.roll(u, -1, 0) + np.roll(u, 1, 0)) / 2
    assert correlation(vorticity, flow.temperature(theta)) * hand < -0.5
    assert float(np.sqrt((u**2 + v**2).mean())) == pytest.approx(1, abs=0.02)


def test_gradient_seasons_and_days_have_the_size_asked_for() -> None:
    north = (
        synthetic.sst(shape=(1, 64, 16), gradient=-3.0, variability=0.1).isel(time=0).mean("lon")
    )
    km = (north.lat - north.lat.mean()) * 111.195
    assert np.polyfit(km, north, 1)[0] * 100 == pytest.approx(-3, abs=0.1)
    year = {
        "shape": (13, 4, 4),
        "step": "30D",
        "speed": 0.01,
        "variability": 1e-3,
        "gradient": 0.0,
        "seasonal": 5.0,
    }
    north, south = (synthetic.sst(lat=lat, **year).mean(("lat", "lon")) for lat in (40, -40))
    assert float(north.max() - north.min()) == pytest.approx(10, abs=0.3)
    assert int(north.time[north.argmax("time")].dt.month) in (8, 9)
    np.testing.assert_allclose(north + south, 36, atol=0.05)
    day = synthetic.sst(
        shape=(24, 2, 2), step="1h", lon=0.0, variability=1e-3, diurnal=0.5, gradient=0.0
    )[:, 0, 0]
    assert int(day.time[day.argmax("time")].dt.hour) == 15
    assert float(day.max() - day.min()) == pytest.approx(1, abs=0.02)


def test_noise_is_added_to_the_same_ocean() -> None:
    clean, noisy = (synthetic.sst(shape=(4, 40, 40), noise=n) for n in (0.0, 0.3))
    assert float((noisy - clean).std()) == pytest.approx(0.3, rel=0.05)


def test_means_swing_by_as_much_as_is_asked_for_and_nothing_else_changes() -> None:
    # nearly still: currents, which cost most, have no part in it
    steady, unsteady = (synthetic.sst(shape=(400, 6, 6), speed=1e-6, swing=s) for s in (0.0, 0.3))
    added = (unsteady - steady).values
    assert np.ptp(added, axis=(1, 2)).max() < 1e-5
    assert np.diff(added[:, 0, 0]).std() == pytest.approx(0.3, rel=0.1)


def test_tides_and_inertial_currents_carry_the_eddies_to_and_fro() -> None:
    lat = 30.0  # where an inertial circle takes a sidereal day
    how = {"shape": (25, 60, 60), "step": "1h", "gradient": 0.0, "speed": 1e-6, "lat": lat}
    fields = synthetic.sst(wiggle=5.0, **how).values
    still = synthetic.sst(**how).values
    # after six hours the tide is near its turn again, the circle a quarter on: east
    north = 5.0 / 5.0 * (np.cos(2 * np.pi * 6 / 23.934) + np.sin(2 * np.pi * 6 / 12.4206))
    east = np.sin(2 * np.pi * 6 / 23.934)
    moved = scipy.ndimage.shift(still[6] - 18, (north, east), order=3, mode="nearest")
    inside = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(fields[6][inside] - 18, moved[inside], atol=0.02)
    assert np.abs(fields[6] - still[6])[inside].max() > 0.05
    with pytest.raises(OptionError, match="wiggle -1"):
        synthetic.sst(wiggle=-1)


def test_opposite_edges_are_unrelated() -> None:
    fields = [synthetic.sst(shape=(1, 48, 48), seed=s, gradient=0).values[0] for s in range(8)]
    fields += [f.T for f in fields]
    across = correlation([f[:, 0] for f in fields], [f[:, -1] for f in fields])
    beside = correlation([f[:, 0] for f in fields], [f[:, 1] for f in fields])
    assert beside > 0.9
    assert abs(across) < 0.4


@SMALL
@given(
    shape=sizes,
    grid_km=st.floats(1, 25),
    variability=st.floats(1e-6, 5),
    gradient=st.floats(-20, 20),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 9),
)
def test_any_sst_is_finite_and_of_the_size_asked_for(
    shape: tuple[int, int, int],
    grid_km: float,
    variability: float,
    gradient: float,
    dtype: str,
    seed: int,
) -> None:
    out = synthetic.sst(
        shape=shape,
        grid_km=grid_km,
        variability=variability,
        gradient=gradient,
        dtype=dtype,
        seed=seed,
    )
    assert out.shape == shape
    assert out.dtype == dtype
    assert np.isfinite(out).all()


# clouds


@SMALL
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(10, 40), st.integers(10, 40)),
    fraction=st.floats(0, 0.99),
    variation=st.floats(0, 2),
)
def test_clouds_hide_the_fraction_asked_for(
    shape: tuple[int, int, int], fraction: float, variation: float
) -> None:
    cloudy = synthetic.clouds(shape=shape, fraction=fraction, variation=variation)
    assert cloudy.shape == shape
    assert cloudy.dtype == bool
    assert abs(float(cloudy.mean()) - fraction) <= 0.01


def test_clouds_move_with_the_wind() -> None:
    def masks(wind: tuple[float, float]) -> np.ndarray:
        return synthetic.clouds(shape=(40, 64, 64), wind=wind, persistence="2D", variation=0).values

    for wind, (dy, dx) in (
        ((5 / 2.16, 0), (0, 10)),
        ((0, -5 / 2.16), (-10, 0)),
    ):  # 6 h carry them 50 km
        now, later = masks(wind)[:-1], masks(wind)[1:]
        moved = np.roll(now, (dy, dx), (1, 2))[:, 10:-10, 10:-10]
        stayed, later = now[:, 10:-10, 10:-10], later[:, 10:-10, 10:-10]
        assert correlation(moved, later) > correlation(stayed, later) + 0.15


def test_clouds_that_persist_are_alike_longer() -> None:
    def likeness(persistence: str) -> float:
        m = synthetic.clouds(
            shape=(40, 48, 48), wind=(0, 0), persistence=persistence, variation=0
        ).values
        return correlation(m[1:], m[:-1])

    assert likeness("3h") < 0.2 < 0.4 < likeness("2D")


def test_variation_makes_clear_days_and_overcast_ones() -> None:
    def spread(variation: float) -> float:
        cover = synthetic.clouds(shape=(200, 24, 24), step="1D", variation=variation).mean(
            ("lat", "lon")
        )
        return float(cover.std())

    assert spread(2.0) > 1.2 * spread(0.0)


def test_small_clouds_lie_within_large_ones() -> None:
    m = synthetic.clouds(shape=(10, 64, 64), variation=0).values
    assert correlation(m[:, :, 1:], m[:, :, :-1]) > 0.7


# land


@pytest.mark.parametrize("kind", ["coast", "island", "islands"])
@pytest.mark.parametrize("shape", [(40, 50), (1, 60), (33, 7)])
def test_land_has_the_fraction_asked_for(kind: str, shape: tuple[int, int]) -> None:
    sea = synthetic.land(shape=shape, fraction=0.3, kind=kind, seed=5)  # type: ignore[arg-type]
    assert sea.dims == ("lat", "lon")
    assert sea.dtype == bool
    assert int((~sea).sum()) == round(0.3 * shape[0] * shape[1])


def test_no_land_where_none_is_wanted() -> None:
    assert synthetic.land(fraction=0.4, kind="none").all()
    assert synthetic.land(fraction=0.0).all()
    assert synthetic.land(shape=(1, 1), fraction=0.9).all()


def test_a_coast_is_a_line_and_an_island_is_inside() -> None:
    border = np.ones((64, 64), dtype=bool)
    border[8:-8, 8:-8] = False
    for seed in range(5):
        coast = ~synthetic.land(fraction=0.25, seed=seed).values
        changes = (coast[1:] != coast[:-1]).sum() + (coast[:, 1:] != coast[:, :-1]).sum()
        assert 32 < changes < 400  # a straight coast has 64 or so, a random mask 3000
        assert coast[border].sum() > 0.3 * coast.sum()
        island = ~synthetic.land(fraction=0.08, kind="island", seed=seed).values
        assert island[border].sum() < 0.3 * island.sum()


# ocean


def test_ocean_is_truth_seen_between_clouds(scene: xr.Dataset) -> None:
    sea = scene.sea.astype(bool)
    seen = scene.sst.notnull()
    assert scene.sst.dtype == scene.truth.dtype == "float32"
    assert int((~sea).sum()) == round(0.1 * 64 * 64)
    assert not seen.where(~sea, other=False).any()
    np.testing.assert_array_equal(scene.truth.notnull(), sea.broadcast_like(scene.truth))
    assert float(seen.sum() / (sea.sum() * 24)) == pytest.approx(0.6, abs=0.01)
    assert float((scene.sst - scene.truth).std()) == pytest.approx(0.1, rel=0.03)


def test_ocean_survives_netcdf(scene: xr.Dataset, tmp_path: Path) -> None:
    scene.to_netcdf(tmp_path / "ocean.nc")
    with xr.open_dataset(tmp_path / "ocean.nc") as back:
        xr.testing.assert_equal(back.load(), scene)
        assert back.sea.dtype == "int8"
        assert back.sst.attrs["units"] == "degree_Celsius"
        np.testing.assert_array_equal(back.sea.attrs["flag_values"], [0, 1])


def test_truth_is_the_simulated_sst() -> None:
    options = {"shape": (2, 15, 17), "seed": 9}
    truth = synthetic.ocean(**options, land=0.0, noise=0.5).truth
    np.testing.assert_array_equal(truth, synthetic.sst(**options))


# EOF series


def test_eof_series_is_made_of_its_modes() -> None:
    series = synthetic.eof_series(pixels=1001, times=70, modes=6, truth=True, seed=1)
    sea = series.sea.values.astype(bool)
    assert sea.sum() == 1001
    assert sea.mean() == pytest.approx(0.87, abs=0.02)
    truth, obs = series.truth.values[:, sea], series.sst.values[:, sea]
    assert np.isnan(series.sst.values[:, ~sea]).all()
    singular = np.linalg.svd(truth - truth.mean(0), compute_uv=False)
    assert singular[6] < 1e-4 * singular[0]
    assert singular[5] > 1e-3 * singular[0]
    assert np.isnan(obs).mean() == pytest.approx(0.6, abs=0.002)
    assert np.isnan(obs).mean(1).std() > 0.1
    assert np.nanstd(obs - truth) == pytest.approx(0.2, rel=0.03)
    assert correlation(truth[1:] - truth.mean(0), truth[:-1] - truth.mean(0)) > 0.8
    xr.testing.assert_identical(
        series[["sst"]], synthetic.eof_series(pixels=1001, times=70, modes=6, seed=1)[["sst"]]
    )


def test_eof_series_resembles_the_benchmark_input(shared_data: Path) -> None:
    with xr.open_dataset(shared_data / "dineof" / "s_5k_100.nc") as reference:
        made = synthetic.eof_series(pixels=int(reference.mask.sum()), times=100)
        assert abs(float(made.sea.mean() - reference.mask.mean())) < 0.02
        sea = made.sea.astype(bool)
        cover = [
            f.isnull().where(s).mean(("lat", "lon"))
            for f, s in ((made.sst, sea), (reference.sst, reference.mask))
        ]
        assert float(cover[0].mean() - cover[1].mean()) == pytest.approx(0, abs=0.02)
        assert 0.5 < float(cover[0].std() / cover[1].std()) < 2
        assert 0.5 < float(made.sst.std() / reference.sst.std()) < 2


@SMALL
@given(
    pixels=st.integers(1, 300),
    times=st.integers(1, 40),
    fraction=st.floats(0, 0.95),
    land=st.floats(0, 0.8),
)
def test_any_eof_series_has_its_size(pixels: int, times: int, fraction: float, land: float) -> None:
    series = synthetic.eof_series(pixels=pixels, times=times, fraction=fraction, land=land, modes=3)
    assert int(series.sea.sum()) == pixels
    assert series.sst.sizes["time"] == times
    missing = 1 - int(series.sst.notnull().sum()) / (pixels * times)
    assert abs(missing - fraction) <= 0.5 / pixels + 1e-6


# refusals


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        ("sst", {"shape": (24, 64)}, "3 positive integers"),
        ("sst", {"shape": (0, 64, 64)}, "3 positive integers"),
        ("sst", {"shape": (2.5, 64, 64)}, "3 positive integers"),
        ("sst", {"shape": 24}, "3 positive integers"),
        ("sst", {"step": "soon"}, "step 'soon'"),
        ("sst", {"step": "-6h"}, "step '-6h'"),
        ("sst", {"step": "36500D"}, "2262"),
        ("sst", {"start": "yesteryear"}, "start 'yesteryear'"),
        ("sst", {"start": "NaT"}, "start 'NaT'"),
        ("sst", {"start": "3018-01-01"}, "start '3018-01-01'"),
        ("sst", {"seed": -1}, "seed -1"),
        ("sst", {"seed": 1.5}, "seed 1.5"),
        ("sst", {"dtype": "float3"}, "did you mean 'float32'"),
        ("sst", {"dtype": "int16"}, "no dtype 'int16'"),
        ("sst", {"grid_km": 0}, "above 0"),
        ("sst", {"grid_km": 500.0}, "nearer the equator"),
        ("sst", {"shape": (1, 2, 9000), "lat": 0}, "goes round the Earth"),
        ("sst", {"grid_km": "5"}, "grid_km '5'"),
        ("sst", {"variability": 0}, "above 0"),
        ("sst", {"speed": 25}, "at most 5"),
        ("sst", {"noise": -0.1}, "0 or more"),
        ("sst", {"mean": float("nan")}, "finite"),
        ("sst", {"lat": 89}, "nearer the equator"),
        ("clouds", {"fraction": 1.0}, r"outside \[0, 1\)"),
        ("clouds", {"fraction": -0.1}, "fraction -0.1"),
        ("clouds", {"fraction": None}, "fraction None"),
        ("clouds", {"wind": 3.0}, "pair"),
        ("clouds", {"wind": (3.0, np.inf)}, "finite"),
        ("clouds", {"persistence": "0h"}, "persistence '0h'"),
        ("clouds", {"scale_km": -3}, "scale_km -3"),
        ("clouds", {"variation": -1}, "variation -1"),
        ("clouds", {"sea": xr.DataArray(np.ones((3, 3), dtype=bool))}, "does not fit"),
        ("land", {"kind": "cost"}, "did you mean 'coast'"),
        ("land", {"fraction": 1.5}, "fraction 1.5"),
        ("land", {"shape": (3, 4, 5)}, "2 positive integers"),
        ("ocean", {"fraction": 1.2}, "fraction 1.2"),
        ("ocean", {"land": 1.0}, "land 1.0"),
        ("ocean", {"noise": -1}, "noise -1"),
        ("ocean", {"shape": (3, 4)}, "3 positive integers"),
        ("eof_series", {"pixels": 0}, "pixels 0"),
        ("eof_series", {"times": 2.5}, "times 2.5"),
        ("eof_series", {"modes": 0}, "modes 0"),
        ("eof_series", {"fraction": 1.0}, "fraction 1.0"),
        ("eof_series", {"land": 1.0}, "land 1.0"),
    ],
)
def test_a_refusal_tells_the_value_and_the_remedy(
    make: str, options: dict[str, object], says: str
) -> None:
    with pytest.raises(OptionError, match=says) as refusal:
        getattr(synthetic, make)(**options)
    assert "\n" not in str(refusal.value)
