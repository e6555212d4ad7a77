# SPDX-License-Identifier: Apache-2.0
"""The paper's network, adversarial only, on sequences as long and as wide as the paper's: 24x64x64.

What is not in the folder of networks yet is trained (fifty minutes on one idle core), and goes on
where it was interrupted. Then sequences of the protocol are filled by it and by other methods.

Run: OMP_NUM_THREADS=1 python benchmarks/paper_long.py NETWORKS
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import torch
from paper_variants import history_of, of_the_mean
from report import ROOT, heading, publish, table

from sstfill.evaluation.paper import datasets, plan, protocol
from sstfill.evaluation.paper.published import MIDDLE
from sstfill.methods import Method
from sstfill.training.paper.variants import VARIANTS, VariantTraining, trained

FRAMES, SIZE, STEPS, BASE, SEED = 24, 64, 1450, 4, 0
NAME = "gan-paper"
PLAN = plan.ProtocolPlan(
    sequences=4,
    frames=FRAMES,
    size=SIZE,
    seed=SEED,
    fractions=(MIDDLE,),
    methods=("interpolate", "climatology", "dineof", "bayes_eof", "oi", "gan"),
    operators=("cloud",),
    device="cpu",
    features="efficientnet",
)
PICTURE = "paper_long.png"
READING = f"""\
The paper's network at C_base {BASE} with c = 0, {FRAMES} x {SIZE} x {SIZE}, trained by the \
paper's adversarial objective alone on one unsteady synthetic ocean under clouds of 39.5 %, one \
sequence a step. MAE is over withheld pixels of the last part of that ocean, by the averaged \
weights, as a fraction of that of predicting its mean: **1 is knowing nothing**. *D*: the loss of \
the discriminators, 2 for each that guesses.

![Curve]({PICTURE})

"""
NOTES = ROOT / "benchmarks" / "paper_long.md"
"""What was found, in words."""


def curve(history: list[dict[str, float]], reference: float) -> None:
    """Draw the error and the bias by steps."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 4), layout="constrained")
    steps = [row["steps"] for row in history]
    for score, label in (("withheld_mae", "MAE"), ("withheld_bias", "bias")):
        axis.plot(steps, [row[score] / reference for row in history], label=label)
    axis.axhline(1, color="0.6", linewidth=1)
    axis.axhline(0, color="0.6", linewidth=1)
    axis.set(xlabel="steps", ylabel="over the MAE of the mean")
    axis.legend(fontsize="small")
    figure.savefig(ROOT / "docs" / "benchmarks" / PICTURE, dpi=110)


def learnt(history: list[dict[str, float]], reference: float) -> str:
    """Write the curve as a table, ten rows of it and the best."""
    best = min(history, key=lambda row: row["withheld_mae"])
    some = [*history[:: max(1, len(history) // 10)], best]
    rows = []
    for row in sorted(some, key=lambda row: row["steps"]):
        mae, bias = row["withheld_mae"] / reference, row["withheld_bias"] / reference
        rows.append([int(row["steps"]), mae, bias, row["discriminator"], row["seconds"] / 50])
    return table(["steps", "MAE", "bias", "D", "s a step"], rows)


def filled(network: Method) -> str:
    """Fill sequences of the protocol; write the scores as a table."""
    found = datasets.find([], unsteady=True)
    ocean = found.sources[0].name
    results = protocol.run(PLAN, found, {ocean: {NAME: network}}).results
    rows = []
    for row in range(results.sizes["row"]):
        own = results.isel(row=row)
        if own["variant"] != protocol.WHOLE:
            continue
        scores = [own[name].mean() for name in ("mae", "rmse", "bias")]
        scores += [own["frechet_frames"], own["frechet_sequences"]]
        rows.append([str(own["method"].values), *map(float, scores)])
    rows.sort(key=lambda row: row[1])
    head = ["", "MAE, °C", "RMSE, °C", "bias, °C", "Frechet, frames", "Frechet, sequences"]
    return table(head, rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    training = VariantTraining(
        steps=STEPS, base=BASE, occluded_value=0.0, unsteady=True, folder=sys.argv[1]
    )
    chosen = {NAME: VARIANTS[NAME]}
    ((_, network),) = trained(
        training, frames=FRAMES, size=SIZE, seed=SEED, device="cpu", variants=chosen
    )
    (log,) = Path(sys.argv[1]).glob(f"{NAME}-*/log.csv")
    history = history_of(log)
    reference = of_the_mean(SIZE)
    curve(history, reference)
    text = heading(
        "The paper's network on sequences of 24x64x64",
        seed=SEED,
        torch=torch.__version__,
        training=str(training),
        run="python benchmarks/paper_long.py NETWORKS",
    )
    text += READING + learnt(history, reference)
    text += f"\n## {PLAN.sequences} sequences of the protocol, {MIDDLE:.1%} occluded\n\n"
    publish("paper_long", text + filled(network) + "\n" + NOTES.read_text())
