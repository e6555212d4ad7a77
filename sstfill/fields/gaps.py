# SPDX-License-Identifier: Apache-2.0
"""Gaps: source flags, a survey of an archive, clouds transplanted from other dates, distances.

Fields have dims ``("time", y, x)`` whatever the two spatial dims are called. Masks are bool and
named after what is True: `observed`, `sea`, `withheld`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from sstfill.errors import InputError, OptionError

SOURCE_FLAGS = {"observed": 0, "filled": 1, "not_filled": 2, "withheld": 3, "land": 4}

Bools = NDArray[np.bool_]
Digests = NDArray[np.uint64]
Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray, NDArray, int, Digests]
Rng = np.random.Generator

PASSES = 4  # how often each image may be visited while clouds are transplanted
TRIES = 16  # donors tried for one target before it is left alone


def source_flags(
    obs: xr.DataArray, filled: xr.DataArray, sea: xr.DataArray, withheld: xr.DataArray | None = None
) -> xr.DataArray:
    """Flag where the value of each pixel comes from.

    Parameters
    ----------
    obs, filled
        The field before (NaN in the gaps) and after filling.
    sea
        True at sea. Land takes precedence over all other flags.
    withheld
        True at observed pixels that were hidden from the method, the flag next in precedence.

    Returns
    -------
    DataArray
        A CF flag variable, int8, dims of `obs`; lazy where `obs` is.
    """
    flag = {name: np.int8(value) for name, value in SOURCE_FLAGS.items()}
    gap = xr.where(filled.notnull(), flag["filled"], flag["not_filled"])
    source = xr.where(obs.notnull(), flag["observed"], gap)
    if withheld is not None:
        source = xr.where(withheld, flag["withheld"], source)
    # `where` orders the dims by their first occurrence, which need not be that of the field
    source = xr.where(sea, source, flag["land"]).astype(np.int8).transpose(*obs.dims)
    source.attrs = {
        "long_name": "where the value comes from",
        "flag_values": np.array(list(flag.values()), dtype=np.int8),
        "flag_meanings": " ".join(flag),
    }
    return source


def survey(
    obs: xr.DataArray, sea: xr.DataArray | None = None, *, fingerprint: bool = True
) -> xr.Dataset:
    """Count an archive's observations and compute its fingerprint, in one streaming pass.

    Parameters
    ----------
    obs
        Observations ``(time, y, x)``, NaN in the gaps; read block by block or image by image.
    sea
        True at sea: only these pixels are counted. The fingerprint always covers the whole array.
    fingerprint
        Whether to compute it, which takes most of the time.

    Returns
    -------
    Dataset
        Of finite observations ``pixel_count`` (y, x), ``image_count`` (time), and their extremes
        ``least`` and ``most`` (y, x), NaN where there are none; ``infinite``, the number of
        infinities. Attribute ``fingerprint``: 16 hex digits of the values, their positions and the
        shape. It does not depend on chunks, dtype (values are compared as float64) or the sign of
        0. It detects changes, not tampering.

    >>> field = xr.DataArray([[[1.0, np.nan]], [[2.0, 3.0]]], dims=("time", "lat", "lon"))
    >>> found = survey(field)
    >>> found.image_count.values.tolist()
    [1, 2]
    >>> found.fingerprint == survey(field.chunk(time=1)).fingerprint
    True
    """
    field = obs.transpose("time", ...)
    space = field.dims[1:]
    if sea is None:
        at_sea = np.ones(field.shape[1:], bool)
    else:
        at_sea = sea.transpose(*space).values.astype(bool)
    count = _survey_eager if field.chunks is None else _survey_lazy
    pixel, image, least, most, infinite, digest = count(field, at_sea, fingerprint)
    for n in field.shape:
        # the shape too: a field of one more image of nothing but gaps is another
        digest = _scramble(digest + np.uint64(n))
    attrs = {"fingerprint": f"{int(digest[0]):016x}"} if fingerprint else {}
    return xr.Dataset(
        {
            "pixel_count": (space, pixel),
            "image_count": ("time", image),
            "least": (space, least),
            "most": (space, most),
            "infinite": ((), infinite),
        },
        coords=obs.coords,
        attrs=attrs,
    )


def _survey_eager(field: xr.DataArray, sea: Bools, fingerprint: bool) -> Counts:
    values = field.values
    pixel = np.zeros(sea.shape, np.int64)
    images = np.zeros(len(values), np.int64)
    least = np.full(sea.shape, np.nan, values.dtype)
    most = least.copy()
    infinite = 0
    digest = np.zeros(1, np.uint64)
    for t, image in enumerate(values):
        present = np.isfinite(image) & sea
        pixel += present
        images[t] = np.count_nonzero(present)
        # fmin, not minimum: the NaN that it begins with gives way to the first value
        np.fmin(least, image, out=least, where=present)
        np.fmax(most, image, out=most, where=present)
        infinite += int(np.count_nonzero(np.isinf(image) & sea))
        if fingerprint:
            digest += _digest(image[np.newaxis], (t, 0, 0), values.shape)
    return pixel, images, least, most, infinite, digest


def _survey_lazy(field: xr.DataArray, sea: Bools, fingerprint: bool) -> Counts:
    import dask
    import dask.array as da

    blocks = field.data
    present = da.isfinite(blocks) & sea
    ones = tuple((1,) * n for n in blocks.numblocks)
    total: Any = np.zeros(1, np.uint64)
    if fingerprint:
        digests = blocks.map_blocks(
            _digest_block, chunks=ones, dtype=np.uint64, meta=np.empty((0, 0, 0), np.uint64)
        )
        total = digests.sum()
    wanted = (
        present.sum(axis=0),
        present.sum(axis=(1, 2)),
        da.where(present, blocks, np.inf).min(axis=0),
        da.where(present, blocks, -np.inf).max(axis=0),
        (da.isinf(blocks) & sea).sum(),
        total,
    )
    # all at once, so that each block is read once
    pixel, images, least, most, infinite, digest = dask.compute(*wanted)
    least = np.where(pixel > 0, least, np.nan).astype(field.dtype)
    most = np.where(pixel > 0, most, np.nan).astype(field.dtype)
    return pixel, images, least, most, int(infinite), np.atleast_1d(digest)


def _digest_block(block: NDArray[np.floating], block_info: dict) -> Digests:
    """Digest one Dask block; ``block_info`` is filled in by `dask.array.map_blocks`."""
    origin = tuple(start for start, _ in block_info[0]["array-location"])
    return _digest(block, origin, block_info[0]["shape"]).reshape(1, 1, 1)


def _digest(
    block: NDArray[np.floating], origin: tuple[int, ...], shape: tuple[int, ...]
) -> Digests:
    """Sum of a digest of each value present, of its bits and its place in the whole array: (1,)."""
    # keys by the place in the whole array, so that the digest does not depend on blocks
    pixel_key = _pixel_keys(block.shape[1:], origin[1:], shape[2])
    total = np.zeros(1, np.uint64)
    for t, image in enumerate(block, start=origin[0]):
        # Scrambled twice: scrambled once, an image's key could equal a pixel's.
        image_key = _scramble(_scramble(np.array([t], dtype=np.uint64)))
        total += _digest_image(image, pixel_key + image_key)
    return total


def _pixel_keys(shape: tuple[int, ...], origin: tuple[int, ...], width: int) -> Digests:
    """A random number for each pixel of a part of images `width` pixels wide, ``(y, x)``."""
    rows = np.arange(origin[0], origin[0] + shape[0], dtype=np.uint64)
    columns = np.arange(origin[1], origin[1] + shape[1], dtype=np.uint64)
    return _scramble(rows[:, np.newaxis] * np.uint64(width) + columns)


def _digest_image(image: NDArray[np.floating], keys: Digests) -> np.uint64:
    present = ~np.isnan(image)
    values = image[present].astype(np.float64) + 0.0  # which makes -0.0 the same as 0.0
    # a sum modulo 2**64 is the same in any order of the blocks
    return _scramble(values.view(np.uint64) ^ keys[present]).sum(dtype=np.uint64)


def image_digests(images: NDArray[np.floating], origin: tuple[int, int], width: int) -> Digests:
    """Digest of the observations of each image, ``(time,)``; those of an image's parts add up.

    `images` ``(time, y, x)`` are a part of images `width` pixels wide, whose first pixel lies at
    `origin` ``(y, x)``.

    >>> image = np.array([[[1.0, np.nan], [3.0, 4.0]]])
    >>> parts = image_digests(image[:, :1], (0, 0), 2) + image_digests(image[:, 1:], (1, 0), 2)
    >>> bool((parts == image_digests(image, (0, 0), 2)).all())
    True
    """
    keys = _pixel_keys(images.shape[1:], origin, width)
    digests = np.zeros(len(images), np.uint64)
    for t, image in enumerate(images):
        digests[t] = _digest_image(image, keys)
    return digests


def _scramble(numbers: Digests) -> Digests:
    """Finaliser of the generator splitmix64, a bijection (Steele, Lea & Flood 2014, OOPSLA)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        # unsigned arithmetic wraps around, which is meant here
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    return z


def cloud_fraction(observed: xr.DataArray, sea: xr.DataArray) -> xr.DataArray:
    """Fraction of the sea that is not observed, 0 to 1, for each time."""
    fraction = 1 - (observed & sea).sum(sea.dims) / sea.sum()
    return fraction.assign_attrs(long_name="fraction of the sea not observed", units="1")


def derived_seed(seed: int, purpose: int) -> int:
    """Derive a seed for one purpose, so that no two purposes hide the same clouds.

    >>> derived_seed(0, 2) != derived_seed(0, 3)
    True
    """
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


def transplant_clouds(
    obs: xr.DataArray,
    sea: xr.DataArray,
    *,
    fraction: float = 0.1,
    seed: int = 0,
    clouds: xr.DataArray | None = None,
    keep: float = 0.1,
    min_cover: float = 0.02,
) -> xr.DataArray:
    """Choose observed pixels to hide, in the shape of clouds of other dates.

    A test with single hidden pixels flatters a method, since their neighbours give them away; one
    with clouds does not. Images are taken in random order, and each is covered with the gap of a
    random other image, until `fraction` is hidden. The last cloud is trimmed to its part nearest to
    a random point, so that the fraction is met.

    Parameters
    ----------
    obs
        Observations (NaN in the gaps) or a bool array, True where observed; dims ``(time, y, x)``.
    sea
        True at sea, the two spatial dims of `obs`.
    fraction
        Fraction of all observed sea pixels to hide, between 0 and 1.
    seed
        Equal seeds hide equal pixels.
    clouds
        True or 1 under cloud: masks to use instead of the gaps of other dates. Dims time (of any
        length), y, x, or those of `obs` by name in any order.
    keep
        Fraction of its observed pixels that each image keeps at least.
    min_cover
        Images that lack less than this fraction of the sea, or all of it, donate no clouds; images
        that show less than this fraction are left alone.

    Returns
    -------
    DataArray
        bool, dims of `obs`: True at observed sea pixels to hide. Attribute ``fraction``: the
        fraction hidden, within a pixel of the one asked for unless there are too few clouds.

    Raises
    ------
    InputError
        Nothing is observed, no image has clouds, `clouds` does not fit, or the clouds hide less
        than half of `fraction`.
    OptionError
        `fraction` or `keep` is not between 0 and 1.

    References
    ----------
    Beckers, Barth & Alvera-Azcarate 2006, DINEOF reconstruction of clouded images including error
    maps, Ocean Sci. 2.
    """
    for option, value in (("fraction", fraction), ("keep", keep)):
        if not isinstance(value, int | float | np.number) or not 0 < value < 1:
            raise OptionError(
                f"{option}={value!r} is not between 0 and 1; ten per cent is written 0.1"
            )
    ordered = obs.transpose("time", ...)
    at_sea = sea.transpose(*ordered.dims[1:]).values.astype(bool)
    seen = ordered if ordered.dtype == bool else ordered.notnull()
    observed = seen.values & at_sea
    counts = np.count_nonzero(observed, axis=(1, 2))
    if not counts.any():
        raise InputError(
            f"nothing is observed at sea in {obs.name!r}; check the sea mask and the fill value"
        )
    clear = observed if clouds is None else ~_cloud_masks(clouds, ordered.dims, at_sea)
    donors = _donors(clear, at_sea, min_cover)
    rng = np.random.default_rng(seed)
    targets = np.flatnonzero(counts >= max(1, min_cover * np.count_nonzero(at_sea)))
    # each image once before any is visited again
    order = np.concatenate([rng.permutation(targets) for _ in range(PASSES)])
    hidden = np.zeros_like(observed)
    wanted = max(1, round(fraction * counts.sum()))
    for target in order:
        image = observed[target]
        # what may still be hidden of it, after earlier visits
        spare = int((1 - keep) * np.count_nonzero(image) - np.count_nonzero(hidden[target]))
        # An image's own gap would hide nothing that it shows.
        others = donors[donors != target] if clouds is None else donors
        tried = rng.permutation(others)[:TRIES]
        cloud = _first_that_fits(image & ~hidden[target], clear, tried, spare)
        if np.count_nonzero(cloud) > wanted:
            rows, columns = np.nonzero(cloud)
            centre = rng.integers(rows.size)
            cloud = nearest_part(cloud, wanted, (rows[centre], columns[centre]))
        hidden[target] |= cloud
        wanted -= int(np.count_nonzero(cloud))
        if not wanted:
            break
    reached = np.count_nonzero(hidden) / counts.sum()
    if reached < fraction / 2:
        raise InputError(
            f"the clouds of {len(donors)} usable images hide {reached:.1%} of the observed pixels, "
            f"not {fraction:.1%}; ask for a smaller fraction, or pass other masks as clouds="
        )
    withheld = ordered.copy(data=hidden).transpose(*obs.dims).rename("withheld")
    withheld.attrs = {
        "long_name": "hidden from the method",
        "fraction": float(reached),
        "seed": seed,
    }
    return withheld


def transplant_together(
    obs: xr.DataArray,
    sea: xr.DataArray,
    *,
    fraction: float,
    seed: int,
    clouds: xr.DataArray | None = None,
) -> xr.DataArray:
    """Choose observed pixels of several variables to hide, as `transplant_clouds` does for one.

    Each variable is hidden where the *same* other date lacks it. Variables that are cloudy together
    are therefore hidden together, and none gives away another's withheld values; a variable without
    gaps stays whole.

    Parameters
    ----------
    obs
        Observations with a dim ``variable``.
    clouds
        Masks to hide under instead, with the dims of `obs`.
    """
    y, x = sea.dims
    n = obs.sizes["variable"]

    def side_by_side(masks: xr.DataArray) -> xr.DataArray:
        """Make one wide image of the variables of each date."""
        values = masks.transpose("time", y, "variable", x).values
        # one image beside the other: the same donor then covers all variables of a date
        wide = values.reshape(*values.shape[:2], -1)
        return xr.DataArray(wide, dims=("time", y, x), name="variables")

    observed = obs.notnull()
    wide_sea = xr.DataArray(np.tile(sea.values, (1, n)), dims=sea.dims)
    wide_clouds = None if clouds is None else side_by_side(clouds)
    hidden = transplant_clouds(
        side_by_side(observed), wide_sea, fraction=fraction, seed=seed, clouds=wide_clouds
    )
    parts = hidden.values.reshape(*hidden.shape[:2], n, -1)
    withheld = xr.DataArray(parts, dims=("time", y, "variable", x)).transpose(*obs.dims)
    result = observed.copy(data=withheld.values).drop_attrs(deep=False)
    return result.rename("withheld").assign_attrs(hidden.attrs)


def _cloud_masks(clouds: xr.DataArray, dims: tuple[Hashable, ...], sea: Bools) -> Bools:
    if not isinstance(clouds, xr.DataArray):
        raise InputError(
            f"clouds is a {type(clouds).__name__}; give an xarray DataArray of (time, y, x)"
        )
    if set(clouds.dims) == set(dims):
        clouds = clouds.transpose(*dims)
    values = clouds.values
    if values.dtype.kind not in "biu" or not ((values == 0) | (values == 1)).all():
        raise InputError(
            f"clouds has dtype {clouds.dtype}, not bool, nor 0 and 1 only; "
            "pass True under cloud, e.g. liquid_water_path > 70"
        )
    if values.ndim != 3 or values.shape[1:] != sea.shape:
        raise InputError(
            f"clouds has shape {clouds.shape}, the field (time, {sea.shape[0]}, {sea.shape[1]}); "
            "crop it"
        )
    return values.astype(bool)


def _donors(clear: Bools, sea: Bools, min_cover: float) -> NDArray[np.intp]:
    """Indices of the images that have some cloud over the sea, but not only cloud."""
    cover = 1 - np.array([np.count_nonzero(image & sea) for image in clear]) / np.count_nonzero(sea)
    donors = np.flatnonzero((cover >= min_cover) & (cover < 1))
    if not donors.size:
        raise InputError(
            f"none of {len(clear)} images has clouds over {min_cover:.0%} to 100 % of the sea to "
            "hide other dates under; pass cloud masks as clouds="
        )
    return donors


def _first_that_fits(visible: Bools, clear: Bools, donors: NDArray[np.intp], at_most: int) -> Bools:
    """What the first donor hides that hides something, but not too much; nothing if none does."""
    for donor in donors:
        cloud = visible & ~clear[donor]
        if 0 < np.count_nonzero(cloud) <= at_most:
            return cloud
    return np.zeros_like(visible)


def nearest_part(cloud: Bools, most: int, centre: tuple[int, int]) -> Bools:
    """Trim a cloud ``(..., y, x)`` to the `most` pixels nearest in row and column to a point.

    >>> nearest_part(np.ones((1, 5), bool), 2, (0, 4)).astype(int)
    array([[0, 0, 0, 1, 1]])
    """
    places = np.flatnonzero(cloud)
    if places.size <= most:
        return cloud
    part = np.zeros(cloud.shape, bool)
    if most < 1:
        return part
    height, width = cloud.shape[-2:]
    of_pixel = np.hypot.outer(np.arange(height) - centre[0], np.arange(width) - centre[1])
    distance = of_pixel.ravel()[places % of_pixel.size]
    largest = np.partition(distance, most - 1)[most - 1]
    nearer, as_far = places[distance < largest], places[distance == largest]
    part.flat[nearer] = True
    # equal distances are decided alike on every machine: the first of them are taken
    part.flat[as_far[: most - nearer.size]] = True
    return part


def distance_to_observed(
    observed: Bools, spacing: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.float32]:
    """Distance of each pixel to the nearest observed one of its own image.

    `observed` and the result have shape (time, y, x). Distances are in the units of `spacing`, the
    size of a pixel along y and x (the default counts pixels): 0 at observed pixels, infinite in an
    image without any.

    >>> distance_to_observed(np.array([[[True, False, False]]]))
    array([[[0., 1., 2.]]], dtype=float32)
    """
    distance = np.full(observed.shape, np.inf, dtype=np.float32)
    for t in np.flatnonzero(observed.any(axis=(1, 2))):
        # distance to the nearest 0; an image without any would get nonsense, and stays infinite
        distance[t] = distance_transform_edt(~observed[t], sampling=spacing)
    return distance


def days_to_either_side(
    observed: Bools, days: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Days since the last observation of each pixel, and until its next; ``(time, pixel)``.

    0 where observed, infinite where there is none on that side.

    >>> observed = np.array([[True], [False], [False]])
    >>> since, until = days_to_either_side(observed, np.array([0.0, 1.0, 5.0]))
    >>> since.ravel().tolist(), until.ravel().tolist()
    ([0.0, 1.0, 5.0], [0.0, inf, inf])
    """
    times = np.asarray(days, dtype=np.float64)[:, np.newaxis]
    last = np.maximum.accumulate(np.where(observed, times, -np.inf), axis=0)
    following = np.minimum.accumulate(np.where(observed, times, np.inf)[::-1], axis=0)[::-1]
    return times - last, following - times


def days_to_observed(observed: Bools, days: NDArray[np.floating]) -> NDArray[np.float32]:
    """Days from each pixel and time to the nearest observation of that pixel, earlier or later.

    `observed` and the result have shape (time, y, x); `days`, shape (time,), increases in steps of
    any length. The result is 0 where observed, infinite where the pixel never is.

    >>> observed = np.array([[[True]], [[False]], [[False]]])
    >>> days_to_observed(observed, np.array([0.0, 1.0, 5.0])).ravel()
    array([0., 1., 5.], dtype=float32)
    """
    lag = np.empty(observed.shape, dtype=np.float32)
    # A row of pixels at a time keeps the float64 temporaries small.
    for row in range(observed.shape[1]):
        lag[:, row] = np.minimum(*days_to_either_side(observed[:, row], days))
    return lag
