# SPDX-License-Identifier: Apache-2.0
"""Concentrations filled as they are, and as decimal logarithms, at pixels hidden under clouds.

With a file (a chlorophyll series) it is scored on that. Without one a surrogate is: the real SST
series of the Alboran Sea, with its clouds, turned into a log-normal field, since chlorophyll is
high where water is cold. Its units are arbitrary.

Run: OMP_NUM_THREADS=1 python benchmarks/transforms.py [FILE VARIABLE]
"""

from __future__ import annotations

import sys

import numpy as np
import xarray as xr
from report import SHARED, heading, publish, table

import sstfill.io
from sstfill import fill
from sstfill.fields.gaps import transplant_clouds
from sstfill.fields.grid import standardise
from sstfill.validation import metrics

SEED, FRACTION = 0, 0.1
METHODS = ("interpolate", "dineof", "bayes_eof", "oi")
SOURCE = "real/alboran_l3s_2022.nc"
DECADES_A_DEGREE = -0.25
"""Slope of the surrogate's logarithm; the spread becomes that of coastal chlorophyll."""


def surrogate() -> xr.DataArray:
    sst = xr.open_dataset(SHARED / SOURCE)["sst"].load()
    chl = 10 ** (DECADES_A_DEGREE * (sst - float(sst.mean())))
    return chl.astype(np.float32).drop_attrs(deep=False).rename("chl").assign_attrs(units="mg m-3")


def scored(field: xr.DataArray, hidden: xr.DataArray, method: str, transform: str) -> list[str]:
    name = str(field.name)
    filled = fill(
        field, method, withheld=hidden, score=False, transform=transform, seed=SEED, variables=name
    )
    at = hidden.values
    truth, values = field.values[at].astype(float), filled[name].values[at].astype(float)
    floor = truth[truth > 0].min() / 2
    error = metrics.rmse(np.log10(np.maximum(values, floor)), np.log10(np.maximum(truth, floor)))
    made = filled[name].values[np.isin(filled[f"{name}_source"].values, (1, 3))]
    return [
        method,
        transform,
        f"{error:.3f}",
        f"{metrics.rmse(values, truth):.3f}",
        f"{metrics.mae(values, truth):.3f}",
        f"{int((made < 0).sum())} of {np.isfinite(made).sum()}",
        f"{np.nanmin(made):.3g}",
    ]


def main() -> None:
    if len(sys.argv) == 3:
        origin = sys.argv[1]
        field = standardise(sstfill.io.open(origin)[sys.argv[2]].load())
    else:
        origin = f"a surrogate made of {SOURCE}: 10**({DECADES_A_DEGREE} (SST - mean))"
        field = standardise(surrogate())
    sea = field.notnull().any("time")
    hidden = transplant_clouds(field, sea, fraction=FRACTION, seed=SEED)
    observed = field.values[np.isfinite(field.values)]
    rows = []
    for method in METHODS:
        for transform in ("none", "log"):
            rows.append(scored(field, hidden, method, transform))
            print(*rows[-1], flush=True)
    text = heading(
        "Concentrations as logarithms",
        series=f"{origin}; {' x '.join(map(str, field.shape))} (time, rows, columns)",
        observations=f"{observed.size}, 5 to 95 % quantile "
        f"{np.quantile(observed, 0.05):.3g} to {np.quantile(observed, 0.95):.3g}",
        hidden=f"{int(hidden.sum())} of them, under clouds of other dates, seed {SEED}",
        run=f"python benchmarks/transforms.py {' '.join(sys.argv[1:])}",
    )
    if len(sys.argv) != 3:
        text += (
            "This is no chlorophyll: no such series is among the data at hand. The clouds and the "
            "patterns are real, the values are the surrogate's.\n\n"
        )
    text += (
        "Errors are those at the hidden pixels; in the logarithm a negative estimate counts as "
        "half of the least value there. *Negative* counts all filled pixels.\n\n"
    )
    head = ["method", "transform", "RMSE of log10", "RMSE", "MAE", "negative", "least"]
    text += table(head, rows)
    publish("transforms", text)


if __name__ == "__main__":
    main()
