# SPDX-License-Identifier: Apache-2.0
"""Do stated errors hold? Coverage of the 50, 80, 90 and 95 % intervals that `fill` states.

Real cloudy series under withheld runs of dates that took no part in the fit, and clips of 24 images
of gap-free OSTIA under simulated clouds that stay, where the truth is known at every gap.

Three steps, so that a former version of sstfill can fill the same series:

    python benchmarks/errors.py cases FOLDER [others]            writes the series, one file each
    python benchmarks/errors.py fill FOLDER RESULTS [UNIT ...]   fills them; appends to RESULTS
    python benchmarks/errors.py table RESULTS [FORMER RESULTS]   writes docs/benchmarks/errors.md

With ``others`` they are other choices of what is withheld and other clips, to judge by what did not
decide how errors are calibrated.

A unit is a method, a case or both, as in ``oi`` or ``oi:npac``; the default is all of both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from report import ROOT, SHARED, heading, publish, table
from scipy.special import stdtrit

from sstfill.fields import grid
from sstfill.fields.reading.sea import find_sea, sea_mask
from sstfill.fill import fill

METHODS = ("oi", "bayes_eof", "gan", "auto", "dineof")
LEVELS = (0.5, 0.8, 0.9, 0.95)
SEEDS, OTHERS = (11, 12, 13, 14), (21, 22, 23, 24)
"""Of the withheld runs; the seed of the fill that is judged is the number of the case."""
FRACTION = 0.1
REAL = {
    "l3s": ("real/alboran_l3s_2022.nc", "sst", {}, (slice(4, 36), slice(4, 36))),
    "npac": ("real/npac_modis_2016.nc", "sst", {}, (slice(20, 68), slice(20, 68))),
    "avhrr": ("real/alboran_avhrr_2017.nc", "sst", {}, (slice(60, 130), slice(120, 200))),
    "ndvi": ("bench/gapfill_maskstudy_ndvi.nc", "ndvi", {"level": 2}, (slice(0, 40), slice(0, 40))),
}
"""File, variable, selection, and the crop of rows and columns."""
CLIP, CLIPS, OFFSET = 24, 8, 120
"""Images of a clip, number of clips, and frames from the clouds of one to those of the next."""
SHIFT = 60, 20
"""Frames, and pixels either way, from the clouds of the clips to those of the other clips."""
COVERS = (0.3, 0.6)
"""Fractions of the clips that clouds hide, by turns."""
PAGE = ROOT / "docs/benchmarks/errors.md"


def real_cases(others: bool) -> Iterator[tuple[str, xr.Dataset]]:
    """Real series with runs withheld: the observations, and what of them is withheld."""
    from sstfill.validation.withholding.series_holdout import SeriesHoldout

    for name, (path, variable, select, (rows, columns)) in REAL.items():
        data = xr.open_dataset(SHARED / path).isel(select).load()
        whole = grid.standardise(data[variable])
        sea = sea_mask(whole, find_sea(data))[rows, columns]
        obs = whole[:, rows, columns].where(sea)
        sea = sea & obs.notnull().any("time")
        first, seeds = (len(SEEDS), OTHERS) if others else (0, SEEDS)
        for number, seed in enumerate(seeds, first):
            held = SeriesHoldout.draw(obs, sea, seed, FRACTION)
            weight = np.zeros(obs.shape, np.float32)
            weight[held.hidden.values] = held.weight
            case = xr.Dataset({"obs": obs.rename("obs"), "truth": obs.rename("truth"), "sea": sea})
            case["hidden"] = held.hidden.drop_attrs()
            case["weight"] = obs.dims, weight
            yield f"{name}-{number}", case.assign_attrs(variable=variable)


def clips(others: bool) -> Iterator[tuple[str, xr.Dataset]]:
    """Clips of OSTIA under liquid water path of a simulated stratocumulus."""
    frames, pixels = SHIFT if others else (0, 0)
    truth = xr.open_dataset(SHARED / "truth/ostia_neatl_2003_2004.nc")["sst"].astype("f4").load()
    water = xr.open_dataset(SHARED / "clouds/lwp_dycoms.nc")["LWP"].load()
    for number in range(CLIPS):
        start = number * (truth.sizes["time"] - CLIP) // (CLIPS - 1)
        if others:  # halfway between
            start = (2 * number + 1) * (truth.sizes["time"] - CLIP) // (2 * CLIPS)
        clip = grid.standardise(truth.isel(time=slice(start, start + CLIP)))
        frame = 100 + (frames + number * OFFSET) % (water.sizes["time"] - CLIP - 100)
        # the clouds are periodic
        shifted = np.roll(water.values[frame : frame + CLIP], (-pixels, -pixels), (1, 2))
        lwp = shifted[:, : clip.shape[1], : clip.shape[2]]
        cloud = lwp > np.quantile(lwp, 1 - COVERS[number % len(COVERS)])
        obs = clip.where(~cloud)
        # A pixel that is never seen is no part of the sea, for fill as for us.
        sea = obs.notnull().any("time")
        case = xr.Dataset({"obs": obs.rename("obs"), "truth": clip.rename("truth"), "sea": sea})
        case["hidden"] = obs.dims, cloud & sea.values
        case["weight"] = obs.dims, (cloud & sea.values).astype(np.float32)
        first = CLIPS if others else 0
        yield f"clip-{first + number}", case.assign_attrs(variable="sst")


def write_cases(folder: Path, others: bool) -> None:
    """Write each case to a file."""
    folder.mkdir(exist_ok=True)
    for cases in (real_cases(others), clips(others)):
        for name, case in cases:
            case.to_netcdf(folder / f"{name}.nc")
            print(name, dict(case.sizes), f"{int(case.hidden.sum())} pixels to judge")


def run(folder: Path, results: Path, units: list[str]) -> None:
    """Fill the cases by the methods, and count the errors inside the intervals."""
    done = set()
    if results.exists():
        for line in results.read_text().splitlines():
            record = json.loads(line)
            done.add((record["case"], record["method"]))
    for method in METHODS:
        for path in sorted(folder.glob("*.nc")):
            case = path.stem
            names = {method, case, case.split("-")[0], f"{method}:{case.split('-')[0]}"}
            if (units and not names & set(units)) or (case, method) in done:
                continue
            with results.open("a") as stream:
                stream.write(json.dumps(record_of(path, method)) + "\n")


def record_of(path: Path, method: str) -> dict[str, object]:
    """Fill one case by one method: weights inside each interval, squared errors, seconds."""
    case = xr.open_dataset(path).load()
    number = int(path.stem.split("-")[1])
    name = case.attrs["variable"]
    obs = case["obs"].rename(name)
    withheld = case["hidden"].astype(bool) & obs.notnull()
    started = time.process_time()
    given = withheld if bool(withheld.any()) else None
    filled = fill(obs, method, sea=case["sea"].astype(bool), withheld=given, seed=number)
    seconds = time.process_time() - started
    at = case["hidden"].values.astype(bool)
    error = (filled[name] - case["truth"]).values[at]
    sigma = filled[f"{name}_error"].values[at]
    weight = case["weight"].values[at].astype(float)
    known = np.isfinite(error) & np.isfinite(sigma)
    # Former versions state no distribution: theirs is Gaussian.
    degrees = float(filled[f"{name}_error"].attrs.get("error_degrees_of_freedom", np.inf))
    inside = []
    for level in LEVELS:
        half_width = stdtrit(degrees, (1 + level) / 2) * np.sqrt(1 - 2 / degrees)
        within = np.abs(error) <= half_width * sigma
        inside.append(float(weight[known & within].sum()))
    record = {
        "case": path.stem,
        "method": method,
        "inside": inside,
        "weight": float(weight[known].sum()),
        "degrees": degrees if np.isfinite(degrees) else None,
        "unfilled": float(weight[~known].sum()),
        "squares": float((weight * error**2)[known].sum()),
        "seconds": round(seconds, 1),
    }
    cover = [round(100 * part / record["weight"]) for part in inside]
    print(path.stem, method, cover, f"{seconds:.0f} s", flush=True)
    return record


def pooled(results: Path) -> dict[tuple[str, str], list[dict]]:
    """Results by series and method."""
    found: dict[tuple[str, str], list[dict]] = {}
    for line in results.read_text().splitlines():
        record = json.loads(line)
        found.setdefault((record["case"].split("-")[0], record["method"]), []).append(record)
    return found


def cover(records: list[dict]) -> list[float]:
    """Per cent inside each interval, pooled."""
    total = sum(record["weight"] for record in records)
    return [100 * sum(r["inside"][k] for r in records) / total for k in range(len(LEVELS))]


def tails(records: list[dict]) -> str:
    """Least and most degrees of freedom among the cases."""
    degrees = sorted(record.get("degrees") or np.inf for record in records)
    ends = ["Gaussian" if n == np.inf else f"{n:.1f}" for n in (degrees[0], degrees[-1])]
    return " to ".join(dict.fromkeys(ends))


def write_table(results: Path, former: Path | None) -> None:
    """Write the table of the page; the sections that follow it stay."""
    now = pooled(results)
    before = pooled(former) if former is not None else {}
    rows = []
    for (series, method), records in sorted(now.items()):
        inside = cover(records)
        worst = max(abs(c - 100 * p) for c, p in zip(inside, LEVELS, strict=True))
        total = sum(r["weight"] for r in records)
        rmse = float(np.sqrt(sum(r["squares"] for r in records) / total))
        earlier = "-"
        if (series, method) in before:
            earlier = " / ".join(f"{c:.0f}" for c in cover(before[series, method]))
        shown = " / ".join(f"{c:.0f}" for c in inside)
        each = [cover([record])[1] for record in records]
        spread = f"{min(each):.0f} to {max(each):.0f}"
        line = [series, method, shown, f"{worst:.0f}", spread, earlier, tails(records)]
        rows.append([*line, rmse, len(records)])
    head = ["series", "method", "% inside 50 / 80 / 90 / 95", "worst", "80 % by case", "before"]
    head += ["degrees of freedom", "RMSE", "cases"]
    text = heading(
        "Do stated errors hold?",
        real_series=f"runs of {FRACTION:.0%} of the observations withheld, seeds {SEEDS}; "
        + ", ".join(f"{name}: {path} {crop}" for name, (path, _, _, crop) in REAL.items()),
        clips=f"{CLIPS} of {CLIP}x40x40, OSTIA, under lwp_dycoms.nc hiding {COVERS} by turns",
        options="defaults of each method; seed of the fill: number of the case",
    )
    text += (
        "Fraction of withheld pixels (real series; weighted so that they lie as the gaps do) or of "
        "all gaps (clips) inside the intervals that the stated error gives. *worst*: the largest "
        "difference from the level, points. *before*: by a former version. *Degrees of freedom*: "
        "the least and the most among the cases.\n\n"
    )
    sections = PAGE.read_text().partition("\n## ")
    publish("errors", text + table(head, rows) + "".join(sections[1:]))


def main() -> None:
    step, *rest = sys.argv[1:]
    if step == "cases":
        write_cases(Path(rest[0]), rest[1:] == ["others"])
    elif step == "fill":
        run(Path(rest[0]), Path(rest[1]), rest[2:])
    else:
        write_table(Path(rest[0]), Path(rest[1]) if len(rest) > 1 else None)


if __name__ == "__main__":
    main()
