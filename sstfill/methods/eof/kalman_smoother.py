# SPDX-License-Identifier: Apache-2.0
"""Kalman filter and Rauch-Tung-Striebel smoother of red-noise amplitudes at irregular times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Smoothed(NamedTuple):
    """Posterior of the amplitudes.

    Attributes
    ----------
    mean, covariance
        Shapes ``(times, k)`` and ``(times, k, k)``.
    lagged
        ``E[c_t c_{t+1}]``, shape ``(times - 1, k)``.
    """

    mean: NDArray
    covariance: NDArray
    lagged: NDArray


def smooth(precision: NDArray, right: NDArray, days: NDArray, time_scale: NDArray) -> Smoothed:
    """Compute the posterior of amplitudes ``c_t`` from the evidence of each image.

    The prior of each amplitude is an AR(1) process of unit variance; the evidence of an image is
    ``N(c_t; J_t^-1 h_t, J_t^-1)``.

    Parameters
    ----------
    precision, right
        ``J`` ``(times, k, k)`` and ``h`` ``(times, k)`` of each image alone.
    days
        Increasing times, ``(times,)``.
    time_scale
        E-folding time of each amplitude in days, ``(k,)``: the correlation over ``dt`` is ``exp(-dt
        / time_scale)``.

    References
    ----------
    Shumway & Stoffer (1982): An approach to time series smoothing and forecasting using the EM
    algorithm. Journal of Time Series Analysis 3, 253-264.
    """
    n, k = right.shape
    # Steps may be irregular, so each has its own correlation.
    ahead = np.exp(-np.diff(days)[:, np.newaxis] / time_scale)
    mean = np.empty((n, k))
    covariance = np.empty((n, k, k))
    # The first image is predicted by the prior: mean 0, variance 1.
    predicted = np.zeros((n, k))
    spread = np.empty((n, k, k))
    spread[0] = np.eye(k)
    for t in range(n):
        if t:
            phi = ahead[t - 1]
            predicted[t] = phi * mean[t - 1]
            # The innovation keeps the variance of the process at 1, whatever the step.
            spread[t] = phi[:, np.newaxis] * covariance[t - 1] * phi + np.diag(1 - phi**2)
        # Without an inverse of J: images without observations have J = 0.
        posterior = np.linalg.solve(np.eye(k) + spread[t] @ precision[t], spread[t])
        # Rounding would make it unsymmetric, and add up over the steps.
        covariance[t] = (posterior + posterior.T) / 2
        mean[t] = predicted[t] + covariance[t] @ (right[t] - precision[t] @ predicted[t])
    lagged = np.empty((n - 1, k))
    for t in range(n - 2, -1, -1):
        # The gain is ``P_t Phi S_{t+1}^-1``; solved transposed, since both P and S are symmetric.
        gain = np.linalg.solve(spread[t + 1], ahead[t][:, np.newaxis] * covariance[t]).T
        mean[t] += gain @ (mean[t + 1] - predicted[t + 1])
        covariance[t] += gain @ (covariance[t + 1] - spread[t + 1]) @ gain.T
        lagged[t] = (gain * covariance[t + 1]).sum(1) + mean[t] * mean[t + 1]
    return Smoothed(mean, covariance, lagged)


def smooth_draws(precision: NDArray, right: NDArray, days: NDArray, time_scale: NDArray) -> NDArray:
    """Compute the posterior means of several sets of evidence with the same precision.

    Parameters
    ----------
    precision, days, time_scale
        As in `smooth`.
    right
        ``h`` of each set, ``(times, k, sets)``.

    Returns
    -------
    ndarray
        Means, ``(times, k, sets)``.
    """
    n, k, _ = right.shape
    ahead = np.exp(-np.diff(days)[:, np.newaxis] / time_scale)
    mean = np.empty(right.shape)
    predicted = np.zeros(right.shape)
    # Gains depend on the precision alone, so the sets share them, and covariances need not be kept.
    gains = np.empty((n, k, k))
    spread = covariance = np.eye(k)
    for t in range(n):
        if t:
            phi = ahead[t - 1]
            predicted[t] = phi[:, np.newaxis] * mean[t - 1]
            spread = phi[:, np.newaxis] * covariance * phi + np.diag(1 - phi**2)
            gains[t - 1] = np.linalg.solve(spread, phi[:, np.newaxis] * covariance).T
        posterior = np.linalg.solve(np.eye(k) + spread @ precision[t], spread)
        covariance = (posterior + posterior.T) / 2
        mean[t] = predicted[t] + covariance @ (right[t] - precision[t] @ predicted[t])
    for t in range(n - 2, -1, -1):
        mean[t] += gains[t] @ (mean[t + 1] - predicted[t + 1])
    return mean


def fitted_time_scale(smoothed: Smoothed, days: NDArray) -> NDArray:
    """Estimate the time scale of each amplitude (days) from its expected lagged products.

    Irregular time steps are replaced by their median.
    """
    # Of the expected values, the covariance included: the mean alone is too smooth.
    power = smoothed.mean**2 + np.diagonal(smoothed.covariance, axis1=1, axis2=2)
    correlation = smoothed.lagged.mean(0) / ((power[1:] + power[:-1]) / 2).mean(0)
    # Bounds keep a scale finite where amplitudes are white or do not change at all.
    return -np.median(np.diff(days)) / np.log(np.clip(correlation, 0.01, 0.9995))
