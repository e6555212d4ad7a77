# SPDX-License-Identifier: Apache-2.0
"""Networks fitted to an archive: as good as in memory, with all they need in one folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from sstfill.errors import OptionError, ReadError
from sstfill.fields.patches import PatchGrid, Shape
from sstfill.methods import Gan
from sstfill.methods.base import Archive, Window
from sstfill.methods.common.sampling import gather, windows
from sstfill.methods.gan import fitted as gan
from sstfill.methods.gan import tiling
from sstfill.methods.gan.network_inputs import CHANNELS
from sstfill.methods.oi import fitted as oi
from sstfill.methods.registry import fit, load
from sstfill.nn import registry
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.synthetic import ocean

SHAPE = (24, 40, 48)
CORE = (12, 20, 24)


pytestmark = pytest.mark.usefixtures("settled")


@pytest.fixture(scope="module")
def surface() -> xr.Dataset:
    return ocean(shape=SHAPE, step="1D", seed=3, land=0.1)


@pytest.fixture(scope="module")
def archive(seen, sea) -> Archive:
    return gather(seen, sea)


@pytest.fixture(scope="module")
def fitted(archive, settled, tmp_path_factory) -> gan.FittedGan:
    return fit(Gan(), archive, tmp_path_factory.mktemp("gan") / "model")


def a_window(archive: Archive, halo: Shape, core: Shape = CORE) -> Window:
    return next(windows(archive, PatchGrid(core=core, halo=halo)))


def network(name: str, size: float = 0.05, drawing: int = 0) -> Checkpoint:
    """A small network with random weights."""
    options = {"base": 1}
    if name == "compact":
        options = {"inputs": len(CHANNELS), "base": 4, "drawing": drawing}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = registry.build(name, options)
        for value in made.parameters():
            value.data.add_(size * torch.randn_like(value))
    about = {"scaling": {"kind": "standardise", "mean": 15.0, "std": 1.0}, "patch": [8, 24, 24]}
    config = {"network": {"name": name, "options": options}}
    return Checkpoint(config if name == "compact" else config | about, made.state_dict())


def test_it_is_as_good_as_in_memory(fitted, archive, surface, sea, seen, hidden):
    whole = Gan(adapt=False).reconstruct(seen, sea)
    mean, error = (xr.full_like(seen, np.nan) for _ in range(2))
    for window in windows(archive, PatchGrid(core=CORE, halo=fitted.halo)):
        found = fitted.estimate(window)
        mean[window.patch.inside], error[window.patch.inside] = (
            found["mean"].values,
            found["error"].values,
        )
    at_sea = np.broadcast_to(sea.values, seen.shape)
    np.testing.assert_array_equal(np.isfinite(mean.values), at_sea)
    missed = [
        float(np.sqrt(np.mean((m - surface.sst).values[hidden] ** 2)))
        for m in (mean, whole["mean"])
    ]
    assert missed[0] <= 1.05 * missed[1]
    z = ((mean - surface.sst) / error).values[hidden]
    assert 0.5 < np.sqrt(np.mean(z**2)) < 2
    assert found.attrs["model"] == Gan().checkpoint.fingerprint and found.attrs["blended"] == list(
        fitted.blend.names
    )


def test_it_is_read_as_it_was_written_without_anything_outside(archive, tmp_path):
    network("compact").save(tmp_path / "trained")
    made = fit(Gan(model=tmp_path / "trained"), archive, tmp_path / "model")
    shutil.rmtree(tmp_path / "trained")
    made.save(tmp_path / "copy")
    shutil.rmtree(tmp_path / "model")
    copy = load(tmp_path / "copy")
    assert copy.halo == made.halo and copy.account == made.account
    window = a_window(archive, made.halo)
    again = load(tmp_path / "copy").estimate(window)
    xr.testing.assert_identical(copy.estimate(window), again)


def test_chunks_and_what_is_seen_beyond_do_not_matter(archive, seen, sea, tmp_path):
    model = network("compact")
    one = fit(Gan(model=model, adapt=False), archive, tmp_path / "one")
    lazy = gather(seen.chunk({"time": 5, "lat": 17}), sea)
    other = fit(Gan(model=model, adapt=False), lazy, tmp_path / "other")
    found = one.estimate(a_window(archive, one.halo))
    xr.testing.assert_identical(found, other.estimate(a_window(lazy, one.halo)))
    xr.testing.assert_identical(found, one.estimate(a_window(archive, SHAPE)))


def test_members_are_those_of_memory_in_whatever_window(archive, seen, sea, tmp_path):
    model = network("compact", drawing=4)
    made = fit(Gan(model=model, adapt=False), replace(archive, members=2), tmp_path / "model")
    apart = []
    for window in windows(archive, PatchGrid(core=CORE, halo=made.halo)):
        found = made.simulate(window, 2)
        assert found["members"].dims == ("member", *window.obs.dims)
        gap = window.inside.isnull().values & found["mean"].notnull().values
        standard = ((found["members"] - found["mean"]) / found["error"]).values
        whole = np.zeros((2, *seen.shape), bool)
        whole[:, *window.patch.inside] = gap
        apart.append((standard[:, gap], whole))
    drawn = Gan(model=model, adapt=False).simulate(seen, sea, 2)
    standard = ((drawn["members"] - drawn["mean"]) / drawn["error"]).values
    for own, where in apart:
        memory = standard[where].reshape(2, -1)
        # patches lie elsewhere, and first guesses differ a little
        assert np.corrcoef(own.ravel(), memory.ravel())[0, 1] > 0.97


def test_a_network_that_does_not_draw_is_refused_before_the_archive_is_read(archive, tmp_path):
    with pytest.raises(OptionError, match="not trained to draw members"):
        fit(Gan(model=network("compact")), replace(archive, members=2), tmp_path / "model")


def test_a_new_network_says_what_optimal_interpolation_does(archive, tmp_path):
    made = fit(Gan(model=network("compact", 0.0), adapt=False), archive, tmp_path / "model")
    window = a_window(archive, made.halo)
    estimates = made.predictor.estimates(window)
    assert list(estimates) == ["gan", "oi", "eof", "interpolated"]
    np.testing.assert_allclose(
        estimates["gan"]["mean"], made.predictor.oi.estimate(window)["mean"], atol=1e-5
    )
    for name, found in estimates.items():
        assert (
            found["mean"].dims == window.obs.dims and found["mean"].shape == window.patch.shape
        ), name


def test_another_checkpoint_is_refused(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "checkpoint")
    network("compact").save(tmp_path / "model" / "checkpoint")
    with pytest.raises(ReadError, match="fill the archive anew"):
        load(tmp_path / "model")


def test_too_few_images_for_eofs(seen, sea, tmp_path, monkeypatch):
    covariance = replace(oi.fit_covariance(), background="trend")
    monkeypatch.setattr(oi, "fit_covariance", lambda *_: covariance)
    short = gather(seen[:2], sea)
    made = fit(Gan(model=network("compact"), adapt=False), short, tmp_path / "model")
    assert not (tmp_path / "model" / "bayes_eof").exists()
    window = a_window(short, made.halo, (2, 40, 48))
    assert list(made.predictor.estimates(window)) == ["gan", "oi", "interpolated"]
    assert np.isfinite(
        load(tmp_path / "model").estimate(window)["mean"].values[:, sea.values]
    ).all()


def test_the_paper_networks(archive, seen, tmp_path):
    made = fit(Gan(model=network("static")), archive, tmp_path / "model")
    assert {p.name for p in made.folder.iterdir()} == {"checkpoint", "fitted.json"}
    window = a_window(archive, made.halo)
    found = load(tmp_path / "model").estimate(window)
    xr.testing.assert_identical(found, made.estimate(window))
    inside = window.inside.values
    at_sea = np.broadcast_to(window.sea.values[window.patch.within[1:]], inside.shape)
    observed = np.isfinite(inside) & at_sea
    np.testing.assert_allclose(found["mean"].values[observed], inside[observed], rtol=1e-6)
    gap = at_sea & ~observed
    assert (
        np.isfinite(found["mean"].values[at_sea]).all() and (found["error"].values[gap] >= 0).all()
    )


def test_where_no_clouds_can_be_withheld_the_network_fills_alone(surface, sea, tmp_path):
    whole = gather(surface.truth.astype("f4"), sea)
    made = fit(Gan(model=network("static")), whole, tmp_path / "model")
    assert (
        made.blend is None
        and json.loads((tmp_path / "model" / "fitted.json").read_text())["weighed"] is None
    )


@pytest.mark.parametrize("shape", [(32, 288, 288), (5, 7, 300), (200, 1, 161)], ids=str)
def test_pieces_are_even_and_not_too_large(shape):
    pieces = tiling.pieces_of(shape)
    sizes = [p.inside[2].stop - p.inside[2].start for p in pieces.patches(shape)]
    assert max(sizes) <= tiling.LARGEST[2] + tiling.OVERLAP[2] and max(sizes) <= 2 * min(sizes)
