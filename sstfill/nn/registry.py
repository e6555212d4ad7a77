# SPDX-License-Identifier: Apache-2.0
"""The networks by name; torch is loaded when one is built."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sstfill.config import without
from sstfill.errors import OptionError, unknown

if TYPE_CHECKING:
    from torch import nn

NETWORKS = {
    "compact": "sstfill.nn.compact:Compact",
    "paper": "sstfill.nn.generator:Generator",
    "static": "sstfill.nn.generator:Generator",
    "recurrent": "sstfill.nn.recurrent:RecurrentGenerator",
}
"""Where the class of each network is found."""
FIXED: dict[str, dict[str, Any]] = {"static": {"time_kernel": 1}}
"""Options that the name itself fixes."""


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Make a new network, in training mode.

    Parameters
    ----------
    name
        A key of `NETWORKS`.
    options
        Options of the network's class, by name.

    Raises
    ------
    OptionError
        For an unknown name or option (the message lists the valid ones), one that is missing or out
        of its range, and where PyTorch is not installed.

    Examples
    --------
    >>> build("papre", {})
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: no network 'papre'; did you mean 'paper'? Choose from compact, ...
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    kind, fixed = _class(name), FIXED.get(name, {})
    taken = without(inspect.signature(kind).parameters, fixed)
    for option in options:
        if option not in taken:
            raise unknown(f"option of network {name}", option, taken)
    missing = [n for n, p in taken.items() if p.default is p.empty and n not in options]
    if missing:
        raise OptionError(
            f"network {name} lacks the option {missing[0]!r}; it takes {', '.join(taken)}"
        )
    network: nn.Module = kind(**fixed, **options)
    return network


def size(module: nn.Module) -> int:
    """Count the parameters of a network.

    >>> size(build("recurrent", {"base": 1}))
    18967
    """
    return sum(p.numel() for p in module.parameters())


def _class(name: str) -> type[Any]:
    module, _, kind = NETWORKS[name].partition(":")
    try:
        found: type[Any] = getattr(importlib.import_module(module), kind)
    except ModuleNotFoundError as error:
        # a module of ours that is missing is a bug, and not told as a missing library
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise OptionError("networks need PyTorch; pip install torch safetensors") from error
    return found
