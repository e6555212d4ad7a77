# SPDX-License-Identifier: Apache-2.0
"""A job folder that was damaged or altered is told in one line, and a fitted method that was
changed is never used.
"""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import small_archives as small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sstfill.archive import fill_archive
from sstfill.archive.model import Model, _fingerprint
from sstfill.archive.verify import verify
from sstfill.errors import ReadError, SstfillError
from sstfill.methods import BayesEof, Climatology, Dineof, Interpolate, Oi


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("filled")
    archive, out = small.put(small.ocean(6), folder / "in.zarr"), folder / "out.zarr"
    fill_archive(archive, out, small.METHOD)
    return Path(archive), out


@pytest.fixture
def copied(filled: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    for part in ("in.zarr", "out.zarr", "out.zarr.job"):
        shutil.copytree(filled[0].parent / part, tmp_path / part)
    return tmp_path / "in.zarr", tmp_path / "out.zarr"


def model_of(out: Path) -> Path:
    return next((out.parent / "out.zarr.job" / "model").iterdir())


def resigned(folder: Path) -> None:
    """Write the fingerprint anew, as somebody would who wants a changed model to be used."""
    (folder / "fingerprint").write_text(_fingerprint(folder))


SCALES = ["1e30", "NaN", "0", "-1", "null", '"1"', "1e999", "true"]
UNSIGNED = ["1e30", "true"]
"""Some that are not signed again: the fingerprint tells, whatever the value."""


@pytest.mark.parametrize(("scale", "sign"), [*product(SCALES, [True]), *product(UNSIGNED, [False])])
def test_a_changed_error_scale_is_refused(
    copied: tuple[Path, Path], scale: str, sign: bool
) -> None:
    archive, out = copied
    folder = model_of(out)
    told = json.loads((folder / "score.json").read_text())
    text = json.dumps(told | {"sigma_scale": "HERE"}).replace('"HERE"', scale)
    (folder / "score.json").write_text(text)
    if sign:
        resigned(folder)
    if sign and scale in ('"1"', "true"):
        return  # a number all the same, and a plausible one
    with pytest.raises(
        ReadError, match="score.json" if sign else "was changed since it was fitted"
    ) as raised:
        small.append(small.ocean(7).isel(time=[6]), archive)
        fill_archive(archive, out, update=True)
    assert "\n" not in str(raised.value) and "--refit" in str(raised.value)


def test_any_file_of_a_fitted_method_is_held_by_its_fingerprint(copied: tuple[Path, Path]) -> None:
    folder = model_of(copied[1])
    Model.load(folder)
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else b"x")
        with pytest.raises(ReadError, match="was changed since it was fitted: its fingerprint was"):
            Model.load(folder)
        file.write_bytes(content)
    Model.load(folder)
    (folder / ".nfs0001").write_text("left by the system")
    Model.load(folder)


METHODS = (Interpolate(), Climatology(), Dineof(modes=2), BayesEof(modes=2), Oi())


@pytest.fixture(scope="module", params=METHODS, ids=lambda method: method.name)
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    archive, out = small.put(small.ocean(8), folder / "in.zarr"), folder / "out.zarr"
    fill_archive(archive, out, request.param)
    return model_of(out)


NUMBERS = st.sampled_from([-1.0, 0, 1e31, -1e31, None, "x", True, [], {}, 10**30, 2, [[1.0]]])


@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_altered_state_that_was_signed_again(
    fitted: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Each number of each method is of its kind and within its range, whoever wrote the
    fingerprint.
    """
    folder = tmp_path_factory.mktemp("altered") / "model"
    shutil.copytree(fitted, folder)
    path = folder / "method" / "fitted.json"
    state = json.loads(path.read_text())
    place = state
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        break
    if data.draw(st.booleans()) and isinstance(place, dict):
        del place[key]
    else:
        place[key] = data.draw(NUMBERS)
    path.write_text(json.dumps(state))
    resigned(folder)
    try:
        model = Model.load(folder)
        assert (model.scale.factor >= 0.99e-6).all() and (model.scale.factor <= 1.01e6).all()
        assert all(side >= 0 for side in model.fitted.halo)
    except SstfillError as error:
        assert "\n" not in str(error)


FILES = (
    "job.json",
    "days/sst.npz",
    "model/sst/score.json",
    "model/sst/grid.npz",
    "model/sst/method/fitted.json",
    "model/sst/fingerprint",
    "commit",
    "next/job.json",
    "next/ledger",
)
CONTENT = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"[" * 50_000,
            b"9" * 5000,
            b'{"format": 1}',
            b"\xff",
            b"PK\x03\x04",
        ]
    ),
)


@given(name=st.sampled_from(FILES), content=CONTENT)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_damaged_file_of_a_job_is_one_line(
    filled, tmp_path_factory, name: str, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    for part in ("in.zarr", "out.zarr", "out.zarr.job"):
        shutil.copytree(filled[0].parent / part, folder / part)
    file = folder / "out.zarr.job" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    for act in (
        lambda: verify(folder / "out.zarr"),
        lambda: fill_archive(folder / "in.zarr", folder / "out.zarr", update=True),
        lambda: fill_archive(folder / "in.zarr", folder / "new.zarr", like=folder / "out.zarr"),
    ):
        try:
            act()
        except SstfillError as error:
            assert "\n" not in str(error)


JOBS = st.sampled_from([None, -1, 0, 2.5, "x", "../x", [], {}, ["../../x"], [["a"]], 10**30, True])


@given(data=st.data(), value=JOBS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_altered_request_is_one_line(
    filled, tmp_path_factory, data: st.DataObject, value: object
) -> None:
    folder = tmp_path_factory.mktemp("request")
    for part in ("in.zarr", "out.zarr", "out.zarr.job"):
        shutil.copytree(filled[0].parent / part, folder / part)
    path = folder / "out.zarr.job/job.json"
    told = json.loads(path.read_text())
    key = data.draw(st.sampled_from([*sorted(told), "added"]))
    if data.draw(st.booleans()) and key in told:
        del told[key]
    else:
        told[key] = value
    path.write_text(json.dumps(told))
    for act in (
        lambda: verify(folder / "out.zarr"),
        lambda: fill_archive(folder / "in.zarr", folder / "out.zarr", update=True),
    ):
        try:
            act()
        except SstfillError as error:
            assert "\n" not in str(error)


def test_days_of_another_sample_are_refused(copied: tuple[Path, Path]) -> None:
    archive, out = copied
    path = out.parent / "out.zarr.job/days/sst.npz"
    with np.load(path) as held:
        arrays = dict(held)
    np.savez(path, **arrays | {"sample": arrays["sample"][:, :-1]})
    with pytest.raises(ReadError, match="are not those of its fitted method; --refit"):
        fill_archive(archive, out, update=True)
