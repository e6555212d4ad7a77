# SPDX-License-Identifier: Apache-2.0
"""Series of liquid water path (LWP): read them, and find the threshold for an occluded fraction."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.checks import check_fraction, check_number
from sstfill.errors import InputError, OptionError
from sstfill.io.untrusted import arrays

LwpSeries = xr.DataArray | NDArray[np.floating]
SPIN_UP = 100  # LWP frames left out by the paper's authors while the simulated clouds form
# Grams per unit, by the units of LWP without spaces, dots, ^ and **.
GRAMS = {"gm-2": 1.0, "g/m2": 1.0, "kgm-2": 1000.0, "kg/m2": 1000.0}
NAMES = ("lwp", "clwvi")
STANDARD_NAMES = (
    "atmosphere_mass_content_of_cloud_liquid_water",
    "atmosphere_cloud_liquid_water_content",
)


def lwp_series(path: str | os.PathLike[str]) -> xr.DataArray:
    """Open the LWP of a NetCDF file, a Zarr store or the paper's NumPy file, lazily.

    Parameters
    ----------
    path
        NetCDF or Zarr: the variable called `lwp`, or of its CF standard name, or else the only
        floating one on time and two more dims. ``.npy``, as the paper's authors published theirs
        (figshare 9929798): (time, y, x), kg m-2.

    Returns
    -------
    DataArray
        Dims as stored, for `Cloud`, `cloud_fraction` and `threshold_for`. A draw reads the frames
        it needs; ``load()`` the series if many masks are to be drawn.

    Raises
    ------
    ReadError
        Missing, damaged, or of another format.
    InputError
        No variable is the LWP, or several may be.
    """
    location = Path(path)
    if location.suffix == ".npy":
        return published(location)
    ds = io.open(location)
    series = []
    for variable in ds.data_vars.values():
        if variable.ndim == 3 and "time" in variable.dims and variable.dtype.kind == "f":
            series.append(variable)
    chosen = [variable for variable in series if is_lwp(variable)] or series
    if len(chosen) == 1:
        return chosen[0]
    ds.close()
    held = ", ".join(f"{n} {v.dims}" for n, v in ds.data_vars.items()) or "no variables"
    raise InputError(
        f"{location} holds {held}; rename the liquid water path 'lwp', of dims time and two more"
    )


def is_lwp(da: xr.DataArray) -> bool:
    """Whether a variable is a series of LWP, by its name or CF standard name.

    >>> is_lwp(xr.DataArray(np.ones((1, 2, 2)), dims=("time", "y", "x"), name="LWP"))
    True
    """
    named = str(da.name).lower() in NAMES or da.attrs.get("standard_name") in STANDARD_NAMES
    return named and da.ndim == 3 and "time" in da.dims


def published(path: Path) -> xr.DataArray:
    """Map a ``.npy`` file like the paper's cloud series into memory: (time, y, x), kg m-2."""
    values = arrays.map_array(path)
    if values.ndim != 3 or values.dtype.kind != "f":
        raise InputError(
            f"{path} holds {values.dtype} {values.shape}; give LWP in floating point, "
            "(time, y, x), kg m-2"
        )
    return xr.DataArray(values, dims=("time", "y", "x"), attrs={"units": "kg m-2"})


def cloud_fraction(
    lwp: LwpSeries, threshold: float, *, start_after: int = SPIN_UP, units: str | None = None
) -> float:
    """Fraction of the pixels that a threshold (g m-2) occludes, as in `Cloud`.

    >>> cloud_fraction(np.array([[[20.0, 50.0, 60.0, 90.0]]]), 55.0, start_after=0, units="g m-2")
    0.5
    """
    check_number("threshold", threshold, 0)
    return float((_after_spin_up(lwp, start_after, units) > threshold).mean())


def threshold_for(
    lwp: LwpSeries, fraction: float, *, start_after: int = SPIN_UP, units: str | None = None
) -> float:
    """Least threshold (g m-2) that occludes at most `fraction` of the pixels, as in `Cloud`.

    Raises
    ------
    InputError
        Fewer pixels than that hold any liquid water.

    >>> threshold_for(np.array([[[20.0, 50.0, 60.0, 90.0]]]), 0.5, start_after=0, units="g m-2")
    50.0
    """
    check_fraction("fraction", fraction)
    values = _after_spin_up(lwp, start_after, units)
    cloudy = float((values > 0).mean())
    if fraction > cloudy:
        raise InputError(
            f"fraction={fraction!r}, but only {cloudy:.3f} of the LWP is above 0; "
            "ask for a smaller fraction"
        )
    # a value of the series itself: between two of them the occluded fraction would be another
    return float(np.quantile(values, 1 - fraction, method="inverted_cdf"))


def _after_spin_up(lwp: LwpSeries, start_after: int, units: str | None) -> NDArray[np.floating]:
    check_number("start_after", start_after, 0, whole=True)
    series, grams = ordered(lwp, units)
    if len(series) <= start_after:
        raise InputError(
            f"the LWP series has {len(series)} frames, none after start_after={start_after}; "
            "lower it"
        )
    return in_grams(series[start_after:], grams)


def ordered(lwp: LwpSeries, units: str | None) -> tuple[xr.DataArray, float]:
    """Return the series with time first, and the factor to g m-2.

    Dims called y and x come in this order.
    """
    if isinstance(lwp, np.ndarray) and lwp.ndim == 3:
        lwp = xr.DataArray(lwp, dims=("time", "y", "x"))
    if not isinstance(lwp, xr.DataArray) or lwp.ndim != 3 or not lwp.size or "time" not in lwp.dims:
        met = getattr(lwp, "dims", getattr(lwp, "shape", ""))
        raise InputError(f"LWP is a {type(lwp).__name__} {met}; give a filled array (time, y, x)")
    stated = units if units is not None else lwp.attrs.get("units")
    key = str(stated).translate(str.maketrans("", "", " ^*."))
    if key not in GRAMS:
        raise OptionError(f"LWP units={stated!r}; give units='g m-2' or units='kg m-2'")
    return lwp.transpose("time", "y", "x", ..., missing_dims="ignore"), GRAMS[key]


def in_grams(series: xr.DataArray, factor: float) -> NDArray[np.floating]:
    """Compute part of a series in g m-2; `InputError` where it has gaps."""
    values = series.to_numpy() * factor
    missing = int((~np.isfinite(values)).sum())
    if missing:  # a comparison with NaN would take a gap for a cloud
        raise InputError(f"{missing} LWP values are not finite; give a series without gaps")
    return values


def frame_label(series: xr.DataArray, step: int) -> str:
    """Time of a frame in words: a date, the minutes of a simulation, or its number."""
    if "time" in series.coords:
        clock = series["time"][step]
        if clock.dtype.kind == "M":
            return str(clock.values.astype("datetime64[s]")).replace("T", " ")
        if clock.attrs.get("units") in ("s", "seconds"):
            return f"{float(clock) / 60:g} min"
    return f"frame {step}"
