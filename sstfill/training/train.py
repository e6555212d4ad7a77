# SPDX-License-Identifier: Apache-2.0
"""Train a network on an archive, clouds and all, and return it as a method that fills."""

from __future__ import annotations

import hashlib
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
from sstfill.fields import grid
from sstfill.fields.scaling import Scaling
from sstfill.methods.gan.method import Gan
from sstfill.methods.gan.network_inputs import CHANNELS
from sstfill.methods.oi.solver import usual_step
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.training.data.archive import TrainingField
from sstfill.training.data.windows import TrainingWindows, blocks, longest
from sstfill.training.model_card import described, save
from sstfill.training.options import TrainOptions

if TYPE_CHECKING:
    from torch import nn

    from sstfill.training.data.archive_source import GuessedSource, PaperSource

FURTHER = 2e-4
"""Learning rate of what has been trained before: a fifth of that of a new network."""
FRAMES, SIZE = 24, 64
"""Of a sequence, where the archive has as much: those of the paper."""
VALIDATION_CLOUDS = 0.25
"""Share of the archive's dates whose cloud masks are kept for validation."""
CLOUD_GAP = 2
"""Dates left out between the cloud masks for training and those for validation."""
FEW = 12
"""Images below which both take any mask: there would be next to none for each."""


def train(
    data: xr.Dataset | xr.DataArray,
    options: TrainOptions | None = None,
    *,
    variable: str | None = None,
    clouds: str | occlusion.Occlusion = "own",
    truth: xr.DataArray | str | None = None,
    start: str | Path | Checkpoint | Gan | Literal["shipped", "new"] = "shipped",
    clips: int = 40,
    log_scaled: bool = False,
    sea: xr.DataArray | None = None,
    out: str | Path | None = None,
    resume: bool = False,
) -> Gan:
    """Train a network on a cloudy archive, without ground truth.

    Parameters
    ----------
    data
        A Dataset or DataArray with time and two spatial dimensions, NaN in the gaps. Dask-backed
        ones of more than 128 MiB are never loaded whole: the paper's networks train on slabs of
        them, five of 32 MiB at a time.
    options
        See `TrainOptions`; by default the compact network learns to restore withheld clouds.
        Sequences longer or larger than the archive allows are an error, unless they have the
        default sizes.
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
        Sequences for which first guesses are worked out, a few seconds each (compact network only).
    log_scaled
        Train the paper's networks on decimal logarithms, for what spans orders of magnitude
        (chlorophyll).
    sea
        True at sea, over the spatial dims.
    out
        Folder for the checkpoint, the log and the state to resume from; None keeps nothing but what
        is returned.
    resume
        Go on with the training in `out`, if there is one: with the same data, clouds and start,
        which are not compared.

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
        If there is no checkpoint to start from, or what is in `out` is damaged.
    WriteError
        If `out` cannot be written.
    """
    chosen = options if options is not None else TrainOptions()
    if not isinstance(chosen, TrainOptions):
        raise OptionError(f"options is a {type(chosen).__name__}; give sstfill.TrainOptions(...)")
    if log_scaled and chosen.network == "compact":
        raise OptionError(
            "log_scaled is for the paper's networks; take the logarithm yourself, or network='paper'"
        )
    for label, mask in (("sea", sea), ("truth", truth)):
        if not isinstance(mask, xr.DataArray | str | None) or (
            label == "sea" and isinstance(mask, str)
        ):
            raise InputError(
                f"{label} is a {type(mask).__name__}; give an xarray DataArray with the dims of the field"
            )
    if chosen.objective in ("paired", "unpaired") and truth is None:
        raise OptionError(
            f"objective={chosen.objective!r} needs the truth; give truth=, or objective='withheld'"
        )
    check_number("clips", clips, 1, whole=True)
    archive = TrainingField.of(data, variable, sea, truth).loaded()
    chosen = _sized(chosen, archive)
    with _folder(out) as folder:
        from sstfill.training.loop import fit

        begun = _begun(chosen, start)
        if begun is not None:
            chosen = _further(chosen, begun)
        size = network_options(chosen) if begun is None else begun.config["network"]["options"]
        network = new_network(chosen) if begun is None else begun.network()
        source = _source(archive, chosen, clouds, clips, log_scaled, folder)
        fitted = fit(network, source, chosen, out=None if out is None else Path(out), resume=resume)
        told = described(fitted, chosen.network, size) | _told(
            archive, chosen, clouds, source, begun
        )
        checkpoint = Checkpoint(told, fitted.network.state_dict())
    save(checkpoint, out)
    return Gan(model=checkpoint, device=chosen.device)


def _sized(options: TrainOptions, archive: TrainingField) -> TrainOptions:
    """Check that windows fit the archive; sequences of default size are cut to it."""
    images, height, width = archive.obs.shape
    frames = min(FRAMES, longest(images)) if options.frames == FRAMES else options.frames
    size = min(SIZE, height, width) if options.size == SIZE else options.size
    if size > min(height, width):
        raise InputError(
            f"size={size}, and images have {height}x{width} pixels; give size={min(height, width)}"
        )
    return replace(options, frames=frames, size=size)


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    """A folder for the sequences with their first guesses: in `out`, else a temporary one."""
    if out is not None:
        yield Path(out) / "clips"
        return
    with tempfile.TemporaryDirectory(prefix="sstfill-") as folder:
        yield Path(folder)


def _begun(options: TrainOptions, start: str | Path | Checkpoint | Gan) -> Checkpoint | None:
    """What is trained further; None for a new network."""
    if start == "new" or (start == "shipped" and options.network != "compact"):
        return None
    given = Gan(model=None if start == "shipped" else start).checkpoint
    if (name := given.config["network"]["name"]) != options.network:
        raise OptionError(
            f"start is a {name} network, network={options.network!r}; give the same, or start='new'"
        )
    if options.network == "compact" and given.config.get("channels") != list(CHANNELS):
        raise OptionError(
            "start was trained on other first guesses than this version of sstfill has; give start='new'"
        )
    return given


def _further(options: TrainOptions, begun: Checkpoint) -> TrainOptions:
    """Options of training a checkpoint further: its own size, whatever `base` says, and small
    steps.
    """
    base = begun.config["network"]["options"].get("base", options.base)
    slow = options.learning_rate is None and options.objective.startswith("withheld")
    return (
        replace(options, base=base, learning_rate=FURTHER) if slow else replace(options, base=base)
    )


def network_options(options: TrainOptions) -> dict[str, Any]:
    """Options of a new network, as `sstfill.nn.registry.build` takes them."""
    return {"base": options.base} | (
        {"inputs": len(CHANNELS)} if options.network == "compact" else {}
    )


def new_network(options: TrainOptions) -> nn.Module:
    """Draw a new network by the seed; torch's own generator is left as it was."""
    import torch

    from sstfill.nn import registry

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return registry.build(options.network, network_options(options))


def _source(
    archive: TrainingField,
    options: TrainOptions,
    clouds: Any,
    clips: int,
    log_scaled: bool,
    folder: Path,
) -> PaperSource | GuessedSource:
    from sstfill.training.data.archive_source import ArchivePart, GuessedSource, PaperSource
    from sstfill.training.data.cloud_slabs import loaded

    cut = blocks(archive.obs.sizes["time"], options.frames)
    operators = [loaded(operator) for operator in _operators(clouds, archive)]
    shape = (options.frames, options.size, options.size)
    training, validated = (
        ArchivePart(
            TrainingWindows(archive.obs, archive.sea, times, shape, archive.truth), operator
        )
        for times, operator in zip(cut, operators, strict=True)
    )
    if options.network == "compact":
        kept = folder / _digest(
            archive.fingerprint, _places(archive), shape, options.seed, _label(clouds), CHANNELS
        )
        return GuessedSource(
            training, validated, options.samples, clips, options.adversarial, kept, options.seed
        )
    scaling = Scaling.fit(archive.obs[cut.training], "log" if log_scaled else "standardise")
    return PaperSource(
        training,
        validated,
        scaling,
        options.samples,
        options.hidden,
        options.adversarial,
        options.seed,
    )


def _places(archive: TrainingField) -> bytes:
    """Sea, times and positions, on which first guesses depend."""
    parts = [
        archive.sea.values,
        *(c.values for _, c in sorted(archive.obs.coords.items()) if c.dtype != object),
    ]
    return b"".join(np.ascontiguousarray(p).tobytes() for p in parts)


def _digest(*parts: object) -> str:
    """Short name for what sequences depend on, so that those of another training are not taken for
    them.
    """
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _operators(
    clouds: Any, archive: TrainingField
) -> tuple[occlusion.Occlusion, occlusion.Occlusion]:
    """What hides more in training, and in validation: of observed clouds, those of dates apart."""
    operator = _operator(clouds, archive)
    if (
        isinstance(operator, occlusion.ObservedClouds)
        and len(operator.observed) >= FEW * operator.stride
    ):
        first, second = operator.split((1 - VALIDATION_CLOUDS, VALIDATION_CLOUDS), gap=CLOUD_GAP)
        return first, second
    return operator, operator


def _operator(clouds: Any, archive: TrainingField) -> occlusion.Occlusion:
    if not isinstance(clouds, str):
        if isinstance(clouds, type) or not hasattr(clouds, "draw"):
            raise OptionError(
                f"clouds is a {type(clouds).__name__}, which draws no masks; give 'own', the name of a "
                "measurement operator, or an operator such as sstfill.occlusion.Raindrops()"
            )
        found: occlusion.Occlusion = clouds
        return found
    if clouds == "own":
        return occlusion.ObservedClouds(archive.obs.notnull(), archive.sea)
    kind = occlusion.operator_class(clouds)
    if needed := [
        f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING
    ]:
        raise OptionError(
            f"clouds={clouds!r} needs {needed[0]}; give the operator, "
            f"sstfill.occlusion.{kind.__name__}({needed[0]}=...), or clouds='own'"
        )
    return kind()


def _label(clouds: Any) -> str:
    """Tell an operator from others, by what its arrays hold too."""
    if isinstance(clouds, str):
        return clouds
    arrays = [
        np.asarray(a).tobytes()
        for n in ("observed", "sea", "lwp")
        if (a := getattr(clouds, n, None)) is not None
    ]
    return repr(clouds) + (f" {_digest(*arrays)}" if arrays else "")


def _told(
    archive: TrainingField,
    options: TrainOptions,
    clouds: Any,
    source: Any,
    begun: Checkpoint | None,
) -> dict[str, Any]:
    """What a checkpoint says of its archive; the compact network has no units, so only the paper's
    are told theirs.
    """
    obs = archive.obs
    told = {
        "variable": str(obs.name),
        "patch": [options.frames, options.size, options.size],
        "occlusion": _label(clouds),
        "data": {"fingerprint": archive.fingerprint, "shape": list(obs.shape)},
    }
    if options.network == "compact":
        before = [begun.config["traits"]] if begun and begun.config.get("traits") else []
        met = np.array([source.traits(), *before], float)  # training, trait, (least, greatest)
        return told | {"traits": np.stack([met[..., 0].min(0), met[..., 1].max(0)], 1).tolist()}
    return told | {
        "scaling": config.options(source.scaling),
        "units": str(obs.attrs.get("units", "")),
        "step_days": usual_step(grid.days(obs)),
        "cell_km": float(np.mean(grid.cell_km(obs))),
        "spread": float(obs.std()),
    }
