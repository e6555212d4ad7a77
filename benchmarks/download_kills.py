# SPDX-License-Identifier: Apache-2.0
"""Downloads killed at random moments and run again: `python benchmarks/downloads.py kills`."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from download_place import NX, NY, SEED, STEP, Place, check_served, differences, place, published
from report import heading, publish, table
from standin import CHUNK, Slow

from sstfill.io.ledger import ledger_path

STAGES = ("starting", "laying out", "windows", "finishing")


def stage(out: Path, fresh: bool, before: int, total: int) -> int:
    """Return the number of the stage a download is at, from its ledger and its store."""
    lines = _lines(ledger_path(out))
    if not lines and before >= 2:  # the ledger is emptied at the very end
        return 3
    if not lines:
        return before
    if lines > total:
        return 3
    if lines > 1 or (fresh and out.exists()):
        return 2
    return 1


def _lines(ledger: Path) -> int:
    try:
        return ledger.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def followed(
    process: subprocess.Popen[bytes], out: Path, fresh: bool, total: int, until: int = 4
) -> list[float]:
    """Return when each stage was reached, in seconds from now, until one or until the end."""
    started, reached, now = time.perf_counter(), [0.0], 0
    while now < until and process.poll() is None:
        now = max(now, stage(out, fresh, now, total))
        reached += [time.perf_counter() - started] * (now + 1 - len(reached))
        time.sleep(0.001)
    return [*reached, time.perf_counter() - started]


@dataclass
class Series:
    """Kills of one command, compared with the same command undisturbed."""

    here: Place
    words: tuple[str, ...]
    total: int
    base: Path | None = None
    quick: bool = False
    wanted: Path = field(init=False)
    times: list[float] = field(init=False)

    def __post_init__(self) -> None:
        runs = [self._undisturbed(k) for k in range(1 if self.quick else 3)]
        self.times = [statistics.median(t) for t in zip(*runs, strict=True)]

    def prepared(self, name: str) -> Path:
        """Return a path for the store, with what was there before."""
        out = self.here.home / name / "natl.zarr"
        if self.base is not None:
            shutil.copytree(self.base, out)
        return out

    def _undisturbed(self, k: int) -> list[float]:
        self.wanted = self.prepared(f"undisturbed{len(self.words)}-{k}")
        process = self.here.start(self.wanted, *self.words)
        times = followed(process, self.wanted, self.base is None, self.total)
        if process.wait() or len(times) != 5:
            raise SystemExit(f"undisturbed: {self.here.last_line(self.wanted)} {times}")
        return times

    def kill(self, number: int, at: int, fraction: float) -> list[object]:
        """Kill in a stage, after a fraction of its usual length; run again; compare."""
        least, delay = 0, fraction * (self.times[at + 1] - self.times[at])
        if at == 2:  # counted in windows: how fast they come depends on what else the machine does
            least = int(fraction * self.total)
            delay -= least / self.total * (self.times[at + 1] - self.times[at])
        for attempt in range(9):
            out = self.prepared(f"kill{len(self.words)}-{number}-{attempt}")
            self.here.server.seen.clear()
            started = time.perf_counter()
            process = self.here.start(out, *self.words)
            followed(process, out, self.base is None, self.total, at)
            while process.poll() is None and 0 < _lines(ledger_path(out)) <= least:
                time.sleep(0.001)
            time.sleep(delay * 0.8**attempt)
            process.send_signal(signal.SIGKILL)
            after = time.perf_counter() - started
            if process.wait() == -signal.SIGKILL:
                break  # it had not ended by itself
        lines = _lines(ledger_path(out))
        there = [n for n, is_there in (("ledger", lines), ("store", out.exists())) if is_there]
        asked = self.here.windows()
        code, _ = self.here.run(out, *self.words)
        both = asked & self.here.windows()
        differ = differences(out, self.wanted) if code == 0 else [self.here.last_line(out)]
        row = [
            number,
            STAGES[at],
            ", ".join(there) or "nothing",
            f"{after:.2f}",
            lines - 1 if lines else "",
            len(both),
            "; ".join(differ) or "yes",
        ]
        print(*row, sorted(both), sep=" | ", flush=True)
        return row

    def kills(self, counts: tuple[int, ...]) -> list[list[object]]:
        """Kill at seeded moments, spread over each stage."""
        rng = np.random.default_rng([SEED, len(self.words)])
        rows: list[list[object]] = []
        for at, count in enumerate(counts):
            for k in range(count):
                rows.append(self.kill(len(rows) + 1, at, (k + rng.random()) / count))
        return rows


HEAD = [
    "kill",
    "while it was",
    "there already",
    "s after start",
    "windows in the ledger",
    "windows fetched again",
    "identical",
]


def kills(quick: bool) -> None:
    """Kill a download at random moments, run it again, and compare with an undisturbed one."""
    times, latency = 192, 0.02
    whole = published(times, (8, 100))
    longer = published(times, (8, 100), alone=True)
    shorter = dataclasses.replace(longer, data=longer.data.isel(time=slice(times // 2)))
    with place(whole) as here:
        here.server.faults.add(Slow(latency), CHUNK, times=math.inf)
        first = Series(here, (), times // STEP, quick=quick)
        check_served(first.wanted, whole)
        rows = first.kills((1, 1, 1, 1) if quick else (4, 3, 10, 3))
        here.server.catalogue.publish(shorter)
        base = first.prepared("base")
        if here.run(base)[0]:
            raise SystemExit(here.last_line(base))
        here.server.catalogue.publish(longer)
        second = Series(here, ("--update",), times // STEP // 2, base, quick)
        check_served(second.wanted, longer)
        more = second.kills((0, 0, 1, 1) if quick else (1, 2, 5, 2))
    text = heading(
        "Downloads killed at random moments",
        seed=SEED,
        copernicusmarine=version("copernicusmarine"),
        load=f"{os.getloadavg()[1]:.0f} processes wanted the cores (mean of 5 minutes)",
        service=f"tests/support/standin over TLS on this machine, {latency * 1e3:.0f} ms added to "
        "each chunk",
        data=f"3 variables of {times} x {NY} x {NX} (packed int16 with clouds, int8 flags, float32 "
        "with land), two stretches without data and without chunks; "
        f"{times // STEP} windows of {STEP} times",
        undisturbed=_durations(first.times),
        moments="random within each stage (seeded), each stage timed undisturbed",
    )
    text += (
        "`sstfill download` in a process of its own is sent SIGKILL, then the same command runs "
        "to the end. Identical: every array bit for bit, its type, chunks and attributes, global "
        "attributes except the times of making, the same files and none left beside the store. "
        "Windows fetched again: asked for in both runs, counted by the server. Other jobs had the "
        "cores too, so that no cost of a kill in seconds is given.\n\n"
    )
    text += table(HEAD, rows) + f"\n{_sum(rows)}\n\n## Appending new days\n\n"
    text += f"The same with `--update`, {times // 2} times there before; undisturbed: "
    text += f"{_durations(second.times)}.\n\n"
    publish("download_kills", text + table(HEAD, more) + f"\n{_sum(more)}\n")


def _durations(times: list[float]) -> str:
    parts = ", ".join(f"{b - a:.2f} {s}" for s, a, b in zip(STAGES, times, times[1:], strict=False))
    return f"{times[-1]:.1f} s ({parts})"


def _sum(rows: list[list[object]]) -> str:
    same = sum(row[-1] == "yes" for row in rows)
    again = sum(int(str(r[5])) for r in rows)
    return f"{len(rows)} kills: {same} identical; {again} windows fetched again in all."
