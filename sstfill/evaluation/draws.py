# SPDX-License-Identifier: Apache-2.0
"""Scores of members (draws) at withheld pixels, as variables of a scorecard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.validation import ensemble, patch_means
from sstfill.validation.patch_means import Places
from sstfill.validation.texture import gradients, spectrum

SIDES = (2, 4, 8, 16)
"""Sides of the patches over which means are compared, in pixels."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
"""Of the sizes of gradients."""

Values = NDArray[np.floating]


def draw_scores(
    truth: Values,
    mean: Values,
    sigma: Values,
    members: Values | None,
    number: int,
    places: Places,
    levels: tuple[float, ...],
    seed: int,
) -> xr.Dataset:
    """Score members where a method has them; else only what mean and error imply.

    Parameters
    ----------
    truth, mean, sigma
        At the withheld pixels, shape ``(n,)``; NaN where a method has no estimate.
    members
        Shape ``(members, n)``; None if the method cannot draw.
    number
        Of members that methods which can draw have.
    places
        Of the pixels, in the order of image, row and column.
    levels
        Probabilities of the intervals.
    seed
        Of the ranks among equal values.

    Returns
    -------
    Dataset
        ``patch_coverage_independent`` (patch, level), ``n_patches`` (patch), ``gradient_truth`` and
        ``gradient_mean`` (quantile); and of members, NaN without, ``crps_members``, ``energy``,
        ``rank_histogram`` (rank), ``rank_deviation``, ``patch_coverage`` (patch, level) and
        ``gradient_draws`` (quantile).
    """
    # Mean and members are scored at the same pixels, or they could not be compared.
    done = np.isfinite(mean)
    if members is not None:
        done &= np.isfinite(members).all(0)
    truth = truth[done].astype(np.float64)
    mean = mean[done].astype(np.float64)
    sigma = sigma[done].astype(np.float64)
    places = Places(places.image[done], places.row[done], places.column[done])
    card = xr.Dataset(coords={"patch": list(SIDES), "quantile": list(QUANTILES)})
    card["patch"].attrs = {"long_name": "side of a square of withheld pixels", "units": "pixels"}
    # Squares are of pixels that this method filled; others may have filled more.
    patches = [patch_means.squares(places, side) for side in SIDES]
    card["n_patches"] = "patch", list(map(len, patches))
    independent = []
    for found in patches:
        claimed = patch_means.coverage_if_independent(truth, mean, sigma, found, levels)
        independent.append(claimed)
    card["patch_coverage_independent"] = ("patch", "level"), independent
    card["gradient_truth"] = "quantile", _quantiles(gradients(truth, places))
    card["gradient_mean"] = "quantile", _quantiles(gradients(mean, places))
    card["rank"] = "rank", np.arange(number + 1), {"long_name": "members below the truth"}
    # Empty, so that cards of all methods have the same variables and can be put together.
    if members is None:
        for name in ("crps_members", "energy", "rank_deviation"):
            card[name] = np.nan
        card["rank_histogram"] = "rank", np.full(number + 1, np.nan)
        card["patch_coverage"] = xr.full_like(card["patch_coverage_independent"], np.nan)
        card["gradient_draws"] = xr.full_like(card["gradient_mean"], np.nan)
        return card
    drawn = members[:, done].astype(np.float64)
    card["crps_members"] = ensemble.crps(truth, drawn)
    card["energy"] = ensemble.energy_score(truth, drawn, places.image)
    histogram = ensemble.rank_histogram(truth, drawn, seed)
    card["rank_histogram"] = "rank", histogram
    card["rank_deviation"] = ensemble.rank_deviation(histogram)
    by_members = []
    for found in patches:
        held = patch_means.coverage_by_members(truth, mean, drawn, found, levels)
        by_members.append(held)
    card["patch_coverage"] = ("patch", "level"), by_members
    card["gradient_draws"] = "quantile", _quantiles(gradients(drawn, places))
    return card


def power_ratios(
    truth: xr.DataArray, fields: Mapping[str, tuple[xr.DataArray, xr.DataArray | None]]
) -> xr.Dataset:
    """Compare the power of estimates and of their members to that of a truth without gaps.

    Parameters
    ----------
    truth
        Dims ``(time, y, x)``.
    fields
        By label of the method, its estimate and its members (dims of `truth`, members with a
        leading ``member``), or None.

    Returns
    -------
    Dataset
        ``power_ratio_mean`` and ``power_ratio_draws`` (method, wavelength), decibels; the attribute
        ``spectrum`` says why there are none, where there are none.
    """
    gaps = int(truth.isnull().sum())
    if gaps:
        return xr.Dataset(attrs={"spectrum": f"not known: the truth lacks {gaps} pixels"})
    expected = spectrum(truth.values)
    wavelength = xr.Variable("wavelength", expected.wavelength, {"units": "pixels"})
    ratios = xr.Dataset(coords={"method": list(fields), "wavelength": wavelength})
    for name in ("power_ratio_mean", "power_ratio_draws"):
        empty = np.full((len(fields), expected.power.size), np.nan)
        ratios[name] = ("method", "wavelength"), empty, {"units": "dB"}
    for number, of_method in enumerate(fields.values()):
        for name, field in zip(("power_ratio_mean", "power_ratio_draws"), of_method, strict=True):
            # A spectrum needs whole images, so that one missing pixel leaves it unknown.
            if field is not None and bool(field.notnull().all()):
                ratio = spectrum(field.values).power / expected.power
                ratios[name][number] = 10 * np.log10(ratio)
    return ratios.assign_attrs(spectrum="of rows and columns")


def _quantiles(values: Values) -> NDArray[np.float64]:
    if not values.size:
        return np.full(len(QUANTILES), np.nan)
    return np.quantile(values, QUANTILES)
