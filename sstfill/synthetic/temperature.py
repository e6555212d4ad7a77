# SPDX-License-Identifier: Apache-2.0
"""Gap-free sea surface temperature: turbulent eddies on a gradient, with seasons and days."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from sstfill.synthetic import axes, checks
from sstfill.synthetic.spectrum import periodic_size
from sstfill.synthetic.sqg import Turbulence

# Second word of the random seeds, so that no two parts of an ocean share random numbers.
STREAM, NOISE_STREAM, SWING_STREAM = 1, 2, 6
TURNOVERS = 20  # of spin-up: filaments are there after 10, the spectrum stands still after 15
EDDY_KM = 140.0  # wavelength; an eddy is half as wide
WARMEST_DAY, WARMEST_HOUR = 245, 15  # of the northern year; local solar time
YEAR, DAY = 365.2425, 24.0  # days, hours
SIDEREAL_DAY, TIDE = 23.934, 12.4206  # hours; the tide is M2
UNSTEADY: dict[str, Any] = {"swing": 0.25, "wiggle": 2.0, "diurnal": 0.2}
"""Options with which images differ from one to the next as those of an hourly satellite do: their
mean by a tenth to two thirds of a standard deviation."""
ATTRS = {
    "standard_name": "sea_surface_temperature",
    "long_name": "sea surface temperature",
    "units": "degree_Celsius",
}


def sst(
    *,
    shape: tuple[int, int, int] = (24, 64, 64),
    step: str = "6h",
    start: str = "2018-01-01",
    grid_km: float = 5.0,
    seed: int = 0,
    dtype: str = "float32",
    mean: float = 18.0,
    gradient: float = -0.5,
    variability: float = 0.7,
    speed: float = 0.25,
    seasonal: float = 0.0,
    diurnal: float = 0.0,
    swing: float = 0.0,
    wiggle: float = 0.0,
    noise: float = 0.0,
    lat: float = 38.0,
    lon: float = -60.0,
) -> xr.DataArray:
    """Simulate sea surface temperature by surface quasi-geostrophic turbulence.

    Parameters
    ----------
    shape
        Sizes of ``(time, lat, lon)``; any.
    step
        Time from one image to the next, such as ``"6h"``.
    start
        Date of the first image.
    grid_km
        Cell size, km.
    seed
        The same seed gives the same ocean.
    dtype
        ``float32`` or ``float64`` (the flow itself is computed in single precision).
    mean
        Temperature at the centre, degC.
    gradient
        Of the background, degC per 100 km northward; the eddies stir it.
    variability
        Root-mean-square anomaly of the eddies over the whole periodic domain, degC; up to 50.
    speed
        Root-mean-square current, m s-1; 0.25 carries water 5 km in 6 hours; up to 5.
    seasonal
        Amplitude of the yearly cycle, degC; warmest at the beginning of September, of March in the
        south.
    diurnal
        Amplitude of the daily cycle, degC; warmest at 15 h local solar time.
    swing
        Root-mean-square change of the mean of one image to the next by itself, degC, as from one
        satellite or hour of cooling to another.
    wiggle
        Amplitude of the circle that inertial currents carry the water round, and of the line of the
        tides, km.
    noise
        Standard deviation of white noise added to each pixel, degC.
    lat, lon
        Centre of the grid, degrees.

    Returns
    -------
    DataArray
        ``sst``, dims ``(time, lat, lon)``, degC, no NaN. The domain computed is larger than the one
        returned, so that opposite edges are unrelated.

    Raises
    ------
    OptionError
        An option outside its range.

    Notes
    -----
    CPU time grows with the number of inner steps: cells divided by the fastest current, a few each
    6 hours. The equations are those of Held et al. (1995), see `sstfill.synthetic.sqg`.

    Examples
    --------
    >>> field = sst(shape=(2, 9, 12), seed=3)
    >>> field.dims, field.attrs["units"]
    (('time', 'lat', 'lon'), 'degree_Celsius')
    """
    nt, ny, nx = checks.shape(shape, ("time", "lat", "lon"))
    coords = {"time": axes.temporal(nt, step=step, start=start)}
    coords |= axes.horizontal((ny, nx), grid_km=grid_km, lat=lat, lon=lon)
    kind, seed = checks.floating(dtype), checks.integer("seed", seed, least=0)
    spread = checks.number("noise", noise, least=0)
    size = checks.number("variability", variability, above=0, most=50)
    metres = checks.number("speed", speed, above=0, most=5) * checks.duration("step", step)
    cells_per_step = metres / (grid_km * 1e3)
    slope = checks.number("gradient", gradient) / size
    flow = _flow((ny, nx), grid_km=grid_km, gradient=slope, lat=lat)
    north = (coords["lat"].values - coords["lat"].values.mean()) * axes.KM_PER_DEGREE  # km
    background = checks.number("mean", mean) + (gradient / 100 * north)[:, None]
    yearly = _seasons(coords["time"], checks.number("seasonal", seasonal), lat)
    daily = _days(coords["time"], coords["lon"], checks.number("diurnal", diurnal))
    cycles = yearly[:, None, None] + daily
    swings = checks.number("swing", swing, least=0) / math.sqrt(2)
    cycles += swings * np.random.default_rng([seed, SWING_STREAM]).standard_normal((nt, 1, 1))
    carried = _wiggles(coords["time"], checks.number("wiggle", wiggle, least=0) / grid_km, lat)
    grain = np.random.default_rng([seed, NOISE_STREAM])
    out = np.empty((nt, ny, nx), dtype=kind)
    theta = flow.start(np.random.default_rng([seed, STREAM]), turnovers=TURNOVERS)
    for t in range(nt):
        if t:
            theta = flow.advance(theta, cells_per_step)
        eddies = flow.temperature(theta, carried[t])[:ny, :nx]
        out[t] = size * eddies + background + cycles[t]
        if spread:
            out[t] += spread * grain.standard_normal((ny, nx), dtype="float32")
    return xr.DataArray(
        out, dims=("time", "lat", "lon"), coords=coords, name="sst", attrs=dict(ATTRS)
    )


def _flow(shape: tuple[int, int], *, grid_km: float, gradient: float, lat: float) -> Turbulence:
    """The turbulence of a grid: its periodic domain is an eddy wider, and three eddies at least.

    `gradient` is in anomalies per 100 km.
    """
    eddy = min(max(EDDY_KM / grid_km, 8.0), max(16.0, max(shape) / 2))  # cells
    sides = [periodic_size(n, max(eddy, 3 * eddy - n)) for n in shape]
    return Turbulence(
        shape=(sides[0], sides[1]),
        wavelength=eddy,
        gradient=gradient * grid_km / 100,
        hand=math.copysign(1.0, lat),
    )


def _seasons(time: xr.Variable, amplitude: float, lat: float) -> np.ndarray:
    days = (time.values - time.values.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    return math.copysign(amplitude, amplitude * lat) * np.cos(
        2 * np.pi * (days - WARMEST_DAY) / YEAR
    )


def _wiggles(time: xr.Variable, cells: float, lat: float) -> np.ndarray:
    """How far inertial and tidal currents have carried the water, (time, 2), cells north and east.

    The tide is a line along the meridian; inertial circles turn with the sun of the hemisphere.
    """
    hours = (time.values - time.values[0]) / np.timedelta64(1, "h")
    turn = 2 * np.pi * hours * 2 * math.sin(math.radians(lat)) / SIDEREAL_DAY
    tide = np.sin(2 * np.pi * hours / TIDE)
    return cells * np.stack([np.cos(turn) + tide, np.sin(turn)], axis=1)


def _days(time: xr.Variable, lon: xr.Variable, amplitude: float) -> np.ndarray:
    """The daily cycle, (time, 1, lon): the sun is four minutes later each degree westward."""
    hours = (time.values - time.values.astype("datetime64[D]")) / np.timedelta64(1, "h")
    local = hours[:, None, None] + lon.values / 15
    return amplitude * np.cos(2 * np.pi * (local - WARMEST_HOUR) / DAY)
