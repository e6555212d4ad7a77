# SPDX-License-Identifier: Apache-2.0
"""The command where streams are closed or full, names are no UTF-8, folders are gone, and libraries
talk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sstfill.cli import main
from sstfill.printable import printable
from sstfill.synthetic import ocean

posix = pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
COMMAND = f'"{sys.executable}" -m sstfill'
MISTAKEN = f"{COMMAND} fil in.nc"
"""It fails before libraries are imported, which would take a second each time."""


def shell(line: str, folder: Path, **env: str) -> tuple[int, str, bytes]:
    """Run a line of a shell; exit status, output and error lines."""
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, cwd=folder, env=os.environ | env, timeout=120
    )
    return done.returncode, done.stdout.decode(), done.stderr


@posix
def test_standard_output_closed_full_or_without_a_reader(tmp_path: Path) -> None:
    assert shell(f"{COMMAND} --help >&-", tmp_path) == (0, "", b"")
    assert shell(f"{MISTAKEN} 2>&-", tmp_path) == (2, "", b"")
    assert shell(f"{COMMAND} fill nowhere.nc --out out.nc >&- 2>&- <&-", tmp_path) == (2, "", b"")
    gone = f"{COMMAND} --help | true; exit ${{PIPESTATUS[0]}}"
    status, out, err = shell(f"sleep 0.2; {gone}", tmp_path)
    assert status in (0, 141) and (out, err) == ("", b"")
    if Path("/dev/full").exists():
        line = (
            b"sstfill: error: cannot write to standard output: No space left on device; send "
            b"it "
            b"elsewhere\n"
        )
        for unbuffered in ("", "1"):
            assert shell(f"{COMMAND} --help >/dev/full", tmp_path, PYTHONUNBUFFERED=unbuffered) == (
                2,
                "",
                line,
            )
        assert shell(f"{MISTAKEN} 2>/dev/full", tmp_path) == (2, "", b"")


@posix
def test_names_and_places_that_are_odd(tmp_path: Path) -> None:
    name = r"$'a\xff\e[31mb\nc'"
    line = rb"sstfill: error: cannot read a\xff\x1b[31mb\nc: no such file; check the name" + b"\n"
    assert shell(f"{COMMAND} info {name}", tmp_path) == (2, "", line)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    nobody = f"env -u HOME {COMMAND} info '~nouser/'{name}"
    in_no_home = line.replace(b"read a", b"read ~nouser/a")
    assert shell(nobody, tmp_path, **ascii_only) == (2, "", in_no_home)
    status, _, err = shell(f"mkdir gone; cd gone; rmdir ../gone; {COMMAND} info in.nc", tmp_path)
    assert status == 2 and err.startswith(b"sstfill: error: the current folder cannot be used: ")
    assert err.count(b"\n") == 1


@settings(deadline=None)  # other processes may take the cores
@given(st.text(st.characters(codec=None)), st.sampled_from(["utf-8", "ascii", "latin-1"]))
def test_printable_text_is_one_harmless_line_of_its_encoding(text: str, encoding: str) -> None:
    shown = printable(text, encoding)
    shown.encode(encoding)
    assert all(char == "\t" or ord(char) >= 0x20 for char in shown)
    assert not any(0x7F <= ord(char) < 0xA0 or 0x202A <= ord(char) <= 0x202E for char in shown)
    assert len(shown.splitlines()) <= 1


def test_what_can_be_printed_is_left_alone() -> None:
    assert printable("26 °C at 5° N, \\x1b") == "26 °C at 5° N, \\x1b"
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"
    assert printable("a\u202eb\u2028c") == "a\\u202eb\\u2028c"


def talking(args: object) -> Iterator[str]:
    """Stand for a command whose libraries warn and log."""
    warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)
    logging.getLogger("asyncio").error("Task was destroyed but it is pending!")
    logging.getLogger("sstfill.fill").warning("one of ours\x1b[31m")
    yield "done\x1b[31m"


@pytest.mark.filterwarnings("always:overflow encountered")
def test_libraries_are_heard_with_debug_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sstfill.cli.looking.run_methods", talking)
    handlers = list(logging.getLogger().handlers)
    shows = warnings.showwarning
    ours = "sstfill: warning: one of ours\\x1b[31m\n"
    assert main(["methods"]) == 0
    assert capsys.readouterr() == ("done\\x1b[31m\n", ours)
    assert main(["methods", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["methods", "--debug"]) == 0
    err = capsys.readouterr().err
    assert "RuntimeWarning: overflow encountered" in err and "asyncio: Task was destroyed" in err
    assert logging.getLogger().handlers == handlers and warnings.showwarning is shows


def test_a_process_that_ends_says_no_more(tmp_path: Path) -> None:
    """Threads and finalisers that fail, and libraries that log at the very end, are not the user's
    concern.
    """
    code = """
import atexit, logging, sys, threading
sys.argv = ["/usr/bin/sstfill", "methods"]
import sstfill.cli.looking
class Fails:
    def __del__(self):
        raise OSError("in a finaliser")
def work(args):
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    Fails()
    log = logging.getLogger("asyncio")
    atexit.register(lambda: log.error("Task was destroyed but it is pending!"))
    yield "done"
sstfill.cli.looking.run_methods = work
from sstfill.cli import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_message_of_any_length_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(args: object) -> Iterator[str]:
        with contextlib.suppress(ValueError):
            yield "begun"
        raise ValueError("long\n" * 100_000)

    monkeypatch.setattr("sstfill.cli.looking.run_methods", fails)
    assert main(["methods"]) == 70
    err = capsys.readouterr().err
    assert (
        err.startswith("sstfill: unexpected ValueError: long")
        and err.count("\n") == 1
        and len(err) < 3000
    )
    assert err.endswith("please report it; --debug shows where\n")


LONG = "x" * 300
ODD_PATHS = [
    "verify /",
    "verify .",
    "verify loop",
    f"verify {LONG}",
    f"nightly {LONG}",
    f"plan {LONG}",
    f"info in.nc --sea {LONG}",
]


@pytest.mark.parametrize("line", ODD_PATHS)
def test_a_path_that_is_none_is_one_line(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    ocean(shape=(4, 6, 7), seed=1).to_netcdf(tmp_path / "in.nc")
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("sstfill: error: ") and err.count("\n") == 1


@pytest.mark.parametrize("size", ["9" * 400, "0", "1.2.3GB", "-1GB", "nan"])
def test_a_memory_that_is_no_size_is_one_line(size, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ocean(shape=(4, 6, 7), seed=1).to_netcdf(tmp_path / "in.nc")
    assert main(["fill", "in.nc", "--out", "out.zarr", f"--memory={size}"]) == 2
    assert "is not a size; give one such as 4GB" in capsys.readouterr().err
