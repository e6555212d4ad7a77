# SPDX-License-Identifier: Apache-2.0
"""The one door: whatever a method returns, observations survive, land stays land, each value is
accounted for.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import ClassVar

import cftime
import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from light import light

from sstfill import io as sio
from sstfill.errors import InputError, OptionError
from sstfill.fields import gaps
from sstfill.fields.error_distribution import GAUSSIAN, ONE_SIGMA, ErrorDistribution
from sstfill.fill import fill
from sstfill.io.packing import as_given
from sstfill.methods import METHODS, Climatology, Interpolate

DIMS = ("time", "lat", "lon")
OBSERVED, FILLED, NOT_FILLED, WITHHELD, LAND = range(5)
PACKED = {
    "dtype": "int16",
    "scale_factor": 0.01,
    "add_offset": 20.0,
    "_FillValue": np.int16(-32768),
}
ATTRS = {"units": "degC", "standard_name": "sea_surface_temperature", "long_name": "SST"}


# --- fields and methods to try the door with


def field(
    shape: tuple[int, int, int] = (8, 5, 6),
    *,
    dtype: str = "f4",
    missing: float = 0.4,
    seed: int = 0,
    masks: str = "random",
) -> xr.DataArray:
    """A seeded field under a mask: random pixels, blobs of cloud, whole images or whole pixels."""
    rng = np.random.default_rng(seed)
    gap = {
        "random": rng.random(shape) < missing,
        "images": np.broadcast_to(rng.random((shape[0], 1, 1)) < missing, shape),
        "pixels": np.broadcast_to(rng.random(shape[1:]) < missing, shape),
        "clouds": np.abs(np.arange(shape[2]) - rng.integers(shape[2], size=(shape[0], 1, 1)))
        < 1 + missing * shape[2],
    }[masks]
    values = np.where(
        np.broadcast_to(gap, shape), np.nan, 15 + 2 * rng.standard_normal(shape)
    ).astype(dtype)
    if masks == "random":
        values[0, 0, 0] = -0.0
    coords = {
        "time": pd.date_range("2020-01-01", periods=shape[0]),
        "lat": ("lat", 36 - np.arange(shape[1]) / 10, {"units": "degrees_north"}),
        "lon": ("lon", 350 + np.arange(shape[2]) / 10, {"units": "degrees_east"}),
    }
    return xr.DataArray(values, coords, DIMS, name="sst", attrs=dict(ATTRS))


def two_variables(**changes: xr.DataArray) -> xr.Dataset:
    """Two fields of different size under different clouds."""
    a = field((12, 6, 7), masks="clouds", seed=1)
    b = (
        (1000 * field((12, 6, 7), masks="clouds", seed=2))
        .rename("chl")
        .assign_attrs(units="ug m-3")
    )
    return xr.Dataset({"sst": a, "chl": b} | changes, attrs={"title": "t", "history": "made"})


@dataclass(frozen=True, kw_only=True)
class Spy:
    """Returns one value everywhere, land and observed pixels included, in a type and order of its
    own.
    """

    name: ClassVar[str] = "spy"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 1

    mean: float = 99.0
    error: float | None = 2.0
    scribbles: bool = False
    shuffles: bool = True
    modes: int = 0

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        if self.scribbles:
            obs.values[...] = 0
        order = obs.dims[::-1] if self.shuffles else obs.dims
        like = xr.zeros_like(obs, dtype="f8").transpose(*order)
        found = xr.Dataset(
            {"mean": like + self.mean}, attrs={"nothing": np.nan, "sizes": obs.shape}
        )
        if self.error is not None:
            found["error"] = like + self.error
        if self.modes:
            number = xr.DataArray(np.arange(1, self.modes + 1), dims="mode", name="mode")
            patterns = (xr.zeros_like(sea, dtype="f8") + number).transpose(..., "mode")
            found = found.assign_coords(mode=number).assign(
                pattern=patterns.assign_attrs(long_name="EOF")
            )
            found["amplitude"] = (obs["time"].astype("f8") * 0 + number).drop_vars("time")
            found["fraction"] = 1.0 / number
            found["outlier"] = like.astype("i1").assign_attrs(flag_meanings="no yes")
        return found


def bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def check_invariants(
    before: xr.DataArray, after: xr.Dataset, sea: np.ndarray | None = None
) -> None:
    """All that `fill` promises of one variable; `sea` has the shape of `before` or of its last
    dims.
    """
    name = str(before.name)
    new, source = after[name], after[f"{name}_source"]
    assert (
        new.dims == source.dims == before.dims
        and new.dtype == before.dtype
        and source.dtype == np.int8
    )
    assert as_given(new.variable).encoding == before.encoding
    assert before.attrs.items() <= new.attrs.items()
    xr.testing.assert_identical(
        new.drop_attrs().coords.to_dataset(), before.drop_attrs().coords.to_dataset()
    )
    seen, flags = before.notnull().values, source.values
    np.testing.assert_array_equal(bits(new.values)[seen], bits(before.values)[seen])
    np.testing.assert_array_equal(flags == OBSERVED, seen)
    assert np.isfinite(new.values[flags == FILLED]).all()
    assert np.isnan(new.values[(flags == NOT_FILLED) | (flags == LAND)]).all()
    if sea is None:
        sea = seen.any(before.dims.index("time") if "time" in before.dims else 0, keepdims=True)
    np.testing.assert_array_equal(flags == LAND, ~seen & ~np.broadcast_to(sea, seen.shape))
    linked = new.attrs["ancillary_variables"].split()
    assert f"{name}_source" in linked and all(v in after for v in linked)
    assert source.attrs["flag_meanings"] == "observed filled not_filled withheld land"
    np.testing.assert_array_equal(source.attrs["flag_values"], np.arange(5, dtype=np.int8))
    if f"{name}_error" in after:
        error = after[f"{name}_error"]
        assert error.dims == before.dims and error.dtype == np.float32
        assert (error.values[flags == FILLED] >= 0).all() and np.isnan(
            error.values[flags != FILLED]
        ).all()


def strict(text: str) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


class Counting:
    """A scheduler that counts how often it is asked."""

    def __init__(self) -> None:
        self.computes = 0

    def __call__(self, dsk, keys, **_):
        self.computes += 1
        return dask.get(dsk, keys)


# --- the invariants


@given(
    shape=st.tuples(st.integers(2, 8), st.integers(1, 5), st.integers(1, 7)),
    masks=st.sampled_from(["random", "clouds", "images", "pixels"]),
    missing=st.sampled_from([0.1, 0.5, 0.9]),
    dtype=st.sampled_from(["f2", "f4", "f8", ">f4"]),
    order=st.permutations(range(3)),
    names=st.sampled_from([DIMS, ("t", "latitude", "longitude"), ("time", "y", "x")]),
    depth=st.booleans(),
    chunks=st.none() | st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    coast=st.booleans(),
    method=st.sampled_from(
        [
            Interpolate(),
            Interpolate(limit=1, space=False),
            Climatology(harmonics=0),
            Spy(),
            Spy(mean=np.nan, error=None),
            Spy(mean=np.inf),
            Spy(error=0.0),
        ]
    ),
    score=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_no_method_breaks_an_invariant(
    shape, masks, missing, dtype, order, names, depth, chunks, coast, method, score, seed
):
    rename = dict(zip(DIMS, names, strict=True))
    plain = field(shape, masks=masks, missing=missing, dtype=dtype, seed=seed)
    da = plain.rename(rename).transpose(*(names[i] for i in order))
    da = da.expand_dims(depth=[0.5], axis=1) if depth else da
    da.encoding = dict(PACKED)
    seen = plain.notnull().values
    wet = np.random.default_rng(seed).random(shape[1:]) < 0.7 if coast else seen.any(0)
    sea = (
        plain[0].drop_vars(DIMS).copy(data=wet).rename(lat=names[1], lon=names[2])
        if coast
        else None
    )
    lazy = da if chunks is None else da.chunk(dict(zip(names, chunks, strict=True)))
    if not (seen & wet).any() or (seen | ~wet).all():
        with pytest.raises(InputError, match=r"nothing observed|no gaps|land everywhere"):
            fill(lazy, method, sea=sea, score=score)
        return
    out = fill(lazy, method, sea=sea, score=score)
    assert all((v.chunks is not None) == (chunks is not None) for v in out.data_vars.values())
    laid = [1 if d == "depth" else n for d, n in zip(da.dims, da.shape, strict=True)]
    there = np.broadcast_to(wet, shape).transpose(order).reshape(laid)
    check_invariants(da, out.compute(), there)
    assert (f"{da.name}_error" in out) == (getattr(method, "error", 0) is not None)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_input_is_not_touched(name, dtype):
    """Float32, all sea, in memory order: where a method works in place, it must be on a copy."""
    ds = xr.Dataset(
        {"sst": field((9, 6, 7), masks="clouds", dtype=dtype)}, attrs={"history": "made"}
    )
    ds["sst"].encoding = dict(PACKED)
    before, encoding = ds.copy(deep=True), {n: dict(v.encoding) for n, v in ds.variables.items()}
    out = fill(ds, light(name))
    out["sst"].attrs["more"], out["sst"].values[...] = 1, 0
    xr.testing.assert_identical(ds, before)
    assert {n: v.encoding for n, v in ds.variables.items()} == encoding
    assert ds["sst"].values.flags.writeable


def test_a_method_cannot_write_to_the_input():
    da = field()
    before = da.copy(deep=True)
    with pytest.raises(ValueError, match="read-only"):
        fill(da, Spy(scribbles=True), score=False)
    xr.testing.assert_identical(da, before)


@pytest.mark.parametrize("mean", [np.nan, np.inf, -np.inf])
def test_an_estimate_that_is_no_number_is_not_filled(mean):
    da = field()
    out = fill(da, Spy(mean=mean))
    assert not (out["sst_source"] == FILLED).any() and out["sst_error"].isnull().all()
    xr.testing.assert_equal(out["sst"], da)
    said = strict(out["sst"].attrs["sstfill_score"])
    assert said["rmse"] is None and said["filled_fraction"] == 0


def test_packed_integers_survive_a_round_trip(tmp_path):
    ds = xr.Dataset({"sst": field(masks="clouds")})
    ds["sst"].encoding = dict(PACKED)
    sio.write(ds, tmp_path / "a.nc")
    with sio.open(tmp_path / "a.nc", chunks={}) as opened:
        sio.write(fill(opened, Interpolate()), tmp_path / "b.nc")
    with (
        xr.open_dataset(tmp_path / "a.nc", mask_and_scale=False) as a,
        xr.open_dataset(tmp_path / "b.nc", mask_and_scale=False) as b,
    ):
        seen = b["sst_source"].values == OBSERVED
        assert (
            b["sst"].dtype == np.int16
            and b["sst"].attrs["scale_factor"] == 0.01
            and 0 < seen.sum() < seen.size
        )
        np.testing.assert_array_equal(a["sst"].values[seen], b["sst"].values[seen])
        assert (b["sst"].values[b["sst_source"].values == FILLED] != -32768).all()
        assert b["sst_source"].dtype == np.int8 and b["sst_error"].dtype == np.float32


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_other_calendars(calendar):
    times = [cftime.datetime(2001, 2, d, calendar=calendar) for d in range(20, 28)]
    da = field().assign_coords(time=times)
    check_invariants(da, fill(da, Interpolate()))


def test_curvilinear_positions_come_back():
    j, i = np.mgrid[0:5, 0:6]
    da = field().drop_vars(["lat", "lon"]).rename(lat="nj", lon="ni").transpose("ni", "time", "nj")
    da = da.assign_coords(nav_lat=(("nj", "ni"), 40 + 0.1 * j), nav_lon=(("nj", "ni"), 5 + 0.1 * i))
    out = fill(da, Spy(modes=2))
    check_invariants(da, out, np.ones((6, 1, 5), bool))
    assert {"nav_lat", "nav_lon"} <= set(out["sst_source"].coords) and out["sst_pattern"].dims == (
        "mode",
        "ni",
        "nj",
    )


# --- what is said of the result


def test_error_says_what_it_is():
    out = fill(field().assign_attrs(ancillary_variables="quality sst_count"), Spy(), score=False)
    error = out["sst_error"]
    assert (
        error.attrs["standard_name"] == "sea_surface_temperature standard_error"
        and error.attrs["units"] == "degC"
    )
    assert "standard deviation" in error.attrs["long_name"]
    assert out["sst"].attrs["ancillary_variables"] == "quality sst_count sst_source sst_error"
    bare = fill(field().drop_attrs(), Spy(), score=False)["sst_error"].attrs
    assert set(bare) == {"long_name"}


def test_provenance():
    da = field((12, 6, 7), masks="clouds")
    out = fill(da, Interpolate(limit=3.0))
    said, score = (strict(out["sst"].attrs[f"sstfill_{k}"]) for k in ("method", "score"))
    assert said["name"] == "interpolate" and said["options"] == {"limit": 3.0, "space": True}
    assert len(said["diagnostics"]["semivariogram"]) > 1
    assert {"rmse", "bias", "mae", "n", "coverage", "sigma_scale", "fraction", "seed"} <= set(score)
    assert out["sst"].attrs["sstfill_fingerprint"] == gaps.survey(da).attrs["fingerprint"]
    assert out["sst"].attrs["sstfill_version"] in out.attrs["history"]
    assert strict(fill(field(), Spy())["sst"].attrs["sstfill_method"])["diagnostics"] == {
        "nothing": None,
        "sizes": [8, 5, 6],
    }


def test_history_accumulates():
    out = fill(fill(two_variables(), Spy(), variables="sst"), Interpolate(), variables="chl")
    chl, sst, made = out.attrs["history"].split("\n")
    assert "chl filled by interpolate" in chl and "sst filled by spy" in sst and made == "made"
    assert out.attrs["title"] == "t" and "sst_source" in out and "chl_source" in out


def test_error_is_scaled_by_the_score():
    out = fill(field((12, 6, 7), masks="clouds"), Spy(error=0.5))
    scale = strict(out["sst"].attrs["sstfill_score"])["sigma_scale"]
    error = out["sst_error"].values[out["sst_source"].values == FILLED]
    assert scale > 100  # the spy misses by some 84 degrees
    # The factor differs by distance to data, about the one that suits all.
    np.testing.assert_allclose(error, 0.5 * scale, rtol=0.2)
    assert (
        fill(field(), Spy(error=0.5), score=False)["sst_error"].dropna("time", how="all").max()
    ) == 0.5


@dataclass(frozen=True, kw_only=True)
class LevelSpy(Spy):
    """States one error for a whole fill: `times` as large where less than all was shown to it."""

    name: ClassVar[str] = "level_spy"

    shown: int = 0
    times: float = 1.0

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        found = super().reconstruct(obs, sea)
        if int(obs.count()) < self.shown:
            return found.assign(error=self.times * found["error"])
        return found


@pytest.mark.parametrize("chunks", [None, {"time": 4}])
def test_error_is_scaled_for_the_level_that_the_fill_states(chunks):
    """Of `dineof`, on short series, the trial states errors up to 1.8 times those of the fill."""
    da = field((12, 6, 7), masks="clouds")
    shown, filled = int(da.count()), {}
    for times in (1.0, 1.8):
        method = LevelSpy(error=0.5, shown=shown, times=times)
        filled[times] = fill(da if chunks is None else da.chunk(chunks), method)
    score = strict(filled[1.8]["sst"].attrs["sstfill_score"])
    assert score["level"] == pytest.approx(1.8, rel=1e-5)
    xr.testing.assert_allclose(filled[1.8]["sst_error"], filled[1.0]["sst_error"], rtol=0.01)


@pytest.mark.parametrize(("error", "warned"), [(0.5, True), (100.0, False)])
def test_an_error_that_is_scaled_by_much_is_warned_of(error, warned, caplog):
    with caplog.at_level(logging.WARNING):
        out = fill(field((12, 6, 7), masks="clouds"), Spy(error=error))
    factor = strict(out["sst"].attrs["sstfill_score"])["sigma_scale"]
    said = f"the stated error had to be scaled by {factor:.3g} to hold on withheld clouds"
    assert (said in caplog.text) == warned == (not 1 / 4 < factor < 4)


def test_tails_are_stated_with_the_error(monkeypatch):
    da, heavy = field((12, 6, 7), masks="clouds"), ErrorDistribution(4.0)
    monkeypatch.setattr("sstfill.validation.calibration.TRIED", (heavy,))
    out = fill(da, Spy(error=0.5))
    assert ErrorDistribution.of(out["sst_error"].attrs) == heavy
    assert ErrorDistribution.of(strict(out["sst"].attrs["sstfill_score"])) == heavy
    unscored = fill(da, Spy(error=0.5), score=False)
    assert ErrorDistribution.of(unscored["sst_error"].attrs).is_gaussian
    positive = abs(da).rename("chl")
    out = fill(positive, Climatology(), transform="log")
    # A 68 % interval is narrower than a standard deviation to either side.
    monkeypatch.setattr("sstfill.validation.calibration.TRIED", (GAUSSIAN,))
    gaussian = fill(positive, Climatology(), transform="log")
    scales = [strict(one["chl"].attrs["sstfill_score"])["sigma_scale"] for one in (out, gaussian)]
    spreads = [np.log10(one["chl_upper"] / one["chl_lower"]) / 2 for one in (out, gaussian)]
    ratio = float((spreads[0] / spreads[1]).median())
    assert ratio == pytest.approx(heavy.half_width(ONE_SIGMA) * scales[0] / scales[1], rel=0.02)


def test_a_series_of_which_nothing_can_be_hidden(caplog):
    da = field().fillna(15.0)
    da = da.where((da.lat == da.lat[2]) & (da.lon == da.lon[2]))
    sea = xr.ones_like(da[0], dtype=bool)
    with caplog.at_level(logging.WARNING):
        out = fill(da, Climatology(), sea=sea)
    assert "no withheld-cloud score" in caplog.text and "sstfill_score" not in out["sst"].attrs


def test_a_series_that_lacks_whole_images_only_is_scored():
    da = field().fillna(15.0)
    da[2:4] = np.nan
    out = fill(da, Interpolate())
    assert strict(out["sst"].attrs["sstfill_score"])["n"] > 0
    assert (out["sst_source"] == FILLED).sum() == 60


def test_the_same_fill_twice():
    a, b = (
        fill(field(masks="clouds"), Interpolate(), seed=3).drop_attrs(deep=False) for _ in range(2)
    )
    xr.testing.assert_identical(a, b)


# --- which variables


def test_each_gappy_variable_is_filled():
    whole = two_variables()["sst"].fillna(1.0).rename("wind")
    ds = two_variables(wind=whole)
    out = fill(ds, Interpolate())
    for name in ("sst", "chl"):
        check_invariants(ds[name], out)
    assert "wind_source" not in out and out["wind"].identical(ds["wind"])
    only = fill(ds, Interpolate(), variables="chl")
    assert "sst_source" not in only and only["chl"].identical(out["chl"])


def test_unnamed_arrays():
    da = field()
    check_invariants(da.rename("field"), fill(da.rename(None), Interpolate()))
    assert "mask" in fill(
        da.rename("mask"), Interpolate()
    )  # what is handed over alone is the field, whatever its name


def test_several_together():
    ds = two_variables(wind=two_variables()["sst"].fillna(1.0).rename("wind"))
    out = fill(ds, Climatology(), together=True)
    rmse = {}
    for name in ("sst", "chl"):
        check_invariants(ds[name], out, np.ones((6, 7), bool))
        rmse[name] = strict(out[name].attrs["sstfill_score"])["rmse"]
    assert rmse["chl"] > 100 * rmse["sst"]  # each in its own units
    assert "sstfill_score" not in out["wind"].attrs  # it has no gaps
    assert not (out["wind_source"] != OBSERVED).any() and out["wind"].equals(ds["wind"])
    lazy = fill(ds.chunk(time=5, lat=4), Climatology(), together=True)
    for name in ("sst", "chl"):
        score = strict(lazy[name].attrs["sstfill_score"])
        assert score["rmse"] == pytest.approx(rmse[name], rel=1e-4)
    np.testing.assert_allclose(lazy["chl_error"], out["chl_error"], rtol=1e-3)


def test_together_keeps_each_type():
    ds = two_variables(chl=two_variables()["chl"].astype("f8"))
    out = fill(ds, Spy(), together=True)
    sea = (ds["sst"].notnull() | ds["chl"].notnull()).any("time").values
    check_invariants(ds["sst"], out, sea)
    check_invariants(ds["chl"], out, sea)


@pytest.mark.parametrize(
    "other",
    [
        lambda d: d.rename(lat="lat2").assign_coords(lat2=d.lat.values + 1),
        lambda d: d.rename(lat="lat2", lon="lon2")[:, :4],
        lambda d: d.drop_vars(["lat", "lon"]).rename(lat="y", lon="x"),
        lambda d: d.rename(time="t").assign_coords(t=d.time.values + np.timedelta64(1, "D")),
    ],
)
def test_together_needs_one_grid(other):
    ds = xr.Dataset({"sst": field(), "chl": other(field(seed=1).rename("chl"))})
    with pytest.raises(InputError, match=r"need one grid; chl .* is not on that of sst"):
        fill(ds, Climatology(), together=True, variables=["sst", "chl"])


def test_a_method_for_one_variable_refuses_several():
    with pytest.raises(OptionError, match="one variable at a time; leave out together"):
        fill(two_variables(), Interpolate(), together=True)


# --- ancillary variables


def test_what_a_method_returns_besides():
    da = field().transpose("lon", "time", "lat").expand_dims(depth=1, axis=3)
    out = fill(da, Spy(modes=3))
    assert out["sst_pattern"].dims == ("mode", "lon", "lat") and out["sst_pattern"].attrs == {
        "long_name": "EOF"
    }
    assert out["sst_amplitude"].dims == ("mode", "time") and out["sst_fraction"].dims == ("mode",)
    assert out["sst_outlier"].dims == da.dims and out["sst_outlier"].dtype == np.int8
    assert out["mode"].values.tolist() == [1, 2, 3]
    assert {"sst_pattern", "sst_outlier"} <= set(out["sst"].attrs["ancillary_variables"].split())


@pytest.mark.parametrize("counts", [(2, 4), (4, 2), (3, 3)])
def test_variables_with_different_counts_of_modes(counts):
    out = two_variables()
    for name, modes in zip(("sst", "chl"), counts, strict=True):
        out = fill(out, Spy(modes=modes), variables=name)
    assert out["mode"].values.tolist() == list(range(1, max(counts) + 1))
    assert [int(out[f"{n}_fraction"].count()) for n in ("sst", "chl")] == list(counts)


def test_a_dimension_of_the_user_s_own_is_not_overwritten():
    ds = xr.Dataset({"sst": field(), "waves": ("mode", np.arange(2))}, {"mode": ["wind", "swell"]})
    with pytest.raises(
        InputError, match=r"dimension 'mode' of their own; rename it: ds.rename\(mode='my_mode'\)"
    ):
        fill(ds, Spy(modes=3))
    assert "waves" in fill(ds, Spy())


def test_an_ancillary_variable_of_the_user_s_own_is_replaced_with_a_warning(caplog):
    ds = xr.Dataset(
        {"sst": field(), "sst_error": xr.ones_like(field()), "sst_mine": xr.ones_like(field())}
    )
    with caplog.at_level(logging.WARNING):
        out = fill(ds, Spy(), score=False, variables="sst")
    assert "sst_error in the data is replaced" in caplog.text and "sst_mine" not in caplog.text
    assert float(out["sst_error"].max()) == 2 and "sst_mine" in out


def test_filling_anew_starts_from_what_was_observed(tmp_path):
    ds = xr.Dataset({"sst": field(masks="clouds"), "sst_mine": xr.ones_like(field())})
    ds["sst"].attrs["ancillary_variables"] = "sst_mine"
    ds["sst"].encoding = dict(PACKED)
    first = fill(ds, Spy(modes=2))
    again, direct = fill(first, Interpolate()), fill(ds, Interpolate())
    xr.testing.assert_identical(
        again.drop_vars("mode").drop_attrs(deep=False), direct.drop_attrs(deep=False)
    )
    assert again["sst"].encoding == PACKED and len(again.attrs["history"].split("\n")) == 2
    assert "sstfill_score" not in fill(first, Spy(error=None), score=False)["sst"].attrs
    assert "sst_error" not in fill(first, Spy(error=None), score=False)
    sio.write(direct, tmp_path / "a.nc")
    with sio.open(tmp_path / "a.nc", chunks={}) as opened:
        xr.testing.assert_equal(fill(opened, Interpolate())["sst_source"], direct["sst_source"])
        assert fill(opened, Interpolate(limit=0.5))["sst_source"].equals(
            fill(ds, Interpolate(limit=0.5))["sst_source"]
        )


# --- the sea


def sea_forms() -> dict[str, xr.DataArray]:
    da = field()
    wet = np.arange(30).reshape(5, 6) % 4 > 0
    sea = xr.DataArray(wet, {"lat": da.lat, "lon": da.lon}, ("lat", "lon"), name="sea")
    flags = {"flag_values": np.array([0, 1], "i1"), "flag_meanings": "land sea"}
    return {
        "bool": sea,
        "int": sea.astype("i1"),
        "fraction": sea.where(sea).astype("f4"),
        "transposed": sea.T,
        "no coordinates": sea.drop_vars(["lat", "lon"]),
        "upside down": sea.isel(lat=slice(None, None, -1), lon=slice(None, None, -1)),
        "other longitudes": sea.assign_coords(lon=sea.lon - 360),
        "with time": sea.expand_dims(time=da.time),
        "flags": sea.astype("i1").assign_attrs(flags),
        "lazy": sea.astype("f4").chunk(lat=2),
    }


@pytest.mark.parametrize("form", sea_forms())
def test_sea_in_any_form(form):
    out = fill(field(), Spy(), sea=sea_forms()[form], score=False)
    check_invariants(field(), out, sea_forms()["bool"].values)


@pytest.mark.parametrize("name", METHODS)
def test_what_was_observed_on_land_survives(name):
    """A mask in the Dataset says land where there are observations: they stay, and nothing is
    filled around them.
    """
    da = field((9, 6, 7), masks="clouds")
    mask = xr.ones_like(da[0], dtype="i1").drop_vars("time").drop_attrs()
    mask[:, :2] = 0
    out = fill(xr.Dataset({"sst": da, "mask": mask}), light(name))
    check_invariants(da, out, mask.values == 1)
    assert (out["sst_source"][:, :, :2] == OBSERVED).any() and (
        out["sst_source"][:, :, :2] == LAND
    ).any()


# --- withheld


def test_withheld_comes_back_estimated_and_hidden_from_the_method():
    da = field((10, 6, 7), masks="clouds")
    hide = gaps.transplant_clouds(da, xr.ones_like(da[0], dtype=bool), seed=1)
    out = fill(da, Interpolate(), withheld=hide)
    np.testing.assert_array_equal(out["sst_source"] == WITHHELD, hide)
    assert out["sst_error"].where(hide).count() == hide.sum()
    blind = fill(da.where(~hide), Interpolate(), sea=da.notnull().any("time"))
    np.testing.assert_array_equal(out["sst"], blind["sst"])
    for form in (
        hide.transpose("lon", "time", "lat"),
        hide.astype("f4").where(hide),
        hide.chunk(time=3),
        hide.drop_vars(DIMS),
        hide.expand_dims(depth=1),
        hide | da.isnull(),
    ):
        xr.testing.assert_identical(fill(da, Interpolate(), withheld=form)["sst"], out["sst"])
    lazy = fill(da.chunk(time=4), Interpolate(), withheld=hide)
    np.testing.assert_array_equal(lazy["sst_source"], out["sst_source"])


def test_withheld_in_a_series_without_gaps():
    da = field().fillna(15.0)
    out = fill(
        da,
        Climatology(harmonics=0),
        withheld=xr.zeros_like(da, dtype=bool).where(da.lon != da.lon[2], da > 15),
    )
    assert (out["sst_source"] == WITHHELD).sum() == (da > 15)[:, :, 2].sum() and out[
        "sst"
    ].notnull().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda h: h[:, :3],
            r"withheld of shape \(8, 3, 6\) does not fit the field of shape \(8, 5, 6\)",
        ),
        (
            lambda h: h.isel(lat=slice(None, None, -1)),
            "withheld lies on another lat than the field",
        ),
        (
            lambda h: h.assign_coords(time=h.time + np.timedelta64(1, "D")),
            "withheld lies on another time",
        ),
        (lambda h: h.values, "withheld is a ndarray; give an xarray DataArray"),
        (lambda h: xr.ones_like(h), "withheld hides all observations of sst"),
    ],
)
def test_withheld_that_does_not_fit(change, message):
    hide = field().notnull() & (field().lon == field().lon[1])
    with pytest.raises(InputError, match=message):
        fill(field(), Interpolate(), withheld=change(hide))


# --- laziness


@pytest.mark.parametrize(("score", "computes"), [(False, 1), (True, 5)])
def test_how_often_lazy_data_are_read(score, computes):
    """One pass surveys the gaps; the score takes one to see the clouds, one for distances in the
    mask that it made of them, one to gather what was hidden, and one to see what errors the fill
    states in some of the gaps.
    """
    counting = Counting()
    with dask.config.set(scheduler=counting):
        out = fill(field((12, 6, 7), masks="clouds").chunk(time=5), Spy(), score=score)
        assert counting.computes == computes
        sea = field()[0].notnull().chunk(lat=2)
        counting.computes = 0
        fill(field().chunk(time=5), Spy(), sea=sea, score=False)
        assert counting.computes == 2  # one more for a mask that is lazy itself
    assert all(v.chunks is not None for v in out.data_vars.values())


@pytest.mark.parametrize("with_mask", [False, True])
def test_one_image_needs_one_block(with_mask):
    """The result streams: each block of it is made of its own block of the input, which is loaded
    once.
    """
    loaded = []
    da = field((12, 6, 7), masks="clouds").chunk(time=3)
    watched = da.copy(
        data=da.data.map_blocks(
            lambda x: loaded.append(1) or x, dtype="f4", meta=np.empty((0, 0, 0), "f4")
        )
    )
    mask = (
        {"mask": xr.ones_like(da[0], dtype="i1").drop_vars("time").drop_attrs()}
        if with_mask
        else {}
    )
    out = fill(xr.Dataset({"sst": watched} | mask), Spy(), score=False)
    assert len(loaded) == 4
    loaded.clear()
    out.isel(time=0).compute()
    assert len(loaded) == 1
    loaded.clear()
    out.compute()
    assert len(loaded) == 4


@pytest.mark.parametrize("name", METHODS)
def test_lazy_and_eager_agree(name):
    da = field((12, 6, 7), masks="clouds", dtype="f8")
    eager, lazy = fill(da, light(name)), fill(da.chunk(time=5, lat=4), light(name))
    assert all(v.chunks is not None for v in lazy.data_vars.values())
    assert lazy["sst"].chunksizes["time"] == (5, 5, 2)
    lazy = lazy.compute()  # once, not for each variable
    for v in eager.data_vars:
        np.testing.assert_allclose(lazy[v], eager[v], rtol=2e-3, atol=1e-6)
    a, b = (strict(x["sst"].attrs["sstfill_score"]) for x in (eager, lazy))
    assert a["rmse"] == pytest.approx(b["rmse"], rel=1e-2) and a["n"] == b["n"]
    assert eager["sst"].attrs["sstfill_fingerprint"] == lazy["sst"].attrs["sstfill_fingerprint"]


# --- choosing


@pytest.mark.parametrize("case", ["each pixel walks at random", "one pattern comes and goes"])
def test_no_method_named_takes_the_best(case):
    rng = np.random.default_rng(0)
    walks, pattern = np.cumsum(rng.normal(0, 1, (60, 8, 9)), axis=0), rng.normal(0, 1, (8, 9))
    truth = (
        walks
        if "walks" in case
        else rng.normal(0, 1, (60, 1, 1)) * pattern + rng.normal(0, 0.05, walks.shape)
    )
    da = field((60, 8, 9), masks="clouds", missing=0.1)
    out = fill(da.copy(data=np.where(da.isnull(), np.nan, 15 + truth).astype("f4")))
    expected = {"interpolate", "oi"} if "walks" in case else {"dineof", "bayes_eof"}
    said = strict(out["sst"].attrs["sstfill_method"])
    assert said["name"] == "auto" and expected & set(said["diagnostics"]["chosen"])
    assert min(said["diagnostics"]["rmse"].items(), key=lambda item: item[1])[0] in expected
    assert (
        f"sst filled by auto ({' + '.join(said['diagnostics']['chosen'])})" in out.attrs["history"]
    )
    assert strict(out["sst"].attrs["sstfill_score"])["n"] > 50


# --- real files


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("dineof/alboran_s42_input.nc", "sst"),
        ("real/alboran_l3s_2022.nc", "sst"),
        ("real/SST_MED_SST_L3S_NRT_OBSERVATIONS_010_012_a_example.nc", "sea_surface_temperature"),
    ],
)
def test_real_files(shared_data, tmp_path, file, name):
    """Packed, on disk, with masks that call land what was observed: filled lazily, written, and
    read again.
    """
    source = shared_data / file
    with sio.open(source, variables=name, chunks={}) as ds:
        sea = None if ds[name].sizes["time"] > 1 else ds[name][0].notnull() | (ds[name][0].isnull())
        sio.write(fill(ds, Interpolate(), sea=sea), tmp_path / "a.nc", source=source)
        with sio.open(tmp_path / "a.nc") as out:
            seen, flags = ds[name].notnull().values, out[f"{name}_source"].values
            np.testing.assert_array_equal(out[name].values[seen], ds[name].values[seen])
            np.testing.assert_array_equal(flags == OBSERVED, seen)
            assert (flags == FILLED).any() and np.isnan(out[name].values[flags >= NOT_FILLED]).all()
            assert out[name].encoding["dtype"] == ds[name].encoding["dtype"]


def test_a_mask_of_the_data_that_is_the_wrong_way_round_is_not_believed():
    sst = field(masks="clouds")
    wrong = xr.zeros_like(sst[0], dtype="i1").drop_vars("time")
    wrong[0, 0] = 1
    with pytest.raises(
        InputError, match=r"% of the observations of 'sst' lie on land by the sea mask of the data"
    ):
        fill(xr.Dataset({"sst": sst, "mask": wrong}), "climatology", score=False)
    restricted = fill(
        sst, "climatology", score=False, sea=wrong
    )  # a mask that is given may leave most of it out
    assert (restricted["sst_source"] == FILLED).sum() == sst[:, 0, 0].isnull().sum()


def test_a_filled_array_alone_is_refused():
    filled = fill(field(), "interpolate", score=False)
    with pytest.raises(
        InputError, match="was filled by sstfill, but the source of its pixels is missing"
    ):
        fill(filled["sst"], "climatology", score=False)
