# SPDX-License-Identifier: Apache-2.0
"""The paper's Tables 1 to 4, into docs/benchmarks: all methods on the synthetic ocean, and single
ones on all data.

``auto`` costs as much as all others together, so that it is left out of the second, larger run.

Run: OMP_NUM_THREADS=1 python benchmarks/paper_tables.py [ocean|data] [further options of ``sstfill
bench paper``]
"""

from __future__ import annotations

import sys

from report import ROOT, SHARED

from sstfill.cli import main
from sstfill.methods import METHODS

SINGLE = ",".join(name for name in METHODS if name != "auto")
RUNS = {
    "ocean": ["--operators", "cloud", "--sequences", "2"],
    "data": [
        "--data",
        str(SHARED / "truth"),
        "--data",
        str(SHARED / "clouds"),
        "--data",
        str(SHARED / "clips"),
        "--methods",
        SINGLE,
        "--sequences",
        "1",
    ],
}


def run(names: list[str], further: list[str]) -> int:
    """Run the command for each of `RUNS` named; the first status that is not 0."""
    folder = ROOT / "docs" / "benchmarks"
    commands = (
        ["bench", "paper", *RUNS[name], "--out", str(folder / f"paper_{name}"), *further]
        for name in names
    )
    return next((status for words in commands if (status := main(words))), 0)


if __name__ == "__main__":
    given = sys.argv[1:]
    chosen = [word for word in given if word in RUNS]
    sys.exit(run(chosen or list(RUNS), [word for word in given if word not in RUNS]))
