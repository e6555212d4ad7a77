# SPDX-License-Identifier: Apache-2.0
"""Time, memory and error of DINEOF on the reference sizes, against the Fortran program and its BLAS
fork.

Each case is one `sstfill fill ... --no-score` in a process of its own, from the start of Python to
the file written; the error is then measured on the reference's own withheld points and, where the
truth is known, at the missing pixels.

Run: OMP_NUM_THREADS=2 python benchmarks/dineof_speed.py [s m l xl]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr
from reference_case import SEED, packed
from report import SHARED, heading, publish, table, timed

from sstfill import synthetic
from sstfill.methods.eof.truncation import DineofFit

GOALS = {  # of the project: 10 times the reference's CPU time is the floor
    "s": lambda cpu, mb, fortran: (
        f"<= {fortran / 10:.2g} s: {'met' if cpu <= fortran / 10 else 'missed'}"
    ),
    "m": lambda cpu, mb, fortran: f"<= 6 s: {'met' if cpu <= 6 else 'missed'}",
    "l": lambda cpu, mb, fortran: f"<= 40 s: {'met' if cpu <= 40 else 'missed'}",
    "xl": lambda cpu, mb, fortran: f"<= 600 MB: {'met' if mb <= 600 else 'missed'}",
}
REPEATS = {"s": 3, "m": 3, "l": 2, "xl": 1}
CASES = {"s": "s_5k_100", "m": "m_20k_200", "l": "l_50k_365", "xl": None}
# CPU s, MB of the Fortran build and of DINEOF_Parallel, CV rmse, rmse at missing pixels:
# ../shared/facts/dineof.md
FORTRAN = {
    "s": (14.9, 42, 3.7, 33, 0.288457, 0.264),
    "m": (301, 171, 32, 106, 0.283752, 0.250),
    "l": (2700, 635, 325, 388, 0.279708, 0.248),
    "xl": (19000, 2377, 1300, 1363, None, None),
}
SAME = ["--method", "dineof", "--alpha", "0.01", "--cross-validation", "random", "--no-score"]
ROADS = {
    "dineof, the reference's options": SAME,
    "dineof, defaults": ["--method", "dineof", "--no-score"],
    "bayes_eof": ["--method", "bayes_eof", "--no-score"],
}
MEASURED = """
import resource, sys
from sstfill.cli import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print("MEASURED", used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(code)
"""


def source(case: str, folder: Path) -> Path:
    """File of a case; the largest is generated."""
    if CASES[case]:
        return SHARED / "dineof" / f"{CASES[case]}.nc"
    target = folder / "xl.nc"
    if not target.exists():
        made = synthetic.eof_series(pixels=100_485, times=700, seed=4)
        made.rename(sea="mask").to_netcdf(target)
    return target


def best_run(case: str, path: Path, out: Path, options: list[str]) -> tuple[float, float, float]:
    """CPU s, wall s, peak MB: the run of least CPU time among `REPEATS` (the machine is shared)."""
    return min(run(path, out, options) for _ in range(REPEATS[case]))


def run(path: Path, out: Path, options: list[str]) -> tuple[float, float, float]:
    """CPU s, wall s and peak MB of one fill from the command line."""
    out.unlink(missing_ok=True)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "fill", str(path), "--out", str(out), "--quiet", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - began
    measured = [line.split() for line in done.stdout.splitlines() if line.startswith("MEASURED")]
    if done.returncode or not measured:
        raise RuntimeError(done.stdout + done.stderr)
    return float(measured[0][1]), wall, float(measured[0][2])


def error_at_missing(case: str, out: Path) -> float | str:
    """RMSE against the noise-free truth at the pixels that were missing."""
    truth = SHARED / "dineof" / f"{CASES[case]}_truth.nc"
    if not CASES[case] or not truth.exists():
        return "-"
    with xr.open_dataset(out) as filled, xr.open_dataset(truth) as known:
        gap = filled["sst_source"].values == 1
        return float(
            np.sqrt(
                np.nanmean(
                    np.square((filled["sst"].values - known["sst"].values)[gap], dtype=float)
                )
            )
        )


def cv_on_reference_points(case: str, folder: Path) -> tuple[int, float, float]:
    """EOF count and CV rmse of the fast solver on the reference's points, and the CPU seconds of
    the fit alone.
    """
    matrix, points, days = packed(source(case, folder))
    with timed() as clock:
        fitted = DineofFit(alpha=0.01)(matrix, points, days)
    return len(fitted.modes.s), fitted.cv_error, clock.cpu


def main(cases: list[str]) -> None:
    rows, errors = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in cases:
            cpu_f, mb_f, cpu_b, mb_b, cv_f, true_f = FORTRAN[case]
            path = source(case, folder)
            rows.append([case, "Fortran", cpu_f, "", mb_f, "", "1x", "", "", true_f or "-"])
            rows.append(
                [
                    case,
                    "DINEOF_Parallel",
                    cpu_b,
                    "",
                    mb_b,
                    "",
                    f"{cpu_f / cpu_b:.0f}x",
                    "1x",
                    "",
                    "-",
                ]
            )
            for label, options in ROADS.items():
                out = folder / "filled.nc"
                cpu, wall, mb = best_run(case, path, out, options)
                with xr.open_dataset(out) as filled:
                    said = json.loads(filled["sst"].attrs["sstfill_method"])["diagnostics"]
                gains = [f"{cpu_f / cpu:.0f}x", f"{cpu_b / cpu:.1f}x", GOALS[case](cpu, mb, cpu_f)]
                rows.append(
                    [
                        case,
                        label,
                        cpu,
                        wall,
                        round(mb),
                        said.get("modes", ""),
                        *gains,
                        error_at_missing(case, out),
                    ]
                )
                print(rows[-1], flush=True)
                out.unlink()
            if cv_f is not None:
                n, cv, cpu = cv_on_reference_points(case, folder)
                errors.append([case, cv_f, cv, f"{100 * (cv / cv_f - 1):+.2f} %", n, cpu])
    if "s" in cases:
        text = heading(
            "DINEOF: time, memory, error",
            threads=os.environ.get("OMP_NUM_THREADS", "all"),
            inputs="s 5,011 x 100; m 20,044 x 200; l 50,025 x 365; xl 100,485 x 700 (seed 4); 60 % "
            "cloud",
            measured="whole command, start of Python to file written; the best of 3 runs (l: of 2, "
            "xl: of 1)",
        )
        text += table(
            [
                "case",
                "program",
                "CPU s",
                "wall s",
                "peak MB",
                "EOFs",
                "vs Fortran",
                "vs fork",
                "goal",
                "rmse at missing",
            ],
            rows,
        )
        text += f"\nCV rmse on the points that the reference draws with seed {SEED} "
        text += "(toliter 1e-3, alpha 0.01, numit 3):\n\n"
        text += table(
            ["case", "Fortran", "sstfill", "difference", "EOFs", "CPU s of the fit"], errors
        )
        text += (
            "\nFortran figures: measured for the project on two shared cores with one thread; l "
            "and xl extrapolated there, as is the fork's xl.\n"
        )
        publish("dineof_speed", text)


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
