# SPDX-License-Identifier: Apache-2.0
"""All that training changes, and the file it is saved in: tensors with a JSON header."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from sstfill import config
from sstfill.errors import OptionError, ReadError, SstfillError
from sstfill.io.output.atomic import atomic_path
from sstfill.io.untrusted.documents import parse_json, short
from sstfill.training.ema import EMA
from sstfill.training.objectives.adversary import Adversary
from sstfill.training.options import TrainOptions
from sstfill.version import __version__

FILE = "training.safetensors"
"""Name of the file in the folder of a training."""
FORMAT = 1
HEADER = "sstfill_training"
FREE = ("device", "patience", "save_minutes")
"""Options that may change when training resumes; `epochs` too, unless the learning rate follows
from them.
"""
LACKING = {"waiting": 0.0}
"""What states of sstfill before 0.1.0 lack, and its value at the start."""
FORMER_NAMES = {"opponent": "discriminator_optimizer"}
"""Names in states of sstfill 0.1.0, and those of today."""
REMEDY = "remove it to train from the start"
TENSOR, ITEMS = "$tensor", "$items"


@dataclass
class TrainingState:
    """All that training changes.

    Attributes
    ----------
    network, ema, adversary
        The network that trains, its averaged weights, the discriminators if any.
    optimiser, discriminator_optimizer
        Of the network and of the discriminators.
    steps
        Batches of the whole training.
    batches, left_out, sums, seconds, waiting
        Of the current epoch: batches done, those left out because a gradient was not finite, sums
        of the losses over the others, time, and the part of it spent waiting for data.
    failures
        Batches left out in a row.
    history
        A row for each finished epoch (`sstfill.training.log.Row`).
    best
        The averaged weights of the epoch with the least error on withheld pixels.
    """

    network: nn.Module
    ema: EMA
    adversary: Adversary | None
    optimiser: Optimizer
    discriminator_optimizer: Optimizer | None
    steps: int = 0
    batches: int = 0
    left_out: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waiting: float = 0.0
    failures: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def to_tree(self) -> dict[str, Any]:
        """Collect everything, torch's random state too, in nested mappings, lists and tensors."""
        tree: dict[str, Any] = {name: part.state_dict() for name, part in self._parts().items()}
        for name in _COUNTS:
            tree[name] = getattr(self, name)
        tree["best"] = self.best
        # noise is drawn on as it would have been
        tree["random"] = torch.get_rng_state()
        tree["cuda_random"] = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return tree

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take the state that `to_tree` collected.

        Raises
        ------
        OptionError
            If it belongs to another network.
        ReadError
            If something is missing or implausible.
        """
        try:
            self._restore(tree)
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            if isinstance(error, SstfillError):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ReadError(
                f"{FILE} is damaged or not a saved training ({reason}); {REMEDY}"
            ) from error

    def _restore(self, tree: Mapping[str, Any]) -> None:
        tree = _with_names_of_today(tree)
        for name, part in self._parts().items():
            if isinstance(part, nn.Module):
                _check_same(part.state_dict(), tree[name])
            part.load_state_dict(tree[name])
        for name, kind in _COUNTS.items():
            value = tree.get(name, LACKING[name]) if name in LACKING else tree[name]
            if not isinstance(value, kind):
                raise ValueError(f"{name}={short(value)}")
            if isinstance(value, int | float) and not value >= 0:  # NaN, too, is refused
                raise ValueError(f"{name}={short(value)}")
            setattr(self, name, value)
        for row in self.history:
            if not isinstance(row, dict) or "withheld_mae" not in row or "epoch" not in row:
                raise ValueError("a row of the history lacks its epoch or its score")
        self.best = dict(tree["best"])
        if self.best:
            _check_same(self.network.state_dict(), self.best)
        torch.set_rng_state(tree["random"])
        if tree["cuda_random"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(tree["cuda_random"])

    def _parts(self) -> dict[str, Any]:
        parts = {
            "network": self.network,
            "average": self.ema.network,
            "adversary": self.adversary,
            "optimiser": self.optimiser,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        return {name: part for name, part in parts.items() if part is not None}


def _with_names_of_today(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Rename what states of sstfill 0.1.0 call otherwise."""
    renamed = {FORMER_NAMES.get(name, name): part for name, part in tree.items()}
    if "adversary" in renamed:
        renamed["adversary"] = {
            name.replace("judges.", "discriminators.", 1): weight
            for name, weight in renamed["adversary"].items()
        }
    return renamed


_COUNTS: dict[str, Any] = {
    "steps": int,
    "batches": int,
    "left_out": int,
    "sums": dict,
    "seconds": int | float,
    "waiting": int | float,
    "failures": int,
    "history": list,
}


def save(folder: Path, state: TrainingState, options: TrainOptions) -> None:
    """Save the state of a training: the whole file is in place, or the last one still is.

    Raises
    ------
    WriteError
        If the file cannot be written (no space, no permission, ...).
    """
    tensors: dict[str, Tensor] = {}
    tree = _pack(state.to_tree(), "state", tensors)
    header = {
        "format": FORMAT,
        "sstfill_version": __version__,
        "options": config.options(options),
        "state": tree,
    }
    with atomic_path(folder / FILE) as temporary:
        try:
            save_file(tensors, temporary, {HEADER: json.dumps(header)})
        except SafetensorError as error:  # what it makes of an OSError
            raise OSError(errno.EIO, str(error)) from error


def load(folder: Path, options: TrainOptions) -> dict[str, Any]:
    """Load what `TrainingState.restore` takes, onto the CPU.

    Raises
    ------
    ReadError
        If the file is damaged, or not one of sstfill.
    OptionError
        If it was saved by a training with other options.
    """
    path = folder / FILE
    try:
        with safe_open(path, "pt") as file:
            # a score of a training that diverged may be NaN
            header = parse_json((file.metadata() or {})[HEADER], path, remedy=REMEDY, finite=False)
            if header["format"] != FORMAT:
                written = short(header["sstfill_version"])[1:-1]
                raise ReadError(
                    f"{path} has format {short(header['format'])}, "
                    f"sstfill {__version__} reads format {FORMAT}; resume with sstfill {written}"
                )
            _check_options(header["options"], options, path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return dict(_unpack(header["state"], tensors))
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, (ReadError, OptionError)):
            raise
        raise ReadError(f"{path} is damaged or not a saved training ({error}); {REMEDY}") from error


def tidy(folder: Path) -> None:
    """Remove what a killed training has left half-written."""
    stem, suffix = FILE.split(".")
    for leftover in folder.glob(f".{stem}.*.tmp.{suffix}"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _check_options(saved: Mapping[str, Any], options: TrainOptions, path: Path) -> None:
    now = config.options(options)
    # a training of before an option was there had what is its default today, or the paper's
    former = config.options(TrainOptions())
    if options.objective == "adversarial":
        former |= {"discriminator_gain": 1.0, "discriminator_masks": False}
    saved = {**former, **saved}
    free = FREE if options.recipe.schedule == "cosine" else (*FREE, "epochs")
    differing = [name for name in now if name not in free and saved[name] != now[name]]
    if differing:
        changes = [f"{name}={short(saved[name])} (now {now[name]!r})" for name in differing]
        raise OptionError(
            f"{path} was saved with {', '.join(changes)}; "
            "resume with the same options, or train from the start in another folder"
        )


def _check_same(now: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    needed = {name: tensor.shape for name, tensor in now.items()}
    given = {name: tensor.shape for name, tensor in saved.items()}
    if needed != given:
        numbers_now = sum(tensor.numel() for tensor in now.values())
        numbers_saved = sum(tensor.numel() for tensor in saved.values())
        raise OptionError(
            f"the saved training is of another network ({numbers_saved} numbers, now "
            f"{numbers_now}); resume with the same network, or train from the start in another "
            "folder"
        )


def _pack(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a tree to `tensors` and leave names, so that JSON can hold it."""
    if isinstance(tree, Tensor):
        # safetensors takes contiguous tensors alone
        tensors[name] = tree.detach().cpu().contiguous()
        return {TENSOR: name}
    if isinstance(tree, Mapping):
        packed = [[key, _pack(value, f"{name}/{key}", tensors)] for key, value in tree.items()]
        if all(isinstance(key, str) for key in tree):
            return dict(packed)
        return {ITEMS: packed}  # optimisers number their parameters, and JSON has only text as keys
    if isinstance(tree, (list, tuple)):
        return [_pack(value, f"{name}/{k}", tensors) for k, value in enumerate(tree)]
    return tree


def _unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `_pack`; a tuple has become a list."""
    if isinstance(tree, list):
        return [_unpack(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if TENSOR in tree:
        return tensors[tree[TENSOR]]
    items = tree[ITEMS] if ITEMS in tree else tree.items()
    return {key: _unpack(value, tensors) for key, value in items}
