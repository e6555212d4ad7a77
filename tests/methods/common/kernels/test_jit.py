# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOLVE = """
import hashlib
import numpy as np
from sstfill.methods.common.kernels.normal_equations import solve
rng = np.random.default_rng(0)
k = 21
root = rng.normal(size=(50, k, 3 * k))
normal = np.ascontiguousarray((root @ root.transpose(0, 2, 1) / k)[:, *np.triu_indices(k)])
patterns, inverse = np.empty((50, k)), np.empty_like(normal)
assert solve(normal, rng.normal(size=(50, k)), np.full(k, 0.1), patterns, inverse)
print(hashlib.sha256(patterns.tobytes() + inverse.tobytes()).hexdigest())
"""


def test_a_process_that_compiles_a_kernel_computes_what_later_ones_do(tmp_path: Path) -> None:
    """A kernel that calls others: fast mathematics may round otherwise where these are not a part
    of it.
    """
    known = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    found = [
        subprocess.run(
            [sys.executable, "-c", SOLVE], env=known, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert list(tmp_path.rglob("*.nbc")) and found[0] == found[1]
