# SPDX-License-Identifier: Apache-2.0
"""Fields drawn by the methods that can draw: are they as wrong as they say, alone and on average?

Gap-free fields under synthetic clouds that stay for days are compared with the truth wherever they
were hidden, and their spectra with that of the truth; cloudy series are scored under runs of dates
that are withheld. Beside the coverage of means over patches by draws stands what independent errors
of the pixels would claim.

Run: OMP_NUM_THREADS=2 python benchmarks/draws.py [PART OF A CASE'S NAME]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import xarray as xr
from report import ROOT, SHARED, heading, peak_mb, publish, table, timed

from sstfill import plot, synthetic
from sstfill.evaluation import Scorecard, score, score_against
from sstfill.fill import fill
from sstfill.methods import method_class
from sstfill.methods.base import Simulates

METHODS = ("oi", "bayes_eof", "auto", "gan")
MEMBERS, SEED, REPEATS = 20, 0, 2
IMAGES = 48
LEVELS = (0.5, 0.8, 0.9, 0.95)
SIDES = (4, 8)
WAVES = (4.0, 32.0)
"""Wavelengths over which spectra are compared, pixels."""
CLOUDS = {"fraction": 0.6, "step": "1D", "persistence": "5D", "scale_km": 400.0, "grid_km": 15.0}
REAL = {
    "Alboran L3S SST 2022, 92 images": ("real/alboran_l3s_2022.nc", "sst"),
    "N Pacific MODIS SST 2016, 28 images": ("real/npac_modis_2016.nc", "sst"),
}


def synthetic_ocean() -> xr.DataArray:
    """A complete ocean as it would be observed, noise included: draws are that, too."""
    ds = synthetic.ocean(shape=(IMAGES, 64, 64), step="1D", land=0.0, seed=SEED)
    noise = np.random.default_rng(SEED).normal(0, 0.1, ds["truth"].shape)
    return (
        (ds["truth"] + noise.astype(np.float32))
        .rename("sst")
        .assign_attrs(units="degC", long_name="sea surface temperature")
    )


def ostia() -> xr.DataArray:
    return xr.open_dataset(SHARED / "truth/ostia_neatl_2003_2004.nc")["sst"][:IMAGES]


def globcurrent() -> xr.DataArray:
    """The part without land: a spectrum needs a whole rectangle."""
    return xr.open_dataset(SHARED / "truth/globcurrent_agulhas_2002.nc")["speed"][:IMAGES, :21]


GAPFREE: dict[str, Callable[[], xr.DataArray]] = {
    f"synthetic ocean, {IMAGES} x 64 x 64": synthetic_ocean,
    f"OSTIA SST, {IMAGES} x 40 x 40": ostia,
    f"Agulhas current speed, {IMAGES} x 21 x 81": globcurrent,
}


def clouded(truth: xr.DataArray) -> xr.DataArray:
    """Hide a truth under clouds that stay for days."""
    shape = (truth.shape[0], truth.shape[1], truth.shape[2])
    cloud = synthetic.clouds(shape=shape, seed=SEED, **CLOUDS)
    return truth.where(~cloud.values).assign_attrs(truth.attrs)


def drawn(obs: xr.DataArray, name: str, members: int) -> xr.Dataset:
    """Fill by a method, with members if it can draw them."""
    if not isinstance(method_class(name)(), Simulates):
        members = 0
    sea = obs[0].notnull() | True
    return fill(obs, name, sea=sea.drop_vars("time"), members=members, seed=SEED)


def gapfree(make: Callable[[], xr.DataArray]) -> Scorecard:
    truth = make().astype("float32").load()
    obs = clouded(truth)
    filled = {name: drawn(obs, name, MEMBERS) for name in METHODS}
    return score_against(truth, filled, obs.isnull(), obs=obs, sea=xr.ones_like(truth[0], bool))


def cloudy(path: str, variable: str) -> Scorecard:
    data = xr.open_dataset(SHARED / path)
    return score(
        *(data, METHODS),
        variable=variable,
        clouds="runs",
        seed=SEED,
        repeats=REPEATS,
        members=MEMBERS,
    )


def percent(values: xr.DataArray) -> str:
    return " / ".join(f"{100 * v:.0f}" if np.isfinite(v) else "-" for v in values.values)


def decibels(one: xr.Dataset, name: str) -> str:
    """Least and greatest ratio to the truth over `WAVES`."""
    if name not in one:
        return "-"
    middle = (one["wavelength"] >= WAVES[0]) & (one["wavelength"] <= WAVES[1])
    ratio = one[name].where(middle)
    if not ratio.notnull().any():
        return "-"
    return f"{float(ratio.min()):+.1f} to {float(ratio.max()):+.1f}"


def known(value: xr.DataArray) -> float | str:
    """A number, or a dash for a method that cannot draw."""
    return float(value) if value.notnull() else "-"


def rows(case: str, card: Scorecard) -> tuple[list[list[object]], list[list[object]]]:
    """Lines of a case in the table of pixels and of that of patches and spectra."""
    of_pixels, of_patches = [], []
    for number, name in enumerate(card.data["method"].values):
        one = card.data.isel(method=number)
        of_pixels.append(
            [
                *(case, str(name), float(one["rmse"]), float(one["crps"])),
                *(known(one[key]) for key in ("crps_members", "energy", "rank_deviation")),
                *(percent(one["coverage"].sel(level=list(LEVELS))), int(one["n"])),
            ]
        )
        line: list[object] = [case, str(name)]
        for side in SIDES:
            at = {"patch": side, "level": list(LEVELS)}
            line += [
                percent(one["patch_coverage"].sel(at)),
                percent(one["patch_coverage_independent"].sel(at)),
                int(one["n_patches"].sel(patch=side)),
            ]
        line += [decibels(one, f"power_ratio_{what}") for what in ("draws", "mean")]
        of_patches.append(line)
        case = ""
    return of_pixels, of_patches


def cost(name: str, members: int) -> None:
    """Fill the synthetic ocean and print CPU seconds, wall seconds and the peak of memory (MB)."""
    obs = clouded(synthetic_ocean())
    drawn(obs[:, :16, :16], name, members)  # compiles what is compiled
    with timed() as clock:
        drawn(obs, name, members).load()
    print(f"{clock.cpu:.1f} {clock.wall:.1f} {peak_mb():.0f}")


def costs() -> list[list[object]]:
    """Time and memory without draws and with, each in a process of its own."""
    lines: list[list[object]] = []
    for name in METHODS:
        if not isinstance(method_class(name)(), Simulates):
            continue
        for members in (0, MEMBERS):
            command = [sys.executable, __file__, "--cost", name, str(members)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            lines.append([name, members, *told.split()[-3:]])
    return lines


def picture() -> None:
    """Draw four fields of the synthetic ocean on a cloudy day."""
    obs = clouded(synthetic_ocean())
    filled = drawn(obs, "oi", 4).assign(sea=xr.ones_like(obs[0], "int8").drop_vars("time"))
    cover = obs.isnull().mean(("lat", "lon")).values
    day = int(np.argmin(abs(cover - 0.7)))
    target = ROOT / "docs/images/draws.png"
    plot.save(plot.members(filled, variable="sst", time=day, n=4), target)
    print(f"drawn to {target}")


def main() -> None:
    wanted = " ".join(sys.argv[1:]).lower()
    jobs = {case: partial(gapfree, make) for case, make in GAPFREE.items()}
    jobs |= {case: partial(cloudy, *where) for case, where in REAL.items()}
    of_pixels: list[list[object]] = []
    of_patches: list[list[object]] = []
    for case, judge in jobs.items():
        if wanted and wanted not in case.lower():
            continue
        for lines, more in zip((of_pixels, of_patches), rows(case, judge()), strict=True):
            lines += more
            print(*more, sep="\n", flush=True)
    levels = " / ".join(f"{100 * level:.0f}" for level in LEVELS)
    text = heading(
        "Draws: how wrong are filled fields, pixel by pixel and on average?",
        members=MEMBERS,
        seed=SEED,
        hidden=f"gap-free: {CLOUDS['fraction']:.0%} under clouds of {CLOUDS['persistence']}; "
        f"cloudy series: 10 % in withheld runs of dates, {REPEATS} times",
        options="defaults of each method; errors scaled as `fill` scales them",
    )
    text += "## Pixels\n\n"
    text += table(
        [
            *("case", "method", "RMSE", "CRPS", "CRPS of draws", "energy", "rank deviation"),
            *(f"% within {levels}", "pixels"),
        ],
        of_pixels,
    )
    text += "\n## Means over patches of withheld pixels, and spectra\n\n"
    head = ["case", "method"]
    for side in SIDES:
        patch = f"{side} x {side}"
        head += [f"{patch}: % within {levels} by draws", "by independent errors", "patches"]
    span = f"{WAVES[0]:.0f} to {WAVES[1]:.0f} pixels"
    head += [f"power of draws, {span} (dB of the truth)", "of the mean"]
    text += table(head, of_patches)
    text += (
        "\nRank deviation: sum of the distances of the rank histogram from a flat one; 0 is flat, "
        "2 the most. A dash: the method cannot draw, no square of that size is withheld, or the "
        "truth has gaps, so that it has no spectrum. By draws, the interval is as wide as the "
        "distance from the estimate that so many of the members' means keep. Patches do not "
        "overlap; a large one on one date is not independent of the next date's.\n"
    )
    if not wanted:
        text += "\n## Cost of draws: the synthetic ocean\n\n"
        text += table(["method", "members", "CPU s", "wall s", "peak MB"], costs())
        picture()
        text += "\n![Four draws of the synthetic ocean by `oi`](../images/draws.png)\n"
        publish("draws", text)
    else:
        print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cost"]:
        cost(sys.argv[2], int(sys.argv[3]))
    else:
        main()
