# SPDX-License-Identifier: Apache-2.0
"""First fills that many tests begin from: made once, then copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import small_archives as small

from sstfill.archive import fill_archive

FirstFill = Callable[[int, Path], tuple[Path, Path]]


@pytest.fixture(scope="session")
def _written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.put(small.ocean(), tmp_path_factory.mktemp("written") / "in.zarr")


@pytest.fixture
def archive(_written: Path, tmp_path: Path) -> Path:
    """An archive of all days in the folder of a test."""
    return Path(shutil.copytree(_written, tmp_path / "in.zarr"))


@pytest.fixture(scope="session")
def _first_fills(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    @cache
    def made(days: int) -> Path:
        home = tmp_path_factory.mktemp(f"filled-{days}")
        archive = small.put(small.ocean().isel(time=slice(0, days)), home / "in.zarr")
        with pytest.MonkeyPatch.context() as patched:
            small.small_units(patched)
            fill_archive(archive, home / "out.zarr", small.METHOD)
        return home

    return made


@pytest.fixture
def first_fill(_first_fills: Callable[[int], Path]) -> FirstFill:
    """Put an archive of so many days and its output, filled once, into a folder."""
    return lambda days, folder: small.moved(_first_fills(days), folder)


@pytest.fixture
def wanted(_first_fills: Callable[[int], Path]) -> Path:
    """What a fill of all days gives; to compare with, not to change."""
    return _first_fills(small.T) / "out.zarr"
