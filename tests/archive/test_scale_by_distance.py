# SPDX-License-Identifier: Apache-2.0
"""The error of an archive is scaled by distance to data, whatever the units."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_archives as small
import xarray as xr

from sstfill.archive import fill_archive
from sstfill.archive.model import Model, _fingerprint
from sstfill.archive.source import ArchiveSource
from sstfill.errors import ReadError
from sstfill.fields.error_distribution import ErrorDistribution
from sstfill.fields.patches import PatchGrid
from sstfill.methods import Climatology
from sstfill.methods.common import sampling
from sstfill.nightly.recent import recent_score
from sstfill.validation.calibration import StratifiedScale
from sstfill.validation.distances import distance_to_data


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small.small_units(monkeypatch)


@pytest.fixture
def filled(tmp_path: Path, first_fill) -> tuple[Path, Path]:
    """An archive of all days, and its output."""
    return first_fill(small.T, tmp_path)


def model_folder(out: Path) -> Path:
    return next((out.parent / f"{out.name}.job" / "model").iterdir())


def scaled(out: Path, change) -> Model:
    """Change the ``score.json`` of a filled archive, and sign it again."""
    folder = model_folder(out)
    path = folder / "score.json"
    written = json.loads(path.read_text())
    change(written)
    path.write_text(json.dumps(written))
    (folder / "fingerprint").write_text(_fingerprint(folder))
    return Model.load(folder)


def test_a_fill_states_its_scale_and_the_model_keeps_it(filled):
    _, out = filled
    model = Model.load(model_folder(out))
    with xr.open_zarr(out, chunks=None) as held:
        score = json.loads(held["sst"].attrs["sstfill_score"])
    assert not model.scale.is_single
    assert score["scale"] == model.scale.to_dict() and 0 < score["resemblance"]["overlap"] <= 1
    assert all(wide >= near for wide, near in zip(model.halo, model.near, strict=True))


def test_a_fill_states_its_tails_and_the_model_keeps_them(archive, tmp_path, monkeypatch):
    heavy = ErrorDistribution(4.0)
    monkeypatch.setattr("sstfill.validation.calibration.TRIED", (heavy,))
    out = tmp_path / "out.zarr"
    fill_archive(archive, out, small.METHOD)
    assert Model.load(model_folder(out)).scale.distribution == heavy
    with xr.open_zarr(out, chunks=None) as held:
        assert ErrorDistribution.of(held["sst_error"].attrs) == heavy
        assert ErrorDistribution.of(json.loads(held["sst"].attrs["sstfill_score"])) == heavy
        upper = held.gapfill.interval(0.9).sst_upper - held.sst
        np.testing.assert_allclose(upper, heavy.half_width(0.9) * held.sst_error, atol=1e-5)
    former = scaled(out, lambda written: written.pop("degrees_of_freedom"))
    assert former.scale.distribution.is_gaussian
    with pytest.raises(ReadError, match=r"score\.json"):
        scaled(out, lambda written: written.update(degrees_of_freedom=1.0))


def test_units_of_another_size_give_the_same_errors(archive, tmp_path, monkeypatch):
    """Each is the method's own error, times the factor for its distance in the whole archive."""
    for name, core in (("one", (4, 16, 16)), ("other", (7, 10, 14))):
        monkeypatch.setattr(sampling, "CORE", core)
        fill_archive(archive, tmp_path / f"{name}.zarr", Climatology())
    one, other = (small.loaded(tmp_path / f"{name}.zarr") for name in ("one", "other"))
    np.testing.assert_allclose(one.sst_error, other.sst_error, rtol=2e-3)
    model = Model.load(model_folder(tmp_path / "one.zarr"))
    plain = replace(model, scale=StratifiedScale.single(1.0), near=(0, 0, 0))
    given = small.ocean().sst
    factor = model.scale.at(*(part.values for part in distance_to_data(given)))
    gap = (one.sst_source == 1).values
    whole = sampling.gather(given, model.sea)
    window = next(sampling.windows(whole, PatchGrid(core=given.shape)))
    stated = plain.estimate(window)["error"].values
    np.testing.assert_allclose(one.sst_error.values[gap], (stated * factor)[gap], rtol=5e-3)


def test_recent_scores_are_relative_to_what_is_stored(filled):
    archive, out = filled
    source = ArchiveSource(path=str(archive))
    before = recent_score(out, source, 0)["sst"]["sigma_scale"]

    def twice(written):
        written["scale"]["factor"] = (2 * np.array(written["scale"]["factor"])).tolist()

    scaled(out, twice)
    assert recent_score(out, source, 0)["sst"]["sigma_scale"] == pytest.approx(before / 2, rel=0.02)


@pytest.mark.parametrize(
    "scale",
    [
        {"factor": [[1.0]]},
        {"factor": [[1e9, 1.0], [1.0, 1.0]]},
        {"distance_km": [5.0, 1.0]},
        {"lag_days": [0.0, 1.0]},
        {"near": [1, 1, -1]},
        {"near": [1, 1]},
    ],
)
def test_an_altered_scale_is_refused(filled, scale):
    _, out = filled
    two = {"distance_km": [1.0, 5.0], "lag_days": [1.0, 3.0], "factor": [[1.0, 2.0], [3.0, 4.0]]}
    good = two | {"near": [3, 2, 2]}
    found = scaled(out, lambda written: written.update(scale=good)).scale
    np.testing.assert_allclose(found.factor, two["factor"])
    with pytest.raises(ReadError, match=r"score\.json"):
        scaled(out, lambda written: written.update(scale=good | scale))


def test_a_model_of_before_has_one_factor(filled):
    _, out = filled
    model = scaled(out, lambda written: written.pop("scale") and written.update(sigma_scale=3.0))
    assert model.scale.is_single and model.scale.factor[0, 0] == pytest.approx(3.0)
    assert model.halo == model.fitted.halo
