# SPDX-License-Identifier: Apache-2.0
"""Granules come into one store bit for bit and in time order, missing days empty, or not at all."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill import fill, io
from sstfill.cli.importing import add_import_granules, run_import_granules
from sstfill.errors import InputError, OptionError, ReadError, WriteError
from sstfill.methods import Interpolate
from sstfill.sources.granules.granules import ChunkSizes, import_granules
from sstfill.sources.granules.times import axis, moment

SST, GAP = np.int16, -32768
TIME = {
    "units": "seconds since 1981-01-01 00:00:00",
    "calendar": "standard",
    "standard_name": "time",
}
PACKED = {
    "_FillValue": SST(GAP),
    "scale_factor": 0.01,
    "add_offset": 273.15,
    "units": "kelvin",
    "valid_min": SST(-300),
    "valid_max": SST(4500),
}


def packed(day: int, size: int = 6) -> np.ndarray:
    """Packed temperatures of a day, a third of them missing."""
    rng = np.random.default_rng(day)
    return np.where(
        rng.random((1, size, 5)) < 0.3, GAP, rng.integers(1500, 2000, (1, size, 5))
    ).astype(SST)


def granule(
    day: int, *, hour: float = 0, size: int = 6, units: str = "kelvin", scale: float = 0.01
) -> xr.Dataset:
    """A day as a GHRSST level-3 file stores it (GDS 2.0), still packed."""
    rng, dims = np.random.default_rng(100 + day), ("time", "lat", "lon")
    seconds = int(
        (np.datetime64("2022-06-01") - np.datetime64("1981-01-01")) / np.timedelta64(1, "s")
    )
    flags = {
        "flag_masks": np.array([1, 2, 4, -32768], SST),
        "flag_meanings": "microwave land ice cloud",
    }
    quality = {
        "_FillValue": np.int8(-128),
        "flag_values": np.arange(6, dtype=np.int8),
        "flag_meanings": "a b c d e f",
    }
    return xr.Dataset(
        {
            "sea_surface_temperature": (
                dims,
                packed(day, size),
                PACKED | {"units": units, "scale_factor": scale},
            ),
            "quality_level": (dims, rng.integers(0, 6, (1, size, 5)).astype(np.int8), quality),
            "l2p_flags": (dims, rng.integers(-32768, 32767, (1, size, 5)).astype(SST), flags),
            "wind_speed": (dims, rng.random((1, size, 5), np.float32), {"units": "m s-1"}),
            "crs": ((), np.int32(0), {"grid_mapping_name": "latitude_longitude"}),
            "land": (("lat", "lon"), np.zeros((size, 5), np.int8), {"long_name": "land"}),
            "time_bnds": (("time", "nv"), np.zeros((1, 2), np.int32)),
        },
        {
            "time": (
                "time",
                np.array([seconds + day * 86400 + round(hour * 3600)], np.int32),
                TIME | {"bounds": "time_bnds"},
            ),
            "lat": ("lat", np.linspace(40, 41, size, dtype=np.float32), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(5, 6, 5, dtype=np.float32), {"units": "degrees_east"}),
        },
        {
            "title": "SST",
            "source": "AVHRR",
            "uuid": str(day),
            "date_created": f"2022060{day + 1}T120000Z",
            "history": "made",
            "start_time": "20220601T000000Z",
        },
    )


def flagged(meanings: str | None) -> xr.Dataset:
    ds = granule(1)
    if meanings is None:
        del ds["l2p_flags"].attrs["flag_meanings"]
    else:
        ds["l2p_flags"].attrs["flag_meanings"] = meanings
    return ds


def name(day: int) -> str:
    return f"2022060{day + 1}000000-X-L3S_GHRSST-SSTsubskin-v02.0.nc"


@cache
def written(day: int, **how: Any) -> bytes:
    """Return the file of a day; many tests begin from the same few."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name(day)
        granule(day, **how).to_netcdf(path, engine="netcdf4")
        return path.read_bytes()


def put(folder: Path, *days: int, **how: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for day in days:
        (folder / name(day)).write_bytes(written(day, **how))
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Five days without the third and fourth."""
    put(tmp_path / "l3" / "late", 4)
    return put(tmp_path / "l3", 1, 0)


def stored(path: Path) -> xr.Dataset:
    return xr.open_dataset(path, engine="zarr", decode_cf=False, consolidated=False)


@pytest.mark.parametrize(("zarr_format", "together"), [(2, 1.0), (3, 64e6)])
def test_values_come_in_bit_for_bit_and_missing_days_are_empty(
    archive: Path, tmp_path: Path, zarr_format: int, together: float
) -> None:
    sizes = ChunkSizes(block_bytes=together)
    out = tmp_path / "a.zarr"
    with import_granules(archive, out, zarr_format=zarr_format, chunk_sizes=sizes) as ds:
        days = np.arange("2022-06-01", "2022-06-06", dtype="M8[D]")
        assert np.array_equal(ds["time"].values.astype("M8[D]"), days)
        assert ds["granule"].values.tolist() == [
            name(k) if k not in (2, 3) else "" for k in range(5)
        ]
        assert ds["sea_surface_temperature"].isel(time=[2, 3]).isnull().all()
        assert ds["wind_speed"].isel(time=[2, 3]).isnull().all()
        assert ds["quality_level"].isel(time=[2, 3]).isnull().all()
        assert ds["l2p_flags"].isel(time=[2, 3]).isnull().all()
    with stored(tmp_path / "a.zarr") as raw:
        assert raw["sea_surface_temperature"].dtype == SST
        assert raw["quality_level"].dtype == np.int8
        for day in (0, 1, 4):
            given_ = granule(day)
            for field in ("sea_surface_temperature", "quality_level", "l2p_flags", "wind_speed"):
                assert np.array_equal(raw[field].isel(time=day).values, given_[field].values[0]), (
                    field,
                    day,
                )


def test_attributes_flags_and_what_does_not_vary_are_carried(archive: Path, tmp_path: Path) -> None:
    import_granules(str(archive / "**/*.nc"), tmp_path / "a.zarr").close()
    with stored(tmp_path / "a.zarr") as raw:
        sst = raw["sea_surface_temperature"].attrs
        assert {k: sst[k] for k in PACKED} == PACKED
        assert raw["quality_level"].attrs["flag_meanings"] == "a b c d e f"
        assert raw["crs"].attrs == {"grid_mapping_name": "latitude_longitude"}
        assert raw["land"].dims == ("lat", "lon")
        assert raw["land"].dtype == np.int8
        assert raw["lat"].attrs["units"] == "degrees_north"
        assert "time_bnds" not in raw.variables
        assert raw.attrs["source"] == "AVHRR"
        assert {"uuid", "start_time"}.isdisjoint(raw.attrs)
        assert raw.attrs["history"].startswith("made\n20")
        assert raw.attrs["time_coverage_end"] == "2022-06-05T00:00:00Z"
        # all 16 bits of the flags are in use: a missing day needs a wider type, and its masks with
        # it
        assert raw["l2p_flags"].dtype == np.int32
        assert raw["l2p_flags"].attrs["flag_masks"] == [1, 2, 4, -32768]


def test_flags_keep_their_type_where_no_day_is_missing(tmp_path: Path) -> None:
    import_granules(put(tmp_path / "l3", 0, 1), tmp_path / "a.zarr").close()
    with stored(tmp_path / "a.zarr") as raw:
        assert raw["l2p_flags"].dtype == SST
        assert "_FillValue" not in raw["l2p_flags"].attrs


def test_it_opens_and_fills(archive: Path, tmp_path: Path) -> None:
    import_granules(archive, tmp_path / "a.zarr").close()
    with io.open(
        tmp_path / "a.zarr", variables="sea_surface_temperature", quality_level=1, l2p_flags="ice"
    ) as ds:
        filled = fill(ds.load(), Interpolate(), score=False)
    source = filled["sea_surface_temperature_source"]
    assert (source.isel(time=[2, 3]) == 1).any("time").any()
    assert float(filled["sea_surface_temperature"].min()) > 280


def test_low_quality_becomes_gaps_on_request(archive: Path, tmp_path: Path) -> None:
    import_granules(archive, tmp_path / "a.zarr", variables="wind_speed", quality_level=4).close()
    with stored(tmp_path / "a.zarr") as raw:
        assert "sea_surface_temperature" not in raw
        given_ = granule(1)
        good = given_["quality_level"].values[0] >= 4
        assert np.array_equal(
            raw["wind_speed"].values[1],
            np.where(good, given_["wind_speed"].values[0], np.nan),
            equal_nan=True,
        )
        assert np.array_equal(raw["quality_level"].values[1], given_["quality_level"].values[0])


def test_duplicates_are_refused_or_the_latest_taken(tmp_path: Path) -> None:
    folder = put(tmp_path / "l3", 0, 1)
    again = granule(1, hour=0.5).assign(wind_speed=granule(3)["wind_speed"].variable)
    again.assign_attrs(date_created="20230101T000000Z").to_netcdf(folder / "again.nc")
    with pytest.raises(
        InputError, match=rf"two granules of one step .*{name(1)} and .*again.nc; remove one"
    ):
        import_granules(folder, tmp_path / "a.zarr", step="1D")
    assert not (tmp_path / "a.zarr").exists()
    with import_granules(folder, tmp_path / "a.zarr", duplicates="latest") as ds:
        assert ds["granule"].values.tolist() == [name(0), "again.nc"]
        assert ds["time"].values[1] == np.datetime64("2022-06-02T00:30")
        assert np.array_equal(ds["wind_speed"].values[1], granule(3)["wind_speed"].values[0])


def test_without_dates_of_making_the_newer_file_is_taken(tmp_path: Path) -> None:
    folder = put(tmp_path / "l3", 0, 1)
    for file in ("b.nc", name(1)):
        del (ds := granule(1)).attrs["date_created"]
        ds.to_netcdf(folder / file)
    os.utime(folder / "b.nc", (1e9, 1e9))
    with import_granules(folder, tmp_path / "a.zarr", duplicates="latest") as ds:
        assert ds["granule"].values.tolist() == [name(0), name(1)]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda: granule(1, size=7), "mixed grids: 'lat' has 7 cells in .*, 6 in"),
        (
            lambda: granule(1).assign_coords(lat=granule(1)["lat"][::-1].variable),
            "mixed grids: 'lat' of .* differs",
        ),
        (lambda: granule(1).rename(lon="lng"), "mixed grids"),
        (lambda: granule(1, units="celsius"), "is in 'celsius' in .*, in 'kelvin' in"),
        (lambda: granule(1).drop_vars("wind_speed"), "has no 'wind_speed', which"),
        (lambda: granule(1).assign(sst2=granule(1)["wind_speed"]), "has 'sst2', which .* has not"),
        (
            lambda: flagged("microwave land sea cloud"),
            "flags of 'l2p_flags' are 'microwave land sea cloud' .* in .*, ",
        ),
        (lambda: flagged(None), "flags of 'l2p_flags' are ''"),
        (
            lambda: granule(1).drop_vars(["wind_speed", "sea_surface_temperature"]),
            "nothing to fill",
        ),
    ],
)
def test_granules_that_do_not_go_together(
    tmp_path: Path, other: Callable[[], xr.Dataset], reason: str
) -> None:
    folder = put(tmp_path / "l3", 0)
    other().to_netcdf(folder / name(1))
    with pytest.raises(InputError, match=reason) as caught:
        import_granules(folder, tmp_path / "a.zarr")
    assert name(1) in str(caught.value) and (
        name(0) in str(caught.value) or reason == "nothing to fill"
    )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.zarr").exists()


def test_coordinates_that_differ_by_rounding_are_the_same_grid(tmp_path: Path) -> None:
    folder = put(tmp_path / "l3", 0)
    granule(1).assign_coords(lon=np.linspace(5, 6, 5) + 1e-6).to_netcdf(folder / name(1))
    import_granules(folder, tmp_path / "a.zarr").close()


def test_another_packing_is_unpacked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = put(put(tmp_path / "l3", 0), 2, scale=0.005)
    with import_granules(folder, tmp_path / "a.zarr") as ds:
        assert "packed in more than one way" in caplog.text
        for day, scale in ((0, 0.01), (2, 0.005)):
            raw = packed(day)[0].astype(float)
            expected = np.where(raw == GAP, np.nan, raw * scale + 273.15)
            assert np.allclose(
                ds["sea_surface_temperature"].values[day], expected, atol=1e-4, equal_nan=True
            )
        assert ds["sea_surface_temperature"].isel(time=1).isnull().all()
        assert ds["sea_surface_temperature"].attrs["units"] == "kelvin"


def test_helpers_that_some_granules_lack_are_empty_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = put(tmp_path / "l3", 0)
    granule(1).drop_vars("l2p_flags").to_netcdf(folder / name(1))
    with import_granules(folder, tmp_path / "a.zarr") as ds:
        assert ds["l2p_flags"].notnull().all(("lat", "lon")).values.tolist() == [True, False]
        assert np.array_equal(ds["l2p_flags"].values[0], granule(0)["l2p_flags"].values[0])
    assert "l2p_flags is not in each granule" in caplog.text


def test_helpers_that_the_first_granule_lacks_are_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = put(tmp_path / "l3", 1)
    granule(0).drop_vars("l2p_flags").to_netcdf(folder / name(0))
    with import_granules(folder, tmp_path / "a.zarr") as ds:
        assert "l2p_flags" not in ds
    assert "l2p_flags is not in the first granule, and left out" in caplog.text


def test_an_earlier_store_is_kept_and_never_replaced(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    import_granules(archive, out).close()
    made = (out / "zarr.json").stat().st_ino
    import_granules(archive, out).close()
    with pytest.raises(
        WriteError, match=r"a\.zarr was made by another import \(quality_level: None there, 4 here"
    ):
        import_granules(archive, out, quality_level=4)
    put(archive, 2)
    with pytest.raises(WriteError, match="granules: 3 there, 4 here"):
        import_granules(archive, out)
    assert (out / "zarr.json").stat().st_ino == made


def test_a_truncated_granule_is_named_and_nothing_is_written(archive: Path, tmp_path: Path) -> None:
    import_granules(archive, tmp_path / "a.zarr").close()
    broken = archive / "late" / name(4)
    for kind in ("NETCDF4", "NETCDF3_CLASSIC"):
        granule(4).to_netcdf(broken, format=kind)
        whole = broken.read_bytes()
        for fraction in (0.0, 0.05, 0.6, 0.999):
            broken.write_bytes(whole[: int(fraction * len(whole))])
            with pytest.raises(ReadError, match=name(4)):
                import_granules(archive, tmp_path / "a.zarr")
    with io.open(tmp_path / "a.zarr") as earlier:
        assert earlier.sizes["time"] == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "l3"]


def test_a_corrupt_block_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    folder = put(tmp_path / "l3", 0)
    checked = {"wind_speed": {"zlib": False, "fletcher32": True, "chunksizes": (1, 6, 5)}}
    granule(1).to_netcdf(folder / name(1), encoding=checked)
    content = bytearray((folder / name(1)).read_bytes())
    content[content.index(granule(1)["wind_speed"].values.tobytes()) + 8] ^= 0xFF
    (folder / name(1)).write_bytes(content)
    with pytest.raises(ReadError, match=name(1)):
        import_granules(folder, tmp_path / "a.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["l3"]


def test_images_without_a_time_axis(tmp_path: Path) -> None:
    """As NASA's level-3 files: the date is an attribute, or in the name."""
    for day in (0, 2):
        ds = granule(day).isel(time=0, drop=True).drop_vars(["time_bnds"]).drop_attrs(deep=False)
        ds.attrs = {"time_coverage_start": f"2022-06-0{day + 1}T00:00:03.000Z"} if day else {}
        ds.to_netcdf(tmp_path / f"AQUA_MODIS.2022060{day + 1}.L3m.DAY.SST.nc")
    with import_granules(tmp_path / "*.nc", tmp_path / "a.zarr") as ds:
        assert ds["time"].values.astype("M8[D]").astype(str).tolist() == [
            "2022-06-01",
            "2022-06-02",
            "2022-06-03",
        ]
        assert ds["sea_surface_temperature"].dims == ("time", "lat", "lon")
        assert ds["land"].dims == ("time", "lat", "lon")
        assert ds["sea_surface_temperature"].notnull().any(("lat", "lon")).values.tolist() == [
            True,
            False,
            True,
        ]
    with stored(tmp_path / "a.zarr") as raw:
        assert np.array_equal(raw["sea_surface_temperature"].values[2], packed(2)[0])
    with pytest.raises(InputError, match="has no time"):
        moment({}, Path("sst_v2.nc"))


def test_unsigned_bytes_curvilinear_grids_and_files_of_several_days(tmp_path: Path) -> None:
    dims, days = ("time", "nj", "ni"), 3
    lat, lon = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    for start in (0, 3, 9):
        values = np.random.default_rng(start).integers(-128, 127, (days, 4, 5)).astype(np.int8)
        xr.Dataset(
            {
                "chlor": (
                    dims,
                    np.random.default_rng(start).random((days, 4, 5), np.float32),
                    {"coordinates": "lon lat"},
                ),
                "flags": (
                    dims,
                    values,
                    {
                        "_Unsigned": "true",
                        "flag_masks": np.array([1, -128], np.int8),
                        "flag_meanings": "land cloud",
                    },
                ),
                "lat": (dims[1:], lat),
                "lon": (dims[1:], lon),
            },
            {"time": ("time", np.arange(start, start + days), {"units": "days since 2022-01-01"})},
        ).to_netcdf(tmp_path / f"{9 - start}.nc", format="NETCDF3_CLASSIC")
    with import_granules([tmp_path / f"{n}.nc" for n in (0, 9, 6)], tmp_path / "a.zarr") as ds:
        assert ds.sizes["time"] == 12
        assert ds["chlor"].coords["lat"].dims == ("nj", "ni")
        for step, start in ((1, 0), (4, 3), (10, 9)):
            rng = np.random.default_rng(start)
            assert np.array_equal(
                ds["flags"].values[step],
                rng.integers(-128, 127, (3, 4, 5)).astype("i1").view("u1")[1],
            )
        assert ds["chlor"].isel(time=slice(6, 9)).isnull().all()
        assert list(ds["flags"].attrs["flag_masks"]) == [1, 128]


def test_large_images_are_tiled_and_blocks_bounded(tmp_path: Path) -> None:
    sizes = ChunkSizes(large_image=50.0, tile=4, block_bytes=2 * 30 * 9.0)
    files = put(tmp_path / "l3", 0, 1, 2)
    with import_granules(files, tmp_path / "a.zarr", chunk_sizes=sizes) as ds:
        assert ds["sea_surface_temperature"].encoding["chunks"] == (2, 4, 4)
    with stored(tmp_path / "a.zarr") as raw:
        assert np.array_equal(
            raw["sea_surface_temperature"].values, np.concatenate([packed(k) for k in range(3)])
        )


@settings(max_examples=25, deadline=None)
@given(
    present=st.sets(st.integers(0, 30), min_size=2, max_size=20),
    hour=st.floats(0, 23.9),
    jitter=st.integers(0, 2),
    seed=st.integers(0, 9),
)
def test_daily_granules_get_one_step_a_day(
    present: set[int], hour: float, jitter: int, seed: int
) -> None:
    days = np.array(sorted(present))
    late = np.random.default_rng(seed).integers(-3600 * jitter, 3600 * jitter + 1, days.size)
    times = np.datetime64("2022-06-01", "s") + days * 86400 + round(hour * 3600) + late
    laid = axis(times, "1D")
    assert laid.steps.tolist() == (days - days[0]).tolist()
    assert np.array_equal(laid.times[laid.steps], times)
    assert (np.diff(laid.times) > np.timedelta64(12, "h")).all()
    assert (np.abs(np.diff(laid.times) - np.timedelta64(1, "D")) <= np.timedelta64(4, "h")).all()


@pytest.mark.parametrize(
    ("hours", "step", "steps"),
    [
        ([0, 24, 96], "auto", 5),
        ([0, 12, 24, 60], "auto", 6),
        ([0, 192, 384, 768], "auto", 5),
        ([0], "auto", 1),
        ([0, 48, 96, 120], "auto", 6),
        ([0, 48], "auto", 3),
        ([0, 6], "auto", 2),
        ([0, 7, 96], "none", 3),
        ([0, 24, 96], "48h", 3),
        ([23.99, 48, 72.01], "auto", 3),
    ],
)
def test_the_step(hours: list[float], step: str, steps: int) -> None:
    times = np.datetime64("2022-06-01", "s") + np.array([round(h * 3600) for h in hours])
    assert len(axis(times, step).times) == steps


def test_a_step_that_there_is_not() -> None:
    times = np.datetime64("2022-06-01", "s") + np.array([0, 7, 24, 29]) * 3600
    with pytest.raises(InputError, match="come every 5 to 17 hours"):
        axis(times, "auto")
    for wrong in ("daily", "-1D", "0s", "1M"):
        with pytest.raises(OptionError, match=f"step='{wrong}'"):
            axis(times, wrong)
    with pytest.raises(InputError, match="give a longer one"):
        axis(np.array(["1990-01-01", "2020-01-01"], "M8[s]"), "1s")


def test_options_and_inputs_that_are_refused(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    with pytest.raises(InputError, match="no granules in"):
        import_granules(tmp_path / "*.nothing", out)
    with pytest.raises(ReadError, match="no such file"):
        import_granules(tmp_path / "nothing.nc", out)
    with pytest.raises(OptionError, match="no variable 'sst'"):
        import_granules(archive, out, variables="sst")
    with pytest.raises(OptionError, match="quality_level=9"):
        import_granules(archive, out, quality_level=9)
    with pytest.raises(OptionError, match="duplicates='first'"):
        import_granules(archive, out, duplicates="first")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"end its name with \.zarr"):
        import_granules(archive, tmp_path / "a.nc")
    with pytest.raises(WriteError, match="it holds the input"):
        import_granules(put(tmp_path / "in.zarr", 0) / name(0), _marked(tmp_path / "in.zarr"))
    (archive / "old.nc.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ReadError, match="gunzip it first"):
        import_granules(archive, out)
    assert not out.exists()


def _marked(store: Path) -> Path:
    (store / "zarr.json").write_text("{}")
    return store


@pytest.mark.parametrize(
    "file",
    [
        "alboran_l3s_2022.nc",
        "npac_modis_2016.nc",
        "alboran_avhrr_2017.nc",
        "SST_MED_SST_L3S_NRT_OBSERVATIONS_010_012_a_example.nc",
    ],
)
def test_a_real_series_cut_into_days_comes_back(
    shared_data: Path, tmp_path: Path, file: str
) -> None:
    with xr.open_dataset(shared_data / "real" / file, decode_cf=False) as raw:
        days = [raw.isel(time=[k]).load() for k in range(min(raw.sizes["time"], 7))]
    left_out = {2, 3, 5}
    for k, day in enumerate(days):
        if k not in left_out:
            day.to_netcdf(tmp_path / f"{len(days) - k:03d}.nc")  # names in reverse order of time
    out, source = tmp_path / "a.zarr", shared_data / "real" / file
    with import_granules(tmp_path / "*.nc", out, step="1D") as ds, io.open(source) as truth:
        field = next(n for n in ("sst", "sea_surface_temperature") if n in ds)
        at = np.searchsorted(
            ds["time"].values,
            [
                t
                for k, t in enumerate(truth["time"].values[:7])
                if k not in left_out and k < len(days)
            ],
        )
        kept = [k for k in range(len(days)) if k not in left_out]
        assert np.array_equal(ds["time"].values[at], truth["time"].values[kept])
        seen = truth[field].isel(time=kept).values
        assert np.allclose(ds[field].values[at], seen, rtol=0, atol=1e-4, equal_nan=True)
        empty = np.setdiff1d(np.arange(ds.sizes["time"]), at)
        assert ds[field].isel(time=empty).isnull().all()
        assert empty.size
        filled = fill(ds[[field]].load(), Interpolate(), score=False)
    assert (filled[f"{field}_source"].isel(time=empty) == 1).any()


def test_the_command(archive: Path, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_import_granules(parser)
    args = parser.parse_args(
        [
            str(archive),
            "--out",
            str(tmp_path / "a.zarr"),
            "--variable",
            "wind_speed",
            "--quality-level",
            "2",
        ]
    )
    said = list(run_import_granules(args))
    assert (
        said[0] == "3 granules -> 5 steps from 2022-06-01T00:00:00Z to 2022-06-05T00:00:00Z, "
        "2 of them empty"
    )
    assert said[1] == "fields: wind_speed"


def test_what_is_left_out_is_said(
    archive: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(archive, 0)
    granule(0, hour=24 * 60).to_netcdf(archive / "far.nc")
    with caplog.at_level(logging.WARNING):
        import_granules(archive, tmp_path / "a.zarr").close()
    assert "57 of 61 steps are empty" in caplog.text


def test_granules_with_coded_dates_are_laid_on_the_days_that_they_name(tmp_path: Path) -> None:
    for day in (28, 29, 30):
        ds = granule(day).drop_vars(["time", "time_bnds"])
        number = int(str(np.datetime64("2022-06-01") + day).replace("-", ""))
        ds.assign_coords(time=("time", [number])).to_netcdf(tmp_path / f"day_{day}.nc")
    with import_granules(str(tmp_path / "*.nc"), tmp_path / "out.zarr") as store:
        days = store["time"].values.astype("M8[D]").astype(str).tolist()
    assert days == ["2022-06-29", "2022-06-30", "2022-07-01"]


def test_granules_of_months_of_no_year_are_refused(tmp_path: Path) -> None:
    ds = granule(0).drop_vars(["time", "time_bnds"]).rename(time="month")
    ds.assign_coords(month=[6]).to_netcdf(tmp_path / "june.nc")
    with pytest.raises(InputError, match=r"months of no year.*give it a time with its year"):
        import_granules(str(tmp_path / "*.nc"), tmp_path / "out.zarr").close()


SCALES = {"f4": None, "f8": None, "i2": 0.01, "i4": 0.01, "u2": 0.01}
"""Of the packing of a variable, by its type."""


def test_what_was_never_written_is_missing(tmp_path: Path) -> None:
    """NetCDF holds its default fill value there, which a Zarr store would give as a number."""
    for day in range(2):
        with netCDF4.Dataset(tmp_path / f"day{day}.nc", "w") as file:
            for dim, size in {"time": None, "lat": 5, "lon": 6}.items():
                file.createDimension(dim, size)
                axis = file.createVariable(dim, "f8", (dim,))
                axis[:] = [day] if size is None else np.arange(size)
            file["time"].units = "days since 2020-01-01"
            for dtype, scale in SCALES.items():
                field = file.createVariable(f"sst_{dtype}", dtype, ("time", "lat", "lon"))
                if scale is not None:
                    field.scale_factor = scale
                field[0, :3] = 15.0 + day
    with import_granules(tmp_path, tmp_path / "out.zarr") as out:
        for dtype in SCALES:
            field = out[f"sst_{dtype}"]
            assert field[:, 3:].isnull().all() and field[:, 3:].size
            seen = field[:, :3].values
            np.testing.assert_allclose(
                seen, np.array([15.0, 16.0])[:, None, None] * np.ones(seen.shape)
            )
