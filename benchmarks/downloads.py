# SPDX-License-Identifier: Apache-2.0
"""Copernicus downloads that are killed, and downloads from a service that fails: is the store the
same in the end?

The command line with the real client, in a process of its own over TLS, asks the stand-in of
tests/support/standin.

Run: OMP_NUM_THREADS=1 python benchmarks/downloads.py kills|faults [--quick]
"""

from __future__ import annotations

import sys

from download_faults import faults
from download_kills import kills

if __name__ == "__main__":
    parts = {f.__name__: f for f in (kills, faults)}
    for word in (w for w in sys.argv[1:] if not w.startswith("--")):
        parts[word]("--quick" in sys.argv)
