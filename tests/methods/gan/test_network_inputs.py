# SPDX-License-Identifier: Apache-2.0
"""First guesses, and what the network sees of them: never NaN, nothing of land, no units."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sstfill.fields.patches import PatchGrid
from sstfill.methods.gan.network_inputs import (
    CHANNELS,
    FIELDS,
    LEAST_ERROR,
    SIGNED,
    FirstGuesses,
    channels,
    unit,
)
from sstfill.methods.oi import method as optimal
from sstfill.synthetic import ocean

SHAPE = (8, 12, 14)


@pytest.fixture(scope="module")
def sea_surface() -> xr.Dataset:
    return ocean(shape=SHAPE, seed=2, land=0.15)


@pytest.fixture(scope="module")
def sea(sea_surface) -> xr.DataArray:
    return sea_surface.sea.astype(bool)


@pytest.fixture(scope="module")
def guesses(sea_surface, sea) -> FirstGuesses:
    return FirstGuesses.of(sea_surface.sst, sea)


@pytest.fixture
def settled(guesses, sea_surface, sea, monkeypatch) -> None:
    """Spare the fit of optimal interpolation."""
    fitted = optimal.fit_covariance(
        sea_surface.sst, sea, "exponential", ["pixel"], optimal.Oi(length_scale=40.0).fixed, 0
    )
    monkeypatch.setattr(optimal, "fit_covariance", lambda *_: fitted)


def drawn(seed: int, shape: tuple[int, ...] = (5, 6, 7), gaps: float = 0.4) -> dict[str, NDArray]:
    """Arguments of `channels` with gaps in the observations and here and there in a guess."""
    rng = np.random.default_rng(seed)
    obs, *guessed = 15 + rng.normal(size=(6, *shape))
    fields = dict(zip(FIELDS, guessed, strict=True))
    for name in ("oi_error", "eof_error"):
        fields[name] = rng.lognormal(-1, 1, shape)
    for name in ("eof", "eof_error", "interpolated"):
        fields[name][rng.random(shape) < 0.1] = np.nan
    obs[rng.random(shape) < gaps] = np.nan
    level, scatter = 15 + rng.normal(size=shape), rng.lognormal(size=shape[1:])
    sea = rng.random(shape[1:]) < 0.8
    return {
        "obs": obs,
        "sea": sea,
        "fields": fields,
        "level": level,
        "scatter": scatter,
        "features": (-0.1, -0.2, -0.3),
    }


def channel(found: NDArray, name: str) -> NDArray:
    return found[CHANNELS.index(name)]


@given(seed=st.integers(0, 99), gaps=st.sampled_from([0.0, 0.5, 1.0]), length=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_channels_are_finite_and_nothing_on_land(seed, gaps, length):
    given_ = drawn(seed, (length, 5, 4), gaps)
    found = channels(**given_)
    assert found.dtype == np.float32 and found.shape == (len(CHANNELS), length, 5, 4)
    assert np.isfinite(found).all() and np.abs(found).max() < 50
    assert not found[:, :, ~given_["sea"]].any()


def test_channels_come_in_the_order_of_their_names():
    given_ = drawn(0)
    found, sea, fields = channels(**given_), given_["sea"], given_["fields"]
    np.testing.assert_array_equal(channel(found, "observed"), np.isfinite(given_["obs"]) & sea)
    np.testing.assert_array_equal(channel(found, "sea"), np.broadcast_to(sea, found.shape[1:]))
    error, wet = fields["oi_error"], channel(found, "sea") == 1
    expected = {
        "anomaly": np.clip((fields["oi"] - given_["level"]) / given_["scatter"], -30, 30),
        "oi_error": np.log(error / given_["scatter"]) / 2,
        "eof": np.arcsinh((fields["eof"] - fields["oi"]) / error),
        "interpolated": np.arcsinh((fields["interpolated"] - fields["oi"]) / error),
        "eof_error": np.clip(np.log(fields["eof_error"] / error), -4, 4),
    }
    for name, values in expected.items():
        there = wet & np.isfinite(values)
        np.testing.assert_allclose(
            channel(found, name)[there], values[there], rtol=1e-4, atol=1e-5, err_msg=name
        )
        assert not channel(found, name)[~there].any()
    for name, value in zip(CHANNELS[-3:], given_["features"], strict=True):
        assert (channel(found, name)[wet] == np.float32(value)).all()


def test_signed_channels_and_no_others_flip_with_the_anomalies():
    given_ = drawn(1)
    level, fields = given_["level"], given_["fields"]
    values = {
        name: fields[name] if name.endswith("error") else 2 * level - fields[name]
        for name in FIELDS
    }
    flipped = channels(**{**given_, "obs": 2 * level - given_["obs"], "fields": values})
    found = channels(**given_)
    for name in CHANNELS:
        one, other = channel(found, name), channel(flipped, name)
        np.testing.assert_allclose(
            other, -one if name in SIGNED else one, rtol=1e-4, atol=1e-5, err_msg=name
        )
        assert one.any(), name


@pytest.mark.parametrize(("factor", "offset"), [(1.8, 32.0), (1e-3, 0.0), (1.0, 273.15)])
def test_channels_have_no_units(factor, offset):
    given_ = drawn(2)
    errors = {
        n: factor * a + (0 if n.endswith("error") else offset) for n, a in given_["fields"].items()
    }
    moved = {"obs": factor * given_["obs"] + offset, "level": factor * given_["level"] + offset}
    found = channels(**{**given_, **moved, "scatter": factor * given_["scatter"], "fields": errors})
    np.testing.assert_allclose(found, channels(**given_), rtol=1e-3, atol=1e-4)


def test_steps_to_the_nearest_observation_before_and_after():
    obs = np.full((20, 1, 2), np.nan)
    obs[1, 0, 0] = obs[5, 0, 0] = 1.0
    zeros = dict.fromkeys(FIELDS, np.ones(obs.shape))
    found = channels(
        obs, np.ones((1, 2), bool), zeros, np.zeros(obs.shape), np.ones((1, 2)), (0.0, 0.0, 0.0)
    )
    before, after = (16 * channel(found, name)[:, 0] for name in ("before", "after"))
    assert before[:8, 0].tolist() == [16, 0, 1, 2, 3, 0, 1, 2]
    assert after[:8, 0].tolist() == [1, 0, 3, 2, 1, 0, 16, 16]
    assert (before[:, 1] == 16).all() and (after[:, 1] == 16).all()
    near = channel(found, "distance")[:, 0]
    assert near[1, 0] == 0 < near[1, 1] < near[0, 0] == near[0, 1] == 1


def test_the_unit_of_a_correction_is_never_nothing():
    found = unit(np.array([0.5, 0.0, np.nan]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(found, [0.5, 2 * LEAST_ERROR, 3 * LEAST_ERROR])


def test_each_guess_fills_the_sea(guesses, sea_surface, sea):
    assert list(guesses.fields) == [*FIELDS, "interpolated_error"]
    wet = np.broadcast_to(sea.values, SHAPE)
    for name in guesses.fields:
        assert guesses.fields[name].dims == sea_surface.sst.dims
        assert np.isfinite(guesses.fields[name].values[wet]).all(), name
    truth = sea_surface.truth.values[wet & sea_surface.sst.isnull().values]
    for name in ("oi", "eof", "interpolated"):
        missed = guesses.fields[name].values[wet & sea_surface.sst.isnull().values] - truth
        assert np.sqrt(np.mean(missed**2)) < truth.std(), name
    assert all(-2.4 < feature <= 0.2 for feature in guesses.features)
    assert (
        not guesses.without_fields().fields
        and guesses.without_fields().features == guesses.features
    )


def test_a_patch_gets_its_part_of_what_anomalies_are_taken_about(guesses):
    patch = list(PatchGrid(core=(4, 6, 6), halo=(1, 2, 2)).patches(SHAPE))[4]
    level, scatter = guesses.level(patch), guesses.scatter(patch)
    rows, columns = patch.seen[1:]
    assert (
        level.shape == tuple(s.stop - s.start for s in patch.seen)
        and scatter.shape == level.shape[1:]
    )
    np.testing.assert_array_equal(scatter, guesses.background.scatter[rows, columns])
    whole = guesses.background.image[:, np.newaxis, np.newaxis] + guesses.background.pixel
    np.testing.assert_array_equal(level, whole[patch.seen])


@pytest.mark.parametrize("steps", [1, 2])
def test_too_few_images_for_eofs(steps, sea_surface, sea, settled):
    few = FirstGuesses.of(sea_surface.sst[:steps], sea)
    assert few.fields["eof"].isnull().all() and few.fields["eof_error"].isnull().all()
    assert few.fields["oi"].where(sea, 0).notnull().all() and all(map(np.isfinite, few.features))


@pytest.mark.parametrize("chunks", [{"time": 3}, {"time": 4, "lat": 5, "lon": 9}])
def test_lazy_guesses_are_the_same_and_read_little(chunks, sea_surface, sea, settled):
    reads = []

    def read(block: NDArray) -> NDArray:
        reads.append(block.shape)
        return block

    lazy = sea_surface.sst.chunk(chunks)
    counted = lazy.copy(data=lazy.data.map_blocks(read, meta=np.empty((0, 0, 0), lazy.dtype)))
    found, expected = FirstGuesses.of(counted, sea), FirstGuesses.of(sea_surface.sst, sea)
    assert len(reads) <= 4 * lazy.data.npartitions
    assert all(found.fields[name].chunks for name in ("oi", "interpolated"))
    xr.testing.assert_allclose(found.fields.compute(), expected.fields, rtol=1e-5)


def test_a_pixel_without_coordinates_gets_another_guess(sea_surface, sea, settled):
    lat, lon = (a.values.copy() for a in xr.broadcast(sea_surface.lat, sea_surface.lon))
    wet = np.argwhere(sea.values)[5]
    lat[tuple(wet)] = lon[tuple(wet)] = np.nan
    bare = sea_surface.sst.rename(lat="y", lon="x").drop_vars(["y", "x"])
    obs = bare.assign_coords(lat=(("y", "x"), lat), lon=(("y", "x"), lon))
    found = FirstGuesses.of(obs, sea.rename(lat="y", lon="x").drop_vars(["y", "x"]))
    here = {"y": wet[0], "x": wet[1]}
    gap = obs[here].isnull()
    assert gap.any()
    xr.testing.assert_equal(
        found.fields["oi"][here].where(gap), found.fields["eof"][here].where(gap)
    )
    assert (found.fields["oi_error"][here] > 0).all()
