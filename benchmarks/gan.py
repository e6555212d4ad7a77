# SPDX-License-Identifier: Apache-2.0
"""The network against optimal interpolation, DINEOF and the rest: the paper's Table 2, real series,
ablation, speed.

Each part writes a page of docs/benchmarks/gan_*.md; equal seeds draw equal sequences and clouds for
every method.

Run: OMP_NUM_THREADS=1 python benchmarks/gan.py table2|real|calibration|guesses|ablation|speed
[--quick]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import withheld_clouds as real_cases
import xarray as xr
from numpy.typing import NDArray
from report import ROOT, SHARED, heading, publish, table

from sstfill import occlusion, synthetic
from sstfill.evaluation import score, score_against
from sstfill.fields import grid
from sstfill.fill import fill
from sstfill.methods import Dineof, Gan, Method, Oi, method_class
from sstfill.methods.registry import seeded
from sstfill.nn.checkpoint import checkpoint
from sstfill.training.data.oceans import PAPER_FRACTIONS as FRACTIONS
from sstfill.validation import metrics

QUICK = "--quick" in sys.argv
"""Occluded fractions of the paper's Table 2a."""
CLIP, CLIPS, SIZE = 24, 2, 64
ARCHIVE = 24 * (4 if QUICK else 10)
"""Images of the ocean that clips are the last of."""
SEED = 900_000
"""Of oceans and clouds: none that a network was trained on."""
MODELS = ROOT / "benchmarks" / "models"


def sea_of(obs: xr.DataArray) -> xr.DataArray:
    return xr.DataArray(
        np.ones(obs.shape[1:], bool), dims=obs.dims[1:], coords={d: obs[d] for d in obs.dims[1:]}
    )


def made(method: Method | str, obs: xr.DataArray) -> tuple[NDArray, NDArray | None, float]:
    """Mean and error of a whole series, and the seconds it took."""
    chosen = seeded(method_class(method), 0) if isinstance(method, str) else method
    start = time.perf_counter()
    found = chosen.reconstruct(obs, sea_of(obs)).load()
    seconds = time.perf_counter() - start
    return found["mean"].values, found["error"].values if "error" in found else None, seconds


class Pool:
    """Errors of one method under one fraction of clouds, pooled over clips."""

    def __init__(self) -> None:
        self.error: list[NDArray] = []
        self.sigma: list[NDArray] = []
        self.seconds = 0.0

    def add(
        self,
        mean: NDArray,
        sigma: NDArray | None,
        truth: NDArray,
        where: NDArray,
        seconds: float = 0.0,
    ) -> None:
        error = (mean - truth)[where]
        level = truth[
            ~where
        ].mean()  # a method that leaves a pixel unfilled has said no more than the mean
        self.error.append(np.where(np.isfinite(error), error, level - truth[where]))
        if sigma is not None:
            self.sigma.append(sigma[where])
        self.seconds += seconds

    @property
    def mae(self) -> float:
        return float(np.abs(np.concatenate(self.error)).mean())

    def row(self) -> list[float]:
        error = np.concatenate(self.error)
        return [self.mae, float(np.sqrt(np.square(error).mean())), float(error.mean())]

    def cover(self) -> str:
        if not self.sigma:
            return ""
        error, sigma = np.concatenate(self.error), np.concatenate(self.sigma)
        return " / ".join(
            f"{100 * metrics.coverage(error, sigma, p):.0f}" for p in (0.5, 0.8, 0.9, 0.95)
        )


def networks() -> dict[str, Method]:
    """The shipped network in its three ways, and those that this benchmark trained."""
    found: dict[str, Method] = {"gan": Gan(), "gan, network alone": Gan(adapt=False)}
    for folder in sorted(MODELS.glob("*")) if MODELS.is_dir() else []:
        found[f"{folder.name} (trained here)"] = Gan(model=checkpoint.Checkpoint.load(folder))
    return found


def table2() -> None:
    """MAE in the occluded area by fraction, on clips of oceans that the networks have not seen."""
    methods: dict[str, Method | str] = {
        "linear in time": "interpolate",
        "dineof, clip by clip": "dineof",
        "bayes_eof": "bayes_eof",
        "oi": "oi",
        "auto": "auto",
        **networks(),
    }
    pools: dict[tuple[str, float], Pool] = {}
    for fraction in FRACTIONS:
        for k in range(CLIPS):
            seed = SEED + k
            truth = grid.standardise(
                synthetic.sst(shape=(ARCHIVE, SIZE, SIZE), step="6h", seed=seed)
            )
            cloudy = synthetic.clouds(
                shape=truth.shape, fraction=fraction, step="6h", seed=seed
            ).values
            obs = truth.where(~cloudy)
            last = dict(time=slice(-CLIP, None))
            clip, where = obs.isel(last), cloudy[-CLIP:]
            wanted = truth.isel(last).values
            for name, method in methods.items():
                mean, sigma, seconds = made(method, clip)
                pools.setdefault((name, fraction), Pool()).add(mean, sigma, wanted, where, seconds)
            mean, sigma, seconds = made("dineof", obs)
            whole = pools.setdefault(("dineof, whole archive", fraction), Pool())
            whole.add(
                mean[-CLIP:], None if sigma is None else sigma[-CLIP:], wanted, where, seconds
            )
            here = {n: np.abs(p.error[-1]).mean() for (n, s), p in pools.items() if s == fraction}
            print(fraction, k, {n: round(float(error), 4) for n, error in here.items()}, flush=True)
    names = list(dict.fromkeys(name for name, _ in pools))
    rows = [
        [n, *(pools[n, s].mae for s in FRACTIONS), pools[n, 0.4].seconds / CLIPS] for n in names
    ]
    best = [min(pools[n, s].mae for n in ("oi", "auto", "linear in time")) for s in FRACTIONS]
    first = [pools["dineof, clip by clip", s].mae for s in FRACTIONS]
    for name in (n for n in names if n.startswith("gan")):
        rows.append(
            [
                f"{name}, over the best of oi, auto, linear",
                *(pools[name, s].mae / b for s, b in zip(FRACTIONS, best, strict=True)),
                "",
            ]
        )
        rows.append(
            [
                f"{name}, over dineof clip by clip",
                *(pools[name, s].mae / b for s, b in zip(FRACTIONS, first, strict=True)),
                "",
            ]
        )
    cover = [[n, *(pools[n, s].cover() for s in FRACTIONS)] for n in names if pools[n, 0.4].sigma]
    text = heading(
        "The paper's Table 2 on the synthetic ocean",
        sequences=f"{CLIPS} clips of {CLIP}x{SIZE}x{SIZE}, 6 "
        f"hours apart, the last of oceans of {ARCHIVE} images, without noise",
        seeds=f"{SEED} and on",
        model=str(Gan().checkpoint),
    )
    text += "MAE in the occluded area, °C, by occluded fraction; seconds a clip at 40 %.\n\n"
    text += table(["", *(f"{s:.1%}" for s in FRACTIONS), "s"], rows)
    text += (
        "\nFraction of occluded pixels inside the 50 / 80 / 90 / 95 % intervals (truth without "
        "noise).\n\n"
    )
    publish("gan_table2", text + table(["", *(f"{s:.1%}" for s in FRACTIONS)], cover))


def real() -> None:
    """Real series under withheld clouds, the network zero-shot; the clouds of
    docs/benchmarks/withheld_clouds.md.
    """
    chosen: dict[str, Method] = {"gan": Gan(), "gan, network alone": Gan(adapt=False)}
    lines: list[list[object]] = []
    for case, card in _cards(chosen):
        lines += real_cases.row(case, card, "")
        print(*lines[-len(chosen) :], sep="\n", flush=True)
    text = heading(
        "The network zero-shot on real series", seed=real_cases.SEED, model=str(Gan().checkpoint)
    )
    text += (
        "Withheld clouds as in withheld_clouds.md (equal seeds, equal pixels): compare with "
        "auto and the others there.\n\n"
    )
    head = ["case", "method", "RMSE", "MAE", "bias", "inside 50 / 68 / 80 / 90 / 95 %", "n", ""]
    publish("gan_real", text + table(head, lines))


def _cards(methods: Mapping[str, Method]):
    for case, (stem, variable, _) in real_cases.GIVEN.items():
        obs = xr.open_dataset(SHARED / f"{stem}_input.nc")
        truth = xr.open_dataset(SHARED / f"{stem}_truth.nc")[variable]
        filled = {n: fill(obs, m, variables=variable) for n, m in methods.items()}
        yield (
            case,
            score_against(
                truth, filled, obs[variable].isnull() & truth.notnull(), obs=obs[variable]
            ),
        )
    for case, (path, variable, select) in real_cases.CLOUDY.items():
        data = xr.open_dataset(SHARED / path).isel(select)
        yield (
            case,
            score(
                data,
                dict(methods),
                variable=variable,
                seed=real_cases.SEED,
                repeats=1 if QUICK else 2,
            ),
        )
    for case, (path, variable, images) in real_cases.GAPFREE.items():
        truth = xr.open_dataset(SHARED / path)[variable].isel(time=slice(images)).astype("float32")
        sea, shape = (
            truth.notnull().any("time"),
            tuple(truth.sizes[d] for d in ("time", "lat", "lon")),
        )
        cloud = synthetic.clouds(
            shape=shape,
            fraction=0.6,
            step="1D",
            persistence="5D",
            scale_km=400,
            grid_km=15,
            seed=real_cases.SEED,
        )
        obs = truth.where(~cloud.values)
        sea &= obs.notnull().any("time")
        filled = {n: fill(obs, m, sea=sea) for n, m in methods.items()}
        yield case, score_against(truth, filled, truth.notnull() & obs.isnull() & sea, obs=obs)


def calibration() -> None:
    """Coverage of the error that fill() gives, on noisy synthetic oceans, against new noisy
    observations.
    """
    pool = {"gan": Pool(), "oi": Pool()}
    for k in range(3 if QUICK else 6):
        rng = np.random.default_rng([SEED, k])
        ds = synthetic.ocean(
            shape=(CLIP, SIZE, SIZE), seed=SEED + 100 + k, fraction=0.3 + 0.1 * k, noise=0.1
        )
        fresh = ds.truth.values + 0.1 * rng.standard_normal(ds.truth.shape)
        where = np.isnan(ds.sst.values) & np.isfinite(fresh)
        for name, method in (("gan", Gan()), ("oi", Oi())):
            found = fill(ds, method, variables="sst")
            pool[name].add(found.sst.values, found.sst_error.values, fresh, where)
    text = heading(
        "Calibration of the stated error",
        oceans=f"{CLIP}x{SIZE}x{SIZE}, noise 0.1 °C, cover 30 to 80 %",
        seeds=f"{SEED + 100} and on",
        model=str(Gan().checkpoint),
    )
    rows = [[n, *p.row(), p.cover()] for n, p in pool.items()]
    publish(
        "gan_calibration",
        text + table(["", "MAE", "RMSE", "bias", "inside 50 / 80 / 90 / 95 %"], rows),
    )


def speed() -> None:
    """Millions of pixels a second of the networks alone, and of a whole fill."""
    import torch

    from sstfill.methods.gan.network import Networks
    from sstfill.methods.gan.network_inputs import CHANNELS
    from sstfill.nn import registry

    rows: list[list[object]] = []
    shape = (CLIP, SIZE, SIZE)
    pixels = np.prod(shape) / 1e6
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(len(CHANNELS), *shape)).astype(np.float32)
    compact = Networks(Gan().checkpoint, "cpu")
    rows.append(
        [
            "compact, forward",
            registry.size(compact.network()),
            pixels / _seconds(lambda: compact.correct(seen)),
        ]
    )
    values, observed = (
        torch.from_numpy(a) for a in (seen[:1][np.newaxis], seen[:1][np.newaxis] > 0)
    )
    for base in (2, 4, 8) if QUICK else (2, 4, 8, 32):
        network = registry.build("paper", {"base": base}).eval()
        with torch.inference_mode():
            rows.append(
                [
                    f"paper, C_base {base}, forward",
                    registry.size(network),
                    pixels / _seconds(lambda n=network: n(values, observed), 1 if base > 8 else 3),
                ]
            )
    ds = synthetic.ocean(shape=shape, seed=SEED)
    for name, method in (
        ("gan", Gan()),
        ("gan, network alone", Gan(adapt=False)),
        ("oi", Oi()),
        ("dineof", Dineof()),
    ):
        rows.append(
            [
                f"fill by {name}, no score",
                "",
                pixels / _seconds(lambda m=method: fill(ds, m, variables="sst", score=False), 2),
            ]
        )
    text = heading(
        "Speed of the networks",
        series=f"{shape}",
        torch=torch.__version__,
        torch_threads=torch.get_num_threads(),
    )
    publish("gan_speed", text + table(["", "parameters", "MPixel/s"], rows))


def _seconds(run: Callable[[], object], times: int = 3) -> float:
    run()
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def guesses() -> None:
    """What each first guess brings: the shipped network with some of what it sees set to nothing,
    not trained anew.
    """
    import torch

    from sstfill.methods.gan.network_inputs import CHANNELS
    from sstfill.training.data import cache
    from sstfill.training.data.oceans import draw

    without = {
        "all": (),
        "no EOFs": ("eof", "eof_error"),
        "no interpolation in time": ("interpolated",),
        "neither": ("eof", "eof_error", "interpolated"),
        "no distance to data": ("before", "after", "distance"),
        "no traits of the series": ("time_correlation", "space_correlation", "noise"),
    }
    network, ratios = Gan().checkpoint.network(), {name: [] for name in without}
    numbers = range(5000, 5008 if QUICK else 5020)
    for number in numbers:
        ocean = draw(number)
        if ocean is None:
            continue
        obs = grid.standardise(ocean.obs)
        arrays = cache.compute_inputs(
            obs, np.where(ocean.sea.values, ocean.seen, np.nan), ocean.sea, number
        )
        sample = cache.to_sample(arrays)
        first = (sample.guess - sample.values)[sample.withheld].abs().mean()
        for name, lost in without.items():
            seen = sample.channels.clone()
            seen[[CHANNELS.index(c) for c in lost]] = 0.0
            with torch.inference_mode():
                found = sample.guess + sample.error * network(seen[None])[0][0]
            ratios[name].append(
                float((found - sample.values)[sample.withheld].abs().mean() / first)
            )
    rows = [[name, float(np.exp(np.mean(np.log(r)))), min(r), max(r)] for name, r in ratios.items()]
    text = heading(
        "What the network makes of what it sees",
        oceans=f"{numbers.start} to {numbers.stop - 1} of "
        "sstfill.training.data.oceans, not trained on",
        model=str(Gan().checkpoint),
    )
    text += (
        "MAE of the network alone over that of optimal interpolation, whose anomaly and "
        "error it always sees.\n\n"
    )
    publish("gan_guesses", text + table(["it sees", "geometric mean", "least", "most"], rows))


def ablation() -> None:
    """The paper's variants and objectives, each trained on the same cloudy ocean from nothing,
    equally long.
    """
    from sstfill.training.options import TrainOptions
    from sstfill.training.train import train

    fraction, images, base, samples, epochs = 0.4, 144, 2, 40, 2 if QUICK else 5
    truth = synthetic.sst(shape=(images + CLIP, SIZE, SIZE), step="6h", seed=SEED + 50)
    cloudy = synthetic.clouds(
        shape=truth.shape, fraction=fraction, step="6h", seed=SEED + 50
    ).values
    obs = truth.where(~cloudy).rename("sst")
    past = dict(time=slice(images))
    clip, where = grid.standardise(obs.isel(time=slice(-CLIP, None))), cloudy[-CLIP:]
    wanted = truth.values[-CLIP:]
    clouds = occlusion.SyntheticClouds(fraction=fraction, step="6h")
    common = dict(
        base=base, samples=samples, epochs=epochs, frames=12, size=40, discriminator_base=4, seed=1
    )
    cases = {
        "full: adversarial only": ("paper", "adversarial"),
        "static, no D_s: adversarial only": ("static", "adversarial"),
        "recurrent: adversarial only": ("recurrent", "adversarial"),
        "full: withheld only": ("paper", "withheld"),
        "full: both": ("paper", "withheld+adversarial"),
        "full: supervised, unpaired": ("paper", "unpaired"),
        "full: supervised, paired": ("paper", "paired"),
    }
    rows: list[list[object]] = []
    for name, (network, objective) in cases.items():
        start = time.perf_counter()
        options = TrainOptions(
            network=network, objective=objective, patience=epochs, learning_rate=1e-3, **common
        )
        needs = {"truth": truth.isel(past)} if objective in ("paired", "unpaired") else {}
        model = train(obs.isel(past), options, clouds=clouds, **needs)
        pool = Pool()
        pool.add(*made(Gan(model=model.model, adapt=False), clip)[:2], wanted, where)
        rows.append([name, *pool.row(), time.perf_counter() - start])
        print(rows[-1], flush=True)
    others = {
        "linear in time": "interpolate",
        "dineof": "dineof",
        "oi": "oi",
        "gan, zero-shot": Gan(),
    }
    for name, method in others.items():
        pool = Pool()
        pool.add(*made(method, clip)[:2], wanted, where)
        rows.append([name, *pool.row(), ""])
    text = heading(
        "Ablation: variants and objectives of the paper, small and short",
        archive=f"{images} images of "
        f"{SIZE}x{SIZE}, 6 hours apart, 40 % occluded; tested on the {CLIP} that follow",
        seed=SEED + 50,
        training=f"C_base {base}, {samples * epochs} steps of 12x40x40 each, rate 1e-3",
    )
    publish("gan_ablation", text + table(["", "MAE °C", "RMSE", "bias", "s"], rows))


if __name__ == "__main__":
    parts = {f.__name__: f for f in (table2, real, calibration, guesses, speed, ablation)}
    for word in (w for w in sys.argv[1:] if not w.startswith("--")):
        parts[word]()
