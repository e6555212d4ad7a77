# SPDX-License-Identifier: Apache-2.0
"""Compare methods fitted to an archive and filling it unit by unit with fills of whole series.

Clouds of other dates hide a tenth of the observations. The method fills the remaining series in
memory, and is fitted to it as to an archive and fills it unit by unit. Both fills are compared with
the hidden values, and with each other in all gaps.

Run: python benchmarks/archive_methods.py [method ...]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from report import SHARED, heading, publish, table

from sstfill import synthetic
from sstfill.fields import gaps, grid
from sstfill.fields.patches import PatchGrid
from sstfill.methods import METHODS
from sstfill.methods.common import sampling
from sstfill.methods.registry import fit

SEED, FRACTION = 0, 0.1
ALL = ("interpolate", "climatology", "bayes_eof", "dineof", "oi", "gan")


def series() -> dict[str, xr.DataArray]:
    """Fields ``(time, y, x)`` with clouds of their own."""
    ocean = synthetic.ocean(shape=(120, 96, 96), step="1D", seed=SEED).sst
    found = {"synthetic ocean": ocean}
    for name, path, variable in (
        ("Alboran L3S SST 2022", "real/alboran_l3s_2022.nc", "sst"),
        ("N Pacific MODIS SST 2016", "real/npac_modis_2016.nc", "sst"),
    ):
        if (SHARED / path).exists():
            found[name] = xr.open_dataset(SHARED / path)[variable]
        else:
            print(f"{name} is left out: {SHARED / path} is not there")
    return {name: grid.standardise(field.load()) for name, field in found.items()}


def unit_by_unit(name: str, obs: xr.DataArray, sea: xr.DataArray) -> tuple[NDArray, float]:
    """Pin a method to a series, and ask it about all units."""
    started = time.perf_counter()
    whole = sampling.gather(obs, sea, seed=SEED)
    out = np.full(obs.shape, np.nan)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(METHODS[name](), whole, Path(folder) / "model")
        for window in sampling.windows(whole, PatchGrid(core=sampling.CORE, halo=fitted.halo)):
            out[window.patch.inside] = fitted.estimate(window)["mean"].values
    return out, time.perf_counter() - started


def main(methods: list[str]) -> None:
    """Print and publish a row for each method and series."""
    rows = []
    for title, field in series().items():
        sea = field.notnull().any("time")
        hidden = gaps.transplant_clouds(field, sea, fraction=FRACTION, seed=SEED)
        obs, where = field.where(~hidden), hidden.values
        gap = obs.isnull().values & sea.values
        spread = float((obs - obs.mean("time")).std())
        for name in methods or ALL:
            started = time.perf_counter()
            memory = METHODS[name]().reconstruct(obs, sea)["mean"].transpose(*obs.dims).values
            seconds = time.perf_counter() - started
            pieces, own = unit_by_unit(name, obs, sea)
            errors = [
                float(np.sqrt(np.nanmean((made - field.values)[where] ** 2)))
                for made in (memory, pieces)
            ]
            apart = float(np.sqrt(np.nanmean((memory - pieces)[gap] ** 2))) / spread
            rows.append([title, name, *errors, errors[1] / errors[0], apart, seconds, own])
            print(rows[-1], flush=True)
    head = [
        "series",
        "method",
        "RMSE in memory",
        "RMSE unit by unit",
        "ratio",
        "apart in gaps / std",
        "s in memory",
        "s unit by unit",
    ]
    publish(
        "archive_methods",
        heading("Methods fitted to an archive", seed=SEED, fraction=FRACTION) + table(head, rows),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
