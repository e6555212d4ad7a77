# SPDX-License-Identifier: Apache-2.0
"""Transform skewed and bounded fields for the methods, and bring their estimates back.

Concentrations span orders of magnitude and are never negative: they are filled as decimal
logarithms. Fractions lie between 0 and 1: they are filled as logits. Estimates come back as
medians with the limits of a 68 % interval, which respect the bounds.
"""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit, logit

from sstfill.checks import check_choice, check_number
from sstfill.errors import OptionError
from sstfill.fields import tables
from sstfill.fields.error_distribution import GAUSSIAN, ONE_SIGMA, ErrorDistribution
from sstfill.fields.rounding import packing_step

log = logging.getLogger(__name__)

Kind = Literal["none", "log", "logit"]
Asked = Literal["auto", "log", "logit", "none"]
ASKED = ("auto", "log", "logit", "none")
SCALES = {"none": "", "log": "log10", "logit": "logit"}
"""Name of the transformed space, as in ``rmse_log10``."""
WORDS = {"none": "as they are", "log": "as decimal logarithms", "logit": "as logits"}
MOST_OUTSIDE = 0.01
"""Greatest fraction of the observations that may lie outside the bounds of a transform."""
MOST_ZERO = 0.2
"""Greatest fraction of zeros with which ``auto`` takes the logarithm: it says nothing of a zero."""
LEAST_FLOOR = 1e-30
"""Single precision holds no smaller floor."""
MARGIN = 0.005
"""Distance from the bounds, as a fraction of the whole, of fractions that are not packed."""
SKEWED = 1.0
"""Skewness of a field that calls for the logarithm, if that of the logarithm is less than half."""
WIDE = 30.0
"""Such a field also spans this factor from its 5 % to its 95 % quantile."""
FEWEST = 10
"""Of fewer pixels nothing is said of their distribution."""
ONE = ("1", "fraction", "unitless", "dimensionless", "none", "0-1", "1e0")
PERCENT = ("%", "percent", "percentage", "per cent", "pct")

V = TypeVar("V")


@dataclass(frozen=True)
class Transform:
    """An increasing function from the values of a field to a space without bounds, and back.

    Parameters
    ----------
    kind
        ``none``; ``log``, the decimal logarithm; ``logit``, ``ln(p / (1 - p))`` of the fraction
        ``p`` of `upper`.
    floor
        Values nearer to a bound are taken to lie so far from it, in the units of the field.
    upper
        The upper bound of ``logit``: 1, or 100 for percent.
    why
        Why this transform was chosen, in words.

    Examples
    --------
    >>> Transform("log", floor=0.001).apply(np.array([0.0, 1.0, 100.0]))
    array([-3.,  0.,  2.])
    >>> Transform("logit", floor=0.5, upper=100.0).invert(np.array([-800.0, 0.0, 800.0]))
    array([  0.,  50., 100.])
    """

    kind: Kind = "none"
    floor: float = 0.0
    upper: float = 1.0
    why: str = ""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, tuple(SCALES))
        if self.kind == "none":
            return
        check_number("floor", self.floor, LEAST_FLOOR / 2, 1e30)
        if self.kind == "logit":
            check_number("upper", self.upper, 2 * self.floor, 1e30, above=True)

    @property
    def scale(self) -> str:
        """Name of the transformed space: ``log10``, ``logit``, or empty."""
        return SCALES[self.kind]

    @property
    def highest(self) -> float:
        """The upper bound of the values; infinite where there is none."""
        return self.upper if self.kind == "logit" else np.inf

    def apply(self, values: V) -> V:
        """Transform values; NaN, shape, dtype, name and attributes stay, and Dask stays lazy."""
        return _pointwise(self._forward, values)

    def invert(self, values: V) -> V:
        """Bring transformed values back to the units of the field; the rest is as in `apply`."""
        return _pointwise(self._back, values)

    def _forward(self, values: Any) -> Any:
        if self.kind == "none":
            return values
        if self.kind == "log":
            return np.log10(np.maximum(values, self.floor))
        # logits of 0 and 1 are infinite
        inside = np.clip(values, self.floor, self.upper - self.floor)
        return logit(inside / self.upper)

    def _back(self, values: Any) -> Any:
        if self.kind == "none":
            return values
        if self.kind == "log":
            with np.errstate(over="ignore", under="ignore"):
                return 10.0**values
        return self.upper * expit(values)

    def is_outside(self, least: float, most: float) -> bool:
        """Whether a value of this range lies outside the bounds, or at one."""
        if self.kind == "none" or least > most:
            return False
        return least <= 0 or (self.kind == "logit" and most >= self.upper)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)


NONE = Transform()


class FieldTransforms:
    """The transform of one field, or those of several along ``variable``.

    Attributes
    ----------
    by_name
        Transform of each variable, in their order.
    usual
        True where no variable has one.
    """

    def __init__(self, by_name: Mapping[str, Transform]) -> None:
        self.by_name = dict(by_name)
        self.usual = all(one.kind == "none" for one in by_name.values())

    def apply(self, obs: xr.DataArray) -> xr.DataArray:
        """Transform a field for a method."""
        if self.usual:
            return obs
        return self._each(Transform.apply, obs)

    def invert(
        self, estimate: xr.Dataset, distributions: Mapping[str, ErrorDistribution] | None = None
    ) -> xr.Dataset:
        """Bring an estimate back to the units of the field.

        Parameters
        ----------
        estimate
            ``mean``, ``error``, ``members`` and the other fields that a method returns, in
            transformed space.
        distributions
            Of the errors there, by variable; Gaussian where none is given.

        Returns
        -------
        Dataset
            ``mean`` is the median of the estimate. Where there is an error, ``lower`` and ``upper``
            are the 16th and 84th percentile, and ``error`` is half the distance between them.
        """
        if self.usual:
            return estimate
        # Shallow: only the fields that change are replaced.
        back = estimate.copy()
        mean = estimate["mean"]
        back["mean"] = self._each(Transform.invert, mean)
        if "error" in estimate:
            sigma = estimate["error"].astype(np.float32).transpose(*mean.dims)
            reach = (sigma * self._reaches(distributions or {}, sigma)).transpose(*mean.dims)
            # Limits are brought back themselves, since a transform keeps quantiles and no other
            # measure of spread.
            lower = self._each(_limit, mean - reach).drop_attrs()
            upper = self._each(_limit, mean + reach).drop_attrs()
            # the interval is not symmetric about the median; half its width stands for one sigma
            back["error"] = self._each(_half_width, lower, upper, sigma).drop_attrs()
            back["lower"], back["upper"] = lower, upper
        if "members" in estimate:
            back["members"] = self._each(_finite, estimate["members"])
        if "singular_value" in estimate and estimate["singular_value"].attrs.get("units") != "1":
            back["singular_value"] = estimate["singular_value"].drop_attrs()
        words = " and ".join(sorted({WORDS[one.kind] for one in self.by_name.values()}))
        # Modes and the like cannot be brought back; the attribute says what they are of.
        for name in set(estimate.data_vars) - {"mean", "error", "members", "outlier"}:
            back[name] = back[name].assign_attrs(comment=f"of the values {words}")
        return back

    def _reaches(
        self, distributions: Mapping[str, ErrorDistribution], like: xr.DataArray
    ) -> xr.DataArray:
        """Return how many standard deviations the limits are away, one number for each variable."""
        every = []
        for name in self.by_name:
            distribution = distributions.get(name, GAUSSIAN)
            every.append(np.float32(distribution.half_width(ONE_SIGMA)))
        if "variable" in like.dims:
            return xr.DataArray(every, dims="variable")
        return xr.DataArray(every[0])

    def _each(self, kernel: Callable[..., xr.DataArray], *fields: xr.DataArray) -> xr.DataArray:
        """Run a kernel on each variable: its transform, then its part of each field."""
        transforms = list(self.by_name.values())
        if "variable" not in fields[0].dims:
            return kernel(transforms[0], *fields)
        parts = []
        for i, transform in enumerate(transforms):
            # a list as index, so that the dim stays
            parts.append(kernel(transform, *(field.isel(variable=[i]) for field in fields)))
        return xr.concat(parts, "variable").transpose(*fields[0].dims)


def _limit(transform: Transform, values: xr.DataArray) -> xr.DataArray:
    """Bring a limit of an interval back; beyond single precision it is the largest number."""
    with np.errstate(over="ignore", under="ignore"):
        limit = transform.invert(values)
        return limit.clip(max=np.finfo(np.float32).max).astype(np.float32)


def _finite(transform: Transform, draws: xr.DataArray) -> xr.DataArray:
    """Bring draws back; beyond their precision they are the largest number."""
    with np.errstate(over="ignore", under="ignore"):
        back = transform.invert(draws)
        return back.clip(max=np.finfo(back.dtype).max)


def _half_width(
    transform: Transform, lower: xr.DataArray, upper: xr.DataArray, sigma: xr.DataArray
) -> xr.DataArray:
    """Return half the distance of the limits, which without a transform is sigma itself."""
    return sigma if transform.kind == "none" else (upper - lower) / np.float32(2)


def choose(asked: str, variable: xr.DataArray, obs: xr.DataArray) -> Transform:
    """Choose the transform of a field.

    Parameters
    ----------
    asked
        ``auto`` goes by the standard_name, names and units of the variable (`by_name`).
    variable
        With the user's name, attributes and encoding.
    obs
        What the methods see of it.

    Returns
    -------
    Transform
        Its floor is half of the packing step, or half of the least positive value if that is less.
        Fractions keep half of the packing step from their bounds, 0.5 % if they are not packed. A
        warning counts the observations that lie nearer to a bound.

    Raises
    ------
    OptionError
        For an unknown transform, or one that is asked for and does not fit the values.
    """
    check_choice("transform", asked, ASKED)
    if asked == "none":
        return NONE
    kind, why = (asked, "as asked for") if asked != "auto" else by_name(variable)
    if kind == "none":
        return NONE
    name = str(variable.name)
    upper = _upper_bound(variable) if kind == "logit" else np.inf
    counts = count(obs, upper)
    if not np.isfinite(upper) and kind == "logit":
        # no units: by the values, of which some per cent may be a little above 1
        upper = 1.0 if counts.most <= 1.5 else 100.0
        counts = count(obs, upper)
    trouble = _misfit(kind, counts, upper, strict=asked == "auto")
    if trouble and asked == "auto":
        log.warning("%s is filled as it is, not %s (%s): %s", name, WORDS[kind], why, trouble)
        return NONE
    if trouble:
        raise OptionError(
            f"transform={asked!r} does not fit {name!r}: {trouble}; set them to NaN if they are "
            "wrong, or give transform='none'"
        )
    step = packing_step(variable)
    if kind == "log":
        # half a step: what was recorded as 0 lies somewhere between 0 and a step
        floor = max(min(step, counts.least) / 2, LEAST_FLOOR) if counts.number else 1.0
        transform = Transform("log", floor, why=why)
    else:
        margin = MARGIN
        if np.isfinite(step):
            # Half a step from the bounds, as with the logarithm, but neither so little that logits
            # explode nor so much that values are moved.
            margin = min(max(step / upper / 2, MARGIN / 10), MARGIN)
        transform = Transform("logit", margin * upper, upper, why)
    warn_of_floor(name, transform, counts)
    return transform


def warn_of_floor(name: str, transform: Transform, counts: Counts) -> None:
    """Log one line where observations lie outside the bounds of a transform, or at them."""
    outside = counts.negative + counts.zero
    if transform.kind == "log" and outside:
        log.warning(
            "%s: %d of %d observations are zero or negative; the method takes them as %.3g, in the "
            "output they stay as they are",
            *(name, outside, counts.number, transform.floor),
        )
    outside += counts.above
    if transform.kind == "logit" and outside:
        low, high = transform.floor, transform.upper - transform.floor
        log.warning(
            "%s: %d of %d observations are at or beyond the bounds 0 and %g; the method takes them "
            "as %.3g and %.3g, in the output they stay as they are",
            *(name, outside, counts.number, transform.upper, low, high),
        )


class Counts(NamedTuple):
    """Counts of observations.

    Attributes
    ----------
    number, negative, zero, above
        Of all, of those below 0, of those that are 0, and of those at or above the upper bound.
    beyond
        Of those above the upper bound.
    least, most
        The least positive value and the greatest; infinite where there are none.
    lowest
        The least value of all.
    """

    number: int = 0
    negative: int = 0
    zero: int = 0
    above: int = 0
    beyond: int = 0
    least: float = np.inf
    most: float = -np.inf
    lowest: float = np.inf


def count(obs: xr.DataArray, upper: float = np.inf) -> Counts:
    """Count what lies at or outside the bounds 0 and `upper`, image by image or block by block."""
    if obs.chunks is None:
        images = obs.values.reshape(-1, *obs.shape[-2:])
        return total([_count(image, upper) for image in images])
    import dask

    # Not pure: dask would hash every block to name its task.
    counted = dask.delayed(_count, pure=False)
    return total(dask.compute([counted(b, upper) for b in obs.data.to_delayed().ravel()])[0])


def _count(values: NDArray, upper: float) -> Counts:
    known = values[np.isfinite(values)]
    positive = known[known > 0]
    return Counts(
        number=known.size,
        negative=int((known < 0).sum()),
        zero=int((known == 0).sum()),
        above=int((known >= upper).sum()),
        beyond=int((known > upper).sum()),
        least=float(positive.min(initial=np.inf)),
        most=float(known.max(initial=-np.inf)),
        lowest=float(known.min(initial=np.inf)),
    )


def total(parts: Sequence[Counts]) -> Counts:
    """Add counts up."""
    whole = Counts()
    for part in parts:
        whole = Counts(
            number=whole.number + part.number,
            negative=whole.negative + part.negative,
            zero=whole.zero + part.zero,
            above=whole.above + part.above,
            beyond=whole.beyond + part.beyond,
            least=min(whole.least, part.least),
            most=max(whole.most, part.most),
            lowest=min(whole.lowest, part.lowest),
        )
    return whole


def _misfit(kind: str, counts: Counts, upper: float, *, strict: bool) -> str:
    """Say with numbers why the values do not fit a transform; empty if they do."""
    outside = counts.negative + counts.beyond
    if outside > MOST_OUTSIDE * counts.number:
        share = f"{outside} of {counts.number} observations ({outside / counts.number:.1%})"
        if counts.beyond:
            return f"{share} lie outside 0 to {upper:g}, {counts.lowest:g} to {counts.most:g}"
        return f"{share} are negative, down to {counts.lowest:g}"
    if kind == "log" and counts.number and not np.isfinite(counts.least):
        return f"none of {counts.number} observations is positive"
    if strict and kind == "log" and counts.zero > MOST_ZERO * counts.number:
        return f"{counts.zero} of {counts.number} observations are zero"
    return ""


def _upper_bound(variable: xr.DataArray) -> float:
    """Return the upper bound of a fraction by its units; infinite where they do not tell."""
    units = str(variable.attrs.get("units", "")).strip().lower()
    if units in PERCENT:
        return 100.0
    return 1.0 if units in ONE else np.inf


def by_name(variable: xr.DataArray) -> tuple[Kind, str]:
    """Return the transform by the table ``transforms.toml``, and what it goes by.

    The reason is empty where no rule matches.

    >>> by_name(xr.DataArray(0.0, name="chl", attrs={"units": "mg m-3"}))
    ('log', "name 'chl'")
    >>> by_name(xr.DataArray(0.0, name="sst", attrs={"units": "degC"}))
    ('none', '')
    """
    standard_name = str(variable.attrs.get("standard_name", "")).strip()
    long_name = str(variable.attrs.get("long_name", "")).strip()
    units = str(variable.attrs.get("units", "")).strip()
    for rule in tables.load("transforms")["rule"]:
        # CF: standard names are controlled, so they go before names that anybody chooses.
        if _matches(standard_name, rule.get("standard_name", ())):
            return rule["transform"], f"standard_name {standard_name!r}"
        for key, text in (("name", str(variable.name)), ("long_name", long_name)):
            # Underscores too, so that a pattern finds whole words in a name like chl_oc5.
            words = re.sub(r"[\W_]+", " ", text.lower())
            if any(re.search(pattern, words) for pattern in rule.get("name", ())):
                return rule["transform"], f"{key} {text!r}"
        if _matches(units, rule.get("units", ())):
            return rule["transform"], f"units {units!r}"
    return "none", ""


def _matches(text: str, patterns: Sequence[str]) -> bool:
    spelled = " ".join(text.lower().split())
    return bool(spelled) and any(fnmatch.fnmatchcase(spelled, pattern) for pattern in patterns)


def is_skewed(least: NDArray, most: NDArray) -> bool:
    """Whether a field of positive values looks log-normal, by each pixel's least and most value.

    >>> rng = np.random.default_rng(0)
    >>> values = 10 ** rng.normal(size=1000)
    >>> is_skewed(values, values), is_skewed(np.log10(values) + 9, np.log10(values) + 9)
    (True, False)
    """
    known = np.isfinite(least) & np.isfinite(most)
    low, high = least[known].astype(np.float64), most[known].astype(np.float64)
    if low.size < FEWEST or low.min() <= 0:
        return False
    if np.quantile(high, 0.95) <= WIDE * np.quantile(low, 0.05):
        return False
    # The extremes of each pixel stand for its values: nothing more is kept of a lazy field.
    values, logarithms = np.append(low, high), np.log10(np.append(low, high))
    skewness = _skewness(values)
    return skewness > SKEWED and abs(_skewness(logarithms)) < skewness / 2


def note_skewness(names: Sequence[str]) -> None:
    """Log one line for fields that `is_skewed`, and that nothing tells to be concentrations."""
    log.warning(
        "%s: positive values that span orders of magnitude; transform='log' may fill them better, "
        "and without negative values",
        ", ".join(names),
    )


def _skewness(values: NDArray) -> float:
    # A constant field has no skewness.
    away = (values - values.mean()) / (values.std() or 1.0)
    return float((away**3).mean())


def _pointwise(kernel: Any, values: Any) -> Any:
    """Run a kernel on an array, or on each block of a DataArray."""
    if not isinstance(values, xr.DataArray):
        return kernel(values)
    return xr.apply_ufunc(
        kernel, values, dask="parallelized", output_dtypes=[values.dtype], keep_attrs=True
    )
