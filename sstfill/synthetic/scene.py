# SPDX-License-Identifier: Apache-2.0
"""A synthetic ocean ready to fill: the truth, and the observations between the clouds."""

from __future__ import annotations

import numpy as np
import xarray as xr

from sstfill.synthetic import checks
from sstfill.synthetic.coast import Kind
from sstfill.synthetic.coast import land as draw_land
from sstfill.synthetic.cover import clouds as draw_clouds
from sstfill.synthetic.temperature import sst as simulate

# Second word of the random seeds: no other part of an ocean has it.
STREAM = 5
SEA_ATTRS = {
    "standard_name": "sea_binary_mask",
    "long_name": "sea",
    "units": "1",
    "flag_values": np.array([0, 1], dtype="int8"),
    "flag_meanings": "land sea",
}


def ocean(
    *,
    shape: tuple[int, int, int] = (24, 64, 64),
    fraction: float = 0.4,
    noise: float = 0.1,
    land: float = 0.1,
    kind: Kind = "coast",
    seed: int = 0,
    step: str = "6h",
    start: str = "2018-01-01",
    grid_km: float = 5.0,
    dtype: str = "float32",
    mean: float = 18.0,
    gradient: float = -0.5,
    variability: float = 0.7,
    speed: float = 0.25,
    seasonal: float = 0.0,
    diurnal: float = 0.0,
    persistence: str = "1D",
    scale_km: float = 200.0,
    wind: tuple[float, float] = (6.0, 2.0),
    variation: float = 0.5,
    lat: float = 38.0,
    lon: float = -60.0,
) -> xr.Dataset:
    """Make a synthetic ocean: the truth, and its observations between clouds.

    Parameters
    ----------
    shape
        Sizes of ``(time, lat, lon)``; any.
    fraction
        Fraction of the sea pixels of all images that clouds hide, in [0, 1).
    noise
        Standard deviation of the observation error, degC.
    land
        Fraction of land, in [0, 1).
    kind
        Of land, as in `land`.
    seed
        The same seed gives the same ocean.
    step, start, grid_km, dtype, mean, gradient, variability, speed, seasonal, diurnal, lat, lon
        As in `sst`.
    persistence, scale_km, wind, variation
        As in `clouds`.

    Returns
    -------
    Dataset
        ``sst`` (observed, NaN under cloud and on land), ``truth`` (without noise, NaN on land),
        both ``(time, lat, lon)`` in degC, and ``sea`` (``(lat, lon)``, int8, 1 at sea).

    Raises
    ------
    OptionError
        An option outside its range.

    Examples
    --------
    >>> sorted(ocean(shape=(3, 12, 12)).data_vars)
    ['sea', 'sst', 'truth']
    """
    _, ny, nx = checks.shape(shape, ("time", "lat", "lon"))
    spread = checks.number("noise", noise, least=0)
    where = {"grid_km": grid_km, "lat": lat, "lon": lon}
    sea = draw_land(
        shape=(ny, nx), fraction=checks.fraction("land", land), kind=kind, seed=seed, **where
    )
    cloudy = draw_clouds(
        shape=shape,
        fraction=fraction,
        step=step,
        persistence=persistence,
        scale_km=scale_km,
        wind=wind,
        variation=variation,
        seed=seed,
        start=start,
        sea=sea,
        **where,
    )
    truth = simulate(
        shape=shape,
        step=step,
        start=start,
        seed=seed,
        dtype=dtype,
        mean=mean,
        gradient=gradient,
        variability=variability,
        speed=speed,
        seasonal=seasonal,
        diurnal=diurnal,
        **where,
    )
    observed = _observe(truth, cloudy, spread, seed).where(sea)
    observed.attrs |= {
        "long_name": "observed sea surface temperature",
        "ancillary_variables": "sea",
    }
    truth = truth.where(sea)
    truth.attrs["long_name"] = "true sea surface temperature"
    mask = sea.astype("int8").assign_attrs(SEA_ATTRS)
    title = {
        "Conventions": "CF-1.8",
        "title": "synthetic ocean",
        "source": f"sstfill.synthetic.ocean, seed {seed}",
    }
    return xr.Dataset({"sst": observed, "truth": truth, "sea": mask}, attrs=title)


def _observe(truth: xr.DataArray, cloudy: xr.DataArray, spread: float, seed: int) -> xr.DataArray:
    """Observations between the clouds, with white noise."""
    rng = np.random.default_rng([seed, STREAM])
    seen = truth.copy()
    for image in seen.values:  # one image at a time: no second array of the whole
        image += (spread * rng.standard_normal(image.shape, dtype="float32")).astype(image.dtype)
    return seen.where(~cloudy)
