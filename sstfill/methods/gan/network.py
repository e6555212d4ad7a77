# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's network on its device, applied to several symmetric views of a patch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import ReadError
from sstfill.nn.checkpoint.checkpoint import Checkpoint

VIEWS = 16
"""A patch turned four ways, mirrored or not, with anomalies of either sign."""
LOG_RATIO = 4.0
"""The network's error is at most so many e-foldings from that of the first guess."""
FARTHEST = 1000.0
"""A value so far off is refused. For the compact network in errors of the first guess, for the
paper's in units of the scaling (three standard deviations) from the mean of its archive.
"""
_KEPT: dict[tuple[str, str], Any] = {}
"""Networks by fingerprint and device, one of each in a process."""
_BUILDING = Lock()


@dataclass(frozen=True)
class Networks:
    """A network as it is sent to workers that fill patches; each process builds it once.

    Attributes
    ----------
    checkpoint, device, samples
        As of `sstfill.methods.Gan`, the device resolved.
    bounded
        Refuse values beyond `FARTHEST`. False while a network is compared with its first guesses,
        where a bad one is left out. NaN is refused in any case.
    """

    checkpoint: Checkpoint
    device: str
    samples: int = 1
    bounded: bool = False

    @property
    def corrects(self) -> bool:
        """Whether the network corrects first guesses, rather than filling by itself."""
        return self.checkpoint.config["network"]["name"] == "compact"

    def network(self) -> Any:
        """Return the network, in evaluation mode on its device."""
        key = (self.checkpoint.fingerprint, self.device)
        with _BUILDING:
            if key not in _KEPT:
                if len(_KEPT) > 3:
                    _KEPT.clear()
                _KEPT[key] = self.checkpoint.network().to(self.device)
            return _KEPT[key]

    def correct(
        self, channels: NDArray[np.float32], signed: NDArray[np.bool_]
    ) -> tuple[NDArray, NDArray]:
        """Correct a first guess.

        Parameters
        ----------
        channels
            ``(channel, time, y, x)``.
        signed
            True for channels that change sign with the anomalies, shape ``(channel,)``.

        Returns
        -------
        correction, log_ratio
            The correction over the error of the first guess, and the logarithm of the network's
            error over it; ``(time, y, x)``.

        Raises
        ------
        ReadError
            If the network returns NaN or absurd values.
        """
        import torch

        flips = signed[:, np.newaxis, np.newaxis, np.newaxis]
        means, logs = [], []
        with torch.inference_mode():
            for turn, sign in _views(self.samples):
                turned = _turned(np.where(flips, sign * channels, channels), turn)
                batch = torch.from_numpy(np.ascontiguousarray(turned, np.float32))[np.newaxis]
                mean, log = self.network()(batch.to(self.device))
                mean, log = _to_array(mean, turn), _to_array(log, turn)
                self._check(mean, "errors of the first guess from it")
                self._check(log)
                means.append(sign * mean)
                logs.append(np.clip(log, -LOG_RATIO, LOG_RATIO))
        mean = np.mean(means, 0)
        variance = np.mean(np.exp(2 * np.asarray(logs)), 0) + np.var(means, 0)
        return mean, 0.5 * np.log(variance)

    def complete(
        self, values: NDArray[np.float32], observed: NDArray[np.bool_]
    ) -> tuple[NDArray, NDArray]:
        """Estimate a scaled sequence; returns the mean and the spread of the views.

        All are of shape ``(time, y, x)``. `ReadError` as for `correct`.
        """
        import torch

        estimates = []
        with torch.inference_mode():
            for turn, _ in _views(self.samples, signs=(1,)):
                batch = []
                for array in (values, observed):
                    turned = np.ascontiguousarray(_turned(array, turn))
                    batch.append(torch.from_numpy(turned)[np.newaxis, np.newaxis].to(self.device))
                estimate = _to_array(self.network().estimate(*batch), turn)
                self._check(
                    estimate,
                    "times three standard deviations from the mean of what it was trained on",
                )
                estimates.append(estimate)
        return np.mean(estimates, 0), np.std(estimates, 0)

    def _check(self, values: NDArray, units: str = "") -> None:
        """Raise `ReadError` for values of no trained network; with `units`, for too large ones."""
        remedy = "use another model, or train it again"
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise ReadError(
                f"{self.checkpoint} returns NaN or infinity at {bad} of {values.size} pixels; "
                f"{remedy}"
            )
        farthest = float(np.abs(values).max())
        if self.bounded and units and farthest > FARTHEST:
            raise ReadError(
                f"{self.checkpoint} returns values up to {farthest:.3g} {units}; check the units "
                f"of the data, {remedy}"
            )


def _views(samples: int, signs: tuple[int, ...] = (1, -1)) -> Iterator[tuple[int, int]]:
    """Ways to turn a patch, and signs; the first is the patch as it is."""
    return itertools.islice(itertools.product(range(8), signs), samples)


def _turned(array: NDArray, turn: int) -> NDArray:
    mirrored = array
    if turn >= 4:
        mirrored = np.swapaxes(array, -1, -2)
    return np.rot90(mirrored, turn % 4, (-2, -1))


def _back(array: NDArray, turn: int) -> NDArray:
    straight = np.rot90(array, -(turn % 4), (-2, -1))
    if turn >= 4:
        return np.swapaxes(straight, -1, -2)
    return straight


def _to_array(batch: Any, turn: int) -> NDArray:
    """Return the one sequence of a batch ``(b, c, t, y, x)``, turned back."""
    return _back(batch[0, 0].float().cpu().numpy(), turn)
