# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import unit_fills
import xarray as xr

from sstfill import synthetic
from sstfill.errors import ReadError
from sstfill.fields import gaps
from sstfill.fields.patches import PatchGrid
from sstfill.methods import BayesEof, Climatology, Dineof
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.common.sampling import gather, tile, windows
from sstfill.methods.registry import fit, load

BAYES = BayesEof(modes=16, max_iterations=25)
METHODS = [Climatology(), Dineof(), BAYES]
NAMES = [m.name for m in METHODS]
CORE = (16, 32, 32)
filled = partial(unit_fills.filled, core=CORE)


def hidden_ocean(
    shape: tuple[int, int, int] = (64, 36, 44),
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """What is seen of an ocean, its sea, and the truth at the observations that were hidden (NaN
    elsewhere).
    """
    ocean = synthetic.ocean(shape=shape, seed=2)
    sea = ocean["sea"].astype(bool)
    hidden = gaps.transplant_clouds(ocean["sst"], sea, fraction=0.1, seed=4)
    return ocean["sst"].where(~hidden), sea, ocean["sst"].where(hidden)


def tiled(archive: Archive, size: tuple[int, int] = CORE[1:]) -> Archive:
    return replace(archive, tiles=tile(archive.sea.shape, size))


def rmse(mean: xr.DataArray, truth: xr.DataArray) -> float:
    assert mean.notnull().where(truth.notnull(), True).all()
    return float(np.sqrt(np.square(mean - truth).mean()))


def pin(method: Any, archive: Archive, folder: Path) -> FittedMethod:
    folder.mkdir()
    found: FittedMethod = fit(method, archive, folder)
    return found


@pytest.fixture(scope="module")
def scene():
    return hidden_ocean()


@pytest.fixture(scope="module")
def archive(scene) -> Archive:
    seen, sea, _ = scene
    return tiled(gather(seen.chunk(time=30), sea))


@pytest.fixture(scope="module")
def everything(archive, tmp_path_factory):
    """Each method, pinned to the ocean."""
    folder = tmp_path_factory.mktemp("pinned")
    return {m.name: pin(m, archive, folder / m.name) for m in METHODS}


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_withheld_clouds_are_filled_as_well_as_in_memory(method, everything, archive, scene):
    seen, sea, truth = scene
    found = filled(everything[method.name], archive)
    here, there = found["mean"], method.reconstruct(seen, sea)["mean"]
    assert rmse(here, truth) <= 1.05 * rmse(there, truth)
    assert rmse(here, truth) < 0.9 * float(truth.std())
    within = (found["error"] * 1.96 > abs(found["mean"] - truth)).where(truth.notnull()).mean()
    assert 0.85 < float(within) <= 1


def test_a_climatology_is_that_of_the_method(everything, archive, scene):
    seen, sea, _ = scene
    here, there = filled(everything["climatology"], archive), Climatology().reconstruct(seen, sea)
    xr.testing.assert_allclose(here["mean"], there["mean"], rtol=0, atol=1e-3)
    xr.testing.assert_allclose(here["error"], there["error"], rtol=1e-2)


def test_a_climatology_knows_the_season_of_a_date(tmp_path):
    days = np.arange(800)
    season = np.cos(2 * np.pi * days / 365.2425)
    noise = np.random.default_rng(0).normal(0, 0.05, (800, 4, 5))
    obs = xr.DataArray(
        (15 + 3 * season[:, None, None] + noise).astype("f4"),
        dims=("time", "y", "x"),
        coords={"time": np.datetime64("2001-03-01", "ns") + days * np.timedelta64(1, "D")},
    )
    sea = xr.ones_like(obs[0], bool).drop_vars("time")
    gappy = obs.where(np.random.default_rng(1).random(obs.shape) < 0.5)
    pinned = pin(Climatology(), gather(gappy, sea), tmp_path / "a")
    found = filled(pinned, gather(gappy, sea))["mean"]
    assert float(abs(found - obs.mean(("y", "x"))).max()) < 0.1
    assert pinned.halo == (0, 0, 0)


def test_few_points_tell_the_amplitudes(archive, scene, tmp_path):
    seen, sea, truth = scene
    some = np.sort(np.random.default_rng(0).choice(archive.sample.shape[1], 400, replace=False))
    few = replace(
        archive,
        sample=archive.sample[:, some],
        points=type(archive.points)(*(p[some] for p in archive.points)),
    )
    there = rmse(BAYES.reconstruct(seen, sea)["mean"], truth)
    assert rmse(filled(pin(BAYES, few, tmp_path / "a"), few)["mean"], truth) < 1.1 * there


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_chunks_do_not_matter(method, everything, archive, scene, tmp_path):
    seen, sea, _ = scene
    other = tiled(gather(seen.chunk(time=7, lat=11, lon=13), sea))
    again = pin(method, other, tmp_path / "again")
    for a, b in zip(
        windows(archive, PatchGrid(core=CORE, halo=again.halo)),
        windows(other, PatchGrid(core=CORE, halo=again.halo)),
        strict=True,
    ):
        xr.testing.assert_identical(everything[method.name].estimate(a), again.estimate(b))


@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_says_the_same(name, everything, archive, tmp_path):
    pinned = everything[name]
    pinned.save(tmp_path / "copy")
    again = load(tmp_path / "copy")
    assert again.halo == pinned.halo
    for window in archive.trials[:2]:
        xr.testing.assert_identical(again.estimate(window), pinned.estimate(window))


def test_units_of_other_sizes_say_nearly_the_same(everything, archive):
    pinned = everything["bayes_eof"]
    one, other = (filled(pinned, archive, core=core)["mean"] for core in (CORE, (11, 36, 44)))
    assert float(np.sqrt(np.square(one - other).mean())) < 0.01 * float(archive.obs.std().compute())


@pytest.mark.parametrize(
    "method",
    [Climatology(), BayesEof(modes=3, max_iterations=8, min_pixel_coverage=0.2)],
    ids=["climatology", "bayes_eof"],
)
def test_what_nobody_saw_and_land_stay_empty(method, scene, tmp_path):
    seen, sea, _ = scene
    seen = seen.copy()
    seen[:, 3:5, 20:22] = np.nan
    whole = tiled(gather(seen, sea))
    mean = filled(pin(method, whole, tmp_path / "a"), whole)["mean"]
    told = seen.notnull().mean("time") > getattr(method, "min_pixel_coverage", 0)
    assert (mean.notnull() == (told & sea)).all()


def test_images_too_cloudy_take_no_part(scene, tmp_path):
    seen, sea, _ = scene
    fraction = (seen.notnull() & sea).sum(("lat", "lon")) / sea.sum()
    whole = gather(seen, sea)
    pinned = pin(Dineof(min_image_coverage=0.5, modes=3), whole, tmp_path / "a")
    mean = filled(pinned, whole)["mean"]
    assert (mean.notnull().any(("lat", "lon")) == (fraction >= 0.5)).all() and bool(
        (fraction < 0.5).any()
    )


def test_an_image_without_observations_follows_its_neighbours(everything, archive):
    window = next(windows(archive, PatchGrid(core=(64, 36, 44))))
    sample, obs = window.sample.copy(), window.obs.copy()
    sample[40], obs[40] = np.nan, np.nan
    pinned = everything["bayes_eof"]
    full, blind = pinned.estimate(window), pinned.estimate(replace(window, sample=sample, obs=obs))
    away = np.square(full["mean"][40] - blind["mean"][40]).mean()
    assert 0 < float(away) < 0.5 * float(np.square(full["mean"][40] - full["mean"][0]).mean())
    assert float(blind["error"][40].mean()) > float(full["error"][40].mean())


def test_a_folder_without_a_method_is_told(tmp_path):
    with pytest.raises(ReadError, match="fill the archive anew"):
        load(tmp_path)
