# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures: where the project's real data lie, and small seeded fields."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from hypothesis import settings
from remembered import clouds_among, fits_with, remembered

os.environ.setdefault("MPLBACKEND", "Agg")
# How long an example takes depends on what else the machine does.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
# Workers are forked from one process that has imported what they need; must precede `distributed`.
dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})

WORKERS_KNOW = ["distributed", "pytest", "sstfill.archive", "sstfill.methods.interpolation.fitted"]
"""What worker processes of the tests would import, each by itself, costs seconds."""
# Examples are looked for in all modules, and two of one name clash; these have none.
collect_ignore_glob = ["*conftest.py"]
SHARED = Path(os.environ.get("SSTFILL_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over modules and tests, which are never garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def quick_workers() -> None:
    """Let the process that workers are forked from import once what each would import."""
    from distributed.utils import get_mp_context

    get_mp_context().set_forkserver_preload(WORKERS_KNOW)


@pytest.fixture(scope="session", autouse=True)
def no_land_mask() -> Iterator[None]:
    """Hide the extra ``landmask``: small fields of the tests lie anywhere, land or sea."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sstfill.fields.reading.landmask.is_installed", lambda: False)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data; the test is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set SSTFILL_SHARED to their parent folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def covariances_fitted_once() -> Iterator[None]:
    """Fit a covariance once to the same values: that is most of an optimal interpolation.

    Two fills that see other values, in any bit, do not share a fit.
    """
    from sstfill.methods.oi import covariance_fit

    once = remembered(covariance_fit.fit_parameters)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(covariance_fit, "fit_parameters", once)
        yield


@pytest.fixture(scope="session", autouse=True)
def oceans_advanced_once() -> Iterator[None]:
    """Spin the eddies of an ocean up once: that is most of making one, and many tests make it.

    Two oceans of another grid, seed or step, in any bit, do not share their eddies.
    """
    from sstfill.synthetic.sqg import Turbulence

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Turbulence, "advance", remembered(Turbulence.advance))
        yield


@pytest.fixture(scope="session", autouse=True)
def covariances_fitted_briefly() -> Iterator[None]:
    """Fit covariances to a few withheld pixels: what most tests ask is not the skill of a fill."""
    with fits_with(draws=2, targets=40, neighbours=15, iterations=8):
        yield


@pytest.fixture(scope="module")
def full_fits(clouds_chosen_briefly: int) -> Iterator[None]:
    """Fit covariances as users do, where the skill of a fill is what a module tests."""
    with fits_with(), clouds_among(clouds_chosen_briefly):
        yield


@pytest.fixture
def full_fit(clouds_chosen_briefly: int) -> Iterator[None]:
    """The same for one test."""
    with fits_with(), clouds_among(clouds_chosen_briefly):
        yield


@pytest.fixture(scope="session", autouse=True)
def tried_once() -> Iterator[None]:
    """Score DINEOF on one choice of withheld clouds: four cost more than the fill they are for."""
    from sstfill.methods import Dineof

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Dineof, "trials", 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def clouds_chosen_briefly() -> Iterator[int]:
    """Choose each withheld cloud among two: that they are like the gaps is asked by few tests.

    Yields among how many users choose.
    """
    from sstfill.validation.withholding import runs

    candidates = runs.CANDIDATES
    with clouds_among(2):
        yield candidates


@pytest.fixture(scope="module")
def clouds_chosen_well(clouds_chosen_briefly: int) -> Iterator[None]:
    """Choose withheld clouds as users do, where it matters how well they resemble the gaps."""
    with clouds_among(clouds_chosen_briefly):
        yield


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """What is written need not survive a power cut during the tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield
