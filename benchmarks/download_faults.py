# SPDX-License-Identifier: Apache-2.0
"""Downloads from a service that fails: `python benchmarks/downloads.py faults`."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from download_place import NX, NY, SEED, STEP, Place, check_served, differences, place, published
from report import heading, publish, table
from standin import CATALOGUE, CHUNK, LOGIN, Do, Dropped, Published, Slow, Status, Truncated
from standin.client import PROXIES
from standin.faults import Fault

ALWAYS = math.inf


Arrange = Callable[[Place], object]
TIMES = 48
BRIEF, AFTER = 3, 8  # requests that fail, and requests that pass before
SOON = ("--timeout", "5")


@dataclass(frozen=True)
class Case:
    """A fault, how long it lasts, and how it is brought about and taken away again."""

    name: str
    lasts: str
    arrange: Arrange
    words: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    mend: Arrange = lambda here: here.server.faults.clear()


def failing(fault: Fault, where: str = CHUNK, *, times: float = ALWAYS, after: int = 0) -> Arrange:
    """Let requests be answered with a fault."""
    return lambda here: here.server.faults.add(fault, where, times=times, after=after)


def cases() -> Iterator[Case]:
    """All faults: passing ones under the default timeout of 300 s, lasting ones under 5 s."""
    yield from of_chunks()
    yield from of_the_way()
    yield from changed()


def of_chunks() -> Iterator[Case]:
    """Chunks that do not come, come late, come damaged, or are gone.

    The client turns the last into missing values.
    """
    statuses = {str(code): Status(code) for code in (401, 403, 404, 429, 503)}
    bodies = {
        "truncated body": Truncated(),
        "truncated body, its header agrees": Truncated(declared=True),
    }
    for name, fault in (statuses | bodies | {"dropped connection": Dropped()}).items():
        yield Case(name, f"{BRIEF} chunks", failing(fault, times=BRIEF, after=AFTER))
        yield Case(name, "for good", failing(fault, after=AFTER), SOON)
    yield Case("slow: 2 s a chunk", f"{BRIEF} chunks", failing(Slow(2), times=BRIEF, after=AFTER))
    yield Case("slow: 60 s a chunk", "for good", failing(Slow(60), after=AFTER), SOON)
    gone = Status(404)
    one = r"timeChunked\.zarr/\w+/5\."
    other = r"geoChunked\.zarr/(sst|analysed_sst)/0\.3\.3"
    yield Case("a window's chunks lost in one layout (404)", "for good", failing(gone, one))
    yield Case(
        "a window's chunks lost in both layouts (404)", "for good", failing(gone, f"{one}|{other}")
    )


def of_the_way() -> Iterator[Case]:
    """Login, catalogue and network."""
    for name, where in (("login", LOGIN), ("catalogue", CATALOGUE)):
        yield Case(
            f"503 of the {name}", f"{BRIEF} requests", failing(Status(503), where, times=BRIEF)
        )
        yield Case(f"503 of the {name}", "for good", failing(Status(503), where), SOON)
    user, password = "COPERNICUSMARINE_SERVICE_USERNAME", "COPERNICUSMARINE_SERVICE_PASSWORD"
    yield Case("wrong password", "for good", _nothing, environ={password: "wrong"})
    yield Case("no login", "for good", _nothing, environ={user: "", password: ""})
    closed = dict.fromkeys(PROXIES, "http://127.0.0.1:9")
    yield Case("network down, connections refused", "from the start", _nothing, SOON, closed)
    yield Case("network down, all connections dropped", "3 s", _down(3.0))
    yield Case("network down, all connections dropped", "for good", _down(ALWAYS), SOON)


def _nothing(_: Place) -> None:
    """The fault is in the environment alone."""


def _down(seconds: float) -> Arrange:
    """Hang up on every request from a chunk on."""

    def begin(here: Place) -> None:
        here.server.faults.add(Dropped(), ".", times=ALWAYS)
        if seconds < ALWAYS:
            threading.Timer(seconds, here.server.faults.clear).start()

    return lambda here: here.server.faults.add(Do(lambda: begin(here)), CHUNK, after=AFTER)


def changed() -> Iterator[Case]:
    """A version of the dataset that comes, goes, or changes while it is being read."""
    old, newer = published(TIMES), published(TIMES, version="202506", seed=SEED + 1)
    rewritten = published(TIMES, seed=SEED + 1)

    def then(act: Arrange) -> Arrange:
        return lambda here: here.server.faults.add(Do(lambda: act(here)), CHUNK, after=AFTER)

    def replace(here: Place) -> None:
        here.server.catalogue.publish(newer)
        here.server.catalogue.withdraw(old.item)

    def restore(here: Place) -> None:
        here.server.faults.clear()
        here.server.catalogue.publish(old)

    yield Case(
        "a version is added in the middle",
        "for good",
        then(lambda here: here.server.catalogue.publish(newer)),
    )
    yield Case(
        "a version replaces the old one in the middle",
        "until the rerun",
        then(replace),
        SOON,
        mend=restore,
    )
    again = then(lambda here: here.server.catalogue.publish(rewritten))
    yield Case(
        "the same version is rewritten in place", "until the rerun", again, SOON, mend=restore
    )


def faults(quick: bool) -> None:
    """Each fault once for a while and once for good; after a refusal, again without it."""
    source = published(TIMES)
    rows: list[list[object]] = []
    with place(source) as here, tempfile.TemporaryDirectory() as folder:
        yard = Path(folder) / "wanted" / "natl.zarr"
        code, usual = here.run(yard)
        if code:
            raise SystemExit(here.last_line(yard))
        check_served(yard, source)
        asked = len(here.server.chunks())
        chosen = list(cases())[:: 6 if quick else 1]
        for case in chosen:
            rows.append(_row(case, source, yard, asked))
        rows += [_burst(count) for count in (3, 20)]
        rows += [disk_full(source, yard, early) for early in (True, False)]
    text = heading(
        "Downloads from a service that fails",
        seed=SEED,
        copernicusmarine=version("copernicusmarine"),
        load=f"{os.getloadavg()[1]:.0f} processes wanted the cores (mean of 5 minutes)",
        service="tests/support/standin over TLS on this machine",
        data=f"3 variables of {TIMES} x {NY} x {NX}, {TIMES // STEP} windows; undisturbed "
        f"{usual:.1f} s, most of it the start of Python and the login, and {asked} chunks",
        timeout="300 s for faults that pass, 5 s for those that last (`--timeout 5`)",
        disk="a tmpfs, filled by another file",
    )
    text += (
        f"`sstfill download` in a process of its own; faults of chunks begin after {AFTER} "
        "chunks. Met: how many requests were answered with the fault. Identical: as in "
        "[download_kills](download_kills.md). Refused: the line that is shown; the exit status is "
        "2. Afterwards: the same command without the fault, and how many of the windows it asked "
        "for. One row is no success: a version that is rewritten in place, on the same grid, is "
        "not noticed, and the store holds both.\n\n"
    )
    publish(
        "download_faults",
        text + table(["fault", "lasts", "met", "what was done", "s", "result", "afterwards"], rows),
    )


def _burst(count: int) -> list[object]:
    """Refuse chunks of one variable with gaps for a while, in either layout.

    Nothing else shows that they are lost.
    """
    source = published(TIMES, alone=True)
    with place(source) as here:
        yard = here.home / "wanted" / "natl.zarr"
        if here.run(yard)[0]:
            raise SystemExit(here.last_line(yard))
        check_served(yard, source)
        usual = len(here.server.chunks())
        case = Case(
            "403, a variable with gaps alone",
            f"{count} chunks",
            failing(Status(403), times=count, after=AFTER),
        )
        return _row(case, source, yard, usual)


def _row(case: Case, source: Published, yard: Path, usual: int) -> list[object]:
    with place(source) as here:
        usually = here.environ
        here.environ = usually | dict(case.environ)
        case.arrange(here)
        out = here.home / "made" / "natl.zarr"
        code, seconds = here.run(out, *case.words)
        met, done = len(here.server.faults.fired), _done(here, usual, code)
        result = _result(here, out, yard, code)
        case.mend(here)
        here.environ = usually
        return _finished(
            [case.name, case.lasts, met, done, f"{seconds:.1f}", result], here, out, yard
        )


def _finished(row: list[object], here: Place, out: Path, yard: Path) -> list[object]:
    """The row with what a run without the fault gives after a refusal."""
    row.append("")
    if not str(row[-2]).startswith("identical"):
        code, _ = here.run(out)
        differ = differences(out, yard) if code == 0 else [here.last_line(out)]
        result = f"no: {'; '.join(differ)}" if differ else "identical"
        row[-1] = f"{result}, {len(here.windows())} of {TIMES // STEP} windows"
    print(*row, sep=" | ", flush=True)
    return row


def _result(here: Place, out: Path, yard: Path, code: int) -> str:
    if code == 0:
        return "; ".join(differences(out, yard)) or "identical"
    line = (
        here.last_line(out)
        .removeprefix("sstfill: error: ")
        .replace(str(out), "natl.zarr")
        .replace("|", "/")
    )
    return f"refused: {line}" if code == 2 else f"exit status {code}: {line}"


def _done(here: Place, usual: int, code: int) -> str:
    chunks = here.server.chunks()
    other = sum("geoChunked" in path for path in chunks)
    if code == 0:
        again = len(chunks) - other - usual
        done = "nothing"
        if again > 0:
            done = f"asked again for {again} chunks"
        elif here.server.faults.fired:
            done = "waited"
        if other:
            done += f", looked for {other} in the other layout"
        return done
    if not here.server.seen:
        return "refused before anything was asked"
    return f"gave up after {len(here.server.seen)} requests, {len(chunks)} of them for chunks"


def disk_full(source: Published, yard: Path, early: bool) -> list[object]:
    """A small disk of its own, full from the start or from a chunk on."""
    with place(source) as here, _disk(here.home / "disk", 8) as disk:
        out, ballast = disk / "natl" / "natl.zarr", disk / "ballast"

        def fill() -> None:
            free = shutil.disk_usage(disk).free
            ballast.write_bytes(b"\0" * (free - 32768))

        if early:
            fill()
        else:
            here.server.faults.add(Do(fill), CHUNK, after=AFTER)
        code, seconds = here.run(out)
        done, result = _done(here, 0, code), _result(here, out, yard, code)
        here.server.faults.clear()
        ballast.unlink()
        lasts = "from the start" if early else "from the middle on"
        return _finished(["disk full", lasts, "", done, f"{seconds:.1f}", result], here, out, yard)


@contextlib.contextmanager
def _disk(where: Path, megabytes: int) -> Iterator[Path]:
    """A file system in memory; needs root."""
    if os.geteuid() != 0:
        raise SystemExit("a small disk is mounted for the fault of a full one; run as root")
    where.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(where)], check=True
    )
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)
