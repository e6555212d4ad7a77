# SPDX-License-Identifier: Apache-2.0
"""Archives: cost against size, 20 GB under 4 GB of memory, workers, and thirty nights over a
growing archive.

Each fill runs in a process of its own. The archives are synthetic: the ocean of
`sstfill.synthetic`, tiled in space and continued in time by mirroring, with clouds; they compress
well, what is filled does not know it.

Run: python benchmarks/archives.py size|large|workers|nights [method ...]
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import xarray as xr
from report import heading, publish, table

from sstfill import synthetic
from sstfill.methods.common import sampling

SEED = 0
TILE = (64, 128, 128)
STEP = np.timedelta64(1, "D")
SIZES = {
    "interpolate": (1, 4, 16, 64),
    "dineof": (1, 4, 16, 64),
    "bayes_eof": (1, 4, 16),
    "oi": (1, 4, 16, 64),
    "gan": (1, 4, 16, 64),
}
DECADE = (3650, 300, 800)
"""A sea for ten years, daily, at 4 km."""
NODE = 32
"""Cores of a node for which the cost of a decade is estimated."""
BASE = (48, 128, 128)
"""Shape of the archive of size 1; 4 is twice as long along y and x each, 16 four times as long in
time besides.
"""
GROWTH = {1: (1, 1, 1), 4: (1, 2, 2), 16: (4, 2, 2), 64: (4, 4, 4)}
LARGE = (1280, 2048, 2048)
HOUR = 3600
"""Seconds that a method is given to fill `LARGE`; what it has not done by then is extrapolated."""
CREWED = (192, 512, 512)
"""Shape of the archive that workers fill: 48 units, so that the start of workers counts little."""
CREWS = (0, 1, 2, 4)
NIGHTS, BEFORE = 30, 700

FILL = """
import json, sys, time
from sstfill.archive import fill_archive
from sstfill.memory import return_large_blocks
return_large_blocks()
if __name__ == "__main__":
    source, out, method, options = sys.argv[1:]
    done = fill_archive(source, out, method or None, **json.loads(options))
    costs = [done.seconds, done.fitting, done.memory, done.units, done.made]
    counts = [done.filled, done.new, done.revised, done.influenced]
    print("MEASURED", json.dumps([*costs, *counts]))
"""


def ocean() -> tuple[np.ndarray, np.ndarray]:
    """Truth in degrees and where it is observed, `TILE` each; daily."""
    field = synthetic.sst(shape=TILE, step="1D", seed=SEED)
    clouds = synthetic.ocean(shape=TILE, step="1D", seed=SEED + 1)
    return field.values.astype(np.float32), np.isfinite(clouds.sst.values)


def write(path: Path, shape: tuple[int, int, int], days: slice | None = None) -> None:
    """Write an archive, image by image of mirrored tiles: bounded memory, whatever its size."""
    import zarr

    truth, seen = ocean()
    shutil.rmtree(path, ignore_errors=True)
    n, ny, nx = shape
    coords = {
        "time": np.datetime64("2015-01-01", "ns") + np.arange(n) * STEP,
        "lat": 20 + 0.02 * np.arange(ny),
        "lon": -60 + 0.025 * np.arange(nx),
    }
    xr.Dataset(coords=coords).to_zarr(path, zarr_format=3, consolidated=False)
    array = zarr.open_group(path, mode="r+").create_array(
        "sst",
        shape=shape,
        chunks=(8, 256, 256),
        dtype="f4",
        fill_value=np.nan,
        dimension_names=["time", "lat", "lon"],
        attributes={"units": "degree_Celsius", "standard_name": "sea_surface_temperature"},
    )
    for start in range(0, n, 8):
        array[start : start + 8] = np.stack(
            [image(truth, seen, t, ny, nx) for t in range(start, min(n, start + 8))]
        )


def image(truth: np.ndarray, seen: np.ndarray, t: int, ny: int, nx: int) -> np.ndarray:
    """One day: the tile to and fro in time, mirrored from tile to tile, a season on top, clouds of
    another day.
    """
    period = 2 * TILE[0] - 2
    back = t % period
    day = truth[back if back < TILE[0] else period - back]
    cloud = seen[(7 * t + 3 * (t // period)) % TILE[0]]
    two = [
        np.concatenate(
            [np.concatenate([a, a[:, ::-1]], 1), np.concatenate([a[::-1], a[::-1, ::-1]], 1)]
        )
        for a in (day, cloud)
    ]
    whole, there = (
        np.tile(a, (-(-ny // (2 * TILE[1])), -(-nx // (2 * TILE[2]))))[:ny, :nx] for a in two
    )
    season = np.float32(3 * np.sin(2 * np.pi * t / 365.25))
    return np.where(there, whole + season, np.float32(np.nan))


def command(source: Path, out: Path, method: str, **options: object) -> list[str]:
    """Return the command that fills in a process of its own."""
    script = source.parent / "fill_one.py"
    script.write_text(FILL)
    return [sys.executable, str(script), str(source), str(out), method, json.dumps(options)]


def fill(source: Path, out: Path, method: str, **options: object) -> list[float]:
    """Fill in a process of its own; what `FILL` measures."""
    words = command(source, out, method, **options)
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    line = next((text for text in ended.stdout.splitlines() if text.startswith("MEASURED")), None)
    if line is None:
        raise SystemExit(ended.stderr)
    return list(json.loads(line.partition(" ")[2]))


def size(folder: Path, methods: list[str]) -> None:
    """Time and memory against the size."""
    rows = []
    for method in methods or list(SIZES):
        for factor in SIZES[method]:
            shape = tuple(n * g for n, g in zip(BASE, GROWTH[factor], strict=True))
            write(folder / "in.zarr", shape)  # type: ignore[arg-type]
            shutil.rmtree(folder / "out.zarr", ignore_errors=True)
            shutil.rmtree(folder / "out.zarr.job", ignore_errors=True)
            seconds, fitting, memory, units, _, filled, *_ = fill(
                folder / "in.zarr", folder / "out.zarr", method
            )
            pixels = float(np.prod(shape)) / 1e6
            each = (seconds - fitting) / pixels
            rows.append(
                [
                    method,
                    factor,
                    shape,
                    pixels,
                    int(units),
                    seconds,
                    fitting,
                    each,
                    memory / 1e6,
                    int(filled),
                ]
            )
            print(rows[-1], flush=True)
    head = [
        "method",
        "size",
        "time, y, x",
        "million values",
        "units",
        "seconds",
        "of it fitting the method",
        "seconds per million values after that",
        "peak memory, MB",
        "pixels filled",
    ]
    publish(
        "archive_size",
        heading("Archives: cost against size", seed=SEED, chunks=(8, 256, 256))
        + table(head, rows)
        + decade(rows),
    )


def decade(rows: list[list]) -> str:
    """Estimate the cost of a decade from the rates of each method's largest archive."""
    values = float(np.prod(DECADE)) / 1e6
    estimated = []
    for method, _, shape, _, _, _, fitting, each, *_ in {row[0]: row for row in rows}.values():
        # of an excerpt or a sample, which grows no further, or a little with the dates
        hours = (fitting + each * values) / 3600
        estimated.append([method, shape, fitting, each, hours, hours * 2 / NODE])
    head = [
        "method",
        "rates of",
        "fit, s",
        "s per million values",
        "two cores, h",
        f"{NODE} cores, h",
    ]
    return (
        f"\n## What a decade of a sea costs: an estimate\n\n{DECADE[0]} images of {DECADE[1]} x "
        f"{DECADE[2]} pixels, {values:.0f} million values, from the rates of the largest archive "
        "above. **Estimated, not measured**: the fit is taken as it is there, units are taken to "
        f"cost the same, and {NODE} cores to be {NODE // 2} times as fast as two "
        "([workers](archive_workers.md) shows two against one). The GPU is left out: nothing has "
        "run on one.\n\n" + table(head, estimated)
    )


def large(folder: Path, methods: list[str]) -> None:
    """20 GB of values, each method for an hour; then it is stopped, and could go on."""
    started = time.perf_counter()
    write(folder / "in.zarr", LARGE)
    stored = sum(f.stat().st_size for f in (folder / "in.zarr").rglob("*") if f.is_file()) / 1e9
    made = time.perf_counter() - started
    rows = []
    for method in methods or ["oi"]:
        rows.append([method, *for_an_hour(folder, method)])
        print(rows[-1], flush=True)
    size = (
        f"{np.prod(LARGE) * 4 / 1e9:.1f} GB of float32, {stored:.2f} GB stored, written in "
        f"{made:.0f} s"
    )
    facts = {"seed": SEED, "shape": LARGE, "size": size}
    head = [
        "method",
        "units filled",
        "of",
        "seconds",
        "of it until the first unit began",
        "CPU s of filling a unit",
        "CPU s per million values",
        "the rest by that rate, CPU h: an estimate",
        "peak memory, GB",
    ]
    publish("archive_large", heading("An archive of 20 GB", **facts) + table(head, rows))


def for_an_hour(folder: Path, method: str) -> list[object]:
    """Fill `LARGE` for as long as `HOUR` allows; what `large` tells of a method."""
    for part in ("out.zarr", "out.zarr.job"):
        shutil.rmtree(folder / part, ignore_errors=True)
    words = command(folder / "in.zarr", folder / "out.zarr", method, memory=4 * 10**9)
    started = time.perf_counter()
    filling = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    process = psutil.Process(filling.pid)
    ledger, units = folder / "out.zarr.job" / "next" / "ledger", 0
    planned = seconds = begun = cpu = peak = 0.0
    while filling.poll() is None and seconds < HOUR:
        time.sleep(1)
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            times = process.cpu_times()
            seconds, cpu = time.perf_counter() - started, times.user + times.system
            peak = max(peak, process.memory_info().rss / 1e9)
            # the first line is the plan
            units = len(ledger.read_text().splitlines()) - 1
            if not begun and units >= 0:
                planned, begun = seconds, cpu
    if filling.poll() not in (None, 0):
        raise SystemExit(f"{method} failed after {seconds:.0f} s, with {units} units filled")
    filling.terminate()
    filling.wait()
    count = int(np.prod([-(-n // c) for n, c in zip(LARGE, sampling.CORE, strict=True)]))
    each = (cpu - begun) / units if units else float("nan")
    millions = np.prod(LARGE) / count / 1e6
    rest = each * (count - units) / 3600
    return [units, count, seconds, planned, each, each / millions, rest, peak]


def workers(folder: Path, methods: list[str]) -> None:
    """This process alone, and one, two and four workers."""
    rows = []
    write(folder / "in.zarr", CREWED)
    for method in methods or ["interpolate", "oi"]:
        alone = 0.0
        for count in CREWS:
            for part in ("out.zarr", "out.zarr.job"):
                shutil.rmtree(folder / part, ignore_errors=True)
            before = spent()
            seconds, fitting, memory, units, *_ = fill(
                folder / "in.zarr", folder / "out.zarr", method, workers=count
            )
            cpu = spent() - before
            seconds -= fitting
            if count == 1:
                alone = seconds
            shown = f"{alone / seconds:.2f}" if count else ""
            who = count or "none: this process, by all cores"
            measured = [seconds, seconds / units, shown, cpu, fitting, memory / 1e6]
            rows.append([method, who, int(units), *measured])
            print(rows[-1], flush=True)
    empty = overhead()
    head = [
        "method",
        "workers",
        "units",
        "seconds without fitting",
        "seconds per unit",
        "times as fast as one worker",
        "CPU s of all processes, fitting too",
        "seconds of fitting, by this process",
        "peak MB of a process",
    ]
    told = (
        f"{1e3 * empty:.1f} ms for a unit that does nothing, sent to and fro (2 workers, 400 units)"
    )
    cores = len(os.sched_getaffinity(0))
    facts = {"seed": SEED, "shape": CREWED, "overhead": told}
    note = (
        f"\nThis machine has {cores} cores: more workers than these share them. A worker fills by "
        "one thread; without workers, a method that has threads of its own (`oi`) uses all cores. "
        "The seconds begin with two passes over the archive by this process, and with the start "
        "of the workers.\n"
    )
    publish("archive_workers", heading("Archives: workers", **facts) + table(head, rows) + note)


def spent() -> float:
    """CPU seconds of the processes that have ended so far, and of those that they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def overhead() -> float:
    """Seconds for a unit that does nothing."""
    from distributed import Client, LocalCluster, as_completed

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(abs, range(20), pure=False))
        started = time.perf_counter()
        futures = as_completed(client.submit(abs, i, pure=False) for i in range(6))
        sent = 6
        for done in futures:
            done.result()
            if sent < 400:
                futures.add(client.submit(abs, sent, pure=False))
                sent += 1
        return (time.perf_counter() - started) / 400


def nights(folder: Path, methods: list[str]) -> None:
    """Thirty nights: a new day each, one of them late, some revised; each compared with a fill from
    scratch.
    """
    method = (methods or ["interpolate"])[0]
    write(folder / "all.zarr", (BEFORE + NIGHTS, 128, 128))
    whole = xr.open_zarr(folder / "all.zarr", consolidated=False).load().drop_encoding()
    rng = np.random.default_rng(SEED)
    whole.isel(time=slice(0, BEFORE)).chunk(time=1, lat=-1, lon=-1).to_zarr(
        folder / "in.zarr", zarr_format=3, consolidated=False
    )
    rows, fractions, parts = [], [], []
    for night in range(NIGHTS):
        today = BEFORE + night
        arrive(folder / "in.zarr", whole, night, today, rng)
        first = night == 0
        options = {} if first else {"update": True}
        done = fill(folder / "in.zarr", folder / "out.zarr", method if first else "", **options)
        for part in ("scratch.zarr", "scratch.zarr.job"):
            shutil.rmtree(folder / part, ignore_errors=True)
        scratch = fill(
            folder / "in.zarr", folder / "scratch.zarr", "", like=str(folder / "out.zarr")
        )
        a, b = (xr.open_zarr(folder / name).load() for name in ("out.zarr", "scratch.zarr"))
        same = all(
            np.array_equal(a[v].values, b[v].values, equal_nan=True)
            for v in ("sst", "sst_error", "sst_source")
        )
        fractions += [] if first else [done[0] / scratch[0]]
        parts += [] if first else [done[4] / done[3]]
        told = "first fill" if first else f"{fractions[-1]:.0%}"
        made = f"{int(done[4])} of {int(done[3])}"
        rows.append(
            [
                night + 1,
                *map(int, done[6:9]),
                made,
                done[0],
                scratch[0],
                told,
                "yes" if same else "NO",
            ]
        )
        print(rows[-1], flush=True)
    facts = {
        "seed": SEED,
        "method": method,
        "shape": f"{BEFORE + 1} to {BEFORE + NIGHTS} days of 128 x 128",
        "mean fraction of the time of a fill from scratch": f"{np.mean(fractions):.1%}",
        "mean fraction of the units of a fill from scratch": f"{np.mean(parts):.1%}",
    }
    head = [
        "night",
        "new",
        "revised",
        "influenced",
        "units made",
        "seconds",
        "from scratch",
        "fraction",
        "equal bit by bit",
    ]
    publish(
        f"archive_nights_{method}", heading("Archives: thirty nights", **facts) + table(head, rows)
    )


def arrive(path: Path, whole: xr.Dataset, night: int, today: int, rng: np.random.Generator) -> None:
    """Append today's image, empty on night 12 and filled in three nights later; on some nights five
    are revised.
    """
    import zarr

    late = BEFORE + 11
    new = whole.isel(time=[today]).copy(deep=True)
    if today == late:
        new.sst[:] = np.nan
    new.chunk(time=1, lat=-1, lon=-1).to_zarr(path, append_dim="time", consolidated=False)
    array = zarr.open_group(path, mode="r+")["sst"]
    if today == late + 3:
        array[late] = whole.sst[late].values
    if night % 7 == 5:
        for day in range(today - 5, today):
            whole.sst[day] += rng.normal(0, 0.05, whole.sst[day].shape).astype(np.float32)
            if not late <= day < late + 3 or today >= late + 3:
                array[day] = whole.sst[day].values


if __name__ == "__main__":
    todo = {"size": size, "large": large, "workers": workers, "nights": nights}
    if len(sys.argv) < 2 or sys.argv[1] not in todo:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory(dir=tempfile.gettempdir(), prefix="archives-") as where:
        todo[sys.argv[1]](Path(where), sys.argv[2:])
