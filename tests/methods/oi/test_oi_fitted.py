# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation fitted to an archive: as good as in memory, the same in whatever window and
from any chunks.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import unit_fills
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import ReadError
from sstfill.fields.patches import Patch, PatchGrid
from sstfill.methods import Oi
from sstfill.methods.base import STEPS, Archive, FittedMethod, Points
from sstfill.methods.common.sampling import cut, gather, windows
from sstfill.methods.interpolation.background import TimePart, fit_background
from sstfill.methods.oi import fitted as oi
from sstfill.methods.oi import fitted_background
from sstfill.methods.oi import method as in_memory
from sstfill.methods.oi.covariance_fit import fit_covariance
from sstfill.methods.registry import fit, load
from sstfill.synthetic import ocean

SHAPE = (40, 48, 56)
CORE = (16, 24, 24)
filled = partial(unit_fills.filled, core=CORE)


pytestmark = pytest.mark.usefixtures("settled")


@pytest.fixture(scope="module")
def surface() -> xr.Dataset:
    return ocean(shape=SHAPE, seed=3, land=0.1)


@pytest.fixture(scope="module")
def archive(seen, sea, settled) -> Archive:
    return gather(seen, sea)


@pytest.fixture(scope="module")
def fitted(archive, tmp_path_factory) -> FittedMethod:
    return fit(Oi(), archive, tmp_path_factory.mktemp("oi") / "model")


def rmse(mean: xr.DataArray, surface: xr.Dataset, hidden: NDArray[np.bool_]) -> float:
    return float(np.sqrt(np.mean((mean - surface.sst).values[hidden] ** 2)))


def test_it_is_as_good_as_in_memory(fitted, archive, surface, sea, seen, hidden):
    whole, found = Oi().reconstruct(seen, sea), filled(fitted, archive)
    assert rmse(found["mean"], surface, hidden) <= 1.02 * rmse(whole["mean"], surface, hidden)
    np.testing.assert_allclose(
        found["error"].values[hidden], whole["error"].values[hidden], rtol=0.05
    )
    at_sea = np.broadcast_to(sea.values, seen.shape)
    for name in found:
        np.testing.assert_array_equal(np.isfinite(found[name].values), at_sea)
    observed = seen.notnull().values & at_sea
    np.testing.assert_array_equal(found["mean"].values[observed], seen.values[observed])


def test_sums_over_many_blocks_take_the_memory_of_few():
    """Those of each block are as large as an image: all together they took gigabytes."""
    rng = np.random.default_rng(0)
    values = rng.normal(10, 1, (96, 300, 400)).astype("f4")
    values[rng.random(values.shape) < 0.5] = np.nan
    obs = xr.DataArray(values, dims=("time", "lat", "lon")).chunk(time=1)
    land = np.zeros((300, 400), bool)
    land[:5] = True
    sea = xr.DataArray(~land, dims=("lat", "lon"))
    image = np.linspace(-1, 1, 96)
    some = values[:, 10:12].reshape(96, -1)
    archive = Archive(obs, sea, some, Points(np.empty(0, int), np.empty(0, int)), [], [], 0)
    tracemalloc.start()
    try:
        found = fitted_background._sums(archive, TimePart(10.0, image))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * land.size * 8
    anomaly = np.where(land, np.nan, values - 10.0 - image[:, np.newaxis, np.newaxis])
    np.testing.assert_array_equal(found.n, np.isfinite(anomaly).sum(0))
    np.testing.assert_allclose(found.total, np.nansum(anomaly, 0), atol=1e-3)
    np.testing.assert_allclose(found.squares, np.nansum(anomaly**2, 0), atol=1e-3)


def test_the_background_is_that_of_the_method(fitted, archive, seen, sea):
    whole = fit_background(seen, sea, "additive")
    guess = fitted.background(next(windows(archive, PatchGrid(core=SHAPE))))
    for name, tolerance in (("pixel", 0.1), ("image", 0.2), ("scatter", 0.1)):
        found, wanted = getattr(guess, name), getattr(whole, name)
        here = sea.values if wanted.ndim == 2 else slice(None)
        assert np.abs(found - wanted)[here].max() < tolerance * np.std(wanted[here]) + 0.02, name


def test_units_that_overlap_agree(fitted, archive):
    one, other = (
        Patch(_box((16, 32), (0, 32), (8, 40)), None),
        Patch(_box((20, 40), (16, 48), (24, 56)), None),
    )
    found = [
        fitted.estimate(_window(archive, patch, fitted.halo))["mean"] for patch in (one, other)
    ]
    np.testing.assert_array_equal(found[0].values[4:, 16:, 16:], found[1].values[:12, :16, :16])


def test_what_lies_beyond_the_halo_does_not_matter(fitted, archive):
    patch = Patch(_box((16, 32), (8, 40), (8, 40)), None)
    close, wide = (fitted.estimate(_window(archive, patch, r)) for r in (fitted.halo, SHAPE))
    xr.testing.assert_identical(close, wide)


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 7, "lat": 13, "lon": 50}], ids=str)
def test_chunks_do_not_matter(chunks, fitted, seen, sea, archive, tmp_path):
    other = fit(Oi(), gather(seen.chunk(chunks), sea), tmp_path / "model")
    window = next(windows(archive, PatchGrid(core=CORE, halo=fitted.halo)))
    xr.testing.assert_identical(fitted.estimate(window), other.estimate(window))
    assert (tmp_path / "model" / "fitted.json").read_bytes() == (
        fitted.folder / "fitted.json"
    ).read_bytes()


def test_tiles_hardly_matter(fitted, archive, tmp_path):
    tiles = [(slice(a, a + 24), slice(b, b + 28)) for a in (0, 24) for b in (0, 28)]
    other = fit(Oi(), replace(archive, tiles=tiles), tmp_path / "model")
    window = next(windows(archive, PatchGrid(core=CORE, halo=fitted.halo)))
    xr.testing.assert_allclose(fitted.estimate(window), other.estimate(window), atol=1e-4)


def test_units_are_solved_in_batches_where_a_device_is_asked_for(fitted, archive, monkeypatch):
    """What a GPU would do, done by torch on the CPU."""
    solver_batched = pytest.importorskip("sstfill.methods.oi.solver_batched")
    on_cpu, given = solver_batched.solve, []

    def solve(values, targets, *rest, device):
        given.append(len(targets))
        return on_cpu(values, targets, *rest, device="cpu")

    window = next(windows(archive, PatchGrid(core=CORE, halo=fitted.halo)))
    measured = replace(fitted, uneven=0.0)  # distances are, in batches
    compiled = measured.estimate(window)
    monkeypatch.setattr(oi, "pick_device", lambda device: "torch-cpu")
    monkeypatch.setattr(solver_batched, "solve", solve)
    # as many jobs as there are kinds of cells, however many gaps
    monkeypatch.setattr(oi, "TARGETS", 10)
    found = measured.estimate(window)
    assert len(given) == 1 and given[0] > 1000
    xr.testing.assert_allclose(found, compiled, rtol=1e-6)


def test_it_is_read_as_it_was_written(fitted, archive, tmp_path):
    fitted.save(tmp_path / "copy")
    window = next(windows(archive, PatchGrid(core=CORE, halo=fitted.halo)))
    copy = load(tmp_path / "copy")
    xr.testing.assert_identical(copy.estimate(window), fitted.estimate(window))
    assert copy.halo == fitted.halo and copy.folder == tmp_path / "copy"


def test_what_was_not_written_is_refused(tmp_path):
    with pytest.raises(ReadError, match="no fitted method"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["mean", "trend", "pixel"])
def test_other_backgrounds(kind, archive, seen, sea, hidden, surface, tmp_path, monkeypatch):
    fitted = replace(oi.fit_covariance(), background=kind)
    monkeypatch.setattr(oi, "fit_covariance", lambda *_: fitted)
    monkeypatch.setattr(in_memory, "fit_covariance", lambda *_: fitted)
    found = filled(fit(Oi(background=kind), archive, tmp_path / "model"), archive)
    whole = Oi(background=kind).reconstruct(seen, sea)
    np.testing.assert_allclose(
        found["mean"].values[hidden], whole["mean"].values[hidden], atol=0.02
    )


def test_few_images_have_a_trend_and_one_scatter(seen, sea, tmp_path, monkeypatch):
    trend = replace(oi.fit_covariance(), background="trend")
    monkeypatch.setattr(oi, "fit_covariance", lambda *_: trend)
    few = gather(seen[:2], sea)
    whole = fit_background(seen[:2], sea, "trend")
    guess = fit(Oi(), few, tmp_path / "model").background(next(windows(few, PatchGrid(core=SHAPE))))
    at_sea = sea.values
    np.testing.assert_allclose(guess.pixel[at_sea], whole.pixel[at_sea], rtol=1e-4)
    np.testing.assert_allclose(guess.scatter[at_sea], whole.scatter[at_sea], rtol=1e-4)


@pytest.mark.usefixtures("full_fit")
def test_a_fit_of_its_own(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(oi, "fit_covariance", fit_covariance)
    found = fit(Oi(covariance="exponential", background="pixel"), archive, tmp_path / "model")
    assert found.fitted == load(tmp_path / "model").fitted or np.array_equal(
        found.fitted.cross, np.eye(1)
    )
    assert (
        found.fitted.background == "pixel"
        and found.fitted.covariance.components[0].shape == "exponential"
    )
    t, y, x = found.halo
    assert 0 < t <= STEPS and 0 < y <= 40 and 0 < x <= 40


def test_pixels_never_seen_and_images_never_seen_are_filled(archive, seen, sea, tmp_path):
    never = seen.where((seen.lat > seen.lat[6]) & (seen.time != seen.time[20]))
    bare = gather(never, sea)
    found = filled(fit(Oi(), bare, tmp_path / "model"), bare)
    assert np.isfinite(found["mean"].values[np.broadcast_to(sea.values, never.shape)]).all()
    off = (found["mean"] - never.mean()).values[:, sea.values]
    assert np.abs(off).max() < 5 * float(never.std())


def test_an_image_tells_its_mean_by_the_images_near_it_only(fitted, archive):
    days = np.arange(SHAPE[0]) * 0.25
    images = fitted.images
    assert images.steps == fitted_background.NEAR
    whole, part = images.at(archive.sample, days), images.at(archive.sample[10:30], days[10:30])
    near = fitted_background.NEAR
    np.testing.assert_array_equal(whole[10 + near : 30 - near], part[near:-near])


def _box(*ends: tuple[int, int]) -> tuple[slice, slice, slice]:
    t, y, x = (slice(a, b) for a, b in ends)
    return t, y, x


def _window(archive: Archive, patch: Patch, halo: tuple[int, int, int]):
    sides = zip(patch.inside, halo, archive.obs.shape, strict=True)
    seen = tuple(slice(max(0, s.start - h), min(n, s.stop + h)) for s, h, n in sides)
    return cut(archive.obs, archive.sea, archive.sample, archive.points, Patch(patch.inside, seen))
