# SPDX-License-Identifier: Apache-2.0
"""Results of the paper's protocol as flat records, CSV and JSON, with the facts of the run."""

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

KEYS = ("data", "kind", "units", "operator", "masks", "fraction", "method", "variant")
POOLED = ("pooled_mae", "pooled_rmse", "pooled_bias", "frechet_frames", "frechet_sequences")
SEQUENCE = ("mae", "rmse", "bias", "filled_fraction", "seconds", "occluded")


def records(results: xr.Dataset) -> list[dict[str, Any]]:
    """Make a flat record of each row: mean and standard deviation over sequences, pooled scores.

    >>> from sstfill.evaluation.paper import datasets, plan, protocol
    >>> options = {"methods": ("interpolate",), "operators": ("raindrops",)}
    >>> small = plan.quick(plan.ProtocolPlan(**options))
    >>> records(protocol.run(small, datasets.find()).results)[0]["method"]
    'interpolate'
    """
    rows = []
    for number in range(results.sizes["row"]):
        row = results.isel(row=number)
        record: dict[str, Any] = {key: row[key].item() for key in KEYS}
        for key in SEQUENCE:
            record[key], record[f"{key}_std"] = _mean_std(row[key].values)
        for key in POOLED:
            record[key] = float(row[key])
        record["truth_std"] = _mean_std(row["truth_std"].values)[0]
        # A sequence that failed has no pixels.
        record["sequences"] = int((row["n"] > 0).sum())
        record["n"] = int(row["n"].sum())
        record["reason"] = row["reason"].item()
        rows.append(record)
    return rows


def to_csv(results: xr.Dataset) -> str:
    """Write all records as CSV; a cell without a number is empty."""
    lines = [config.plain(record) for record in records(results)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def to_json(results: xr.Dataset, notes: Iterable[Note] = ()) -> str:
    """Write all records with scores by sequence, the paper's numbers, and the facts of the run."""
    lines = records(results)
    for number, line in enumerate(lines):
        row = results.isel(row=number)
        by_sequence = line["by_sequence"] = {}
        # By sequence, so that another run can be compared one by one.
        for key in ("n", "fingerprint", *SEQUENCE):
            by_sequence[key] = row[key].values.tolist()
    whole = {
        "sstfill": version("sstfill"),
        "run": facts(results),
        "datasets": [note._asdict() for note in notes],
        "results": lines,
        "published": [row._asdict() | {"units": row.units} for row in published.TABLES],
    }
    return json.dumps(config.plain(whole), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def facts(results: xr.Dataset) -> dict[str, Any]:
    """Collect what repeating the run needs: plan, versions, machine, date, fingerprints."""
    attrs = dict(results.attrs)
    names = list(dict.fromkeys(results["method"].values.tolist()))
    users = ", ".join(uses_device(names)) or "none of these methods: all ran on the CPU"
    threads = os.environ.get("OMP_NUM_THREADS")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("sstfill", "numpy", "scipy", "xarray")},
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), OMP_NUM_THREADS={threads}",
        **attrs,
        "methods": names,
        "device": f"{attrs['device']} (used by {users})",
    }


def _mean_std(values: np.ndarray) -> tuple[float, float]:
    """Mean and sample standard deviation of the numbers among them; NaN where there are too few."""
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if known.size else math.nan
    std = float(known.std(ddof=1)) if known.size > 1 else math.nan
    return mean, std
