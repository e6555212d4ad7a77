# SPDX-License-Identifier: Apache-2.0
"""Alboran Sea: the reference program's shipped result and ours, on the very points that it
withheld.

Run: python benchmarks/dineof_reference.py
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from reference_case import SEED, packed
from report import SHARED, heading, publish, table, timed

from sstfill.methods.eof.truncation import DineofFit

COMMON = {
    "alpha": 0.01,
    "filter_iterations": 3,
    "tolerance": 1e-3,
    "max_iterations": 300,
    "max_modes": 5,
}


def main() -> None:
    shipped = xr.open_dataset(SHARED / "bench" / "dineof_alboran2017" / "DINEOF_diagnostics.nc")[
        "valc"
    ].values[:5]
    rows = [
        [
            "Fortran (shipped output)",
            int(shipped.argmin()) + 1,
            float(shipped.min()),
            0.0,
            1.9,
            "514",
        ]
    ]
    for label, exact, dtype in (
        ("sstfill, solver='reference'", True, np.float64),
        ("sstfill, solver='fast'", False, np.float32),
    ):
        matrix, points, days = packed(SHARED / "dineof" / "alboran_sst.nc", dtype=dtype)
        with timed() as clock:
            fitted = DineofFit(exact=exact, **COMMON)(matrix, points, days)
        off = 100 * (fitted.cv_error / shipped.min() - 1)
        rows.append(
            [label, len(fitted.modes.s), fitted.cv_error, off, clock.cpu, fitted.iterations]
        )
    text = heading(
        "DINEOF: the reference's Alboran example",
        data="22,186 pixels x 10 images, alpha 0.01, toliter 1e-3",
        withheld=f"{len(points)} points, the reference's own (gfortran generator, seed {SEED})",
    )
    publish(
        "dineof_reference",
        text
        + table(["program", "EOFs", "CV rmse (degC)", "off by %", "CPU s", "iterations"], rows)
        + "\nThe Fortran CPU time is the one in the project's facts (two shared cores, one "
        "thread).\n",
    )


if __name__ == "__main__":
    main()
