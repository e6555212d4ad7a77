# SPDX-License-Identifier: Apache-2.0
"""Train a network on an archive, clouds and all, and return it as a method that fills."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from sstfill import config, gaps, grid, occlusion
from sstfill.checkpoint import Checkpoint
from sstfill.checks import check_number
from sstfill.errors import InputError, OptionError
from sstfill.methods.gan import SHIPPED, Gan
from sstfill.methods.guesses import CHANNELS
from sstfill.methods.oi_engine import usual_step
from sstfill.scaling import Scaling
from sstfill.sea import find_sea, sea_mask
from sstfill.training.described import described
from sstfill.training.options import TrainOptions
from sstfill.training.windows import Blocks, Windows, blocks

if TYPE_CHECKING:
    from torch import nn

    from sstfill.training.archive_source import GuessedSource, PaperSource
    from sstfill.training.fitted import Fitted

log = logging.getLogger(__name__)
FRAMES, SIZE = 24, 64
"""Of a sequence, where the archive has as much: those of the paper."""
VALIDATION_CLOUDS = 0.25
"""Share of the archive's dates whose cloud masks are kept for validation."""

CLOUD_GAP = 2
"""Dates left out between the cloud masks for training and those for validation."""
FEW = 12
"""Images up to which both take any mask: there would be next to none for each."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What is trained on, ready to be cut into windows.

    Attributes
    ----------
    obs, sea, truth
        The field ``(time, y, x)``, lazy or not, where the sea is, and the field without gaps if it is known.
    fingerprint
        Of the observations.
    """

    obs: xr.DataArray
    sea: xr.DataArray
    truth: xr.DataArray | None
    fingerprint: str

    @classmethod
    def of(
        cls, data: xr.Dataset | xr.DataArray, variable: str | None, sea: xr.DataArray | None,
        truth: xr.DataArray | str | None,
    ) -> Archive:  # fmt: skip
        """Pick and check the field of a Dataset."""
        ds = data.to_dataset(name=data.name or "field") if isinstance(data, xr.DataArray) else data
        given = [variable] if variable is not None else None
        others = ds.drop_vars(truth) if isinstance(truth, str) and truth in ds else ds
        names = grid.pick(others, given)
        if len(names) > 1:
            raise InputError(f"{', '.join(names)} can be trained on, one at a time; give variable={names[0]!r}")
        field = grid.standardise(ds[names[0]])
        if isinstance(truth, str) and truth not in ds:
            raise InputError(f"no variable {truth!r} with the truth; there are {', '.join(map(str, ds.data_vars))}")
        known = ds[truth] if isinstance(truth, str) else truth
        survey = gaps.survey(field)
        if not int(survey.pixel_count.sum()):
            raise InputError(f"{names[0]!r}: nothing observed; check the fill value and the quality threshold")
        found = sea if sea is not None else find_sea(ds.drop_vars(names[0]))
        wet = sea_mask(field, found) if found is not None else _ever_seen(field, survey)
        return cls(obs=field.rename(names[0]), sea=wet.compute(), fingerprint=survey.attrs["fingerprint"],
                   truth=None if known is None else grid.standardise(known))  # fmt: skip


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
        A Dataset or DataArray with time and two spatial dimensions, NaN in the gaps; Dask-backed ones are never loaded
        whole.
    options
        See `TrainOptions`; by default the compact network learns to restore withheld clouds. Sequences longer or
        larger than the archive allows are an error, unless they have the default sizes.
    variable
        Which variable, if several can be filled.
    clouds
        What hides more of what is observed: ``"own"``, the archive's own clouds of other dates; the name of a
        measurement operator with default options ("raindrops"); or an operator (``sstfill.occlusion.Cloud(lwp=...)``).
    truth
        The same field without gaps, or its name in `data`: for objectives "paired" and "unpaired".
    start
        Of the compact network: what to train further; "shipped" is what comes with sstfill, "new" starts from nothing.
        The paper's networks start from nothing unless a checkpoint is given.
    clips
        Sequences for which first guesses are worked out, a few seconds each (compact network only).
    log_scaled
        Train the paper's networks on decimal logarithms, for what spans orders of magnitude (chlorophyll).
    sea
        True at sea, over the spatial dims.
    out
        Folder for the checkpoint, the log and the state to resume from; None keeps nothing but what is returned.
    resume
        Go on with the training in `out`, if there is one.

    Returns
    -------
    Gan
        A method that fills: ``ds.gapfill.fill(model)``, ``ds.gapfill.gan(model)``. Its checkpoint shows its training in
        Jupyter.

    Raises
    ------
    InputError
        If the archive is shorter than a sequence or smaller than a window, all land, or shows nothing to train on.
    OptionError
        For an unknown option, operator or network, or if there is no GPU where one is asked for.
    """
    chosen = options or TrainOptions()
    archive = Archive.of(data, variable, sea, truth)
    chosen = _sized(chosen, archive)
    if chosen.objective in ("paired", "unpaired") and archive.truth is None:
        raise OptionError(f"objective={chosen.objective!r} needs the truth; give truth=, or objective='withheld'")
    check_number("clips", clips, 1, whole=True)
    with _folder(out) as folder:
        network = _network(chosen, start)
        source = _source(archive, chosen, clouds, clips, log_scaled, folder)
        fitted = _fitted(network, source, chosen, None if out is None else Path(out), resume)
        checkpoint = Checkpoint(_described(archive, chosen, clouds, source, fitted), fitted.network.state_dict())
    if out is not None:
        checkpoint.save(out)
    return Gan(model=checkpoint, device=chosen.device)


def _fitted(
    network: nn.Module, source: PaperSource | GuessedSource, options: TrainOptions, out: Path | None, resume: bool
) -> Fitted:
    from sstfill.training.archive_source import GuessedSource
    from sstfill.training.loop import fit

    if isinstance(source, GuessedSource):
        source.prepare()
    return fit(network, source, options, out=out, resume=resume)


def _ever_seen(field: xr.DataArray, survey: xr.Dataset) -> xr.DataArray:
    coords = {n: c for n, c in field.coords.items() if set(c.dims) <= set(field.dims[1:])}
    return xr.DataArray(survey.pixel_count.values > 0, dims=field.dims[1:], coords=coords, name="sea")


def _sized(options: TrainOptions, archive: Archive) -> TrainOptions:
    """Check that sequences fit the archive; those of default size are cut to it."""
    images, height, width = archive.obs.shape
    frames, size = options.frames, options.size
    if options.frames == FRAMES:
        frames = min(FRAMES, max(1, (images - images // 20) // 3))
    if options.size == SIZE:
        size = min(SIZE, height, width)
    if frames > images:
        raise InputError(f"frames={frames}, and the archive has {images} images; give frames={max(1, images // 3)}")
    if size > min(height, width):
        raise InputError(f"size={size}, and images have {height}x{width} pixels; give size={min(height, width)}")
    return replace(options, frames=frames, size=size)


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    """A folder for the sequences with their first guesses: in `out`, else a temporary one."""
    if out is not None:
        yield Path(out) / "clips"
        return
    with tempfile.TemporaryDirectory(prefix="sstfill-") as folder:
        yield Path(folder)


def _network(options: TrainOptions, start: Any) -> nn.Module:
    if isinstance(start, Gan):
        start = start.checkpoint
    if start == "shipped" and (options.network != "compact" or not SHIPPED.is_dir()):
        start = "new"
    if start != "new":
        given = start if isinstance(start, Checkpoint) else Checkpoint.load(SHIPPED if start == "shipped" else start)
        if (name := given.config["network"]["name"]) != options.network:
            raise OptionError(f"start is a {name} network, network={options.network!r}; give the same, or start='new'")
        return given.network()
    return new_network(options)


def new_network(options: TrainOptions) -> nn.Module:
    """Draw a new network by the seed; torch's own generator is left as it was."""
    import torch

    from sstfill.nn import registry

    own = {"inputs": len(CHANNELS)} if options.network == "compact" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return registry.build(options.network, {"base": options.base, **own})


def _source(
    archive: Archive, options: TrainOptions, clouds: Any, clips: int, log_scaled: bool, folder: Path
) -> PaperSource | GuessedSource:
    from sstfill.training.archive_source import GuessedSource, PaperSource, Part

    cut = blocks(archive.obs.sizes["time"], options.frames)
    operators = _operators(clouds, archive, cut)
    shape = (options.frames, options.size, options.size)
    training, validated = (
        Part(Windows(archive.obs, archive.sea, times, shape, archive.truth), operator)
        for times, operator in zip(cut, operators, strict=True)
    )
    if options.network == "compact":
        return GuessedSource(training, validated, options.samples, clips, folder, options.seed)
    scaling = Scaling.fit(archive.obs[cut.training], "log" if log_scaled else "standardise")
    return PaperSource(training, validated, scaling, options.samples, options.hidden, options.seed)


def _operators(clouds: Any, archive: Archive, cut: Blocks) -> tuple[occlusion.Occlusion, occlusion.Occlusion]:
    """What hides more in training, and in validation: of the archive's own clouds, those of dates apart."""
    if clouds == "own":
        bank = occlusion.ObservedClouds(archive.obs.notnull(), archive.sea)
        if archive.obs.sizes["time"] < FEW:
            return bank, bank
        first, second = bank.split((1 - VALIDATION_CLOUDS, VALIDATION_CLOUDS), gap=CLOUD_GAP)
        return first, second
    operator = occlusion.operator_class(clouds)() if isinstance(clouds, str) else clouds
    if not hasattr(operator, "draw"):
        raise OptionError(f"clouds={clouds!r}; give 'own', the name of a measurement operator, or an operator")
    return operator, operator


def _described(archive: Archive, options: TrainOptions, clouds: Any, source: Any, fitted: Fitted) -> dict[str, Any]:
    """What a checkpoint says of itself; the compact network has no units, so only the paper's are told theirs."""
    obs = archive.obs
    told = described(fitted, options) | {
        "variable": str(obs.name), "patch": [options.frames, options.size, options.size],
        "occlusion": "own" if clouds == "own" else repr(clouds),
        "data": {"fingerprint": archive.fingerprint, "shape": list(obs.shape)},
    }  # fmt: skip
    if options.network == "compact":
        return told | {"traits": source.traits()}
    return told | {
        "scaling": config.options(source.scaling), "units": str(obs.attrs.get("units", "")),
        "step_days": usual_step(grid.days(obs)), "cell_km": float(np.mean(grid.cell_km(obs))),
        "spread": float(obs.std()),
    }  # fmt: skip
