# SPDX-License-Identifier: Apache-2.0
"""Check that an opened dataset is what was asked for, and reduce it to time and two dimensions."""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr

from sstfill.errors import InputError, OptionError, ReadError
from sstfill.sources.copernicus.request import CopernicusRequest, Target

log = logging.getLogger(__name__)
SLACK = 1e-4  # degrees: coordinates are float32


def ready(ds: xr.Dataset, request: CopernicusRequest, target: Target) -> xr.Dataset:
    """Check a dataset and return it, still lazy, with one level and time first.

    Raises
    ------
    OptionError
        It has no time or several levels, nothing in the box or the period, or another size than
        the target expects.
    ReadError
        Its time axis is damaged.
    """
    if "time" not in ds.dims:
        raise OptionError(
            f"{request.dataset_id} has no time dimension among {dict(ds.sizes)}; "
            "choose another dataset"
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
                f"the box holds {ds.sizes[dim]} values of {dim}, not {size} as expected; widen or "
                "narrow it, or leave out [target] expect"
            )
    return ds.transpose("time", ...)


def _check_times(ds: xr.Dataset) -> None:
    times = ds["time"].values
    if np.isnat(times).any() or (np.diff(times) <= np.timedelta64(0)).any():
        raise ReadError(
            "the time axis that came is damaged: times are missing or out of order; try again later"
        )
    steps = np.diff(times)
    # times that the producer left out are no loss of the download, so they are told and kept
    if steps.size and (missing := int((steps > 1.5 * np.median(steps)).sum())):
        log.warning(
            "the source leaves out times at %d places, first after %s",
            missing,
            times[int(steps.argmax())],
        )


def _check_inside(ds: xr.Dataset, request: CopernicusRequest) -> None:
    """Refuse the nearest value outside, which the client returns where nothing lies in a range.

    Equal ends of a range ask for the nearest value.
    """
    times = ds["time"].values
    start, end = request.start_datetime, request.end_datetime
    begins_before = start is not None and times[0] < np.datetime64(start)
    ends_after = end is not None and times[-1] > np.datetime64(end)
    one_time = start is not None and end is not None and np.datetime64(start) == np.datetime64(end)
    if (begins_before or ends_after) and not one_time:
        raise OptionError(
            f"{request.dataset_id} has no time in {start} to {end}; "
            f"the nearest is {times[0].astype('M8[s]')}"
        )
    for name in ("latitude", "longitude"):
        low, high = request.range_of(name)
        if name not in ds.coords or low is None or high is None or low == high:
            continue
        values = np.asarray(ds[name].values, np.float64)
        width, from_low = high - low, values - low
        if name == "longitude":
            # counted eastward from the western end, which crosses the dateline as well
            from_low = (from_low + SLACK) % 360.0 - SLACK
            # a minimum east of the maximum: the width is what lies between them eastward
            if width < 360.0:
                width %= 360.0
        if (from_low < -SLACK).any() or (from_low > width + SLACK).any():
            raise OptionError(
                f"no {name} of the grid lies from {low:g} to {high:g}; "
                f"the nearest is {values[0]:g}: widen the box"
            )


def check_same(ds: xr.Dataset, stored: xr.Dataset) -> None:
    """Raise `InputError` for a source whose grid or variables are no longer those of the store.

    Times are not compared.
    """
    for name in ds.dims:
        if name == "time":
            continue
        if name not in stored.dims or not np.array_equal(ds[name].values, stored[name].values):
            raise InputError(
                f"{name} of the dataset is no longer that of the store; begin another store"
            )
    gone = [str(n) for n in stored.data_vars if n not in ds.data_vars]
    if gone:
        raise InputError(f"the dataset no longer has {', '.join(gone)}; begin another store")
