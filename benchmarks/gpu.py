# SPDX-License-Identifier: Apache-2.0
"""What a GPU does: steps a second of the paper's GAN at full size and their share of the peak, and
how fast `gan` and `oi` fill series and archives, beside the CPU of the same machine.

One command, within eight minutes. Each row is printed as soon as it is measured, so that a run
that is cut short has told what it came to.

Run: python benchmarks/gpu.py [--device cuda] [--minutes 8] [--base 32]
Every line of it on small fields, without a GPU: python benchmarks/gpu.py --device cpu --small
"""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from report import heading, publish, table
from torch.utils.flop_counter import FlopCounterMode

import sstfill
from sstfill import synthetic
from sstfill.archive import fill_archive
from sstfill.fields import grid
from sstfill.fields.reading.dates import absolute_days
from sstfill.methods import BayesEof, Gan, Oi
from sstfill.methods.gan.compact import Correction
from sstfill.methods.gan.method import check_usable
from sstfill.methods.gan.network import Networks
from sstfill.methods.gan.network_inputs import FirstGuesses, FittedGuesses
from sstfill.methods.gan.noise import Noise
from sstfill.methods.gan.tiling import pieces_of
from sstfill.nn.device import pick_device
from sstfill.training import recipe
from sstfill.training.data.sample import Sample
from sstfill.training.distributed import process_group
from sstfill.training.job import begin
from sstfill.training.loop import step
from sstfill.training.options import TrainOptions
from sstfill.training.train import new_network, train
from sstfill.validation import metrics

PEAK = 990.0
"""TFLOP/s of an H100 or H200 in bfloat16, dense, as NVIDIA states it."""
SEED = 910_000


@dataclass(frozen=True)
class Sizes:
    """Of what is measured: times, rows and columns, except `clip`, frames and side of a sequence,
    and `product`, side of a matrix.
    """

    series: tuple[int, int, int] = (184, 192, 192)
    archive: tuple[int, int, int] = (32, 256, 256)
    clip: tuple[int, int] = (24, 64)
    images: int = 480
    product: int = 8192


SMALL = Sizes((12, 20, 20), (16, 20, 20), (6, 33), 40, 64)
WARM_UP = (12, 24, 24)


class Table:
    """A table whose rows are printed as they are added."""

    def __init__(self, title: str, *head: str) -> None:
        self.title, self.head = f"\n## {title}\n\n", head
        self.rows: list[Sequence[object]] = []
        print(self.title + table(head, []), end="", flush=True)

    def add(self, *row: object) -> None:
        self.rows.append(row)
        print(table(self.head, [row]).splitlines()[-1], flush=True)

    def __str__(self) -> str:
        return self.title + table(self.head, self.rows)


class Cost:
    """Seconds of a block on the wall clock, and GB of the GPU's memory at its peak."""

    seconds: float = 0.0
    gigabytes: float | str = ""


@contextmanager
def measured(device: str) -> Iterator[Cost]:
    """Time a block to the end of what it started on the GPU."""
    cost, cuda = Cost(), device == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    yield cost
    if cuda:
        torch.cuda.synchronize()
        cost.gigabytes = torch.cuda.max_memory_allocated() / 1e9
    cost.seconds = time.perf_counter() - start


@dataclass
class Run:
    """When nothing begins any more, on the clock of `time.monotonic`, and what has failed."""

    end: float
    failed: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end

    @contextmanager
    def going_on(self, what: str) -> Iterator[None]:
        """Go on where this fails: a machine is lent for minutes, and other rows may be had."""
        try:
            yield
        except Exception:
            print(traceback.format_exc(), flush=True)
            self.failed.append(what)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--base", type=int, default=32)
    parser.add_argument("--small", action="store_true", help="to try it: small fields, base 1")
    args = parser.parse_args(words)
    sizes, base = (SMALL, 1) if args.small else (Sizes(), args.base)
    # Nothing begins in the last eighth of the time, so that all is done when it is over.
    begun = time.monotonic()
    run = Run(begun + 60 * args.minutes * 7 / 8)
    seconds = 0.1 if args.small else 60 * args.minutes / 40
    reached = product(args.device, sizes.product)
    machine = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    text = heading(
        "What a GPU does",
        device=machine,
        torch=f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}, "
        f"{torch.get_num_threads()} threads on the CPU",
        peak=f"{PEAK:.0f} TFLOP/s in bfloat16 are taken; two matrices of {sizes.product} x "
        f"{sizes.product} are multiplied at {reached:.4g}",
        off_by="the estimate in bfloat16 less that in single precision, as a fraction of it",
        farthest_from_the_CPU="the largest difference in a gap, over the error that the CPU's fill "
        "states; a GPU rounds factors of convolutions to ten bits (TF32), and `oi` measures "
        "distances there where it looks covariances up by lag on a CPU",
    )
    print(text, flush=True)
    parts = (
        partial(one_step, base, sizes, args.device, seconds),
        partial(series, sizes, args.device),
        partial(trained, base, sizes, args.device, 2 * seconds),
        partial(units, sizes, args.device),
    )
    for part in parts:
        if not run.over:
            with run.going_on(part.func.__name__):
                text += str(part(run))
    print(f"\n{time.monotonic() - begun:.0f} seconds in all\n")
    if args.small:
        print(text)
    else:
        publish("gpu", text)
    if run.failed:
        raise SystemExit(f"failed: {', '.join(run.failed)}")


def product(device: str, side: int) -> float:
    """TFLOP/s of a product of two matrices of random numbers."""
    one, other = torch.randn((2, side, side), device=pick_device(device), dtype=torch.bfloat16)
    for _ in range(3):
        one @ other
    with measured(device) as cost:
        for _ in range(10):
            one @ other
    return 10 * 2 * side**3 / 1e12 / cost.seconds


def one_step(base: int, sizes: Sizes, device: str, seconds: float, run: Run) -> Table:
    """Steps on one batch, without what makes batches; with the layers' channels first or last."""
    out = Table(
        f"Steps of the paper's GAN on one batch, C_base {base}",
        *("objective", "channels", "TFLOP a step", "steps/s", "TFLOP/s", "of the peak", "GPU GB"),
        "off by",
    )
    for objective in ("adversarial", "withheld+adversarial"):
        for name in ("contiguous_format", "channels_last_3d"):
            if run.over:
                return out
            options = paper(base, sizes, device, objective=objective)
            layout = getattr(torch, name)
            with run.going_on(f"steps, {objective}, {name}"):
                flops, rate, gigabytes, off = steps_a_second(options, layout, seconds)
                speed = flops * rate
                out.add(objective, name, flops, rate, speed, speed / PEAK, gigabytes, off)
    return out


def paper(base: int, sizes: Sizes, device: str, **changes: object) -> TrainOptions:
    """The options by which the paper's authors trained, at a width."""
    frames, side = sizes.clip
    width = dict(base=base, discriminator_base=base, frames=frames, size=side, device=device)
    return replace(recipe.load("train/paper").train, **width, **changes)


def steps_a_second(
    options: TrainOptions, layout: torch.memory_format, seconds: float
) -> tuple[float, float, float | str, float]:
    """TFLOP of a step, counted as it is taken, steps a second, GB of the GPU, and `rounding`."""
    with process_group(options.device, options.seed) as processes:
        network = new_network(options).to(memory_format=layout)
        state, job = begin(network, RandomNumbers(options), options, processes)
        batch = next(iter(job.batches(0))).to(processes.device)
        off = rounding(state.network, batch)
        with FlopCounterMode(display=False) as counter:
            step(state, job, batch, 0.5)
        for _ in range(3):  # in which cuDNN tries its ways
            step(state, job, batch, 0.5)
        taken = 0
        with measured(options.device) as cost:
            start = time.perf_counter()
            while not taken or time.perf_counter() - start < seconds:
                step(state, job, batch, 0.5)
                taken += 1
        if state.failures:
            raise RuntimeError(f"the last {state.failures} steps had no finite gradient")
    return counter.get_total_flops() / 1e12, taken / cost.seconds, cost.gigabytes, off


@torch.no_grad()
def rounding(network: torch.nn.Module, batch: Sample) -> float:
    """How far an estimate in bfloat16 is from that in single precision, as a fraction of it.

    Some versions of cuDNN are wrong for large convolutions in bfloat16, and tell nobody.
    """
    network.eval()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        exact = network.estimate(batch.values, batch.observed)
        with torch.autocast(exact.device.type, torch.bfloat16):
            rounded = network.estimate(batch.values, batch.observed)
    network.train()
    return float((rounded - exact).norm() / exact.norm())


@dataclass(frozen=True)
class RandomNumbers:
    """A source of one sequence; what a step costs does not depend on what it is."""

    options: TrainOptions

    def epoch(self, number: int, rng: np.random.Generator) -> Iterator[Sample]:
        side = self.options.size
        shape = (1, self.options.frames, side, side)
        seen, hidden, again = torch.rand((3, *shape)) > 0.4
        nothing = torch.zeros(shape)
        yield Sample(
            values=0.3 * torch.randn(shape),
            observed=seen,
            withheld=hidden & ~seen,
            second_mask=again,
            sea=torch.ones(shape, dtype=torch.bool),
            channels=torch.zeros((0, *shape[1:])),
            guess=nothing,
            error=nothing,
        )

    def validation(self) -> Iterator[Sample]:
        return self.epoch(0, np.random.default_rng(0))


def trained(base: int, sizes: Sizes, device: str, seconds: float, run: Run) -> Table:
    """Trainings on an archive, as a user starts them, and fills by what was trained."""
    out = Table(
        f"Trainings of the paper's GAN, C_base {base}, on {sizes.images} images",
        *("objective", "steps", "steps/s", "waiting for data", "fill Mpixel/s", "GPU GB"),
        *("MAE °C", "RMSE", "bias"),
    )
    frames, side = sizes.clip
    shape = (sizes.images, side, side)
    truth = synthetic.sst(shape=shape, step="6h", seed=SEED)
    cloudy = synthetic.clouds(shape=shape, fraction=0.4, step="6h", seed=SEED).values
    obs = truth.where(~cloudy).rename("sst")
    past, last = slice(None, -2 * frames), slice(-2 * frames, None)
    for objective in ("adversarial", "withheld+adversarial"):
        if run.over:
            return out
        with run.going_on(f"training by {objective}"):
            options = paper(base, sizes, device, objective=objective, epochs=1, samples=2)
            with measured(device) as cost:
                model = train(obs[past], options, validated=2)
                pace = history(model)["seconds"] / 2
                # the first steps are slow, so that there will be time for more than these
                samples = max(2, int(seconds / max(pace, 1e-3)))
                model = train(obs[past], replace(options, samples=min(samples, 2000)), validated=2)
            row = history(model)
            clip = grid.standardise(obs[last])
            fill = Gan(model=model.model, adapt=False, device=device).reconstruct
            with measured(device) as filling:
                mean = fill(clip, clip.notnull().any("time"))["mean"].values
            where = np.isnan(clip.values) & np.isfinite(mean)
            errors = [
                score(mean[where], truth[last].values[where])
                for score in (metrics.mae, metrics.rmse, metrics.bias)
            ]
            rate = clip.size / 1e6 / filling.seconds
            steps = row["steps"]
            out.add(
                *(objective, steps, steps / row["seconds"], row["waiting"], rate, cost.gigabytes),
                *errors,
            )
    return out


def history(model: Gan) -> dict:
    """The row of the last epoch of a training."""
    return model.checkpoint.config["trained"]["history"][-1]


def series(sizes: Sizes, device: str, run: Run) -> Table:
    """Fills of a series in memory: parts that a GPU takes on, and the whole."""
    out = Table(
        f"Fills of {' x '.join(map(str, sizes.series))} values, 60 % missing",
        *("method", "device", "seconds", "million gaps/s", "GPU GB", "farthest from the CPU"),
    )
    for size, add in ((WARM_UP, lambda *row: None), (sizes.series, out.add)):
        times, rows, columns = size
        ds = synthetic.eof_series(pixels=rows * columns, times=times, land=0, seed=0)
        obs = grid.standardise(ds.sst)
        sea = xr.DataArray(np.ones(size[1:], bool), dims=obs.dims[1:])
        with measured("cpu") as fitting:
            oi = Oi().fitted_to(obs, sea)
            fitted = FittedGuesses(oi, BayesEof())
            guesses = FirstGuesses.of(obs, sea, fitted=fitted)
        add("first guesses of `gan`, fitted", "cpu", fitting.seconds, "", "", "")
        find = {
            "`gan`, the network alone": partial(corrected, obs, sea, guesses),
            "the same without TF32": partial(exactly_corrected, obs, sea, guesses),
            "`oi`, the equations alone": partial(interpolated, obs, sea, oi),
            "`oi`": lambda on, ds=ds: filled(ds, Oi(device=on)),
            "`gan`": lambda on, ds=ds: filled(ds, Gan(device=on)),
        }
        for name, fill in find.items():
            with run.going_on(name):
                compare(name, fill, np.isnan(obs.values), device, add, run)
    return out


def compare(
    name: str,
    fill: Callable[[str], xr.Dataset],
    gap: np.ndarray,
    device: str,
    add: Callable[..., None],
    run: Run,
) -> None:
    """Add a row for the CPU and one for the device, with the largest difference in a gap over the
    error that the CPU's fill states.
    """
    found = []
    # the device first: if time runs out, it is the CPU that is known from elsewhere
    for on in (device, "cpu"):
        if run.over:
            return
        with measured(on) as cost:
            found.append(fill(on))
        apart = ""
        if len(found) > 1:
            first, second = (one["mean"].values[gap] for one in found)
            apart = float(np.nanmax(np.abs(first - second) / found[1]["error"].values[gap]))
        rate = np.count_nonzero(gap) / 1e6 / cost.seconds
        add(name, on, cost.seconds, rate, cost.gigabytes, apart)


def corrected(obs: xr.DataArray, sea: xr.DataArray, guesses: FirstGuesses, on: str) -> xr.Dataset:
    """Correct first guesses by the shipped network."""
    networks = Networks(check_usable(Gan().checkpoint), pick_device(on))
    noise = Noise(0, 0, absolute_days(obs))
    correction = Correction(networks, guesses.without_fields(), noise)
    times, rows, columns = obs.shape
    return correction.apply(obs, sea, guesses.fields, pieces_of((times, rows, columns)))


def exactly_corrected(
    obs: xr.DataArray, sea: xr.DataArray, guesses: FirstGuesses, on: str
) -> xr.Dataset:
    """Correct first guesses in single precision also where a GPU would round to ten bits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return corrected(obs, sea, guesses, on)


def interpolated(obs: xr.DataArray, sea: xr.DataArray, oi: Oi, on: str) -> xr.Dataset:
    """Interpolate by a covariance that is fitted already."""
    return replace(oi, device=on).reconstruct(obs, sea)


def filled(ds: xr.Dataset, method: Gan | Oi) -> xr.Dataset:
    """Fill as a user does, without a score."""
    found = sstfill.fill(ds, method, variables="sst", score=False, sea=ds.sea == 1)
    return xr.Dataset({"mean": found.sst, "error": found.sst_error})


def units(sizes: Sizes, device: str, run: Run) -> Table:
    """Fills of an archive, unit by unit."""
    out = Table(
        f"Fills of an archive of {' x '.join(map(str, sizes.archive))} values",
        *("method", "device", "units", "s to fit", "s to fill", "million gaps/s", "GPU GB"),
        "farthest from the CPU",
    )
    times, rows, columns = sizes.archive
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ds = synthetic.eof_series(pixels=rows * columns, times=times, land=0, seed=1)
        gap = np.isnan(ds.sst.values)
        ds.to_zarr(folder / "archive.zarr", zarr_format=3, consolidated=False)
        # Compiles what fits and fills archives: that is not what is measured.
        few = ds.isel(lat=slice(WARM_UP[1]), lon=slice(WARM_UP[2]))
        few.to_zarr(folder / "few.zarr", zarr_format=3, consolidated=False)
        fill_archive(folder / "few.zarr", folder / "warm.zarr", Gan(device="cpu"))
        for kind in (Gan, Oi):
            with run.going_on(f"units of {kind.name}"):
                stores = []
                for k, on in enumerate((device, "cpu")):
                    if run.over:
                        return out
                    stores.append(folder / f"{kind.name}-{k}.zarr")
                    with measured(on) as cost:
                        done = fill_archive(folder / "archive.zarr", stores[k], kind(device=on))
                    apart: float | str = ""
                    if k:
                        first, second = (xr.open_zarr(store, chunks=None) for store in stores)
                        off = np.abs(first.sst.values - second.sst.values)[gap]
                        apart = float(np.nanmax(off / second.sst_error.values[gap]))
                    filling = done.seconds - done.fitting
                    out.add(
                        *(f"`{kind.name}`", on, done.made, done.fitting, filling),
                        *(done.filled / 1e6 / filling, cost.gigabytes, apart),
                    )
    return out


if __name__ == "__main__":
    main()
