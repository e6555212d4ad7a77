# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of downloads share: a stand-in server, the command, a comparison."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from report import ROOT

sys.path.insert(0, str(ROOT / "tests" / "support"))
from standin import Published, StandIn, a_level3, tls

SEED = 5
NAME = "cmems_obs-sst_standin_P1D-m"
NY, NX, STEP = 48, 64, 4  # pixels, and times of a chunk, which is a window here
RUN = "import sys; from sstfill.cli import main; sys.exit(main(sys.argv[1:]))"
RECIPE = f"""
[source]
kind = "copernicus"
dataset_id = "{NAME}"
service = "arco-geo-series"
[target]
chunks = {{ time = {STEP}, latitude = {NY}, longitude = {NX} }}
window_bytes = 1
"""


def published(
    times: int,
    empty: tuple[int, ...] = (),
    *,
    alone: bool = False,
    version: str = "202406",
    seed: int = SEED,
) -> Published:
    """Publish cloudy packed SST, alone or with its quality (int8) and an analysis without gaps.

    `empty` are the first times of chunks without data. Alone it has land as large as a chunk of the
    layout of long series, which has no chunk there.
    """
    ds = a_level3(steps=times, ny=NY, nx=NX, seed=seed).rename(sea_surface_temperature="sst")
    rng = np.random.default_rng(seed)
    analysed = rng.normal(290, 3, ds.sst.shape).astype("f4")
    sst = ds.sst.copy()
    for first in empty:
        sst[first : first + STEP] = np.nan
    land = (slice(None), slice(6), slice(8 if alone else 4))
    analysed[land], sst.values[land] = np.nan, np.nan
    ds["sst"] = sst
    ds["analysed_sst"] = (
        ds.sst.dims,
        analysed,
        {"units": "kelvin"},
        {"_FillValue": np.float32(np.nan)},
    )
    layouts = {
        "time_chunked": {"time": STEP, "latitude": NY, "longitude": NX},
        "geo_chunked": {"time": 1024, "latitude": 6, "longitude": 8},
    }
    return Published(NAME, ds[["sst"]] if alone else ds, version, "SST_STANDIN", **layouts)


@dataclass
class Place:
    """A stand-in, and a folder for what a process downloads from it."""

    server: StandIn
    home: Path
    environ: dict[str, str]

    def start(self, out: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start ``sstfill download``; what it prints goes to a file beside the store."""
        out.parent.mkdir(exist_ok=True, parents=True)
        command = [
            sys.executable,
            "-c",
            RUN,
            "download",
            str(self.home / "recipe.toml"),
            "--out",
            str(out),
            *words,
        ]
        with self._printed(out).open("wb") as printed:
            return subprocess.Popen(
                command, env=self.environ, cwd=self.home, stdout=printed, stderr=printed
            )

    def run(self, out: Path, *words: str) -> tuple[int, float]:
        """Return the exit status and the seconds of a download from start to end."""
        self.server.seen.clear()
        started = time.perf_counter()
        code = self.start(out, *words).wait()
        return code, time.perf_counter() - started

    def last_line(self, out: Path) -> str:
        """Return the last line that the command printed."""
        lines = self._printed(out).read_text().strip().splitlines()
        return lines[-1] if lines else ""

    def windows(self) -> set[int]:
        """Return the windows that were asked for since the last `run` began."""
        paths = "\n".join(self.server.chunks())
        return set(map(int, re.findall(r"timeChunked\.zarr/sst/(\d+)\.", paths)))

    def _printed(self, out: Path) -> Path:
        return self.home / f"{out.parent.name}.txt"


@contextlib.contextmanager
def place(*versions: Published) -> Iterator[Place]:
    """Serve these versions over TLS."""
    ca = tls.authority()
    with (
        tempfile.TemporaryDirectory() as folder,
        StandIn(*versions, tls=tls.identity(ca)) as server,
    ):
        home = Path(folder)
        (home / "recipe.toml").write_text(RECIPE)
        yield Place(server, home, tls.environment(server, ca, home))


def differences(got: Path, wanted: Path) -> list[str]:
    """Return where two stores differ: values, types, chunks, attributes, files.

    The times of making are left out.
    """
    if not (got / "zarr.json").exists():
        return ["no store"]
    a, b = zarr.open_group(got, mode="r"), zarr.open_group(wanted, mode="r")
    found = [
        f"attribute {k}"
        for k in {*a.attrs, *b.attrs}
        if _timeless(a.attrs, k) != _timeless(b.attrs, k)
    ]
    arrays, others = dict(a.arrays()), dict(b.arrays())
    found += [f"array {n}" for n in arrays.keys() ^ others.keys()]
    for n in arrays.keys() & others.keys():
        if _sorted(arrays[n]) != _sorted(others[n]):
            found.append(f"metadata of {n}")
        elif np.asarray(arrays[n][...]).tobytes() != np.asarray(others[n][...]).tobytes():
            found.append(f"values of {n}")
    files = [{str(p.relative_to(s)) for p in s.rglob("*") if p.is_file()} for s in (got, wanted)]
    found += [f"file {name}" for name in sorted(files[0] ^ files[1])]
    found += [f"left {p.name}" for p in got.parent.iterdir() if p != got]
    return sorted(found)


def _sorted(array: zarr.Array) -> str:
    return json.dumps(array.metadata.to_dict(), sort_keys=True, default=repr)


def _timeless(attrs: zarr.core.attributes.Attributes, name: str) -> object:
    if name in ("date_created", "date_modified"):
        return name in attrs
    value = attrs.get(name)
    if isinstance(value, str):
        return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "", value)
    return value


def check_served(out: Path, source: Published) -> None:
    """Check that the store to compare with is bit for bit what is served."""
    expected = source.expected()
    with xr.open_zarr(out, consolidated=False, chunks=None) as got:
        for name in expected.variables:
            values, wanted = got[name].values, expected[name].values
            same = values.dtype == wanted.dtype and values.tobytes() == wanted.tobytes()
            if name == "quality_level":  # integers with gaps, which xarray decodes to floats
                same = np.array_equal(values, wanted, equal_nan=True)
            if not same:
                raise SystemExit(f"{name} is not what was served")
