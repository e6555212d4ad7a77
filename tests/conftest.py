# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures: where the project's real data lie, and small seeded fields."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")

SHARED = Path(os.environ.get("SSTFILL_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(autouse=True)
def no_land_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the extra ``landmask``: small fields of the tests lie anywhere, land or sea."""
    monkeypatch.setattr("sstfill.fields.landmask.is_installed", lambda: False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data; the test is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set SSTFILL_SHARED to their parent folder")
    return folder
