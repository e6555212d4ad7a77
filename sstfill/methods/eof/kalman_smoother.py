# SPDX-License-Identifier: Apache-2.0
"""Kalman filter and Rauch-Tung-Striebel smoother of red-noise amplitudes at irregular times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Smoothed(NamedTuple):
    """Amplitudes ``(times, k)``, their covariance ``(times, k, k)``, and ``E[c_t c_{t+1}]``
    ``(times - 1, k)``.
    """

    mean: NDArray
    covariance: NDArray
    lagged: NDArray


def smooth(precision: NDArray, right: NDArray, days: NDArray, time_scale: NDArray) -> Smoothed:
    """Posterior of ``c_t``, independent AR(1) processes of unit variance, given ``N(c_t; J_t^-1
    h_t, J_t^-1)``.

    Parameters
    ----------
    precision, right
        ``J`` ``(times, k, k)`` and ``h`` ``(times, k)``: what each image alone says.
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
    ahead = np.exp(-np.diff(days)[:, np.newaxis] / time_scale)
    mean, covariance = np.empty((n, k)), np.empty((n, k, k))
    predicted, spread = np.zeros((n, k)), np.empty((n, k, k))
    spread[0] = np.eye(k)
    for t in range(n):
        if t:
            phi = ahead[t - 1]
            predicted[t] = phi * mean[t - 1]
            spread[t] = phi[:, np.newaxis] * covariance[t - 1] * phi + np.diag(1 - phi**2)
        posterior = np.linalg.solve(np.eye(k) + spread[t] @ precision[t], spread[t])
        covariance[t] = (posterior + posterior.T) / 2
        mean[t] = predicted[t] + covariance[t] @ (right[t] - precision[t] @ predicted[t])
    lagged = np.empty((n - 1, k))
    for t in range(n - 2, -1, -1):
        gain = np.linalg.solve(spread[t + 1], ahead[t][:, np.newaxis] * covariance[t]).T
        mean[t] += gain @ (mean[t + 1] - predicted[t + 1])
        covariance[t] += gain @ (covariance[t + 1] - spread[t + 1]) @ gain.T
        lagged[t] = (gain * covariance[t + 1]).sum(1) + mean[t] * mean[t + 1]
    return Smoothed(mean, covariance, lagged)


def fitted_time_scale(found: Smoothed, days: NDArray) -> NDArray:
    """Time scale of each amplitude from its expected lagged products; irregular steps count by
    their median.
    """
    power = found.mean**2 + np.diagonal(found.covariance, axis1=1, axis2=2)
    correlation = found.lagged.mean(0) / ((power[1:] + power[:-1]) / 2).mean(0)
    return -np.median(np.diff(days)) / np.log(np.clip(correlation, 0.01, 0.9995))
