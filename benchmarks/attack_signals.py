# SPDX-License-Identifier: Apache-2.0
"""Fills that are sent a signal at a random moment, and run again."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from attack_inputs import series
from attack_yard import Case, Words, run_warm, run_whole

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHAPE = (60, 64, 64)
HOW = ("--method", "interpolate")
WAYS: dict[str, tuple[tuple[str, ...], int]] = {
    "in memory, .nc": (("out.nc", *HOW), 5),
    "in memory, .zarr": (("out.zarr", *HOW), 5),
    "unit by unit, .zarr": (("out.zarr", *HOW, "--memory", "1GB"), 4),
    "unit by unit by two workers": (("out.zarr", *HOW, "--memory", "4GB", "--workers", "2"), 2),
}
"""What is filled how, and how often each signal is sent."""


def cases(home: Path, rng: random.Random) -> Iterator[Case]:
    """Each signal in each equal part of the time that an undisturbed run takes, from its very
    start.
    """
    source, small = home.with_name("long.nc"), home.with_name("short.nc")
    series(SHAPE).to_netcdf(source)
    series((4, *SHAPE[1:])).to_netcdf(small)
    for way, (words, times) in WAYS.items():
        whole = _undisturbed(source, words, home.with_name("undisturbed"))
        for number in SIGNALS:
            for k in range(times):
                moment = whole * (k + rng.random()) / times
                yield _case(way, source, small, words, number, moment, earlier=k % 2 == 1)


def _undisturbed(source: Path, words: tuple[str, ...], folder: Path) -> float:
    """Seconds that a run takes."""
    folder.mkdir()
    shutil.copy(source, folder / "in.nc")
    began = time.perf_counter()
    ended = run_whole(
        ["fill", "in.nc", "--out", *words], folder, Case("undisturbed", lambda folder, rng: [])
    )
    if ended.status:
        raise SystemExit(f"undisturbed: {ended.err}")
    shutil.rmtree(folder)
    return time.perf_counter() - began


def _case(
    way: str,
    source: Path,
    small: Path,
    words: tuple[str, ...],
    number: signal.Signals,
    moment: float,
    earlier: bool,
) -> Case:
    def arrange(folder: Path, rng: random.Random) -> list[Words]:
        shutil.copy(source, folder / "in.nc")
        if earlier:
            shutil.copy(small, folder / "small.nc")
            early = words[: words.index("--workers")] if "--workers" in words else words
            ended = run_warm(["fill", "small.nc", "--out", *early, "--quiet"], folder)
            if ended.status:
                raise SystemExit(f"an earlier output could not be made: {ended.err}")
        refit = ("--refit",) if earlier and "--memory" in words else ()
        again: Words = ["fill", "in.nc", "--out", *words, *refit]
        return [again, again]

    fine = (0, 128 + number)
    title = (
        f"{number.name} at {moment:.2f} s, {way}, "
        f"{'an earlier output' if earlier else 'nothing'} there"
    )
    return Case(title, arrange, fine=fine, keeps=False, whole=True, strike=(number, moment))
