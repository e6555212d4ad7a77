# SPDX-License-Identifier: Apache-2.0
"""DINEOF's filter of the temporal covariance: a few explicit diffusion steps along irregular times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import matrix_power

from sstfill.errors import OptionError


def diffusion_filter(days: NDArray, alpha: float, iterations: int) -> sparse.csr_array:
    """Matrix of the covariance filter of Alvera-Azcárate et al. (2009).

    One step is ``f_i += [alpha (f_{i+1}-f_i)/(t_{i+1}-t_i) - alpha (f_i-f_{i-1})/(t_i-t_{i-1})] /
    (t_{i+1/2}-t_{i-1/2})`` with no flux through the ends; `iterations` steps make the filter ``F``,
    and the covariance of the images ``B`` becomes ``F B F^T``. The filter length is ``2 pi
    sqrt(alpha * iterations)`` days.

    Parameters
    ----------
    days
        Increasing times, shape ``(n,)``, in days.
    alpha
        Diffusion per step, days squared; 0 gives the identity.
    iterations
        Number of steps.

    Returns
    -------
    csr_array
        ``F``, shape ``(n, n)``: a band of ``2 iterations + 1`` diagonals, so that its product with
        a vector costs as much as the series is long.

    Raises
    ------
    OptionError
        If `alpha` exceeds the stability limit, half the smallest time step squared.

    References
    ----------
    Alvera-Azcárate, Barth, Sirjacobs, Beckers (2009): Enhancing temporal correlations in EOF
    expansions for the reconstruction of missing data using DINEOF. Ocean Science 5, 475-485.

    Examples
    --------
    >>> diffusion_filter(np.arange(3.0), alpha=0.1, iterations=1).toarray().round(2).tolist()
    [[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9]]
    """
    n = len(days)
    if alpha == 0 or n < 2:
        return sparse.eye_array(n, format="csr")
    if alpha > (limit := stability_limit(days)):
        raise OptionError(
            f"alpha={alpha:g} days² is unstable for a smallest time step of {np.diff(days).min():g} days; "
            f"use alpha <= {limit:g}, or alpha='auto'"
        )
    step = np.diff(days)
    middle = (days[1:] + days[:-1]) / 2
    edges = np.concatenate(
        [[1.5 * days[0] - 0.5 * days[1]], middle, [1.5 * days[-1] - 0.5 * days[-2]]]
    )
    width = np.diff(edges)
    from_left = alpha / step / width[1:]
    from_right = alpha / step / width[:-1]
    stays = np.ones(n)
    stays[:-1] -= from_right
    stays[1:] -= from_left
    once = sparse.diags_array([from_left, stays, from_right], offsets=[-1, 0, 1], format="csr")
    return sparse.csr_array(matrix_power(once, iterations))


def stability_limit(days: NDArray) -> float:
    """Return the largest stable `alpha`, half the smallest time step squared (days squared)."""
    return float(np.diff(days).min() ** 2 / 2)
