# SPDX-License-Identifier: Apache-2.0
"""Train the compact network on synthetic oceans: how the checkpoint that ships with sstfill is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sstfill import config
from sstfill.checkpoint import Checkpoint
from sstfill.errors import OptionError
from sstfill.methods.gan import Gan
from sstfill.training.described import described
from sstfill.training.oceans import Oceans
from sstfill.training.options import TrainOptions

if TYPE_CHECKING:
    from sstfill.training.ocean_source import OceanSource


def train_on_oceans(
    options: TrainOptions, oceans: Oceans, out: str | Path, *, resume: bool = False, folder: str | Path | None = None
) -> Gan:
    """Train a compact network on synthetic oceans, whose truth it is taught to find under their clouds.

    Parameters
    ----------
    options
        See `TrainOptions`; oceans differ in size, so that ``frames`` and ``size`` mean nothing, and ``batch`` is 1.
    oceans
        Which.
    out
        Folder for the checkpoint, the log and the state to resume from.
    resume
        Go on with the training in `out`, if there is one.
    folder
        Where the oceans are kept with their first guesses (several GB for a thousand); by default in `out`.

    Raises
    ------
    OptionError
        If the options are not for this.
    """
    if options.network != "compact" or options.adversarial or options.batch != 1:
        raise OptionError("on oceans the compact network is trained: network='compact', objective='withheld', batch=1; "
                          "give an archive for anything else")  # fmt: skip
    from sstfill.training.loop import fit
    from sstfill.training.ocean_source import OceanSource
    from sstfill.training.train import new_network

    source = OceanSource(oceans, Path(folder) if folder is not None else Path(out) / "oceans", options.samples)
    source.prepare()
    fitted = fit(new_network(options), source, options, out=Path(out), resume=resume)
    about = {"data": {"oceans": config.options(oceans)}, "patch": _patch(source), "occlusion": "many kinds"}
    told = described(fitted, replace(options, frames=1)) | about | {"traits": source.traits()}
    checkpoint = Checkpoint(told, fitted.network.state_dict())
    checkpoint.save(out)
    return Gan(model=checkpoint, device=options.device)


def _patch(source: OceanSource) -> list[int]:
    first = next(iter(source.validation()))
    return list(first.values.shape[1:])
