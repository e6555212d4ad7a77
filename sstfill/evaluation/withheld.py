# SPDX-License-Identifier: Apache-2.0
"""Compare methods at observed pixels that are hidden under transplanted clouds and filled again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.checks import check_choice, check_number
from sstfill.errors import InputError, OptionError
from sstfill.evaluation.draws import draw_scores, power_ratios
from sstfill.evaluation.scorecard import Scorecard
from sstfill.fields.ancillary import MEMBER, unfilled
from sstfill.fields.error_distribution import GAUSSIAN, ONE_SIGMA, ErrorDistribution
from sstfill.fields.gaps import (
    cloud_fraction,
    days_to_observed,
    derived_seed,
    distance_to_observed,
    transplant_clouds,
)
from sstfill.fields.grid import axes, standardise
from sstfill.fields.reading.dates import days_since_first, usual_step
from sstfill.fields.reading.missing import mask_missing
from sstfill.fields.reading.positions import along_axis, cell_km, on_the_sphere
from sstfill.fields.reading.rules import located
from sstfill.fields.reading.sea import find_sea, sea_mask
from sstfill.fields.reading.variables import pick_field
from sstfill.fields.transform import NONE, Asked, Transform, choose
from sstfill.fill import fill
from sstfill.methods import Method, method_class
from sstfill.methods.auto.method import Auto
from sstfill.methods.base import Simulates
from sstfill.methods.registry import MOST_MEMBERS, affordable
from sstfill.validation import metrics
from sstfill.validation.patch_means import Places
from sstfill.validation.withholding.runs import withheld_runs
from sstfill.version import __version__

log = logging.getLogger(__name__)
ALL = "all"
Clouds = Literal["dates", "runs"]
SOURCES = {"dates": "other dates", "runs": "runs of other dates"}
"""What pixels may be hidden under, and how a scorecard calls it."""
LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
"""Of the intervals whose coverage is counted; 0.68 is that of one standard deviation."""
STEPS = (1.5, 3.5, 7.5, 15.5)
"""Edges of the distance bins in pixels, between the distances that grids have."""
LAGS = (1.5, 3.5, 7.5)
"""Edges of the lag bins in time steps."""
KERNELS = {"mae": metrics.mae, "rmse": metrics.rmse, "bias": metrics.bias}

Values = NDArray[np.floating]
Bools = NDArray[np.bool_]


class Bins(NamedTuple):
    """The bins of a stratum: inner edges, labels (one more than edges), and a name."""

    edges: NDArray[np.float64]
    labels: list[str]
    long_name: str


class Estimate(NamedTuple):
    """A method's estimate at the withheld pixels, shape (n,), and the seconds of its fill.

    `spread` is the error in transformed space; `sigma` where there is no transform. `degrees` are
    those of freedom of the errors. Members, if there are any, have shape (members, n).
    """

    mean: Values
    sigma: Values
    spread: Values
    degrees: Values
    seconds: float = np.nan
    cpu_seconds: float = np.nan
    members: Values | None = None


class WithheldSample(NamedTuple):
    """Truth, places, strata and estimates at the withheld pixels, each of shape (n,)."""

    truth: Values
    places: Places
    strata: dict[str, Values]
    estimates: dict[str, Estimate]
    n_observed: int


def score(
    data: xr.Dataset | xr.DataArray,
    methods: str | Method | Iterable[str | Method] | Mapping[str, str | Method] | None = None,
    *,
    variable: str | None = None,
    clouds: xr.DataArray | Clouds = "dates",
    fraction: float = 0.1,
    seed: int = 0,
    repeats: int = 1,
    sea: xr.DataArray | None = None,
    calibrate: bool = True,
    transform: Asked = "auto",
    members: int = 0,
) -> Scorecard:
    """Score methods at observed pixels that are hidden under the clouds of other dates.

    The same pixels are hidden from every method. By default each image is hidden under the clouds
    of one other date, as published comparisons do. Real gaps often last for days:
    ``clouds="runs"`` hides pixels for as long as the gaps of the series last, and so tells more of
    the error of a fill.

    Parameters
    ----------
    data
        The series, as for `sstfill.fill.fill`.
    methods
        Names or method instances; a mapping gives them labels. Default: every registered method
        for which there are enough images, with its default options, except ``auto``, which costs as
        much as the others together, and ``patchmatch`` beyond 750,000 values. ``"all"`` takes
        ``auto`` too.
    variable
        Which field of a Dataset; needed where it holds several.
    clouds
        ``"dates"`` hides each image under the clouds of another date, see
        `sstfill.fields.gaps.transplant_clouds`; ``"runs"`` hides runs of dates, see
        `sstfill.validation.withholding.runs.withheld_runs`. Or cloud masks, True or 1 under
        cloud, dims in any order if named as those of `data`.
    fraction
        Fraction of the observed pixels to hide.
    seed, repeats
        Repeat r hides with seed ``seed + r``, and fills with another one derived from it; all
        repeats are pooled.
    sea
        True at sea; see `sstfill.fields.reading.sea.sea_mask`.
    calibrate
        Score the error as `fill` states it: scaled on further withheld pixels. Each fill then takes
        twice as long. False scores the error as the method estimates it.
    transform
        As in `fill`. Of transformed values the scores are in the units of the field and, by the
        names ``rmse_log10`` and the like, in transformed space.
    members
        How many fields to draw of each method that can, as in `fill`, and to score: 0 for none.

    Returns
    -------
    Scorecard
        Errors overall and by cloud fraction of the image, by distance to the nearest observation
        left in the image, and by days to the nearest observation left at the pixel; CRPS and
        coverage of the stated error; seconds are those of one fill, on average.

    Raises
    ------
    InputError
        If there are no clouds to hide under (see the functions named at `clouds`), or
        `data` was filled by sstfill and lacks ``<name>_source``, which marks the filled pixels.
    OptionError
        If a method or variable is unknown, two methods have one name, or another option is out of
        its range.
    """
    check_number("repeats", repeats, 1, whole=True)
    check_number("seed", seed, 0, whole=True)
    _check_members(members)
    array = _observed(data, variable)
    field = standardise(array)
    if methods is None:
        # Without `auto`: it runs all others, and would double the time.
        methods = [name for name in affordable(field) if name != Auto.name]
    elif isinstance(methods, str) and methods == ALL:
        methods = affordable(field)
    chosen = _labelled(methods)
    if not chosen:
        raise OptionError(f"no method to score in {methods!r}; name one, such as 'dineof'")
    if sea is None and isinstance(data, xr.Dataset):
        sea = find_sea(data)
    sea = sea_mask(field, sea)
    masks = None
    if isinstance(clouds, str):
        check_choice("clouds", clouds, tuple(SOURCES))
    else:
        if not isinstance(clouds, xr.DataArray):
            raise InputError(
                f"clouds is a {type(clouds).__name__}; "
                "give an xarray DataArray with the dims of the field, or 'dates' or 'runs'"
            )
        # The user's dims get the names of the standardised field's.
        dims = dict(zip(axes(array).dims, field.dims, strict=True))
        # Only names are changed: coordinates of masks of other years would not align.
        masks = xr.DataArray(clouds.data, dims=[dims.get(d, d) for d in clouds.dims])
    space = choose(transform, array, field)
    samples = []
    for number in range(seed, seed + repeats):
        if isinstance(clouds, str) and clouds == "runs":
            withheld = withheld_runs(field, sea, fraction=fraction, seed=number)
        else:
            withheld = transplant_clouds(field, sea, fraction=fraction, seed=number, clouds=masks)
        # with the same seed the method would hide, for its own tuning and scaling, pixels of the
        # very same images
        other = derived_seed(number, 1)
        estimates = {}
        for label, method in chosen.items():
            drawn = members
            if members and not isinstance(method, Simulates):
                log.info("%s cannot draw members; only its error is scored", label)
                drawn = 0
            estimates[label] = _refill(
                *(field, method, sea, withheld, other, calibrate, transform, space, drawn)
            )
        samples.append(_sample(field, field, sea, withheld, estimates))
    source = SOURCES[clouds] if isinstance(clouds, str) else "given"
    attrs: dict[str, str | int] = {"seed": seed, "repeats": repeats, "clouds": source}
    return _scorecard(field, samples, attrs, space)


def score_against(
    truth: xr.DataArray,
    estimates: Mapping[str, xr.Dataset],
    where: xr.DataArray,
    *,
    obs: xr.DataArray | None = None,
    sea: xr.DataArray | None = None,
) -> Scorecard:
    """Score existing estimates, at pixels that were hidden from the methods.

    Parameters
    ----------
    truth
        The true field, dims as `sstfill.fields.grid.standardise` takes them.
    estimates
        By label, the result of a method or of `fill`: ``mean`` and perhaps ``error``, or the
        field under the name of `truth` and perhaps ``<name>_error``; the grid of `truth`. Where
        there are ``members`` or ``<name>_members``, equally many in each, they are scored too;
        spectra are compared where the truth has no gap.
    where
        True or 1 at the hidden pixels, dims of `truth`; those without truth are left out.
    obs
        The observations that the methods had, for the strata. Default: `truth` without the hidden
        pixels; give it if `truth` is known at the hidden pixels only, or everywhere.
    sea
        True at sea. Default: where there is any truth.

    Raises
    ------
    InputError
        If an estimate has no field to score or another shape, or nothing is hidden.
    """
    if not estimates:
        raise InputError("no estimate to score: `estimates` is empty; give {label: dataset}")
    field = standardise(truth)
    # A mask read from a file, or reindexed, is NaN where nothing is hidden; as a bool that is True.
    hidden = _like(where.fillna(0), truth).astype(bool) & field.notnull()
    if not hidden.any():
        raise InputError(
            "no pixel to score: `where` is nowhere True where truth is known; check both"
        )
    # The strata are by distance to what the methods had.
    given = field if obs is None else _like(obs, truth)
    at_hidden = {}
    for label, dataset in estimates.items():
        at_hidden[label] = _estimate_of(label, dataset, truth, hidden)
    sample = _sample(field, given, sea_mask(field, sea), hidden, at_hidden)
    card = _scorecard(field, [sample], {"repeats": 1, "clouds": "given"}, NONE)
    if all(one.members is None for one in at_hidden.values()):
        return card
    fields = {}
    # Spectra are of whole fields, so these are read once more, beyond the hidden pixels.
    for label, dataset in estimates.items():
        name, prefix = _names_in(label, dataset, truth)
        fields[label] = _like(dataset[name], truth), _members_of(dataset, prefix, truth)
    ratios = power_ratios(field, fields)
    return Scorecard(card.data.merge(ratios).assign_attrs(card.data.attrs | ratios.attrs))


def _labelled(
    methods: str | Method | Iterable[str | Method] | Mapping[str, str | Method],
) -> dict[str, Method]:
    if isinstance(methods, Mapping):
        return {str(label): _instance(method) for label, method in methods.items()}
    if isinstance(methods, str | Method):
        methods = [methods]
    chosen: dict[str, Method] = {}
    for method in map(_instance, methods):
        # One would silently replace the other in the table.
        if method.name in chosen:
            raise OptionError(
                f"two methods are called {method.name!r}; label them: {{'a': ..., 'b': ...}}"
            )
        chosen[method.name] = method
    return chosen


def _instance(method: str | Method) -> Method:
    if isinstance(method, str):
        return method_class(method)()
    return method


def _observed(data: xr.Dataset | xr.DataArray, variable: str | None) -> xr.DataArray:
    """Choose the field, without the values of an earlier fill, which are not truth."""
    if isinstance(data, xr.Dataset):
        ds = located(data)
        name = pick_field(ds, variable)
        # A filled file goes through, too: what was filled in it becomes a gap again.
        array = unfilled(mask_missing(ds, [name]), name)[name]
    else:
        array = data
    # Filled values are estimates: a method must not be scored against another's.
    if "sstfill_method" in array.attrs:
        raise InputError(
            f"{array.name!r} was filled by sstfill and does not say which pixels; "
            "pass the Dataset that fill() returned"
        )
    return array.rename(array.name or "field")


def _like(array: xr.DataArray, truth: xr.DataArray) -> xr.DataArray:
    """Bring an array on the dims of `truth`, in any order, to those of the standardised truth."""
    if dict(array.sizes) != dict(truth.sizes):
        raise InputError(
            f"{array.name!r} is {dict(array.sizes)}, truth is {dict(truth.sizes)}; "
            "bring it to that grid"
        )
    return standardise(truth.copy(data=array.transpose(*truth.dims).astype(truth.dtype).data))


def _names_in(label: str, dataset: xr.Dataset, truth: xr.DataArray) -> tuple[str, str]:
    """Return the names of an estimate and of what belongs to it, up to ``error``."""
    if "mean" in dataset:
        return "mean", ""
    name = str(truth.name)
    if name not in dataset:
        raise InputError(
            f"estimate {label!r} has neither 'mean' nor {name!r}; "
            "rename the field that is to be scored"
        )
    return name, f"{name}_"


def _members_of(dataset: xr.Dataset, prefix: str, truth: xr.DataArray) -> xr.DataArray | None:
    """Return members on the dims of the standardised truth, the members first; None without."""
    name = f"{prefix}members"
    if name not in dataset:
        return None
    # One by one, since `standardise` takes a field without further dims.
    every = [_like(one, truth) for one in dataset[name].transpose(MEMBER, ...)]
    return xr.concat(every, MEMBER, coords="minimal", compat="override")


def _estimate_of(
    label: str, dataset: xr.Dataset, truth: xr.DataArray, hidden: xr.DataArray
) -> Estimate:
    name, prefix = _names_in(label, dataset, truth)
    mean = _like(dataset[name], truth).values[hidden.values]
    sigma, distribution = mean * np.nan, GAUSSIAN
    if f"{prefix}error" in dataset:
        error = dataset[f"{prefix}error"]
        sigma = _like(error, truth).values[hidden.values]
        distribution = ErrorDistribution.of(error.attrs)
    degrees = np.full(mean.shape, distribution.degrees_of_freedom)
    every, members = _members_of(dataset, prefix, truth), None
    if every is not None:
        members = every.values[:, hidden.values]
    return Estimate(mean, sigma, sigma, degrees, members=members)


def _check_members(members: int) -> None:
    check_number("members", members, 0, MOST_MEMBERS, whole=True)
    if members == 1:
        raise OptionError("members=1: one member tells nothing of a spread; give 2 or more, or 0")


def _refill(
    field: xr.DataArray,
    method: Method,
    sea: xr.DataArray,
    withheld: xr.DataArray,
    seed: int,
    calibrate: bool,
    transform: Asked,
    space: Transform,
    members: int,
) -> Estimate:
    # The time of the score is counted too where there is one: it is part of what `fill` does.
    started, cpu_started = time.perf_counter(), time.process_time()
    filled = fill(
        field,
        method,
        sea=sea,
        withheld=withheld,
        score=calibrate,
        transform=transform,
        members=members,
        seed=seed,
    )
    name, error = str(field.name), f"{field.name}_error"
    lower, upper = f"{field.name}_lower", f"{field.name}_upper"
    every = f"{field.name}_members"
    # computed within the measured time: a lazy fill has done next to nothing so far
    filled = filled[[n for n in (name, error, lower, upper, every) if n in filled]].compute()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    # A method may return its dims in another order.
    mean = filled[name].transpose(*field.dims).values[withheld.values]
    sigma, distribution = mean * np.nan, GAUSSIAN
    if error in filled:
        sigma = filled[error].transpose(*field.dims).values[withheld.values]
        distribution = ErrorDistribution.of(filled[error].attrs)
    spread = sigma
    if space.kind != "none":
        spread = mean * np.nan
        if lower in filled:
            low = filled[lower].transpose(*field.dims).values[withheld.values]
            high = filled[upper].transpose(*field.dims).values[withheld.values]
            # The limits are those of a 68 % interval.
            away = distribution.half_width(ONE_SIGMA)
            sigma = sigma / away
            spread = (space.apply(high) - space.apply(low)) / 2 / away
    degrees = np.full(mean.shape, distribution.degrees_of_freedom)
    drawn = None
    if every in filled:
        drawn = filled[every].transpose(MEMBER, *field.dims).values[:, withheld.values]
    return Estimate(mean, sigma, spread, degrees, seconds, cpu_seconds, drawn)


def _sample(
    truth: xr.DataArray,
    obs: xr.DataArray,
    sea: xr.DataArray,
    withheld: xr.DataArray,
    estimates: dict[str, Estimate],
) -> WithheldSample:
    """Gather truth, strata and estimates; the methods saw `obs` without `withheld`."""
    observed = obs.notnull().compute()
    seen, hidden = (observed & ~withheld).transpose(*truth.dims), withheld.values
    strata = {
        # Strata are of what is left, since that is what the methods had.
        "cloud": cloud_fraction(seen, sea).values[np.nonzero(hidden)[0]],
        "distance": distance_to_observed(seen.values, cell_km(truth))[hidden],
        "lag": days_to_observed(seen.values, days_since_first(truth))[hidden],
    }
    # Given observations may lack the hidden pixels already; together they are what was observed.
    n_observed = int(((observed | withheld) & sea).sum())
    places = Places(*np.nonzero(hidden))
    return WithheldSample(truth.values[hidden], places, strata, estimates, n_observed)


def _bins(field: xr.DataArray) -> dict[str, Bins]:
    unit = "px"
    if on_the_sphere(field) or along_axis(field, "y") is not None:
        unit = "km"
    step = usual_step(days_since_first(field))
    return {
        "cloud": Bins(
            np.array([0.25, 0.5, 0.75]),
            ["0-25 %", "25-50 %", "50-75 %", "75-100 %"],
            "fraction of the sea not observed in the image",
        ),
        "distance": _stretched(
            STEPS, min(cell_km(field)), unit, "distance to the nearest observation"
        ),
        "lag": _stretched(LAGS, step, "days", "time to the nearest observation of the pixel"),
    }


def _stretched(steps: tuple[float, ...], size: float, unit: str, long_name: str) -> Bins:
    """Bins of so many grid steps, their edges rounded to two digits."""
    # Rounded, so that a label is the very edge that divides.
    edges = [float(f"{step * size:.2g}") for step in steps]
    labels = []
    for low, high in zip([0.0, *edges[:-1]], edges, strict=True):
        labels.append(f"{low:g}-{high:g} {unit}")
    labels.append(f">{edges[-1]:g} {unit}")
    return Bins(np.array(edges), labels, long_name)


def _scorecard(
    field: xr.DataArray,
    samples: list[WithheldSample],
    attrs: dict[str, str | int],
    space: Transform,
) -> Scorecard:
    """Pool the samples of all repeats."""
    truths, at, strata, estimates, n_observed = zip(*samples, strict=True)
    truth = np.concatenate(truths)
    bins = _bins(field)
    places = {}
    for name, stratum in bins.items():
        values = np.concatenate([of_repeat[name] for of_repeat in strata])
        # Infinite distances, where nothing is left in the image, fall into the last bin.
        places[name] = np.digitize(values, stratum.edges)
    pooled = {}
    for label in estimates[0]:
        pooled[label] = _pooled([of_repeat[label] for of_repeat in estimates])
    # Methods that filled nothing at all do not take the comparison from the others.
    common = np.ones(truth.size, bool)
    filled_any = False
    for estimate in pooled.values():
        filled = np.isfinite(estimate.mean)
        if filled.any():
            common &= filled
            filled_any = True
    common &= filled_any
    cards = [_card(truth, estimate, common, places, bins, space) for estimate in pooled.values()]
    if any(estimate.members is not None for estimate in pooled.values()):
        drawn = _number_of_members(pooled)
        everywhere = _pooled_places(at, field.sizes["time"])
        seed = int(attrs.get("seed", 0))
        for card, one in zip(cards, pooled.values(), strict=True):
            own = truth, one.mean, one.sigma, one.members
            card.update(draw_scores(*own, drawn, everywhere, LEVELS, seed))
    data = xr.concat(cards, xr.Variable("method", list(pooled)))
    if space.kind != "none":
        attrs |= {"transform": space.kind}
    return Scorecard(
        data.assign_attrs(
            variable=str(field.name),
            units=str(field.attrs.get("units", "")),
            fraction=truth.size / sum(n_observed),
            **attrs,
            n_withheld=truth.size,
            n_common=int(common.sum()),
            sstfill_version=__version__,
        )
    )


def _number_of_members(estimates: Mapping[str, Estimate]) -> int:
    """Count members; refuse different numbers, whose ranks would not compare, and a single one."""
    numbers = {}
    for label, estimate in estimates.items():
        if estimate.members is not None:
            numbers[label] = len(estimate.members)
    if len(set(numbers.values())) > 1:
        raise InputError(f"estimates have {numbers} members; give equally many of each")
    number = next(iter(numbers.values()))
    _check_members(number)
    return number


def _pooled_places(places: Sequence[Places], times: int) -> Places:
    """Number the images of all repeats in one go."""
    images, rows, columns = zip(*places, strict=True)
    # The same image in two repeats is withheld under other clouds, and counts as two.
    numbered = []
    for number, image in enumerate(images):
        numbered.append(image + number * times)
    return Places(np.concatenate(numbered), np.concatenate(rows), np.concatenate(columns))


def _pooled(estimates: list[Estimate]) -> Estimate:
    """Put the estimates of one method in all repeats together."""
    means, sigmas, spreads, degrees, seconds, cpu_seconds, members = zip(*estimates, strict=True)
    drawn = None
    if members[0] is not None:
        drawn = np.concatenate(members, axis=1)
    return Estimate(
        mean=np.concatenate(means),
        sigma=np.concatenate(sigmas),
        spread=np.concatenate(spreads),
        degrees=np.concatenate(degrees),
        seconds=float(np.mean(seconds)),
        cpu_seconds=float(np.mean(cpu_seconds)),
        members=drawn,
    )


def _card(
    truth: Values,
    estimate: Estimate,
    common: Bools,
    places: dict[str, NDArray[np.intp]],
    bins: dict[str, Bins],
    space: Transform,
) -> xr.Dataset:
    """Score one method at the pixels that it filled; `common_rmse` at those that all filled."""
    done = np.isfinite(estimate.mean)
    # A method may fill a pixel without an error for it, or state none at all.
    stated = done & np.isfinite(estimate.sigma)
    error, sigma = (estimate.mean - truth)[stated], estimate.sigma[stated]
    degrees = estimate.degrees[stated]
    card = xr.Dataset(coords={"level": list(LEVELS)})
    for name, kernel in KERNELS.items():
        card[name] = kernel(estimate.mean[done], truth[done])
    card["common_rmse"] = metrics.rmse(estimate.mean[common & done], truth[common & done])
    card["correlation"] = metrics.correlation(estimate.mean[done], truth[done])
    card["crps"] = metrics.stated_crps(error, sigma, degrees)
    if space.kind != "none":
        there, wanted = space.apply(estimate.mean), space.apply(truth)
        for name, kernel in KERNELS.items():
            card[f"{name}_{space.scale}"] = kernel(there[done], wanted[done])
        card[f"correlation_{space.scale}"] = metrics.correlation(there[done], wanted[done])
        # The interval of a transformed estimate is symmetric in transformed space.
        stated = done & np.isfinite(estimate.spread)
        error, sigma = (there - wanted)[stated], estimate.spread[stated]
        degrees = estimate.degrees[stated]
        card[f"crps_{space.scale}"] = metrics.stated_crps(error, sigma, degrees)
    held = [metrics.coverage(error, sigma, level, None, degrees) for level in LEVELS]
    card["coverage"] = "level", held
    card["n"] = int(done.sum())
    card["filled_fraction"] = float(done.mean())
    card["seconds"], card["cpu_seconds"] = estimate.seconds, estimate.cpu_seconds
    for stratum, (_, labels, long_name) in bins.items():
        within = done & (places[stratum] == np.arange(len(labels))[:, np.newaxis])
        card[f"{stratum}_bin"] = xr.Variable(f"{stratum}_bin", labels, {"long_name": long_name})
        for name, kernel in KERNELS.items():
            values = np.empty(len(labels))
            for number, here in enumerate(within):
                values[number] = kernel(estimate.mean[here], truth[here])
            card[f"{name}_by_{stratum}"] = f"{stratum}_bin", values
        card[f"n_by_{stratum}"] = f"{stratum}_bin", within.sum(1)
    return card
