# SPDX-License-Identifier: Apache-2.0
"""Train the compact network on synthetic oceans: how the checkpoint that ships with sstfill is
made.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sstfill import config
from sstfill.errors import OptionError
from sstfill.methods.gan.method import Gan
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.training.data.oceans import Oceans
from sstfill.training.model_card import described, save
from sstfill.training.options import TrainOptions

if TYPE_CHECKING:
    from sstfill.training.data.ocean_source import OceanSource


NEEDED = {"network": "compact", "objective": "withheld", "batch": 1}
"""Options that are not open to choice."""


def train_on_oceans(
    options: TrainOptions,
    oceans: Oceans,
    out: str | Path,
    *,
    resume: bool = False,
    folder: str | Path | None = None,
) -> Gan:
    """Train a compact network on synthetic oceans, whose truth it is taught to find under their
    clouds.

    Parameters
    ----------
    options
        See `TrainOptions`; oceans differ in size, so that ``frames`` and ``size`` mean nothing, and
        ``batch`` is 1.
    oceans
        Which.
    out
        Folder for the checkpoint, the log and the state to resume from.
    resume
        Go on with the training in `out`, if there is one.
    folder
        Where the oceans are kept with their first guesses (several GB for a thousand); by default
        in `out`.

    Raises
    ------
    OptionError
        If the options are not for this; and as for `sstfill.train`.
    """
    for name, needed in NEEDED.items():
        if (met := getattr(options, name)) != needed:
            raise OptionError(
                f"{name}={met!r}, and on oceans {name} is {needed!r}; give an archive for anything else"
            )
    from sstfill.training.data.ocean_source import OceanSource
    from sstfill.training.loop import fit
    from sstfill.training.train import network_options, new_network

    source = OceanSource(
        oceans, Path(folder) if folder is not None else Path(out) / "oceans", options.samples
    )
    fitted = fit(new_network(options), source, options, out=Path(out), resume=resume)
    about = {
        "data": {"oceans": config.options(oceans)},
        "patch": _patch(source),
        "occlusion": "many kinds",
    }
    told = (
        described(fitted, options.network, network_options(options))
        | about
        | {"traits": source.traits()}
    )
    checkpoint = Checkpoint(told, fitted.network.state_dict())
    save(checkpoint, out)
    return Gan(model=checkpoint, device=options.device)


def _patch(source: OceanSource) -> list[int]:
    first = next(iter(source.validation()))
    return list(first.values.shape[1:])
