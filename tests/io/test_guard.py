# SPDX-License-Identifier: Apache-2.0
"""What a stranger gave is looked at before a library opens it, and refused in one line."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from forked import forked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sstfill
from sstfill import io, occlusion
from sstfill.cli import main
from sstfill.errors import ReadError, SstfillError
from sstfill.fields import grid
from sstfill.fields.reading.variables import find_fields
from sstfill.io import error_origin
from sstfill.io.untrusted import arrays, declared, guard
from sstfill.methods.common import fitted_store
from sstfill.printable import printable

NUMBERS = itertools.count()


def dataset() -> xr.Dataset:
    values = np.random.default_rng(0).normal(15, 2, (4, 5, 6)).astype("f4")
    values[1, 2, 3] = np.nan
    coords = {
        "time": np.arange("2020-01-01", "2020-01-05", dtype="M8[D]").astype("M8[ns]"),
        "lat": np.linspace(35, 36, 5),
        "lon": np.linspace(350, 351, 6),
    }
    return xr.Dataset({"sst": (("time", "lat", "lon"), values, {"units": "degC"})}, coords)


def store(folder: Path, zarr_format: int = 2, *, consolidated: bool = False) -> Path:
    path = folder / f"v{zarr_format}.zarr"
    for name, content in stored_files(zarr_format, consolidated).items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


@cache
def stored_files(zarr_format: int, consolidated: bool) -> dict[str, bytes]:
    """The files of a store by name; most tests begin from the same few."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset().to_zarr(folder, mode="w", zarr_format=zarr_format, consolidated=consolidated)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def netcdf(folder: Path, kind: str = "NETCDF4") -> Path:
    # a new name: what failed to open may be open still
    path = folder / f"{kind.lower()}{next(NUMBERS)}.nc"
    path.write_bytes(netcdf_file(kind))
    return path


@cache
def netcdf_file(kind: str) -> bytes:
    """A file of this format, as `stored_files`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nc"
        dataset().to_netcdf(path, format=kind, engine="netcdf4")
        return path.read_bytes()


def change(file: Path, mend: Callable[[dict[str, Any]], None]) -> None:
    held = json.loads(file.read_text())
    mend(held)
    file.write_text(json.dumps(held))


def use(path: Path, **options: Any) -> xr.Dataset:
    """Open a series and load a field, as the commands do."""
    with error_origin.reading(path), io.open(path, chunks={}, **options) as ds:
        for name in find_fields(ds):
            grid.standardise(ds[name])
        return ds.load()


def refused(path: Path, message: str, **options: Any) -> str:
    with pytest.raises(ReadError, match=message) as caught:
        use(path, **options)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 600 and str(path.name) in said
    return said


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


# --- codecs


@pytest.mark.parametrize("place", ["compressor", "filters", "consolidated"])
def test_a_codec_that_runs_code(tmp_path, monkeypatch, place):
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)
    path, mark = store(tmp_path, consolidated=place == "consolidated"), tmp_path / "ran"
    evil = {"id": "pickle", "protocol": 5}

    def mend(held: dict[str, Any]) -> None:
        held |= {"filters": [evil]} if place == "filters" else {"compressor": evil}

    if place == "consolidated":
        change(path / ".zmetadata", lambda held: mend(held["metadata"]["sst/.zarray"]))
    else:
        change(path / "sst" / ".zarray", mend)
    (path / "sst" / "0.0.0").write_bytes(numcodecs.Pickle().encode(Evil(mark)))
    refused(path, "'sst' is stored with the codec 'pickle', which sstfill does not run")
    assert not mark.exists()


def test_metadata_beside_consolidated_ones_are_checked_too(tmp_path):
    path = store(tmp_path, consolidated=True)
    change(path / "sst" / ".zarray", lambda held: held.update(compressor={"id": "pickle"}))
    refused(path, "codec 'pickle'")


@pytest.mark.parametrize(
    "codec", ["numcodecs.pickle", "pickle", "json2", "msgpack2", "nonsense", 5]
)
@pytest.mark.parametrize("nested", [False, True])
def test_codecs_of_version_3(tmp_path, codec, nested):
    path = store(tmp_path, 3)
    one = {"name": codec, "configuration": {}}
    sharded = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [1, 5, 6],
            "codecs": [one],
            "index_codecs": [{"name": "bytes"}],
        },
    }
    change(
        path / "sst" / "zarr.json", lambda held: held.update(codecs=[sharded if nested else one])
    )
    refused(path, "which sstfill does not run")


def test_a_chunk_is_not_larger_than_its_shard(tmp_path):
    path = store(tmp_path, 3)
    inner = {"chunk_shape": [10**9, 5, 6], "codecs": [{"name": "bytes"}]}
    shards = {"name": "sharding_indexed", "configuration": inner}
    change(path / "sst" / "zarr.json", lambda held: held.update(codecs=[shards]))
    refused(path, r"has chunks \[1000000000, 5, 6\] in shards")


def test_consolidated_metadata_of_version_3(tmp_path):
    path = store(tmp_path, 3, consolidated=True)

    def mend(held: dict[str, Any]) -> None:
        held["consolidated_metadata"]["metadata"]["sst"]["codecs"] = ["numcodecs.pickle"]

    change(path / "zarr.json", mend)
    refused(path, "which sstfill does not run")


def test_names_that_lead_out_of_a_store(tmp_path):
    path = store(tmp_path, 3, consolidated=True)

    def mend(held: dict[str, Any]) -> None:
        inner = held["consolidated_metadata"]["metadata"]
        inner["../v2.zarr/sst"] = inner["sst"]

    change(path / "zarr.json", mend)
    refused(path, "which leads out of it")


def test_objects_need_a_codec_of_texts(tmp_path):
    path = store(tmp_path)
    change(path / "sst" / ".zarray", lambda held: held.update(dtype="|O"))
    refused(path, "holds Python objects")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_texts_and_every_compressor_are_read(tmp_path, zarr_format):
    ds = dataset().assign(label=("time", np.array(list("abcd"), dtype=object)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, consolidated=False)
    assert use(tmp_path / "a.zarr")["label"].values.tolist() == list("abcd")
    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    for codec in ("zlib", "gzip", "bz2", "lzma", "blosc", "zstd", "lz4"):
        config = numcodecs.get_codec({"id": codec})
        group.create_array(codec, shape=(4,), chunks=(2,), dtype="f4", compressors=config)[:] = 1
        group[codec].attrs["_ARRAY_DIMENSIONS"] = ["time"]
    assert (use(tmp_path / "b.zarr").to_array() == 1).all()


def test_maps_of_a_settled_method(tmp_path):
    fitted_store.create_maps(tmp_path, {"noise": fitted_store.Map()}, y=4, x=6)
    metadata = tmp_path / "maps.zarr" / "noise" / "zarr.json"
    change(metadata, lambda held: held.update(codecs=["numcodecs.pickle"]))
    with pytest.raises(ReadError, match="which sstfill does not run"):
        fitted_store.read_part(tmp_path, "noise", slice(0, 2), slice(0, 2))


# --- links


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("what", ["chunk", "metadata", "array"])
def test_links_in_a_store(tmp_path, zarr_format, what):
    path = store(tmp_path, zarr_format)
    name = {2: "0.0.0", 3: "c/0/0/0"}[zarr_format]
    inner = {
        "chunk": path / "sst" / name,
        "metadata": path / "sst" / {2: ".zarray", 3: "zarr.json"}[zarr_format],
        "array": path / "sst",
    }[what]
    inner.rename(tmp_path / "moved")
    inner.symlink_to(tmp_path / "moved")
    refused(
        path,
        r"is a link to .*moved; if you trust who made it, allow links: allow_links=True, "
        "or --allow-links",
    )
    xr.testing.assert_identical(use(path, allow_links=True), dataset())
    assert main(["info", str(path)]) == 2
    assert main(["info", str(path), "--allow-links"]) == 0


def test_a_link_to_the_store_itself_is_what_a_user_named(tmp_path):
    (tmp_path / "link").symlink_to(store(tmp_path))
    xr.testing.assert_identical(use(tmp_path / "link"), dataset())


def test_links_of_hdf5(tmp_path):
    other = netcdf(tmp_path)
    (tmp_path / "secret").write_bytes(b"secret" * 20)
    for kind in ("external link", "external storage", "virtual"):
        path = tmp_path / f"{kind}.nc"
        shutil.copy(other, path)
        with h5py.File(path, "a") as file:
            if kind == "external link":
                file["hidden"] = h5py.ExternalLink(other.name, "/sst")
            elif kind == "external storage":
                outside = [(str(tmp_path / "secret"), 0, 120)]
                file.create_dataset("hidden", shape=(4, 5, 6), dtype="u1", external=outside)
            else:
                layout = h5py.VirtualLayout(shape=(4, 5, 6), dtype="f4")
                layout[...] = h5py.VirtualSource(str(other), "sst", shape=(4, 5, 6))
                file.create_virtual_dataset("hidden", layout)
        refused(
            path, r"'hidden' in it is a link to another file, .*allow_links=True, or --allow-links"
        )
        assert "hidden" in use(path, allow_links=True)


# --- sizes


def test_declared_sizes_are_checked_before_anything_is_made(tmp_path):
    for zarr_format, mark in ((2, ".zarray"), (3, "zarr.json")):
        cases: dict[str, tuple[str, dict[str, Any]]] = {
            "coordinate 'time' of 1000000000 values": ("time", {"shape": [10**9]}),
            "in 1000000000 chunks|one chunk of": (
                "sst",
                {"shape": [10**9, 5, 6], "chunks": [1, 5, 6]},
            ),
            "one chunk of 'sst'": ("sst", {"shape": [4, 5, 6], "chunks": [10**9, 5, 6]}),
            "declares 1000000x1000x1000 values.*are stored": (
                "sst",
                {"shape": [10**6, 1000, 1000], "chunks": [1000, 200, 200]},
            ),
            r"shape \[4, -5, 6\]|has shape": ("sst", {"shape": [4, -5, 6], "chunks": [4, 5, 6]}),
            "whole numbers, 1 or more": ("sst", {"shape": [4, 5, 6], "chunks": [0, 5, 6]}),
            "whole numbers, 0 or more": ("sst", {"shape": [4, 5.5, 6], "chunks": [4, 5, 6]}),
            "mend its metadata": ("sst", {"shape": [4, 5, 6], "chunks": [4, 5]}),
        }
        for message, (name, sizes) in cases.items():
            path = store(tmp_path, zarr_format)

            def mend(
                held: dict[str, Any], sizes: dict[str, Any] = sizes, version: int = zarr_format
            ) -> None:
                held["shape"] = sizes["shape"]
                if version == 2:
                    held["chunks"] = sizes.get("chunks", held["chunks"])
                elif "chunks" in sizes:
                    held["chunk_grid"]["configuration"]["chunk_shape"] = sizes["chunks"]

            change(path / name / mark, mend)
            refused(path, message)
            shutil.rmtree(path)


def test_sizes_of_netcdf(tmp_path, monkeypatch):
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", 10**9)
        file.createVariable("time", "f8", ("time",), chunksizes=(10**6,))
    refused(path, "coordinate 'time' of 1000000000 values needs 64.0 GB")
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", 10**6), ("lat", 1000), ("lon", 1000)):
            file.createDimension(name, size)
        file.createVariable("sst", "f4", ("time", "lat", "lon"), chunksizes=(100, 100, 100))
    refused(path, "'sst' declares 1000000x1000x1000 values, 4,000 GB, and 0.0 MB are stored")
    monkeypatch.setattr(declared, "memory", lambda: 300)
    refused(netcdf(tmp_path), "needs 0.0 GB of memory")


def test_a_classic_file_with_a_hole_in_it(tmp_path):
    """A terabyte of nothing takes no room on the disk, and is what the header says."""
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as file:
        file.set_fill_off()
        file.createDimension("time", 10**10)
        file.createVariable("time", "f8", ("time",))
    os.truncate(path, path.stat().st_size + 8 * 10**10)
    refused(path, "coordinate 'time' of 10000000000 values")


def test_images_and_masked_fields_that_memory_cannot_hold(tmp_path, monkeypatch):
    ds = dataset()
    ds["sst"].attrs["valid_max"] = np.float32(100)
    ds.to_netcdf(tmp_path / "a.nc")
    monkeypatch.setattr(declared, "memory", lambda: 600)
    with io.open(tmp_path / "a.nc", chunks={}) as lazy:
        assert lazy["sst"].chunks
    with pytest.raises(ReadError, match="'sst', whose missing values are masked"):
        io.open(tmp_path / "a.nc")
    monkeypatch.setattr(declared, "memory", lambda: 470)
    with pytest.raises(ReadError, match="one image of 'sst' needs"):
        io.open(tmp_path / "a.nc", chunks={})


@pytest.mark.parametrize("how", ["group", "root", "soft", "twice"])
def test_groups_that_hold_themselves(tmp_path, how):
    path = netcdf(tmp_path)
    with h5py.File(path, "a") as file:
        inner = file.create_group("a")
        if how == "group":
            inner["b"] = file["a"]
        elif how == "root":
            inner["b"] = file["/"]
        elif how == "soft":
            inner["b"] = h5py.SoftLink("/a")
        else:
            file["b"] = inner
    refused(path, "a group that is reached by several ways")


def test_archives_of_arrays_that_are_bombs(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, zeros=np.zeros(10**6), one=np.ones(3))
    with arrays.open_arrays(path) as held:
        assert set(held) == {"zeros", "one"} and held["one"].sum() == 3
    monkeypatch.setattr(declared, "memory", lambda: 10**6)
    with (
        pytest.raises(ReadError, match=r"a\.npz: unpacking it needs 0\.0 GB"),
        arrays.open_arrays(path),
    ):
        pass
    monkeypatch.undo()
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as stream:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(stream, header)
    with (
        pytest.raises(ReadError, match=r"x\.npy declares 8,000,000\.0 MB"),
        arrays.open_arrays(path),
    ):
        pass
    for damage in (b"", b"PK\x03\x04", os.urandom(100)):
        path.write_bytes(damage)
        with pytest.raises(ReadError, match=r"a\.npz"), arrays.open_arrays(path):
            pass


@pytest.mark.parametrize("shape", [(10**12,), (3, -1), (2**63, 2)])
def test_headers_of_arrays_with_huge_shapes(tmp_path, shape):
    path = tmp_path / "a.npy"
    with path.open("wb") as stream:
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(bytes(80))
    with pytest.raises(ReadError, match=r"cannot read .*a\.npy"):
        occlusion.lwp_series(path)


def test_objects_in_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    with pytest.raises(ReadError, match="object"):
        arrays.map_array(tmp_path / "a.npy")


# --- types


@pytest.mark.parametrize("dtype", ["f2", "longdouble"])
def test_floats_that_kill_netcdf4(tmp_path, dtype):
    path = netcdf(tmp_path)
    with h5py.File(path, "a") as file:
        file["half"] = np.zeros((4, 5, 6), dtype)
    refused(path, "'half' holds floats of (16|128) bits.*store it as float32 or float64")


def test_half_floats_of_zarr_are_read(tmp_path):
    dataset().astype("f2").to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    assert use(tmp_path / "a.zarr")["sst"].dtype == np.float16


UNUSUAL: dict[str, Any] = {
    "compound": np.zeros(3, [("a", "i4"), ("b", "f4")]),
    "opaque": np.zeros(3, "V5"),
    "bool": np.zeros(3, bool),
    "complex": np.zeros(3, complex),
    "text": np.array([b"abc"] * 3),
}
KINDS = {
    "vlen": h5py.vlen_dtype("i4"),
    "enum": h5py.enum_dtype({"A": 1}, "i4"),
    "reference": h5py.ref_dtype,
    "string": h5py.string_dtype(),
}


@pytest.mark.parametrize("name", [*UNUSUAL, *KINDS])
def test_other_types_do_no_harm(tmp_path, name):
    path = netcdf(tmp_path)
    with h5py.File(path, "a") as file:
        if name in UNUSUAL:
            file["odd"] = UNUSUAL[name]
        else:
            file.create_dataset("odd", (3,), dtype=KINDS[name])
    with contextlib.suppress(SstfillError):
        assert "sst" in use(path)


def test_texts_where_numbers_belong(tmp_path):
    for name in ("time", "lat"):
        path = netcdf(tmp_path)
        with h5py.File(path, "a") as file:
            del file[name]
            file[name] = np.array([b"abc"] * 5)
        with contextlib.suppress(SstfillError):
            use(path)


# --- packing


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC", 2, 3])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale_factor", 0.0),
        ("scale_factor", np.nan),
        ("scale_factor", "abc"),
        ("add_offset", 0.0),
        ("add_offset", np.inf),
        ("add_offset", [1.0, 2.0]),
    ],
)
def test_packings_that_mean_nothing(tmp_path, kind, key, value):
    ds = dataset()
    ds["sst"] = ds["sst"].fillna(0).astype("i2").assign_attrs({key: value})
    path = tmp_path / "a"
    if isinstance(kind, int):
        ds.to_zarr(path, zarr_format=kind, consolidated=False)
    else:
        ds.to_netcdf(path, format=kind, engine="netcdf4")
    if key == "add_offset" and value == 0:
        assert "sst" in use(path)
    else:
        refused(
            path,
            f"{key} of 'sst' is .*, by which no value can be unpacked; set the attribute right",
        )


# --- what is no file


@pytest.mark.parametrize("way", ["itself", "linked", "in a store"])
def test_pipes_sockets_and_devices_are_never_opened(tmp_path, way):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = pipe
    if way == "linked":
        path = tmp_path / "link"
        path.symlink_to(pipe)
    elif way == "in a store":
        path = store(tmp_path)
        (path / "sst" / "0.0.0").unlink()
        os.mkfifo(path / "sst" / "0.0.0")
    refused(path, "a named pipe|is no file")
    if way != "in a store":
        for opened in (arrays.map_array, occlusion.lwp_series):
            with pytest.raises(ReadError, match="a named pipe"):
                opened(path)
        with pytest.raises(ReadError, match="a named pipe"), arrays.open_arrays(path):
            pass
        with pytest.raises(ReadError, match="a named pipe"), guard.open_video(path):
            pass
        with pytest.raises(ReadError, match="a named pipe"), guard.open_netcdf(path):
            pass


def test_sockets_and_devices(tmp_path):
    refused(Path("/dev/zero"), "it is a device, not a file")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "s"))
        refused(tmp_path / "s", "it is a socket")


@pytest.mark.parametrize(
    "name",
    [
        "~nouser/a.nc",
        "a\0b.nc",
        "x" * 5000,
        os.fsdecode(b"\xff\xfe.nc"),
        "a\x1b[2J.nc",
        "a\nb.nc",
        "loop",
    ],
)
def test_odd_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(ReadError, match="cannot read") as caught:
        io.open(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["~root", os.fsdecode(b"\xff\xfe.nc"), "a\x1b[2J.nc"])
def test_odd_names_of_files_that_are_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(netcdf(tmp_path), name)
    with contextlib.suppress(ReadError):  # netCDF4 takes no names that are not UTF-8
        xr.testing.assert_identical(use(Path(name)), dataset())


# --- warnings, and whose fault it was


def test_no_warnings_of_the_libraries(tmp_path):
    path = store(tmp_path, 3)
    (path / "notes.txt").write_text("mine")
    (path / "folder").mkdir()
    (path / "folder" / "more.txt").write_text("mine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(path)
    ds = dataset()
    ds["sst"].attrs |= {"_FillValue": np.float32(1e20), "missing_value": np.float64(-9999.5)}
    ds.to_netcdf(tmp_path / "fills.nc")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(tmp_path / "fills.nc")


def test_whatever_fails_while_opening_is_one_line():
    for error in (
        TypeError("a\nb"),
        KeyError("x"),
        RecursionError("deep"),
        MemoryError(),
        AttributeError("\x1b[2J"),
    ):
        with (
            pytest.raises(ReadError, match="cannot read here: ") as caught,
            error_origin.opening("here"),
        ):
            raise error
        assert str(caught.value).isprintable()


def test_our_own_mistakes_stay_what_they_are_while_reading(tmp_path):
    path = store(tmp_path)
    with (
        pytest.raises(TypeError, match="ours"),
        error_origin.reading(path),
        io.open(path, chunks={}) as ds,
    ):

        def ours(block: np.ndarray) -> np.ndarray:
            raise TypeError("ours")

        xr.apply_ufunc(ours, ds["sst"], dask="parallelized", output_dtypes=["f4"]).compute(
            scheduler="synchronous"
        )


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("made", [store, netcdf])
def test_damage_that_shows_while_reading(tmp_path, made, scheduler):
    path = made(tmp_path)
    with error_origin.reading(path), io.open(path, chunks={}) as ds:
        if path.is_dir():
            (path / "sst" / "0.0.0").write_bytes(b"\x00" * 30)
        else:
            with netCDF4.Dataset(path) as raw, pytest.raises(IndexError) as caught:
                raw["sst"][100]
            assert error_origin.from_backend(caught.value)
            return
        with pytest.raises(ReadError, match="damaged or cut short"), error_origin.reading(path):
            ds["sst"].compute(scheduler=scheduler)


def test_a_playlist_is_no_video(tmp_path):
    pytest.importorskip("av")
    secret = tmp_path / "secret.ts"
    secret.write_bytes(b"G" + bytes(187))
    path = tmp_path / "a.mp4"
    path.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(ReadError, match="cannot decode"), guard.open_video(path) as container:
        next(container.decode(video=0))


def test_no_place_opens_a_store_or_file_by_itself():
    """All but the guard go through it; writers make stores, which is another matter."""
    package = Path(sstfill.__file__).parent
    calls = (
        "xr.open_",
        "zarr.open",
        "netCDF4.Dataset(",
        "np.load(",
        "h5py.File(",
        "av.open(",
        "loadmat(",
    )
    found = [
        f"{file.relative_to(package)}: {line.strip()}"
        for file in sorted(package.rglob("*.py"))
        if file.relative_to(package).parts[0] != "io"
        for line in file.read_text().splitlines()
        if any(call in line for call in calls) and "guard." not in line and "`" not in line
    ]
    assert not found


def test_h5py_is_loaded_for_hdf5_only(tmp_path, quick_workers):
    code = f"import sys; from sstfill import io; io.open({str(store(tmp_path))!r})\n"
    assert forked(exec, code + "assert 'h5py' not in sys.modules", {}) == 0
    assert forked(exec, code + "assert 'zarr' not in sys.modules", {}) == 1


# --- tampered metadata: a dataset or one line, whatever a field says

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, -1, 1, 2, 7, 2**31, 2**63, 10**12, 10**30, 0.0, 1e308, float("nan"), float("inf")]
    ),
    st.sampled_from(
        [
            "",
            "abc",
            "<f2",
            "|O",
            "|V8",
            "<U9",
            "<M8[ns]",
            "\x1b[2J",
            "../x",
            "days since never",
            "x" * 999,
        ]
    ),
    st.sampled_from(
        [
            "float16",
            "string",
            "zlib",
            "pickle",
            "gregorian",
            "2",
            "time",
            "seconds since 1970-01-01",
        ]
    ),
    st.lists(st.one_of(st.integers(-2, 2**40), st.text(max_size=3), st.none()), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)
SOME = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def places(held: object, prefix: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The way to each field of a JSON document."""
    found: list[tuple[object, ...]] = []
    items: Any = (
        held.items()
        if isinstance(held, dict)
        else enumerate(held)
        if isinstance(held, list)
        else ()
    )
    for key, value in items:
        found += [(*prefix, key), *places(value, (*prefix, key))]
    return found


def tampered(held: Any, way: tuple[Any, ...], value: object, remove: bool) -> None:
    for key in way[:-1]:
        held = held[key]
    if remove:
        del held[way[-1]]
    else:
        held[way[-1]] = value


def survives(path: Path) -> None:
    """A dataset, or one line."""
    try:
        use(path)
    except SstfillError as error:
        assert printable(str(error)) == str(error) and len(str(error)) < 1000


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A sound store of each kind: ``v2.zarr`` and ``v3.zarr``, consolidated or not."""
    folders = {}
    for consolidated in (False, True):
        folders[consolidated] = tmp_path_factory.mktemp("stores")
        for zarr_format in (2, 3):
            store(folders[consolidated], zarr_format, consolidated=consolidated)
    return folders


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
@given(data=st.data(), value=VALUES, remove=st.booleans())
@settings(SOME, max_examples=10)
def test_tampered_zarr(tmp_path, stores, zarr_format, consolidated, data, value, remove):
    path = tmp_path / f"v{zarr_format}.zarr"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(stores[consolidated] / path.name, path)
    files = sorted(p for p in path.rglob("*") if p.name in guard.MARKS)
    file = data.draw(st.sampled_from(files))
    ways = places(json.loads(file.read_text())) or [("x",)]
    way = data.draw(st.sampled_from(ways))
    change(file, lambda held: tampered(held, way, value, remove and way != ("x",)))
    survives(path)


@given(name=st.sampled_from(["sst", "time", "lat", "lon"]), value=VALUES, data=st.data())
@SOME
def test_tampered_attributes_of_hdf5(tmp_path, name, value, data):
    path = netcdf(tmp_path)
    keys = [
        "units",
        "calendar",
        "scale_factor",
        "add_offset",
        "_FillValue",
        "missing_value",
        "valid_range",
    ]
    keys += [
        "valid_min",
        "coordinates",
        "grid_mapping",
        "flag_meanings",
        "standard_name",
        "dtype",
        "_Unsigned",
    ]
    key = data.draw(
        st.sampled_from(
            [*keys, "DIMENSION_LIST", "CLASS", "NAME", "_Netcdf4Dimid", "REFERENCE_LIST"]
        )
    )
    with (
        h5py.File(path, "a") as file,
        contextlib.suppress(KeyError, TypeError, ValueError, OSError, OverflowError),
    ):
        del file[name].attrs[key]
    with (
        h5py.File(path, "a") as file,
        contextlib.suppress(KeyError, TypeError, ValueError, OSError, OverflowError),
    ):
        file[name].attrs[key] = value
    survives(path)


@given(
    at=st.floats(0, 1),
    byte=st.binary(min_size=1, max_size=4),
    kind=st.sampled_from(["CLASSIC", "64BIT_DATA"]),
)
@SOME
def test_tampered_bytes_of_classic_netcdf(tmp_path, at, byte, kind):
    path = netcdf(tmp_path, f"NETCDF3_{kind}")
    content = bytearray(path.read_bytes())
    start = int(at * (len(content) - len(byte)))
    content[start : start + len(byte)] = byte
    path.write_bytes(content)
    survives(path)


def test_a_classic_header_that_promises_no_end(tmp_path):
    path = netcdf(tmp_path, "NETCDF3_64BIT_DATA")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">Q", 2**62)
    path.write_bytes(content)
    refused(path, "its header is cut short or damaged")


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_that_is_cut_short_is_never_read_as_values(tmp_path, zarr_format, keep):
    """Blosc decodes what lies in memory beyond the end of such a chunk, and raises nothing."""
    from zarr.codecs import BloscCodec

    how = {} if zarr_format == 2 else {"compressors": BloscCodec()}  # it is the default of Zarr 2
    path = tmp_path / "a.zarr"
    values = np.random.default_rng(0).normal(size=(4, 6, 5))
    ds = xr.Dataset({"sst": (("time", "lat", "lon"), values)}, {"time": np.arange(4)})
    ds.to_zarr(path, zarr_format=zarr_format, consolidated=False, encoding={"sst": how})
    with io.open(path) as whole:
        np.testing.assert_array_equal(whole["sst"], values)
    chunk = max(
        (file for file in (path / "sst").rglob("*") if file.is_file()),
        key=lambda file: file.stat().st_size,
    )
    content = chunk.read_bytes()
    chunk.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(
        ReadError, match=r"bytes, its header declares \d+; it is damaged, fetch it again"
    ):
        io.open(path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system lists no open files")
def test_a_file_that_fails_while_it_is_opened_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("lat", 50)
        latitude = file.createVariable("lat", "f8", ("lat",), zlib=True, chunksizes=(50,))
        latitude[:] = np.linspace(35, 36, 50)
    with h5py.File(path) as file:
        chunk = file["lat"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    with pytest.raises(ReadError, match="HDF error") as raised:
        io.open(path)
    assert raised.value.__cause__ is not None  # the traceback lives, and the file is closed
    held = [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]
    assert path.resolve() not in held


@pytest.mark.parametrize("number", [2**31 - 1, 2**63 - 1, -1])
def test_a_dimension_number_that_ends_the_process_is_refused(tmp_path: Path, number: int) -> None:
    path = netcdf(tmp_path)
    with h5py.File(path, "a") as file:
        scale = next(d for d in file.values() if "_Netcdf4Dimid" in d.attrs)
        scale.attrs["_Netcdf4Dimid"] = np.int64(number)
    refused(path, f"{number}")


@pytest.mark.parametrize("value", [[], 0, "abc", [1.0, 2.0, 3.0]])
def test_a_list_of_dimensions_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    path = netcdf(tmp_path)
    with h5py.File(path, "a") as file:
        del file["sst"].attrs["DIMENSION_LIST"]
        file["sst"].attrs["DIMENSION_LIST"] = value
    refused(path, "DIMENSION_LIST")
