# SPDX-License-Identifier: Apache-2.0
"""What the catalogue says of a dataset: its version, its axes and how they are cut in chunks, its
variables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import OptionError
from sstfill.sources.copernicus.request import CopernicusRequest


@dataclass(frozen=True, kw_only=True)
class CoverageAxis:
    """Values of a coordinate, times in milliseconds since 1970, and how many a chunk of each layout
    holds.
    """

    first: float
    last: float
    step: float | None = None
    values: tuple[float, ...] = ()
    chunk: Mapping[str, int] = field(default_factory=dict)

    def index(self, value: float) -> int:
        """Number of the value that lies nearest."""
        if self.values:
            return int(np.abs(np.sort(np.array(self.values)) - value).argmin())
        return round((value - self.first) / self.step) if self.step else 0

    def inside(self, low: float | None, high: float | None) -> int:
        """How many values lie in a range, ends included; the nearest one where the ends are the
        same.

        >>> Axis(first=0, last=10, step=1).inside(2.5, 5)
        3
        """
        low, high = self.first if low is None else low, self.last if high is None else high
        if low == high:
            return 1
        if self.values:
            return int(((np.array(self.values) >= low) & (np.array(self.values) <= high)).sum())
        if not self.step:
            return 1
        slack = 1e-3  # of a step: float32 coordinates
        least = max(0, math.ceil((low - self.first) / self.step - slack))
        most = min(
            round((self.last - self.first) / self.step),
            math.floor((high - self.first) / self.step + slack),
        )
        return max(0, most - least + 1)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """A version of a dataset as the catalogue describes it."""

    dataset_id: str
    version: str
    versions: tuple[str, ...] = ()
    product_id: str = ""
    doi: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)  # short name: standard name
    axes: Mapping[str, CoverageAxis] = field(default_factory=dict)

    def named(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """Short names of the variables wanted; `OptionError` for one that there is not, with the
        nearest.
        """
        from sstfill.errors import unknown

        by_standard = {standard: short for short, standard in self.variables.items()}
        for name in wanted:
            if name not in self.variables and name not in by_standard:
                raise unknown(f"variable in {self.dataset_id}", name, sorted(self.variables))
        return tuple(
            by_standard.get(n, n) if n not in self.variables else n for n in wanted
        ) or tuple(self.variables)

    def period(self) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]] | None:
        """First and last time."""
        axis = self.axes.get("time")
        return None if axis is None else (milliseconds(axis.first), milliseconds(axis.last))

    def sizes(self, request: CopernicusRequest) -> dict[str, int]:
        """Number of times, latitudes and longitudes that a request with absolute times covers."""
        start, end = (
            None if t is None else since_1970(t)
            for t in (request.start_datetime, request.end_datetime)
        )
        ranges = {
            "time": (start, end),
            "latitude": (request.minimum_latitude, request.maximum_latitude),
        }
        found = {d: self.axes[d].inside(*r) for d, r in ranges.items() if d in self.axes}
        if "longitude" in self.axes:
            found["longitude"] = self._longitudes(
                request.minimum_longitude, request.maximum_longitude
            )
        return found

    def _longitudes(self, low: float | None, high: float | None) -> int:
        """A range may cross the dateline, or count from 0 to 360."""
        axis = self.axes["longitude"]
        if low is None or high is None or high - low >= 360:
            return (
                axis.inside(low, high) if low is None or high is None else axis.inside(None, None)
            )
        low, high = (low + 180) % 360 - 180, (high + 180) % 360 - 180
        return (
            axis.inside(low, high)
            if low <= high
            else axis.inside(low, None) + axis.inside(None, high)
        )

    def check_version(self, wanted: str | None) -> None:
        """Refuse a version that is not served."""
        if wanted is not None and wanted not in self.versions:
            raise OptionError(
                f"version {wanted} of {self.dataset_id} is not served, but {', '.join(self.versions)}; "
                "versions are not to be mixed: begin another store"
            )


def milliseconds(value: float) -> NDArray[np.datetime64]:
    """Turn milliseconds since 1970 into a time."""
    return np.datetime64(round(value), "ms")  # type: ignore[return-value]


def since_1970(text: str) -> float:
    """Milliseconds since 1970 of an absolute time."""
    return float(np.datetime64(text, "ms").astype(np.int64))
