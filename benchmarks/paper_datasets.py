# SPDX-License-Identifier: Apache-2.0
"""The paper's network, trained for each data set: on moving shapes, and on OSTIA under LWP clouds.

What is not in the folder of networks yet is trained (half an hour on one core), and goes on where
it was interrupted. The page is docs/benchmarks/paper_datasets; ``sstfill bench paper --steps``
does the same on the data that it is given, and trains the variants on the ocean besides.

Run: OMP_NUM_THREADS=1 python benchmarks/paper_datasets.py NETWORKS [NAME ...], names of data sets,
by default both.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch
from report import ROOT, SHARED

from sstfill.cli.evaluating import write
from sstfill.evaluation.paper import datasets, plan, protocol
from sstfill.evaluation.paper.published import MIDDLE
from sstfill.training.paper.each_dataset import train_on_each
from sstfill.training.paper.variants import VariantTraining

OSTIA, CLOUDS = SHARED / "truth/ostia_neatl_2003_2004.nc", SHARED / "clouds/lwp_dycoms.nc"
SHAPES = "moving shapes"
STEPS, BASE = 600, 4
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = sys.argv[2:] or [SHAPES, OSTIA.name]
    files = [CLOUDS]
    if OSTIA.name in wanted:
        files.append(OSTIA)
    found = datasets.find(files, shapes=SHAPES in wanted)
    # the ocean has a page of its own, docs/benchmarks/paper_variants
    found = replace(found, sources=found.sources[1:])
    training = VariantTraining(steps=STEPS, base=BASE, occluded_value=0.0, folder=sys.argv[1])
    networks, found, words = train_on_each(training, PLAN, found)
    told = replace(PLAN, training=str(training), trained_on=words)
    write(protocol.run(told, found, networks), found, OUT)
    page = OUT / "paper.md"
    page.write_text(page.read_text() + "\n" + NOTES.read_text())
