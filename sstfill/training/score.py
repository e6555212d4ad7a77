# SPDX-License-Identifier: Apache-2.0
"""The score of a training: errors at the withheld pixels of the validation."""

from __future__ import annotations

import math
from contextlib import closing

import torch
from torch import Tensor, nn

from sstfill.errors import InputError
from sstfill.nn.losses import laplace_nll
from sstfill.training.data.prefetch import prefetch
from sstfill.training.data.sample import Batches, Sample, SampleSource
from sstfill.training.distributed import Processes
from sstfill.training.forward import Completer
from sstfill.training.objectives.draw_score import EnsembleTerm, fair_crps
from sstfill.training.options import TrainOptions


@torch.no_grad()
def validate(
    network: nn.Module, source: SampleSource, options: TrainOptions, processes: Processes
) -> dict[str, float | None]:
    """Score a network on withheld pixels, pooled over all sequences of the validation.

    Returns
    -------
    dict
        In scaled units: ``withheld_mae``, the mean absolute error, ``withheld_bias``, the mean of
        estimate minus truth, and ``withheld_nll``, the mean negative log likelihood under the
        stated Laplace scale, or None without one. Of a network that draws also ``withheld_crps``,
        the score of two draws at the pixels, and ``withheld_draws``, the score by which it is
        trained (`sstfill.training.objectives.draw_score.EnsembleTerm`), mean over the batches,
        weighted by their sequences.

    Raises
    ------
    InputError
        If nothing is withheld.
    """
    own = Batches(
        source.validation(),
        options.batch,
        needs_withheld=True,
        rank=processes.rank,
        processes=processes.size,
    )
    completer = Completer(network, drawing=options.draws)
    sums = torch.zeros(7, dtype=torch.float64)
    with closing(own), closing(prefetch(own)) as stream:
        for batch in stream:
            sums += _sums(completer, batch.to(processes.device)).cpu()
    count, error, bias, nll, crps, sequences, draws = processes.sum(sums).tolist()
    if not count:
        raise InputError(
            "no sequence of the validation is of use; "
            "give some with pixels observed, and some withheld"
        )
    # A number that all processes summed is NaN where the network states no scale.
    stated = None if math.isnan(nll) else nll / count
    scores = {"withheld_mae": error / count, "withheld_bias": bias / count, "withheld_nll": stated}
    if options.draws:
        scores["withheld_crps"] = crps / count
        scores["withheld_draws"] = draws / sequences
    return scores


def _sums(completer: Completer, batch: Sample) -> Tensor:
    """Count the withheld pixels, and sum their errors, biases, negative log likelihoods and scores;
    then count the sequences, and sum the scores that they are trained by.

    The likelihood is NaN where the network states no scale, scores where it draws nothing.
    """
    completed = completer(batch)
    estimate = completed.values
    if completed.drawn is not None:
        # A draw is no estimate: its own spread would count as error.
        estimate = completed.drawn[0]
    # sums of a million errors in single precision would lose digits
    misfit = (estimate - batch.values)[batch.withheld].double()
    count = misfit.new_tensor(len(misfit))
    sequences = misfit.new_tensor(len(batch.values))
    nll = crps = draws = misfit.new_tensor(math.nan)
    if completed.log_scale is not None:
        mean = laplace_nll(estimate, completed.log_scale, batch.values, batch.withheld)
        nll = mean.double() * count
    if completed.drawn is not None:
        _, _, first, second = completed.drawn
        crps = fair_crps(first, second, batch.values)[batch.withheld].double().sum()
        # of draws that are made already it costs little
        draws = EnsembleTerm()(completed, batch).double() * sequences
    return torch.stack([count, misfit.abs().sum(), misfit.sum(), nll, crps, sequences, draws])
