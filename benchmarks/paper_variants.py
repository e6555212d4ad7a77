# SPDX-License-Identifier: Apache-2.0
"""The paper's network and its variants, trained by ``sstfill bench paper`` on the unsteady ocean.

The command trains what is not in the folder of networks yet (an hour on one core), fills the
protocol's sequences, and writes docs/benchmarks/paper_variants; the page of curves beside it,
docs/benchmarks/paper_ordering.md, is written from the logs, and from further trainings of three of
them on other oceans.

Run: OMP_NUM_THREADS=1 python benchmarks/paper_variants.py NETWORKS [curves]
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import torch
from report import ROOT, heading, publish, table

from sstfill import synthetic
from sstfill.cli import main
from sstfill.evaluation.paper import datasets, plan, protocol
from sstfill.evaluation.paper.published import MIDDLE
from sstfill.methods import Gan
from sstfill.training.paper import variants

FRAMES, SIZE, STEPS, BASE, SEED = 8, 40, 1600, 4, 0
AGAIN = {1: ("gan-paper", "gan-static", "gan-recurrent"), 2: ("gan-paper", "gan-static")}
"""Variants that are trained again, by the seed of weights and ocean."""
FEWER = 600
"""Steps of these."""
SEQUENCES = 6
RUN = ["--methods", "interpolate,climatology,dineof,bayes_eof,oi,gan"]
RUN += ["--operators", "cloud,raindrops,remove-pixel,vertical-moving-bar"]
RUN += ["--sequences", str(SEQUENCES), "--frames", str(FRAMES), "--size", str(SIZE)]
RUN += ["--unsteady", "--features", "efficientnet"]
RUN += ["--steps", str(STEPS), "--base", str(BASE), "--seed", str(SEED)]
OUT = ROOT / "docs" / "benchmarks" / "paper_variants"
READING = """\
Networks of the paper at C_base 4, 8 x 40 x 40, trained on one synthetic ocean as unsteady as \
hourly satellite images (`sstfill.synthetic.UNSTEADY`) under clouds of 39.5 %, by the paper's \
objective and by others. MAE is over withheld pixels of the last part of that ocean, by the \
averaged weights, as a fraction of that of predicting its mean: **1 is knowing nothing**. *D*: the \
loss of the discriminators in the last epoch, 2 for each that guesses. Of each variant the network \
of the least MAE is kept. Broken lines: trained again with other seeds, on other oceans. The \
tables with the networks of the first seed, the other methods and the paper's numbers are in \
[paper_variants](paper_variants/paper.md).

![Curves](paper_variants/curves.png)

"""
SEEDS = f"""\

## More seeds

Seed {SEED} had {STEPS} steps, the others {FEWER}. *Least*: of the learning curve up to step \
{FEWER}, as above. Then all networks on the same {SEQUENCES} sequences of the protocol, \
{MIDDLE:.1%} occluded; MAE and bias in °C.

"""
NOTES = ROOT / "benchmarks" / "paper_ordering.md"
"""What was found, in words."""


def of_the_mean(size: int, seed: int = SEED) -> float:
    """MAE of predicting the mean of the ocean that sequences of a size are trained on, scaled."""
    side = size + variants.ROOM
    shape = (variants.IMAGES, side, side)
    truth = synthetic.sst(
        shape=shape, step="6h", seed=variants.SEED + seed, **synthetic.UNSTEADY
    ).values
    return float(np.abs(truth - truth.mean()).mean() / (3 * truth.std()))


def logs(networks: Path, seed: int = SEED, steps: int = STEPS) -> dict[str, list[dict[str, float]]]:
    """Rows of the log of each variant that was trained so long with a seed."""
    found = {}
    for name in variants.VARIANTS:
        for folder in sorted(networks.glob(f"{name}-*")):
            trained = json.loads((folder / "config.json").read_text())["trained"]
            # of gan-static-both gan-static would match, too
            options, objective = trained["options"], variants.VARIANTS[name][1]
            if (options["objective"], options["seed"], trained["steps"]) == (
                objective,
                seed,
                steps,
            ):
                found[name] = history_of(folder / "log.csv")
    return found


def history_of(log: Path) -> list[dict[str, float]]:
    """Read the rows of the log of a training."""
    with log.open() as stream:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]


def curves(networks: Path) -> None:
    """Write the page and the figure of the curves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    reference = of_the_mean(SIZE)
    every = of_all_seeds(networks)
    again = [(logs(networks, seed, FEWER), of_the_mean(SIZE, seed)) for seed in AGAIN]
    figure, axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    rows: list[list[object]] = []
    for name, history in logs(networks).items():
        errors = [row["withheld_mae"] / reference for row in history]
        least = int(np.argmin(errors))
        rows.append(
            [
                name,
                " ".join(variants.VARIANTS[name]),
                errors[least],
                int(history[least]["steps"]),
                errors[-1],
                history[least]["withheld_bias"] / reference,
                history[-1].get("discriminator", ""),
                sum(row["seconds"] for row in history) / STEPS,
            ]
        )
        (line,) = axis.plot([row["steps"] for row in history], errors, label=name)
        for further, other in again:
            steps = [row["steps"] for row in further.get(name, ())]
            errors = [row["withheld_mae"] / other for row in further.get(name, ())]
            axis.plot(steps, errors, "--", color=line.get_color(), linewidth=1)
    axis.axhline(1, color="0.6", linewidth=1)
    axis.set(xlabel="steps", ylabel="MAE over that of the mean", ylim=(0, 1.2))
    axis.legend(fontsize="small", ncols=2)
    figure.savefig(OUT / "curves.png", dpi=110)
    head = ["", "network, objective", "least MAE", "at step", "last MAE", "bias", "D", "s a step"]
    text = heading(
        "The paper's variants: what each objective learns",
        seed=f"{SEED}; of three also {' and '.join(map(str, AGAIN))}",
        torch=torch.__version__,
        run="python benchmarks/paper_variants.py NETWORKS",
    )
    text += READING + table(head, rows) + SEEDS + filled(every, least_errors(networks))
    publish("paper_ordering", text + "\n" + NOTES.read_text())


def of_all_seeds(networks: Path) -> dict[str, Gan]:
    """Train the variants of further seeds, or take those that were kept; the first seed's, too."""
    every = {}
    first = dict.fromkeys(name for names in AGAIN.values() for name in names)
    for seed, names in {SEED: tuple(first), **AGAIN}.items():
        training = variants.VariantTraining(
            steps=STEPS if seed == SEED else FEWER, base=BASE, unsteady=True, folder=str(networks)
        )
        chosen = {name: variants.VARIANTS[name] for name in names}
        found = variants.trained(
            training, frames=FRAMES, size=SIZE, seed=seed, device="auto", variants=chosen
        )
        for name, network in found:
            every[f"{name}, seed {seed}"] = network
    return every


def least_errors(networks: Path) -> dict[str, float]:
    """Return the least error of each learning curve up to step `FEWER`, over that of the mean."""
    found = {}
    for seed, steps in ((SEED, STEPS), *((seed, FEWER) for seed in AGAIN)):
        reference = of_the_mean(SIZE, seed)
        for name, history in logs(networks, seed, steps).items():
            early = [row["withheld_mae"] for row in history if row["steps"] <= FEWER]
            found[f"{name}, seed {seed}"] = min(early) / reference
    return found


def filled(every: dict[str, Gan], learnt: dict[str, float]) -> str:
    """Fill sequences of the protocol by the networks of all seeds; write the scores as a table."""
    wanted = plan.ProtocolPlan(
        sequences=SEQUENCES,
        frames=FRAMES,
        size=SIZE,
        seed=SEED,
        fractions=(MIDDLE,),
        methods=("interpolate", "dineof"),
        operators=("cloud",),
        features="efficientnet",
    )
    data = datasets.find(unsteady=True)
    results = protocol.run(wanted, data, {data.sources[0].name: every}).results
    rows: list[list[object]] = []
    for number in range(results.sizes["row"]):
        own = results.isel(row=number)
        name = str(own["method"].values)
        if own["variant"] != protocol.WHOLE:
            continue
        scores = [own["mae"].mean(), own["pooled_bias"]]
        scores += [own["frechet_frames"], own["frechet_sequences"]]
        rows.append([name, learnt.get(name, ""), *map(float, scores)])
    head = ["", "least", "MAE", "bias", "Frechet, frames", "Frechet, sequences"]
    return table(head, sorted(rows, key=lambda row: str(row[0])))


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, only = Path(sys.argv[1]), sys.argv[2:]
    if only != ["curves"]:
        main(["bench", "paper", *RUN, "--networks", str(place), "--out", str(OUT)])
    curves(place)
