# SPDX-License-Identifier: Apache-2.0
"""Fills and updates of an archive whose process, or a worker of it, is sent SIGKILL at random
moments, and run again.

Run: OMP_NUM_THREADS=1 python benchmarks/archive_kills.py [--quick]
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr
from report import heading, publish, table

import sstfill.synthetic
from sstfill.archive import verify

QUICK = "--quick" in sys.argv
SEED = 6
SHAPE = (120 if QUICK else 240, 96, 96)
NEW = 12
"""Days that an update finds; one of the old ones is revised, too."""
KILLS = 1 if QUICK else 5
COMMAND = (str(Path(sys.executable).with_name("sstfill")), "fill")


def archive(home: Path) -> tuple[Path, Path]:
    """The archive as it is on the first night and on the next."""
    ocean = sstfill.synthetic.ocean(shape=SHAPE, seed=SEED)[["sst"]]
    ocean = ocean.assign_coords(
        time=np.datetime64("2020-01-01") + np.arange(SHAPE[0]).astype("timedelta64[D]")
    )
    before = ocean.isel(time=slice(0, -NEW)).copy(deep=True)
    before["sst"][SHAPE[0] // 2, :20] = np.nan
    stores = home / "before.zarr", home / "after.zarr"
    for ds, path in zip((before, ocean), stores, strict=True):
        ds.chunk(time=1).to_zarr(path, zarr_format=3, consolidated=False)
    return stores


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Worker processes of a job, from the kernel's list of its children."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for child in task.read_text().split():
            command = Path(f"/proc/{child}/cmdline")
            if command.exists() and b"spawn_main" in command.read_bytes():
                found.append(int(child))
    return found


def done_units(out: Path) -> int:
    """Units in the ledger of the run under way."""
    ledger = out.with_name(out.name + ".job") / "next" / "ledger"
    return max(0, ledger.read_bytes().count(b"\n") - 1) if ledger.exists() else 0


def root(out: Path) -> int:
    """Which version of the output is in place."""
    return (out / "zarr.json").stat().st_ino if out.exists() else 0


def difference(one: Path, other: Path) -> str:
    """What differs, but for the time of making."""
    with xr.open_zarr(one) as first, xr.open_zarr(other) as second:
        a, b = first.load(), second.load()
    wrong = [
        str(n)
        for n in {*a.variables, *b.variables}
        if n not in a.variables
        or n not in b.variables
        or a[n].attrs != b[n].attrs
        or a[n].values.tobytes() != b[n].values.tobytes()
    ]
    return ", ".join(sorted(wrong))


@dataclass
class Series:
    """Kills of one command: what is read, what is there before, what an undisturbed run makes and
    how long it takes.
    """

    name: str
    source: Path
    home: Path
    words: tuple[str, ...]
    base: Path | None = None
    wanted: Path = field(init=False)
    units: int = field(init=False)
    start: float = field(init=False)
    whole: float = field(init=False)

    def __post_init__(self) -> None:
        times = []
        for k in range(1 if QUICK else 2):
            self.wanted = self.prepared(f"undisturbed{k}")
            began = time.perf_counter()
            process = self.begun(self.wanted)
            start = self.wait(process, self.wanted) - began
            seen = 0
            while process.poll() is None:
                seen = max(seen, done_units(self.wanted))
                time.sleep(0.002)
            if process.returncode:
                raise SystemExit(f"undisturbed: {process.stderr.read().decode()}")
            times.append((start, time.perf_counter() - began))
            self.units = seen
        self.start, self.whole = (statistics.median(t) for t in zip(*times, strict=True))

    def prepared(self, name: str) -> Path:
        """A path for the output, with what was there before."""
        folder = self.home / f"{self.name}-{name}".replace(" ", "-")
        folder.mkdir()
        if self.base is not None:
            for part in ("", ".job"):
                shutil.copytree(
                    self.base.with_name(self.base.name + part), folder / f"out.zarr{part}"
                )
        return folder / "out.zarr"

    def begun(self, out: Path) -> subprocess.Popen[bytes]:
        """Start the command."""
        command = [*COMMAND, str(self.source), "--out", str(out), *self.words]
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def wait(self, process: subprocess.Popen[bytes], out: Path) -> float:
        """Wait until the job holds its lock; tells when that was."""
        begun = out.with_name(out.name + ".job") / "lock"
        while process.poll() is None and not (
            begun.exists() and begun.read_text().startswith(f"process {process.pid} ")
        ):
            time.sleep(0.002)
        return time.perf_counter()

    def wait_for_units(self, process: subprocess.Popen[bytes], out: Path, count: int) -> None:
        """Wait until so many units are done, and both workers are there."""
        while process.poll() is None and (len(workers_of(process)) < 2 or done_units(out) < count):
            time.sleep(0.002)

    def kill(self, number: int, fraction: float, rng: np.random.Generator) -> list[object]:
        """One row: kill after a fraction of what an undisturbed run takes from here, run again,
        compare.
        """
        out = self.prepared(f"kill{number}")
        old = root(out)
        victims = "--workers" in self.words
        began = time.perf_counter()
        process = self.begun(out)
        self.wait(process, out)
        if victims:  # when so many units are done: most of the time goes by while the workers start
            self.wait_for_units(process, out, int(fraction * self.units))
        else:
            time.sleep(fraction * (self.whole - self.start))
        at, done = time.perf_counter() - began, self.units if root(out) != old else done_units(out)
        found = workers_of(process) if victims else [process.pid]
        send(found[int(rng.integers(len(found)))])
        process.wait()
        if (
            process.returncode
        ):  # it was killed, or its worker was while the workers started, which it says
            process = self.begun(out)
            process.wait()
        if process.returncode and "is filled already" not in (
            told := process.stderr.read().decode()
        ):
            raise SystemExit(told)  # else it was ended when it had done all, and said so
        lost = time.perf_counter() - began - self.whole
        wrong = difference(out, self.wanted) or "; ".join(verify(out, self.source).wrong)
        left = {p.name for p in out.with_name("out.zarr.job").iterdir()} - {
            "lock",
            "job.json",
            "model",
            "days",
        }
        shutil.rmtree(out.parent)
        row = [
            number,
            self.name,
            "a worker" if victims else "the job",
            at,
            f"{done} of {self.units}",
            lost,
            "; ".join(filter(None, [wrong, ", ".join(left)])) or "yes",
        ]
        print(*row, flush=True)
        return row


def send(pid: int) -> None:
    """Send SIGKILL to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Kill, run again, compare, and write the page."""
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory(prefix="archive-kills-") as folder:
        home = Path(folder)
        before, after = archive(home)
        rows: list[list[object]] = []
        told, base = [], None
        for words in ((), ("--workers", "2")):
            how = "with two workers" if words else "alone"
            method = ("--method", "interpolate", "--memory", "4GB", *words)
            fill = Series(f"fill {how}", before, home, method)
            base = base or fill.wanted
            update = Series(f"update {how}", after, home, ("--update", *words), base)
            for series in (fill, update):
                told.append(f"{series.name} {series.whole:.1f} s, {series.units} units")
                moments = (np.arange(KILLS) + rng.random(KILLS)) / KILLS
                rows += [
                    series.kill(len(rows) + k + 1, float(m), rng) for k, m in enumerate(moments)
                ]
    text = heading(
        "Fills of an archive killed at random moments",
        seed=SEED,
        zarr=version("zarr"),
        distributed=version("distributed"),
        method="interpolate, work units of 16 x 256 x 256",
        data=f"sstfill.synthetic.ocean, {' x '.join(map(str, SHAPE))}, a day a chunk; an update "
        f"finds {NEW} new days and one that was revised",
        undisturbed="; ".join(told),
        moments="random (seeded): of the job, one in each equal part of an undisturbed run from "
        "where it holds its lock; of a worker, when a random number of units are done",
    )
    text += (
        "`sstfill fill` in a process of its own is sent SIGKILL, then the same command runs "
        "to the end; or one of its two workers is, and the job goes on by itself (killed "
        "while the workers start, it says so in one line and is run again). Identical: every "
        "array bit for bit with its attributes, `sstfill verify` finds nothing wrong, and "
        "nothing is left beside the store. Seconds lost: from the first start to the end, "
        "less an undisturbed run; the second start of Python is among them.\n\n"
    )
    head = ["kill", "while", "of", "s after start", "units done", "seconds lost", "identical"]
    same, lost = sum(r[-1] == "yes" for r in rows), [float(str(r[5])) for r in rows]
    text += (
        table(head, rows)
        + f"\n{len(rows)} kills: {same} identical; {statistics.median(lost):.1f} s lost (median), "
    )
    publish("archive_kills", text + f"{max(lost):.1f} s at most.\n")


if __name__ == "__main__":
    main()
