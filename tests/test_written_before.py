# SPDX-License-Identifier: Apache-2.0
"""Stores, fill jobs and checkpoints that sstfill 0.1.0 wrote before its rooms and names changed.

``written_before.tgz`` was made by the code of commit 047ad75 from a synthetic ocean (seed 3): an
archive of 18 images filled by each method, the same archive with two more images, what that code
made of an update, and a small checkpoint.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import sstfill
from sstfill.archive import fill_archive, verify
from sstfill.methods.common import fitted_store, former

pytestmark = pytest.mark.usefixtures("full_fits")

PACKED = Path(__file__).with_name("written_before.tgz")
METHODS = ("interpolate", "climatology", "dineof", "bayes_eof", "oi", "patchmatch", "auto")
FITTED = ("oi", "auto")
"""Methods that are fitted to withheld observations, which are hidden in runs of dates now."""
REFITTED = 0.1
"""How far their fills may lie from those of before, as a fraction of the spread of the field."""
NEAR = 1e-4
"""Tolerance in degrees: another processor rounds iterations otherwise; the spread of the field is
0.5 degrees.
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(PACKED) as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected(before: Path) -> dict[str, np.ndarray]:
    with np.load(before / "expected.npz") as held:
        return dict(held)


def assert_equals(found: xr.Dataset, expected: dict[str, np.ndarray], kind: str) -> None:
    np.testing.assert_array_equal(found["sst_source"].values, expected[f"{kind}/sst_source"])
    for name in ("sst", "sst_error"):
        np.testing.assert_allclose(
            found[name].values, expected[f"{kind}/{name}"], rtol=0, atol=NEAR
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_job_of_before_goes_on_and_gives_what_it_gave(method, before, expected, tmp_path):
    out = tmp_path / f"{method}.zarr"
    shutil.copytree(before / out.name, out)
    shutil.copytree(before / f"{out.name}.job", tmp_path / f"{out.name}.job")
    done = fill_archive(before / "longer.zarr", out, update=True)
    assert done.new == 2
    with xr.open_zarr(out, chunks=None) as held:
        assert_equals(held, expected, f"archive/{method}")
        score = json.loads(held["sst"].attrs["sstfill_score"])
        assert {"fraction", "filled_fraction"} <= score.keys()  # that code called them a share
    assert not verify(out).wrong


def test_auto_of_a_few_days_ago_loads(before, tmp_path):
    """Its ``fitted.json`` had the name of today, its option `fraction` was called `share`."""
    folder = tmp_path / "method"
    shutil.copytree(before / "auto.zarr.job" / "model" / "sst" / "method", folder)
    state = former.state_now(json.loads((folder / "pinned.json").read_text()), pinned=True)
    state["options"]["share"] = state["options"].pop("fraction")
    (folder / "pinned.json").unlink()
    (folder / "fitted.json").write_text(json.dumps(state))
    assert fitted_store.read_state(folder)["options"]["fraction"] == 0.2


@pytest.mark.parametrize("method", METHODS)
def test_a_fill_in_memory_gives_what_it_gave(method, before, expected):
    """Errors do not: they are scaled by observations withheld in runs of dates."""
    with sstfill.io.open(before / "longer.zarr") as ds:
        found = sstfill.fill(ds.load(), method)
    was = {part: expected[f"memory/{method}/{part}"] for part in ("sst", "sst_source")}
    np.testing.assert_array_equal(found["sst_source"].values, was["sst_source"])
    if method in FITTED:
        apart = found["sst"].values - was["sst"]
        filled = was["sst_source"] == 1
        assert np.sqrt(np.mean(apart[filled] ** 2)) < REFITTED * np.nanstd(was["sst"])
    else:
        np.testing.assert_allclose(found["sst"].values, was["sst"], rtol=0, atol=NEAR)


def test_a_checkpoint_of_before_loads(before):
    checkpoint = sstfill.Checkpoint.load(before / "static")
    assert str(checkpoint).startswith("Checkpoint(static, 20.1 k parameters")
