# SPDX-License-Identifier: Apache-2.0
"""Inputs that are damaged, tampered with or hostile: NetCDF 3 and 4, Zarr v2 and v3, and what is
none of these.
"""

from __future__ import annotations

import base64
import json
import math
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from attack_yard import SECRET, Case, Words

SHAPE = (12, 10, 14)
FILES = ("deflated.nc", "plain.nc", "packed.nc", "classic.nc")
STORES = ("v2.zarr", "v2_consolidated.zarr", "v3.zarr", "v3_consolidated.zarr")
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    3,
    2**31,
    2**63,
    10**9,
    10**12,
    10**30,
    -(10**9),
    0.5,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    "",
    "abc",
    "\x1b[31mred",
    "a\nb",
    "nul\x00",
    "é" * 300,
    "1e9",
    "NaN",
    "<f2",
    "|O",
    "<U9",
    "|V8",
    ">i8",
    "<M8[ns]",
    "float16",
    "complex128",
    "pickle",
    "days since 0000-00-00",
    "parsecs",
    [],
    [0],
    [-1],
    [10**9] * 3,
    [None],
    ["a"],
    {},
    {"a": 1},
    {"id": "pickle"},
    {"id": "zlib", "level": 99},
    {"name": "nonesuch"},
    [[[[]]]],
)
"""What is put in the place of a value of the metadata."""
TEXTS = {
    "empty": b"",
    "not JSON": b"{not json",
    "an array": b"[]",
    "a number": b"7",
    "nested 100,000 deep": b"[" * 100_000,
    "a number of 5,000 digits": b'{"shape": [' + b"9" * 5000 + b"]}",
    "UTF-16": '{"zarr_format": 2}'.encode("utf-16"),
    "bytes that are no text": bytes(range(128, 256)),
    "zeros": bytes(400),
}
"""What is put in the place of a whole metadata file."""

CALL = b"__import__('pathlib').Path('sentinel-npy').touch()"

Mend = Callable[[Path, random.Random], object]


class Payload:
    """Pickled and loaded, it makes an empty file in the working directory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sentinel-code-ran"),)


def series(shape: tuple[int, int, int] = SHAPE, seed: int = 1) -> xr.Dataset:
    """A small cloudy series with land."""
    rng = np.random.default_rng(seed)
    times, ny, nx = shape
    warm = 15 + np.linspace(-2, 2, ny)[:, None] + np.zeros(nx)
    waves = np.cumsum(rng.normal(size=(times, 1, 1)), axis=0) * 0.1
    values = (warm + waves + 0.05 * rng.normal(size=shape)).astype(np.float32)
    values[rng.random(shape) < 0.3] = np.nan
    values[:, :2, :2] = np.nan
    time = np.datetime64("2020-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D")
    coords = {"time": time, "lat": np.linspace(36.0, 38.0, ny), "lon": np.linspace(-5.0, -2.0, nx)}
    attrs = {"units": "degrees_C", "standard_name": "sea_surface_temperature"}
    return xr.Dataset({"sst": (("time", "lat", "lon"), values, attrs)}, coords)


def make_bases(home: Path) -> None:
    """Write the sound inputs that the cases begin with."""
    home.mkdir()
    ds = series()
    packed = {"dtype": "int16", "scale_factor": 0.001, "add_offset": 15.0, "_FillValue": -32768}
    ds.to_netcdf(home / "deflated.nc", encoding={"sst": {"zlib": True, "chunksizes": (4, 5, 7)}})
    ds.to_netcdf(home / "plain.nc", encoding={"sst": {"contiguous": True}})
    ds.to_netcdf(home / "packed.nc", encoding={"sst": packed})
    ds.to_netcdf(home / "classic.nc", format="NETCDF3_CLASSIC")
    for name in STORES:
        version = int(name[1])
        encoding: dict[str, Any] = {"chunks": (4, 5, 7)}
        if name == "v2.zarr":
            encoding["compressors"] = None
        ds.to_zarr(
            home / name,
            zarr_format=version,
            consolidated="consolidated" in name,
            encoding={"sst": encoding},
        )


def both(name: str, *more: str) -> list[Words]:
    """Look at an input, and fill it."""
    return [
        ["info", name, *more],
        ["fill", name, "--out", "out.nc", "--method", "interpolate", *more],
    ]


def copied(home: Path, base: str, folder: Path) -> Path:
    """Lay a sound input into a folder as ``in.nc`` or ``in.zarr``."""
    target = folder / f"in{Path(base).suffix}"
    if target.suffix == ".zarr":
        shutil.copytree(home / base, target)
    else:
        shutil.copy(home / base, target)
    return target


def altered(home: Path, base: str, name: str, mend: Mend, *, refused: bool = False) -> Case:
    """A case: a sound input to which something is done."""

    def arrange(folder: Path, rng: random.Random) -> list[Words]:
        target = copied(home, base, folder)
        (folder / "notes.txt").write_text("mine")
        mend(target, rng)
        return both(target.name)

    return Case(f"{base}: {name}", arrange, refused=refused)


def cases(home: Path, rng: random.Random) -> Iterator[Case]:
    """All of them."""
    yield from damaged_files(home)
    yield from damaged_stores(home)
    yield from tampered_metadata(home)
    yield from hostile_metadata(home)
    yield from odd_chunks(home)
    yield from odd_attributes(home)
    yield from hdf5(home)
    yield from no_data(home)


# Bytes


def flip(path: Path, rng: random.Random, count: int = 1, within: int | None = None) -> None:
    """Change bytes of a file, of its first `within` bytes where that is given."""
    content = bytearray(path.read_bytes())
    if not content:
        return
    for _ in range(count):
        content[rng.randrange(min(len(content), within or len(content)))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, rng: random.Random) -> None:
    """Cut a file short."""
    os.truncate(path, rng.randrange(path.stat().st_size))


def blot(path: Path, rng: random.Random) -> None:
    """Overwrite a stretch of a file with one byte, or with random ones."""
    content = bytearray(path.read_bytes())
    length = min(len(content), rng.choice([4, 16, 64, 512]))
    start = rng.randrange(len(content) - length + 1)
    content[start : start + length] = rng.choice(
        [bytes(length), b"\xff" * length, rng.randbytes(length)]
    )
    path.write_bytes(content)


def swap_number(path: Path, rng: random.Random) -> None:
    """Put an extreme number in the place of four bytes of a header."""
    content = bytearray(path.read_bytes())
    at = 4 * rng.randrange(1, 60)
    content[at : at + 4] = struct.pack(">I", rng.choice([0, 1, 10**9, 2**31 - 1, 2**31, 2**32 - 1]))
    path.write_bytes(content)


def move_part(path: Path, rng: random.Random) -> None:
    """Remove a stretch of a file, so that all behind it moves."""
    content = path.read_bytes()
    start = rng.randrange(len(content))
    path.write_bytes(content[:start] + content[start + rng.choice([1, 8, 100]) :])


def damaged_files(home: Path) -> Iterator[Case]:
    """NetCDF files with bytes that are wrong, gone or moved."""
    for base in FILES:
        for k in range(6):
            yield altered(home, base, "byte flips", partial(flip, count=(1, 3, 20)[k % 3]))
            yield altered(
                home,
                base,
                "byte flips in the header",
                partial(flip, count=(1, 4)[k % 2], within=2000),
            )
        for _ in range(4):
            yield altered(home, base, "cut short", truncate)
            yield altered(home, base, "blotted", blot)
        for _ in range(3):
            yield altered(home, base, "a stretch removed", move_part)
    for _ in range(12):
        yield altered(home, "classic.nc", "an extreme number in the header", swap_number)


def members(store: Path, metadata: bool) -> list[Path]:
    """The metadata files of a store, or all others, in a fixed order."""
    files = sorted(path for path in store.rglob("*") if path.is_file())
    return [path for path in files if is_metadata(path) == metadata]


def is_metadata(path: Path) -> bool:
    """Whether a file of a store is JSON that describes it."""
    return path.name.startswith(".z") or path.name == "zarr.json"


def of_one(act: Mend, metadata: bool) -> Mend:
    """Do something to one file of a store."""
    return lambda store, rng: act(rng.choice(members(store, metadata)), rng)


def damaged_stores(home: Path) -> Iterator[Case]:
    """Zarr stores with a chunk or a metadata file that is damaged or gone."""
    for base in STORES:
        for _ in range(3):
            yield altered(
                home, base, "byte flips in the metadata", of_one(partial(flip, count=2), True)
            )
            yield altered(
                home, base, "byte flips in a chunk", of_one(partial(flip, count=2), False)
            )
            yield altered(home, base, "a chunk cut short", of_one(truncate, False))
        yield altered(home, base, "metadata cut short", of_one(truncate, True))
        yield altered(
            home, base, "a metadata file gone", of_one(lambda path, rng: path.unlink(), True)
        )
        yield altered(home, base, "a chunk gone", of_one(lambda path, rng: path.unlink(), False))


# Metadata of Zarr


def places(tree: Any) -> list[tuple[Any, Any]]:
    """All (container, key) of a JSON tree."""
    found: list[tuple[Any, Any]] = []
    inner = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in inner:
        found += [(tree, key), *places(value)]
    return found


def tamper(path: Path, rng: random.Random) -> None:
    """Put odd values in the place of one or two of a JSON file, or leave a key out."""
    tree = json.loads(path.read_text())
    for _ in range(rng.choice([1, 1, 2])):
        if not (found := places(tree)):
            return
        container, key = rng.choice(found)
        if rng.random() < 0.15 and isinstance(container, dict):
            del container[key]
        else:
            container[key] = rng.choice(ODD)
    path.write_text(json.dumps(tree))


def tampered_metadata(home: Path) -> Iterator[Case]:
    """Valid JSON that says something odd; and files that are no JSON."""
    for base in STORES:
        for _ in range(14):
            yield altered(home, base, "an odd value in the metadata", of_one(tamper, True))
        for name, text in TEXTS.items():
            yield altered(
                home, base, f"metadata that is {name}", of_one(partial(overwrite, text=text), True)
            )


def overwrite(path: Path, rng: random.Random, text: bytes) -> None:
    """Put a text in the place of a file."""
    path.write_bytes(text)


def array(store: Path, name: str = "sst") -> Path:
    """The metadata file of an array of a store."""
    return next(
        path for path in (store / name / ".zarray", store / name / "zarr.json") if path.exists()
    )


def edit(
    store: Path, rng: random.Random, change: Callable[[dict[str, Any]], object], name: str = "sst"
) -> None:
    """Change the metadata of an array, in the consolidated copy too."""
    file = array(store, name)
    tree = json.loads(file.read_text())
    change(tree)
    file.write_text(json.dumps(tree))
    if (whole := store / ".zmetadata").exists():
        copy = json.loads(whole.read_text())
        change(copy["metadata"][f"{name}/.zarray"])
        whole.write_text(json.dumps(copy))
    elif file.name == "zarr.json":
        root = json.loads((store / "zarr.json").read_text())
        if root.get("consolidated_metadata"):
            change(root["consolidated_metadata"]["metadata"][name])
            (store / "zarr.json").write_text(json.dumps(root))


def first_chunk(store: Path, name: str = "sst") -> Path:
    """A chunk of an array of a store."""
    return next(
        path
        for path in sorted((store / name).rglob("*"))
        if path.is_file() and not is_metadata(path)
    )


def settings(base: str) -> dict[str, Callable[[dict[str, Any]], object]]:
    """What is said of an array that nobody should believe, by name."""

    def put(**values: Any) -> Callable[[dict[str, Any]], object]:
        return lambda tree: tree.update(values)

    def grid(*sizes: int) -> Callable[[dict[str, Any]], object]:
        if base.startswith("v2"):
            return put(chunks=list(sizes))
        return lambda tree: tree["chunk_grid"]["configuration"].update(chunk_shape=list(sizes))

    def together(
        *changes: Callable[[dict[str, Any]], object],
    ) -> Callable[[dict[str, Any]], object]:
        return lambda tree: [change(tree) for change in changes]

    many, huge = 10**9, 10**12
    return {
        "10^9 steps": put(shape=[many, 10, 14]),
        "10^12 steps": put(shape=[huge, 10, 14]),
        "10^12 elements in one chunk": together(put(shape=[10**4] * 3), grid(*[10**4] * 3)),
        "a chunk of gigabytes": grid(4, 30_000, 30_000),
        "chunks of 0": grid(0, 0, 0),
        "chunks of -1": grid(-1, 5, 7),
        "two dimensions of chunks": grid(5, 7),
        "sizes of 10^30": put(shape=[10**30] * 3),
        "a negative size": put(shape=[-12, 10, 14]),
    }


def hostile_metadata(home: Path) -> Iterator[Case]:
    """Sizes, codecs and types that were chosen to do harm."""
    for base in STORES:
        for name, change in settings(base).items():
            yield altered(home, base, name, partial(edit, change=change))
    for base in STORES[:2]:
        yield altered(
            home,
            base,
            "the codec pickle as a compressor",
            partial(pickled, key="compressor"),
            refused=True,
        )
        yield altered(
            home,
            base,
            "the codec pickle as a filter",
            partial(pickled, key="filters"),
            refused=True,
        )
        yield altered(
            home,
            base,
            "the codec pickle of a coordinate",
            partial(pickled, key="filters", name="lat"),
        )
        for codec in (
            "msgpack2",
            "json2",
            "vlen-bytes",
            "categorize",
            "lzma",
            "bz2",
            "nonesuch",
            "../zlib",
        ):
            change = partial(_set, "compressor", {"id": codec})
            yield altered(home, base, f"the codec {codec}", partial(edit, change=change))
    for base in STORES[2:]:
        for codec in (
            "numcodecs.pickle",
            "pickle",
            "numcodecs.zlib",
            "nonesuch",
            "transpose",
            "sharding_indexed",
        ):
            change = partial(_codec, codec)
            yield altered(home, base, f"the codec {codec}", partial(edit, change=change))
    for base in STORES:
        for dtype in (
            "|O",
            "<f2",
            "float16",
            "<c16",
            "<U1000000",
            "|V16",
            "r16",
            "string",
            "bool",
            [["a", "<f4"]],
        ):
            change = partial(_set, "dtype" if base.startswith("v2") else "data_type", dtype)
            yield altered(home, base, f"the type {dtype}", partial(edit, change=change))


def _set(key: str, value: Any, tree: dict[str, Any]) -> None:
    tree[key] = value


def _codec(name: str, tree: dict[str, Any]) -> None:
    tree["codecs"].append({"name": name, "configuration": {}})


def pickled(store: Path, rng: random.Random, key: str, name: str = "sst") -> None:
    """Let chunks be pickles that make a file when they are loaded."""
    codec = {"id": "pickle", "protocol": 5}
    edit(store, rng, partial(_set, key, [codec] if key == "filters" else codec), name)
    if key == "filters":
        edit(store, rng, partial(_set, "compressor", None), name)
    for path in (store / name).iterdir():
        if not is_metadata(path):
            path.write_bytes(pickle.dumps(Payload()))


# Chunks that are no files of the store


def odd_chunks(home: Path) -> Iterator[Case]:
    """Chunks, metadata and whole stores that are links, pipes, devices, folders."""
    for base in ("v2.zarr", "v3.zarr"):
        yield altered(home, base, "a chunk that links to a secret", secret_chunk)
        yield altered(
            home, base, "a chunk that is a hard link to a secret", partial(secret_chunk, hard=True)
        )
        yield altered(home, base, "an array that links to a folder outside", secret_array)
        for name, make in (
            ("a pipe", pipe),
            ("/dev/zero", zeros),
            ("a link to itself", loop),
            ("a folder", folder_in),
        ):
            yield altered(
                home,
                base,
                f"a chunk that is {name}",
                partial(_replace, make=make, part=first_chunk),
            )
            yield altered(
                home, base, f"metadata that is {name}", partial(_replace, make=make, part=array)
            )
    for name, make in (
        ("a pipe", pipe),
        ("/dev/zero", zeros),
        ("a link to itself", loop),
        ("a folder", folder_in),
    ):
        yield altered(
            home,
            "deflated.nc",
            f"the input is {name}",
            partial(_replace, make=make, part=lambda path: path),
        )


def secret_chunk(store: Path, rng: random.Random, hard: bool = False) -> None:
    """Let a chunk be another file, whose numbers are a secret: uncompressed, so that they would
    pass.
    """
    secret = store.with_name("secret.bin")
    secret.write_bytes(np.full(4 * 5 * 7, SECRET, "<f4").tobytes())
    raw = [{"name": "bytes", "configuration": {"endian": "little"}}]
    key, value = ("compressor", None) if (store / ".zgroup").exists() else ("codecs", raw)
    edit(store, rng, partial(_set, key, value))
    chunk = first_chunk(store)
    for path in chunk.parent.rglob("*"):
        if path.is_file() and not is_metadata(path):
            path.write_bytes(np.full(4 * 5 * 7, 15.0, "<f4").tobytes())
    chunk.unlink()
    if hard:
        chunk.hardlink_to(
            secret
        )  # no program can tell: for the count of what is filled, not for a leak
        secret.write_bytes(np.full(4 * 5 * 7, 16.0, "<f4").tobytes())
    else:
        chunk.symlink_to("../" * len(chunk.parent.relative_to(store.parent).parts) + secret.name)


def secret_array(store: Path, rng: random.Random) -> None:
    """Let a whole array be a link to a folder outside of the store."""
    secret_chunk(store, rng)
    (store / "sst").rename(store.with_name("elsewhere"))
    (store / "sst").symlink_to("../elsewhere")


def _replace(
    path: Path, rng: random.Random, make: Callable[[Path], object], part: Callable[[Path], Path]
) -> None:
    victim = part(path)
    victim.unlink()
    make(victim)


def pipe(path: Path) -> None:
    """Make a named pipe."""
    os.mkfifo(path)


def zeros(path: Path) -> None:
    """Make a link to the device that never ends."""
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    """Make a link to itself."""
    path.symlink_to(path.name)


def folder_in(path: Path) -> None:
    """Make a folder."""
    path.mkdir()


# Attributes that decode values


def odd_attributes(home: Path) -> Iterator[Case]:
    """Packing, fill values, units and calendars that make no sense."""
    zero = {"scale_factor": 0.0}
    attributes: list[tuple[str, dict[str, Any], bool]] = [
        ("scale_factor of 0", zero, True),
        ("scale_factor of 1e-300", {"scale_factor": 1e-300}, False),
        ("scale_factor of 1e300", {"scale_factor": 1e300}, False),
        ("scale_factor that is text", {"scale_factor": "abc"}, False),
        ("two scale_factors", {"scale_factor": [1.0, 2.0]}, False),
        ("add_offset of 1e308", {"add_offset": 1e308}, False),
        ("two fill values", {"missing_value": [1.0, 2.0]}, False),
        ("a fill value that is text", {"missing_value": "abc"}, False),
        ("a valid range that is text", {"valid_range": "abc"}, False),
        ("a valid range of one", {"valid_range": [1.0]}, False),
        ("flags that do not match", {"flag_values": [1, 2], "flag_meanings": "a"}, False),
        ("coordinates that are a number", {"coordinates": 7}, False),
        ("ancillary variables that are not there", {"ancillary_variables": "nonesuch"}, False),
        ("a grid mapping that is a number", {"grid_mapping": 7}, False),
        (
            "units with escapes",
            {"units": "\x1b[31mred\x1b]0;title\x07", "long_name": "a\x1b[2Jb"},
            False,
        ),
        ("a long attribute", {"comment": "x" * 200_000}, False),
    ]
    times: list[dict[str, Any]] = [
        {"units": "days since 0000-00-00"},
        {"units": "parsecs since 2000-01-01"},
        {"units": "days since \x1b[31m"},
        {"units": "days since 99999-01-01"},
        {"calendar": "nonesuch"},
        {"calendar": "360_day"},
        {"calendar": 7},
        {"units": 7},
        {"units": "seconds since 1e400"},
        {"units": "days since 2000-01-01 +99:99"},
        {"scale_factor": 0.0},
        {"units": "months since 1970-01-01"},
        {"units": ""},
        {"units": "days since -290000-01-01"},
    ]
    for base in ("deflated.nc", "v2.zarr", "v3.zarr"):
        for name, attrs, refused in attributes:
            yield altered(home, base, name, partial(put_attributes, attrs=attrs), refused=refused)
        for attrs in times:
            name = f"times with {', '.join(f'{key} {value!r}' for key, value in attrs.items())}"
            yield altered(home, base, name, partial(put_attributes, attrs=attrs, name="time"))
    yield altered(
        home, "packed.nc", "scale_factor of 0", partial(put_attributes, attrs=zero), refused=True
    )


def put_attributes(
    path: Path, rng: random.Random, attrs: dict[str, Any], name: str = "sst"
) -> None:
    """Give a variable attributes, without a look at them."""
    if path.is_dir():
        own = path / name / ".zattrs"
        file = own if own.exists() else path / name / "zarr.json"
        tree = json.loads(file.read_text())
        (tree if file == own else tree["attributes"]).update(attrs)
        file.write_text(json.dumps(tree))
        return
    import netCDF4

    with netCDF4.Dataset(path, "a") as file_of_it:
        file_of_it[name].setncatts(attrs)


# What HDF5 permits


def hdf5(home: Path) -> Iterator[Case]:
    """HDF5 files that point elsewhere, into themselves, or have types that NetCDF does not know."""
    if find_spec("h5py") is None:
        print("left out: HDF5 files that point elsewhere, since h5py is not installed")
        return
    acts: dict[str, Mend] = {
        "external storage of a secret": external_storage,
        "an external link to a secret": external_link,
        "a virtual dataset of a secret": virtual,
        "a group that contains itself": lambda path, rng: _hdf5(
            path, lambda file: file.__setitem__("g/again", file["/"])
        ),
        "a soft link to itself": soft_loop,
        "10^9 steps, none stored": partial(declared, steps=10**9),
        "10^12 steps, none stored": partial(declared, steps=10**12),
        "one chunk of gigabytes": partial(declared, steps=40, size=5000, whole=True),
        "a filter that nobody has": unknown_filter,
        "5,000 groups": lambda path, rng: _hdf5(
            path, lambda f: [f.create_group(f"g{n}/h") for n in range(5000)]
        ),
    }
    for name, act in acts.items():
        yield altered(home, "deflated.nc", name, act)
    kinds: list[Any] = [
        "<f2",
        ">f2",
        "<c8",
        "S4",
        "V3",
        [("a", "<f4"), ("b", "<i8")],
        "bool",
        ">f8",
        "<i8",
        "<u1",
    ]
    for kind in kinds:
        for name in ("sst", "lat"):
            yield altered(
                home,
                "deflated.nc",
                f"{name} of type {kind}",
                partial(retyped, kind=kind, name=name),
            )


def _hdf5(path: Path, act: Callable[[Any], object]) -> None:
    import h5py

    with h5py.File(path, "a") as file:
        act(file)


def _again(
    file: Any, name: str, data: Any = None, shape: tuple[int, ...] | None = None, **how: Any
) -> None:
    """Make a variable anew, with the dimensions and attributes that it had."""
    old = file[name]
    scales = [file[d] for d in ("time", "lat", "lon")] if name == "sst" else []
    attrs = {
        k: v
        for k, v in old.attrs.items()
        if k not in ("DIMENSION_LIST", "_FillValue", "REFERENCE_LIST")
    }
    del file[name]
    made = file.create_dataset(name, shape, data=data, **how)
    for key, value in attrs.items():
        if key not in ("CLASS", "NAME", "_Netcdf4Coordinates", "_Netcdf4Dimid"):
            made.attrs[key] = value
    for k, scale in enumerate(scales):
        made.dims[k].attach_scale(scale)


def _secret(path: Path) -> Path:
    secret = path.with_name("secret.bin")
    secret.write_bytes(np.full(SHAPE, SECRET, "<f4").tobytes())
    return secret


def external_storage(path: Path, rng: random.Random) -> None:
    """Let values lie in another file."""
    secret = _secret(path)
    place = [(rng.choice([secret.name, str(secret)]), 0, secret.stat().st_size)]
    _hdf5(path, lambda file: _again(file, "sst", shape=SHAPE, dtype="<f4", external=place))


def _other(path: Path) -> Path:
    """Another NetCDF file, with secret values."""
    other = path.with_name("secret.nc")
    shutil.copy(path, other)
    _hdf5(other, lambda file: file["sst"].write_direct(np.full(SHAPE, SECRET, "<f4")))
    return other


def external_link(path: Path, rng: random.Random) -> None:
    """Let a variable be a link into another file."""
    import h5py

    other = _other(path)

    def act(file: Any) -> None:
        del file["sst"]
        file["sst"] = h5py.ExternalLink(rng.choice([other.name, str(other)]), "/sst")

    _hdf5(path, act)


def virtual(path: Path, rng: random.Random) -> None:
    """Let a variable be put together from another file."""
    import h5py

    other = _other(path)
    layout = h5py.VirtualLayout(SHAPE, "<f4")
    layout[:] = h5py.VirtualSource(str(other), "sst", shape=SHAPE)

    def act(file: Any) -> None:
        del file["sst"]
        made = file.create_virtual_dataset("sst", layout)
        for k, name in enumerate(("time", "lat", "lon")):
            made.dims[k].attach_scale(file[name])

    _hdf5(path, act)


def group_loop(path: Path, rng: random.Random) -> None:
    """Let a group contain itself."""
    _hdf5(path, lambda file: file.__setitem__("g/again", file["/"]))


def soft_loop(path: Path, rng: random.Random) -> None:
    """Let a name lead to itself."""
    import h5py

    _hdf5(path, lambda file: file.__setitem__("loop", h5py.SoftLink("/loop")))


def declared(
    path: Path, rng: random.Random, steps: int, size: int = 14, whole: bool = False
) -> None:
    """Let a file declare more than anybody has: chunks that are not there take no room."""
    import h5py

    chunks = (steps, size, size) if whole else (1, size, size)
    with h5py.File(path, "w") as file:
        for name, length in (("time", steps), ("lat", size), ("lon", size)):
            made = file.create_dataset(
                name, (length,), "<f8", chunks=(min(length, 1000),), compression="gzip"
            )
            made.make_scale(name)
        file["time"].attrs["units"] = "seconds since 1990-01-01"
        file["lat"][:], file["lon"][:] = np.linspace(30, 40, size), np.linspace(0, 10, size)
        sst = file.create_dataset(
            "sst", (steps, size, size), "<f4", chunks=chunks, compression="gzip"
        )
        for k, name in enumerate(("time", "lat", "lon")):
            sst.dims[k].attach_scale(file[name])


def unknown_filter(path: Path, rng: random.Random) -> None:
    """Let chunks be compressed by a filter that no library has: the number of one that has is
    changed.
    """
    content = path.read_bytes()
    made = content.replace(b"deflate\x00", b"nonesuch")
    path.write_bytes(made)


def retyped(path: Path, rng: random.Random, kind: Any, name: str) -> None:
    """Let a variable be of another type."""
    shape = SHAPE if name == "sst" else (SHAPE[1],)

    def act(file: Any) -> None:
        values = np.zeros(shape, kind)
        if values.dtype.kind in "fiuc":
            values = (np.arange(math.prod(shape)) % 50).reshape(shape).astype(kind)
        if name == "sst":
            _again(file, name, data=values)
        else:
            file.create_dataset("extra", data=np.zeros((3,), kind))

    _hdf5(path, act)


# What is no data at all


def no_data(home: Path) -> Iterator[Case]:
    """Files under a name that promises data."""
    contents = {
        "nothing": b"",
        "HTML": b"<html>404</html>",
        "a pickle": pickle.dumps(Payload()),
        "text": base64.b64encode(random.Random(0).randbytes(3000)),
        "the mark of HDF5 alone": b"\x89HDF\r\n\x1a\n",
        "the mark of NetCDF alone": b"CDF\x01",
    }
    for name, content in contents.items():
        yield altered(home, "plain.nc", f"holds {name}", partial(overwrite, text=content))
    arrays: dict[str, bytes] = {
        "shape of 10^12": npy("<f4", (10**4, 10**4, 10**4)),
        "shape of 10^9 steps": npy("<f4", (10**9, 2, 2)),
        "shape of 5,000 digits": npy("<f4", (10**4999, 2, 2)),
        "negative shape": npy("<f4", (-3, 2, 2)),
        "type of objects": npy("|O", (1,)) + pickle.dumps([Payload()]),
        "header that calls": b"\x93NUMPY\x01\x00\x40\x00" + CALL.ljust(64),
        "header nested deep": b"\x93NUMPY\x02\x00\x00\x40\x00\x00" + b"(" * 0x4000,
        "no values": npy("<f4", (0, 0, 0)),
    }
    for name, content in arrays.items():

        def arrange(folder: Path, rng: random.Random, content: bytes = content) -> list[Words]:
            (folder / "lwp.npy").write_bytes(content)
            return [["clouds", "lwp.npy"]]

        yield Case(f"lwp.npy: {name}", arrange)


def npy(kind: str, shape: tuple[int, ...]) -> bytes:
    """The header of a NumPy file, and some zeros."""
    sizes = ", ".join("9" * 5000 if size > 10**100 else str(size) for size in shape)
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sizes},), }}"
    if kind != "|O":
        text += "\n"
    head = text.encode()
    return (
        b"\x93NUMPY\x02\x00"
        + struct.pack("<I", len(head))
        + head
        + (bytes(64) if kind != "|O" else b"")
    )
