# SPDX-License-Identifier: Apache-2.0
"""The paper's network, trained for each data set: moving shapes, a clip, OSTIA and GlobCurrent.

What is not in the folder of networks yet is trained (ten minutes of an idle core each), and goes
on where it was interrupted. The page is docs/benchmarks/paper_datasets; ``sstfill bench paper
--steps`` does the same on the data that it is given, and trains the variants on the ocean besides.

Run: OMP_NUM_THREADS=1 python benchmarks/paper_datasets.py NETWORKS [NAME ...], names of data sets,
by default all. With names only these are trained, and no page is written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import torch
import xarray as xr
from report import ROOT, SHARED, table

from sstfill import config
from sstfill.cli.evaluating import write
from sstfill.evaluation.paper import datasets, plan, protocol
from sstfill.evaluation.paper.published import MIDDLE
from sstfill.evaluation.paper.sequences import TruthSource
from sstfill.methods import Gan
from sstfill.training.data.training_field import TrainingField
from sstfill.training.options import TrainOptions
from sstfill.training.paper.each_dataset import NAME, cut, overcast, train_on, train_on_each
from sstfill.training.paper.variants import VariantTraining
from sstfill.training.train import _source

CLOUDS = SHARED / "clouds/lwp_dycoms.nc"
SERIES = ("ostia_neatl_2003_2004.nc", "globcurrent_agulhas_2002.nc")
CLIP = "bigbuckbunny.mp4 (grey)"
STEPS = {"moving shapes": 600, CLIP: 600, SERIES[0]: 2000, SERIES[1]: 1200}
BASE = 4
PLAN = plan.ProtocolPlan(
    sequences=4,
    frames=8,
    clip_frames=8,
    size=40,
    fractions=(MIDDLE,),
    methods=("interpolate", "climatology", "dineof", "bayes_eof"),
    operators=("cloud", "raindrops", "remove-pixel", "vertical-moving-bar"),
    device="cpu",
)
OUT = ROOT / "docs" / "benchmarks" / "paper_datasets"
NOTES = ROOT / "benchmarks" / "paper_datasets.md"
"""What was found, in words."""
CURVES = "curves.png"
READING = f"""\
## Learning curves

MAE at the withheld pixels of the validation, which is no image of the tables, by the averaged \
weights; a fraction of that of predicting the mean of what is seen of the sequence (of moving \
shapes: of all): **1 is knowing nothing**. *D*: the loss of the discriminators, 2 for each that \
guesses.

![Curves]({CURVES})

"""
CONTRASTS: dict[str, tuple[int, Mapping[str, Any]]] = {
    "OSTIA, one level for all seasons": (600, {}),
    "OSTIA, not turned or mirrored": (1000, {"level": "sequence"}),
}
"""Steps and options of trainings on OSTIA without what a series is trained with."""


def training_of(steps: int) -> VariantTraining:
    """Return how a network of so many steps is trained, and where it is kept."""
    return VariantTraining(steps=steps, base=BASE, occluded_value=0.0, folder=sys.argv[1])


def cloudy(source: TruthSource, found: datasets.DatasetChoice) -> xr.DataArray:
    """Return what the network of a data set is trained on."""
    return overcast(cut(source, PLAN).truth, found.clouds[0].at(MIDDLE), PLAN.seed)


def of_the_mean(network: Gan, obs: xr.DataArray) -> float:
    """MAE of predicting the mean at the withheld pixels of a network's validation, its units."""
    options = config.build(TrainOptions, network.checkpoint.config["trained"]["options"])
    if obs.name != "grey":
        options = replace(options, level="sequence")
    source = _source(TrainingField.of(obs, None, None, None), options, "own", 1, 8, OUT)
    errors = []
    for sample in source.validation():
        errors.append(sample.values[sample.withheld].abs())
    # in the units of the network, whose scaling may be another
    std = network.checkpoint.config["scaling"]["std"]
    return float(torch.cat(errors).mean()) * source.scaling.std / std


def histories(found: datasets.DatasetChoice, networks: Mapping[str, Gan]) -> Iterator[tuple]:
    """Yield name, rows of the log, and the error of the mean, of every network."""
    for source in found.sources:
        if source.name not in networks:
            continue
        obs = cloudy(source, found)
        trained = {source.name: networks[source.name]}
        if source.name == SERIES[0]:
            for label, (steps, further) in CONTRASTS.items():
                trained[label] = train_on(training_of(steps), PLAN, obs, further)
        for label, network in trained.items():
            rows = network.checkpoint.config["trained"]["history"]
            yield label, rows, of_the_mean(network, obs)


def curves(found: datasets.DatasetChoice, networks: Mapping[str, Gan]) -> str:
    """Draw the errors by steps; write the least and the last as a table."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    rows: list[list[object]] = []
    for label, history, reference in histories(found, networks):
        steps = [row["steps"] for row in history]
        errors = [row["withheld_mae"] / reference for row in history]
        least = int(np.argmin(errors))
        bias = history[least]["withheld_bias"] / reference
        first, last = history[0], history[-1]
        losses = [first["discriminator"], last["discriminator"]]
        rows.append([label, errors[least], steps[least], errors[-1], steps[-1], bias, *losses])
        axis.semilogy(steps, errors, label=label)
    axis.axhline(1, color="0.6", linewidth=1)
    axis.set(xlabel="steps", ylabel="MAE over that of the mean")
    axis.set_yticks([0.5, 1, 2, 5], labels=["0.5", "1", "2", "5"])
    axis.minorticks_off()
    axis.legend(fontsize="small")
    figure.savefig(OUT / CURVES, dpi=110)
    head = ["", "least MAE", "at step", "last MAE", "at step", "bias", "D, first", "D, last"]
    return READING + table(head, rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = sys.argv[2:] or list(STEPS)
    files = [
        CLOUDS,
        SHARED / "clips/bigbuckbunny.mp4",
        *(SHARED / "truth" / name for name in SERIES),
    ]
    everything = datasets.find(files, shapes=True)
    sources, networks, words = [], {}, {}
    for source in everything.sources:
        # the ocean has a page of its own, docs/benchmarks/paper_variants
        name = source.name.partition(":")[0]
        if name not in wanted:
            continue
        alone = replace(everything, sources=[source])
        trained, left, how = train_on_each(training_of(STEPS[name]), PLAN, alone)
        networks |= trained
        words |= {data: f"{text}, {STEPS[name]} steps" for data, text in how.items()}
        sources += left.sources
    if sys.argv[2:]:
        sys.exit()
    found = replace(everything, sources=sources)
    steps = "600 to 2,000 steps of one sequence, as told beside Table 1"
    told = replace(PLAN, training=f"{steps}, C_base {BASE}, occluded value 0", trained_on=words)
    write(protocol.run(told, found, networks), found, OUT)
    of_networks = {data: methods[NAME] for data, methods in networks.items()}
    learnt = curves(replace(everything, sources=everything.sources[1:]), of_networks)
    page = OUT / "paper.md"
    page.write_text(f"{page.read_text()}\n{learnt}\n{NOTES.read_text()}")
