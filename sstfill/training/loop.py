# SPDX-License-Identifier: Apache-2.0
"""Training, from top to bottom: epochs, steps, the score on withheld pixels, and when to stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from sstfill.errors import InputError, OptionError
from sstfill.io import place
from sstfill.io.atomic import fail
from sstfill.nn.checkpoint.folder import check_target
from sstfill.progress import track
from sstfill.training import log, state
from sstfill.training.data.prefetch import Waited, ahead
from sstfill.training.data.sample import Sample, SampleSource
from sstfill.training.distributed import Processes, together
from sstfill.training.ema import settle
from sstfill.training.fitted import TrainedNetwork, best_row
from sstfill.training.job import TrainingJob, begin
from sstfill.training.options import OptimiserRecipe, TrainOptions
from sstfill.training.score import validate
from sstfill.training.state import State

LOG = "log.csv"
"""Name of the log in the folder of a training."""
FAILURES = 5
"""Batches in a row without a finite gradient after which training has diverged."""
WORSE = 10.0
"""Times the least error so far beyond which training has diverged."""
SETTLING = 16
"""Batches over which statistics are measured anew before a score."""

_told = logging.getLogger(__name__)


def fit(
    network: nn.Module,
    source: SampleSource,
    options: TrainOptions,
    *,
    out: Path | None = None,
    resume: bool = False,
) -> TrainedNetwork:
    """Train a network on sequences with gaps.

    Alone, or as one of several processes that torchrun has started: then each takes its share of
    the sequences, and the first writes. On the CPU the same seed gives the same weights, bit by
    bit, resumed or not.

    Parameters
    ----------
    network
        A new one, or one to train further (see `complete` for what it may be); it is copied.
    source
        Of sequences.
    options
        How to train.
    out
        Folder for the state, `state.FILE`, and the log, `LOG`; made where it is not. None: nothing
        is written.
    resume
        Go on from the state in `out`, if there is one.

    Raises
    ------
    InputError
        If no sequence of an epoch is of use, nothing is withheld in validation, or a shape is
        wrong.
    OptionError
        If there is no GPU where one is asked for, `out` holds a training that is not to be resumed
        or has other options, or training diverges in its first epoch.
    ReadError
        If the saved state is damaged.
    WriteError
        If `out` cannot be written; the last state there is intact.
    """
    saved = _prepare(out, resume)
    with together(options.device, options.seed) as processes:
        now, job = begin(network, source, options, processes)
        if saved and out:
            now.restore(state.load(out, options))
        while (verdict := stopped(now, options)) is None:
            skipped = learn(now, job, out)
            scores = score(now, job)
            finish(now, job, skipped, scores)
            if out and processes.first:
                state.save(out, now, options)
                log.write(out / LOG, now.history)
        return _fitted(now, options, processes, verdict)


def learn(now: State, job: TrainingJob, out: Path | None) -> int:
    """Train through the rest of an epoch; return how many of its sequences were of no use."""
    options, processes = job.options, job.processes
    epoch = len(now.history)
    expected = math.ceil(options.samples / (options.batch * processes.size))
    began, waited_before = time.monotonic() - now.seconds, now.waiting
    last_saved = time.monotonic()
    left = max(0, expected - now.batches)
    past = islice(batches := job.batches(epoch), now.batches, None)  # those of before a restart
    with closing(batches), closing(ahead(past)) as stream:
        waited = Waited(stream)
        for batch in track(
            in_step(waited, processes), log.heading(now.history, options.epochs), left
        ):
            progress = (epoch + min(1.0, (now.batches + 0.5) / expected)) / options.epochs
            step(now, job, batch.to(processes.device), progress)
            now.seconds, now.waiting = time.monotonic() - began, waited_before + waited.seconds
            if now.failures >= FAILURES:
                break
            if (
                out
                and processes.first
                and time.monotonic() - last_saved >= 60 * options.save_minutes
            ):
                state.save(out, now, options)
                last_saved = time.monotonic()
    if not now.batches:
        raise InputError(
            f"epoch {epoch + 1}: none of {batches.skipped} sequences is of use (all land or cloud, values not finite"
            f"{', or nothing withheld' if options.hidden else ''}); give a source with observations"
        )
    return int(processes.sum(torch.tensor(batches.skipped)))


def step(now: State, job: TrainingJob, batch: Sample, progress: float) -> None:
    """Train on a batch: the generator completes it, the discriminators learn, then the generator
    does.
    """
    options, device = job.options, job.processes.device
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16")
    _set_rate(now.optimiser, options.recipe, now.steps, progress)
    losses: dict[str, Tensor] = {}
    good = True
    with mixed:
        completion = job.completer(batch)
    if now.discriminator_optimizer and job.discriminator_optimizer:
        _set_rate(now.discriminator_optimizer, options.opposing, now.steps, progress)
        for _ in range(options.discriminator_steps):
            with mixed:
                loss = job.discriminator_optimizer(completion.values.detach(), batch)
            good &= update(loss, now.discriminator_optimizer, options.clip, job.processes)
        losses["discriminator"] = loss.detach()
    with mixed:
        total, terms = job.objective(completion, batch)
    good &= update(total, now.optimiser, options.clip, job.processes)
    if good:
        now.average.follow(now.network, now.steps)
    _count(now, {**terms, **losses}, good)


def update(loss: Tensor, optimiser: Optimizer, clip: float, processes: Processes) -> bool:
    """Take a step down the gradient of a loss, unless it is not finite; return whether it was
    taken.
    """
    optimiser.zero_grad()
    loss.backward()
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    norm = clip_grad_norm_(weights, clip or math.inf)
    good = processes.all(bool((norm + loss.detach()).isfinite()))
    if good:
        optimiser.step()
    return good


def in_step(batches: Iterable[Sample], processes: Processes) -> Iterator[Sample]:
    """Iterate for as long as every process has a batch: a step needs all of them."""
    stream = iter(batches)
    batch = next(stream, None)
    while processes.all(batch is not None) and batch is not None:
        yield batch
        batch = next(stream, None)


def score(now: State, job: TrainingJob) -> dict[str, float | None]:
    """Score the averaged weights, with the statistics that some batches of this epoch leave."""
    average, processes = now.average.network, job.processes
    settle(average, job.some(len(now.history), SETTLING))
    processes.share(average)
    return validate(average, job.source, job.options, processes)


def finish(now: State, job: TrainingJob, skipped: int, scores: dict[str, float | None]) -> None:
    """Close an epoch: write its row, and keep the averaged weights if none scored better."""
    processes, trained = job.processes, max(1, now.batches - now.left_out)
    means = processes.sum(torch.tensor(list(now.sums.values()), dtype=torch.float64)) / (
        trained * processes.size
    )
    losses = dict(zip(now.sums, means.tolist(), strict=True))
    row = {
        "epoch": len(now.history) + 1,
        "steps": now.steps,
        **losses,
        **scores,
        "learning_rate": now.optimiser.param_groups[0]["lr"],
        "seconds": now.seconds,
        "waiting": min(1.0, now.waiting / max(now.seconds, 1e-9)),
        "skipped": skipped,
        "left_out": now.left_out,
    }
    now.history.append(row)
    now.batches, now.left_out, now.sums, now.seconds, now.waiting = 0, 0, {}, 0.0, 0.0
    if best_row(now.history) is row:
        now.best = {
            name: weight.cpu().clone() for name, weight in now.average.network.state_dict().items()
        }
    if processes.first:
        _told.info(log.sentence(row, losses))


def stopped(now: State, options: TrainOptions) -> str | None:
    """Say why training ends here, or None if it goes on."""
    if not now.history:
        return None
    best, last = best_row(now.history), now.history[-1]
    if now.failures >= FAILURES:
        return f"diverged: {now.failures} batches in a row without a finite gradient in epoch {last['epoch']}"
    if (
        not math.isfinite(last["withheld_mae"])
        or last["withheld_mae"] > WORSE * best["withheld_mae"]
    ):
        return (
            f"diverged: withheld MAE {last['withheld_mae']:.3g} in epoch {last['epoch']}, "
            f"{best['withheld_mae']:.3g} in epoch {best['epoch']}"
        )
    if last["epoch"] - best["epoch"] >= options.patience:
        return f"no better for {options.patience} epochs"
    return f"all {options.epochs} epochs done" if last["epoch"] >= options.epochs else None


def _prepare(out: Path | None, resume: bool) -> bool:
    """Make the folder; return whether there is a state to resume from."""
    if out is None:
        if resume:
            raise OptionError("resume=True needs out, the folder of the training to go on with")
        return False
    saved = (out / state.FILE).exists()
    if saved and not resume:
        raise OptionError(
            f"{out} holds a training already; give resume=True to go on with it, or another folder"
        )
    if out.is_dir():
        check_target(out)
        place.check_replaceable(out / LOG)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(out, error)
    state.tidy(out)
    return saved


def _set_rate(optimiser: Optimizer, recipe: OptimiserRecipe, steps: int, progress: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate(steps, progress)


def _count(now: State, losses: dict[str, Tensor], good: bool) -> None:
    """Count a batch, and add up its losses if they are finite."""
    now.steps += 1
    now.batches += 1
    now.left_out += not good
    now.failures = 0 if good else now.failures + 1
    for name, loss in losses.items():
        now.sums[name] = now.sums.get(name, 0.0) + (loss.item() if good else 0.0)


def _fitted(
    now: State, options: TrainOptions, processes: Processes, verdict: str
) -> TrainedNetwork:
    """Take the best weights."""
    if verdict.startswith("diverged") and processes.first:
        _told.warning(
            "training %s; the weights of epoch %d are kept", verdict, best_row(now.history)["epoch"]
        )
    if not math.isfinite(best_row(now.history)["withheld_mae"]):
        raise OptionError(
            f"learning_rate={options.recipe.learning_rate:g}: training diverged in its first epoch; give a lower one"
        )
    network = now.average.network.cpu()
    network.load_state_dict(now.best)
    seconds = sum(row["seconds"] for row in now.history)
    return TrainedNetwork(
        network, tuple(now.history), now.steps, seconds, str(processes.device), verdict, options
    )
