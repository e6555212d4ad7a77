# SPDX-License-Identifier: Apache-2.0
"""Every method on every real series at hand, scored on withheld clouds.

Three kinds of case: series whose withheld clouds came with them (the Fortran program was run on
them); cloudy series under clouds transplanted from their other dates (two seeds pooled); and
gap-free series put under synthetic clouds that stay for days, scored at all hidden pixels against
the truth.

Run: OMP_NUM_THREADS=2 python benchmarks/withheld_clouds.py
"""

from __future__ import annotations

import sys

import numpy as np
import xarray as xr
from report import SHARED, heading, publish, table

from sstfill import synthetic
from sstfill.evaluation import Scorecard, score, score_against
from sstfill.fill import fill
from sstfill.methods import METHODS, Dineof

SEED, REPEATS = 0, 2
SHIPPED = "dineof (alpha 0.01, random CV)"
GIVEN = {
    "Alboran SST, 10 images (s42)": ("dineof/alboran_s42", "sst", 0.568),
    "Madrid LST, 28 images (s42)": ("dineof/lst_madrid_s42", "lst", 1.291),
}
CLOUDY = {
    "Alboran L3S SST 2022, 92 images": ("real/alboran_l3s_2022.nc", "sst", {}),
    "N Pacific MODIS SST 2016, 28 images": ("real/npac_modis_2016.nc", "sst", {}),
    "Alboran AVHRR SST 2017, 10 images": ("real/alboran_avhrr_2017.nc", "sst", {}),
    "NDVI, 48 images, 20 % masked": ("bench/gapfill_maskstudy_ndvi.nc", "ndvi", {"level": 1}),
    "NDVI, 48 images, 50 % masked": ("bench/gapfill_maskstudy_ndvi.nc", "ndvi", {"level": 2}),
}
GAPFREE = {
    "OSTIA SST, 365 images": ("truth/ostia_neatl_2003_2004.nc", "sst", 365),
    "Mediterranean sea level, 91 images": ("truth/adt_med_2005.nc", "adt", 91),
    "Agulhas current speed, 181 images": ("truth/globcurrent_agulhas_2002.nc", "speed", 181),
}


def given(stem: str, variable: str) -> Scorecard:
    """Fill the input whose clouds were withheld beforehand; the truth is known at those pixels."""
    obs = xr.open_dataset(SHARED / f"{stem}_input.nc")
    truth = xr.open_dataset(SHARED / f"{stem}_truth.nc")[variable]
    where = obs[variable].isnull() & truth.notnull()
    methods = {name: name for name in METHODS} | {
        SHIPPED: Dineof(alpha=0.01, cross_validation="random")
    }
    filled = {label: fill(obs, m, variables=variable, seed=SEED) for label, m in methods.items()}
    return score_against(truth, filled, where, obs=obs[variable])


def cloudy(path: str, variable: str, select: dict[str, int]) -> Scorecard:
    """Withhold clouds of other dates from a cloudy series."""
    data = xr.open_dataset(SHARED / path).isel(select)
    return score(data, "all", variable=variable, seed=SEED, repeats=REPEATS)


def gapfree(path: str, variable: str, images: int) -> Scorecard:
    """Put persistent clouds over a complete series, and score all that they hide."""
    truth = xr.open_dataset(SHARED / path)[variable].isel(time=slice(images)).astype("float32")
    sea = truth.notnull().any("time")
    shape = tuple(truth.sizes[d] for d in ("time", "lat", "lon"))
    cloud = synthetic.clouds(
        shape=shape, fraction=0.6, step="1D", persistence="5D", scale_km=400, grid_km=15, seed=SEED
    )
    obs = truth.where(~cloud.values)
    sea &= obs.notnull().any("time")
    filled = {name: fill(obs, name, sea=sea, seed=SEED) for name in METHODS}
    return score_against(truth, filled, truth.notnull() & obs.isnull() & sea, obs=obs)


def row(case: str, card: Scorecard, fortran: float | str) -> list[list[object]]:
    """Lines of the table of one case, best first."""
    data = card.data
    order = np.argsort(data["rmse"].values)
    lines = []
    for i in order:
        one = data.isel(method=int(i))
        cover = [f"{100 * v:.0f}" for v in one["coverage"].values]
        lines.append(
            [
                case,
                str(one["method"].values),
                float(one["rmse"]),
                float(one["mae"]),
                float(one["bias"]),
                " / ".join(cover),
                int(one["n"]),
                fortran if "dineof" in str(one["method"].values) else "",
            ]
        )
        case = ""
    return lines


def compared(case: str, card: Scorecard) -> list[object]:
    """The best single method of a case, and how much worse or better auto is."""
    rmse = card.data["rmse"].to_series()
    single = rmse.drop("auto")
    return [case, single.idxmin(), single.min(), rmse["auto"], f"{rmse['auto'] / single.min():.3f}"]


def main() -> None:
    rows: list[list[object]] = []
    against: list[list[object]] = []
    wanted = " ".join(sys.argv[1:]).lower()
    jobs = [(c, given, a[:2], a[2]) for c, a in GIVEN.items()] + [
        (c, cloudy, a, "-") for c, a in CLOUDY.items()
    ]
    for case, judge, arguments, fortran in jobs + [
        (c, gapfree, a, "-") for c, a in GAPFREE.items()
    ]:
        if wanted and wanted not in case.lower():
            continue
        card = judge(*arguments)
        rows += row(case, card, fortran)
        against.append(compared(case, card))
        print(*rows[-len(METHODS) :], sep="\n", flush=True)
    text = heading(
        "Withheld clouds: every method on every real series",
        seed=SEED,
        repeats=f"{REPEATS} (cloudy series)",
        hidden="10 % of the observed pixels (cloudy series); 60 % under clouds of 5 days (gap-free "
        "series)",
        options="defaults of each method",
    )
    text += table(
        [
            "case",
            "method",
            "RMSE",
            "MAE",
            "bias",
            "% within 50 / 68 / 80 / 90 / 95",
            "pixels",
            "Fortran DINEOF RMSE",
        ],
        rows,
    )
    text += "\n## auto against the best single method\n\n"
    text += table(["case", "best single", "RMSE", "auto", "ratio"], against)
    text += (
        "\nFortran: for the Alboran series the mean of three draws of withheld clouds (this "
        "is one of them) with the options it ships (alpha 0.01; with alpha 0.1 it had "
        "0.481); for Madrid alpha 0. The project's facts list two rivals on the Alboran "
        "draws: pixel + image mean 0.472, untuned local optimal interpolation 0.364 (mean of "
        "three draws; 0.313 on this one).\n\n`% within`: fraction of the withheld pixels within "
        "the stated interval; units are those of the variable.\n"
    )
    if not wanted:
        publish("withheld_clouds", text)


if __name__ == "__main__":
    main()
