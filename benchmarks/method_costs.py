# SPDX-License-Identifier: Apache-2.0
"""Time and memory of every method against the size of the series, and of patchmatch under the four
operators.

Each fill runs in a process of its own, without a score; the field is made before the clock starts.
A method is not run at the sizes that would take it beyond `LIMIT`, by its cost at the size before.

Run: python benchmarks/method_costs.py [method ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from report import SHARED, heading, publish, table

SIZES = ((24, 64, 64), (92, 128, 128), (365, 256, 256))
METHODS = ("climatology", "interpolate", "dineof", "bayes_eof", "oi", "gan", "auto", "patchmatch")
SEED = 0
LIMIT = 600  # seconds of wall clock
CLIP = (30, 64, 64)

FIELD = """
import json, sys, time
import numpy as np, xarray as xr
import sstfill
from report import peak_mb, timed
from sstfill import occlusion, synthetic
name, shape, seed, how = sys.argv[1], tuple(json.loads(sys.argv[2])), int(sys.argv[3]), sys.argv[4]
"""
SERIES = """
times, ny, nx = shape
ds = synthetic.eof_series(pixels=ny * nx, times=times, land=0, truth=True, seed=seed)
truth, field = ds.truth, ds.drop_vars("truth")
"""
OCCLUDED = """
truth = synthetic.sst(shape=shape, step="6h", seed=seed).rename("sst")
lwp = xr.open_dataset(sys.argv[5]).LWP if how == "cloud" else None
cls = occlusion.operator_class(how)
if how == "cloud":
    operator = cls(lwp=lwp, threshold=occlusion.threshold_for(lwp, 0.395), augment=True)
else:
    operator = cls()
seen = operator.draw(shape, np.random.default_rng(seed))
sea = np.ones(shape[1:], "i1")
field = truth.where(seen).to_dataset(name="sst").assign(sea=(truth.dims[1:], sea))
"""
FILL = """
warm = synthetic.ocean(shape=(6, 12, 12), seed=1)[["sst", "sea"]]
# compiled kernels are cached: they are not what is measured
sstfill.fill(warm, name, variables="sst", score=False)
before = peak_mb()
with timed() as clock:
    filled = sstfill.fill(field, name, variables="sst", score=False, sea=(field.sea == 1)).compute()
gap = (filled.sst_source == 1).values
error = (filled.sst - truth).values[gap]
rmse, mae = float(np.sqrt(np.mean(error**2))), float(np.abs(error).mean())
missing = float(1 - np.isfinite(field.sst.values).mean())
print("MEASURED", json.dumps([clock.wall, clock.cpu, peak_mb(), before, rmse, mae, missing]))
"""


def measure(name: str, shape: tuple[int, int, int], how: str) -> list[float]:
    """Wall s, CPU s, peak MB, MB before, RMSE, MAE, fraction missing of a fill in a process of its
    own.
    """
    code = FIELD + (SERIES if how == "series" else OCCLUDED) + FILL
    lwp = str(SHARED / "clouds" / "lwp_dycoms.nc")
    done = subprocess.run(
        [sys.executable, "-c", code, name, json.dumps(shape), str(SEED), how, lwp],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )
    found = [
        line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("MEASURED")
    ]
    if done.returncode or not found:
        raise RuntimeError(done.stdout + done.stderr)
    return json.loads(found[0])


def main(names: list[str]) -> None:
    rows: list[list[object]] = []
    for name in names:
        last = 0.0
        for size, before in zip(SIZES, (None, *SIZES), strict=False):
            growth = (
                1.0
                if before is None
                else size[0] * size[1] * size[2] / (before[0] * before[1] * before[2])
            )
            text = "x".join(map(str, size))
            if last * growth > LIMIT:
                rows.append([name, text, f"not run: about {last * growth:.0f} s", "", "", ""])
                continue
            wall, cpu, peak, start, rmse, *_ = measure(name, size, "series")
            last = wall
            rows.append([name, text, wall, cpu, round(peak - start), rmse])
            print(rows[-1], flush=True)
    clips: list[list[object]] = []
    for how in ("cloud", "raindrops", "remove-pixel", "vertical-moving-bar"):
        for name in ("patchmatch", "oi", "interpolate"):
            wall, cpu, *_, rmse, mae, fraction = measure(name, CLIP, how)
            clips.append([how, f"{fraction:.0%}", name, wall, cpu, mae, rmse])
            print(clips[-1], flush=True)
    text = heading(
        "Time and memory of every method",
        seed=SEED,
        field="EOF-like red noise, 60 % cloud, noise 0.2",
        measured="one fill without score, kernels compiled; the machine is shared, so seconds vary",
    )
    text += table(
        ["method", "times x y x x", "wall s", "CPU s", "MB above the input", "RMSE"], rows
    )
    text += (
        f"\n## {'x'.join(map(str, CLIP))} under the four operators (synthetic SST, 6-hourly)\n\n"
    )
    text += table(["operator", "occluded", "method", "wall s", "CPU s", "MAE", "RMSE"], clips)
    publish("method_costs", text)


if __name__ == "__main__":
    main(sys.argv[1:] or list(METHODS))
