# SPDX-License-Identifier: Apache-2.0
"""What every benchmark shares: where data lie, the heading with versions, tables on screen and in
docs/benchmarks.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SSTFILL_SHARED", ROOT.parent / "shared")) / "data"


class Clock:
    """CPU and wall seconds of a block, set when it ends."""

    cpu = wall = float("nan")


@contextmanager
def timed() -> Iterator[Clock]:
    """Time a block: CPU seconds of this process (all threads) and wall seconds."""
    clock, cpu, wall = Clock(), time.process_time(), time.perf_counter()
    yield clock
    clock.cpu, clock.wall = time.process_time() - cpu, time.perf_counter() - wall


def peak_mb() -> float:
    """Largest resident memory of this program so far, MB.

    What `getrusage` tells begins with the size of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def heading(title: str, **facts: object) -> str:
    """Title, date, machine, versions and whatever else a reader needs to repeat the run."""
    versions = ", ".join(f"{p} {version(p)}" for p in ("sstfill", "numpy", "scipy", "xarray"))
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    told = "".join(f"- {k.replace('_', ' ')}: {v}\n" for k, v in facts.items())
    return (
        f"# {title}\n\n- measured {date.today().isoformat()} with Python "
        f"{platform.python_version()}, {versions}\n- {os.cpu_count()} cores "
        f"({platform.machine()}), OMP_NUM_THREADS={threads}\n{told}\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown table; floats with four significant digits."""

    def cell(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return (
        "\n".join(lines + ["| " + " | ".join(cell(v) for v in row) + " |" for row in rows]) + "\n"
    )


def publish(name: str, text: str) -> None:
    """Print the report and keep it as docs/benchmarks/NAME.md."""
    print(text)
    target = ROOT / "docs" / "benchmarks" / f"{name}.md"
    target.write_text(text)
    print(f"written to {target.relative_to(ROOT)}")
