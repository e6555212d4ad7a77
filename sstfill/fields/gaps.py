# SPDX-License-Identifier: Apache-2.0
"""What is missing: source flags, a survey of an archive's gaps, clouds transplanted from other
dates, distances.

Fields have dims ``("time", y, x)`` whatever the two spatial dims are called; masks are bool and
tell what is true: `observed`, `sea`, `withheld`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from sstfill.errors import InputError, OptionError

SOURCE_FLAGS = {"observed": 0, "filled": 1, "not_filled": 2, "withheld": 3, "land": 4}

Bools = NDArray[np.bool_]
Words = NDArray[np.uint64]
Survey = tuple[NDArray[np.int64], NDArray[np.int64], NDArray, NDArray, int, Words]
Rng = np.random.Generator
Visit = tuple[int, NDArray[np.intp]]

PASSES = 4  # how often each image may be visited while clouds are transplanted
TRIES = 16  # donors tried for one target before it is passed over


def source_flags(
    obs: xr.DataArray, filled: xr.DataArray, sea: xr.DataArray, withheld: xr.DataArray | None = None
) -> xr.DataArray:
    """Say of each pixel where its value comes from: a CF flag variable, int8, dims of `obs`; lazy
    where that is.

    `obs` and `filled` are the field before (NaN in the gaps) and after filling. `sea` is True at
    sea; land wins over everything else. `withheld` is True at observed pixels that were hidden from
    the method; it wins over the rest.
    """
    flag = {name: np.int8(value) for name, value in SOURCE_FLAGS.items()}
    gap = xr.where(filled.notnull(), flag["filled"], flag["not_filled"])
    source = xr.where(obs.notnull(), flag["observed"], gap)
    if withheld is not None:
        source = xr.where(withheld, flag["withheld"], source)
    source = xr.where(sea, source, flag["land"]).astype(np.int8).transpose(*obs.dims)
    source.attrs = {
        "long_name": "where the value comes from",
        "flag_values": np.array(list(flag.values()), dtype=np.int8),
        "flag_meanings": " ".join(flag),
    }
    return source


def survey(obs: xr.DataArray, sea: xr.DataArray | None = None) -> xr.Dataset:
    """Count an archive's observations and take its fingerprint, in one streaming pass.

    `obs` (time, y, x), NaN in the gaps, is read once, block by block or image by image. With `sea`,
    True at sea, the counts heed nothing else; the fingerprint always covers the whole array.

    Returns ``pixel_count`` (y, x) and ``image_count`` (time), of finite observations, ``least`` and
    ``most`` (y, x), their extremes (NaN where there are none), and ``infinite``, the number of
    infinities. Attribute ``fingerprint``: 16 hex digits of the values, their positions and the
    shape; independent of chunks, of dtype (values are compared as float64) and of the sign of 0. It
    detects change, not tampering.

    >>> field = xr.DataArray([[[1.0, np.nan]], [[2.0, 3.0]]], dims=("time", "lat", "lon"))
    >>> found = survey(field)
    >>> found.image_count.values.tolist(), found.attrs["fingerprint"] == survey(field.chunk(time=1)).fingerprint
    ([1, 2], True)
    """
    field = obs.transpose("time", ...)
    space = field.dims[1:]
    at_sea = (
        np.ones(field.shape[1:], bool) if sea is None else sea.transpose(*space).values.astype(bool)
    )
    read = _survey_eager if field.chunks is None else _survey_lazy
    pixel, image, least, most, infinite, digest = read(field, at_sea)
    for n in field.shape:
        digest = _scramble(digest + np.uint64(n))
    return xr.Dataset(
        {
            "pixel_count": (space, pixel),
            "image_count": ("time", image),
            "least": (space, least),
            "most": (space, most),
            "infinite": ((), infinite),
        },
        coords=obs.coords,
        attrs={"fingerprint": f"{int(digest[0]):016x}"},
    )


def _survey_eager(field: xr.DataArray, sea: Bools) -> Survey:
    values = field.values
    pixel, images = np.zeros(sea.shape, np.int64), np.zeros(len(values), np.int64)
    least, most = np.full((2, *sea.shape), np.nan, values.dtype)
    infinite, digest = 0, np.zeros(1, np.uint64)
    for t, image in enumerate(values):
        present = np.isfinite(image) & sea
        pixel += present
        images[t] = np.count_nonzero(present)
        np.fmin(least, image, out=least, where=present)
        np.fmax(most, image, out=most, where=present)
        infinite += int(np.count_nonzero(np.isinf(image) & sea))
        digest += _digest(image[np.newaxis], (t, 0, 0), values.shape)
    return pixel, images, least, most, infinite, digest


def _survey_lazy(field: xr.DataArray, sea: Bools) -> Survey:
    import dask
    import dask.array as da

    blocks = field.data
    present = da.isfinite(blocks) & sea
    ones = tuple((1,) * n for n in blocks.numblocks)
    digests = blocks.map_blocks(
        _digest_block, chunks=ones, dtype=np.uint64, meta=np.empty((0, 0, 0), np.uint64)
    )
    wanted = (
        present.sum(axis=0),
        present.sum(axis=(1, 2)),
        da.where(present, blocks, np.inf).min(axis=0),
        da.where(present, blocks, -np.inf).max(axis=0),
        (da.isinf(blocks) & sea).sum(),
        digests.sum(),
    )
    pixel, images, least, most, infinite, digest = dask.compute(*wanted)
    least, most = (np.where(pixel > 0, end, np.nan).astype(field.dtype) for end in (least, most))
    return pixel, images, least, most, int(infinite), np.atleast_1d(digest)


def _digest_block(block: NDArray[np.floating], block_info: dict) -> Words:
    """Digest one Dask block; ``block_info`` is filled in by `dask.array.map_blocks`."""
    origin = tuple(start for start, _ in block_info[0]["array-location"])
    return _digest(block, origin, block_info[0]["shape"]).reshape(1, 1, 1)


def _digest(block: NDArray[np.floating], origin: tuple[int, ...], shape: tuple[int, ...]) -> Words:
    """Sum of one word for each value present, of its bits and its place in the whole array; shape
    (1,).
    """
    rows, columns = (
        np.arange(o, o + n, dtype=np.uint64)
        for o, n in zip(origin[1:], block.shape[1:], strict=True)
    )
    pixel_key = _scramble(rows[:, np.newaxis] * np.uint64(shape[2]) + columns)
    total = np.zeros(1, np.uint64)
    for t, image in enumerate(block, start=origin[0]):
        there = ~np.isnan(image)
        bits = (image[there].astype(np.float64) + 0.0).view(
            np.uint64
        )  # + 0.0 makes -0.0 the same as 0.0
        image_key = _scramble(
            _scramble(np.array([t], dtype=np.uint64))
        )  # once only, and it could equal a pixel's
        total += _scramble(bits ^ (pixel_key[there] + image_key)).sum(dtype=np.uint64)
    return total


def image_digests(images: NDArray[np.floating], origin: tuple[int, int], width: int) -> Words:
    """Words that change with the observations of each image, ``(time,)``; those of an image's parts
    add up.

    `images` ``(time, y, x)`` are a part of images `width` pixels wide, whose first pixel lies at
    `origin` ``(y, x)``.

    >>> image = np.array([[[1.0, np.nan], [3.0, 4.0]]])
    >>> parts = image_digests(image[:, :1], (0, 0), 2) + image_digests(image[:, 1:], (1, 0), 2)
    >>> bool((parts == image_digests(image, (0, 0), 2)).all())
    True
    """
    rows, columns = (
        np.arange(o, o + n, dtype=np.uint64) for o, n in zip(origin, images.shape[1:], strict=True)
    )
    key = _scramble(rows[:, np.newaxis] * np.uint64(width) + columns)
    words = np.zeros(len(images), np.uint64)
    for t, image in enumerate(images):
        there = ~np.isnan(image)
        bits = (image[there].astype(np.float64) + 0.0).view(np.uint64)
        words[t] = _scramble(bits ^ key[there]).sum(dtype=np.uint64)
    return words


def _scramble(words: Words) -> Words:
    """Finaliser of the generator splitmix64 (Steele, Lea & Flood 2014, OOPSLA): a bijection without
    structure.
    """
    z = words + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    return z


def cloud_fraction(observed: xr.DataArray, sea: xr.DataArray) -> xr.DataArray:
    """Share of the sea that is not observed, 0 to 1, for each time."""
    fraction = 1 - (observed & sea).sum(sea.dims) / sea.sum()
    return fraction.assign_attrs(long_name="share of the sea not observed", units="1")


def transplant_clouds(
    obs: xr.DataArray,
    sea: xr.DataArray,
    *,
    share: float = 0.1,
    seed: int = 0,
    clouds: xr.DataArray | None = None,
    keep: float = 0.1,
    min_cover: float = 0.02,
) -> xr.DataArray:
    """Choose observed pixels to hide, in the shape of clouds of other dates.

    Cloud-shaped gaps are the honest test: pixels hidden one by one are given away by their
    neighbours. Images are taken in random order; each is covered with the gap of a random other
    image, until `share` is hidden. The last cloud is trimmed to its part nearest to a random point,
    so that the share is met.

    Parameters
    ----------
    obs
        Observations (NaN in the gaps) or a bool array, True where observed; dims ``(time, y, x)``.
    sea
        True at sea, the two spatial dims of `obs`.
    share
        Part of all observed sea pixels to hide, between 0 and 1.
    seed
        Equal seeds hide equal pixels.
    clouds
        True or 1 under cloud: masks to hide under instead of the gaps of other dates. Dims time (of
        any length), y, x, or those of `obs` by name in any order.
    keep
        Part of its observed pixels that each image keeps at least.
    min_cover
        Donors that lack less of the sea, or all of it, are not used; images that show less of it
        are left alone.

    Returns
    -------
    DataArray
        bool, dims of `obs`: True at observed sea pixels to hide. Attribute ``share``: the part
        reached, within a pixel of the one asked for unless the clouds are too few; if they do not
        reach half of it, that is an `InputError`.

    Raises
    ------
    InputError, OptionError
        Nothing is observed, no donor has clouds, `clouds` does not fit; `share` or `keep` is not
        between 0 and 1.

    References
    ----------
    Beckers, Barth & Alvera-Azcarate 2006, DINEOF reconstruction of clouded images including error
    maps, Ocean Sci. 2.
    """
    for value in (share, keep):
        if not isinstance(value, int | float | np.number) or not 0 < value < 1:
            raise OptionError(
                f"share or keep {value!r} is not between 0 and 1; ten per cent is written 0.1"
            )
    ordered = obs.transpose("time", ...)
    at_sea = sea.transpose(*ordered.dims[1:]).values.astype(bool)
    observed = (ordered if ordered.dtype == bool else ordered.notnull()).values & at_sea
    counts = np.count_nonzero(observed, axis=(1, 2))
    if not counts.any():
        raise InputError(
            f"nothing is observed at sea in {obs.name!r}; check the sea mask and the fill value"
        )
    clear = observed if clouds is None else ~_cloud_masks(clouds, ordered.dims, at_sea)
    donors = _donors(clear, at_sea, min_cover)
    rng = np.random.default_rng(seed)
    targets = np.flatnonzero(counts >= max(1, min_cover * np.count_nonzero(at_sea)))
    order = np.concatenate([rng.permutation(targets) for _ in range(PASSES)])
    visits = ((t, donors[donors != t] if clouds is None else donors) for t in order)
    hidden = _hide(observed, clear, visits, max(1, round(share * counts.sum())), keep, rng)
    reached = np.count_nonzero(hidden) / counts.sum()
    if reached < share / 2:
        raise InputError(
            f"clouds of {len(donors)} usable images hide {reached:.1%} of the observed pixels of the {share:.1%} asked "
            "for; ask for a smaller share, or pass other masks as clouds="
        )
    withheld = ordered.copy(data=hidden).transpose(*obs.dims).rename("withheld")
    withheld.attrs = {"long_name": "hidden from the method", "share": float(reached), "seed": seed}
    return withheld


def transplant_together(
    obs: xr.DataArray,
    sea: xr.DataArray,
    *,
    share: float,
    seed: int,
    clouds: xr.DataArray | None = None,
) -> xr.DataArray:
    """Choose observed pixels of several variables to hide, as `transplant_clouds` does for one.

    Each variable is hidden where the *same* other date lacks it. So where variables are cloudy
    together they are hidden together, and none tells what the other one hides; one without gaps
    stays whole, as it would.

    Parameters
    ----------
    obs
        Observations with a dim ``variable``.
    clouds
        Masks to hide under instead, with the dims of `obs`.
    """
    y, x = sea.dims
    n = obs.sizes["variable"]

    def abreast(masks: xr.DataArray) -> xr.DataArray:
        values = masks.transpose("time", y, "variable", x).values
        return xr.DataArray(
            values.reshape(*values.shape[:2], -1), dims=("time", y, x), name="variables"
        )

    wet = xr.DataArray(np.tile(sea.values, (1, n)), dims=sea.dims)
    masks = None if clouds is None else abreast(clouds)
    found = transplant_clouds(abreast(obs.notnull()), wet, share=share, seed=seed, clouds=masks)
    parts = found.values.reshape(*found.shape[:2], n, -1)
    laid = xr.DataArray(parts, dims=("time", y, "variable", x)).transpose(*obs.dims)
    return (
        obs.notnull()
        .copy(data=laid.values)
        .drop_attrs(deep=False)
        .rename("withheld")
        .assign_attrs(found.attrs)
    )


def _cloud_masks(clouds: xr.DataArray, dims: tuple[Hashable, ...], sea: Bools) -> Bools:
    if not isinstance(clouds, xr.DataArray):
        raise InputError(
            f"clouds is a {type(clouds).__name__}; give an xarray DataArray of (time, y, x)"
        )
    values = (clouds.transpose(*dims) if set(clouds.dims) == set(dims) else clouds).values
    if values.dtype.kind not in "biu" or (
        values.dtype != bool and not ((values == 0) | (values == 1)).all()
    ):
        raise InputError(
            f"clouds has dtype {clouds.dtype}, not bool, nor 0 and 1 only; "
            "pass True under cloud, e.g. liquid_water_path > 70"
        )
    if values.ndim != 3 or values.shape[1:] != sea.shape:
        raise InputError(
            f"clouds has shape {clouds.shape}, the field (time, {sea.shape[0]}, {sea.shape[1]}); crop it"
        )
    return values.astype(bool)


def _donors(clear: Bools, sea: Bools, min_cover: float) -> NDArray[np.intp]:
    """Indices of the images that have some cloud over the sea, but not only cloud."""
    cover = 1 - np.array([np.count_nonzero(image & sea) for image in clear]) / np.count_nonzero(sea)
    donors = np.flatnonzero((cover >= min_cover) & (cover < 1))
    if not donors.size:
        raise InputError(
            f"none of {len(clear)} images has clouds over {min_cover:.0%} to 100 % of the sea: other dates cannot be "
            "hidden under them; pass cloud masks as clouds="
        )
    return donors


def _hide(
    observed: Bools, clear: Bools, visits: Iterable[Visit], goal: int, keep: float, rng: Rng
) -> Bools:
    """Hide `goal` pixels, leaving each image `keep` of its own; a visit is a target with its
    possible donors.
    """
    hidden = np.zeros_like(observed)
    for target, donors in visits:
        spare = int(
            (1 - keep) * np.count_nonzero(observed[target]) - np.count_nonzero(hidden[target])
        )
        visible = observed[target] & ~hidden[target]
        piece = _nearest_part(
            _piece(visible, clear, rng.permutation(donors)[:TRIES], spare), goal, rng
        )
        hidden[target] |= piece
        goal -= int(np.count_nonzero(piece))
        if not goal:
            break
    return hidden


def _piece(visible: Bools, clear: Bools, donors: NDArray[np.intp], at_most: int) -> Bools:
    """Return what the first donor that hides something, and not too much, would hide; else nothing."""
    pieces = (visible & ~clear[donor] for donor in donors)
    return next(
        (piece for piece in pieces if 0 < np.count_nonzero(piece) <= at_most),
        np.zeros_like(visible),
    )


def _nearest_part(piece: Bools, at_most: int, rng: Rng) -> Bools:
    """Cut a piece down to its `at_most` pixels nearest to a random one of them."""
    rows, columns = np.nonzero(piece)
    if rows.size <= at_most:
        return piece
    centre = rng.integers(rows.size)
    nearest = np.argsort(np.hypot(rows - rows[centre], columns - columns[centre]), kind="stable")[
        :at_most
    ]
    part = np.zeros_like(piece)
    part[rows[nearest], columns[nearest]] = True
    return part


def distance_to_observed(
    observed: Bools, spacing: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.float32]:
    """Distance of each pixel to the nearest observed one of its own image; both of shape (time, y,
    x).

    In the units of `spacing`, the size of a pixel along y and x (e.g. km; the default counts
    pixels). 0 at observed pixels, infinite in an image without any.

    >>> distance_to_observed(np.array([[[True, False, False]]]))
    array([[[0., 1., 2.]]], dtype=float32)
    """
    distance = np.full(observed.shape, np.inf, dtype=np.float32)
    for t in np.flatnonzero(observed.any(axis=(1, 2))):
        distance[t] = distance_transform_edt(~observed[t], sampling=spacing)
    return distance


def days_to_observed(observed: Bools, days: NDArray[np.floating]) -> NDArray[np.float32]:
    """Days from each pixel and time to the nearest observation of the same pixel, earlier or later;
    (time, y, x).

    `days`, shape (time,), increases in steps of any length. 0 where observed, infinite where the
    pixel never is.

    >>> days_to_observed(np.array([[[True]], [[False]], [[False]]]), np.array([0.0, 1.0, 5.0])).ravel()
    array([0., 1., 5.], dtype=float32)
    """
    lag = np.empty(observed.shape, dtype=np.float32)
    times = np.asarray(days, dtype=np.float64)[:, np.newaxis]
    for row in range(
        observed.shape[1]
    ):  # a row of pixels at a time keeps the float64 temporaries small
        seen = observed[:, row]
        last = np.maximum.accumulate(np.where(seen, times, -np.inf), axis=0)
        following = np.minimum.accumulate(np.where(seen, times, np.inf)[::-1], axis=0)[::-1]
        lag[:, row] = np.minimum(times - last, following - times)
    return lag
