# SPDX-License-Identifier: Apache-2.0
"""Put a finished file or folder in place whole, or leave what was there."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from sstfill.errors import SstfillError, WriteError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a hidden path beside `target`; what is written there is moved in place on success.

    It may become a file or a folder. On failure it is removed and `target` is as it was; a link is followed.

    Raises
    ------
    WriteError
        No such folder, no permission, no space, ...; other exceptions of the body pass through.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "score.json"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("{}")
    >>> [p.name for p in target.parent.iterdir()]
    ['score.json']
    """
    try:
        final = Path(target).resolve()
        _check_parent(final)
        temporary = final.with_name(f".{final.stem}.{uuid.uuid4().hex[:12]}.tmp{final.suffix}")
    except OSError as error:
        fail(target, error)
    try:
        yield temporary
        _sync(temporary)
        _move(temporary, final)
    except OSError as error:
        fail(target, error)
    finally:
        _remove(temporary)


def fail(target: str | os.PathLike[str], error: OSError) -> NoReturn:
    """Raise the one-line `WriteError` of a failed write; an error that is sstfill's own passes as it is."""
    if isinstance(error, SstfillError):
        raise error
    reason = error.strerror or str(error) or type(error).__name__
    with contextlib.suppress(OSError):
        reason += f", {shutil.disk_usage(Path(target).resolve().parent).free / 1e6:.0f} MB free there"
    raise WriteError(f"cannot write {os.fspath(target)}: {reason}; choose another folder or make room; "
                     "an earlier output is unchanged") from error  # fmt: skip


def _check_parent(final: Path) -> None:
    if not final.parent.exists():
        raise WriteError(f"cannot write {final}: folder {final.parent} does not exist; create it: mkdir -p")
    if not final.parent.is_dir():
        raise WriteError(f"cannot write {final}: {final.parent} is a file; choose another folder")


def _sync(path: Path) -> None:
    """Flush a file, or a folder with all it holds, to the disk."""
    for member in [*(path.rglob("*") if path.is_dir() else ()), path, path.parent]:
        flush(member)


def flush(path: Path) -> None:
    """Flush one file, or the entries of one folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(temporary: Path, final: Path) -> None:
    if not (final.is_dir() and temporary.is_dir()):
        os.replace(temporary, final)  # noqa: PTH105  (one system call, atomic)
        return
    aside = temporary.with_name(temporary.name + ".old")
    os.replace(final, aside)  # noqa: PTH105
    try:
        os.replace(temporary, final)  # noqa: PTH105
    except BaseException:
        os.replace(aside, final)  # noqa: PTH105
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    for pause in (0.0, 0.1, 0.5):  # a worker elsewhere may still be writing its last block
        time.sleep(pause)
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return
        except OSError as error:
            reason = error
    log.warning("left behind %s: %s", path, reason)
