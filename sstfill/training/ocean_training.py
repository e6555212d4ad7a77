# SPDX-License-Identifier: Apache-2.0
"""Train the compact network on synthetic oceans: the shipped checkpoint is made so."""

from __future__ import annotations

from pathlib import Path

from sstfill import config
from sstfill.errors import OptionError
from sstfill.methods.gan.method import Gan
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.training.data.oceans import Oceans
from sstfill.training.options import TrainOptions

NEEDED = {
    "network": ("compact",),
    "objective": ("withheld", "draws", "draws+adversarial"),
    "batch": (1,),
}
"""Options that must have one of these values."""


def train_on_oceans(
    options: TrainOptions,
    oceans: Oceans,
    out: str | Path,
    *,
    resume: bool = False,
    folder: str | Path | None = None,
) -> Gan:
    """Train a compact network on synthetic oceans, to find their truth under their clouds.

    Parameters
    ----------
    options
        See `TrainOptions`; oceans differ in size, so that ``frames`` and ``size`` are not used, and
        ``batch`` is 1.
    oceans
        Which oceans.
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
        given = getattr(options, name)
        if given not in needed:
            choices = " or ".join(repr(value) for value in needed)
            raise OptionError(
                f"{name}={given!r}, and on oceans {name} is {choices}; "
                "give an archive for anything else"
            )
    # after the checks: torch takes seconds to import
    from sstfill.training.data.ocean_source import OceanSource
    from sstfill.training.loop import fit
    from sstfill.training.train import (
        network_options,
        new_network,
        save_checkpoint,
        start_checkpoint,
    )

    kept = Path(folder) if folder is not None else Path(out) / "oceans"
    source = OceanSource(oceans, kept, options.samples)
    first = start_checkpoint(options, oceans.start)
    network = new_network(options, first)
    trained = fit(network, source, options, out=Path(out), resume=resume)
    card = trained.card(options.network, network_options(options, first))
    card["data"] = {"oceans": config.options(oceans)}
    card["patch"] = list(next(iter(source.validation())).values.shape[1:])
    card["occlusion"] = "many kinds"
    if first is None:
        card["traits"] = source.traits()
    else:
        # The checkpoint to start from was trained on more kinds of ocean than this run may show it.
        card["traits"] = first.config["traits"]
        told = ("objective", "trained", "data", "scores")
        card["data"]["started_from"] = {name: first.config.get(name) for name in told}
    checkpoint = Checkpoint(card, trained.network.state_dict())
    save_checkpoint(checkpoint, out)
    return Gan(model=checkpoint, device=options.device)
