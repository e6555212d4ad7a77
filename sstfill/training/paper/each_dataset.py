# SPDX-License-Identifier: Apache-2.0
"""The paper's network, trained for each data set of the benchmark on images that are not scored.

The paper trains a network for each data set. Here a series and a clip are cut in two in time, as
`sstfill.training.data.windows.split_in_time` cuts an archive: the last part is scored, the part
before is trained on, and the images between are left out. Of a source that generates its sequences
nothing is cut: those that are trained on come from another seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from sstfill import occlusion
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.evaluation.paper.datasets import FRAMES, DatasetChoice
from sstfill.evaluation.paper.plan import ProtocolPlan
from sstfill.evaluation.paper.published import MIDDLE
from sstfill.evaluation.paper.sequences import Clip, Masks, MovingShapes, SeriesFile, TruthSource
from sstfill.methods import Gan, Method
from sstfill.training.data.windows import split_in_time
from sstfill.training.options import DISCRIMINATED_SIDE
from sstfill.training.paper.variants import (
    IMAGES,
    ROOM,
    SEED,
    VARIANTS,
    VariantTraining,
    told_in_names,
)

NAME = "gan-paper"
"""The paper's own network; its variants are trained on the ocean alone."""
OF_SERIES: Mapping[str, Any] = {"level": "sequence", "augment": True}
"""Options of a training on a series: it may have seasons, of which a sequence of a few images shows
one, and it is often hardly larger than a sequence."""


class TrainedOnEach(NamedTuple):
    """Networks by the name of their data set, the data that are left to score, and how it went.

    `words` say of each data set what its network was trained on, or why there is none.
    """

    networks: dict[str, dict[str, Method]]
    datasets: DatasetChoice
    words: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Halves:
    """A data set cut in two: `truth` to train on, ``(time, y, x)``, and what is left to score.

    `options` are those of a training on it, beside the usual ones.
    """

    truth: xr.DataArray
    scored: TruthSource
    words: str
    options: Mapping[str, Any] = field(default_factory=dict)


def train_on_each(
    training: VariantTraining, plan: ProtocolPlan, datasets: DatasetChoice
) -> TrainedOnEach:
    """Train the paper's network for each data set but the ocean, as unsupervised as in the paper.

    It sees the images under clouds of the paper's middle fraction, of the first liquid water path
    of `datasets` or else synthetic ones, and never what they hide. Those of a clip in colour are
    grey. Where a data set is no wider than a sequence, windows are as narrow as the discriminators
    allow: otherwise these learn its few hundred windows by heart.

    Parameters
    ----------
    training
        How long, and where networks are kept.
    plan
        Length and size of the sequences, seed and device.
    datasets
        What to train on, and to score.

    Returns
    -------
    TrainedOnEach
        Of `datasets`, what no network has seen; a data set that is too short is left whole, and has
        no network.

    Raises
    ------
    ReadError
        A network that was kept is damaged.
    WriteError
        The folder of networks cannot be written.
    """
    networks: dict[str, dict[str, Method]] = {}
    words: dict[str, str] = {}
    sources = list(datasets.sources)
    clouds, of = _clouds(datasets)
    for number, source in enumerate(datasets.sources):
        if source.kind == "ocean":
            continue
        try:
            halves = cut(source, plan)
        except (InputError, ReadError) as error:
            # too short, or larger than memory: it is scored by windows all the same
            words[source.name] = f"no network: {error}"
            continue
        try:
            obs = overcast(halves.truth, clouds, plan.seed)
            network = train_on(training, plan, obs, halves.options)
        except (InputError, OptionError) as error:
            words[source.name] = f"no network: {error}"
            continue
        networks[source.name] = {NAME: network}
        words[source.name] = f"{NAME} was trained on {halves.words} under {of}"
        sources[number] = halves.scored
    return TrainedOnEach(networks, replace(datasets, sources=sources), words)


def cut(source: TruthSource, plan: ProtocolPlan) -> Halves:
    """Cut a data set in two; `InputError` where it is too short for that."""
    side = max(plan.size, DISCRIMINATED_SIDE)
    if isinstance(source, MovingShapes):
        rng = np.random.default_rng(SEED + plan.seed)
        truth = source.scene(IMAGES, plan.size, side + ROOM, rng)
        words = f"{IMAGES} images of another scene, {side + ROOM} pixels wide,"
        return Halves(truth=truth, scored=source, words=words)
    assert isinstance(source, SeriesFile | Clip)
    length = plan.clip_frames if source.kind == "clip" else plan.frames
    images = source.count(side)
    blocks = split_in_time(images, length)
    before = replace(source, images=(0, blocks.training.stop))
    scored = replace(source, images=(blocks.validation.start, None))
    words = (
        f"the first {blocks.training.stop} of {images} images (scored: those from the "
        f"{blocks.validation.start + 1}th on)"
    )
    if source.kind == "clip":
        return Halves(truth=before.whole(side), scored=scored, words=words)
    return Halves(truth=before.whole(side), scored=scored, words=words, options=OF_SERIES)


def overcast(truth: xr.DataArray, clouds: Masks, seed: int) -> xr.DataArray:
    """Hide images under clouds, drawn anew for each `FRAMES` of them: a simulation is short."""
    rng = np.random.default_rng([SEED, seed])
    images, height, width = truth.shape
    runs = []
    for start in range(0, images, FRAMES):
        shape = (min(FRAMES, images - start), height, width)
        runs.append(clouds.draw(shape, rng))
    return truth.where(np.concatenate(runs))


def _clouds(datasets: DatasetChoice) -> tuple[Masks, str]:
    """Return the clouds to train under, and what they are."""
    if datasets.clouds:
        first = datasets.clouds[0]
        return first.at(MIDDLE), f"clouds of {first.name}"
    return occlusion.SyntheticClouds(fraction=MIDDLE), "synthetic clouds"


def train_on(
    training: VariantTraining,
    plan: ProtocolPlan,
    obs: xr.DataArray,
    further: Mapping[str, Any] = OF_SERIES,
) -> Gan:
    """Train on cloudy images, or take the network that was trained on these already.

    `further` are options of the training beside those of the variant.
    """
    side = max(plan.size, DISCRIMINATED_SIDE)
    if min(obs.shape[1:]) <= side:
        side = DISCRIMINATED_SIDE
    network, objective = VARIANTS[NAME]
    options = training.options(network, objective, plan.frames, side, plan.seed, plan.device)
    options = replace(options, **further)
    content = json.dumps(told_in_names(options)).encode() + obs.values.tobytes()
    return training.network(NAME, content, obs, options)
