# SPDX-License-Identifier: Apache-2.0
"""The paper's GAN at full size on a GPU: steps a second, fraction of the peak, and the speed of
filling.

Trains C_base 32 on a synthetic ocean under 40 % of cloud for as many steps as fit in the minutes
given (the authors took 30,000), then fills. One script, within 10 minutes on an H100.

Run: python benchmarks/gpu_training.py [--minutes 8] [--device cuda] [--base 32]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from report import heading, publish, table

from sstfill import occlusion, synthetic
from sstfill.fields import grid
from sstfill.methods import Gan
from sstfill.training.options import TrainOptions
from sstfill.training.train import train
from sstfill.validation import metrics

PEAK = 990.0
"""TFLOP/s of an H100 or H200 in bfloat16, dense."""
STEP = 17.0
"""TFLOP of a generator step at C_base 32, 24x64x64, forward and backward, discriminators apart
(facts/paper.md).
"""
CLIP, SIZE, IMAGES, SEED = 24, 64, 960, 910_000


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind, value in (("minutes", float, 8.0), ("device", str, "cuda"), ("base", int, 32)):
        parser.add_argument(f"--{name}", type=kind, default=value)
    args = parser.parse_args()
    truth = synthetic.sst(shape=(IMAGES, SIZE, SIZE), step="6h", seed=SEED)
    cloudy = synthetic.clouds(shape=truth.shape, fraction=0.4, step="6h", seed=SEED).values
    obs, past = truth.where(~cloudy).rename("sst"), dict(time=slice(IMAGES - 4 * CLIP))
    clouds = occlusion.SyntheticClouds(fraction=0.4, step="6h")
    rows: list[list[object]] = []
    for objective in ("adversarial", "withheld+adversarial"):
        common = dict(
            network="paper",
            base=args.base,
            objective=objective,
            discriminator_base=args.base,
            clip=0.0,
            precision="bfloat16",
            device=args.device,
            seed=0,
        )
        trial = train(
            obs.isel(past), TrainOptions(**common, epochs=1, samples=20), clouds=clouds
        ).checkpoint
        pace = trial.config["trained"]["seconds"] / trial.config["trained"]["steps"]
        steps = int(min(30_000, args.minutes / 2 * 60 / pace * 0.9))
        epochs = max(1, min(100, steps // 100))
        start = time.perf_counter()
        options = TrainOptions(
            **common, epochs=epochs, samples=max(1, steps // epochs), patience=epochs
        )
        model = train(obs.isel(past), options, clouds=clouds)
        seconds = time.perf_counter() - start
        done = model.checkpoint.config["trained"]["steps"]
        error, filled = fill(model, obs, truth)
        flops = STEP * (args.base / 32) ** 2 * done / seconds
        rows.append([objective, done, done / seconds, flops / PEAK, *error, filled])
    machine = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    text = heading(
        "The paper's GAN at full size",
        device=machine,
        torch=torch.__version__,
        C_base=args.base,
        archive=f"{IMAGES} images of {SIZE}x{SIZE}, 40 % occluded",
        peak=f"{PEAK:.0f} TFLOP/s taken; the generator's work alone counted",
    )
    head = [
        "objective",
        "steps",
        "steps/s",
        "fraction of the peak",
        "MAE °C",
        "RMSE",
        "bias",
        "fill MPixel/s",
    ]
    publish("gpu_training", text + table(head, rows))


def fill(model: Gan, obs, truth) -> tuple[list[float], float]:
    """Errors on the last clips, and millions of pixels filled a second."""
    clip = grid.standardise(obs.isel(time=slice(-4 * CLIP, None)))
    sea = clip.notnull().any("time") | True
    method = Gan(model=model.model, adapt=False, device=model.device)
    method.reconstruct(clip.isel(time=slice(CLIP)), sea)
    start = time.perf_counter()
    mean = method.reconstruct(clip, sea)["mean"].values
    speed = clip.size / 1e6 / (time.perf_counter() - start)
    where, wanted = np.isnan(clip.values), truth.values[-4 * CLIP :]
    return [f(mean[where], wanted[where]) for f in (metrics.mae, metrics.rmse, metrics.bias)], speed


if __name__ == "__main__":
    main()
