# SPDX-License-Identifier: Apache-2.0
"""What is freed between blocks that are in use goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCATTERED = """
import ctypes
from pathlib import Path
from sstfill.memory import return_freed_blocks
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096
blocks = [libc.malloc(100_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:
    libc.free(ctypes.c_void_p(block))
before = resident()
return_freed_blocks()
print(before - resident())
"""


def glibc() -> bool:
    import platform

    return platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not glibc(), reason="another C library")
def test_blocks_between_others_are_returned():
    done = subprocess.run([sys.executable, "-c", SCATTERED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80e6


def test_another_system_keeps_what_it_keeps(monkeypatch):
    from sstfill import memory

    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory.return_freed_blocks()
    memory.return_large_blocks()
