# SPDX-License-Identifier: Apache-2.0
"""The filter of the temporal covariance in DINEOF: diffusion along irregular times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import matrix_power

from sstfill.errors import OptionError


def diffusion_filter(days: NDArray, alpha: float, iterations: int) -> sparse.csr_array:
    """Build the matrix of the covariance filter of Alvera-Azcárate et al. (2009).

    One explicit step of diffusion is ``f_i += [alpha (f_{i+1}-f_i)/(t_{i+1}-t_i) - alpha
    (f_i-f_{i-1})/(t_i-t_{i-1})] / (t_{i+1/2}-t_{i-1/2})`` with no flux through the ends.
    `iterations` steps make the filter ``F``, and the covariance ``B`` of the images becomes ``F B
    F^T``. The filter length is ``2 pi sqrt(alpha * iterations)`` days.

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
        ``F``, shape ``(n, n)``, with ``2 iterations + 1`` diagonals.

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
    step = np.diff(days)
    if alpha > (limit := stability_limit(days)):
        raise OptionError(
            f"alpha={alpha:g} days² is unstable for a smallest time step of {step.min():g} days; "
            f"use alpha <= {limit:g}, or alpha='auto'"
        )
    # An image stands for the time up to the middle between it and its neighbours. The first and
    # the last stand for as much outwards, as if the next image were as far away.
    middle = (days[1:] + days[:-1]) / 2
    first = 1.5 * days[0] - 0.5 * days[1]
    last = 1.5 * days[-1] - 0.5 * days[-2]
    width = np.diff(np.concatenate([[first], middle, [last]]))
    # Divided by the width of the image that receives, so that flux is kept at irregular steps.
    from_before = alpha / step / width[1:]
    from_after = alpha / step / width[:-1]
    # What goes to the neighbours is missing at the image itself, so that each row adds up to 1.
    own = np.ones(n)
    own[:-1] -= from_after
    own[1:] -= from_before
    once = sparse.diags_array([from_before, own, from_after], offsets=[-1, 0, 1], format="csr")
    return sparse.csr_array(matrix_power(once, iterations))


def stability_limit(days: NDArray) -> float:
    """Return the largest stable `alpha`, half the smallest time step squared (days squared)."""
    return float(np.diff(days).min() ** 2 / 2)
