# SPDX-License-Identifier: Apache-2.0
"""The folder of a checkpoint: two files, replaced so that a matching pair can always be read.

A checkpoint is replaced in three steps, and can be read between any two of them: the new weights
are written beside the old under a hidden name; the new configuration, which holds their digest,
replaces the old; the weights get their own name. Of the two files of weights, the one with the
digest in the configuration is read. This module handles bytes and does not load torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

from sstfill.errors import ReadError, SstfillError, WriteError
from sstfill.io.output.atomic import atomic_path, fail, flush
from sstfill.io.untrusted.documents import open_regular, read_json, short
from sstfill.version import __version__

FORMAT = 1
"""What this version writes, and the latest that it reads."""
CONFIG, WEIGHTS = "config.json", "weights.safetensors"
DIGEST = "weights_sha256"
TRIES = 2
"""How often a checkpoint is read that another process may be replacing."""
CONFIG_BYTES = 16 * 2**20
"""Largest configuration that is read: a history of a hundred thousand epochs stays below."""
REMEDY = "copy the checkpoint again"

StrPath = str | os.PathLike[str]


def digest(content: bytes) -> str:
    """Compute the SHA-256 of the weights' file, in hex."""
    return hashlib.sha256(content).hexdigest()


def write(path: StrPath, weights: bytes, config: dict[str, Any]) -> None:
    """Write or replace a checkpoint; see `sstfill.nn.checkpoint.checkpoint.Checkpoint.save`."""
    text = json.dumps(config | {DIGEST: digest(weights)}, indent=2, allow_nan=False).encode()
    try:
        folder = Path(path).resolve()
        if folder.exists():
            _replace(folder, weights, text)
        else:
            _create(folder, weights, text)
    except OSError as error:
        fail(path, error)


def read(
    path: StrPath, most: Callable[[dict[str, Any]], int]
) -> tuple[dict[str, Any], BufferedReader]:
    """Read the configuration of a checkpoint and open the weights whose digest it holds.

    Parameters
    ----------
    path
        The folder; see `sstfill.nn.checkpoint.checkpoint.Checkpoint.load` for what is raised.
    most
        Computes from a configuration how many bytes its weights can have at most; a larger file is
        not read.
    """
    folder = Path(path)
    try:
        _check_folder(folder)
        return _read(folder, most)
    except OSError as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(
            f"cannot read {folder}: {error.strerror or error}; check the path"
        ) from error
    except ValueError as error:  # a NUL in the name
        if isinstance(error, SstfillError):
            raise
        raise ReadError(f"cannot read {short(str(folder))}: {error}; check the path") from error


def describes_network(found: Any) -> bool:
    """Whether part of a configuration has the form of a network's name and options."""
    return (
        isinstance(found, dict)
        and isinstance(found.get("name"), str)
        and isinstance(found.get("options"), dict)
    )


def _create(folder: Path, weights: bytes, config: bytes) -> None:
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        (temporary / WEIGHTS).write_bytes(weights)
        (temporary / CONFIG).write_bytes(config)


def _replace(folder: Path, weights: bytes, config: bytes) -> None:
    """Replace the two files of a folder in the steps of the module's docstring."""
    check_target(folder)
    _rename_pending(folder)
    pending = _pending(folder, digest(weights))
    try:
        pending.write_bytes(weights)
        # on the disk before the configuration that names it
        flush(pending)
        with atomic_path(folder / CONFIG) as temporary:
            temporary.write_bytes(config)
    finally:
        # the folder can be read without this step, and the next save does it
        with contextlib.suppress(OSError):
            _rename_pending(folder)


def _rename_pending(folder: Path) -> None:
    """Give pending weights their name if the configuration holds their digest; remove others."""
    if (folder / CONFIG).exists():
        wanted = _pending(folder, _read_config(folder)[DIGEST])
        if wanted.exists():
            # the configuration must not reach the disk after its weights
            flush(folder)
            os.replace(wanted, folder / WEIGHTS)  # noqa: PTH105  (one system call, atomic)
    for orphan in folder.glob(_pending(folder, "*").name):
        orphan.unlink(missing_ok=True)


def _pending(folder: Path, of: str) -> Path:
    return folder / f".weights.{of[:12]}.safetensors"


def check_target(folder: Path) -> None:
    """Refuse a file, and a folder with files of these names that are not of sstfill."""
    if not folder.is_dir():
        raise WriteError(
            f"cannot write {folder}: it is a file; a checkpoint is a folder, choose another name"
        )
    try:
        if (folder / CONFIG).exists() or (folder / WEIGHTS).exists():
            _read_config(folder)
    except ReadError as error:
        raise WriteError(
            f"cannot write {folder} over what is there ({error}); choose another folder"
        ) from error


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        raise ReadError(f"no checkpoint {folder}; check the path")
    if folder.is_dir():
        return
    if folder.name in (CONFIG, WEIGHTS):
        raise ReadError(f"{folder} is a file of a checkpoint; give its folder {folder.parent}")
    raise ReadError(
        f"{folder} is not a checkpoint of sstfill, a folder of {WEIGHTS} and {CONFIG}; "
        "pickles (.pt, .pth, .ckpt, .pkl) are never loaded, they could run anything"
    )


def _read(
    folder: Path, most: Callable[[dict[str, Any]], int]
) -> tuple[dict[str, Any], BufferedReader]:
    """Read a configuration, and open the weights that belong to it."""
    for _ in range(TRIES):
        config = _read_config(folder)
        largest = most(config)
        for file in (folder / WEIGHTS, _pending(folder, config[DIGEST])):
            if not file.exists():
                continue
            weights = open_regular(file, remedy=REMEDY)
            size = os.fstat(weights.fileno()).st_size
            if (
                size <= largest
                and hashlib.file_digest(weights, "sha256").hexdigest() == config[DIGEST]
            ):
                weights.seek(0)
                return config, weights
            weights.close()
            if size > largest:
                raise ReadError(
                    f"{file} has {size:,} bytes, its network at most {largest:,}; {REMEDY}"
                )
    if not (folder / WEIGHTS).exists():
        raise ReadError(f"{folder} holds no {WEIGHTS}; {REMEDY}")
    raise ReadError(
        f"{folder / WEIGHTS} is truncated or damaged, "
        f"its SHA-256 is not the one in {CONFIG}; {REMEDY}"
    )


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.exists():
        raise ReadError(
            f"{folder} is not a checkpoint of sstfill: it holds no {CONFIG}; "
            "give the folder that was saved"
        )
    config = read_json(file, remedy=REMEDY, most=CONFIG_BYTES)
    version = config.get("format")
    written = config.get("sstfill_version")
    if not isinstance(version, int) or version < 1 or not isinstance(written, str):
        raise ReadError(f"{file} is not of sstfill; give a folder that Checkpoint.save wrote")
    if version > FORMAT:
        raise ReadError(
            f"{folder} has format {version}, written by sstfill {short(written)[1:-1]}; "
            f"this is sstfill {__version__}, which reads up to {FORMAT}: update it"
        )
    if not isinstance(config.get(DIGEST), str) or not describes_network(config.get("network")):
        raise ReadError(f"{file} lacks {DIGEST} or the network's name and options; {REMEDY}")
    if not re.fullmatch("[0-9a-f]{64}", config[DIGEST]):  # it becomes part of a file's name
        raise ReadError(
            f"{file} has {DIGEST}={short(config[DIGEST])}, which is not a SHA-256; {REMEDY}"
        )
    return config
