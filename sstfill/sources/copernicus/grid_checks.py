# SPDX-License-Identifier: Apache-2.0
"""Check that a dataset that was opened is what was asked for, and bring it to time and two more
dimensions.
"""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr

from sstfill.errors import InputError, OptionError, ReadError
from sstfill.sources.copernicus.request import CopernicusRequest, Target

log = logging.getLogger(__name__)
SLACK = 1e-4  # degrees: coordinates are float32


def ready(ds: xr.Dataset, request: CopernicusRequest, target: Target) -> xr.Dataset:
    """Return the dataset, still lazy, with one level and time first.

    Raises
    ------
    OptionError
        No time or several levels; nothing in the box or the period; another size than the target
        expects.
    ReadError
        A time axis that is damaged.
    """
    if "time" not in ds.dims:
        raise OptionError(
            f"{request.dataset_id} has no time dimension among {dict(ds.sizes)}; choose another dataset"
        )
    for dim in ("depth", "elevation"):
        if ds.sizes.get(dim, 1) > 1:
            raise OptionError(
                f"the request covers {ds.sizes[dim]} levels of {dim}; give one: minimum_depth and "
                "maximum_depth of the same value take the nearest"
            )
        if dim in ds.dims:
            ds = ds.squeeze(dim)
    _check_times(ds)
    _check_inside(ds, request)
    target.lengths(tuple(map(str, ds.sizes)))
    for dim, size in target.expect.items():
        if ds.sizes[dim] != size:
            raise OptionError(
                f"the box holds {ds.sizes[dim]} values of {dim}, not {size} as expected; widen or narrow "
                "it, or leave out [target] expect"
            )
    return ds.transpose("time", ...)


def _check_times(ds: xr.Dataset) -> None:
    times = ds["time"].values
    if np.isnat(times).any() or (np.diff(times) <= np.timedelta64(0)).any():
        raise ReadError(
            "the time axis that came is damaged: times are missing or out of order; try again later"
        )
    steps = np.diff(times)
    if steps.size and (missing := int((steps > 1.5 * np.median(steps)).sum())):
        log.warning(
            "the source leaves out times at %d places, first after %s",
            missing,
            times[int(steps.argmax())],
        )


def _check_inside(ds: xr.Dataset, request: CopernicusRequest) -> None:
    """Refuse what the client returns where nothing lies in a range: the nearest value outside."""
    times = ds["time"].values
    period = [
        None if t is None else np.datetime64(t)
        for t in (request.start_datetime, request.end_datetime)
    ]
    if period[0] != period[1] or period[0] is None:
        low, high = period
        if (low is not None and times[0] < low) or (high is not None and times[-1] > high):
            raise OptionError(
                f"{request.dataset_id} has no time in {request.start_datetime} to {request.end_datetime}"
                f"; the nearest is {times[0].astype('M8[s]')}"
            )
    for name in ("latitude", "longitude"):
        low_, high_ = getattr(request, f"minimum_{name}"), getattr(request, f"maximum_{name}")
        if name not in ds.coords or low_ is None or high_ is None or low_ == high_:
            continue
        values = np.asarray(ds[name].values, np.float64)
        turn = 360.0 if name == "longitude" else np.inf
        width = high_ - low_ if np.isinf(turn) or high_ - low_ >= turn else (high_ - low_) % turn
        away = values - low_ if np.isinf(turn) else (values - low_ + SLACK) % turn - SLACK
        if (away < -SLACK).any() or (away > width + SLACK).any():
            raise OptionError(
                f"no {name} of the grid lies from {low_:g} to {high_:g}; the nearest is {values[0]:g}: widen the box"
            )


def check_same(ds: xr.Dataset, stored: xr.Dataset) -> None:
    """Refuse a source whose grid is no longer that of the store; times are compared by who knows
    which to expect.
    """
    for name in (str(d) for d in ds.dims if d != "time"):
        if name not in stored.dims or not np.array_equal(ds[name].values, stored[name].values):
            raise InputError(
                f"{name} of the dataset is no longer that of the store; begin another store"
            )
    gone = [str(n) for n in stored.data_vars if n not in ds.data_vars]
    if gone:
        raise InputError(f"the dataset no longer has {', '.join(gone)}; begin another store")
