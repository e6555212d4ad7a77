# SPDX-License-Identifier: Apache-2.0
"""Random fields have the covariance that optimal interpolation takes them to have, on every grid,
and are the same wherever they are evaluated.
"""

from __future__ import annotations

import gaussian
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import InputError
from sstfill.methods.oi.covariance import Component, Covariance
from sstfill.methods.oi.geometry import Domain, positions
from sstfill.methods.oi.waves import RandomField, draw_waves, flat, waves_each

ONE = np.eye(1)
DAYS = np.array([0.0, 1.0, 1.5, 4.0, 9.0]) + 18_000
"""Absolute days, at irregular steps."""
COVARIANCES = {
    "exponential": (Component("exponential", 1.0, (60.0, 60.0), 3.0),),
    "matern": (Component("matern", 1.0, (60.0, 60.0), 3.0),),
    "gauss": (Component("gauss", 1.0, (60.0, 60.0), 3.0),),
    "anisotropic": (Component("matern", 1.0, (50.0, 80.0), 3.0),),
    "two-scale": (
        Component("matern", 0.7, (120.0, 90.0), 4.0),
        Component("exponential", 0.3, (40.0, 30.0), 1.0),
    ),
}


def made(name: str) -> Covariance:
    return Covariance(components=COVARIANCES[name], noise=0.0)


def grid(lat: NDArray, lon: NDArray) -> xr.DataArray:
    return xr.DataArray(np.zeros((len(lat), len(lon))), {"lat": lat, "lon": lon}, ("lat", "lon"))


def plane(ny: int, nx: int, cell: float) -> xr.DataArray:
    coords = {}
    for dim, n in (("y", ny), ("x", nx)):
        coords[dim] = (dim, cell * np.arange(n), {"units": "km"})
    return xr.DataArray(np.zeros((ny, nx)), coords, ("y", "x"))


GRIDS = {
    "plane": plane(24, 30, 12.0),
    "middle latitudes": grid(40 + 0.1 * np.arange(24), -5 + 0.13 * np.arange(30)),
    "across the date line": grid(-60 - 0.1 * np.arange(24), 178 + 0.2 * np.arange(30)),
    "near the pole": grid(80 + 0.2 * np.arange(24), 2.0 * np.arange(30)),
    "an ocean": grid(np.linspace(-38, 38, 39), np.linspace(100, 180, 41)),
}


def turns(field: RandomField, y: NDArray, x: NDArray, days: NDArray) -> NDArray[np.float64]:
    """Phase of every wave at some places and times, ``(n, wave)``."""
    in_space = [p[y, x] @ v.T for p, v in zip(field.place, field.vector, strict=True)]
    return np.concatenate(in_space, axis=1) + days[:, np.newaxis] * field.frequency


def covariances(
    image: xr.DataArray, model: Covariance, flow: tuple[float, float], most: int
) -> tuple[NDArray, NDArray]:
    """Covariances given the waves, and those of the model, of pairs of random pixels at most so
    many rows, columns and images apart.
    """
    at, rng = positions(image), np.random.default_rng(7)
    field = RandomField.draw(model, ONE, at, Domain.of(image), flow, 1, seed=3)
    size = np.repeat([c.variance for c in model.components], waves_each(model))
    size = size / waves_each(model)
    found, wanted = [], []
    for _ in range(400):
        t, s = rng.integers(len(DAYS), size=2)
        y, x = (rng.integers(n - most) for n in image.shape)
        y2, x2 = y + rng.integers(most + 1), x + rng.integers(most + 1)
        one, other = (
            turns(field, np.array([row]), np.array([column]), DAYS[[time]])
            for row, column, time in ((y, x, t), (y2, x2, s))
        )
        found.append(float(np.cos(2 * np.pi * (one - other)[0]) @ size))
        points = np.array([[0, t, y, x], [0, s, y2, x2]])
        place = (at.xyz, at.northward, at.eastward)
        wanted.append(
            gaussian.matrix(points[:1], points[1:], points[0], place, DAYS, model, ONE, flow)[0, 0]
        )
    return np.array(found), np.array(wanted)


@pytest.mark.parametrize("name", COVARIANCES)
@pytest.mark.parametrize("place", GRIDS)
@pytest.mark.parametrize("most", [2, 12], ids=["near", "far"])
def test_covariance_is_that_of_the_model(name, place, most) -> None:
    if place == "near the pole" and name == "two-scale":
        pytest.skip("no surface has so long scales along its meridians there")
    if place == "an ocean":
        components = []
        for shape, variance, (ly, lx), time_scale in COVARIANCES[name]:
            components.append(Component(shape, variance, (12 * ly, 12 * lx), time_scale))
        model = Covariance(components=tuple(components), noise=0.0)
    else:
        model = made(name)
    found, wanted = covariances(GRIDS[place], model, (0.0, 0.0), most)
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.025
    assert np.abs(found - wanted).max() < 0.09
    assert abs(np.mean(found - wanted)) < 0.01


@pytest.mark.parametrize("place", ["plane", "middle latitudes", "across the date line"])
def test_a_field_drifts_with_the_flow(place) -> None:
    flow = (0.25, -0.15)
    found, wanted = covariances(GRIDS[place], made("anisotropic"), flow, 6)
    still, _ = covariances(GRIDS[place], made("anisotropic"), (0.0, 0.0), 6)
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.03
    assert np.sqrt(np.mean((still - wanted) ** 2)) > 0.08


def test_flow_on_a_wide_domain_is_refused() -> None:
    wide = GRIDS["an ocean"]
    with pytest.raises(InputError, match=r"reaches \d+ degrees from its middle.*leave out flow"):
        flat(positions(wide), Domain.of(wide), (50.0, 50.0), (0.1, 0.0))


@pytest.mark.parametrize("shape", ["exponential", "matern", "gauss"])
@pytest.mark.parametrize("dims", [2, 3])
def test_each_shape_has_its_spectrum(shape, dims) -> None:
    from sstfill.methods.oi.covariance import SHAPES

    waves = draw_waves(shape, 2048, dims, np.random.default_rng(0))
    direction = np.full(dims, dims**-0.5)
    for distance in (0.05, 0.2, 0.5, 1.0, 2.0):
        phase = distance * waves.vector @ direction
        assert np.cos(phase).mean() == pytest.approx(SHAPES[shape](distance), abs=0.02)
        in_time = np.cos(distance * waves.frequency).mean()
        assert in_time == pytest.approx(SHAPES[shape](distance), abs=0.01)


def evaluated(
    image: xr.DataArray, needed: NDArray, members: int, box: tuple, seed: int = 5, channels: int = 1
) -> NDArray[np.float32]:
    """Fields at what is needed of a box, ``(channel, time, y, x, member)``, NaN elsewhere."""
    times, rows, columns = box
    at = positions(image).part(rows, columns)
    cross = np.full((channels, channels), 0.8) + 0.2 * np.eye(channels)
    field = RandomField.draw(
        made("two-scale"), cross, at, Domain.of(image), (0.0, 0.0), members, seed
    )
    part = needed[:, times, rows, columns]
    row = np.full(part.shape, -1, np.int32)
    row[part] = np.arange(part.sum())
    values = np.full((part.sum(), members), np.nan, np.float32)
    field.fill(values, row, DAYS[times], box)
    out = np.full((*part.shape, members), np.nan, np.float32)
    out[part] = values
    return out


def whole(image: xr.DataArray) -> tuple[slice, slice, slice]:
    return slice(0, len(DAYS)), slice(0, image.shape[0]), slice(0, image.shape[1])


def test_fields_are_sums_of_their_waves() -> None:
    image = GRIDS["middle latitudes"]
    needed = np.random.default_rng(0).random((1, len(DAYS), *image.shape)) < 0.3
    found = evaluated(image, needed, 3, whole(image))
    field = RandomField.draw(
        made("two-scale"), ONE, positions(image), Domain.of(image), (0.0, 0.0), 3, 5
    )
    _, t, y, x = np.nonzero(needed)
    phase = 2 * np.pi * turns(field, y, x, DAYS[t])
    cosine, sine = field.amplitude[0, :, 0], field.amplitude[0, :, 1]
    np.testing.assert_allclose(
        found[0, t, y, x], np.cos(phase) @ cosine.T + np.sin(phase) @ sine.T, atol=2e-5
    )


def test_a_part_of_a_field_is_the_same_alone() -> None:
    image = GRIDS["middle latitudes"]
    needed = np.random.default_rng(0).random((1, len(DAYS), *image.shape)) < 0.3
    every = evaluated(image, needed, 4, whole(image))
    box = (slice(1, 4), slice(5, 23), slice(13, 19))
    part = evaluated(image, needed, 2, box)
    np.testing.assert_allclose(part, every[:, *box][..., :2], atol=1e-5)
    other = evaluated(image, needed, 2, box, seed=6)
    assert np.nanstd(other - part) > 1


def test_members_are_independent_and_channels_correlated() -> None:
    image = GRIDS["plane"]
    needed = np.ones((2, len(DAYS), *image.shape), bool)
    needed[:, :, 1:] = needed[..., 1:] = False
    found = evaluated(image, needed, 3000, whole(image), channels=2)[:, 0, 0, 0]
    assert np.std(found) == pytest.approx(1.0, abs=0.04)
    assert np.corrcoef(found[0], found[1])[0, 1] == pytest.approx(0.8, abs=0.03)
    assert np.corrcoef(found[0, 1:], found[0, :-1])[0, 1] == pytest.approx(0.0, abs=0.06)


@pytest.mark.parametrize("place", GRIDS)
def test_a_domain_is_read_as_it_was_written(place) -> None:
    domain = Domain.of(GRIDS[place])
    assert Domain.from_dict(domain.to_dict()) == domain


def test_the_globe_has_no_middle() -> None:
    globe = grid(np.linspace(-89, 89, 90), np.linspace(0, 358, 180))
    assert Domain.of(globe).radius > 3.0
    place, _ = flat(positions(globe), Domain.of(globe), (50.0, 80.0))
    assert np.isfinite(place).all()
