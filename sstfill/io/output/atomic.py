# SPDX-License-Identifier: Apache-2.0
"""Put a finished file or folder in place whole, or leave what was there."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from sstfill.errors import SstfillError, WriteError
from sstfill.io.output import place

log = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_path(
    target: str | os.PathLike[str], *, replaces: Callable[[Path], None] = place.check_regular
) -> Iterator[Path]:
    """Yield a hidden path beside `target`; what is written there is moved in place on success.

    It may become a file or a folder. On failure it is removed and `target` is as it was; a link is
    followed. Hidden paths that a killed process left are removed first.

    Parameters
    ----------
    target
        File or folder to write.
    replaces
        Refuses what must not be replaced, called at the very end. By default files are replaced,
        and folders that are Zarr stores of sstfill; for an output that a user names it is
        `sstfill.io.output.place.check_replaceable`.

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
        final = place.resolved(target)
        place.check_parent(target)
        # before the work, so that what a killed run left does not fill the disk
        sweep(final)
        temporary = _hidden(final)
    except OSError as error:
        fail(target, error)
    try:
        yield temporary
        # before the rename: else after a loss of power the name may stand for an empty file
        _sync(temporary)
        replaces(final)
        if final.is_dir():
            place.check_replaceable(final)
        if replaces is place.check_regular:  # not an output that a user named
            _move(temporary, final)
        else:
            with noted(target, temporary):
                _move(temporary, final)
    except OSError as error:
        fail(target, error)
    finally:
        _remove(temporary)


_IN_PLACE: list[str] = []
"""Outputs that were put in place since the work began, see `begin_work`."""


def begin_work() -> None:
    """Forget what was put in place before."""
    _IN_PLACE.clear()


@contextlib.contextmanager
def noted(target: str | os.PathLike[str], made: Path) -> Iterator[None]:
    """Note that an output is put in place, at whatever moment an interrupt comes.

    Afterwards the path `made` is gone; an output of which it is still there was not put in place.
    """
    _IN_PLACE.append(os.fspath(target))
    try:
        yield
    except BaseException:
        if os.path.lexists(made):
            _IN_PLACE.remove(os.fspath(target))
        raise


def what_stands() -> str:
    """Describe what became of the outputs, for a user who interrupts the work.

    >>> begin_work()
    >>> what_stands()
    'an earlier output is unchanged'
    """
    if not _IN_PLACE:
        return "an earlier output is unchanged"
    outputs = list(dict.fromkeys(_IN_PLACE))
    verb = "are" if len(outputs) > 1 else "is"
    return f"{', '.join(outputs)} {verb} written whole; what came after is not done"


def _hidden(final: Path) -> Path:
    """Return a hidden name beside a path, with the process in it so that `sweep` knows it."""
    writer = f"{_process(os.getpid())}-{uuid.uuid4().hex[:8]}"
    # in the same folder, for only within a file system is a rename atomic; cut, for names have 255
    # bytes at most
    return final.with_name(f".{final.stem[:80]}.{writer}.tmp{final.suffix[:20]}")


def _process(number: int) -> str:
    """Name a process by host, number and start time, because numbers are used again."""
    # a folder on the network is shared by machines, each of which numbers its own processes
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    began = "0"
    with contextlib.suppress(OSError, IndexError):  # only Linux has it
        status = Path(f"/proc/{number}/stat").read_text("utf-8", "replace")
        # the name of the program stands in brackets and may hold spaces; start time is field 22
        began = status.rpartition(")")[2].split()[19]
    return f"{host}-{number}-{began}"


def sweep(target: str | os.PathLike[str]) -> None:
    """Remove what killed processes of this machine left of an output under a hidden name.

    A process that was killed between the two steps of replacing a folder left the earlier output
    under a hidden name, too: it is put back if there is none.
    """
    final = place.resolved(target)
    start, end = re.escape(f".{final.stem[:80]}."), re.escape(f".tmp{final.suffix[:20]}")
    pattern = re.compile(rf"{start}(([0-9a-f]{{8}})-(\d+)-\d+)-[0-9a-f]{{8}}{end}(\.old)?")
    here = _process(os.getpid()).partition("-")[0]
    for left in sorted(final.parent.glob(f".{glob.escape(final.stem[:80])}.*")):
        found = pattern.fullmatch(left.name)
        if found is None or found[2] != here or _process(int(found[3])) == found[1]:
            continue
        if found[4] and not final.exists():
            os.replace(left, final)  # noqa: PTH105
        else:
            _remove(left)


def fail(target: str | os.PathLike[str], error: OSError) -> NoReturn:
    """Raise the one-line `WriteError` of a failed write; errors of sstfill pass as they are."""
    if isinstance(error, SstfillError):
        raise error
    reason = error.strerror or str(error) or type(error).__name__
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(Path(target).resolve().parent).free
        reason += f", {free / 1e6:.0f} MB free there"
    raise WriteError(
        f"cannot write {os.fspath(target)}: {reason}; choose another folder or make room; "
        "an earlier output is unchanged"
    ) from error


def _sync(path: Path) -> None:
    """Flush a file, or a folder with all it holds, to the disk."""
    if path.is_dir():
        for member in path.rglob("*"):
            flush(member)
    flush(path)
    # the entry of a folder is flushed with that folder, not with the file
    flush(path.parent)


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
    # no system call replaces a folder that is not empty: two steps, which `sweep` can repair
    aside = temporary.with_name(temporary.name + ".old")
    os.replace(final, aside)  # noqa: PTH105
    try:
        os.replace(temporary, final)  # noqa: PTH105
    except BaseException:
        if not final.exists():  # else an interrupt came when all was done
            os.replace(aside, final)  # noqa: PTH105
        raise
    finally:
        if final.exists():
            _remove(aside)


def _remove(path: Path) -> None:
    for pause in (0.0, 0.1, 0.5):  # a worker elsewhere may still be writing its last block
        time.sleep(pause)
        try:
            _delete(path)
            return
        except OSError as error:
            reason = error
        except BaseException:  # an interrupt is no reason to leave a part of it
            with contextlib.suppress(OSError):
                _delete(path)
            raise
    log.warning("left behind %s: %s", path, reason)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
