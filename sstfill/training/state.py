# SPDX-License-Identifier: Apache-2.0
"""All that training changes, and the one file it is saved in: tensors, and the rest as JSON in its
header.
"""

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
from sstfill.io.atomic import atomic_path
from sstfill.io.untrusted.documents import parse_json, short
from sstfill.training.ema import Average
from sstfill.training.objectives import Adversary
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
"""What states of earlier versions lack, and how it begins."""
REMEDY = "remove it to train from the start"
TENSOR, ITEMS = "$tensor", "$items"


@dataclass
class State:
    """All that training changes.

    Attributes
    ----------
    network, average, adversary
        What trains, its averaged weights, the discriminators if any.
    optimiser, discriminator_optimizer
        Of the network and of the discriminators.
    steps
        Batches of the whole training.
    batches, left_out, sums, seconds, waiting
        Of the epoch under way: batches done, those left out for want of a finite gradient, sums of
        the losses over the others, time, and how much of it was spent waiting for data.
    failures
        Batches left out in a row.
    history
        A row for each finished epoch (`sstfill.training.log.Row`).
    best
        The averaged weights of the epoch with the least error on withheld pixels.
    """

    network: nn.Module
    average: Average
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

    def tree(self) -> dict[str, Any]:
        """Collect all of it, with the state of torch's random numbers, as nested mappings, lists
        and tensors.
        """
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        counts = {name: getattr(self, name) for name in _COUNTS}
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return {
            **parts,
            **counts,
            "best": self.best,
            "random": torch.get_rng_state(),
            "cuda_random": cuda,
        }

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Become what `tree` was collected from.

        Raises
        ------
        OptionError
            If it is of another network.
        ReadError
            If it lacks something, or holds something that cannot be what was collected.
        """
        try:
            self._restore(tree)
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            if isinstance(error, SstfillError):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ReadError(
                f"{FILE} is damaged or no saved training ({reason}); {REMEDY}"
            ) from error

    def _restore(self, tree: Mapping[str, Any]) -> None:
        for name, part in self._parts().items():
            if isinstance(part, nn.Module):
                _check_same(part.state_dict(), tree[name])
            part.load_state_dict(tree[name])
        for name, kind in _COUNTS.items():
            value = LACKING[name] if name in LACKING and name not in tree else tree[name]
            if not isinstance(value, kind) or (isinstance(value, int | float) and not value >= 0):
                raise ValueError(f"{name}={short(value)}")
            setattr(self, name, value)
        if any(
            not isinstance(row, dict) or "withheld_mae" not in row or "epoch" not in row
            for row in self.history
        ):
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
            "average": self.average.network,
            "adversary": self.adversary,
            "optimiser": self.optimiser,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        return {name: part for name, part in parts.items() if part is not None}


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


def save(folder: Path, state: State, options: TrainOptions) -> None:
    """Save the state of a training: the whole file is in place, or the last one still is.

    Raises
    ------
    WriteError
        If the file cannot be written (no space, no permission, ...).
    """
    tensors: dict[str, Tensor] = {}
    tree = _pack(state.tree(), "state", tensors)
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
    """Load what `State.restore` takes, onto the CPU.

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
            header = parse_json((file.metadata() or {})[HEADER], path, remedy=REMEDY, finite=False)
            if header["format"] != FORMAT:
                raise ReadError(
                    f"{path} has format {short(header['format'])}, this is sstfill {__version__} with format {FORMAT}; "
                    f"resume with sstfill {short(header['sstfill_version'])[1:-1]}"
                )
            _check_options(header["options"], options, path)
            return dict(
                _unpack(header["state"], {name: file.get_tensor(name) for name in file.keys()})
            )  # noqa: SIM118
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, (ReadError, OptionError)):
            raise
        raise ReadError(f"{path} is damaged or no saved training ({error}); {REMEDY}") from error


def tidy(folder: Path) -> None:
    """Remove what a killed training has left half-written."""
    stem, suffix = FILE.split(".")
    for leftover in folder.glob(f".{stem}.*.tmp.{suffix}"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _check_options(saved: Mapping[str, Any], options: TrainOptions, path: Path) -> None:
    now = config.options(options)
    free = FREE if options.recipe.schedule == "cosine" else (*FREE, "epochs")
    differing = [name for name in now if name not in free and saved.get(name) != now[name]]
    if differing:
        told = ", ".join(
            f"{name}={short(saved.get(name))} (now {now[name]!r})" for name in differing
        )
        raise OptionError(
            f"{path} was saved with {told}; resume with the same options, or train from the start in another folder"
        )


def _check_same(now: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    if {k: v.shape for k, v in now.items()} != {k: v.shape for k, v in saved.items()}:
        sizes = [sum(tensor.numel() for tensor in weights.values()) for weights in (saved, now)]
        raise OptionError(
            f"the saved training is of another network ({sizes[0]} numbers, now {sizes[1]}); "
            "resume with the same network, or train from the start in another folder"
        )


def _pack(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return what JSON can hold of a tree; its tensors go into `tensors` under the names left in
    their place.
    """
    if isinstance(tree, Tensor):
        tensors[name] = tree.detach().cpu().contiguous()
        return {TENSOR: name}
    if isinstance(tree, Mapping):
        packed = [[key, _pack(value, f"{name}/{key}", tensors)] for key, value in tree.items()]
        return dict(packed) if all(isinstance(key, str) for key in tree) else {ITEMS: packed}
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
