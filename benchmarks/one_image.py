# SPDX-License-Identifier: Apache-2.0
"""One image, of which whole regions are hidden, filled by optimal interpolation: which covariance,
which neighbours, which background, and what the defaults make of it.

Each image is hidden three times, under the shape of a real cloud from another scene. An error is
that of all pixels hidden.

Run: OMP_NUM_THREADS=1 python benchmarks/one_image.py [IMAGE ...]
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from report import SHARED, heading, publish, table, timed
from scipy.ndimage import distance_transform_edt
from scipy.special import ndtri

from sstfill.fields.grid import standardise
from sstfill.methods import Oi
from sstfill.methods.oi.covariance import Offsets, ranked_offsets
from sstfill.methods.oi.covariance_fit import FittedCovariance, fit_covariance
from sstfill.validation import metrics

SEED, SHAPES = 0, 3
COVER = (0.25, 0.4)
"""Part of what an image shows that a cloud is to hide."""
TRIED = 20
"""Clouds of that size that are looked at; the one is taken whose pixels lie farthest inside it."""
COVARIANCES = ("exponential", "matern", "gauss", "two-scale")
RULES = (("nearest", 50), ("nearest", 200), ("by quadrant", 50))
BACKGROUNDS = ("mean", "trend")
MODELS = (*itertools.product(COVARIANCES, BACKGROUNDS), ("auto", "auto"))
DEFAULT = ("auto", "auto", "by quadrant", 50)
CLOUDS = "clouds/slstr_ne_atl.nc"


class Image(NamedTuple):
    """A field of one time, the sea, and every how manieth pixel of the cloud scene is taken."""

    truth: xr.DataArray
    sea: xr.DataArray
    stride: int


class Result(NamedTuple):
    """Estimates at the hidden pixels, their stated error, and CPU seconds of fit and fill."""

    truth: NDArray
    mean: NDArray
    error: NDArray
    seconds: float


def images() -> dict[str, Image]:
    lst = xr.open_dataset(SHARED / "dineof/lst_madrid.nc")
    ndvi = xr.open_dataset(SHARED / "bench/gapfill_maskstudy_ndvi.nc").ndvi.isel(level=0, drop=True)
    l3s = xr.open_dataset(SHARED / "real/alboran_l3s_2022.nc")
    ostia = xr.open_dataset(SHARED / "truth/ostia_neatl_2003_2004.nc").sst
    scene = xr.open_dataset(SHARED / "clouds/slstr_nw_med.nc")
    scene = scene.isel(lat=slice(250, 650, 2), lon=slice(100, 700, 2))
    swath = scene.sst.where(scene.cloud == 0).expand_dims(time=[np.datetime64("2020-01-01", "ns")])
    return {
        "LST of Madrid": Image(lst.lst[[9]], lst["mask"] == 1, 4),
        "NDVI": Image(ndvi[[30]], ndvi.notnull().any("time"), 4),
        "SST of the Alboran Sea (L3S)": Image(l3s.sst[[0]], l3s["mask"] == 1, 8),
        "SST of the Atlantic (OSTIA)": Image(ostia[[200]], ostia.notnull().all("time"), 8),
        "SST of a swath (SLSTR)": Image(swath, scene.cloud != 3, 3),
    }


def cloud(seen: NDArray[np.bool_], stride: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Shape of a cloud that hides a part of `COVER` of what is seen."""
    scene = xr.open_dataset(SHARED / CLOUDS)["cloud"].values
    size = [n * stride for n in seen.shape]
    deepest, best, found = -1.0, np.zeros_like(seen), 0
    while found < TRIED:
        y, x = (int(rng.integers(n - k + 1)) for n, k in zip(scene.shape, size, strict=True))
        window = scene[y : y + size[0] : stride, x : x + size[1] : stride]
        hidden = (window != 0) & seen
        # no more than a trace of land, or of places that the scene does not tell of
        if (window >= 2).mean() > 0.02 or not COVER[0] <= hidden.sum() / seen.sum() <= COVER[1]:
            continue
        found += 1
        depth = float(np.median(distance_transform_edt(~(seen & ~hidden))[hidden]))
        if depth > deepest:
            deepest, best = depth, hidden
    return best


def nearest_only(*given: object) -> Offsets:
    """Offsets without the sparse list, from which quadrants get their share."""
    found = ranked_offsets(*given)
    return found._replace(sparse=found.sparse[:0])


def results(image: Image, hidden: NDArray[np.bool_]) -> Iterator[tuple[tuple, Result]]:
    """Fill by all covariances, backgrounds and rules; what the first of the rules takes, the fit
    with it, counts for each.
    """
    truth = standardise(image.truth.astype(np.float32).load())
    obs = truth.where(~hidden)
    for covariance, background in MODELS:
        fits: dict[int, FittedCovariance] = {}

        def once(*given: object, fits: dict[int, FittedCovariance] = fits) -> FittedCovariance:
            if not fits:
                fits[0] = fit_covariance(*given)
            return fits[0]

        fitting = 0.0
        for rule, neighbours in RULES:
            method = Oi(covariance=covariance, background=background, neighbours=neighbours)
            order = ranked_offsets if rule == "by quadrant" else nearest_only
            with (
                patch("sstfill.methods.oi.method.fit_covariance", once),
                patch("sstfill.methods.oi.solver.ranked_offsets", order),
                timed() as clock,
            ):
                found = method.reconstruct(obs, image.sea)
            values = (a.values[0][hidden] for a in (truth, found["mean"], found["error"]))
            yield (covariance, background, rule, neighbours), Result(*values, clock.cpu + fitting)
            fitting = fitting or clock.cpu


def row(key: tuple, parts: list[Result], best: float) -> list[object]:
    truth, mean, error = (np.concatenate([p[k] for p in parts]).astype(float) for k in range(3))
    mae = metrics.mae(mean, truth)
    held = np.mean(np.abs(mean - truth) < ndtri(0.9) * error)
    covariance, background, rule, neighbours = key
    name = f"**{covariance}** (defaults)" if key == DEFAULT else covariance
    return [
        name,
        background,
        f"{neighbours} {rule}",
        f"{mae:.4g}",
        f"{mae / best:.3f}",
        f"{metrics.rmse(mean, truth):.4g}",
        f"{100 * held:.0f}",
        f"{sum(p.seconds for p in parts):.1f}",
    ]


def main() -> None:
    rng = np.random.default_rng(SEED)
    head = ["covariance", "background", "neighbours", "MAE", "of the best", "RMSE", "80 % holds"]
    sections, summary = [], []
    for name, image in images().items():
        seen = image.truth.notnull().values[0] & image.sea.values
        found: dict[tuple, list[Result]] = {}
        told = []
        for _ in range(SHAPES):
            hidden = cloud(seen, image.stride, rng)
            told.append(f"{hidden.sum()}")
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            for key, result in results(image, hidden):
                found.setdefault(key, []).append(result)
        if not found:
            continue
        errors = {}
        for key, parts in found.items():
            errors[key] = np.abs(np.concatenate([p.mean - p.truth for p in parts])).mean()
        best = min(errors.values())
        rows = [row(key, parts, best) for key, parts in found.items()]
        best_key = min(errors, key=errors.__getitem__)
        summary.append(
            [
                name,
                f"{errors[DEFAULT]:.4g}",
                f"{best:.4g}",
                ", ".join(map(str, best_key)),
                f"{errors[DEFAULT] / best:.3f}",
            ]
        )
        print(*summary[-1], flush=True)
        size = " x ".join(map(str, seen.shape))
        sections.append(
            f"## {name}\n\n{size} pixels, {seen.sum()} of them seen, of which "
            f"{', '.join(told)} are hidden.\n\n" + table([*head, "CPU s"], rows)
        )
    text = heading(
        "One image with regions missing",
        images=f"one each of five series, each hidden {SHAPES} times under clouds of {CLOUDS}, "
        f"seed {SEED}",
        method="`oi` with covariances, backgrounds and neighbours as told, all else as by default",
        run="python benchmarks/one_image.py",
    )
    text += (
        "*Of the best* is the mean absolute error over the least one in the table. Errors are as "
        "the method states them: `fill` would still scale them. CPU seconds are those of fit and "
        "fill, of all three hidings together; they take in what is compiled first.\n\n"
    )
    text += table(["image", "MAE of the defaults", "least", "by", "ratio"], summary) + "\n"
    publish("one_image", text + "\n".join(sections))


if __name__ == "__main__":
    main()
