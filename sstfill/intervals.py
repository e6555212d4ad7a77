# SPDX-License-Identifier: Apache-2.0
"""The limits between which the filled values lie with a probability, by the errors that are stated.

An error is one standard deviation, and its attributes tell whether the errors are Gaussian or have
heavier tails (`sstfill.fields.error_distribution`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from sstfill.errors import InputError, OptionError, unknown
from sstfill.fields.error_distribution import ONE_SIGMA, ErrorDistribution
from sstfill.fields.transform import LEAST_FLOOR, NONE, Transform
from sstfill.io.untrusted.documents import parse_json

LIMITS = ("lower", "upper")
LARGEST = np.finfo(np.float32).max
BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))
"""The largest number below 1 in single precision, in which limits are stored."""


def interval(
    filled: xr.Dataset, probability: float = 0.8, *, variables: str | Sequence[str] | None = None
) -> xr.Dataset:
    """Return the limits between which filled values lie with a probability.

    The interval is the central one: the truth lies above it as often as below.

    Parameters
    ----------
    filled
        What `sstfill.fill.fill` returned, or a file or archive that was filled.
    probability
        Of the interval, between 0 and 1.
    variables
        Which filled variables; by default each one that has an error.

    Returns
    -------
    Dataset
        For each variable ``v``: ``v_lower`` and ``v_upper``, dims and units of ``v``; NaN where
        ``v_error`` is, so at observed pixels, whose error sstfill does not estimate. The scalar
        coordinate ``probability`` says of what interval they are. Lazy where `filled` is.

    Raises
    ------
    InputError
        If nothing in the Dataset was filled by sstfill, or its method states no error.
    OptionError
        For a probability that is none, or an unknown variable.

    Examples
    --------
    >>> import sstfill, sstfill.synthetic
    >>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
    >>> filled = sstfill.fill(ocean, "interpolate", variables="sst")
    >>> sorted(interval(filled, 0.9).data_vars)
    ['sst_lower', 'sst_upper']
    """
    number = isinstance(probability, int | float | np.integer | np.floating)
    if not number or not 0 < probability < 1:
        raise OptionError(f"probability={probability!r} is not between 0 and 1; write 80 % as 0.8")
    names = [str(n) for n, v in filled.data_vars.items() if "sstfill_method" in v.attrs]
    if not names:
        raise InputError(
            "nothing in these data was filled by sstfill, so no error is stated; fill them first"
        )
    if variables is None:
        wanted = [name for name in names if f"{name}_error" in filled]
    else:
        wanted = [variables] if isinstance(variables, str) else list(variables)
    for name in wanted:
        if name not in names:
            raise unknown("filled variable", name, names)
    silent = [name for name in wanted if f"{name}_error" not in filled]
    if silent or not wanted:
        raise InputError(
            f"no error is stated of {', '.join(silent or names)}; fill by a method that states "
            "one, such as oi"
        )
    limits = {}
    for name in wanted:
        found = _limits(filled, name, probability)
        quantity = filled[name].attrs.get("long_name", name)
        for limit, values in zip(LIMITS, found, strict=True):
            attrs = {"long_name": f"{limit} {100 * probability:.6g} % limit of filled {quantity}"}
            if "units" in filled[name].attrs:
                attrs["units"] = filled[name].attrs["units"]
            limits[f"{name}_{limit}"] = values.drop_attrs(deep=False).assign_attrs(attrs)
    return xr.Dataset(limits).assign_coords(probability=float(probability))


def _limits(filled: xr.Dataset, name: str, probability: float) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the lower and the upper limit of one variable."""
    error = filled[f"{name}_error"]
    distribution = ErrorDistribution.of(error.attrs)
    away = float(distribution.half_width(probability))
    transform = _transform(filled[name])
    if transform.kind == "none":
        reach = (error * np.float32(away)).drop_attrs(deep=False)
        return filled[name] - reach, filled[name] + reach
    # The interval is symmetric in transformed space, where the limits that are stored tell it.
    missing = [f"{name}_{limit}" for limit in LIMITS if f"{name}_{limit}" not in filled]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} are missing, by which the error of {name} is known where it "
            "was filled; keep them with it"
        )
    # in double precision: near a bound a logit loses what single precision has
    low = _unbounded(transform, filled[f"{name}_lower"].astype(np.float64))
    high = _unbounded(transform, filled[f"{name}_upper"].astype(np.float64))
    middle, half = (low + high) / 2, (high - low) / 2
    reach = half * (away / float(distribution.half_width(ONE_SIGMA)))
    dtype = filled[name].dtype
    lower, upper = transform.invert(middle - reach), transform.invert(middle + reach)
    return lower.clip(max=LARGEST).astype(dtype), upper.clip(max=LARGEST).astype(dtype)


def _unbounded(transform: Transform, limit: xr.DataArray) -> xr.DataArray:
    """Bring a stored limit to transformed space, without the floor that observations have."""
    free = Transform(transform.kind, LEAST_FLOOR, transform.upper)
    # Single precision may have rounded a limit to the bound, whose logit is infinite.
    return free.apply(limit.clip(max=BELOW_ONE * transform.highest))


def _transform(variable: xr.DataArray) -> Transform:
    """Return the transform that a variable was filled by."""
    remedy = "fill the data again"
    method = parse_json(str(variable.attrs["sstfill_method"]), "sstfill_method", remedy=remedy)
    record = method.get("transform") if isinstance(method, dict) else None
    if record is None:
        return NONE
    try:
        return Transform(**record)
    except TypeError:
        raise InputError(
            f"sstfill_method of {str(variable.name)!r} states a transform that this version does "
            f"not know; {remedy}"
        ) from None
