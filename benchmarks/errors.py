# SPDX-License-Identifier: Apache-2.0
"""Do stated errors hold? Coverage of the 50, 80, 90 and 95 % intervals that `fill` states.

Real cloudy series under withheld runs of dates that took no part in the fit, and clips of 24 images
of gap-free series under simulated clouds that stay, where the truth is known at every gap.

Three steps, so that a former version of sstfill can fill the same series:

    python benchmarks/errors.py cases FOLDER                     writes the series, one file each
    python benchmarks/errors.py fill FOLDER RESULTS [UNIT ...]   fills them; appends to RESULTS
    python benchmarks/errors.py table RESULTS                    writes docs/benchmarks/errors.md

A unit is a method, a case or both, as in ``oi`` or ``oi:npac``; the default is all of both.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from report import ROOT, SHARED, heading, publish, table
from scipy.special import stdtrit

from sstfill import synthetic
from sstfill.fields import grid
from sstfill.fields.reading.sea import find_sea, sea_mask
from sstfill.fill import fill

METHODS = ("oi", "bayes_eof", "gan", "auto", "dineof")
LEVELS = (0.5, 0.8, 0.9, 0.95)
AIM, AIMS = 3, {"dineof": 6}
"""Points that the fraction inside an interval may differ from its level, by method."""
DRAWS = 2000
"""Of cases, to tell how far the fractions vary with them."""
SEEDS = (11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 34)
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
"""Images of a clip, clips of a set, and frames from the clouds of one to those of the next."""
SHIFT, PIXELS = 60, 20
"""Frames, and pixels either way, from the clouds of the first set to those of the second."""
COVERS = (0.3, 0.6)
"""Fractions of the clips that clouds hide, by turns."""
PAGE = ROOT / "docs/benchmarks/errors.md"


def real_cases() -> Iterator[tuple[str, xr.Dataset]]:
    """Real series with runs withheld: the observations, and what of them is withheld."""
    from sstfill.validation.withholding.series_holdout import SeriesHoldout

    for name, (path, variable, select, (rows, columns)) in REAL.items():
        data = xr.open_dataset(SHARED / path).isel(select).load()
        whole = grid.standardise(data[variable])
        sea = sea_mask(whole, find_sea(data))[rows, columns]
        obs = whole[:, rows, columns].where(sea)
        sea = sea & obs.notnull().any("time")
        for number, seed in enumerate(SEEDS):
            held = SeriesHoldout.draw(obs, sea, seed, FRACTION)
            weight = np.zeros(obs.shape, np.float32)
            weight[held.hidden.values] = held.weight
            case = xr.Dataset({"obs": obs.rename("obs"), "truth": obs.rename("truth"), "sea": sea})
            case["hidden"] = held.hidden.drop_attrs()
            case["weight"] = obs.dims, weight
            yield f"{name}-{number}", case.assign_attrs(variable=variable)


def ostia(number: int) -> xr.DataArray:
    """Days of gap-free temperature; those of the second eight clips lie halfway between."""
    whole = xr.open_dataset(SHARED / "truth/ostia_neatl_2003_2004.nc")["sst"].astype("f4").load()
    last, second = whole.sizes["time"] - CLIP, number // CLIPS
    start = number * last // (CLIPS - 1)
    if second:
        start = (2 * (number - CLIPS) + 1) * last // (2 * CLIPS)
    return whole.isel(time=slice(start, start + CLIP))


def globcurrent(number: int) -> xr.DataArray:
    """Days of the eastward current south of Africa, eddies among them, and some land."""
    whole = xr.open_dataset(SHARED / "truth/globcurrent_agulhas_2002.nc")["u"].astype("f4").load()
    start = number * (whole.sizes["time"] - CLIP) // (CLIPS - 1)
    return whole.isel(time=slice(start, start + CLIP), lat=slice(40), lon=slice(40))


def ocean(number: int) -> xr.DataArray:
    """Days of the synthetic ocean as it would be observed, noise included: errors are of that."""
    made = synthetic.ocean(shape=(CLIP, 40, 40), fraction=0.0, land=0.0, step="1D", seed=number)
    return made["sst"]


TRUTHS = {"clip": (ostia, 2 * CLIPS), "globcurrent": (globcurrent, CLIPS), "ocean": (ocean, CLIPS)}
"""Gap-free series, and how many clips of each."""


def clips() -> Iterator[tuple[str, xr.Dataset]]:
    """Clips of gap-free series under liquid water path of a simulated stratocumulus."""
    water = xr.open_dataset(SHARED / "clouds/lwp_dycoms.nc")["LWP"].load()
    for name, (truth_of, count) in TRUTHS.items():
        for number in range(count):
            clip = grid.standardise(truth_of(number))
            turn, second = number % CLIPS, number // CLIPS
            frame = 100 + (second * SHIFT + turn * OFFSET) % (water.sizes["time"] - CLIP - 100)
            # the clouds are periodic
            shift = (-second * PIXELS, -second * PIXELS)
            shifted = np.roll(water.values[frame : frame + CLIP], shift, (1, 2))
            lwp = shifted[:, : clip.shape[1], : clip.shape[2]]
            cloud = lwp > np.quantile(lwp, 1 - COVERS[number % len(COVERS)])
            obs = clip.where(~cloud)
            # A pixel that is never seen is no part of the sea, for fill as for us.
            sea = obs.notnull().any("time")
            case = xr.Dataset({"obs": obs.rename("obs"), "truth": clip.rename("truth"), "sea": sea})
            hidden = cloud & sea.values
            case["hidden"] = obs.dims, hidden
            case["weight"] = obs.dims, hidden.astype(np.float32)
            yield f"{name}-{number}", case.assign_attrs(variable=str(clip.name))


def write_cases(folder: Path) -> None:
    """Write each case to a file."""
    folder.mkdir(exist_ok=True)
    for cases in (real_cases(), clips()):
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
    seen = (obs.notnull() & ~withheld).sum("time").values
    dates = np.broadcast_to(seen, at.shape)[at]
    # Former versions state no distribution: theirs is Gaussian.
    degrees = float(filled[f"{name}_error"].attrs.get("error_degrees_of_freedom", np.inf))
    record = {"case": path.stem, "method": method, **judged(error, sigma, degrees, weight, dates)}
    record["seconds"] = round(seconds, 1)
    percent = [round(100 * part / record["weight"]) for part in record["inside"]]
    print(path.stem, method, percent, f"{seconds:.0f} s", flush=True)
    return record


def judged(
    error: np.ndarray, sigma: np.ndarray, degrees: float, weight: np.ndarray, dates: np.ndarray
) -> dict[str, object]:
    """Weights inside each interval, and at 80 % by thirds of the pixels: seen seldom to often."""
    known = np.isfinite(error) & np.isfinite(sigma)
    inside = []
    for level in LEVELS:
        half_width = stdtrit(degrees, (1 + level) / 2) * np.sqrt(1 - 2 / degrees)
        inside.append(weight * (known & (np.abs(error) <= half_width * sigma)))
    third = np.searchsorted(np.quantile(dates, (1 / 3, 2 / 3)), dates)
    return {
        "inside": [float(part.sum()) for part in inside],
        "weight": float(weight[known].sum()),
        "thirds": [float(inside[1][third == k].sum()) for k in range(3)],
        "weights": [float(weight[known & (third == k)].sum()) for k in range(3)],
        "unfilled": float(weight[~known].sum()),
        "squares": float((weight * error**2)[known].sum()),
    }


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


def standard_errors(records: list[dict]) -> list[float]:
    """Standard error of `cover`: its standard deviation over draws of as many cases."""
    weight = np.array([record["weight"] for record in records])
    inside = np.array([record["inside"] for record in records])
    drawn = np.random.default_rng(0).integers(len(records), size=(DRAWS, len(records)))
    found = 100 * inside[drawn].sum(1) / weight[drawn].sum(1)[:, np.newaxis]
    return found.std(0).tolist()


def by_dates(records: list[dict]) -> str:
    """Per cent inside at 80 % of each third of the pixels, pooled."""
    shown = []
    for k in range(3):
        weight = sum(record["weights"][k] for record in records)
        held = sum(record["thirds"][k] for record in records)
        shown.append(f"{100 * held / weight:.0f}" if weight else "-")
    return " / ".join(shown)


def row(series: str, method: str, records: list[dict]) -> list[object]:
    """Row of the table: what is inside, and how sure it is that it differs from the aim."""
    inside, errors = cover(records), standard_errors(records)
    missed = [c - 100 * p for c, p in zip(inside, LEVELS, strict=True)]
    worst = int(np.argmax(np.abs(missed)))
    each = [cover([record])[1] for record in records]
    total = sum(record["weight"] for record in records)
    return [
        series,
        method,
        " / ".join(f"{c:.1f}" for c in inside),
        " / ".join(f"{e:.1f}" for e in errors),
        f"{missed[worst]:+.1f} ± {errors[worst]:.1f}",
        "yes" if abs(missed[worst]) <= AIMS.get(method, AIM) else "**no**",
        f"{min(each):.0f} to {max(each):.0f}",
        by_dates(records),
        float(np.sqrt(sum(record["squares"] for record in records) / total)),
        len(records),
    ]


def write_table(results: Path) -> None:
    """Write the table of the page; the sections that follow it stay."""
    found = pooled(results)
    series = [*TRUTHS, *REAL]
    rows = []
    for name, method in itertools.product(series, METHODS):
        if (name, method) in found:
            rows.append(row(name, method, found[name, method]))
    head = ["series", "method", "% inside 50 / 80 / 90 / 95", "standard error", "worst", "in aim"]
    head += ["80 % by case", "80 % by dates", "RMSE", "cases"]
    text = heading(
        "Do stated errors hold?",
        real_series=f"runs of {FRACTION:.0%} of the observations withheld, seeds {SEEDS}; "
        + ", ".join(f"{name}: {path} {crop}" for name, (path, _, _, crop) in REAL.items()),
        clips=f"{CLIP}x40x40 under lwp_dycoms.nc hiding {COVERS} by turns; clip: OSTIA, "
        "globcurrent: eastward current, ocean: sstfill.synthetic.ocean, noise 0.1 degC",
        options="defaults of each method; seed of the fill: number of the case",
    )
    text += (
        "Fraction of withheld pixels (real series; weighted so that they lie as the gaps do) or of "
        "all gaps (clips) inside the intervals that the stated error gives, pooled over the cases. "
        f"*Standard error*, points: standard deviation over {DRAWS} draws of as many cases. "
        "*Worst*: the largest difference from a level, points. *In aim*: whether that is within "
        f"{AIM} points ({AIMS['dineof']} for `dineof`). *80 % by case*: the least and the most. "
        "*80 % by dates*: of the third of the pixels that are seen on the fewest dates, the second "
        "and the last.\n\n"
    )
    sections = PAGE.read_text().partition("\n## ")
    publish("errors", text + table(head, rows) + "".join(sections[1:]))


def main() -> None:
    step, *rest = sys.argv[1:]
    if step == "cases":
        write_cases(Path(rest[0]))
    elif step == "fill":
        run(Path(rest[0]), Path(rest[1]), rest[2:])
    else:
        write_table(Path(rest[0]))


if __name__ == "__main__":
    main()
