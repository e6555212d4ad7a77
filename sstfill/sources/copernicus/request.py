# SPDX-License-Identifier: Apache-2.0
"""The options of a download from Copernicus Marine, and the layout of its store."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sstfill.checks import check_choice, check_most, check_number
from sstfill.errors import OptionError
from sstfill.sources.dates import is_relative, moment, span

SERVICES = ("arco-geo-series", "arco-time-series")
RANGES = ("longitude", "latitude", "depth")
# options that may change between two runs of one request; times are compared apart
NOT_IDENTITY = (
    "dataset_version",
    "start_datetime",
    "end_datetime",
    "clip_end",
    "service",
    "timeout",
    "pause",
    "absent",
    "revisit",
)


@dataclass(frozen=True, kw_only=True)
class CopernicusRequest:
    """A box and a period of one dataset.

    All options except the last five are arguments of ``copernicusmarine.open_dataset``.

    Parameters
    ----------
    dataset_id
        As in the catalogue, ``copernicusmarine describe``.
    dataset_version
        By default the newest when the store is begun, which then keeps it.
    dataset_part
        Part of a dataset that has several.
    variables
        Short or standard names; all by default.
    minimum_longitude, maximum_longitude
        Degrees; a minimum east of the maximum crosses the dateline. Pad a box by a hundredth of a
        degree.
    minimum_latitude, maximum_latitude
        Degrees.
    minimum_depth, maximum_depth
        Metres; one level is needed. Equal values take the nearest level.
    start_datetime, end_datetime
        Inclusive; a date means its midnight. Relative times such as ``"-30d"`` count back from
        today. By default all times of the dataset.
    service
        ``"arco-geo-series"`` or ``"arco-time-series"``; by default the one that needs fewer chunks.
    clip_end
        Stop at the end of the dataset where the period goes beyond it, which is an error
        otherwise. Implied by a relative end.
    timeout
        Seconds without any answer after which the download gives up.
    pause
        Seconds before a request that failed is made again; it doubles at each failure, up to 20 s.
    absent
        What to do about chunks that the service does not have: they are empty at the source, or
        lost. ``"check"`` compares with the service's other layout, ``"refuse"`` takes each for
        lost, ``"accept"`` for empty.
    revisit
        A length of time such as ``"10d"``. An update fetches that much of the end of the store
        again, because providers revise recent days, and writes what differs; a pixel that the
        provider has blanked becomes blank. By default nothing is fetched twice.
    """

    dataset_id: str
    dataset_version: str | None = None
    dataset_part: str | None = None
    variables: tuple[str, ...] = ()
    minimum_longitude: float | None = None
    maximum_longitude: float | None = None
    minimum_latitude: float | None = None
    maximum_latitude: float | None = None
    minimum_depth: float | None = None
    maximum_depth: float | None = None
    start_datetime: str | None = None
    end_datetime: str | None = None
    service: str | None = None
    clip_end: bool = False
    timeout: float = 300.0
    pause: float = 0.25
    absent: Literal["check", "refuse", "accept"] = "check"
    revisit: str | None = None

    def __post_init__(self) -> None:
        check_number("timeout", self.timeout, 0, above=True)
        check_number("pause", self.pause, 0, above=True)
        check_choice("absent", self.absent, ("check", "refuse", "accept"))
        if self.revisit is not None:
            span(self.revisit)
        if self.service is not None:
            check_choice("service", self.service, SERVICES)
        for name, most in (("longitude", 360), ("latitude", 90)):
            for end in ("minimum", "maximum"):
                value = getattr(self, f"{end}_{name}")
                # longitudes up to 360, as in data that count eastward from Greenwich
                least = -min(most, 180)
                if value is not None and not least <= value <= most:
                    raise OptionError(
                        f"{end}_{name}={value!r}; give degrees from {least} to {most}"
                    )
        for end in ("minimum", "maximum"):
            if (depth := getattr(self, f"{end}_depth")) is not None:
                check_number(f"{end}_depth", depth, -1e5, 1e5)
        for name in ("latitude", "depth"):
            low, high = self.range_of(name)
            if low is not None and high is not None and low > high:
                raise OptionError(
                    f"minimum_{name}={low!r} is above maximum_{name}={high!r}; swap them"
                )
        # raises for times that cannot be read
        self.resolved(datetime.now(UTC))

    def range_of(self, name: str) -> tuple[float | None, float | None]:
        """Return the minimum and the maximum of longitude, latitude or depth."""
        return getattr(self, f"minimum_{name}"), getattr(self, f"maximum_{name}")

    def resolved(self, now: datetime) -> CopernicusRequest:
        """Return the same request with absolute times; a relative end sets `clip_end`."""
        start = self.start_datetime and moment(self.start_datetime, now).isoformat()
        end = self.end_datetime and moment(self.end_datetime, now).isoformat()
        if start and end and start > end:
            raise OptionError(
                f"start_datetime={self.start_datetime!r} comes after "
                f"end_datetime={self.end_datetime!r}; swap them"
            )
        open_end = self.end_datetime is not None and is_relative(self.end_datetime)
        if (start, end) == (self.start_datetime, self.end_datetime):
            return self
        return dataclasses.replace(
            self, start_datetime=start, end_datetime=end, clip_end=self.clip_end or open_end
        )

    def identity(self) -> dict[str, Any]:
        """Return the options by which two requests differ, times apart, as JSON holds them."""
        options = {}
        for f in dataclasses.fields(self):
            if f.name not in NOT_IDENTITY:
                options[f.name] = getattr(self, f.name)
        return options | {"variables": list(self.variables)}

    def arguments(self) -> dict[str, Any]:
        """Return keyword arguments for the client, without those left to its own defaults."""
        arguments = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            # what the client has no argument for
            ours = f.name in ("clip_end", "timeout", "pause", "absent", "revisit")
            if not ours and value not in (None, ()):
                arguments[f.name] = value
        if self.variables:
            arguments["variables"] = list(self.variables)
        return arguments

    def box(self) -> str:
        """Return the box in words.

        >>> CopernicusRequest(dataset_id="x", minimum_latitude=20, maximum_latitude=25.25).box()
        'latitude 20 to 25.25'
        """
        ranges = []
        for name in RANGES:
            if self.range_of(name) == (None, None):
                continue
            ends = []
            for value in self.range_of(name):
                if value is None:
                    ends.append("...")
                else:
                    ends.append(f"{value:g}")
            ranges.append(f"{name} {' to '.join(ends)}")
        return ", ".join(ranges) or "the whole dataset"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The layout of the store that a download writes.

    Parameters
    ----------
    chunks
        Length of a chunk by dimension; by default 24 times, 256 latitudes and 256 longitudes.
    zarr_format
        3, or 2 for older readers.
    expect
        Sizes that the box must have, by dimension; another is an error.
    window_bytes
        Bytes of values that are fetched and written at once, about.
    """

    chunks: dict[str, int] = field(default_factory=dict)
    zarr_format: int = 3
    expect: dict[str, int] = field(default_factory=dict)
    window_bytes: int = 2**24

    def __post_init__(self) -> None:
        check_number("window_bytes", self.window_bytes, 1, whole=True)
        if self.zarr_format not in (2, 3):
            raise OptionError(f"zarr_format={self.zarr_format!r}; choose from 2, 3")
        for table in ("chunks", "expect"):
            for dim, length in getattr(self, table).items():
                check_number(f"{table}.{dim}", length, 1, whole=True)
                check_most(f"{table}.{dim}", length, 2**31 - 1)

    def lengths(self, dims: tuple[str, ...]) -> dict[str, int]:
        """Return the length of a chunk in each dimension of `dims`.

        >>> Target(chunks={"latitude": 64}).lengths(("time", "latitude", "longitude"))
        {'time': 24, 'latitude': 64, 'longitude': 256}
        """
        for given in ("chunks", "expect"):
            for dim in getattr(self, given):
                if dim not in dims:
                    raise OptionError(
                        f"{given} names {dim!r}; the dimensions are {', '.join(dims)}"
                    )
        lengths = dict.fromkeys(dims, 256)
        if "time" in lengths:
            lengths["time"] = 24
        return lengths | self.chunks
