# SPDX-License-Identifier: Apache-2.0
"""A trained network with all that is needed to use it: a folder of ``weights.safetensors`` and ``config.json``.

Nothing of it is ever a pickle, which could run anything when loaded. `checkpoint_folder` keeps the two files together,
`checkpoint_html` draws the summary.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sstfill.checkpoint_folder import DIGEST, FORMAT, WEIGHTS, describes_network, digest, read, write
from sstfill.checkpoint_html import summary
from sstfill.config import plain
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.nn import registry
from sstfill.version import __version__

if TYPE_CHECKING:
    from torch import Tensor, nn

StrPath = str | os.PathLike[str]


class Checkpoint:
    """A network's weights, and what it was made of and trained on; not to be changed once made.

    Two are equal if their weights and configurations are. In Jupyter it shows a table and its loss curve.

    Parameters
    ----------
    config
        What JSON can hold. Needed is ``network``, ``{"name": ..., "options": {...}}`` as for
        `sstfill.nn.registry.build`; ``format``, ``sstfill_version`` and ``weights_sha256`` are added.
    weights
        The network's state by name, buffers too; copied to the CPU.

    Raises
    ------
    OptionError
        If there is no such network.
    InputError
        If the weights are not those of the network.

    Examples
    --------
    >>> config = {"network": {"name": "static", "options": {"base": 2}}}
    >>> checkpoint = Checkpoint(config, registry.build("static", {"base": 2}).state_dict())
    >>> str(checkpoint)[:36]
    'Checkpoint(static, 20.1 k parameters'
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        self._weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
        head = {"format": FORMAT, "sstfill_version": __version__}
        self._config: dict[str, Any] = head | plain(config) | {DIGEST: digest(_serialised(self._weights))}
        self._size = registry.size(self.network())

    @property
    def config(self) -> dict[str, Any]:
        """All but the weights, as JSON holds it."""
        return self._config

    @property
    def weights(self) -> dict[str, Tensor]:
        """The network's state by name, on the CPU."""
        return self._weights

    @property
    def fingerprint(self) -> str:
        """First 12 hex digits of the SHA-256 of the weights' file."""
        return str(self._config[DIGEST])[:12]

    def network(self) -> nn.Module:
        """Build the network anew, with these weights, on the CPU and in evaluation mode; errors as for the class."""
        network = _new_network(self._config.get("network"))
        _check_fit(network, self._weights, self._config["network"]["name"])
        network.load_state_dict(self._weights)
        return network.eval()

    def save(self, path: StrPath) -> None:
        """Write a folder, whole or not at all; other files in it are left alone.

        An earlier checkpoint there is replaced: whenever the process is killed, the old one or the new can be loaded.

        Raises
        ------
        WriteError
            No such parent folder, no permission, no space, or the folder holds the weights or the configuration of
            something else; what was there is unchanged.
        """
        write(path, _serialised(self._weights), self._config)

    @classmethod
    def load(cls, path: StrPath) -> Checkpoint:
        """Read a folder that `save` wrote, to the CPU; other files in it are ignored.

        Raises
        ------
        ReadError
            If it is missing, damaged, of something else (no pickle is ever loaded) or of a later version; the message
            says which.
        """
        config, content = read(path)
        try:
            loaded = cls(config, _deserialised(content))
        except (InputError, OptionError) as error:
            raise ReadError(f"cannot load {os.fspath(path)}: {error}") from error
        loaded._config[DIGEST] = config[DIGEST]  # as stored, should this safetensors lay out the file otherwise
        return loaded

    def __eq__(self, other: object) -> bool:
        return self._config == other._config if isinstance(other, Checkpoint) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        name = self._config["network"]["name"]
        return f"Checkpoint({name}, {_count(self._size)} parameters, sha256 {self.fingerprint[:8]})"

    def _repr_html_(self) -> str:
        return summary(str(self), self._config)


def _new_network(described: Any) -> nn.Module:
    """Build a network as a configuration describes it; the caller's random numbers are left as they were."""
    if not describes_network(described):
        raise OptionError(f"network={described!r} is no network; give {{'name': ..., 'options': {{...}}}}")
    import torch

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        return registry.build(described["name"], described["options"])


def _check_fit(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    needed = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(n for n in needed.keys() | given.keys() if needed.get(n) != given.get(n))
    if wrong:
        first = wrong[0]
        raise InputError(
            f"the weights are not of this network {name} ({len(wrong)} differ): {first} should be of shape "
            f"{needed.get(first, 'none')}, not {given.get(first, 'none')}; give its options as they were in training"
        )


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise OptionError("checkpoints need PyTorch and safetensors; pip install torch safetensors") from error
    return safetensors


def _serialised(weights: dict[str, Tensor]) -> bytes:
    content: bytes = _safetensors().torch.save(weights, metadata={"format": "pt"})
    return content


def _deserialised(content: bytes) -> dict[str, Tensor]:
    library = _safetensors()
    try:
        weights: dict[str, Tensor] = library.torch.load(content)
    except library.SafetensorError as error:
        raise InputError(f"{WEIGHTS} is no safetensors file; copy the checkpoint again") from error
    return weights


def _count(number: int) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.1f} M"
    return f"{number / 1e3:.1f} k" if number >= 1e3 else str(number)
