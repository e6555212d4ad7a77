# SPDX-License-Identifier: Apache-2.0
"""Runs a command of sstfill against a prepared folder, and judges how it ended and what it left."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import os
import pkgutil
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from sstfill import io
from sstfill.cli import main

LIMIT, LIMIT_WHOLE = 20.0, 60.0
"""Seconds after which a command counts as one that hangs, in a warm process and in one of its own:
inputs are small.
"""
ADDRESSES = 6 * 2**30
"""Bytes of address space that a command may take beyond what it begins with."""
LARGE = 2 * 2**30
"""Resident bytes from which a command counts as one that takes too much memory."""
SECRET = 123.4375
"""A number that no input holds, but for the file that nobody gave."""
MARK = "SSTFILL_ATTACK"
"""Environment variable by which a process that was started here is known among all others."""
OUTPUTS = ("out.nc", "out.zarr", "out.zarr.job")
"""What a command may make or replace, where a case does not say otherwise."""

ENDINGS = ("one line", "done", "traceback", "hang", "wrong status")
EXTRAS = ("silent", "noisy", "false", "memory", "lost", "leaked", "code run", "litter", "orphan")

Words = Sequence[str | bytes]
Files = dict[str, str]


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status (negative: the signal that killed it; None: it hung), and
    what it wrote.
    """

    status: int | None
    out: str
    err: str
    seconds: float
    peak: int
    orphans: int = 0


@dataclass(frozen=True)
class Case:
    """One attack.

    Attributes
    ----------
    name
        What is done.
    arrange
        Lays the files into an empty folder and gives the command lines, which run in that folder
        one after another.
    makes
        Names that the commands may make or replace there. Whatever else changes is lost, what is
        new is litter.
    fine
        Exit statuses that are as they should be; anything but 0 and 2 needs no error line.
    refused
        Whether to go on without a word would be wrong.
    keeps
        Whether a command that does not end with 0 leaves what it may replace as it was.
    whole
        Whether a process of its own is needed, with a start and an end, where otherwise a warm one
        is forked.
    environ
        Environment variables to set, or to unset (None); for a process of its own.
    before
        Runs in the child before the command: closes files, sets limits.
    after
        Runs at the end: what `arrange` mounted is to be taken away.
    strike
        A signal that the first command is sent, and after how many seconds; the others run
        undisturbed.
    mute
        Whether nobody can read what the command says.
    """

    name: str
    arrange: Callable[[Path, random.Random], list[Words]]
    makes: Collection[str] = OUTPUTS
    fine: Collection[int] = (0, 2)
    refused: bool = False
    keeps: bool = True
    whole: bool = False
    environ: Mapping[str, str | None] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    after: Callable[[Path], object] | None = None
    strike: tuple[int, float] | None = None
    mute: bool = False


@dataclass(frozen=True)
class Verdict:
    """What is counted of one command, and enough of its words to find the cause."""

    case: str
    words: str
    ending: str
    extras: tuple[str, ...]
    text: str
    seconds: float
    peak: int

    @property
    def bad(self) -> bool:
        """Whether it is a failure of sstfill."""
        return self.ending not in ("one line", "done") or bool(self.extras)


def attack(case: Case, folder: Path, rng: random.Random) -> list[Verdict]:
    """Lay out a case in a new folder, run its commands, and judge each."""
    folder.mkdir()
    commands = case.arrange(folder, rng)
    verdicts = []
    for words in commands:
        before = files(folder)
        ended = (
            run_whole(words, folder, case) if case.whole else run_warm(words, folder, case.before)
        )
        verdicts.append(judge(case, words, ended, before, folder))
        case = dataclasses.replace(case, strike=None)
    if case.after is not None:
        case.after(folder)
    shutil.rmtree(folder)
    return verdicts


def aside(act: Callable[[], object], cwd: Path) -> None:
    """Do in a child what starts threads, which this process must not have when it forks."""

    def quietly() -> int:
        act()
        return 0

    ended = forked(quietly, cwd)
    if ended.status:
        raise SystemExit(f"what the attacks begin with could not be made: {ended.err}")


def run_warm(words: Words, cwd: Path, before: Callable[[], object] | None = None) -> Ended:
    """Run a command in a child of this process, which has imported all that it needs."""

    def act() -> int:
        if before is not None:
            before()
        sys.argv = ["sstfill", *(os.fsdecode(word) for word in words)]
        return main()

    return forked(act, cwd)


def forked(act: Callable[[], int], cwd: Path) -> Ended:
    """Call a function in a child, with a limit of time and of memory; its return value becomes the
    exit status.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    told = [cwd.with_name(f"{cwd.name}.{stream}") for stream in ("out", "err")]
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        _become(act, cwd, told)
    status, usage = _waited(pid, began + LIMIT)
    texts = [path.read_bytes().decode("utf-8", "surrogateescape") for path in told]
    for path in told:
        path.unlink()
    return Ended(status, texts[0], texts[1], time.perf_counter() - began, usage)


def _become(act: Callable[[], int], cwd: Path, told: list[Path]) -> None:
    """Be the child; never returns."""
    status = 1
    try:
        os.setsid()
        os.chdir(cwd)
        for descriptor, path in zip((1, 2), told, strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = _addresses() + ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        status = act()
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else 1
    except (
        BaseException
    ):  # as the interpreter would: what main() lets through is a traceback and status 1
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status & 0xFF)


def _addresses() -> int:
    """Bytes of address space that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _waited(pid: int, until: float) -> tuple[int | None, int]:
    """Exit status of a child and its peak of memory in bytes; one that takes too long is killed."""
    while time.perf_counter() < until:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
        time.sleep(0.002)
    os.killpg(pid, signal.SIGKILL)
    usage = os.wait4(pid, 0)[2]
    return None, usage.ru_maxrss * 1024


def command(words: Words) -> list[str | bytes]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", "sstfill", *words]


def environment(changes: Mapping[str, str | None], mark: str) -> dict[str, str]:
    """The environment of a process of its own."""
    environ = os.environ | {MARK: mark}
    for name, value in changes.items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value
    return environ


def run_whole(words: Words, cwd: Path, case: Case) -> Ended:
    """Run a command as a process of its own, which may be sent a signal."""
    began = time.perf_counter()
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command(words),
        cwd=cwd,
        env=environment(case.environ, mark),
        preexec_fn=partial(_begin, case.before),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        if case.strike is not None:
            _strike(process, *case.strike)
        out, err = process.communicate(timeout=LIMIT_WHOLE)
        status: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        status = None
    texts = [text.decode("utf-8", "surrogateescape") for text in (out, err)]
    return Ended(status, texts[0], texts[1], time.perf_counter() - began, 0, orphans(mark))


def _begin(before: Callable[[], object] | None) -> None:
    """Undo what a shell does to a command in the background, whose Ctrl-C it ignores; then what a
    case asks for.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if before is not None:
        before()


def _strike(process: subprocess.Popen[bytes], number: int, moment: float) -> None:
    """Send a signal after some seconds, if there still is whom to send it to."""
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)


def orphans(mark: str) -> int:
    """How many processes that bear a mark are still there two seconds later; they are ended."""
    until = time.perf_counter() + 2
    while (found := marked(mark)) and time.perf_counter() < until:
        time.sleep(0.05)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


def marked(mark: str) -> list[int]:
    """Processes with a mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in place.read_bytes():
                found.append(int(place.parent.name))
    return found


def judge(case: Case, words: Words, ended: Ended, before: Files, folder: Path) -> Verdict:
    """Say how a command ended and what else there is to say against it."""
    extras = [*said(case, ended), *left(case, ended, before, folder)]
    out = words[words.index("--out") + 1] if "--out" in words else None
    if (
        "fill" in words
        and out is not None
        and (ended.status == 0 or (case.strike and (folder / os.fsdecode(out)).exists()))
        and (ended.status == 0 or not is_unchanged(os.fsdecode(out), before, folder))
    ):
        extras += wrong_values(words, folder)
    spelled = " ".join(os.fsdecode(word)[:60] for word in words)
    text = shortened(ended)
    return Verdict(
        case.name, spelled, ending(case, ended), tuple(extras), text, ended.seconds, ended.peak
    )


def ending(case: Case, ended: Ended) -> str:
    """One of `ENDINGS`.

    A process that a signal ended is where one that ends with 128 + n is, as a shell shows it.
    """
    if ended.status is None:
        return "hang"
    if "Traceback (most recent call last)" in ended.err + ended.out or ended.status == 70:
        return "traceback"
    status = 128 - ended.status if ended.status < 0 else ended.status
    if status not in case.fine:
        return "traceback" if ended.status < 0 else "wrong status"
    if status == 0:
        return "done"
    errors = [
        line
        for line in ended.err.splitlines()
        if line.startswith(("sstfill: error: ", "sstfill: unexpected"))
    ]
    if status == 2 and not case.mute and len(errors) != 1 and not ended.err.startswith("usage: "):
        return "wrong status"
    return "one line"


def said(case: Case, ended: Ended) -> list[str]:
    """What there is to say against the words of a command, and its memory."""
    found = []
    lines = [line for line in ended.err.splitlines() if line.strip()]
    ours = all(line.startswith("sstfill: ") for line in lines) or ended.err.startswith("usage: ")
    doubled = len(set(lines)) < len(lines)
    escapes = any(ord(c) < 32 and c not in "\n\t\r" for c in ended.out + ended.err)
    shown = "Traceback (most recent call last)" in ended.err  # counted as such
    if (not ours or doubled or escapes) and not shown:
        found.append("noisy")
    if case.refused and ended.status == 0 and "warning: " not in ended.err:
        found.append("silent")
    if ended.peak > LARGE:
        found.append("memory")
    if ended.orphans:
        found.append("orphan")
    return found


def left(case: Case, ended: Ended, before: Files, folder: Path) -> list[str]:
    """What there is to say against what a command left behind."""
    found = []
    after = files(folder)
    if any(Path(name).name.startswith("sentinel") for name in after):
        found.append("code run")
    free = case.makes
    if ended.status != 0 and case.keeps:
        free = [name for name in case.makes if name.endswith(".job")]  # work under way
    kept = [name for name in before if Path(name).parts[0] not in free]
    if any(after.get(name) != before[name] for name in kept):
        found.append("lost")
    outputs = [
        name for name in before.keys() | after.keys() if not Path(name).parts[0].endswith(".job")
    ]
    if "is unchanged" in ended.err and any(after.get(name) != before.get(name) for name in outputs):
        found.append("false")
    new = [name for name in after.keys() - before.keys() if Path(name).parts[0] not in case.makes]
    if any(not Path(name).name.startswith("sentinel") for name in new):
        found.append("litter")
    return found


def files(folder: Path) -> Files:
    """What a folder holds: the digest of each file, the target of each link, and what else there
    is.
    """
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        name = str(path.relative_to(folder))
        if stat.S_ISLNK(mode):
            found[name] = f"link to {path.readlink()}"
        elif stat.S_ISREG(mode):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = stat.filemode(mode)
    return found


def is_unchanged(out: str, before: Files, folder: Path) -> bool:
    """Whether an output is the earlier one, which another input was filled into."""
    after = files(folder)
    members = [name for name in before.keys() | after.keys() if Path(name).parts[0] == out]
    return all(after.get(name) == before.get(name) for name in members)


def wrong_values(words: Words, folder: Path) -> list[str]:
    """Whether a filled output shows a secret, or other values than the input where that was
    observed.
    """
    source = folder / os.fsdecode(words[words.index("fill") + 1])
    out = folder / os.fsdecode(words[words.index("--out") + 1])
    secret, changed = 3, 4

    def act() -> int:
        with io.open(source) as given, io.open(out) as filled:
            for name in [n for n in filled.data_vars if f"{n}_source" in filled]:
                values = filled[name].values
                if np.any(values == SECRET):
                    return secret
                observed = (
                    given[name].transpose(*filled[name].dims).reindex_like(filled[name]).values
                )
                known = np.isfinite(observed)
                if not np.array_equal(values[known], observed[known].astype(values.dtype)):
                    return changed
        return 0

    status = forked(act, folder).status
    return {secret: ["leaked"], changed: ["lost"]}.get(status or 0, [])


def shortened(ended: Ended) -> str:
    """The last words of a command, on one line; of a traceback also the last place in sstfill."""
    lines = [line.strip() for line in (ended.err or ended.out).splitlines() if line.strip()]
    places = [line for line in lines if line.startswith("File ") and "/sstfill/" in line]
    place = f" [{places[-1].partition('/sstfill/')[2]}]" if places else ""
    last = lines[-1] if lines else ""
    status = "hung" if ended.status is None else f"status {ended.status}"
    return f"{status}: {last[:200]!r}{place}"


def warm() -> None:
    """Import what the commands need, and start no thread: a child would not have it."""
    import cftime  # noqa: F401
    import dask.array  # noqa: F401
    import netCDF4  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import zarr  # noqa: F401

    import sstfill

    for module in pkgutil.walk_packages(sstfill.__path__, "sstfill."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    torch.set_num_threads(1)
