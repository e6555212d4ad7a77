# SPDX-License-Identifier: Apache-2.0
"""Train a network on a cloudy archive, and return it as a method that fills."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from sstfill import config, occlusion
from sstfill.checks import check_number
from sstfill.errors import InputError, OptionError
from sstfill.fields.reading.dates import days_since_first, usual_step
from sstfill.fields.reading.positions import cell_km
from sstfill.fields.scaling import Scaling, SequenceScaling
from sstfill.fields.transform import Asked
from sstfill.methods.gan.domain_check import spread_of
from sstfill.methods.gan.method import Gan
from sstfill.methods.gan.network_inputs import CHANNELS
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.training.data.training_field import TrainingField
from sstfill.training.data.windows import (
    USUAL_LIMITS,
    MemoryLimits,
    TrainingWindows,
    longest_sequence,
    split_in_time,
)
from sstfill.training.options import TrainOptions

if TYPE_CHECKING:
    from torch import nn

    from sstfill.training.data.archive_source import FirstGuessSource, PaperSource

FURTHER = 2e-4
"""Learning rate of a network that was trained before: a fifth of that of a new one."""
VALIDATION_CLOUDS = 0.25
"""Fraction of the archive's dates whose cloud masks are kept for validation."""
CLOUD_GAP = 2
"""Dates left out between the cloud masks for training and those for validation."""
SCALED_BY = 64
"""Sequences by whose scatter each is scaled, where that is about its own level."""
FEW = 12
"""Images below which training and validation share all cloud masks: there are too few for each."""


def train(
    data: xr.Dataset | xr.DataArray,
    options: TrainOptions | None = None,
    *,
    variable: str | None = None,
    clouds: str | occlusion.Occlusion = "own",
    truth: xr.DataArray | str | None = None,
    start: str | Path | Checkpoint | Gan | Literal["shipped", "new"] = "shipped",
    clips: int = 40,
    validated: int = 8,
    transform: Asked = "auto",
    sea: xr.DataArray | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    limits: MemoryLimits = USUAL_LIMITS,
) -> Gan:
    """Train a network on a cloudy archive, without ground truth.

    Parameters
    ----------
    data
        A Dataset or DataArray with time and two spatial dimensions, NaN in the gaps. Dask-backed
        ones of more than 128 MiB are streamed: a shuffle buffer of four segments (32 MiB each) is
        kept in memory while a fifth is read.
    options
        See `TrainOptions`; by default the compact network learns to restore withheld pixels.
        Sequences longer or larger than the archive allows are an error, but those of the default
        sizes are cut.
    variable
        Which variable, if several can be filled.
    clouds
        What hides more of what is observed: ``"own"``, the archive's own clouds of other dates; the
        name of a measurement operator with default options ("raindrops"); or an operator
        (``sstfill.occlusion.Cloud(lwp=...)``).
    truth
        The same field without gaps, or its name in `data`: for objectives "paired" and "unpaired".
    start
        Of the compact network: what to train further; "shipped" is what comes with sstfill, "new"
        starts from nothing. Unless `options` give a learning rate, that is a fifth of the usual one
        for what has been trained before. The paper's networks start from nothing unless a
        checkpoint is given.
    clips
        Sequences for which first guesses are computed, a few seconds each (compact network only).
    validated
        Sequences of the validation, on whose withheld pixels each epoch is scored.
    transform
        What it learns to fill, as in `sstfill.fill`; of a skewed field that nothing tells of,
        ``auto`` takes the values as they are. The checkpoint records it, and fills in that space.
    sea
        True at sea, over the spatial dims.
    out
        Folder for the checkpoint, the log and the state to resume from; None writes nothing. The
        processes of torchrun share their first guesses there.
    resume
        Go on with the training in `out`, if there is one: with the same data, clouds, start,
        `clips` and `validated`, which are not compared.
    limits
        How much of a Dask-backed archive is held in memory.

    Returns
    -------
    Gan
        A method that fills: ``ds.gapfill.fill(model)``, ``ds.gapfill.gan(model)``. Its checkpoint
        shows its training in Jupyter.

    Raises
    ------
    InputError
        If the archive is shorter than two sequences or smaller than a window, all land, or shows
        nothing to train on, if a value is infinite, or the truth does not fit.
    OptionError
        For an unknown variable, option, operator or network, if there is no GPU where one is asked
        for, if `out` holds a training that is not to be resumed, or if training diverges in its
        first epoch.
    ReadError
        If there is no checkpoint to start from, or a file in `out` is damaged.
    WriteError
        If `out` cannot be written.
    """
    chosen = options if options is not None else TrainOptions()
    _check(chosen, sea, truth)
    check_number("clips", clips, 1, whole=True)
    check_number("validated", validated, 1, whole=True)
    archive = TrainingField.of(data, variable, sea, truth, transform)
    # A small archive is read once; windows of a lazy one would be read each time.
    archive = archive.loaded(limits)
    chosen = _fit_to_archive(chosen, archive)
    # First guesses are kept between trainings only where a folder is given.
    with _clips_folder(out) as folder:
        # It imports torch, which takes seconds: arguments are checked without it.
        from sstfill.training.loop import fit

        first = start_checkpoint(chosen, start)
        if first is not None:
            chosen = _continued(chosen, first)
        size = network_options(chosen, first)
        network = new_network(chosen, first)
        source = _source(archive, chosen, clouds, clips, validated, folder, limits)
        trained = fit(
            network, source, chosen, out=None if out is None else Path(out), resume=resume
        )
        card = trained.card(chosen.network, size)
        # The card says what the network was trained on, beside how.
        card |= _archive_card(archive, chosen, clouds, source, first)
        checkpoint = Checkpoint(card, trained.network.state_dict())
    save_checkpoint(checkpoint, out)
    return Gan(model=checkpoint, device=chosen.device)


def save_checkpoint(checkpoint: Checkpoint, out: str | Path | None) -> None:
    """Save a checkpoint, if a folder is given; under torchrun the first process does it for all."""
    if out is not None and os.environ.get("RANK", "0") == "0":
        checkpoint.save(out)


def _check(options: TrainOptions, sea: object, truth: object) -> None:
    """Raise an error where arguments are of a wrong type or contradict each other."""
    if not isinstance(options, TrainOptions):
        raise OptionError(f"options is a {type(options).__name__}; give sstfill.TrainOptions(...)")
    remedy = "give an xarray DataArray with the dims of the field"
    if not isinstance(sea, xr.DataArray | None):
        raise InputError(f"sea is a {type(sea).__name__}; {remedy}")
    if not isinstance(truth, xr.DataArray | str | None):
        raise InputError(f"truth is a {type(truth).__name__}; {remedy}")
    if options.objective in ("paired", "unpaired") and truth is None:
        raise OptionError(
            f"objective={options.objective!r} needs the truth; give truth=, or objective='withheld'"
        )


def _fit_to_archive(options: TrainOptions, archive: TrainingField) -> TrainOptions:
    """Cut sequences of the default sizes to the archive; others must fit."""
    images, height, width = archive.obs.shape
    frames, size = options.frames, options.size
    if frames == TrainOptions.frames:
        frames = min(frames, longest_sequence(images))
    if size == TrainOptions.size:
        size = min(size, height, width)
    if size > min(height, width):
        raise InputError(
            f"size={size}, and images have {height}x{width} pixels; give size={min(height, width)}"
        )
    return replace(options, frames=frames, size=size)


@contextmanager
def _clips_folder(out: str | Path | None) -> Iterator[Path]:
    """Give a folder for the sequences and their first guesses: in `out`, else a temporary one."""
    if out is not None:
        yield Path(out) / "clips"
        return
    with tempfile.TemporaryDirectory(prefix="sstfill-") as folder:
        yield Path(folder)


def start_checkpoint(
    options: TrainOptions, start: str | Path | Checkpoint | Gan
) -> Checkpoint | None:
    """Return the checkpoint to train further; None for a new network."""
    if start == "new" and options.draws:
        raise OptionError(
            f"objective={options.objective!r} needs a network that estimates already; give "
            "start='shipped', or one trained by objective='withheld'"
        )
    # Only a compact network ships.
    if start == "new" or (start == "shipped" and options.network != "compact"):
        return None
    # The method reads and checks a checkpoint, wherever it comes from.
    given = Gan(model=None if start == "shipped" else start).checkpoint
    name = given.config["network"]["name"]
    if name != options.network:
        raise OptionError(
            f"start is a {name} network, network={options.network!r}; give the same, or start='new'"
        )
    # The channels are told apart by position: others would be taken for these.
    if options.network == "compact" and given.config.get("channels") != list(CHANNELS):
        raise OptionError(
            "start was trained on other first guesses than this version of sstfill has; "
            "give start='new'"
        )
    return given


def _continued(options: TrainOptions, first: Checkpoint) -> TrainOptions:
    """Take the size of the checkpoint, whatever `base` says, and a lower learning rate."""
    # Weights of another width do not fit.
    base = first.config["network"]["options"].get("base", options.base)
    options = replace(options, base=base)
    # the paper's objectives keep their rate, which is low already
    if options.learning_rate is None and options.objective.startswith("withheld"):
        options = replace(options, learning_rate=FURTHER)
    return options


def network_options(options: TrainOptions, first: Checkpoint | None = None) -> dict[str, Any]:
    """Options of the network to train, as `sstfill.nn.registry.build` takes them.

    They are those of the checkpoint `first`, if there is one; a compact network that is to draw and
    cannot yet is given the branch for it.
    """
    chosen: dict[str, Any] = {"base": options.base}
    if options.network == "compact":
        chosen["inputs"] = len(CHANNELS)
    else:
        chosen["fill"] = options.occluded_value
    if first is not None:
        chosen = dict(first.config["network"]["options"])
    if options.draws:
        # A branch that is there keeps its width, and learns on.
        chosen["drawing"] = chosen.get("drawing") or options.drawing
    return chosen


def new_network(options: TrainOptions, first: Checkpoint | None = None) -> nn.Module:
    """Draw a network by the seed, with the weights that the checkpoint `first` has; torch's own
    generator is left as it was.
    """
    import torch

    from sstfill.nn import registry

    # On the CPU, so that the same seed draws the same weights whatever the device.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = registry.build(options.network, network_options(options, first))
    if first is not None:
        # a branch that the checkpoint lacks keeps its new weights
        network.load_state_dict(network.state_dict() | first.weights)
    return network


def _source(
    archive: TrainingField,
    options: TrainOptions,
    clouds: Any,
    clips: int,
    validated: int,
    folder: Path,
    limits: MemoryLimits = USUAL_LIMITS,
) -> PaperSource | FirstGuessSource:
    """Make the source of sequences: two blocks of time, each with clouds of its own."""
    from sstfill.training.data.archive_source import ArchivePart, FirstGuessSource, PaperSource
    from sstfill.training.data.cloud_buffer import loaded

    blocks = split_in_time(archive.obs.sizes["time"], options.frames)
    shape = (options.frames, options.size, options.size)
    parts = []
    for times, operator in zip(blocks, _operators(clouds, archive), strict=True):
        windows = TrainingWindows(
            archive.obs, archive.sea, times, shape, archive.truth, limits=limits
        )
        parts.append(ArchivePart(windows, loaded(operator, limits)))
    if options.network == "compact":
        # a name for all that sequences depend on: those of another training are not taken for them
        name = _digest(
            archive.fingerprint, _places(archive), shape, options.seed, _label(clouds), CHANNELS
        )
        return FirstGuessSource(
            training_part=parts[0],
            validation_part=parts[1],
            samples=options.samples,
            clips=clips,
            validated=validated,
            adversarial=options.adversarial,
            folder=folder / name,
            seed=options.seed,
        )
    # of the training block alone: the validation must not leak into it
    trained_on = archive.obs[blocks.training]
    scaling: Scaling | SequenceScaling
    if options.level == "sequence":
        rng = np.random.default_rng([options.seed, 3])
        drawn = [parts[0].windows.draw(rng).obs.values for _ in range(SCALED_BY)]
        scaling = SequenceScaling.fit(trained_on, drawn)
    else:
        scaling = Scaling.fit(trained_on)
    return PaperSource(
        training_part=parts[0],
        validation_part=parts[1],
        scaling=scaling,
        samples=options.samples,
        validated=validated,
        needs_withheld=options.needs_withheld,
        adversarial=options.adversarial,
        augment=options.augment,
        seed=options.seed,
    )


def _places(archive: TrainingField) -> bytes:
    """Sea, times and positions, on which first guesses depend."""
    # The bytes in C order: a transposed view holds the same numbers in another order.
    content = np.ascontiguousarray(archive.sea.values).tobytes()
    for _, coord in sorted(archive.obs.coords.items()):
        if coord.dtype != object:
            content += np.ascontiguousarray(coord.values).tobytes()
    return content


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _operators(
    clouds: Any, archive: TrainingField
) -> tuple[occlusion.Occlusion, occlusion.Occlusion]:
    """Return the operators for training and for validation: observed clouds of separate dates."""
    operator = _operator(clouds, archive)
    if not isinstance(operator, occlusion.ObservedClouds):
        return operator, operator
    # Too few masks to keep some apart; they are then seen in training, the hidden values are not.
    if len(operator.observed) < FEW * operator.stride:
        return operator, operator
    first, second = operator.split((1 - VALIDATION_CLOUDS, VALIDATION_CLOUDS), gap=CLOUD_GAP)
    return first, second


def _operator(clouds: Any, archive: TrainingField) -> occlusion.Occlusion:
    """Return the operator that `clouds` is or names."""
    if not isinstance(clouds, str):
        # A class has `draw` too, but no options.
        if isinstance(clouds, type) or not hasattr(clouds, "draw"):
            raise OptionError(
                f"clouds is a {type(clouds).__name__}, which draws no masks; give 'own', the name "
                "of a measurement operator, or an operator such as sstfill.occlusion.Raindrops()"
            )
        given: occlusion.Occlusion = clouds
        return given
    if clouds == "own":
        return occlusion.ObservedClouds(archive.obs.notnull(), archive.sea)
    kind = occlusion.operator_class(clouds)
    for field in fields(kind):
        if field.default is MISSING and field.default_factory is MISSING:
            raise OptionError(
                f"clouds={clouds!r} needs {field.name}; give the operator, "
                f"sstfill.occlusion.{kind.__name__}({field.name}=...), or clouds='own'"
            )
    return kind()


def _label(clouds: Any) -> str:
    """Name an operator, with a digest of the arrays it holds, which its repr does not show."""
    if isinstance(clouds, str):
        return clouds
    arrays = []
    for name in ("observed", "sea", "lwp"):
        array = getattr(clouds, name, None)
        if array is not None:
            arrays.append(np.asarray(array).tobytes())
    if arrays:
        return f"{clouds!r} {_digest(*arrays)}"
    return repr(clouds)


def _archive_card(
    archive: TrainingField,
    options: TrainOptions,
    clouds: Any,
    source: Any,
    first: Checkpoint | None,
) -> dict[str, Any]:
    """Describe the archive for the checkpoint.

    Only the paper's networks need its scaling and units: the compact network works in units of the
    series' own scatter.
    """
    obs = archive.obs
    card: dict[str, Any] = {
        "variable": str(obs.name),
        "patch": [options.frames, options.size, options.size],
        "occlusion": _label(clouds),
        "data": {"fingerprint": archive.fingerprint, "shape": list(obs.shape)},
        "transform": archive.transform.kind,
    }
    if options.network == "compact":
        ranges = [source.traits()]
        if first and first.config.get("traits"):
            # What the network has learnt before it may be used for still.
            ranges.append(first.config["traits"])
        both = np.array(ranges, float)  # training, trait, (least, greatest)
        card["traits"] = np.stack([both[..., 0].min(0), both[..., 1].max(0)], 1).tolist()
        return card
    card["scaling"] = config.options(source.scaling)
    card["units"] = str(obs.attrs.get("units", ""))
    card["step_days"] = usual_step(days_since_first(obs))
    card["cell_km"] = float(np.mean(cell_km(obs)))
    # By which, with step and cell, a fill tells whether the series is of the kind trained on.
    card["spread"] = spread_of(obs, card)
    return card
