# SPDX-License-Identifier: Apache-2.0
"""Members through the one door: equal to the observations, drawn in the gaps, stored and read."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from drawing import Drawing
from hypothesis import given, settings
from hypothesis import strategies as st

import sstfill
from sstfill import METHODS, InputError, OptionError, fill
from sstfill import io as sio
from sstfill.fields.error_distribution import ErrorDistribution

OBSERVED, FILLED, NOT_FILLED, WITHHELD, LAND = range(5)
PACKED = {
    "dtype": "int16",
    "scale_factor": 0.01,
    "add_offset": 20.0,
    "_FillValue": np.int16(-32768),
}
DIMS = ("time", "lat", "lon")


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(METHODS._classes, "drawing", Drawing)


def field(shape=(8, 5, 6), *, dtype: str = "f4", seed: int = 0) -> xr.DataArray:
    """A series of whole hundredths under random gaps, with a row of land."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(20, 1, shape), 2).astype(dtype)
    values[rng.random(shape) < 0.4] = np.nan
    values[:, 0] = np.nan
    coords = {
        "time": np.datetime64("2020-01-01", "ns") + np.arange(shape[0]) * np.timedelta64(1, "D"),
        "lat": ("lat", np.linspace(35, 36, shape[1]), {"units": "degrees_north"}),
        "lon": ("lon", np.linspace(5, 6, shape[2]), {"units": "degrees_east"}),
    }
    attrs = {"units": "degC", "standard_name": "sea_surface_temperature", "long_name": "SST"}
    return xr.DataArray(values, coords, DIMS, "sst", attrs | {"valid_min": np.float32(-5)})


def assert_laws(filled: xr.Dataset, members: int, name: str = "sst") -> None:
    drawn, values, source = filled[f"{name}_members"], filled[name], filled[f"{name}_source"]
    assert drawn.dims == ("member", *values.dims) and drawn.dtype == values.dtype
    assert filled["member"].values.tolist() == list(range(members))
    assert filled["member"].attrs["standard_name"] == "realization"
    assert f"{name}_members" in values.attrs["ancillary_variables"].split()
    estimated = source.isin([FILLED, WITHHELD])
    assert np.isfinite(drawn.where(estimated, 0)).all()
    for k in range(members):
        kept = drawn.isel(member=k).where(~estimated, 0).transpose(*values.dims)
        # bytes: not even the bits of a missing value differ
        assert kept.values.tobytes() == values.where(~estimated, 0).values.tobytes()


@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations(DIMS),
    dtype=st.sampled_from(["f2", "f4", "f8", ">f4"]),
    members=st.integers(1, 4),
    chunked=st.booleans(),
    single=st.booleans(),
    hide=st.booleans(),
)
def test_members_equal_what_is_observed_in_every_layout(
    order, dtype, members, chunked, single, hide
):
    sst = field(dtype=dtype).transpose(*order)
    if single:
        sst = sst.expand_dims(depth=[0.0], axis=1)
    if chunked:
        sst = sst.chunk(time=3, lat=2)
    withheld = None
    if hide:
        withheld = sst.notnull() & (sst["lon"] > 5.5)
    filled = fill(sst.to_dataset(), Drawing(), members=members, withheld=withheld, score=False)
    assert (filled.sst_members.chunks is not None) == chunked
    filled = filled.load()  # once, not for each law
    assert_laws(filled, members)
    if hide:
        hidden = filled.sst_source == WITHHELD
        assert hidden.any()
        assert not (filled.sst_members == sst).where(hidden, False).all()


def test_attributes_are_those_of_the_field_and_the_fill_is_on_record():
    filled = fill(field().to_dataset(), "drawing", members=2, score=False)
    assert filled.sst_members.attrs == {
        "long_name": "draws (plausible fields) of SST",
        "standard_name": "sea_surface_temperature",
        "units": "degC",
    }
    assert json.loads(filled.sst.attrs["sstfill_method"])["members"] == 2
    assert filled.attrs["history"].endswith("sst filled by drawing, with 2 members")
    assert "members" not in fill(field(), Drawing(), score=False).attrs.get("history", "")


def test_the_rest_is_as_without_members_and_a_member_is_the_same_among_more():
    ds = field().to_dataset()
    none, two, five = (fill(ds, Drawing(), members=n) for n in (0, 2, 5))
    xr.testing.assert_identical(two.drop_dims("member").drop_attrs(), none.drop_attrs())
    np.testing.assert_array_equal(two.sst_members, five.sst_members[:2])


def test_the_spread_is_scaled_with_the_error():
    filled = fill(field((12, 10, 12)).to_dataset(), Drawing(), members=400)
    gap = filled.sst_source == FILLED
    assert float(filled.sst_error.mean()) > 0.6  # the method states 0.5, and the field has 1
    # An interval, for the mean square of few heavy tails is any number.
    width = ErrorDistribution.of(filled.sst_error.attrs).half_width(0.8)
    inside = abs(filled.sst_members - filled.sst) <= width * filled.sst_error
    assert float(inside.where(gap).mean()) == pytest.approx(0.8, abs=0.03)


def test_methods_that_cannot_draw_are_refused_with_those_that_can():
    for name in ("interpolate", "climatology", "dineof", "patchmatch"):
        with pytest.raises(OptionError, match=rf"^members=3: {name} cannot draw.*\bdrawing\b"):
            fill(field(), name, members=3)
    for wrong in (-1, 2.5, True, 10**6):
        with pytest.raises(OptionError, match=r"^members=.*0 to 10000"):
            fill(field(), Drawing(), members=wrong)


def test_more_members_than_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr(sys.modules["sstfill.fill"], "memory", lambda: 100_000)
    with pytest.raises(OptionError, match=r"members=200 needs about 0\.0 GB.*--out OUT\.zarr"):
        fill(field(), Drawing(), members=200)
    fill(field().chunk(time=3), Drawing(), members=200, score=False)  # block by block


def test_lazy_members_stay_lazy():
    import dask

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    ds = field().chunk(time=3).to_dataset()
    filled = fill(ds, Drawing(), members=3, score=False)
    with dask.config.set(scheduler=refuse), pytest.raises(AssertionError, match="computed"):
        filled.sst_members.compute()
    now = fill(field().to_dataset(), Drawing(), members=3, score=False)
    np.testing.assert_array_equal(filled.sst_members, now.sst_members)


class TestFillingAnew:
    def test_other_numbers_replace_the_members_of_an_earlier_fill(self):
        first = fill(field().to_dataset(), Drawing(), members=4, score=False)
        for members in (2, 4, 6):
            assert_laws(fill(first, Drawing(), members=members, score=False), members)
        without = fill(first, Drawing(), score=False)
        assert "sst_members" not in without and "member" not in without.variables
        assert "sst_members" not in without.sst.attrs["ancillary_variables"]
        assert "member" not in fill(first, "interpolate", score=False).variables

    def test_score_and_info_take_no_member_for_a_field(self):
        filled = fill(field((12, 8, 8)).to_dataset(), Drawing(), members=1, score=False)
        info = filled.gapfill.info()
        assert [one.name for one in info.fields] == ["sst"]
        assert "goes with another variable" in info.passed_over["sst_members"]
        table = sstfill.score(filled, methods="interpolate")
        assert "interpolate" in str(table)

    def test_members_of_two_variables_are_as_many(self):
        ds = field().to_dataset().assign(chl=field(seed=1).rename("chl"))
        both = fill(ds, Drawing(), members=3, score=False)
        assert_laws(both, 3)
        assert_laws(both, 3, "chl")
        together = fill(ds, Drawing(), members=3, together=True, score=False)
        assert_laws(together, 3, "chl")
        with pytest.raises(InputError, match=r"hold 3 members.*chl_members.*members=3, or drop"):
            fill(both, Drawing(), variables="sst", members=2, score=False)
        again = fill(both, Drawing(seed=1), variables="sst", members=3, score=False)
        np.testing.assert_array_equal(again.chl_members, both.chl_members)


class TestEnsembles:
    @pytest.mark.parametrize("form", ["single", "scalar", "beside", "coordinate"])
    def test_a_dim_of_the_user_does_not_become_that_of_the_draws(self, form):
        ds = field().to_dataset()
        if form == "single":
            ds = ds.expand_dims(member=[0])
        elif form == "scalar":
            ds = ds.assign_coords(member=3)
        elif form == "beside":
            ds = ds.assign(other=("member", np.zeros(2)))
        else:
            ds = ds.assign_coords(member=[0, 1])
        with pytest.raises(InputError, match="'member' of their own; rename it"):
            fill(ds, Drawing(), members=2)
        fill(ds, Drawing(), score=False)
        assert_laws(fill(ds.rename(member="mine"), Drawing(), members=2, score=False), 2)


@dataclass(frozen=True, kw_only=True)
class Failing(Drawing):
    """Has no draw at one pixel."""

    name: ClassVar[str] = "failing"

    def simulate(self, obs, sea, members):
        found = super().simulate(obs, sea, members)
        return found.assign(members=found["members"].where(obs["lon"] < 5.9))


def test_a_draw_that_failed_is_an_error_and_no_gap():
    with pytest.raises(InputError, match="values of the members are not finite"):
        fill(field(), Failing(), members=2, score=False)
    lazy = fill(field().chunk(time=4).to_dataset(), Failing(), members=2, score=False)
    with pytest.raises(InputError, match="values of the members are not finite"):
        lazy.sst_members.compute()


class TestFiles:
    @pytest.mark.parametrize("suffix", [".nc", ".zarr"])
    @pytest.mark.parametrize("chunks", [None, {"time": 3}])
    def test_they_are_stored_by_member_and_read_back(self, tmp_path, suffix, chunks):
        ds = field().to_dataset()
        if chunks:
            ds = ds.chunk(chunks)
        filled = fill(ds, Drawing(), members=3, score=False)
        sio.write(filled, tmp_path / f"out{suffix}")
        with sio.open(tmp_path / f"out{suffix}") as back:
            xr.testing.assert_identical(back.sst_members.load(), filled.sst_members.load())
            encoding = back.sst_members.encoding
            if not chunks:
                assert encoding.get("chunksizes", encoding.get("chunks")) == (1, 8, 5, 6)
            if suffix == ".nc":
                assert encoding["zlib"]
            assert back.member.attrs["standard_name"] == "realization"
            assert_laws(fill(back, Drawing(), members=2, score=False), 2)

    @pytest.mark.parametrize("lazy", [False, True])
    def test_they_are_packed_as_the_field_is(self, tmp_path, lazy):
        sst = field()
        sst.encoding = dict(PACKED)
        if lazy:
            sst = sst.chunk(time=3)
        filled = fill(sst.to_dataset(), Drawing(), members=3, score=False)
        sio.write(filled, tmp_path / "out.nc")
        with sio.open(tmp_path / "out.nc") as back:
            assert back.sst_members.encoding["dtype"] == np.dtype("int16")
            assert "comment" not in back.sst_members.attrs
            observed = filled.sst_source == OBSERVED
            same = (back.sst_members == back.sst).where(observed, True)
            assert same.all()
            off = abs(back.sst_members - filled.sst_members)
            assert float(off.max()) < 0.00501

    def test_a_packing_too_narrow_for_the_draws_is_widened(self, tmp_path, caplog):
        sst = field()
        sst.encoding = {"dtype": "int8", "scale_factor": 0.05, "add_offset": 20.0}
        sst.encoding["_FillValue"] = np.int8(-128)
        sst = sst.clip(14, 26).assign_attrs(sst.attrs)
        sst.encoding = {"dtype": "int8", "scale_factor": 0.03, "add_offset": 20.0}
        sst.encoding["_FillValue"] = np.int8(-128)
        wide = fill(sst.to_dataset(), Wide(), members=3, score=False)
        sio.write(wide, tmp_path / "out.nc")
        with sio.open(tmp_path / "out.nc") as back:
            assert back.sst.encoding["dtype"] == np.dtype("int8")
            assert back.sst_members.encoding["dtype"] == np.dtype("int32")
            assert float(abs(back.sst_members - wide.sst_members).max()) < 0.0151
        assert any("sst_members" in record.getMessage() for record in caplog.records)


@dataclass(frozen=True, kw_only=True)
class Wide(Drawing):
    """Draws members far from the mean."""

    name: ClassVar[str] = "wide"

    def simulate(self, obs, sea, members):
        found = super().simulate(obs, sea, members)
        return found.assign(members=found["mean"] + 20 * (found["members"] - found["mean"]))
