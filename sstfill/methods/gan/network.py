# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's network, ready to be asked about patches: on its device, from several symmetric
views.
"""

from __future__ import annotations

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
"""The network's error is at most so many e-foldings from the first guess's."""
FARTHEST = 1000.0
"""An answer so far off is refused: so many errors of the first guess from it, or, of the paper's
networks, so many of
the units that its archive was scaled to (three standard deviations each) from that archive's mean.
"""
_KEPT: dict[tuple[str, str], Any] = {}
"""Networks by fingerprint and device, one of each in a process."""
_BUILDING = Lock()


@dataclass(frozen=True)
class Networks:
    """What is sent to where patches are filled; the network itself is built there, once.

    Attributes
    ----------
    checkpoint, device, samples
        As of `sstfill.methods.Gan`, the device resolved.
    bounded
        Refuse answers beyond `FARTHEST`. Not while a network is weighed against its first guesses,
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
        """Correction of the first guess and logarithm of the error, both over the guess's error,
        ``(time, y, x)``.

        Parameters
        ----------
        channels
            ``(channel, time, y, x)``.
        signed
            Channels that change sign with the anomalies, shape ``(channel,)``.
        """
        import torch

        means, logs = [], []
        with torch.inference_mode():
            for turn, sign in _views(self.samples):
                seen = np.where(
                    signed[:, np.newaxis, np.newaxis, np.newaxis], sign * channels, channels
                )
                turned = np.ascontiguousarray(_turned(seen, turn), np.float32)
                found = self.network()(torch.from_numpy(turned)[np.newaxis].to(self.device))
                mean, log = (_back(part[0, 0].float().cpu().numpy(), turn) for part in found)
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
        """Estimate a scaled sequence, and the spread among the views; all ``(time, y, x)``."""
        import torch

        found = []
        with torch.inference_mode():
            for turn, _ in _views(self.samples, signs=(1,)):
                pair = (
                    np.ascontiguousarray(_turned(a, turn))[np.newaxis, np.newaxis]
                    for a in (values, observed)
                )
                tensors = [torch.from_numpy(a).to(self.device) for a in pair]
                estimate = _back(
                    self.network().estimate(*tensors)[0, 0].float().cpu().numpy(), turn
                )
                self._check(
                    estimate,
                    "times three standard deviations from the mean of what it was trained on",
                )
                found.append(estimate)
        return np.mean(found, 0), np.std(found, 0)

    def _check(self, answer: NDArray, units: str = "") -> None:
        """Raise `ReadError` for an answer that no trained network gives; with `units`, for one that
        is too far off.
        """
        remedy = "use another model, or train it anew"
        if bad := int(np.count_nonzero(~np.isfinite(answer))):
            raise ReadError(
                f"{self.checkpoint} answers {bad} of {answer.size} pixels with NaN or infinity; {remedy}"
            )
        farthest = float(np.abs(answer).max())
        if self.bounded and units and farthest > FARTHEST:
            raise ReadError(
                f"{self.checkpoint} answers with values up to {farthest:.3g} {units}; check the units of the data, "
                f"{remedy}"
            )


def _views(samples: int, signs: tuple[int, ...] = (1, -1)) -> Iterator[tuple[int, int]]:
    """Ways to turn a patch, and signs; the first is the patch as it is."""
    every = [(turn, sign) for turn in range(8) for sign in signs]
    yield from every[:samples]


def _turned(array: NDArray, turn: int) -> NDArray:
    mirrored = np.swapaxes(array, -1, -2) if turn >= 4 else array
    return np.rot90(mirrored, turn % 4, (-2, -1))


def _back(array: NDArray, turn: int) -> NDArray:
    straight = np.rot90(array, -(turn % 4), (-2, -1))
    return np.swapaxes(straight, -1, -2) if turn >= 4 else straight
