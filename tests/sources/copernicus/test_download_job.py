# SPDX-License-Identifier: Apache-2.0
"""What a download killed while it laid its store out left beside it is removed by the next, and
nothing else is.
"""

from __future__ import annotations

import os

from fake_service import FakeService, a_model

from sstfill.io.ledger import Ledger, ledger_path
from sstfill.io.output.atomic import _process
from sstfill.sources.copernicus.download import CopernicusRequest, download


def test_the_half_of_a_store_is_removed_and_what_is_anothers_is_left(tmp_path):
    # a process that cannot be
    dead = f"{_process(os.getpid()).partition('-')[0]}-{2**22 + 1}-7-0123abcd"
    others = {f".b.{dead}.tmp.zarr", f".a.{dead}.tmp.nc", ".a.mine.tmp.zarr"}
    for name in {f".a.{dead}.tmp.zarr", *others}:
        (tmp_path / name / "thetao").mkdir(parents=True)
    out = tmp_path / "a.zarr"
    with Ledger(ledger_path(out)) as ledger:
        ledger.begin({"windows": 3})
    download(
        CopernicusRequest(dataset_id="x", timeout=0.8), out, opener=FakeService(a_model())
    ).close()
    assert {p.name for p in tmp_path.iterdir()} == {"a.zarr", *others}
