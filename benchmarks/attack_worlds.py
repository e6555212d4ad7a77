# SPDX-License-Identifier: Apache-2.0
"""Closed streams, missing homes, odd names, odd words: each in a process of its own."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attack_inputs import series
from attack_yard import Case, Words

LONG = "9" * 5000
FILL = ("--method", "interpolate", "--no-score")


def cases(home: Path, rng: random.Random) -> Iterator[Case]:
    """All of them."""
    yield from streams()
    yield from names()
    yield from words()
    yield from surroundings()


def _case(
    name: str,
    *commands: Words,
    makes: tuple[str, ...] = ("out.nc", "out.zarr", "out.zarr.job"),
    fine: tuple[int, ...] = (0, 2),
    environ: Mapping[str, str | None] | None = None,
    before: Callable[[], object] | None = None,
    lay: Callable[[Path], object] | None = None,
    whole: bool = True,
    mute: bool = False,
) -> Case:
    def arrange(folder: Path, rng: random.Random) -> list[Words]:
        series().to_netcdf(folder / "in.nc")
        if lay is not None:
            lay(folder)
        return list(commands)

    return Case(
        name,
        arrange,
        makes=makes,
        fine=fine,
        environ=environ or {},
        before=before,
        whole=whole,
        mute=mute,
    )


def streams() -> Iterator[Case]:
    """Standard streams that are closed, full or read by nobody."""

    def full(descriptor: int) -> Callable[[], object]:
        return lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)

    def unread() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)

    info: Words = ["info", "in.nc"]
    fill: Words = ["fill", "in.nc", "--out", "out.nc", *FILL]
    for command in (info, fill, ["methods"], ["--help"], ["fill", "--help"], ["--version"]):
        told = f" ({' '.join(command[:2])})"  # type: ignore[arg-type]
        yield _case(
            f"standard output closed{told}", command, before=lambda: os.close(1), fine=(0, 1, 2)
        )
        yield _case(f"standard output full{told}", command, before=full(1), fine=(1, 2))
        yield _case(f"standard output read by nobody{told}", command, before=unread, fine=(0, 141))
    for command in (info, fill, ["info", "nonesuch.nc"]):
        yield _case(
            "standard error closed",
            command,
            before=lambda: os.close(2),
            fine=(0, 2, 141),
            mute=True,
        )
        yield _case("standard error full", command, before=full(2), fine=(0, 2, 141), mute=True)
        yield _case("standard input closed", command, before=lambda: os.close(0))


def names() -> Iterator[Case]:
    """Names of files that are no words."""
    odd: dict[str, bytes] = {
        "that is not UTF-8": b"caf\xe9",
        "with an escape": b"\x1b[31mred\x1b[0m\x07",
        "with a line break": b"a\nb",
        "with a carriage return": b"in\rsstfill: all is well",
        "with a direction mark": "a\u202egnp".encode(),
        "with spaces and quotes": b" a 'b' \"c\" ",
        "that begins with a dash": b"./-x",
        "with a colon": b"a:b",
        "with a percent sign": b"100%s{0}",
        "of 250 bytes": b"x" * 240,
    }
    for name, raw in odd.items():

        def lay(folder: Path, raw: bytes = raw) -> None:
            os.rename(folder / "in.nc", os.fsencode(folder) + b"/" + raw + b".nc")  # noqa: PTH104

        given, out = raw + b".nc", raw + b".out.nc"
        made = (Path(os.fsdecode(out)).name, Path(os.fsdecode(raw + b".out.zarr")).name)
        commands: list[Words] = [
            ["info", given],
            ["fill", given, "--out", out, *FILL],
            ["fill", given, "--out", raw + b".out.zarr", *FILL],
        ]
        yield _case(f"a name {name}", *commands, lay=lay, makes=made)
        missing: list[Words] = [
            ["info", raw + b".nonesuch.nc"],
            ["verify", raw],
            ["train", "--recipe", raw, "--out", "m"],
        ]
        yield _case(f"a missing file with a name {name}", *missing)
    for path in (
        "~nouser/x.nc",
        "~",
        "x" * 5000,
        "",
        ".",
        "/",
        "//",
        "in.nc/x",
        "https://127.0.0.1:9/x.nc",
        "loop.nc",
    ):
        commands = [
            ["info", path],
            ["fill", path, "--out", "out.nc", *FILL],
            ["fill", "in.nc", "--out", path, *FILL],
            ["info", "in.nc", "--sea", path],
            ["nightly", path],
            ["plan", path],
            ["verify", path],
            ["fill", "in.nc", "--out", "out.nc", *FILL, "--plot", path],
        ]
        yield _case(
            f"the path {path[:20]!r}",
            *commands,
            whole=False,
            lay=lambda folder: (folder / "loop.nc").symlink_to("loop.nc"),
        )
    nul: list[Words] = [
        ["info", "a\0b.nc"],
        ["fill", "in.nc", "--out", "a\0b.nc"],
        ["info", "in.nc", "--sea", "a\0b"],
        ["plan", "a\0b"],
        ["nightly", "a\0b"],
        ["verify", "a\0b"],
    ]
    yield _case("a name with a NUL", *nul, whole=False)


def words() -> Iterator[Case]:
    """Options that no one means."""
    odd: list[tuple[str, ...]] = [
        ("--seed", LONG),
        ("--seed", "-1"),
        ("--time-chunk", LONG),
        ("--time-chunk", "0"),
        ("--quality-level", LONG),
        ("--quality-level", "-1"),
        ("--variable", ""),
        ("--variable", "\x1b[31m"),
        ("--variable", "x" * 5000),
        ("--l2p-flags", ",,,"),
        ("--sea", "in.nc:\x1b[31m"),
        ("--method", "nonesuch"),
        ("--method", ""),
        ("--method", "interpolate", "--limit", LONG),
        ("--method", "interpolate", "--limit", "nan"),
        ("--method", "interpolate", "--limit", "-1"),
        ("--method", "dineof", "--modes", LONG),
        ("--method", "dineof", "--modes", "1e400"),
        ("--method", "dineof", "--tolerance", "nan"),
        ("--method", "oi", "--seed", LONG),
        ("--plot", ""),
        ("--plot", "x.xyz"),
        ("--seed", "٣"),
        ("--seed", "1_0"),
    ]
    for more in odd:
        how = () if "--method" in more else FILL
        command: Words = ["fill", "in.nc", "--out", "out.nc", *how, *more]
        yield _case(f"the words {' '.join(more)[:30]!r}", command, whole=False)
    for more in (
        ("--memory", LONG + "GB"),
        ("--memory", "0"),
        ("--memory", "1e400"),
        ("--memory", "1 B"),
        ("--workers", LONG),
        ("--workers", "-1"),
        ("--like", "nonesuch"),
        ("--like", "in.nc"),
        ("--update",),
        ("--scheduler", "tcp://127.0.0.1:9"),
        ("--scheduler", "nonsense"),
    ):
        command = ["fill", "in.nc", "--out", "out.zarr", *FILL[:2], *more]
        yield _case(f"the words {' '.join(more)[:30]!r}", command, whole=False)
    for command in (
        [],
        ["nonesuch"],
        ["fill"],
        ["info"],
        ["info", "in.nc", "--nonesuch"],
        ["score", "in.nc", "--seed", LONG],
    ):
        yield _case(f"the command {' '.join(command)[:30]!r}", command, whole=False)


def surroundings() -> Iterator[Case]:
    """A home, a working directory, a locale or permissions that are not there."""

    def gone() -> None:
        place = Path("gone")
        place.mkdir()
        os.chdir(place)
        Path("../gone").resolve().rmdir()

    info: Words = ["info", "in.nc"]
    fill: Words = ["fill", "in.nc", "--out", "out.nc", *FILL]
    for name, environ in (
        ("HOME unset", {"HOME": None}),
        ("HOME that is not there", {"HOME": "/nonexistent"}),
        ("HOME that is a file", {"HOME": "/dev/null"}),
        ("the locale C", {"LC_ALL": "C", "PYTHONUTF8": "0"}),
        ("a locale that is not there", {"LC_ALL": "xx_YY.utf8"}),
        ("ASCII streams", {"PYTHONIOENCODING": "ascii"}),
        ("TMPDIR that is not there", {"TMPDIR": "/nonexistent"}),
        ("COLUMNS of 1", {"COLUMNS": "1"}),
        ("COLUMNS that is text", {"COLUMNS": "x"}),
        ("warnings as errors", {"PYTHONWARNINGS": "error"}),
        ("no PATH", {"PATH": None}),
    ):
        yield _case(name, info, fill, ["fill", "--help"], ["info", "~/x.nc"], environ=environ)
    yield _case(
        "a working directory that is gone",
        ["info", "in.nc"],
        ["fill", "x.nc", "--out", "y.nc"],
        before=gone,
    )
