# SPDX-License-Identifier: Apache-2.0
"""Disks that fill while an output is written: file systems in memory of some hundred kilobytes."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import subprocess
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from attack_inputs import series
from attack_yard import Case, Words, aside, run_warm

NAMESPACE = 0x00020000
"""CLONE_NEWNS of the kernel: what this process and its children mount, no other one sees."""
SHAPE = (40, 48, 48)
WAYS: dict[str, tuple[str, ...]] = {
    "in memory, .nc": ("out.nc",),
    "in memory, .zarr": ("out.zarr",),
    "unit by unit, .zarr": ("out.zarr", "--memory", "1GB"),
}
LEAST, MOST = 8_000, 3_000_000
"""Free bytes of the disk; a fill needs one to two millions."""
TIMES = 10
"""Disks for each way."""
HOW = ("--method", "interpolate", "--no-score")


def cases(home: Path, rng: random.Random) -> Iterator[Case]:
    """Disks of sizes that let a write fail at another moment each, with an earlier output there or
    without.
    """
    source = home.with_name("large.zarr")  # chunks of a day, so that an output has many, too
    aside(
        lambda: series(SHAPE).chunk(time=1).to_zarr(source, zarr_format=3, consolidated=False), home
    )
    series((4, *SHAPE[1:])).to_netcdf(home.with_name("small.nc"))
    for way, words in WAYS.items():
        for k in range(TIMES):
            fraction = (k + rng.random()) / TIMES
            free = int(LEAST * (MOST / LEAST) ** fraction)
            yield _case(way, source, words, free, earlier=k % 2 == 1)


def _case(way: str, source: Path, words: tuple[str, ...], free: int, earlier: bool) -> Case:
    def arrange(folder: Path, rng: random.Random) -> list[Words]:
        if can_mount():
            _mount(folder, 64 * 2**20)
        if earlier:
            small = str(source.with_name("small.nc"))
            ended = run_warm(["fill", small, "--out", *words, *HOW, "--quiet"], folder)
            if ended.status:
                raise SystemExit(f"an earlier output could not be made: {ended.err}")
        if can_mount():
            state = os.statvfs(folder)
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
            _mount(folder, used + free, "remount")
        again = ("--refit",) if earlier and "--memory" in words else ()
        return [["fill", str(source), "--out", *words, *HOW, *again]]

    title = f"{way}, {free // 1000} kB free, {'an earlier output' if earlier else 'nothing'} there"
    limit = None if can_mount() else partial(_limit, free)
    after = _unmount if can_mount() else None
    return Case(
        title, arrange, before=limit, after=after, whole=True
    )  # threads may write on until the end


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@cache
def can_mount() -> bool:
    """Whether file systems in memory can be mounted for this process and its children alone."""
    if ctypes.CDLL(None, use_errno=True).unshare(NAMESPACE):
        return False
    words = ["mount", "--make-rprivate", "/"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def means() -> str:
    """What stands for a full disk."""
    if can_mount():
        return "tmpfs with 8 kB to 3 MB free"
    return "a limit on the size of each file (RLIMIT_FSIZE), since nothing can be mounted here"


def _mount(place: Path, size: int, *more: str) -> None:
    options = ",".join([f"size={size}", *more])
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "attack", str(place)], check=True)


def _unmount(place: Path) -> None:
    subprocess.run(["umount", str(place)], check=True)
