# SPDX-License-Identifier: Apache-2.0
"""Memory and speed of a download of two gigabytes, against plain copies of the same.

The stand-in of tests/support/standin serves over TLS from a process of its own. The download by the
real client, a loop of GETs of the same chunks, and a copy of the same store from disk to disk run
each in a fresh process. Writes docs/benchmarks/download_throughput.md.

Run: OMP_NUM_THREADS=1 python benchmarks/download_throughput.py [--quick]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from report import ROOT, heading, publish, table

from sstfill.sources.copernicus.download import CopernicusRequest, Target, download

QUICK = "--quick" in sys.argv
SEED = 0
DATASET, VERSION = "throughput_PT1H-m", "202406"
CHUNK = {"time": 8, "latitude": 256, "longitude": 256}
"""Of the source, 2.1 MB of float32; `SIZES` holds whole ones."""
SIZES = {"time": 160 if QUICK else 1912, "latitude": 512, "longitude": 512}
REQUEST = CopernicusRequest(
    dataset_id=DATASET, variables=("thetao",), service="arco-geo-series", timeout=60
)
TARGET = Target(chunks={"time": 24, "latitude": 256, "longitude": 256})
LOGICAL = 4 * int(np.prod(list(SIZES.values()))) / 1e6
"""MB of values."""
ROUNDS = 1 if QUICK else 3
WINDOW = {"time": 48, "latitude": 256, "longitude": 256}
"""What the plain copy holds at a time: about as much as a window of the download."""


def tile() -> xr.Dataset:
    """Return a chunk of a smooth temperature with noise, in 0.001 degrees, a twentieth land."""
    rng = np.random.default_rng(SEED)
    t, y, x = (np.arange(n, dtype=np.float32) for n in CHUNK.values())
    smooth = 15 + 5 * np.sin(y / 40)[:, None] * np.cos(x / 50) + np.sin(t / 4)[:, None, None]
    values = (smooth + 0.02 * rng.standard_normal(smooth.shape)).round(3).astype("f4")
    values[:, : CHUNK["latitude"] // 5, : CHUNK["longitude"] // 4] = np.nan
    coords = {
        "time": xr.Variable(
            "time",
            pd.date_range("2023-01-01", periods=len(t), freq="h"),
            {"axis": "T"},
            {"units": "seconds since 1970-01-01", "calendar": "standard", "dtype": "int64"},
        ),
        "latitude": xr.Variable(
            "latitude", (y / 12).astype("f4"), {"units": "degrees_north", "axis": "Y"}
        ),
        "longitude": xr.Variable(
            "longitude", (x / 12 - 60).astype("f4"), {"units": "degrees_east", "axis": "X"}
        ),
    }
    attrs = {"standard_name": "sea_water_potential_temperature", "units": "degrees_C"}
    return xr.Dataset(
        {"thetao": (tuple(CHUNK), values, attrs, {"_FillValue": np.float32(np.nan)})},
        coords,
        {"title": "a tile"},
    )


def published() -> Any:
    """What the stand-in serves: the tile over and over, in the memory of one."""
    from standin import Published
    from standin.store import repeated

    ds = repeated(tile(), **{d: SIZES[d] // CHUNK[d] for d in SIZES})
    longer = CHUNK | {"time": 2 * CHUNK["time"]}
    return Published(
        DATASET, ds, version=VERSION, time_chunked=CHUNK, geo_chunked=longer, periodic=True
    )


def serve(folder: Path) -> None:
    """Serve over TLS until standard input ends; `folder` gets the environment of a client."""
    from standin import StandIn
    from standin.tls import authority, environment, identity

    ca, offered = authority(), published()
    with StandIn(offered, tls=identity(ca)) as server:
        told = {
            "environment": environment(server, ca, folder),
            "folder": offered.folder("timeChunked"),
        }
        (folder / "server.json").write_text(json.dumps(told))
        print("ready", flush=True)
        sys.stdin.read()


def fetch(folder: Path) -> dict[str, Any]:
    """The download itself."""
    download(REQUEST, folder / "out.zarr", target=TARGET).close()
    return {}


def get(folder: Path) -> dict[str, Any]:
    """The same chunks by a loop of GETs over one connection, thrown away."""
    import requests

    where = json.loads((folder / "server.json").read_text())["folder"]
    numbers = np.ndindex(*(SIZES[d] // CHUNK[d] for d in SIZES))
    received = 0
    with requests.Session() as session:
        for number in numbers:
            key = ".".join(map(str, number))
            answer = session.get(
                f"https://s3.waw3-1.cloudferro.com{where}/thetao/{key}", timeout=60
            )
            answer.raise_for_status()
            received += len(answer.content)
    return {"received": received}


def copy(folder: Path) -> dict[str, Any]:
    """The same store, Zarr v2 on the disk, into one as the download lays it out, by zarr alone;
    then on the disk.
    """
    import zarr

    source: Any = zarr.open_array(folder / "source.zarr" / "thetao", mode="r")
    chunks = tuple(TARGET.chunks[d] for d in SIZES)
    target: Any = zarr.create_array(
        folder / "copy.zarr",
        shape=source.shape,
        dtype=source.dtype,
        chunks=chunks,
        fill_value=np.nan,
        overwrite=True,
    )
    steps = [range(0, SIZES[d], WINDOW[d] // TARGET.chunks[d] * TARGET.chunks[d]) for d in SIZES]
    for number in np.ndindex(*map(len, steps)):
        box = tuple(slice(s[i], s[i] + s.step) for s, i in zip(steps, number, strict=True))
        target[box] = source[box]
    os.sync()
    return {}


def step(name: str, folder: Path) -> None:
    """One part in this process; tells what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = {"fetch": fetch, "get": get, "copy": copy}[name](folder)
    found |= {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": high_water(),
    }
    print(json.dumps(found))


def high_water() -> float:
    """Largest resident memory of this process, MB; unlike ru_maxrss it leaves out the parent it was
    forked from.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, Any]]:
    """The stand-in in a process of its own; gives the environment for its clients."""
    process = subprocess.Popen(
        _command("serve", folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_paths()
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n", "the stand-in did not start"
        yield json.loads((folder / "server.json").read_text())["environment"]
    finally:
        process.stdin.close()
        process.wait()


def measured(name: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        _command(name, folder), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(name, found, flush=True)
    return found


def _command(name: str, folder: Path) -> list[str]:
    return [sys.executable, __file__, name, str(folder), *(["--quick"] if QUICK else [])]


def _paths() -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    }


def lay_out(folder: Path) -> None:
    """The same store on the disk, for the plain copy."""
    files = published().stores["timeChunked"]
    (folder / "thetao").mkdir(parents=True)
    (folder / "thetao" / ".zarray").write_bytes(files["thetao/.zarray"])
    for number in np.ndindex(*(SIZES[d] // CHUNK[d] for d in SIZES)):
        key = "thetao/" + ".".join(map(str, number))
        (folder / key).write_bytes(files[key])


def check(folder: Path) -> None:
    """Every value of the download is that of the tile."""
    wanted = np.tile(
        tile().thetao.values, [1, *(SIZES[d] // CHUNK[d] for d in ("latitude", "longitude"))]
    )
    with xr.open_zarr(folder / "out.zarr", chunks=None, consolidated=False) as got:
        assert dict(got.thetao.sizes) == SIZES, got.thetao.sizes
        for at in range(0, SIZES["time"], CHUNK["time"]):
            held = got.thetao[at : at + CHUNK["time"]].values
            assert held.tobytes() == wanted.tobytes(), (
                f"values from time {at} on are not those served"
            )


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    folder = Path(tempfile.mkdtemp(prefix="throughput-"))
    try:
        lay_out(folder / "source.zarr")
        rounds: list[dict[str, dict[str, Any]]] = []
        with serving(folder) as environment:
            for _ in range(ROUNDS):
                shutil.rmtree(folder / "out.zarr", ignore_errors=True)
                rounds.append(
                    {name: measured(name, folder, environment) for name in ("get", "copy", "fetch")}
                )
        check(folder)
    finally:
        shutil.rmtree(folder)
    report(
        {
            name: min((r[name] for r in rounds), key=lambda f: f["wall"])
            | {"peak": max(r[name]["peak"] for r in rounds)}
            for name in rounds[0]
        }
    )


def report(found: dict[str, dict[str, Any]]) -> None:
    names = {
        "fetch": "sstfill download",
        "get": "GETs of the chunks in a loop, thrown away",
        "copy": "zarr to zarr on the disk, no network",
    }
    rows = [
        [
            names[n],
            found[n]["wall"],
            LOGICAL / found[n]["wall"],
            found[n]["cpu"],
            round(found[n]["peak"]),
        ]
        for n in names
    ]
    both = found["get"]["wall"] + found["copy"]["wall"]
    rows.append(
        [
            "the two one after the other",
            both,
            LOGICAL / both,
            found["get"]["cpu"] + found["copy"]["cpu"],
            "",
        ]
    )
    packages = ", ".join(f"{p} {version(p)}" for p in ("zarr", "copernicusmarine", "numcodecs"))
    sent = found["get"]["received"] / 1e6
    text = heading(
        "Throughput and memory of a download",
        **{"also": packages},
        request=f"{SIZES}, float32, {LOGICAL:,.0f} MB of values; {sent:,.0f} MB as served (lz4)",
        seed=SEED,
        chunks=f"of the source {tuple(CHUNK.values())}, "
        f"of the store {tuple(TARGET.chunks.values())} (zstd)",
        load=f"{os.getloadavg()[2]:.1f} processes on average over the last quarter of an hour",
        service="tests/support/standin over TLS on this machine, in a process of its own, on the "
        "same cores",
    )
    text += table(["", "wall s", "MB/s of values", "CPU s", "peak resident MB"], rows)
    text += (
        f"\nThe fastest of {ROUNDS} rounds, in turns; the highest of their peaks. CPU and memory "
        "are of the process named, without the server's. The store is checked value for value "
        f"afterwards. The download takes {found['fetch']['wall'] / both:.2f} of the time of the "
        "two plain copies one after the other.\n\n"
        "Run again: `OMP_NUM_THREADS=1 python benchmarks/download_throughput.py`\n"
    )
    if QUICK:
        print(text)
    else:
        publish("download_throughput", text)


if __name__ == "__main__":
    words = [w for w in sys.argv[1:] if not w.startswith("--")]
    if not words:
        main()
    elif words[0] == "serve":
        serve(Path(words[1]))
    else:
        step(words[0], Path(words[1]))
