# SPDX-License-Identifier: Apache-2.0
"""The training loop: epochs, steps, the score on withheld pixels, and when to stop."""

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
from sstfill.io.output import place
from sstfill.io.output.atomic import fail
from sstfill.nn.checkpoint.folder import check_target
from sstfill.progress import track
from sstfill.training import log
from sstfill.training import state as saved_state
from sstfill.training.data.prefetch import WaitTimer, prefetch
from sstfill.training.data.sample import PreparedSource, Sample, SampleSource
from sstfill.training.distributed import Processes, process_group
from sstfill.training.ema import update_bn
from sstfill.training.job import TrainingJob, begin
from sstfill.training.objectives.draw_score import to_unit_spread
from sstfill.training.options import OptimiserOptions, TrainOptions
from sstfill.training.score import validate
from sstfill.training.state import TrainingState
from sstfill.training.trained_network import TrainedNetwork, best_row

LOG = "log.csv"
"""Name of the log in the folder of a training."""
FAILURES = 5
"""Batches in a row without a finite gradient after which training has diverged."""
WORSE = 10.0
"""Times the least error so far beyond which training has diverged."""
STATISTICS = 16
"""Batches over which the statistics of batch normalisation are measured before a score."""

logger = logging.getLogger(__name__)


def fit(
    network: nn.Module,
    source: SampleSource,
    options: TrainOptions,
    *,
    out: Path | None = None,
    resume: bool = False,
) -> TrainedNetwork:
    """Train a network on sequences with gaps.

    Alone, or as one of several processes that torchrun has started: then each takes its part of
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
        Folder for the state (`sstfill.training.state.FILE`) and the log (`LOG`), made if it does
        not exist. None: nothing is written.
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
    with process_group(options.device, options.seed) as processes:
        if isinstance(source, PreparedSource):
            # first guesses take hours: each process computes its part of them
            source.prepare(processes.rank, processes.size)
            processes.wait()
        state, job = begin(network, source, options, processes)
        if saved and out:
            state.restore(saved_state.load(out, options))
        while (reason := stopped(state, options)) is None:
            skipped = learn(state, job, out)
            scores = score(state, job)
            finish(state, job, skipped, scores)
            if out and processes.first:
                saved_state.save(out, state, options)
                log.write(out / LOG, state.history)
        trained = _trained_network(state, options, processes, reason)
    if options.draws:
        to_unit_spread(trained.network, source)
    return trained


def learn(state: TrainingState, job: TrainingJob, out: Path | None) -> int:
    """Train through the rest of an epoch; return how many of its sequences could not be used."""
    options, processes = job.options, job.processes
    epoch = len(state.history)
    expected = math.ceil(options.samples / (options.batch * processes.size))
    began = time.monotonic() - state.seconds
    waited_before = state.waiting
    last_saved = time.monotonic()
    batches = job.batches(epoch)
    remaining = islice(batches, state.batches, None)  # without those done before a restart
    title = log.heading(state.history, options.epochs)
    with closing(batches), closing(prefetch(remaining)) as stream:
        timer = WaitTimer(stream)
        left = max(0, expected - state.batches)
        for batch in track(in_step(timer, processes), title, left):
            # the middle of the step; at most the end of the epoch, which may hold more batches than
            # expected
            progress = (epoch + min(1.0, (state.batches + 0.5) / expected)) / options.epochs
            step(state, job, batch.to(processes.device), progress)
            state.seconds = time.monotonic() - began
            state.waiting = waited_before + timer.seconds
            if state.failures >= FAILURES:
                break
            due = time.monotonic() - last_saved >= 60 * options.save_minutes
            if due and out and processes.first:
                saved_state.save(out, state, options)
                last_saved = time.monotonic()
    if not state.batches:
        reasons = "all land or cloud, values not finite"
        if options.needs_withheld:
            reasons += ", or nothing withheld"
        raise InputError(
            f"epoch {epoch + 1}: none of {batches.skipped} sequences is of use ({reasons}); "
            "give a source with observations"
        )
    return int(processes.sum(torch.tensor(batches.skipped)))


def step(state: TrainingState, job: TrainingJob, batch: Sample, progress: float) -> None:
    """Train on a batch: the discriminators learn from its completion, then the generator."""
    options, device = job.options, job.processes.device
    # bfloat16 has the range of float32, so that losses need no scaling
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16")
    _set_rate(state.optimiser, options.recipe, state.steps, progress)
    losses: dict[str, Tensor] = {}
    good = True
    with mixed:
        completed = job.completer(batch)
    if state.discriminator_optimizer and job.discriminators:
        recipe = options.discriminator_recipe
        _set_rate(state.discriminator_optimizer, recipe, state.steps, progress)
        for _ in range(options.discriminator_steps):
            with mixed:
                loss = job.discriminators(completed.values.detach(), batch)
            good &= update(loss, state.discriminator_optimizer, options.clip, job.processes)
        # of the last of its steps
        losses["discriminator"] = loss.detach()
    with mixed:
        total, terms = job.objective(completed, batch)
    good &= update(total, state.optimiser, options.clip, job.processes)
    if good:
        state.ema.update(state.network, state.steps)
    _count(state, {**terms, **losses}, good)


def update(loss: Tensor, optimiser: Optimizer, clip: float, processes: Processes) -> bool:
    """Take a step down the gradient of a loss if it is finite; return whether it was taken."""
    optimiser.zero_grad()
    loss.backward()
    weights = []
    for group in optimiser.param_groups:
        weights += group["params"]
    # with no limit it still measures the norm, by which a gradient that is not finite shows
    norm = clip_grad_norm_(weights, clip or math.inf)
    # all or none: processes that step differently would no longer train one network
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


def score(state: TrainingState, job: TrainingJob) -> dict[str, float | None]:
    """Score the averaged weights, with the statistics of some batches of this epoch."""
    network, processes = state.ema.network, job.processes
    update_bn(network, job.first_batches(len(state.history), STATISTICS))
    processes.broadcast_buffers(network)
    return validate(network, job.source, job.options, processes)


def finish(
    state: TrainingState, job: TrainingJob, skipped: int, scores: dict[str, float | None]
) -> None:
    """Close an epoch: write its row, and keep the averaged weights if none scored better."""
    processes = job.processes
    sums = processes.sum(torch.tensor(list(state.sums.values()), dtype=torch.float64))
    means = sums / (max(1, state.batches - state.left_out) * processes.size)
    losses = dict(zip(state.sums, means.tolist(), strict=True))
    row = {
        "epoch": len(state.history) + 1,
        "steps": state.steps,
        **losses,
        **scores,
        "learning_rate": state.optimiser.param_groups[0]["lr"],
        "seconds": state.seconds,
        "waiting": min(1.0, state.waiting / max(state.seconds, 1e-9)),
        "skipped": skipped,
        "left_out": state.left_out,
    }
    state.history.append(row)
    # the row holds them now; the next epoch counts from nothing
    state.batches, state.left_out, state.sums = 0, 0, {}
    state.seconds, state.waiting = 0.0, 0.0
    if best_row(state.history) is row:
        weights = state.ema.network.state_dict()
        # copies: the averaged weights move on in place
        state.best = {name: weight.cpu().clone() for name, weight in weights.items()}
    if processes.first:
        logger.info(log.sentence(row, losses))
        if concern := log.concern(state.history):
            logger.warning(concern)


def stopped(state: TrainingState, options: TrainOptions) -> str | None:
    """Return why training ends here, or None if it goes on."""
    if not state.history:
        return None
    best, last = best_row(state.history), state.history[-1]
    epoch, mae = last["epoch"], last["withheld_mae"]
    if state.failures >= FAILURES:
        return (
            f"diverged: {state.failures} batches in a row without a finite gradient "
            f"in epoch {epoch}"
        )
    if not math.isfinite(mae) or mae > WORSE * best["withheld_mae"]:
        return (
            f"diverged: withheld MAE {mae:.3g} in epoch {epoch}, "
            f"{best['withheld_mae']:.3g} in epoch {best['epoch']}"
        )
    if epoch - best["epoch"] >= options.patience:
        return f"no better for {options.patience} epochs"
    if epoch >= options.epochs:
        return f"all {options.epochs} epochs done"
    return None


def _prepare(out: Path | None, resume: bool) -> bool:
    """Make the folder; return whether there is a state to resume from."""
    if out is None:
        if resume:
            raise OptionError("resume=True needs out, the folder of the training to go on with")
        return False
    saved = (out / saved_state.FILE).exists()
    if saved and not resume:  # days of work may be in it
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
    saved_state.tidy(out)
    return saved


def _set_rate(optimiser: Optimizer, recipe: OptimiserOptions, steps: int, progress: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate(steps, progress)


def _count(state: TrainingState, losses: dict[str, Tensor], good: bool) -> None:
    """Count a batch, and add up its losses if they are finite."""
    state.steps += 1
    state.batches += 1
    if not good:
        state.left_out += 1
        state.failures += 1
    else:
        state.failures = 0
    for name, loss in losses.items():
        # a name begins at 0 with a batch that is left out, too: all processes sum as many names
        state.sums.setdefault(name, 0.0)
        if good:
            state.sums[name] += loss.item()


def _trained_network(
    state: TrainingState, options: TrainOptions, processes: Processes, reason: str
) -> TrainedNetwork:
    """Take the best weights."""
    best = best_row(state.history)
    if reason.startswith("diverged") and processes.first:
        logger.warning("training %s; the weights of epoch %d are kept", reason, best["epoch"])
    if not math.isfinite(best["withheld_mae"]):
        raise OptionError(
            f"learning_rate={options.recipe.learning_rate:g}: training diverged in its first "
            "epoch; give a lower one"
        )
    network = state.ema.network.cpu()
    network.load_state_dict(state.best)
    return TrainedNetwork(
        network=network,
        history=tuple(state.history),
        steps=state.steps,
        seconds=sum(row["seconds"] for row in state.history),
        device=str(processes.device),
        stopped=reason,
        options=options,
    )
