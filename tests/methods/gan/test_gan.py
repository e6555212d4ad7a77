# SPDX-License-Identifier: Apache-2.0
"""Filling by a network: whatever the weights, no worse than the first guesses, whole, chunk by
chunk, of any size.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

from sstfill import config
from sstfill.errors import OptionError, ReadError
from sstfill.fields import gaps
from sstfill.fields.reading.positions import cell_km
from sstfill.fill import fill
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.gan import method as gan_method
from sstfill.methods.gan import network as gan_network
from sstfill.methods.gan import tiling
from sstfill.methods.gan.domain_check import FEATURES
from sstfill.methods.gan.method import FRACTION, Gan, cloud_seed, estimate_all
from sstfill.methods.gan.network import Networks
from sstfill.methods.gan.network_inputs import CHANNELS, FIELDS, FirstGuesses
from sstfill.methods.gan.noise import Noise
from sstfill.methods.oi import method as optimal
from sstfill.nn import registry
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.nn.sizes import SPACINGS
from sstfill.synthetic import ocean
from sstfill.training.forward import draw_noise

SHAPE = (8, 16, 20)
PAPERS = ("paper", "static", "recurrent")


@pytest.fixture(scope="module")
def sea_surface() -> xr.Dataset:
    return ocean(shape=SHAPE, seed=3, land=0.15)


@pytest.fixture(scope="module")
def obs(sea_surface) -> xr.DataArray:
    return sea_surface.sst


@pytest.fixture(scope="module")
def sea(sea_surface) -> xr.DataArray:
    return sea_surface.sea.astype(bool)


@pytest.fixture(scope="module", autouse=True)
def settled(obs, sea, full_fits) -> Iterator[None]:
    """One fit of optimal interpolation serves all; patches are small, so that there are several."""
    fitted = optimal.fit_covariance(obs, sea, "auto", ["additive"], optimal.Oi().fixed, 0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(optimal, "fit_covariance", lambda *_: fitted)
        patched.setattr(tiling, "LARGEST", (4, 8, 8))
        patched.setattr(tiling, "OVERLAP", (2, 4, 4))
        patched.setattr(tiling, "HALO", (1, 2, 2))
        patched.setattr(tiling, "BLOCK", (4, 8, 16))
        yield


def made(
    name: str, seed: int = 0, size: float = 0.05, told: dict | None = None, drawing: int = 0
) -> Checkpoint:
    """A small network with random weights."""
    options = {"base": 1}
    if name == "compact":
        options = {"inputs": len(CHANNELS), "base": 4, "drawing": drawing}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = registry.build(name, options)
        for value in network.parameters():
            value.data.add_(size * torch.randn_like(value))
    about = {"scaling": {"kind": "standardise", "mean": 15.0, "std": 1.0}, "patch": [4, 8, 8]}
    return Checkpoint(
        {"network": {"name": name, "options": options}}
        | (about if name in PAPERS else {})
        | (told or {}),
        network.state_dict(),
    )


@pytest.fixture(scope="module")
def compact() -> Checkpoint:
    return made("compact")


@pytest.fixture(scope="module")
def plain(compact, obs, sea) -> xr.Dataset:
    """What a network of random weights makes of the series, alone."""
    return Gan(model=compact, adapt=False).reconstruct(obs, sea)


@pytest.fixture(scope="module")
def blended(obs, sea) -> Callable[[str], xr.Dataset]:
    """What a network of random weights makes of the series, blended with the first guesses."""
    return cache(lambda name: Gan(model=made(name)).reconstruct(obs, sea))


def rms(values: NDArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def withheld(obs: xr.DataArray, sea: xr.DataArray) -> xr.DataArray:
    """The clouds under which a fill with the seed 0 is blended."""
    return gaps.transplant_clouds(obs, sea, fraction=FRACTION, seed=cloud_seed(0))


def wet(obs: xr.DataArray, sea: xr.DataArray) -> NDArray:
    return np.broadcast_to(sea.values, obs.shape)


# --- digits


def test_a_correction_in_bfloat16_is_that_in_single_precision_to_a_hundredth(monkeypatch):
    channels = np.random.default_rng(0).normal(size=(len(CHANNELS), 12, 40, 32)).astype("f4")
    found = []
    for able in (False, True):
        told = {"avx512_bf16": able}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        monkeypatch.setattr(gan_network, "_KEPT", {})
        found.append(Networks(Gan().checkpoint, "cpu").correct(channels))
    (single, log_single, _), (half, log_half, _) = found
    assert 0 < rms(half - single) < 0.01 and rms(log_half - log_single) < 0.01
    assert half.dtype == single.dtype == np.float32
    assert np.abs(single).max() > 1


def test_networks_that_return_values_keep_single_precision(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    network = Networks(made("paper"), "cpu").network()
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


# --- laws


def test_the_network_that_ships_fills_the_sea(sea_surface, obs, sea):
    found = fill(sea_surface, Gan(), variables="sst", score=False)
    at, gap = wet(obs, sea), obs.isnull().values & wet(obs, sea)
    seen = obs.notnull().values
    np.testing.assert_array_equal(found.sst.values[seen].view("u4"), obs.values[seen].view("u4"))
    assert np.isfinite(found.sst.values[at]).all() and np.isnan(found.sst.values[~at]).all()
    z = (found.sst - sea_surface.truth).values[gap] / found.sst_error.values[gap]
    assert (found.sst_error.values[gap] > 0).all() and 0.3 < rms(z) < 2
    assert rms((found.sst - sea_surface.truth).values[gap]) < 0.7 * float(sea_surface.truth.std())
    assert tuple(Gan().checkpoint.config["channels"]) == CHANNELS


def test_a_new_network_answers_with_optimal_interpolation(obs, sea):
    new = made("compact", size=0.0)
    found = Gan(model=new, adapt=False).reconstruct(obs, sea)
    guess = FirstGuesses.of(obs, sea)
    at, seen = wet(obs, sea), obs.notnull().values
    np.testing.assert_allclose(found["mean"].values[at], guess.fields["oi"].values[at], rtol=1e-6)
    ratio = found["error"].values / guess.fields["oi_error"].values
    np.testing.assert_allclose(
        ratio[at & ~seen], np.sqrt(2), rtol=1e-4
    )  # of a Laplace distribution
    np.testing.assert_allclose(
        ratio[at & seen], 1, rtol=1e-4
    )  # no correction where something was observed


def test_observations_stay_and_the_sea_is_filled(plain, obs, sea):
    seen, at = obs.notnull().values, wet(obs, sea)
    np.testing.assert_array_equal(plain["mean"].values[seen], obs.values[seen])
    for part in ("mean", "error"):
        assert (
            np.isfinite(plain[part].values[at]).all()
            and np.isnan(plain[part].values[~at & ~seen]).all()
        )
    assert (plain["error"].values[at] > 0).all()


BLOCKS = {"time": (1, 5, 2), "lat": 7, "lon": 9}


@pytest.mark.parametrize(
    ("name", "chunks"),
    [("compact", {"time": 1}), ("compact", BLOCKS), ("paper", BLOCKS)],
    ids=["compact-images", "compact-blocks", "paper-blocks"],
)
def test_lazy_is_the_same_and_stays_lazy(name, chunks, obs, sea, blended):
    found = Gan(model=made(name)).reconstruct(obs.chunk(chunks), sea)
    expected = blended(name)
    assert found.attrs == expected.attrs and "why" in found.attrs
    computed = found.compute()  # once: mean and error come from the same network
    at = wet(obs, sea)
    for part in ("mean", "error"):
        assert (
            found[part].chunks == obs.chunk(chunks).chunks
            and found[part].dtype == expected[part].dtype
        )
        np.testing.assert_allclose(
            computed[part].values[at], expected[part].values[at], rtol=1e-5, atol=1e-5
        )


def test_lazy_data_are_read_a_few_times(compact, obs, sea):
    reads = []

    def read(block: NDArray) -> NDArray:
        reads.append(block.shape)
        return block

    lazy = obs.chunk(time=2)
    counted = lazy.copy(data=lazy.data.map_blocks(read, meta=np.empty((0, 0, 0), lazy.dtype)))
    Gan(model=compact).reconstruct(counted, sea)
    # the guesses twice, the clouds once, the comparison once; what is not withheld once more,
    # since EOFs are fitted to it before they fill it
    assert len(reads) <= 12 * lazy.data.npartitions


def test_the_covariance_is_fitted_once_and_to_the_whole(compact, monkeypatch, obs, sea):
    asked, fit = [], optimal.fit_covariance

    def note(series: xr.DataArray, *others):
        asked.append(int(series.count()))
        return fit(series, *others)

    monkeypatch.setattr(optimal, "fit_covariance", note)
    Gan(model=compact).reconstruct(obs, sea)
    assert asked == [int(obs.count())]


def test_the_blend_of_a_large_series_is_fitted_in_a_window(compact, monkeypatch, obs, sea):
    shown = []

    def noted(part, *given, **options):
        shown.append(part.shape)
        return estimate_all(part, *given, **options)

    monkeypatch.setattr(gan_method, "estimate_all", noted)
    monkeypatch.setattr(gan_method, "TRIAL", obs.size // 2)
    found = Gan(model=compact).reconstruct(obs, sea)
    window, whole = shown
    assert window[0] == obs.shape[0] and np.prod(window) < 0.7 * obs.size and whole == obs.shape
    assert bool(found["mean"].notnull().where(sea, True).all()) and found.attrs["blended"]


def test_a_fill_can_be_sent_to_a_worker(compact, obs, sea, plain):
    method = pickle.loads(pickle.dumps(Gan(model=compact, adapt=False)))
    assert method == Gan(model=compact, adapt=False)
    lazy = method.reconstruct(obs.chunk(time=5), sea)
    again = cloudpickle.loads(cloudpickle.dumps(lazy)).compute(scheduler="synchronous")
    np.testing.assert_allclose(again["mean"], plain["mean"], rtol=1e-5)


def test_the_network_is_not_asked_about_patches_without_a_gap_at_sea(
    compact, monkeypatch, obs, sea
):
    asked = []
    monkeypatch.setattr(
        Networks,
        "correct",
        lambda self, seen, *_: asked.append(seen.shape) or (0 * seen[0], 0 * seen[0], []),
    )
    monkeypatch.setattr(Networks, "complete", lambda self, v, _: asked.append(v.shape) or v)
    for model in (compact, made("paper")):
        known = obs.fillna(15.0)
        found = Gan(model=model, adapt=False).reconstruct(known, sea)
        assert asked == [] and (found["mean"] == known).all()
        known[2, 9, 12] = np.nan
        there = known[2].isnull()
        Gan(model=model, adapt=False).reconstruct(known, ~there)
        assert asked == []
        Gan(model=model, adapt=False).reconstruct(known, sea | there)
        assert asked
        asked.clear()


# --- members


@pytest.fixture(scope="module")
def drawing() -> Checkpoint:
    """A small network that draws, whose weights are random."""
    return made("compact", drawing=4)


@pytest.fixture(scope="module")
def drawn(drawing, obs, sea) -> xr.Dataset:
    return Gan(model=drawing).simulate(obs, sea, 3)


def test_members_lie_about_the_estimate_and_keep_what_was_observed(drawing, drawn, obs, sea):
    gap = obs.isnull().values & wet(obs, sea)
    members = drawn["members"].transpose("member", *obs.dims).values
    assert (members[:, obs.notnull().values] == obs.values[obs.notnull().values]).all()
    apart = (members - drawn["mean"].values)[:, gap]
    assert (apart != 0).mean() > 0.9 and (apart[0] != apart[1]).mean() > 0.9
    alone = Gan(model=drawing).reconstruct(obs, sea)
    xr.testing.assert_equal(drawn.drop_vars("members"), alone)


@pytest.mark.parametrize("chunks", [{"time": 3}, {"lat": 7, "lon": 11}], ids=str)
def test_members_depend_neither_on_chunks_nor_on_their_number(chunks, drawing, drawn, obs, sea):
    lazy = Gan(model=drawing).simulate(obs.chunk(chunks), sea.chunk(), 2)["members"]
    assert lazy.chunks
    np.testing.assert_array_equal(lazy.values, drawn["members"].values[:2])


def test_another_seed_draws_other_members(drawing, drawn, obs, sea):
    other = Gan(model=drawing, seed=1, adapt=False).simulate(obs, sea, 1)["members"]
    assert (other.values[0] != drawn["members"].values[0]).any()


def test_noise_is_the_same_wherever_it_is_seen():
    days = np.arange(40.0)
    whole = next(Noise(3, 1, days).within((slice(0, 40), slice(0, 90), slice(0, 130))))
    assert whole.shape == (len(SPACINGS), 40, 90, 130)
    part = next(Noise(3, 1, days, 20, 30).within((slice(5, 9), slice(1, 50), slice(2, 40))))
    np.testing.assert_array_equal(part, whole[:, 5:9, 21:70, 32:70])
    for spacing, lattice in zip(SPACINGS, whole, strict=True):
        assert abs(lattice.std() - 1) < 0.1, spacing
        near = np.mean(lattice[:, 1:] * lattice[:, :-1])
        assert near > 0.5 if spacing > 1 else abs(near) < 0.02, spacing


def test_the_noise_of_training_is_that_of_filling():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sample = SimpleNamespace(values=torch.zeros(1, 1, 40, 90, 130))
        trained = draw_noise(sample)[0].numpy()
    filled = next(Noise(3, 1, np.arange(40.0)).within((slice(0, 40), slice(0, 90), slice(0, 130))))
    for apart in (1, 3, 8):
        alike = []
        for lattices in (trained, filled):
            near = (lattices[..., apart:] * lattices[..., :-apart]).mean((1, 2, 3))
            alike.append(near / np.square(lattices).mean((1, 2, 3)))
        np.testing.assert_allclose(*alike, atol=0.05)


def test_a_network_that_was_not_trained_to_draw_says_so(compact, obs, sea):
    for model in (compact, made("paper")):
        with pytest.raises(OptionError, match="not trained to draw members"):
            Gan(model=model).simulate(obs, sea, 2)


# --- blended on withheld clouds


@pytest.mark.parametrize("size", [0.05, 0.3])
def test_on_the_withheld_clouds_no_fill_is_worse_for_being_blended(size, obs, sea):
    networks, hidden = Networks(made("compact", size=size), "cpu"), withheld(obs, sea)
    seen = obs.where(~hidden)
    blend, fitted = Gan()._fit_blend(obs, sea, networks)
    estimates = estimate_all(seen, sea, networks, 0, fitted=fitted)
    found = blend.apply(estimates, seen)
    missed = {
        n: rms((f["mean"] - obs).values[hidden.values])
        for n, f in (estimates | {"blended": found}).items()
    }
    assert missed["blended"] <= 1.0001 * min(missed.values()), missed
    assert blend.why and set(blend.names) <= {"gan", "oi", "eof", "interpolated"}


def test_a_bad_network_is_left_out(sea_surface, obs, sea):
    bad = Gan(model=made("compact", size=0.5))
    gap = obs.isnull().values & wet(obs, sea)
    weighed, alone = (
        rms((m.reconstruct(obs, sea)["mean"] - sea_surface.truth).values[gap])
        for m in (bad, replace(bad, adapt=False))
    )
    guess = FirstGuesses.of(obs, sea).fields["oi"]
    assert weighed < 1.2 * rms((guess - sea_surface.truth).values[gap]) < 0.7 * alone
    assert "gan" not in bad.reconstruct(obs, sea).attrs["blended"]


def test_the_error_holds_under_clouds_it_was_not_scaled_by(sea_surface, obs, sea, blended):
    gap = obs.isnull().values & wet(obs, sea)
    for name in ("compact", "paper"):
        found = blended(name)
        z = ((found["mean"] - sea_surface.truth) / found["error"]).values[gap]
        assert 0.4 < np.mean(np.abs(z) < 1) < 0.95, name


def test_trial_and_fill_share_one_blend(sea_surface, compact, monkeypatch):
    fitted, fit_blend = [], Gan._fit_blend

    def counted(self, *given):
        fitted.append(self)
        return fit_blend(self, *given)

    monkeypatch.setattr(Gan, "_fit_blend", counted)
    scored = fill(sea_surface, Gan(model=compact), seed=1)
    assert len(fitted) == 1 and "sstfill_score" in scored.sst.attrs
    alone = fill(sea_surface, Gan(model=compact), score=False)
    np.testing.assert_array_equal(scored.sst, alone.sst)


def test_amplitudes_that_have_seen_more_are_not_taken_over(compact, obs, sea):
    known, networks = Gan(model=compact).fitted_to(obs, sea), Networks(compact, "cpu")
    _, same = known._blend(obs, sea, networks)
    fewer = obs.where(obs.time != obs.time[2])
    blend, other = known._blend(fewer, sea, networks)
    assert blend is known.blend and other.oi is same.oi
    # begun anew: they would tell what is hidden
    assert same.eof is known.guesses.eof and type(other.eof) is BayesEof


@pytest.mark.parametrize("name", ["compact", "paper"])
def test_what_is_known_fills_as_what_is_fitted(name, obs, sea, blended):
    known = Gan(model=made(name)).fitted_to(obs, sea)
    xr.testing.assert_identical(known.reconstruct(obs, sea), blended(name))


@pytest.mark.parametrize("name", ["compact", "paper"])
def test_where_nothing_can_be_withheld_the_network_is_taken_as_it_is(name, obs, sea, caplog):
    method = Gan(model=made(name))
    full = obs.fillna(15.0).where(sea)
    with caplog.at_level(logging.INFO):
        found = method.reconstruct(full, sea)
    assert "blended" not in found.attrs and "not blended" in caplog.text
    assert np.isfinite(found["mean"].values[wet(full, sea)]).all()


@pytest.mark.parametrize("name", ["compact", "paper"])
def test_it_is_blended_in_one_image_and_where_a_whole_image_is_missing(name, obs, sea):
    blank = obs.fillna(15.0)
    blank[4] = np.nan
    for series in (obs[:1], blank):
        found = Gan(model=made(name)).reconstruct(series, sea)
        assert found.attrs["blended"]
        assert np.isfinite(found["mean"].values[wet(series, sea)]).all()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_images(steps, compact, obs, sea):
    found = Gan(model=compact).reconstruct(obs[:steps], sea)
    assert np.isfinite(found["mean"].values[wet(obs[:steps], sea)]).all()
    assert "eof" not in found.attrs.get("blended", []) or steps > 2


def test_pixels_that_a_guess_leaves_out_are_filled_by_another(compact, obs, sea):
    never = obs.where((obs.lat > obs.lat[3]) | (obs.lon > obs.lon[4]))
    for adapt in (True, False):
        found = Gan(model=compact, adapt=adapt).reconstruct(never, sea | True)
        assert found["mean"].notnull().all() and (found["error"] > 0).all()


# --- outside of what a checkpoint was trained on


def ranges(obs: xr.DataArray, sea: xr.DataArray, moved: float) -> list[list[float]]:
    return [[t + moved - 0.01, t + moved + 0.01] for t in FirstGuesses.of(obs, sea).features]


@pytest.mark.parametrize("moved", [0.0, 1.0])
def test_unusual_features_are_reported_once(moved, obs, sea, caplog):
    model = made("compact", told={"traits": ranges(obs, sea, moved)})
    with caplog.at_level(logging.WARNING):
        found = Gan(model=model, adapt=False).reconstruct(obs, sea)
    assert len(caplog.records) == (moved > 0)
    assert ("domain_shift" in found.attrs) == (moved > 0)
    assert all((f"unusual {feature}" in caplog.text) == (moved > 0) for feature in FEATURES)


LIKE = {"units": "", "step_days": 0.25, "cell_km": 10.0, "spread": 0.5}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, ""),
        ({"units": "degC"}, ""),
        ({"units": "K"}, "units are degree_Celsius, it was trained on K"),
        ({"step_days": 1.0}, "time step of 0.25 days"),
        ({"cell_km": 40.0}, "grid step of"),
        ({"spread": 5.0}, "variability of"),
        (dict.fromkeys(LIKE), ""),
    ],
)
def test_a_series_unlike_that_of_the_paper_networks_is_told(changed, message, obs, sea, caplog):
    few = obs[:3]
    like = LIKE | {
        "cell_km": float(np.mean(cell_km(few))),
        "spread": float(few.std()),
        "units": few.attrs["units"],
    }
    model = made("paper", told=like | changed)
    with caplog.at_level(logging.WARNING):
        Gan(model=model, adapt=False).reconstruct(few, sea)
    assert len(caplog.records) == bool(message)
    assert message in caplog.text


# --- the paper's networks


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 1, 5), (2, 6, 1), (5, 9, 20), (7, 1, 1)], ids=str)
@pytest.mark.parametrize("name", PAPERS)
def test_the_paper_networks_fill_any_size(name, shape, make_field, all_sea):
    rng = np.random.default_rng(0)
    values = 15 + rng.normal(size=shape)
    values[rng.random(shape) < 0.4] = np.nan
    series = make_field(values)
    model = made(name)
    found = Gan(model=model, adapt=False).reconstruct(series, all_sea(series))
    seen = np.isfinite(values)
    np.testing.assert_allclose(found["mean"].values[seen], values[seen], rtol=1e-12)
    assert (
        found["mean"].notnull().all()
        and (np.abs(found["mean"] - 15) <= 3).where(series.isnull(), True).all()
    )
    assert "error" not in found


@pytest.mark.parametrize("lazy", [False, True])
def test_a_network_of_sequences_about_their_own_levels_knows_no_season(lazy, make_field, all_sea):
    scaling = {"kind": "sequence", "mean": 15.0, "std": 1.0}
    method = Gan(model=made("paper", told={"scaling": scaling}), adapt=False)
    rng = np.random.default_rng(0)
    values = 15 + rng.normal(size=(5, 9, 10))
    values[rng.random(values.shape) < 0.4] = np.nan
    # patches of four images in memory: those of the other half see another season
    filled = []
    for level in (0.0, 80.0):
        series = make_field(values + level)
        if lazy:
            series = series.chunk(time=2)
        filled.append(method.reconstruct(series, all_sea(series))["mean"].values - level)
    np.testing.assert_allclose(filled[0], filled[1], atol=1e-4)
    # the archive's mean plus or minus three of its standard deviations holds no value of the second
    assert (np.abs(filled[1] - 15) < 6).all()


def test_a_sequence_of_which_nothing_is_seen_is_filled_about_the_mean_of_the_archive(
    make_field, all_sea
):
    scaling = {"kind": "sequence", "mean": 7.0, "std": 1.0}
    method = Gan(model=made("paper", told={"scaling": scaling}), adapt=False)
    values = np.full((40, 8, 8), np.nan)
    values[:4] = 20.0
    series = make_field(values)
    found = method.reconstruct(series, all_sea(series))["mean"].values
    assert (np.abs(found[-4:] - 7) <= 3).all()


@pytest.mark.parametrize(("swing", "told"), [(10.0, False), (0.0, False), (None, True)])
def test_seasons_are_no_shift_for_a_network_of_sequences(swing, told, make_field, all_sea, caplog):
    weeks = np.random.default_rng(0).normal(0, 0.5, (10, 4, 12, 12))
    if swing is None:
        weeks *= 5
    else:
        weeks += swing * np.arange(10)[:, np.newaxis, np.newaxis, np.newaxis]
    weeks[3] = np.nan  # as a long outage
    series = make_field(weeks.reshape(40, 12, 12))
    scaling = {"kind": "sequence", "mean": 15.0, "std": 0.5}
    model = made("paper", told={"scaling": scaling, "spread": 0.5})
    for same in (series, series.chunk(time=3)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            Gan(model=model, adapt=False).reconstruct(same, all_sea(series))
        assert ("variability of" in caplog.text) == told


def test_the_paper_networks_get_an_error_from_withheld_clouds(obs, sea):
    found = Gan(model=made("static")).reconstruct(obs, sea)
    assert found.attrs["blended"] == ["gan"]
    assert (found["error"].values[wet(obs, sea)] > 0).all()


# --- which model


def test_whatever_stands_for_a_model(compact, tmp_path, obs, sea):
    compact.save(tmp_path / "mine")
    forms = [compact, tmp_path / "mine", str(tmp_path / "mine"), Gan(model=compact, seed=3)]
    methods = [Gan(model=form, adapt=False) for form in forms]
    assert [m.checkpoint.fingerprint for m in methods] == [compact.fingerprint] * 4
    assert methods[3].model == compact and methods[3].seed == 0
    assert config.build(Gan, {"model": forms[2]}).checkpoint == compact
    assert methods[0] == methods[3] and hash(methods[0]) == hash(methods[3])


def test_a_folder_that_changes_is_read_again(compact, tmp_path):
    compact.save(tmp_path / "mine")
    method = Gan(model=str(tmp_path / "mine"))
    assert method.checkpoint == compact and method.checkpoint is method.checkpoint
    other = made("compact", seed=1)
    other.save(tmp_path / "mine")
    os.utime(tmp_path / "mine" / "config.json", (2e9, 2e9))
    assert method.checkpoint == other


@pytest.mark.parametrize(
    "form", [3, {"network": "compact"}, np.zeros(2)], ids=["number", "dict", "array"]
)
def test_what_is_no_model_is_refused(form):
    with pytest.raises(OptionError, match=f"model is a {type(form).__name__}; give a checkpoint"):
        Gan(model=form)


def test_a_path_of_nothing_or_of_something_else(tmp_path, obs, sea):
    with pytest.raises(OptionError, match=r"model='.*nowhere': there is no such folder"):
        Gan(model=tmp_path / "nowhere")
    with pytest.raises(OptionError, match="model"):
        config.build(Gan, {"model": "nonsense"})
    with pytest.raises(ReadError, match="not a checkpoint of sstfill"):
        Gan(model=tmp_path).reconstruct(obs, sea)
    (tmp_path / "net.pth").write_bytes(b"pickled")
    with pytest.raises(ReadError, match="never loaded"):
        Gan(model=str(tmp_path / "net.pth")).reconstruct(obs, sea)


@pytest.mark.parametrize("options", [{"adapt": 1}, {"device": "tpu"}, {"seed": -1}])
def test_options_are_checked(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        Gan(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(obs, sea):
    with pytest.raises(OptionError, match="torch sees no GPU"):
        Gan(device="cuda").reconstruct(obs, sea)


def test_patches_take_turns_on_a_device_but_not_on_the_cpu(compact, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)  # same digits
    monkeypatch.setattr(gan_network, "_KEPT", {})
    channels = np.zeros((len(CHANNELS), 2, 8, 8), np.float32)
    here, there = Networks(compact, "cpu"), Networks(compact, "cpu:0")  # the CPU by another name
    alone = here.correct(channels)
    with ThreadPoolExecutor(1) as pool:
        with gan_network._TURN:
            waiting = pool.submit(there.correct, channels)
            here.correct(channels)
            assert not wait([waiting], timeout=0.5).done
        np.testing.assert_array_equal(waiting.result(60)[0], alone[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("adapt", [True, False])
def test_a_gpu_fills_as_the_cpu_does(adapt, obs, sea):
    here, there = (Gan(adapt=adapt, device=on).reconstruct(obs, sea) for on in ("cpu", "cuda"))
    apart = np.abs(there["mean"] - here["mean"]) / here["error"]
    # factors of convolutions are rounded to ten bits
    assert float(apart.max()) < 0.05
    np.testing.assert_allclose(there["error"], here["error"], rtol=0.05)


# --- what is told of it


def test_weights_are_told_by_their_fingerprint_only(sea_surface, compact):
    method = Gan(model=compact)
    assert len(repr(method)) < 200 and compact.fingerprint[:8] in repr(method)
    assert len(json.dumps(config.options(method))) < 300
    found = fill(sea_surface, method, variables="sst", score=False).sst
    told = json.loads(found.attrs["sstfill_method"])
    assert (
        told["diagnostics"]["model"] == compact.fingerprint
        and len(found.attrs["sstfill_method"]) < 1500
    )


def test_it_shows_its_checkpoint_in_jupyter(compact):
    assert Gan(model=compact)._repr_html_() == compact._repr_html_()


def test_networks_are_built_once(compact, monkeypatch):
    monkeypatch.setattr(gan_network, "_KEPT", {})
    kept = Networks(compact, "cpu").network()
    assert (
        Networks(pickle.loads(pickle.dumps(compact)), "cpu").network() is kept and not kept.training
    )
    for seed in range(1, 5):
        Networks(made("compact", seed=seed), "cpu").network()
    assert len(gan_network._KEPT) <= 4


def test_each_guess_that_may_be_mixed_in_is_whole(compact, obs, sea):
    estimates = estimate_all(obs, sea, Networks(compact, "cpu"), 0)
    assert list(estimates) == ["gan", "oi", "eof", "interpolated"]
    assert estimates["oi"]["mean"].equals(FirstGuesses.of(obs, sea).fields[FIELDS[0]])
    for name, found in estimates.items():  # whichever is chosen states an error
        assert np.isfinite(found["mean"].values[wet(obs, sea)]).all(), name
        assert (found["error"].values[wet(obs, sea)] >= 0).all(), name
    few = estimate_all(obs, sea, Networks(compact, "cpu"), 0, wanted=("gan", "eof"))
    assert list(few) == ["gan", "eof"]
    assert all(found.equals(estimates[name]) for name, found in few.items())


@pytest.mark.parametrize("value", [np.nan, 1.0])
@pytest.mark.parametrize("name", ["compact", "paper"])
@pytest.mark.parametrize("adapt", [False, True])
def test_a_network_of_nan_or_of_ones_is_refused_or_left_out(name, value, adapt, obs, sea):
    good = made(name)
    same = {
        n: torch.full_like(w, value) if w.is_floating_point() else w
        for n, w in good.weights.items()
    }
    broken = Checkpoint(
        {k: good.config[k] for k in ("network", "scaling", "patch") if k in good.config}, same
    )
    if name == "paper" and value == 1:
        pytest.skip("its last layer is bounded")
    if adapt and value == 1:
        found = fill(obs, Gan(model=broken), sea=sea, score=False)
        assert "gan" not in json.loads(found.sst.attrs["sstfill_method"])["diagnostics"]["blended"]
        return
    with pytest.raises(
        ReadError, match=r"returns .*(NaN|errors of the first guess).*; .*train it again"
    ):
        fill(obs, Gan(model=broken, adapt=adapt), sea=sea, score=False)
