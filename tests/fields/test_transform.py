# SPDX-License-Identifier: Apache-2.0
"""Concentrations are filled as logarithms and fractions as logits: nothing leaves its bounds, and
what was observed stays as it is.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import small_archives as small
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from light import light

import sstfill
from sstfill import errors
from sstfill.archive import FillOutcome, fill_archive, verify
from sstfill.fields.transform import FieldTransforms, Transform, by_name, choose, count, is_skewed
from sstfill.fill import fill
from sstfill.methods import METHODS, Auto, Interpolate
from sstfill.modes import dineof_modes
from sstfill.synthetic import ocean

capped = settings(max_examples=30, deadline=None)
LOG = Transform("log", floor=1e-6)
PERCENT = Transform("logit", floor=0.5, upper=100.0)
CHL = {"units": "mg m-3", "standard_name": "mass_concentration_of_chlorophyll_a_in_sea_water"}
ICE = {"units": "%", "standard_name": "sea_ice_area_fraction"}


@cache
def waters() -> xr.Dataset:
    """Sea surface temperature, chlorophyll and sea ice of one small ocean under moving clouds."""
    seen = ocean(shape=(14, 12, 13), seed=5, land=0.15)
    anomaly = seen.sst.drop_attrs(deep=False) - float(seen.sst.mean())
    chl = (10**anomaly).astype(np.float32)
    ice = (100 / (1 + np.exp(-4 * anomaly))).astype(np.float32)
    return xr.Dataset(
        {
            "sst": seen.sst,
            "chl": chl.assign_attrs(CHL),
            "ice": ice.assign_attrs(ICE),
            "sea": seen.sea,
        }
    )


def chlorophyll(**changes: float) -> xr.Dataset:
    """Chlorophyll with its first observations changed, such as ``first=0.0``."""
    ds = waters()[["chl", "sea"]].copy(deep=True)
    flat = ds.chl.values.reshape(-1)
    observed = np.flatnonzero(np.isfinite(flat))
    for at, value in zip(observed, changes.values(), strict=False):
        flat[at] = value
    return ds


# --- the transforms


@given(st.floats(1e-5, 1e5), st.sampled_from(["f4", "f8"]))
@capped
def test_logarithms_there_and_back(value, dtype):
    values = np.array([value, np.nan], dtype)
    there = LOG.apply(values)
    back = LOG.invert(there)
    assert there.dtype == back.dtype == dtype
    np.testing.assert_allclose(back, values, rtol={"f4": 1e-5, "f8": 1e-12}[dtype])


@given(st.floats(0.5, 99.5), st.sampled_from(["f4", "f8"]))
@capped
def test_logits_there_and_back(value, dtype):
    values = np.array([value, np.nan], dtype)
    back = PERCENT.invert(PERCENT.apply(values))
    assert back.dtype == dtype
    np.testing.assert_allclose(back, values, rtol={"f4": 1e-5, "f8": 1e-12}[dtype])


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2), st.sampled_from([LOG, PERCENT]))
@capped
def test_any_observation_has_a_finite_transform_and_order_is_kept(values, transform):
    there = transform.apply(np.sort(np.array(values, np.float32)))
    assert np.isfinite(there).all() and (np.diff(there) >= 0).all()


@given(
    st.floats(-1e4, 1e4, width=32),
    st.floats(0, 1e4, width=32),
    st.sampled_from([LOG, PERCENT]),
    st.sampled_from(["f4", "f8"]),
)
@capped
def test_whatever_is_estimated_the_interval_respects_the_bounds(mean, sigma, transform, dtype):
    field = xr.DataArray(np.full((1, 1, 1), mean, dtype), dims=("time", "y", "x"))
    error = xr.full_like(field, sigma, dtype=np.float32)
    estimate = xr.Dataset({"mean": field, "error": error})
    found = FieldTransforms({"v": transform}).invert(estimate)
    lower, middle, upper, half = (
        float(found[part].squeeze()) for part in ("lower", "mean", "upper", "error")
    )
    assert 0 <= lower <= transform.highest and 0 <= upper <= transform.highest
    assert 0 <= middle <= transform.highest
    with np.errstate(over="ignore"):  # a median of double precision may lie beyond single
        rounded = np.float32(middle)
    assert lower <= rounded or np.isclose(lower, middle, rtol=1e-5)
    assert rounded <= upper or np.isinf(rounded)
    assert np.isfinite([lower, upper, half]).all() and half == pytest.approx((upper - lower) / 2)


def test_members_come_back_as_values():
    field = xr.DataArray(np.zeros((1, 1, 1), np.float32), dims=("time", "y", "x"))
    members = xr.concat([field - 1, field + 2], "member")
    found = FieldTransforms({"v": LOG}).invert(xr.Dataset({"mean": field, "members": members}))
    np.testing.assert_allclose(found["members"].values.ravel(), [0.1, 100.0], rtol=1e-6)


def test_what_is_no_transform():
    for arguments in ({"kind": "sqrt"}, {"kind": "log", "floor": 0.0}, {"kind": "logit"}):
        with pytest.raises(errors.OptionError):
            Transform(**arguments)
    with pytest.raises(errors.OptionError, match="transform='root'; choose from auto, log"):
        fill(chlorophyll(), Interpolate(), transform="root")


# --- the choice


@pytest.mark.parametrize(
    ("name", "attrs", "kind"),
    [
        ("chlor_a", {}, "log"),
        ("CHL", {"units": "milligram m-3"}, "log"),
        ("x", CHL, "log"),
        ("x", {"long_name": "Chlorophyll-a concentration"}, "log"),
        ("KD490", {"units": "m-1"}, "log"),
        ("SPM", {"units": "g m-3"}, "log"),
        ("bbp_443", {}, "log"),
        ("TSM_NN", {}, "log"),
        ("v", {"units": "mg/m^3"}, "log"),
        ("v", {"standard_name": "mole_concentration_of_nitrate_in_sea_water"}, "log"),
        ("npp", {"units": "mg C m-2 day-1"}, "log"),
        ("siconc", {}, "logit"),
        ("ice_conc", {"units": "%"}, "logit"),
        ("x", ICE, "logit"),
        ("clt", {"standard_name": "cloud_area_fraction"}, "logit"),
        ("rh", {"standard_name": "relative_humidity"}, "logit"),
        ("sst", {"units": "kelvin", "standard_name": "sea_surface_temperature"}, "none"),
        ("adt", {"units": "m"}, "none"),
        ("ndvi", {"units": "1"}, "none"),
        ("chl_anomaly", {"units": "mg m-3"}, "none"),
        ("log_chl", {"units": "lg(re 1 mg m-3)"}, "none"),
        ("chl", {"units": "log10(mg m-3)"}, "none"),
        ("o2", {"standard_name": "mole_concentration_of_dissolved_molecular_oxygen"}, "none"),
        ("chlorinity", {}, "none"),
        ("CHL", CHL | {"long_name": "chlorophyll, corrected for temperature"}, "log"),
        ("ice", ICE | {"long_name": "ice by brightness temperature"}, "logit"),
        ("x", {"long_name": "temperature of the chlorophyll maximum"}, "none"),
        ("x", CHL | {"long_name": "log10 of chlorophyll"}, "none"),
        ("sic_transit", {"long_name": "speed of a ship"}, "logit"),
        ("z", {}, "none"),
    ],
)
def test_names_and_units_tell(name, attrs, kind):
    found, why = by_name(xr.DataArray(0.0, name=name, attrs=attrs))
    assert found == kind
    assert why or kind == "none"


def test_the_choice_is_said(caplog):
    out = fill(waters(), Interpolate(), variables=["sst", "chl", "ice"], score=False)
    records = {v: json.loads(out[v].attrs["sstfill_method"]) for v in ("sst", "chl", "ice")}
    assert "transform" not in records["sst"]
    assert records["chl"]["transform"]["kind"] == "log"
    assert "standard_name" in records["chl"]["transform"]["why"]
    assert records["ice"]["transform"]["kind"] == "logit"
    assert records["ice"]["transform"]["upper"] == 100
    assert "chl filled by interpolate, as decimal logarithms" in out.attrs["history"]
    described = str(waters().gapfill.info(variables="chl"))
    assert "values   filled as decimal logarithms (standard_name" in described
    assert "  values " not in str(waters().gapfill.info(variables="sst"))


@pytest.mark.parametrize("name", ["interpolate", "dineof"])
def test_other_fields_are_filled_as_ever(name):
    usual = fill(waters(), light(name), variables="sst", transform="none")
    auto = fill(waters(), light(name), variables="sst")
    xr.testing.assert_identical(auto.drop_attrs(deep=False), usual.drop_attrs(deep=False))
    assert "rmse_log10" not in auto["sst"].attrs["sstfill_score"]
    assert {"sst_lower", "sst_upper"}.isdisjoint(auto)


def test_concentrations_can_be_filled_as_they_are():
    out = fill(chlorophyll(), Interpolate(), transform="none", score=False)
    assert "chl_lower" not in out
    assert "transform" not in json.loads(out["chl"].attrs["sstfill_method"])


# --- bounds and floors


BOUNDED = [(name, "chl", np.inf) for name in METHODS]
# The second transform with two methods: none sees which of them it fills under.
BOUNDED += [("dineof", "ice", 100.0), ("oi", "ice", 100.0)]


@pytest.mark.parametrize(("name", "variable", "highest"), BOUNDED)
def test_every_method_keeps_the_bounds(name, variable, highest):
    ds = waters()
    out = fill(ds, light(name), variables=variable, score=False)
    seen = ds[variable].notnull().values
    assert out[variable].values[seen].tobytes() == ds[variable].values[seen].tobytes()
    made = (out[f"{variable}_source"] == 1).values
    assert made.any()
    parts = {part: out[f"{variable}_{part}"].values for part in ("lower", "upper", "error")}
    values = out[variable].values
    assert (values[made] >= 0).all() and (values[made] <= highest).all()
    assert (parts["lower"][made] >= 0).all() and (parts["upper"][made] <= highest).all()
    assert (parts["lower"][made] <= values[made]).all()
    assert (values[made] <= parts["upper"][made]).all()
    half = (parts["upper"] - parts["lower"]) / 2
    np.testing.assert_allclose(parts["error"][made], half[made], rtol=1e-5)
    for part in parts.values():
        assert np.isnan(part[~made]).all()
    linked = out[variable].attrs["ancillary_variables"].split()
    assert {f"{variable}_{part}" for part in ("lower", "upper", "error", "source")} <= set(linked)
    assert out[f"{variable}_lower"].attrs["units"] == ds[variable].attrs["units"]


def test_zeros_are_raised_for_the_method_alone_and_counted(caplog):
    ds = chlorophyll(first=0.0, second=-0.001)
    least = float(ds.chl.where(ds.chl > 0).min())
    with caplog.at_level(logging.WARNING):
        out = fill(ds, Interpolate(), score=False)
    seen = ds.chl.notnull().values
    assert out.chl.values[seen].tobytes() == ds.chl.values[seen].tobytes()
    transform = json.loads(out.chl.attrs["sstfill_method"])["transform"]
    assert transform["floor"] == pytest.approx(least / 2)
    message = f"chl: 2 of {int(seen.sum())} observations are zero or negative"
    assert any(message in text for text in caplog.messages)
    assert (out.chl.values[(out.chl_source == 1).values] > 0).all()


def test_the_floor_of_a_packed_field_is_half_a_step():
    ds = chlorophyll(first=0.0)
    ds.chl.encoding = {"dtype": "int16", "scale_factor": 0.0002, "_FillValue": -1}
    assert choose("auto", ds.chl, ds.chl).floor == pytest.approx(0.0001)
    ice = waters().ice.copy()
    ice.encoding = {"dtype": "int8", "scale_factor": 1.0, "_FillValue": -1}
    assert choose("auto", ice, ice).floor == pytest.approx(0.5)


def test_fractions_at_their_bounds_are_counted(caplog):
    ds = waters()[["ice", "sea"]].copy(deep=True)
    ds["ice"] = ds.ice.round(-1).assign_attrs(ICE)
    whole = int((ds.ice == 100).sum() + (ds.ice == 0).sum())
    with caplog.at_level(logging.WARNING):
        out = fill(ds, Interpolate(), variables="ice", score=False)
    assert any(f"ice: {whole} of " in m and "bounds 0 and 100" in m for m in caplog.messages)
    assert float(out.ice.max()) <= 100 and float(out.ice.min()) >= 0


def test_fractions_without_units_are_of_one_or_of_a_hundred():
    ice = waters().ice.assign_attrs(units="")
    assert choose("auto", ice, ice).upper == 100
    assert choose("auto", ice / 100, (ice / 100)).upper == 1


def test_a_transform_that_does_not_fit_is_refused_with_numbers():
    ds = waters()[["sst", "sea"]].copy(deep=True)
    ds["sst"] = ds.sst - ds.sst.mean()
    below, total = int((ds.sst < 0).sum()), int(ds.sst.count())
    with pytest.raises(errors.OptionError, match=f"{below} of {total} observations.* are negative"):
        fill(ds, Interpolate(), variables="sst", transform="log")
    with pytest.raises(errors.OptionError, match="lie outside 0 to"):
        fill(ds, Interpolate(), variables="sst", transform="logit")


def test_a_field_of_zeros_has_no_logarithm():
    ds = chlorophyll()
    ds["chl"] = (0 * ds.chl).assign_attrs(CHL)
    with pytest.raises(errors.OptionError, match=r"none of \d+ observations is positive"):
        fill(ds, Interpolate(), transform="log")
    assert float(fill(ds, Interpolate(), score=False).chl.max()) == 0


def test_names_do_not_decide_against_the_values(caplog):
    ds = chlorophyll()
    ds["chl"] = (ds.chl - ds.chl.mean()).assign_attrs(CHL)
    with caplog.at_level(logging.WARNING):
        out = fill(ds, Interpolate(), score=False)
    assert "transform" not in json.loads(out.chl.attrs["sstfill_method"])
    assert any("filled as it is, not as decimal logarithms" in m for m in caplog.messages)


def test_counts_are_the_same_of_blocks():
    ds = chlorophyll(a=0.0, b=-1.0, c=1e6)
    counts = count(ds.chl, 10.0)
    assert counts == count(ds.chl.chunk(time=3, lat=5), 10.0)
    assert (counts.negative, counts.zero) == (1, 1) and counts.most == 1e6
    assert counts.beyond == int((ds.chl > 10).sum())


# --- fill


def test_lazy_is_the_same_and_stays_lazy():
    eager = fill(chlorophyll(), Interpolate(), score=False)
    lazy = fill(chlorophyll().chunk(time=5, lat=7), Interpolate(), score=False)
    for name in ("chl", "chl_error", "chl_lower", "chl_upper", "chl_source"):
        assert lazy[name].chunks
        np.testing.assert_allclose(lazy[name], eager[name], rtol=1e-5)


def test_scores_are_in_both_spaces():
    out = fill(chlorophyll(), Interpolate())
    score = json.loads(out.chl.attrs["sstfill_score"])
    assert score["transform"] == "log"
    assert 0 < score["rmse_log10"] < score["std_log10"]
    assert score["rmse"] > 0 and "coverage" in score and "coverage_log10" not in score
    card = sstfill.score(chlorophyll(), ["interpolate", "climatology"], variable="chl").data
    assert card.attrs["transform"] == "log"
    assert (card.rmse_log10 > 0).all() and (card.rmse > 0).all()
    assert float(card.sel(level=0.68).coverage[0]) == pytest.approx(0.68, abs=0.2)
    assert "RMSE log10" in str(sstfill.Scorecard(card))
    plain = sstfill.score(waters()[["sst", "sea"]], "interpolate", variable="sst").data
    assert "rmse_log10" not in plain and "transform" not in plain.attrs


def test_withheld_values_have_no_say_in_the_floor():
    ds = chlorophyll(first=1e-12)
    hidden = (ds.chl == np.float32(1e-12)) & ds.chl.notnull()
    assert int(hidden.sum()) == 1
    out = fill(ds, Interpolate(), withheld=hidden, score=False)
    assert json.loads(out.chl.attrs["sstfill_method"])["transform"]["floor"] > 1e-6


def test_variables_together_have_a_transform_each():
    ds = waters()[["sst", "chl", "sea"]]
    out = fill(ds, light("dineof"), variables=["sst", "chl"], together=True)
    assert {"chl_lower", "chl_upper"} <= set(out) and "sst_lower" not in out
    made = (out.chl_source == 1).values
    assert (out.chl_lower.values[made] >= 0).all()
    assert "rmse_log10" in out.chl.attrs["sstfill_score"]
    assert "rmse_log10" not in out.sst.attrs["sstfill_score"]
    error = out.sst_error.values[(out.sst_source == 1).values]
    assert np.isfinite(error).all() and error.max() < 5


def test_a_filled_series_is_filled_again_from_its_observations():
    once = fill(chlorophyll(), Interpolate(), score=False)
    twice = fill(once, Interpolate(), score=False)
    xr.testing.assert_identical(twice.drop_attrs(), once.drop_attrs())


def test_auto_takes_the_logarithm_of_a_skewed_field_where_that_does_better(caplog):
    ds = chlorophyll().rename(chl="x")
    ds["x"] = ds.x.drop_attrs(deep=False)
    ds["x"] = (ds.x**2).astype(np.float32)
    spread = ds.x.max("time").values, ds.x.min("time").values
    assert is_skewed(spread[1], spread[0])
    methods = Auto(methods=("interpolate", "climatology"))
    out = fill(ds, methods)
    record = json.loads(out.x.attrs["sstfill_method"])
    assert record["transform"]["why"] == "better on withheld clouds"
    with caplog.at_level(logging.WARNING):
        plain = fill(ds, Interpolate(), score=False)
    assert "transform" not in json.loads(plain.x.attrs["sstfill_method"])
    assert any("transform='log' may fill them better" in m for m in caplog.messages)


def test_modes_are_those_of_the_values_unless_asked():
    ds = chlorophyll()
    found = dineof_modes(ds, sstfill.Dineof(modes=2))
    assert found.chl_singular_value.attrs["units"] == "mg m-3"
    of_logarithms = dineof_modes(ds, sstfill.Dineof(modes=2), transform="auto")
    assert "units" not in of_logarithms.chl_singular_value.attrs
    assert "as decimal logarithms" in of_logarithms.chl_spatial_mode.attrs["comment"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A method that was trained on logarithms."""

    name: ClassVar[str] = "trained"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1
    trained_transform: ClassVar[str] = "log"

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        return xr.Dataset({"mean": xr.zeros_like(obs)})


def test_a_network_fills_in_the_space_of_its_training():
    ds = chlorophyll().rename(chl="x").map(lambda da: da.drop_attrs(deep=False))
    out = fill(ds, Trained(), variables="x", sea=waters().sea, score=False)
    assert (out.x.values[(out.x_source == 1).values] == 1).all()
    with pytest.raises(errors.OptionError, match="trained with transform='log'; leave it out"):
        fill(ds, Trained(), variables="x", transform="none")


# --- archives


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small.small_units(monkeypatch)
    return small.put(concentrations(), tmp_path / "in.zarr")


@pytest.fixture(scope="module")
def first_fill(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FillOutcome]:
    """A folder with an archive, filled, and what the fill told."""
    home = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patched:
        small.small_units(patched)
        archive = small.put(concentrations(), home / "in.zarr")
        return home, fill_archive(archive, home / "out.zarr", small.METHOD)


@pytest.fixture
def begun(
    first_fill: tuple[Path, FillOutcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """A copy of that archive and of its filled store, to go on with."""
    small.small_units(monkeypatch)
    return small.moved(first_fill[0], tmp_path)


def concentrations(days: int = small.T) -> xr.Dataset:
    ds = small.ocean(days)
    chl = (10 ** ((ds.sst - 18) / 2)).astype(np.float32).drop_attrs(deep=False)
    chl.values.reshape(-1)[np.flatnonzero(np.isfinite(chl.values))[0]] = 0
    return chl.assign_attrs(CHL).to_dataset(name="chl")


def test_an_archive_is_filled_as_in_memory(first_fill):
    home, done = first_fill
    archive, out = home / "in.zarr", home / "out.zarr"
    assert "rmse_log10" in done.score["chl"]
    assert not verify(out, archive).wrong
    stored, memory = small.loaded(out), fill(concentrations(), small.METHOD, score=False)
    record = json.loads(stored.chl.attrs["sstfill_method"])
    assert record["transform"] == json.loads(memory.chl.attrs["sstfill_method"])["transform"]
    made = (stored.chl_source == 1).values
    for part in ("chl_lower", "chl_upper", "chl_error"):
        assert (np.isfinite(stored[part].values) == made).all()
        assert stored[part].attrs == memory[part].attrs
    assert (stored.chl_lower.values[made] >= 0).all()
    linked = stored.chl.attrs["ancillary_variables"].split()
    assert {"chl_lower", "chl_upper"} <= set(linked)
    assert json.loads((home / "out.zarr.job" / "job.json").read_text())["transform"] == "auto"
    rough = np.abs(np.log10(stored.chl.values[made] / memory.chl.values[made]))
    assert np.median(rough) < 0.01


def test_an_update_goes_on_in_the_same_space(begun, tmp_path):
    archive, out = begun
    model = json.loads((tmp_path / "out.zarr.job/model/chl/score.json").read_text())
    small.put(concentrations(small.T + 2), archive)
    with pytest.raises(errors.OptionError, match="transform='auto', not 'none'; --refit"):
        fill_archive(archive, out, update=True, transform="none")
    assert fill_archive(archive, out, update=True).new == 2
    assert json.loads((tmp_path / "out.zarr.job/model/chl/score.json").read_text()) == model
    assert not verify(out, archive).wrong
    again = fill_archive(archive, out, small.METHOD, refit=True, transform="none")
    assert "rmse_log10" not in again.score["chl"]
    assert "chl_lower" not in small.loaded(out)


def test_a_store_written_before_there_were_transforms_has_none(archive, tmp_path):
    out = tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD, transform="none")
    path = tmp_path / "out.zarr.job" / "job.json"
    document = json.loads(path.read_text())
    del document["transform"]
    path.write_text(json.dumps(document))
    small.put(concentrations(small.T + 2), archive)
    assert fill_archive(archive, out, update=True).new == 2
    assert "chl_lower" not in small.loaded(out)
    assert not verify(out, archive).wrong


def test_verify_finds_a_limit_outside_the_bounds(begun):
    out = begun[1]
    import zarr

    lower = zarr.open_group(out, mode="r+")["chl_lower"]
    values = lower[:]
    at = tuple(np.argwhere(np.isfinite(values))[0])
    values[at] = -1
    lower[:] = values
    assert "outside the bounds of its transform (1 pixels)" in " ".join(verify(out).wrong)
