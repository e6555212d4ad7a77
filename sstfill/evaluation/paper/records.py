# SPDX-License-Identifier: Apache-2.0
"""Results of the paper's protocol as flat records, CSV and JSON, and the facts needed to repeat the
run.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.evaluation.paper import published
from sstfill.evaluation.paper.datasets import Note
from sstfill.evaluation.paper.plan import uses_device

KEYS = ("data", "kind", "units", "operator", "masks", "share", "method", "variant")
SEQUENCE = ("mae", "rmse", "bias", "filled_share", "seconds", "occluded")


def records(results: xr.Dataset) -> list[dict[str, Any]]:
    """One flat record for each row of the results: scores as mean and standard deviation over
    sequences, and pooled.

    >>> from sstfill.evaluation import materials, plan, protocol
    >>> small = plan.quick(plan.Plan(methods=("interpolate",), operators=("raindrops",)))
    >>> records(protocol.run(small, materials.find()).results)[0]["method"]
    'interpolate'
    """
    found = []
    for number in range(results.sizes["row"]):
        row = results.isel(row=number)
        record: dict[str, Any] = {key: row[key].item() for key in KEYS}
        for key in SEQUENCE:
            record[key], record[f"{key}_std"] = _mean_std(row[key].values)
        record |= {f"pooled_{key}": float(row[f"pooled_{key}"]) for key in ("mae", "rmse", "bias")}
        record["truth_std"] = _mean_std(row["truth_std"].values)[0]
        record |= {
            "sequences": int((row["n"] > 0).sum()),
            "n": int(row["n"].sum()),
            "reason": row["reason"].item(),
        }
        found.append(record)
    return found


def to_csv(results: xr.Dataset) -> str:
    """All records as CSV; empty where there is no number."""
    lines = [config.plain(record) for record in records(results)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def to_json(results: xr.Dataset, notes: Iterable[Note] = ()) -> str:
    """All records with the scores of each sequence, the paper's own numbers, and the facts of the
    run.
    """
    lines = records(results)
    for number, line in enumerate(lines):
        row = results.isel(row=number)
        line["by_sequence"] = {
            key: row[key].values.tolist() for key in ("n", "fingerprint", *SEQUENCE)
        }
    whole = {
        "sstfill": version("sstfill"),
        "run": facts(results),
        "materials": [n._asdict() for n in notes],
        "results": lines,
        "published": [row._asdict() | {"units": row.units} for row in published.TABLES],
    }
    return json.dumps(config.plain(whole), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def facts(results: xr.Dataset) -> dict[str, Any]:
    """What a reader needs to repeat the run: the plan, versions, machine, date, fingerprints of the
    data.
    """
    attrs = dict(results.attrs)
    names = list(dict.fromkeys(results["method"].values.tolist()))
    on = uses_device(names)
    used = f"{attrs['device']} (used by {', '.join(on) or 'none of these methods: all ran on the CPU'})"
    versions = {p: version(p) for p in ("sstfill", "numpy", "scipy", "xarray")}
    machine = f"{os.cpu_count()} cores ({platform.machine()}), OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}"
    here = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "versions": versions,
    }
    return here | {"machine": machine} | attrs | {"methods": names, "device": used}


def _mean_std(values: np.ndarray) -> tuple[float, float]:
    """Mean and sample standard deviation of the numbers among them; NaN where there are too few."""
    known = values[np.isfinite(values)]
    return (
        float(known.mean()) if known.size else math.nan,
        float(known.std(ddof=1)) if known.size > 1 else math.nan,
    )
