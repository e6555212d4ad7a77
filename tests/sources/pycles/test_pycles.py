# SPDX-License-Identifier: Apache-2.0
"""PyCLES output of every layout, the paper's own series, and what must be refused: strangers'
pickles, half a run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import re
import shutil
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
from fake_figshare import Figshare
from hypothesis import given, settings
from hypothesis import strategies as st

import sstfill
from sstfill.errors import InputError, OptionError, ReadError, WriteError
from sstfill.occlusion import Cloud, cloud_fraction, lwp_series
from sstfill.sources.pycles import published as pycles_published
from sstfill.sources.pycles import store as pycles_store
from sstfill.sources.pycles.clouds import occluded_fractions
from sstfill.sources.pycles.published import NAME, published_lwp
from sstfill.sources.pycles.pycles import find_run, import_pycles
from sstfill.sources.pycles.unpickle import read_array

NX, NY, NZ = 6, 4, 5
DEPTH = np.array([10.0, 10.0, 20.0, 20.0, 40.0])  # of the layers, m
DENSITY = np.linspace(1.2, 1.0, NZ)


def liquid(t: int) -> np.ndarray:
    """ql of a time, kg/kg, (x, y, z)."""
    return np.random.default_rng(t).gamma(2, 2e-4, (NX, NY, NZ))


def expected(*times: int) -> np.ndarray:
    """LWP in g m-2, (time, y, x), summed cell by cell."""
    lwp = np.zeros((len(times), NY, NX))
    for n, t in enumerate(times):
        ql = liquid(t)
        for (i, j, k), value in np.ndenumerate(ql):
            lwp[n, j, i] += 1000 * value * DENSITY[k] * DEPTH[k]
    return lwp


def write_stats(path: Path, *, fork: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        for name, held in (("reference", {}), ("profiles", {"z": np.cumsum(DEPTH)})):
            group = nc.createGroup(name)
            group.createDimension("z", NZ)
            if name == "reference":
                edges = {"rho0": DENSITY - 0.05, "rho0_half": DENSITY}
                held = edges if fork else {"rho0": DENSITY, "rho0_full": DENSITY - 0.05}
            for variable, values in held.items():
                group.createVariable(variable, "f8", ("z",))[:] = values


def write_rank(path: Path, values: np.ndarray, low: tuple[int, int, int], name: str = "ql") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        dims, fields = nc.createGroup("dims"), nc.createGroup("fields")
        dims.createDimension("d1", 1)
        fields.createDimension("nl", values.size)
        for kind, triple in (("nl", values.shape), ("n", (NX, NY, NZ)), ("indx_lo", low)):
            for axis, number in enumerate(triple):
                dims.createVariable(f"{kind}_{axis}", "i4", ("d1",))[:] = number
        fields.createVariable(name, "f8", ("nl",))[:] = values.ravel()


def write_halves(run: Path, t: int) -> None:
    """Rank files of a time: two beside each other."""
    ql, folder = liquid(t), run / "fields" / str(t)
    write_rank(folder / "0.nc", ql[:4], (0, 0, 0))
    write_rank(folder / "1.nc", ql[4:], (4, 0, 0))


def write_step(run: Path, t: int) -> Path:
    """Rank files of a time: two by two in the horizontal, and one of them cut in two in height."""
    ql, folder = liquid(t), run / "fields" / str(t)
    write_rank(folder / "0.nc", ql[:4, :2], (0, 0, 0))
    write_rank(folder / "1.nc", ql[:4, 2:], (0, 2, 0))
    write_rank(folder / "2.nc", ql[4:, :2], (4, 0, 0))
    write_rank(folder / "3.nc", ql[4:, 2:, :2], (4, 2, 0))
    write_rank(folder / "10.nc", ql[4:, 2:, 2:], (4, 2, 2))
    return folder


def write_combined(path: Path, t: int, *, fork: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        fields = nc.createGroup("fields")
        for name, size in (("x", NX), ("y", NY), ("z", NZ)):
            fields.createDimension(f"n{name}", size)
            if fork:
                fields.createVariable(name, "f8", (f"n{name}",))[:] = np.arange(size)
        fields.createVariable("ql", "f8", ("nx", "ny", "nz"))[:] = liquid(t)


def write_pickle(run: Path, t: int, protocol: int = 2) -> Path:
    path = run / "Visualization" / f"{10_000_000 + t}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lwp = np.ascontiguousarray(expected(t)[0].T / 1000)
    path.write_bytes(pickle.dumps({"lwp": lwp, "w": np.zeros((NY, NZ))}, protocol))
    return path


@pytest.fixture(scope="module")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of rank files at 60, 120 and 180 s, with namelist and statistics, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "Output.Case.abcde"
    write_halves(folder, 60)
    write_step(folder, 120)
    write_halves(folder, 180)
    write_stats(folder / "stats" / "Stats.Case.nc")
    namelist = {
        "meta": {"casename": "Case"},
        "grid": {"nx": NX, "ny": NY, "nz": NZ, "dx": 50.0, "dy": 25.0},
    }
    (folder / "Case.in").write_text(json.dumps(namelist))
    return folder


@pytest.fixture
def run(made_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_run, tmp_path / made_run.name))


def imported(*args: Any, **options: Any) -> xr.DataArray:
    return lwp_series(import_pycles(*args, **options)).load()


class TestSamples:
    """The raw output of real runs."""

    def test_visualization_is_the_series_of_the_same_run(
        self, shared_data: Path, tmp_path: Path
    ) -> None:
        lwp = imported(
            shared_data / "pycles_samples" / "dycoms_64x64x66_1rank", tmp_path / "lwp.zarr"
        )
        known = xr.open_dataset(shared_data / "clouds" / "lwp_dycoms.nc").LWP.sel(time=2400)
        assert lwp.dims == ("time", "y", "x") and lwp.time.values.tolist() == [2400.0]
        np.testing.assert_allclose(lwp[0], known, rtol=1e-6)
        np.testing.assert_array_equal(lwp.x, known.x)
        assert lwp.attrs["units"] == "g m-2" and lwp.dtype == np.float32

    def test_two_ranks_agree_with_the_visualization(
        self, shared_data: Path, tmp_path: Path
    ) -> None:
        sample = shared_data / "pycles_samples" / "dycoms_24x16x66_2ranks"
        drawn = imported(sample, tmp_path / "a.zarr")
        summed = imported(sample, tmp_path / "b.zarr", layout="fields")
        assert drawn.shape == (2, 16, 24) and drawn.time.values.tolist() == [2340.0, 2400.0]
        assert summed.shape == (1, 16, 24)
        assert float(drawn[1].mean() / summed[0].mean()) == pytest.approx(
            0.9993, abs=1e-4
        )  # as facts/pycles.md says
        assert np.corrcoef(drawn[1].values.ravel(), summed[0].values.ravel())[0, 1] > 1 - 1e-6
        with netCDF4.Dataset(sample / "stats" / "Stats.DYCOMS_RF01.nc") as stats:
            assert float(summed.mean()) == pytest.approx(
                1000 * float(stats["timeseries/lwp"][-1]), rel=6e-3
            )


class TestLayouts:
    def test_ranks(self, run: Path, tmp_path: Path) -> None:
        lwp = imported(run, tmp_path / "lwp.zarr")
        np.testing.assert_allclose(lwp, expected(60, 120, 180), rtol=1e-6)
        assert lwp.time.values.tolist() == [60.0, 120.0, 180.0] and lwp.time.attrs["units"] == "s"
        assert lwp.x.values.tolist() == [25.0, 75.0, 125.0, 175.0, 225.0, 275.0]
        assert lwp.y.values.tolist() == [12.5, 37.5, 62.5, 87.5]

    def test_pickles(self, run: Path, tmp_path: Path) -> None:
        for t, protocol in {0: 0, 30: 2, 60: 4, 90: 2}.items():
            write_pickle(run, t, protocol)
        lwp = imported(run, tmp_path / "lwp.zarr")  # more frames than fields
        np.testing.assert_allclose(lwp, expected(0, 30, 60, 90), rtol=1e-6)
        np.testing.assert_array_equal(imported(run / "Visualization", tmp_path / "again.zarr"), lwp)

    @pytest.mark.parametrize("fork", [False, True])
    def test_combined(self, fork: bool, run: Path, tmp_path: Path) -> None:
        shutil.rmtree(run / "fields")
        write_stats(run / "stats" / "Stats.Case.nc", fork=fork)
        for t in (600, 1200):
            write_combined(run / "joined" / f"{t + 1_000_000 * fork}.nc", t, fork=fork)
        for folder in (run, run / "joined"):
            lwp = imported(folder, tmp_path / f"{folder.name}.zarr")
            np.testing.assert_allclose(lwp, expected(600, 1200), rtol=1e-6)
            assert lwp.time.values.tolist() == [600.0, 1200.0]

    def test_density_at_cell_centres_of_the_fork(self, run: Path, tmp_path: Path) -> None:
        write_stats(run / "stats" / "Stats.Case.nc", fork=True)
        np.testing.assert_allclose(
            imported(run, tmp_path / "lwp.zarr"), expected(60, 120, 180), rtol=1e-6
        )

    def test_parent_folder_and_fields_folder(self, run: Path, tmp_path: Path) -> None:
        assert find_run(tmp_path).folder == run
        np.testing.assert_array_equal(
            imported(run / "fields", tmp_path / "a.zarr"), imported(tmp_path, tmp_path / "b.zarr")
        )
        other = tmp_path / "Output.Case.fghij"
        write_pickle(other, 60)
        with pytest.raises(
            InputError, match=r"holds 2 runs \(Output.Case.abcde, Output.Case.fghij\); name one"
        ):
            find_run(tmp_path)
        for folder, name in ((run, "mine"), (other, "theirs")):
            folder.rename(tmp_path / name)
        with pytest.raises(
            InputError,
            match=r"holds folders with frames of runs \(mine, theirs\); name one of them",
        ):
            find_run(tmp_path)

    def test_folder_names_of_the_namelist(self, run: Path, tmp_path: Path) -> None:
        (run / "fields").rename(run / "snapshots")
        (run / "stats").rename(run / "means")
        namelist = {
            "grid": {},
            "fields_io": {"fields_dir": "snapshots"},
            "stats_io": {"stats_dir": "means"},
        }
        (run / "Case.in").write_text(json.dumps(namelist))
        lwp = imported(run, tmp_path / "lwp.zarr")
        np.testing.assert_allclose(lwp, expected(60, 120, 180), rtol=1e-6)
        assert "x" not in lwp.coords

    def test_dates(self, run: Path, tmp_path: Path) -> None:
        lwp = imported(run, tmp_path / "lwp.zarr", start="2001-07-10T06:00")
        assert str(lwp.time.values[0].astype("M8[s]")) == "2001-07-10T06:01:00"
        for wrong in ("soon", "NaT"):
            with pytest.raises(OptionError, match="is not a date"):
                import_pycles(run, tmp_path / "o.zarr", start=wrong)

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_store(self, zarr_format: int, run: Path, tmp_path: Path) -> None:
        out = import_pycles(run, tmp_path / "lwp.zarr", zarr_format=zarr_format)
        assert (out / ".zmetadata").is_file() == (zarr_format == 2)
        ds = sstfill.io.open(out)
        np.testing.assert_allclose(ds.LWP, expected(60, 120, 180), rtol=1e-6)
        for words in ("PyCLES", "10.1002/2015MS000496"):
            assert words in ds.attrs["source"]
        assert json.loads(ds.attrs["namelist"])["meta"]["casename"] == "Case"
        assert (
            ds.attrs["sstfill_version"] == sstfill.__version__
            and "import_pycles" in ds.attrs["history"]
        )
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []

    def test_several_chunks(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pycles_store, "CHUNK", 2 * 4 * NX * NY)
        out = import_pycles(run, tmp_path / "lwp.zarr")
        assert lwp_series(out).encoding["chunks"] == (2, NY, NX)
        np.testing.assert_allclose(lwp_series(out), expected(60, 120, 180), rtol=1e-6)

    def test_masks_are_drawn_from_it(self, run: Path, tmp_path: Path) -> None:
        lwp = lwp_series(import_pycles(run, tmp_path / "lwp.zarr"))
        threshold = float(np.median(lwp))
        mask = Cloud(lwp=lwp, threshold=threshold, stride=1, start_after=0).draw(
            (3, NY, NX), np.random.default_rng(0)
        )
        assert mask.mean() == pytest.approx(0.5, abs=0.02)


class TestBroken:
    """One line for each: what was met, what to do; and nothing is left where the store would be."""

    @pytest.fixture(autouse=True)
    def nothing_written(self, tmp_path: Path) -> Iterator[None]:
        yield
        assert not [p.name for p in tmp_path.iterdir() if ".zarr" in p.name]

    def refused(self, run: Path, kind: type[Exception], words: str, **options: Any) -> None:
        with pytest.raises(kind, match=words) as met:
            import_pycles(run, run.parent / "lwp.zarr", **options)
        assert "\n" not in str(met.value)

    def test_missing_rank(self, run: Path) -> None:
        (run / "fields" / "120" / "2.nc").unlink()
        self.refused(
            run, ReadError, "fields/120: 4 rank files cover 83% of the grid; copy the missing ones"
        )

    def test_no_ranks(self, run: Path) -> None:
        (run / "fields" / "240").mkdir()
        self.refused(run, ReadError, "fields/240: 0 rank files cover 0%")

    def test_rank_twice(self, run: Path) -> None:
        shutil.copy(run / "fields" / "60" / "0.nc", run / "fields" / "60" / "7.nc")
        self.refused(run, InputError, "7.nc has cells of another rank too")

    def test_rank_cut_short(self, run: Path) -> None:
        path = run / "fields" / "180" / "1.nc"
        path.write_bytes(path.read_bytes()[:-500])
        self.refused(
            run, ReadError, "cannot read .*180/1.nc: .*; if the run was stopped while it wrote"
        )

    def test_rank_without_values(self, run: Path) -> None:
        with netCDF4.Dataset(run / "fields" / "180" / "1.nc", "a") as nc:
            nc["fields/ql"][3:] = netCDF4.default_fillvals["f8"]
        self.refused(run, InputError, "fields/180 has values that are not finite; remove it")

    def test_rank_of_another_grid(self, run: Path) -> None:
        with netCDF4.Dataset(run / "fields" / "60" / "1.nc", "a") as nc:
            nc["dims/n_0"][:] = 2 * NX
        self.refused(run, InputError, r"60/1.nc.*do not fit the other ranks' \(6, 4, 5\)")

    def test_no_liquid_water(self, run: Path) -> None:
        write_rank(run / "fields" / "60" / "0.nc", liquid(60)[:4], (0, 0, 0), name="qt")
        self.refused(
            run, InputError, r"60/0.nc holds qt, no ql; add 'ql' to fields_io.diagnostic_fields"
        )

    def test_no_density(self, run: Path) -> None:
        shutil.move(run / "stats", run.parent / "elsewhere")
        self.refused(run, ReadError, "which holds the density; give one: stats=")
        import_pycles(run, run.parent / "o.zarr", stats=run.parent / "elsewhere" / "Stats.Case.nc")
        shutil.rmtree(run.parent / "o.zarr")

    def test_density_of_another_run(self, run: Path) -> None:
        with netCDF4.Dataset(run / "stats" / "Stats.Case.nc", "a") as nc:
            nc["reference/rho0"][2:] = np.nan
        self.refused(run, ReadError, "density or heights are missing")
        with netCDF4.Dataset(run / "stats" / "Stats.Case.nc", "w") as nc:
            nc.createGroup("timeseries")
        self.refused(run, InputError, "no reference/rho0")

    def test_levels_differ(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = run / "stats" / "Stats.Case.nc"
        path.unlink()
        with monkeypatch.context() as fewer:
            fewer.setattr(sys.modules[__name__], "NZ", 3)
            fewer.setattr(sys.modules[__name__], "DENSITY", DENSITY[:3])
            fewer.setattr(sys.modules[__name__], "DEPTH", DEPTH[:3])
            write_stats(path)
        self.refused(run, InputError, "has 5 levels, the statistics 3")

    def test_grid_of_the_namelist(self, run: Path) -> None:
        (run / "Case.in").write_text(json.dumps({"grid": {"nx": 64, "ny": 64}}))
        self.refused(
            run, InputError, r"frames of \(4, 6\) \(y, x\), but its namelist says \(64, 64\)"
        )

    def test_frames_of_two_grids(self, run: Path) -> None:
        for t in (30, 60, 90, 120):
            write_pickle(run, t)
        path = run / "Visualization" / "10000090.pkl"
        path.write_bytes(pickle.dumps({"lwp": np.zeros((2, 2))}, 2))
        self.refused(
            run,
            InputError,
            r"10000090.pkl is a frame of \(2, 2\) \(y, x\), 10000030.pkl of \(4, 6\)",
        )

    def test_pickle_cut_short(self, run: Path) -> None:
        path = write_pickle(run, 60)
        for content in (path.read_bytes()[:-40], b""):
            path.write_bytes(content)
            self.refused(run, ReadError, "cannot read .*10000060.pkl", layout="visualization")

    def test_dry_run(self, run: Path) -> None:
        path = write_pickle(run, 60)
        path.write_bytes(pickle.dumps({"qt": np.zeros((2, 2))}, 2))
        self.refused(
            run, InputError, "10000060.pkl holds qt, no array 'lwp'", layout="visualization"
        )

    def test_grams_taken_for_kilograms(self, run: Path) -> None:
        path = write_pickle(run, 60)
        path.write_bytes(pickle.dumps({"lwp": np.full((NX, NY), 70.0)}, 2))
        self.refused(run, InputError, "path of 7e\\+04 g m-2", layout="visualization")

    def test_folders_without_frames(self, run: Path) -> None:
        shutil.rmtree(run / "fields")
        self.refused(run, ReadError, "statistics but no frames; set visualization.frequency")
        shutil.rmtree(run / "stats")
        (run / "Visualization").mkdir()
        self.refused(run, ReadError, "holds no output of PyCLES")
        (run / "2003").mkdir()  # an archive by years is no run
        self.refused(run, ReadError, "holds no output of PyCLES")
        self.refused(run / "Case.in", ReadError, "it is a file; give the folder")
        self.refused(run / "nowhere", ReadError, "no such folder")

    def test_options(self, run: Path) -> None:
        self.refused(
            run,
            OptionError,
            "layout='pickles'; choose from visualization, fields, combined",
            layout="pickles",
        )
        self.refused(
            run,
            InputError,
            r"no frames of layout 'combined'; it has fields \(3 frames\)",
            layout="combined",
        )
        self.refused(run, OptionError, "zarr_format=4", zarr_format=4)
        with pytest.raises(OptionError, match=r"end its name with .zarr"):
            import_pycles(run, run.parent / "lwp.nc")
        with pytest.raises(WriteError, match="something else than a Zarr store"):
            import_pycles(run, run.rename(run.with_suffix(".zarr")))
        run.with_suffix(".zarr").rename(run)

    def test_missing_frame_is_told(self, run: Path, caplog: pytest.LogCaptureFixture) -> None:
        for t in (0, 30, 60, 120, 150):
            write_pickle(run, t)
        with caplog.at_level(logging.WARNING):
            out = import_pycles(run, run.parent / "lwp.zarr")
        assert "frames are not evenly spaced: 60 s after 60 s, 30 s as a rule" in caplog.text
        shutil.rmtree(out)


def test_an_earlier_store_is_kept_and_never_replaced(run: Path, tmp_path: Path) -> None:
    out = import_pycles(run, tmp_path / "lwp.zarr")
    before, made = lwp_series(out).load(), (out / "zarr.json").stat()
    import_pycles(run, out)
    assert (out / "zarr.json").stat().st_ino == made.st_ino
    with pytest.raises(
        WriteError, match=r"lwp\.zarr was made by another import \(start: None there.*or remove it"
    ):
        import_pycles(run, out, start="2001-07-10")
    shutil.rmtree(run / "fields" / "180")
    with pytest.raises(WriteError, match="frames: 3 there, 2 here"):
        import_pycles(run, out)
    xr.testing.assert_identical(lwp_series(out).load(), before)


class Malice:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class TestPickle:
    def test_a_strangers_pickle_runs_nothing(self, tmp_path: Path) -> None:
        mark, path = tmp_path / "was_here", tmp_path / "10000060.pkl"
        for attack in (
            Malice(Path.touch, mark),
            Malice(eval, f"open({str(mark)!r}, 'w')"),
            Malice(np.save, mark, 1),
        ):
            for protocol in (0, 2, 4):
                path.write_bytes(pickle.dumps({"lwp": np.ones((2, 2)), "extra": attack}, protocol))
                with pytest.raises(
                    ReadError, match=r"names .*, which is no array and was not called"
                ):
                    read_array(path, "lwp")
        path.write_bytes(b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.")
        with pytest.raises(ReadError, match=r"names os.system"):
            read_array(path, "lwp")
        assert list(tmp_path.iterdir()) == [path]

    def test_no_way_out_through_what_is_admitted(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pkl"
        for name in (
            "ndarray.__class__",
            "ndarray.__setstate__.__globals__",
            "load",
            "core.multiarray._reconstruct",
        ):
            path.write_bytes(
                b"\x80\x04\x8c\x05numpy\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
            )
            with pytest.raises(ReadError, match=re.escape(f"names numpy.{name}")):
                read_array(path, "lwp")
        objects = pickle.dumps({"lwp": np.array([[print]], dtype=object)}, 2)
        path.write_bytes(objects)
        with pytest.raises(ReadError):
            read_array(path, "lwp")
        assert eval("len(STAND_INS)", vars(sys.modules[read_array.__module__])) == 5

    def test_kinds_of_arrays(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pkl"
        for values in (
            np.arange(6.0).reshape(2, 3),
            np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
            np.arange(4, dtype=np.int16),
        ):
            path.write_bytes(pickle.dumps({"a": values}, 2))
            found = read_array(path, "a")
            np.testing.assert_array_equal(found, values)
            assert found.dtype == values.dtype and found.shape == values.shape

    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    def test_damage_is_one_error(
        self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        content = bytearray(pickle.dumps({"lwp": np.arange(12.0).reshape(3, 4)}, 2))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.getbasetemp() / "damaged.pkl"
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            assert read_array(path, "lwp").dtype.kind in "fiu"
        except (ReadError, InputError) as error:
            assert "damaged.pkl" in str(error) and "\n" not in str(error)


@pytest.fixture
def array(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    np.save(path, np.random.default_rng(0).gamma(2, 0.03, (300, 8, 9)))
    return path


class TestPublished:
    def test_local_copy(self, array: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pycles_store, "CHUNK", 100 * 4 * 72)
        out = published_lwp(tmp_path / "lwp.zarr", path=array, cache=tmp_path / "no-download")
        lwp = lwp_series(out)
        np.testing.assert_allclose(lwp, 1000 * np.load(array), rtol=1e-6)
        assert lwp.attrs["units"] == "g m-2" and lwp.encoding["chunks"] == (100, 8, 9)
        assert lwp.time.values.tolist() == list(range(300))
        ds = sstfill.io.open(out)
        assert (
            ds.attrs["source"]
            == f"local file {array.name}, not compared with doi:10.6084/m9.figshare.9929798"
        )
        assert "references" not in ds.attrs and "Unsupervised" not in ds.attrs["title"]
        made = json.loads(ds.attrs["sstfill_import"])
        assert (
            made["md5"] == hashlib.md5(array.read_bytes()).hexdigest()
            and made["downloaded"] is False
        )
        assert cloud_fraction(lwp, 70) == pytest.approx(
            cloud_fraction(np.load(array), 70, units="kg m-2"), abs=1e-3
        )

    def test_kept_or_refused(self, array: Path, tmp_path: Path) -> None:
        out = published_lwp(tmp_path / "lwp.zarr", path=array)
        made = (out / "zarr.json").stat().st_ino
        published_lwp(out, path=array)
        np.save(tmp_path / "other.npy", np.load(array) / 2)
        with pytest.raises(WriteError, match=r"made by another import .*md5"):
            published_lwp(out, path=tmp_path / "other.npy")
        assert (out / "zarr.json").stat().st_ino == made

    def test_large_array_is_not_read_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "large.npy"
        np.lib.format.open_memmap(path, "w+", np.float64, (1500, 64, 64)).flush()  # 49 MB
        tracemalloc.start()
        published_lwp(tmp_path / "lwp.zarr", path=path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40e6
        assert lwp_series(tmp_path / "lwp.zarr").shape == (1500, 64, 64)

    def test_bad_copies(self, array: Path, tmp_path: Path) -> None:
        out = tmp_path / "lwp.zarr"
        content = array.read_bytes()
        for words, damaged in (
            ("cannot read", content[:-9]),
            ("cannot read", b"<html>"),
            ("cannot read", b""),
        ):
            array.write_bytes(damaged)
            with pytest.raises(ReadError, match=words):
                published_lwp(out, path=array)
        np.save(array, np.full((20, 4, 4), 70.0))
        with pytest.raises(InputError, match="taken as kg "):
            published_lwp(out, path=array)
        np.save(array, np.full((20, 4, 4), np.nan))
        with pytest.raises(InputError, match="frame 0 has values that are not finite"):
            published_lwp(out, path=array)
        with pytest.raises(ReadError):
            published_lwp(out, path=tmp_path / "nowhere.npy")
        assert not out.exists()

    def test_without_pooch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pooch", None)
        with pytest.raises(
            OptionError,
            match=r"pip install 'sstfill\[clouds\]', or download cloud_dataset.npy from https://doi.org/10",
        ):
            published_lwp(tmp_path / "lwp.zarr")


class TestDownload:
    """With the real pooch."""

    @pytest.fixture(autouse=True)
    def pooch(self) -> None:
        pytest.importorskip("pooch", reason="pooch is not installed")

    @pytest.mark.parametrize("challenge", [None, 202, 403])
    def test_download(
        self,
        challenge: int | None,
        array: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        site = Figshare(array.read_bytes(), challenge=challenge)
        monkeypatch.setattr("requests.get", site.get)
        with sstfill.progress.shown():
            published_lwp(tmp_path / "lwp.zarr", cache=tmp_path / "cache")
        np.testing.assert_allclose(
            lwp_series(tmp_path / "lwp.zarr"), 1000 * np.load(array), rtol=1e-6
        )
        assert (site.asked[-1] == "https://api.figshare.com/v2/file/download/77") == (
            challenge is not None
        )
        assert "Downloading" not in capsys.readouterr().err  # pooch's own message
        made = json.loads(sstfill.io.open(tmp_path / "lwp.zarr").attrs["sstfill_import"])
        assert made["downloaded"] is True and made["md5"] == site.md5
        monkeypatch.setattr("requests.get", None)  # a second run needs no network
        assert pycles_published.fetch(tmp_path / "cache").read_bytes() == site.content

    def test_a_copy_is_the_published_series_where_its_checksum_is(
        self, array: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("requests.get", Figshare(array.read_bytes()).get)
        pycles_published.fetch(tmp_path / "cache")
        monkeypatch.setattr("requests.get", None)
        sources = []
        for out in ("same.zarr", "changed.zarr"):
            published_lwp(tmp_path / out, path=array, cache=tmp_path / "cache")
            sources.append(sstfill.io.open(tmp_path / out).attrs["source"])
            np.save(array, np.load(array) / 2)
        assert sources[0] == "figshare, doi:10.6084/m9.figshare.9929798"
        assert sources[1].startswith(f"local file {array.name}, not compared")

    def test_damage_on_the_way(
        self, array: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site = Figshare(array.read_bytes())
        site.content = site.content[:-1] + b"!"
        monkeypatch.setattr("requests.get", site.get)
        monkeypatch.setattr("time.sleep", lambda _: None)
        with pytest.raises(
            ReadError, match=r"cannot download cloud_dataset.npy.*try again later, or download"
        ):
            published_lwp(tmp_path / "lwp.zarr", cache=tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == [] and not (tmp_path / "lwp.zarr").exists()

    def test_a_cache_that_holds_another_file(
        self, array: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site, cache = Figshare(array.read_bytes()), tmp_path / "cache"
        monkeypatch.setattr("requests.get", site.get)
        pycles_published.fetch(cache)
        np.save(cache / NAME, np.zeros((4, 8, 9)))
        asked = len(site.asked)
        assert (
            pycles_published.fetch(cache).read_bytes() == site.content and len(site.asked) > asked
        )
        np.save(cache / NAME, np.zeros((4, 8, 9)))
        site.content = b"another file"
        monkeypatch.setattr("time.sleep", lambda _: None)
        with pytest.raises(ReadError, match=r"MD5 hash .* does not match|hash of downloaded file"):
            published_lwp(tmp_path / "lwp.zarr", cache=cache)
        assert not (tmp_path / "lwp.zarr").exists()

    def test_no_network(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import requests

        def unreachable(*_: Any, **__: Any) -> None:
            try:
                raise OSError(
                    "Failed to resolve 'api.figshare.com' ([Errno -2] Name or service not known)"
                )
            except OSError as error:
                raise requests.ConnectionError(
                    f"Max retries exceeded with url: /v2/{'x' * 300}"
                ) from error

        monkeypatch.setattr("requests.get", unreachable)
        with pytest.raises(
            ReadError,
            match=r"Name or service not known\); try again later, or download cloud_dataset.npy",
        ) as caught:
            published_lwp(tmp_path / "lwp.zarr", cache=tmp_path / "cache")
        assert len(str(caught.value)) < 320

    def test_cache_that_cannot_be_made(
        self, array: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("requests.get", Figshare(array.read_bytes()).get)
        with pytest.raises(WriteError, match="give another cache"):
            published_lwp(tmp_path / "lwp.zarr", cache=array / "below_a_file")


class TestFractions:
    @settings(max_examples=25, deadline=None)
    @given(
        frames=st.integers(1, 30),
        start=st.integers(0, 29),
        block=st.integers(1, 40),
        seed=st.integers(0, 99),
    )
    def test_agree_with_cloud_fraction(
        self, frames: int, start: int, block: int, seed: int
    ) -> None:
        lwp = xr.DataArray(
            np.random.default_rng(seed).gamma(2, 0.03, (frames, 3, 4)), dims=("time", "y", "x")
        )
        lwp.attrs["units"], lwp.encoding["preferred_chunks"] = "kg m-2", {"time": 1 + seed % 5}
        if start >= frames:
            with pytest.raises(InputError, match="none after start_after"):
                occluded_fractions(lwp, [55], start_after=start)
            return
        fractions = occluded_fractions(lwp, [55, 70, 0], start_after=start, block_bytes=block * 96)
        assert fractions == pytest.approx(
            [cloud_fraction(lwp, t, start_after=start) for t in (55, 70, 0)]
        )

    def test_reads_block_by_block(self, run: Path, tmp_path: Path) -> None:
        path = tmp_path / "large.npy"
        np.lib.format.open_memmap(path, "w+", np.float64, (2500, 64, 64)).flush()  # 82 MB
        tracemalloc.start()
        assert occluded_fractions(lwp_series(path), [55]) == [0.0]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60e6

    def test_bad_arguments(self) -> None:
        lwp = np.ones((3, 2, 2))
        with pytest.raises(OptionError, match="threshold=-1"):
            occluded_fractions(lwp, [-1.0], units="g m-2")
        with pytest.raises(OptionError, match="names none"):
            occluded_fractions(lwp, [], units="g m-2")
        with pytest.raises(OptionError, match="units=None"):
            occluded_fractions(lwp, [55], start_after=0)
