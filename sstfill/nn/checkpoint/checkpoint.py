# SPDX-License-Identifier: Apache-2.0
"""A trained network as a folder of ``weights.safetensors`` and ``config.json``.

No part of it is a pickle, which could run anything when loaded. `folder` keeps the two files
together, `html` draws the summary.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Mapping
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from sstfill.config import plain
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.io.untrusted.documents import parse_json, short
from sstfill.nn import registry
from sstfill.nn.checkpoint.folder import (
    DIGEST,
    FORMAT,
    REMEDY,
    WEIGHTS,
    describes_network,
    digest,
    read,
    write,
)
from sstfill.nn.checkpoint.html import summary
from sstfill.version import __version__

if TYPE_CHECKING:
    from torch import Tensor, nn

StrPath = str | os.PathLike[str]
Shapes = dict[str, tuple[int, ...]]
HEADER = 16 * 2**20
"""Bytes of the header of a weights file at most; the format's own bound is 100 MB."""
WIDEST = 8
"""Bytes of a number of the weights at most."""


class NetworkOutline(NamedTuple):
    """What is known of a network without its weights."""

    shapes: Shapes
    """Of its state by name, buffers too."""
    size: int
    """Its parameters."""


class Checkpoint:
    """A network's weights and their configuration; not to be changed once made.

    Two are equal if their weights and configurations are. In Jupyter it shows a table and its loss
    curve.

    Parameters
    ----------
    config
        What JSON can hold, by the keys of `sstfill.nn.checkpoint.schema.CheckpointConfig`; notes of
        your own go under ``data``. Needed is ``network``, ``{"name": ..., "options": {...}}`` as
        for `sstfill.nn.registry.build`; ``format``, ``sstfill_version`` and ``weights_sha256`` are
        added.
    weights
        The network's state by name, buffers too; copied to the CPU.

    Raises
    ------
    OptionError
        If there is no such network.
    InputError
        If the weights are not those of the network, or the configuration has an unknown key or a
        value out of its range.

    Examples
    --------
    >>> config = {"network": {"name": "static", "options": {"base": 2}}}
    >>> checkpoint = Checkpoint(config, registry.build("static", {"base": 2}).state_dict())
    >>> str(checkpoint)[:36]
    'Checkpoint(static, 20.1 k parameters'
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        self._weights: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            # A copy: training goes on with these tensors, in place. Contiguous, as safetensors
            # demands.
            self._weights[name] = tensor.detach().cpu().contiguous().clone()
        # Defaults only: a loaded configuration keeps its own.
        head = {"format": FORMAT, "sstfill_version": __version__}
        self._config: dict[str, Any] = head | plain(config)
        outline = _outline(self._config)
        _check_fit(outline.shapes, _shapes(weights), self._config)
        self._config[DIGEST] = digest(_serialised(self._weights))
        self._size = outline.size

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
        """Build the network with these weights, on the CPU and in evaluation mode."""
        network = _new_network(self._config["network"], "cpu")
        network.load_state_dict(self._weights)
        return network.eval()

    def save(self, path: StrPath) -> None:
        """Write a folder, whole or not at all; other files in it are left alone.

        An earlier checkpoint there is replaced: whenever the process is killed, the old one or the
        new can be loaded.

        Raises
        ------
        WriteError
            No such parent folder, no permission, no space, or the folder holds the weights or the
            configuration of something else; what was there is unchanged.
        """
        write(path, _serialised(self._weights), self._config)

    @classmethod
    def load(cls, path: StrPath) -> Checkpoint:
        """Read a folder that `save` wrote, to the CPU; other files in it are ignored.

        Raises
        ------
        ReadError
            If it is missing, damaged, of something else (no pickle is ever loaded), of a later
            version, or if a weight is not finite; the message says which. Sizes are compared before
            any memory is taken.
        """
        try:
            config, file = read(path, _most_bytes)
            with file:
                # By the header, before the weights take memory.
                _check_fit(_outline(config).shapes, _declared_shapes(file), config)
                weights = _deserialised(file.read())
            _check_numbers(weights)
            loaded = cls(config, weights)
        except (InputError, OptionError) as error:
            raise ReadError(f"cannot load {os.fspath(path)}: {error}") from error
        # as stored: another version of safetensors may lay out the file otherwise
        loaded._config[DIGEST] = config[DIGEST]
        return loaded

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Checkpoint):
            return NotImplemented
        # It holds the digest of the weights.
        return self._config == other._config

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        name = self._config["network"]["name"]
        return f"Checkpoint({name}, {_count(self._size)} parameters, sha256 {self.fingerprint[:8]})"

    def _repr_html_(self) -> str:
        return summary(str(self), self._config)


def _outline(config: Mapping[str, Any]) -> NetworkOutline:
    """Check a configuration, and outline its network without memory for its weights."""
    network: Any = config.get("network")
    if not describes_network(network):
        raise OptionError(
            f"network={short(network)} does not describe a network; "
            "give {'name': ..., 'options': {...}}"
        )
    # pydantic takes a tenth of a second to load, which importing this module should not
    from sstfill.nn.checkpoint.schema import check_config

    check_config(config)
    # as text, in which 1 and True differ: one may be refused where the other is taken
    return _outline_of(network["name"], json.dumps(network["options"], sort_keys=True))


@functools.lru_cache(maxsize=64)
def _outline_of(name: str, options: str) -> NetworkOutline:
    """Outline a network; to load one checkpoint asks for this three times."""
    network = _new_network({"name": name, "options": json.loads(options)}, "meta")
    return NetworkOutline(_shapes(network.state_dict()), registry.size(network))


def _new_network(described: Any, device: str) -> nn.Module:
    """Build a network as a configuration describes it, and leave torch's generator as it was."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.device(device):
        return registry.build(described["name"], described["options"])


def _shapes(weights: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _most_bytes(config: Mapping[str, Any]) -> int:
    numbers = sum(math.prod(shape) for shape in _outline(config).shapes.values())
    return WIDEST * numbers + HEADER


def _declared_shapes(file: IO[bytes]) -> Shapes:
    """Read the shapes that the header of a weights file declares, and rewind the file."""
    # safetensors: eight bytes with the length of a JSON header, the header, the numbers.
    length = int.from_bytes(file.read(8), "little")
    if length > HEADER:
        raise _no_safetensors()
    try:
        header = parse_json(file.read(length), WEIGHTS, remedy="")
        shapes = {}
        for name, entry in header.items():
            if name != "__metadata__":
                shapes[name] = tuple(map(int, entry["shape"]))
    except (ReadError, AttributeError, TypeError, KeyError, ValueError) as error:
        raise _no_safetensors() from error
    file.seek(0)
    return shapes


def _check_fit(needed: Shapes, given: Shapes, config: Mapping[str, Any]) -> None:
    wrong = sorted(n for n in needed.keys() | given.keys() if needed.get(n) != given.get(n))
    if wrong:
        first = wrong[0]
        # Names come from the file, and might hold control characters.
        shown = first if first.isprintable() else ascii(first)
        raise InputError(
            f"the weights are not of this network {config['network']['name']} "
            f"({len(wrong)} differ): {shown[:200]} should be of shape "
            f"{needed.get(first, 'none')}, not {given.get(first, 'none')}; "
            "give its options as they were in training"
        )


def _check_numbers(weights: Mapping[str, Tensor]) -> None:
    """Raise `InputError` unless the weights are finite numbers of the usual kinds."""
    import torch

    # int64: the batch counter of batch normalisation.
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64)
    for name, tensor in weights.items():
        if tensor.dtype not in kinds:
            raise InputError(
                f"{name} in {WEIGHTS} has dtype {tensor.dtype}, which no network here has; {REMEDY}"
            )
    counts = {name: int((~torch.isfinite(tensor)).sum()) for name, tensor in weights.items()}
    wrong = [name for name, count in counts.items() if count]
    if wrong:
        raise InputError(
            f"{sum(counts.values())} weights are NaN or infinite, "
            f"{counts[wrong[0]]} of them in {wrong[0]}; "
            "take the checkpoint of an earlier training, or train again with a lower learning_rate"
        )


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise OptionError(
            "checkpoints need PyTorch and safetensors; pip install torch safetensors"
        ) from error
    return safetensors


def _serialised(weights: dict[str, Tensor]) -> bytes:
    content: bytes = _safetensors().torch.save(weights, metadata={"format": "pt"})
    return content


def _deserialised(content: bytes) -> dict[str, Tensor]:
    library = _safetensors()
    try:
        weights: dict[str, Tensor] = library.torch.load(content)
    except library.SafetensorError as error:
        raise _no_safetensors() from error
    return weights


def _no_safetensors() -> InputError:
    return InputError(f"{WEIGHTS} is not a safetensors file; {REMEDY}")


def _count(number: int) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.1f} M"
    if number >= 1e3:
        return f"{number / 1e3:.1f} k"
    return str(number)
