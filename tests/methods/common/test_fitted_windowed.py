# SPDX-License-Identifier: Apache-2.0
"""Methods that fill a window as a series of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr

from sstfill.errors import InputError, OptionError, ReadError
from sstfill.fields.patches import Patch, PatchGrid
from sstfill.methods import METHODS, PatchMatch
from sstfill.methods.base import STEPS, Archive
from sstfill.methods.common.fitted_windowed import HALO
from sstfill.methods.common.sampling import cut, gather, windows
from sstfill.methods.registry import fit, load
from sstfill.synthetic import ocean

SHAPE = (10, 14, 16)
FAST = PatchMatch(iterations=1, sweeps=1, patch=3)


@pytest.fixture(scope="module")
def archive() -> Archive:
    surface = ocean(shape=SHAPE, step="1D", seed=1, land=0.1)
    return gather(surface.sst, surface.sea.astype(bool))


@dataclass(frozen=True, kw_only=True)
class Third:
    """A method of somebody else's."""

    name: ClassVar[str] = "third"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 2
    plus: float = 0.0
    limits: tuple[float, float] = (0.0, 30.0)

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        if obs.notnull().sum() < 10:
            raise InputError("too few observations")
        mean = (obs.mean().item() + self.plus) * xr.ones_like(obs)
        return xr.Dataset(
            {"mean": mean.clip(*self.limits).transpose(..., "time")}, attrs={"seen": obs.shape}
        )


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(METHODS, "third", Third)


def test_it_fills_a_window_as_a_series(archive, tmp_path):
    made = fit(FAST, archive, tmp_path / "model")
    window = next(windows(archive, PatchGrid(core=(4, 6, 8), halo=HALO)))
    found, whole = made.estimate(window), FAST.reconstruct(window.obs, window.sea)
    np.testing.assert_array_equal(found["mean"].values, whole["mean"].values[:4, :6, :8])
    np.testing.assert_array_equal(found["error"].values, whole["error"].values[:4, :6, :8])
    assert made.halo == HALO == (STEPS, 32, 32)
    copy = load(tmp_path / "model")
    assert copy.method == FAST
    xr.testing.assert_identical(copy.estimate(window), found)


def test_a_method_of_somebody_elses(registered, archive, tmp_path):
    made = fit(Third(plus=1.0, limits=(0.0, 5.0)), archive, tmp_path / "model")
    window = next(windows(archive, PatchGrid(core=(4, 6, 8))))
    assert load(tmp_path / "model").method == made.method
    found = made.estimate(window)
    assert (
        found["mean"].dims == window.obs.dims
        and (found["mean"] == 5.0).all()
        and "error" not in found
    )
    assert found["mean"].coords.equals(window.inside.coords)


def test_one_that_is_not_registered_any_more(archive, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "third", Third)
    fit(Third(), archive, tmp_path / "model")
    monkeypatch.delitem(METHODS, "third")
    with pytest.raises(OptionError, match="no method 'third'"):
        load(tmp_path / "model")


@pytest.mark.parametrize("left", [0, 5], ids=["nothing observed", "too little for the method"])
def test_what_it_refuses_stays_unfilled(left, registered, archive, tmp_path):
    window = next(windows(archive, PatchGrid(core=SHAPE)))
    hidden = np.ones(SHAPE, bool)
    hidden.reshape(-1)[np.flatnonzero(window.obs.notnull().values)[:left]] = False
    found = fit(Third(), archive, tmp_path / "model").estimate(window.without(hidden))
    assert found["mean"].isnull().all() and found["mean"].shape == SHAPE


def test_a_window_of_too_few_images_stays_unfilled(registered, archive, tmp_path):
    window = next(windows(archive, PatchGrid(core=(1, 14, 16))))
    assert fit(Third(), archive, tmp_path / "model").estimate(window)["mean"].isnull().all()


def test_a_narrowed_window_shows_the_halo_only(archive):
    inside = (slice(4, 6), slice(5, 8), slice(0, 4))
    whole = cut(
        archive.obs,
        archive.sea,
        archive.sample,
        archive.points,
        Patch(inside, tuple(map(slice, (0,) * 3, SHAPE))),
    )
    some = whole.narrowed((2, 1, 20))
    assert some.patch == Patch(inside, (slice(2, 8), slice(4, 9), slice(0, 16)))
    xr.testing.assert_identical(some.inside, whole.inside)
    xr.testing.assert_identical(some.obs, whole.obs[2:8, 4:9])
    np.testing.assert_array_equal(some.sample, whole.sample[2:8])
    assert some.sea.shape == (5, 16) and some.narrowed((2, 1, 20)).patch == some.patch


def test_no_folder(tmp_path):
    with pytest.raises(ReadError):
        load(tmp_path / "nothing")
