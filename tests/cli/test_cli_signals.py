# SPDX-License-Identifier: Apache-2.0
"""Signals: one line, an exit status of 128 + n, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import small_archives as small

from sstfill.cli import main
from sstfill.cli.process.signals import Signals, Stopped

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

CODE = """
import signal, sys, types
sys.argv = ["/usr/bin/sstfill", "methods"]
from sstfill.cli import main
{before}
sys.exit(main())
"""
AT_IMPORT = """
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "sstfill.cli.looking":
            signal.raise_signal({number})
sys.meta_path.insert(0, Interrupting())
"""
# It stands for a module that imports what takes a second in each process.
AT_WORK = """
looking = sys.modules["sstfill.cli.looking"] = types.ModuleType("sstfill.cli.looking")
def work(args):
    try:
        yield "begun"
        signal.raise_signal({number})
        yield "never"
    finally:
        signal.raise_signal({number})  # as a wrapper sends it twice
        print("tidied", flush=True)
looking.add_methods = lambda parser: None
looking.run_methods = work
"""


def ended(before: str) -> tuple[int, str, str]:
    """Exit status, output and error lines of a command of its own."""
    code = CODE.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_work_tidies_up_and_tells(number: signal.Signals) -> None:
    status, out, err = ended(AT_WORK.format(number=int(number)))
    assert (status, out) == (128 + number, "begun\ntidied\n")
    assert err == "sstfill: interrupted; an earlier output is unchanged\n"


def test_a_signal_while_libraries_are_imported_ends_at_once() -> None:
    number = signal.SIGTERM
    status, out, err = ended(AT_IMPORT.format(number=int(number)))
    assert (status, out, err) == (128 + number, "", "sstfill: interrupted; nothing was begun\n")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup, or in the background of a script."""
    before = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + AT_WORK.format(
        number=int(signal.SIGHUP)
    )
    status, out, err = ended(before)
    assert (status, out, err) == (0, "begun\nnever\ntidied\n", "")


def test_handlers_are_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [*map(signal.getsignal, numbers), sys.unraisablehook, threading.excepthook]
    assert main(["methods", "interpolate"]) == 0
    assert [*map(signal.getsignal, numbers), sys.unraisablehook, threading.excepthook] == before
    capsys.readouterr()


def test_another_thread_may_run_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(main(["methods", "interpolate"])))
    thread.start()
    thread.join()
    assert statuses == [0]
    capsys.readouterr()


def test_a_signal_that_is_lost_in_a_finaliser_comes_again() -> None:
    class Finalised:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    signals = Signals(whole_process=False)
    signals.catch()
    try:
        with pytest.raises(Stopped) as stopped:
            lost = Finalised()
            del lost
            begun = time.monotonic()
            time.sleep(10)
    finally:
        signals.release()
    assert time.monotonic() - begun < 5  # it wakes who waits
    assert stopped.value.number == signal.SIGTERM
    assert signals.status() == 143


def children(pid: int) -> list[str]:
    """Processes that any thread of a process started."""
    found: list[str] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found += thread.read_text().split()
    return found


def runs(pid: str) -> bool:
    """Whether a process has not ended."""
    state = Path(f"/proc/{pid}/stat")
    try:
        return ") Z " not in state.read_text()
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="no /proc to look for processes in"
)
def test_workers_end_with_the_command(tmp_path: Path) -> None:
    import sstfill

    sstfill.io.write(small.ocean(100, 32, 32), tmp_path / "in.nc")
    words = [
        sys.executable,
        "-m",
        "sstfill",
        "fill",
        "in.nc",
        "--out",
        "out.zarr",
        "--method",
        "interpolate",
        "--workers",
        "2",
    ]
    started = subprocess.Popen(
        words,
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 100
    workers: list[str] = []
    while len(workers) < 3 and time.monotonic() < deadline:  # a resource tracker, and two workers
        assert started.poll() is None
        workers = children(started.pid)
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    out, err = started.communicate(timeout=100)
    assert (started.returncode, out) == (143, "")
    assert err == "sstfill: interrupted; an earlier output is unchanged\n"
    deadline = time.monotonic() + 10
    while alive := [worker for worker in workers if runs(worker)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)
    assert not (tmp_path / "out.zarr").exists()
