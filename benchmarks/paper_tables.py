# SPDX-License-Identifier: Apache-2.0
"""The paper's Tables 1 to 4 on the project's own data: every operator, every method, into docs/benchmarks/paper.md.

Run: OMP_NUM_THREADS=2 python benchmarks/paper_tables.py [--quick] [--methods a,b] [--out DIR]
(the options of ``sstfill bench paper``)
"""

from __future__ import annotations

import sys

from report import ROOT, SHARED

from sstfill.cli import main

if __name__ == "__main__":
    out = str(ROOT / "docs" / "benchmarks")
    sys.exit(main(["bench", "paper", "--data", str(SHARED), "--out", out, "--progress", *sys.argv[1:]]))
