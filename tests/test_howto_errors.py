# SPDX-License-Identifier: Apache-2.0
"""What docs/howto/errors-and-flags.md says of regional means runs, and is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "errors-and-flags.md"


def test_the_error_of_a_regional_mean_is_the_spread_of_its_members():
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import numpy.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)
    filled, error, mean = names["filled"], names["error"], names["mean"]
    assert error.dims == ("time",) and filled.sizes["member"] == 20
    truth = filled["truth"].sel(names["basin"])
    at_sea = filled["sst_source"].sel(names["basin"]) != 4
    truth = truth.where(at_sea).weighted(names["area"]).mean(("lat", "lon"))
    inside = filled.sel(names["basin"])
    gap = inside["sst_source"] == 1
    some = gap.mean(("lat", "lon")) > 0.3
    miss = float(np.sqrt(np.square((mean - truth) / error).where(some).mean()))
    alone = np.sqrt(np.square(inside["sst_error"]).sum(("lat", "lon"))) / at_sea.sum(("lat", "lon"))
    naive = float(np.sqrt(np.square((mean - truth) / alone).where(some).mean()))
    assert miss < 1.7
    assert naive > 1.5 * miss
