# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's network on its device, applied to a patch."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import ReadError
from sstfill.nn.checkpoint.checkpoint import Checkpoint

LOG_RATIO = 4.0
"""The network's error is at most so many e-foldings from that of the first guess."""
FARTHEST = 1000.0
"""A value so far off is refused. For the compact network in errors of the first guess, for the
paper's in units of the scaling (three standard deviations) from the mean of its archive.
"""
_KEPT: dict[tuple[str, str], Any] = {}
"""Networks by fingerprint and device, one of each in a process."""
_BUILDING = Lock()
_TURN = Lock()
"""Held where a GPU works on a patch, which takes a gigabyte of its memory: one at a time."""


def draws(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint's network turns noise into members."""
    return bool(checkpoint.config["network"]["options"].get("drawing"))


@dataclass(frozen=True)
class Networks:
    """A network as it is sent to workers that fill patches; each process builds it once.

    Attributes
    ----------
    checkpoint, device
        As of `sstfill.methods.Gan`, the device resolved.
    bounded
        Refuse values beyond `FARTHEST`. False while a network is compared with its first guesses,
        where a bad one is left out. NaN is refused in any case.
    """

    checkpoint: Checkpoint
    device: str
    bounded: bool = False

    @property
    def corrects(self) -> bool:
        """Whether the network corrects first guesses, rather than filling by itself."""
        return self.checkpoint.config["network"]["name"] == "compact"

    @property
    def draws(self) -> bool:
        """Whether the network turns noise into members."""
        return draws(self.checkpoint)

    def network(self) -> Any:
        """Return the network, in evaluation mode on its device."""
        key = (self.checkpoint.fingerprint, self.device)
        with _BUILDING:
            if key not in _KEPT:
                if len(_KEPT) > 3:
                    _KEPT.clear()
                _KEPT[key] = self.checkpoint.network().to(self.device, self._dtype)
            return _KEPT[key]

    @property
    def _dtype(self) -> Any:
        """What the network computes in: bfloat16 where the processor multiplies it by itself.

        Half of the memory and 0.6 of the time; a correction then differs by 0.005 of the error of
        the first guess (root mean square). The paper's networks return values, not corrections, for
        which three digits are too few.
        """
        import torch

        able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        halved = able.get("avx512_bf16") or able.get("amx_bf16")
        if self.corrects and self.device == "cpu" and halved:
            return torch.bfloat16
        return torch.float32

    def correct(
        self,
        channels: NDArray[np.float32],
        noise: Iterable[NDArray[np.float32]] = (),
        shift: tuple[int, int] = (0, 0),
    ) -> tuple[NDArray, NDArray, list[NDArray]]:
        """Correct a first guess, and draw members.

        Parameters
        ----------
        channels
            ``(channel, time, y, x)``.
        noise
            Of each member, ``(spacing, time, y, x)``, see `sstfill.nn.drawing`.
        shift
            Rows and columns by which the noise begins before the channels: members are drawn on
            positions of the whole grid that lie `sstfill.nn.compact.SIDE` pixels apart.

        Returns
        -------
        correction, log_ratio
            The correction over the error of the first guess, and the logarithm of the network's
            error over it; ``(time, y, x)``.
        deviations
            Of each member from the network's estimate, over the network's error; ``(time, y, x)``.

        Raises
        ------
        ReadError
            If the network returns NaN or absurd values.
        """
        import torch

        network, dtype = self.network(), self._dtype
        with self._turn(), torch.inference_mode():
            batch, again = self._to_batch(channels, dtype), None
            if any(shift):
                before = ((0, 0), (0, 0), (shift[0], 0), (shift[1], 0))
                again = self._to_batch(np.pad(channels, before, mode="edge"), dtype)
            # They take a hundred megabytes, which what follows has better use for.
            del channels
            shape, entered = batch.shape, network.enter_frames(batch)
            del batch
            known = aligned = network.encode_entered(entered, 1)
            if again is not None:
                aligned = network.encode(again)
            drawn = [network.draw_from(aligned, self._to_batch(own, dtype)) for own in noise]
            del entered, again, aligned
            mean, log = network.estimate_from(known, shape)
        correction, log_ratio = _to_array(mean), _to_array(log)
        self._check(correction, "errors of the first guess from it")
        self._check(log_ratio)
        deviations = [_to_array(one)[:, shift[0] :, shift[1] :] for one in drawn]
        for one in deviations:
            self._check(one, "stated errors from its estimate")
        return correction, np.clip(log_ratio, -LOG_RATIO, LOG_RATIO), deviations

    def complete(self, values: NDArray[np.float32], observed: NDArray[np.bool_]) -> NDArray:
        """Estimate a scaled sequence, ``(time, y, x)``; `ReadError` as for `correct`."""
        import torch

        with self._turn(), torch.inference_mode():
            batch = self._to_batch(values[np.newaxis]), self._to_batch(observed[np.newaxis])
            estimate = _to_array(self.network().estimate(*batch))
        self._check(estimate, "times three standard deviations from the level of its training")
        return estimate

    def _turn(self) -> AbstractContextManager[Any]:
        """Wait until no other thread uses the GPU; on a CPU threads work side by side."""
        return nullcontext() if self.device == "cpu" else _TURN

    def _to_batch(self, sequence: NDArray, dtype: Any = None) -> Any:
        """Return a sequence ``(c, t, y, x)`` as the one of a batch, on the device."""
        import torch

        one = torch.from_numpy(np.ascontiguousarray(sequence))[np.newaxis]
        return one.to(self.device, dtype)

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


def _to_array(batch: Any) -> NDArray:
    """Return the one sequence of a batch ``(b, c, t, y, x)``."""
    array: NDArray = batch[0, 0].float().cpu().numpy()
    return array
