# SPDX-License-Identifier: Apache-2.0
"""What the catalogue tells about a dataset: its version, axes, chunks and variables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import OptionError, unknown
from sstfill.sources.copernicus.request import CopernicusRequest


@dataclass(frozen=True, kw_only=True)
class CoverageAxis:
    """The values of a coordinate and their number in a chunk of each layout.

    Times are milliseconds since 1970.
    """

    first: float
    last: float
    step: float | None = None
    values: tuple[float, ...] = ()
    chunk: Mapping[str, int] = field(default_factory=dict)

    def index(self, value: float) -> int:
        """Return the index of the nearest value."""
        if self.values:
            return int(np.abs(np.sort(np.array(self.values)) - value).argmin())
        if not self.step:
            return 0
        return round((value - self.first) / self.step)

    def inside(self, low: float | None, high: float | None) -> int:
        """Count the values in a range, ends included; equal ends take the nearest value.

        >>> CoverageAxis(first=0, last=10, step=1).inside(2.5, 5)
        3
        """
        if low is None:
            low = self.first
        if high is None:
            high = self.last
        if low == high:
            return 1
        if self.values:
            values = np.array(self.values)
            return int(((values >= low) & (values <= high)).sum())
        if not self.step:
            return 1
        slack = 1e-3  # of a step: float32 coordinates
        # inclusive at both ends, as the service takes ranges
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
        """Return the short names of variables, all where none are wanted.

        Raises
        ------
        OptionError
            A variable that the dataset does not have; the nearest name is shown.
        """
        by_standard = {standard: short for short, standard in self.variables.items()}
        names = []
        for name in wanted:
            if name in self.variables:
                names.append(name)
            elif name in by_standard:
                names.append(by_standard[name])
            else:
                raise unknown(f"variable in {self.dataset_id}", name, sorted(self.variables))
        return tuple(names) or tuple(self.variables)

    def sizes(self, request: CopernicusRequest) -> dict[str, int]:
        """Count the times, latitudes and longitudes that a request with absolute times covers."""
        sizes = {}
        if "time" in self.axes:
            period: list[float | None] = []
            for time in (request.start_datetime, request.end_datetime):
                period.append(None if time is None else since_1970(time))
            sizes["time"] = self.axes["time"].inside(*period)
        if "latitude" in self.axes:
            low, high = request.minimum_latitude, request.maximum_latitude
            sizes["latitude"] = self.axes["latitude"].inside(low, high)
        if "longitude" in self.axes:
            low, high = request.minimum_longitude, request.maximum_longitude
            sizes["longitude"] = self._longitudes(low, high)
        return sizes

    def _longitudes(self, low: float | None, high: float | None) -> int:
        """Count longitudes in a range, which may cross the dateline or count from 0 to 360."""
        axis = self.axes["longitude"]
        if low is None or high is None:
            return axis.inside(low, high)
        if high - low >= 360:
            return axis.inside(None, None)
        # 170 to -170 and 170 to 190 are the same 20 degrees
        low, high = (low + 180) % 360 - 180, (high + 180) % 360 - 180
        if low <= high:
            return axis.inside(low, high)
        # across the dateline: two runs of the axis
        return axis.inside(low, None) + axis.inside(None, high)

    def check_version(self, wanted: str | None) -> None:
        """Raise `OptionError` for a version that is not served."""
        if wanted is not None and wanted not in self.versions:
            raise OptionError(
                f"version {wanted} of {self.dataset_id} is not served, but "
                f"{', '.join(self.versions)}; versions are not to be mixed: begin another store"
            )


def milliseconds(value: float) -> NDArray[np.datetime64]:
    """Convert milliseconds since 1970 to a time."""
    return np.datetime64(round(value), "ms")  # type: ignore[return-value]


def since_1970(text: str) -> float:
    """Convert an absolute time to milliseconds since 1970."""
    return float(np.datetime64(text, "ms").astype(np.int64))
