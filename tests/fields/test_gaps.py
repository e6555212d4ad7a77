# SPDX-License-Identifier: Apache-2.0
"""Gaps: flags, survey and fingerprint, clouds transplanted from other dates, distances."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from sstfill.errors import InputError, OptionError
from sstfill.fields import gaps
from sstfill.fields.gaps import (
    SOURCE_FLAGS,
    cloud_fraction,
    days_to_observed,
    distance_to_observed,
    source_flags,
    survey,
    transplant_clouds,
)
from sstfill.synthetic import ocean

DIMS = ("time", "lat", "lon")


def cloudy_field(seed: int = 0, shape: tuple[int, int, int] = (30, 20, 24)) -> xr.DataArray:
    """Noise under blob-shaped clouds of varying cover, land in a corner, dims `DIMS`."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.normal(size=shape), (0, 3, 3))
    cover = rng.uniform(0.05, 0.8, shape[0])
    limit = np.array([np.quantile(b, c) for b, c in zip(blobs, cover, strict=True)])
    values = rng.normal(size=shape)
    values[blobs < limit[:, np.newaxis, np.newaxis]] = np.nan
    values[:, :5, :5] = np.nan
    return xr.DataArray(values, dims=DIMS, name="sst")


def sea_of(field: xr.DataArray) -> xr.DataArray:
    sea = xr.ones_like(field.isel(time=0), dtype=bool)
    sea[:5, :5] = False
    return sea


FIELD = cloudy_field()
SEA = sea_of(FIELD)
OBSERVED = FIELD.notnull() & SEA


# --- source flags ---


@pytest.mark.parametrize("chunks", [None, {"time": 1}])
def test_each_flag_where_it_belongs(chunks):
    nan = np.nan
    obs = xr.DataArray([[[1.0, nan, nan, 2.0, 3.0, 4.0]]], dims=DIMS)
    filled = xr.DataArray([[[1.0, 5.0, nan, 9.0, nan, nan]]], dims=DIMS)
    withheld = xr.DataArray([[[False, False, False, True, True, True]]], dims=DIMS)
    sea = xr.DataArray([[True, True, True, True, True, False]], dims=DIMS[1:])
    if chunks:
        obs, filled = obs.chunk(chunks), filled.chunk(chunks)
    flags = source_flags(obs, filled, sea, withheld)
    names = ["observed", "filled", "not_filled", "withheld", "withheld", "land"]
    assert flags.values.ravel().tolist() == [SOURCE_FLAGS[n] for n in names]
    assert (
        flags.dtype == np.int8
        and flags.dims == obs.dims
        and (flags.chunks is None) == (chunks is None)
    )


def test_flag_attributes_are_cf():
    flags = source_flags(FIELD, FIELD, SEA)
    assert flags.attrs["flag_values"].dtype == np.int8
    assert (
        dict(zip(flags.flag_meanings.split(), flags.flag_values.tolist(), strict=True))
        == SOURCE_FLAGS
    )
    assert set(np.unique(flags)) == {0, 2, 4}


# --- survey ---


def test_counts():
    field = FIELD.copy()
    field[3, 10, 10] = np.inf
    field[0, 0, 0] = -np.inf  # on land
    found = survey(field, SEA)
    expected = np.isfinite(field) & SEA
    assert (found.pixel_count == expected.sum("time")).all()
    assert (found.image_count == expected.sum(("lat", "lon"))).all()
    assert int(found.infinite) == 1 and int(survey(field).infinite) == 2
    np.testing.assert_array_equal(found.least, field.where(expected).min("time"))
    np.testing.assert_array_equal(found.most, field.where(expected).max("time"))


WHOLE = survey(FIELD, SEA)


@settings(max_examples=6, deadline=None)
@given(t=st.integers(5, 30), y=st.integers(5, 20), x=st.integers(5, 24))
@example(t=1, y=20, x=24)
@example(t=30, y=3, x=3)
def test_survey_heeds_no_chunking(t, y, x):
    assert survey(FIELD.chunk(time=t, lat=y, lon=x), SEA).identical(WHOLE)


def test_survey_reads_each_block_once():
    import dask.array as da

    reads = []

    def load(block_info=None):
        reads.append(block_info[None]["chunk-location"])
        return np.ones((2, 3, 4))

    blocks = da.map_blocks(
        load, chunks=((2, 2), (3,), (4, 4)), dtype=float, meta=np.empty((0, 0, 0))
    )
    survey(xr.DataArray(blocks, dims=DIMS))
    assert sorted(reads) == [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)]


def fingerprint(values: np.ndarray) -> str:
    return survey(xr.DataArray(values, dims=DIMS)).fingerprint


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 119), st.sampled_from([0.0, 1.0, -7.5, 1e-300, np.inf, np.nan]))
def test_fingerprint_sees_a_change_of_any_value(place, value):
    values = np.random.default_rng(0).normal(size=(4, 5, 6))
    changed = values.copy()
    changed.flat[place] = value
    assert fingerprint(changed) != fingerprint(values)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 119), min_size=2, max_size=2, unique=True), st.booleans())
def test_fingerprint_sees_a_swap(places, with_gap):
    values = np.random.default_rng(0).normal(size=(4, 5, 6))
    if with_gap:
        values.flat[places[0]] = np.nan
    swapped = values.copy()
    swapped.flat[places] = values.flat[places[::-1]]
    assert fingerprint(swapped) != fingerprint(values)


def test_fingerprint_sees_swaps_where_time_and_pixel_number_agree():
    values = np.random.default_rng(0).normal(size=(6, 2, 3))
    swapped = values.reshape(6, 6).copy()
    swapped[np.arange(6), np.arange(6)] = swapped[np.arange(6), np.arange(6)][::-1]
    assert fingerprint(swapped.reshape(6, 2, 3)) != fingerprint(values)


def test_fingerprint_sees_the_shape():
    values = np.random.default_rng(0).normal(size=(4, 5, 6))
    shapes = [(4, 5, 6), (4, 6, 5), (5, 4, 6), (1, 20, 6), (120, 1, 1)]
    assert len({fingerprint(values.reshape(shape)) for shape in shapes}) == len(shapes)
    assert fingerprint(np.full((1, 2, 3), np.nan)) != fingerprint(np.full((2, 1, 3), np.nan))


def test_fingerprint_heeds_neither_dtype_nor_nan_payload_nor_sign_of_zero():
    values = np.array([[[0.0, np.nan, 1.5]]])
    other = np.array([[[-0.0, -np.nan, 1.5]]], dtype=np.float32)
    assert fingerprint(values) == fingerprint(other)
    assert int(fingerprint(values), 16) < 2**64 and len(fingerprint(values)) == 16


# --- cloud fraction and distances ---


def test_cloud_fraction_heeds_the_sea_only():
    observed = xr.DataArray([[[True, False, True]], [[True, True, False]]], dims=DIMS)
    sea = xr.DataArray([[True, True, False]], dims=DIMS[1:])
    assert cloud_fraction(observed, sea).values.tolist() == [0.5, 0.0]


def test_distance_by_brute_force():
    observed, spacing = OBSERVED.values[:4].copy(), (2.0, 0.5)
    observed[2] = False
    found = distance_to_observed(observed, spacing)
    grid = np.moveaxis(np.indices(observed.shape[1:]), 0, -1) * spacing
    for t in (0, 1, 3):
        apart = np.linalg.norm(grid[:, :, np.newaxis] - grid[observed[t]], axis=-1)
        np.testing.assert_allclose(found[t], apart.min(axis=-1), rtol=1e-6)
    assert np.isinf(found[2]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_days_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    observed = rng.random((7, 2, 3)) < 0.3
    days = np.cumsum(rng.uniform(0.1, 5, 7))
    apart = np.where(
        observed, np.abs(days[:, np.newaxis] - days)[:, :, np.newaxis, np.newaxis], np.inf
    )
    np.testing.assert_allclose(
        days_to_observed(observed, days), apart.min(axis=1), rtol=1e-5, atol=1e-6
    )


# --- transplanted clouds ---


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), fraction=st.floats(0.01, 0.3), keep=st.floats(0.05, 0.4))
def test_law_of_transplanted_clouds(seed, fraction, keep):
    withheld = transplant_clouds(FIELD, SEA, fraction=fraction, seed=seed, keep=keep)
    assert withheld.dtype == bool and withheld.dims == FIELD.dims
    assert not (withheld & ~OBSERVED).any()
    assert abs(int(withheld.sum()) - fraction * int(OBSERVED.sum())) <= 1
    left = (OBSERVED & ~withheld).sum(("lat", "lon"))
    assert (left >= keep * OBSERVED.sum(("lat", "lon")) - 1e-9).all()


def test_seed_decides():
    first, again, other = (transplant_clouds(FIELD, SEA, seed=s) for s in (3, 3, 4))
    assert first.identical(again) and not first.equals(other)


def test_input_may_be_bool_lazy_or_transposed():
    expected = transplant_clouds(FIELD, SEA)
    assert transplant_clouds(FIELD.notnull(), SEA).equals(expected)
    assert transplant_clouds(FIELD.chunk(time=7, lat=9), SEA).equals(expected)
    turned = transplant_clouds(FIELD.transpose("lat", "time", "lon"), SEA.T)
    assert turned.dims == ("lat", "time", "lon") and turned.transpose(*DIMS).equals(expected)


def test_hidden_pieces_lie_under_the_cloud_of_one_donor():
    clouds = xr.zeros_like(FIELD.isel(time=slice(3)), dtype=bool)
    clouds[0, 8:16, 8:16] = True  # the only donor with some cloud
    clouds[1] = True
    full = xr.ones_like(FIELD)
    withheld = transplant_clouds(full, SEA, clouds=clouds, fraction=0.05)
    assert not (withheld & ~clouds[0]).any()
    sizes = withheld.sum(("lat", "lon")).values
    assert np.count_nonzero(sizes == 64) == sizes.sum() // 64 > 3  # whole clouds, but for the last


def test_own_gaps_come_from_other_dates():
    values = np.ones((2, 4, 10))
    values[0, :, :3] = np.nan
    values[1, :, 6:] = np.nan
    field = xr.DataArray(values, dims=DIMS)
    withheld = transplant_clouds(field, xr.ones_like(field[0], dtype=bool), fraction=0.4)
    assert withheld[0, :, 6:].any() and withheld[1, :, :3].any()
    assert not withheld[:, :, 3:6].any()


def test_whole_and_empty_images_are_no_donors_and_no_image_is_hidden_whole():
    values = np.ones((6, 10, 10))
    values[1] = np.nan  # no image at all
    values[2, 0, 0] = np.nan  # hardly a cloud
    values[3, :, :4] = np.nan
    field = xr.DataArray(values, dims=DIMS)
    withheld = transplant_clouds(field, xr.ones_like(field[0], dtype=bool), fraction=0.2)
    assert not withheld[:, :, 4:].any() and not withheld[1].any() and not withheld[3].any()


def test_images_with_hardly_an_observation_are_left_alone():
    field = cloudy_field(5)
    field[4] = np.nan
    field[4, 10, 10] = 1.0
    assert not any(transplant_clouds(field, SEA, fraction=0.3, seed=s)[4].any() for s in range(10))


def test_last_piece_is_compact():
    field = xr.ones_like(FIELD)
    clouds = xr.ones_like(FIELD.isel(time=[0]), dtype=bool)
    clouds[0, -1, -4:] = False
    withheld = transplant_clouds(field, SEA, clouds=clouds, fraction=0.002, keep=0.001)
    rows, columns = np.nonzero(withheld.any("time").values)
    assert rows.size > 8 and max(np.ptp(rows), np.ptp(columns)) <= 2 * np.sqrt(rows.size) + 1


def test_no_clouds_is_an_error_with_the_remedy():
    with pytest.raises(InputError, match="clouds="):
        transplant_clouds(xr.ones_like(FIELD), SEA)


def test_nothing_observed_is_an_error():
    with pytest.raises(InputError, match="nothing is observed"):
        transplant_clouds(FIELD * np.nan, SEA)


def test_too_few_clouds_for_the_fraction_is_an_error():
    field = xr.ones_like(FIELD)
    field[0, 10:12, :] = np.nan
    with pytest.raises(InputError, match="smaller fraction"):
        transplant_clouds(field, SEA, fraction=0.5)


def test_half_of_the_fraction_is_accepted_and_told():
    field = xr.ones_like(FIELD)
    field[0, 6:12, :] = np.nan  # about a third of the sea
    withheld = transplant_clouds(field, SEA, fraction=0.5)
    assert 0.25 <= withheld.fraction < 0.5
    assert withheld.fraction == pytest.approx(float(withheld.sum() / (field.notnull() & SEA).sum()))


def test_clouds_of_integers_by_name_or_by_shape():
    clouds = FIELD[:7].isnull()
    expected = transplant_clouds(FIELD, SEA, clouds=clouds)
    for masks in (
        clouds.astype(np.uint8),
        clouds.chunk(time=2),
        clouds.transpose("lon", "time", "lat"),
        clouds.rename(time="t", lat="a", lon="b"),
    ):
        assert transplant_clouds(FIELD, SEA, clouds=masks).identical(expected)
    square, sea = FIELD[:, :20, :20], SEA[:20, :20]  # where the shape tells nothing
    masks = square.isnull()
    expected = transplant_clouds(square, sea, clouds=masks)
    assert transplant_clouds(square, sea, clouds=masks.transpose("time", "lon", "lat")).identical(
        expected
    )


@pytest.mark.parametrize(
    ("clouds", "message"),
    [
        (FIELD, "bool"),
        (FIELD[:, 1:] > 0, "crop"),
        (FIELD[0] > 0, "shape"),
        ((FIELD > 0) * 2, "0 and 1"),
        (FIELD.isnull().values, "ndarray; give an xarray DataArray"),
    ],
)
def test_clouds_that_do_not_fit(clouds, message):
    with pytest.raises(InputError, match=message):
        transplant_clouds(FIELD, SEA, clouds=clouds)


@pytest.mark.parametrize(
    "option",
    [
        {"fraction": 0.0},
        {"fraction": 10},
        {"fraction": "0.1"},
        {"fraction": np.nan},
        {"keep": 1.0},
        {"keep": -0.1},
    ],
)
def test_options_out_of_range(option):
    with pytest.raises(OptionError, match="between 0 and 1"):
        transplant_clouds(FIELD, SEA, **option)


@pytest.mark.parametrize("seed", range(3))
def test_a_real_series_of_ten_images(shared_data, seed):
    with xr.open_dataset(shared_data / "dineof" / "alboran_sst.nc") as ds:
        sst, sea = ds.sst.load(), ds.mask.load() == 1
    withheld = transplant_clouds(sst, sea, seed=seed)
    observed = sst.notnull() & sea
    assert withheld.fraction == pytest.approx(0.1, abs=0.0005) and not (withheld & ~observed).any()


def test_variables_cloudy_together_are_hidden_together():
    ds = ocean(shape=(30, 24, 24), seed=1)
    other = (2 * ds.sst + 1).where(
        xr.DataArray(np.arange(30) != 7, dims="time")
    )  # one image is missing
    obs = xr.concat([ds.sst, other], xr.Variable("variable", ["sst", "other"]))
    hidden = gaps.transplant_together(obs, ds.sea == 1, fraction=0.1, seed=0)
    assert hidden.dims == obs.dims and not bool((hidden & obs.isnull()).any())
    assert float(hidden.sum() / obs.notnull().sum()) == pytest.approx(0.1, abs=0.01)
    one, two = hidden
    given_away = one & ~two & other.notnull()
    assert (
        float(given_away.sum() / one.sum()) < 0.15
    )  # where the missing image lent its gap, and at the trimmed end
    whole = xr.concat([ds.sst, xr.zeros_like(ds.sst)], obs["variable"])
    assert not bool(gaps.transplant_together(whole, ds.sea == 1, fraction=0.04, seed=0)[1].any())
