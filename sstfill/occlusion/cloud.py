# SPDX-License-Identifier: Apache-2.0
"""The measurement operator Cloud: simulated clouds, by their liquid water path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sstfill.checks import check_number
from sstfill.errors import InputError
from sstfill.occlusion.base import Mask, Shape, checked, flipped
from sstfill.occlusion.lwp import SPIN_UP, LwpSeries, in_grams, ordered


@dataclass(frozen=True, kw_only=True, eq=False)
class Cloud:
    """Clouds of a large-eddy simulation, by a threshold on the liquid water path (LWP).

    A pixel is occluded where the LWP exceeds the threshold. A draw starts at a random frame of the
    series and at a random corner of its domain, which is taken as doubly periodic (as PyCLES
    domains are): a smaller shape is a crop, a larger one repeats the domain without a seam.
    Instances are equal only to themselves.

    Parameters
    ----------
    lwp
        LWP ``(time, y, x)``, DataArray or NumPy array, without gaps; `lwp_series` opens a file or
        store. Load it first if many masks are to be drawn.
    threshold
        In g m-2, whatever the units of `lwp`; the paper uses 55 to 80. `threshold_for` gives it for
        an occluded fraction.
    stride
        LWP frames from one mask to the next.
    start_after
        Frames left out at the start of the series (spin-up).
    augment
        Also flip y and x at random. The mean wind then blows from anywhere.
    units
        ``"g m-2"`` or ``"kg m-2"``; by default the attribute ``units`` of `lwp`, which a NumPy
        array lacks.

    >>> lwp = np.tile([20.0, 90.0], (30, 1, 1))
    >>> cloud = Cloud(lwp=lwp, units="g m-2", start_after=0)
    >>> cloud.draw((3, 1, 4), np.random.default_rng(0)).mean()
    np.float64(0.5)
    """

    name: ClassVar[str] = "cloud"
    fill_value: ClassVar[float] = 1.0

    lwp: LwpSeries = field(repr=False)
    threshold: float = 70.0
    stride: int = 10
    start_after: int = SPIN_UP
    augment: bool = False
    units: str | None = None

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0)
        check_number("stride", self.stride, 1, whole=True)
        check_number("start_after", self.start_after, 0, whole=True)
        ordered(self.lwp, self.units)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask of `shape` (time, y, x), True where observed.

        Raises
        ------
        InputError
            The series is too short.
        """
        frames, ny, nx = checked(shape)
        series, grams = ordered(self.lwp, self.units)
        span = (frames - 1) * self.stride + 1
        usable = len(series) - self.start_after
        if usable < span:
            raise InputError(
                f"the LWP series has {len(series)} frames, {max(usable, 0)} after "
                f"start_after={self.start_after}; {frames} masks at stride={self.stride} need "
                f"{span}; give a longer series or a smaller stride"
            )
        start = self.start_after + int(rng.integers(usable - span + 1))
        observed = in_grams(series[start : start + span : self.stride], grams) <= self.threshold
        _, domain_ny, domain_nx = series.shape
        # around the edge: the simulated domain is periodic
        rows = (rng.integers(domain_ny) + np.arange(ny)) % domain_ny
        columns = (rng.integers(domain_nx) + np.arange(nx)) % domain_nx
        down, right = flipped(self.augment, rng)
        return observed[:, rows[::down, None], columns[::right]]
