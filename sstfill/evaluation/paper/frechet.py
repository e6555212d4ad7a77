# SPDX-License-Identifier: Apache-2.0
"""Frechet distances between sets of sequences, as the features of a network see them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sstfill.errors import InputError, OptionError

Span = tuple[float, float]
Rows = NDArray[np.float64]


class Features(Protocol):
    """The features of a network.

    Called with sequences ``b c t y x`` and the span ``(low, high)`` of values in their units;
    returns ``(n, d)``.
    """

    @property
    def name(self) -> str:
        """Name of the distance if `standard`, else of the features."""
        ...

    @property
    def standard(self) -> bool:
        """Whether network and weights are those that the name of the distance stands for."""
        ...

    def __call__(self, sequences: NDArray[Any], span: Span) -> NDArray[Any]:
        """Return the features, a row for each sequence or frame."""
        ...


@dataclass(frozen=True)
class FrechetScore:
    """A Frechet distance (squared, as FID is) and the features it was measured with.

    `n` is the number of features in the smaller of the two sets. A number that is not an FID or FVD
    cannot be called one:

    >>> print(FrechetScore(12.3, "FID", True, 4800))
    FID 12.3
    >>> print(FrechetScore(12.3, "random features (seed 0, d 64)", False, 200))
    Frechet distance of random features (seed 0, d 64) 12.3
    """

    value: float
    features_name: str
    standard: bool
    n: int

    def __post_init__(self) -> None:
        taken = [name for name in ("FID", "FVD") if name in self.features_name.upper()]
        if taken and not self.standard:
            raise OptionError(
                f"{self.features_name!r} are not the standard features; do not call them {taken[0]}"
            )

    @property
    def title(self) -> str:
        """Title of the number in a table."""
        if self.standard:
            return self.features_name
        return f"Frechet distance of {self.features_name}"

    def __str__(self) -> str:
        if self.value < 1000:
            return f"{self.title} {self.value:.4g}"
        return f"{self.title} {self.value:.0f}"


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the squared Frechet (2-Wasserstein) distance of Gaussians fitted to two sets.

    ``|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^(1/2) S2 S1^(1/2))^(1/2)`` (Dowson & Landau 1982;
    Heusel et al. 2017), with covariances over ``n - 1``. For ``S1 = A'A`` and ``S2 = B'B`` the last
    trace is the sum of the singular values of ``A B'``: nothing is squared whose root is then
    taken, so that sets of fewer samples than features lose no digits.

    Parameters
    ----------
    a, b
        Features, ``(n, d)`` and ``(m, d)``.

    Raises
    ------
    InputError
        If a set has fewer than two samples or a value that is not finite, or if ``d`` differs.

    Examples
    --------
    >>> frechet_distance([[0.0], [2.0]], [[3.0], [5.0]])
    9.0
    """
    first, second = _samples(a), _samples(b)
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"sets of {first.shape[1]} and {second.shape[1]} features; both must be of one network"
        )
    # The trace of a covariance is the sum of squares of its factor, whatever the factor.
    shift = first.mean(axis=0) - second.mean(axis=0)
    A, B = _factor(first), _factor(second)
    shared = np.linalg.svd(A @ B.T, compute_uv=False).sum()
    return max(float(shift @ shift + (A**2).sum() + (B**2).sum() - 2 * shared), 0.0)


def _samples(values: ArrayLike) -> Rows:
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise InputError(f"features of shape {rows.shape}; give (n, d) with n of at least 2")
    if not np.isfinite(rows).all():
        raise InputError(
            f"{np.count_nonzero(~np.isfinite(rows))} of {rows.size} features are not finite; "
            "leave them out"
        )
    return rows


def _factor(rows: Rows) -> Rows:
    """Find A of at most d rows such that ``A'A`` is the covariance."""
    centred = (rows - rows.mean(axis=0)) / math.sqrt(len(rows) - 1)
    if len(rows) > rows.shape[1]:
        # R alone: ``A'A = R'R``, and R is as small as the covariance.
        return np.asarray(np.linalg.qr(centred, mode="r"))
    return centred


def frechet_score(
    truth: NDArray[Any], estimate: NDArray[Any], features: Features, *, span: Span
) -> FrechetScore:
    """Compute the Frechet distance between true and estimated sequences.

    Parameters
    ----------
    truth, estimate
        Sequences ``b c t y x`` in the same units, c 1 or 3 (one channel is shown three times),
        without NaN: give land the same constant in both.
    features
        `InceptionFeatures` (FID), `I3DFeatures` (FVD) or `RandomFeatures` of
        `sstfill.evaluation.paper.frechet_features`, or another of the protocol.
    span
        Values ``(low, high)`` that become black and white, the same for both: for instance the
        range of the truth. Values outside are clipped.

    Raises
    ------
    InputError
        If shapes differ in more than b, values are not finite, or there are fewer than two samples.
    OptionError
        If the span is empty, or a library is missing.
    """
    if truth.shape[1:] != estimate.shape[1:]:
        raise InputError(
            f"sequences of shapes {truth.shape} and {estimate.shape}; "
            "they may differ in b of b c t y x only"
        )
    true_features, own_features = features(truth, span), features(estimate, span)
    return FrechetScore(
        value=frechet_distance(true_features, own_features),
        features_name=features.name,
        standard=features.standard,
        n=min(len(true_features), len(own_features)),
    )
