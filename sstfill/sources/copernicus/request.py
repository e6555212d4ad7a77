# SPDX-License-Identifier: Apache-2.0
"""What is asked of Copernicus Marine, in the words of its client, and the layout of the store it
goes to.
"""

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
BY_THE_WAY = (
    "dataset_version",
    "start_datetime",
    "end_datetime",
    "clip_end",
    "service",
    "patience",
    "absent",
    "revisit",
)
"""Fields that may change between two runs without making another request of it; times are compared
apart.
"""


@dataclass(frozen=True, kw_only=True)
class CopernicusRequest:
    """A box and a period of one dataset; names but the last four are arguments of
    ``copernicusmarine.open_dataset``.

    Parameters
    ----------
    dataset_id
        As in the catalogue, ``copernicusmarine describe``.
    dataset_version
        By default the newest when the store is begun; it is pinned there.
    dataset_part
        Part of a dataset that has several.
    variables
        Short or standard names; none means all.
    minimum_longitude, maximum_longitude
        Degrees; a minimum east of the maximum crosses the dateline. Pad a box by a hundredth of a
        degree.
    minimum_latitude, maximum_latitude
        Degrees.
    minimum_depth, maximum_depth
        Metres; one level is needed. Equal values take the nearest level.
    start_datetime, end_datetime
        Inclusive; a date is its midnight. Relative times such as ``"-30d"`` count back from today.
        Without an end, all that there is.
    service
        ``"arco-geo-series"`` or ``"arco-time-series"``; by default the one that needs fewer chunks.
    clip_end
        Stop at the end of the dataset rather than refuse a period that goes beyond; a relative end
        implies it.
    patience
        Seconds without any answer after which to give up.
    absent
        Chunks that the service does not have hold nothing but fill values, or were lost.
        ``"check"`` compares with the service's other layout; ``"refuse"`` takes any for lost,
        ``"accept"`` for empty.
    revisit
        A length of time such as ``"10d"``: an update fetches that much of the end of the store
        again, because providers revise recent days, and writes what differs. A pixel that the
        provider has blanked since is blank afterwards. None, the default, leaves alone what the
        store has.
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
    patience: float = 300.0
    absent: Literal["check", "refuse", "accept"] = "check"
    revisit: str | None = None

    def __post_init__(self) -> None:
        check_number("patience", self.patience, 0, above=True)
        check_choice("absent", self.absent, ("check", "refuse", "accept"))
        if self.revisit is not None:
            span(self.revisit)
        if self.service is not None:
            check_choice("service", self.service, SERVICES)
        for name, most in (("longitude", 360), ("latitude", 90)):
            for end in ("minimum", "maximum"):
                value = getattr(self, f"{end}_{name}")
                if value is not None and not -min(most, 180) <= value <= most:
                    raise OptionError(
                        f"{end}_{name}={value!r}; give degrees from {-min(most, 180)} to {most}"
                    )
        for end in ("minimum", "maximum"):
            if (depth := getattr(self, f"{end}_depth")) is not None:
                check_number(f"{end}_depth", depth, -1e5, 1e5)
        for name in ("latitude", "depth"):
            low, high = (getattr(self, f"{end}_{name}") for end in ("minimum", "maximum"))
            if low is not None and high is not None and low > high:
                raise OptionError(
                    f"minimum_{name}={low!r} is above maximum_{name}={high!r}; swap them"
                )
        self.resolved(datetime.now(UTC))

    def resolved(self, now: datetime) -> CopernicusRequest:
        """The same request with absolute times; a relative end stops at the end of the dataset."""
        start, end = (
            t and moment(t, now).isoformat() for t in (self.start_datetime, self.end_datetime)
        )
        if start and end and start > end:
            raise OptionError(
                f"start_datetime={self.start_datetime!r} comes after end_datetime={self.end_datetime!r}; swap them"
            )
        open_end = self.end_datetime is not None and is_relative(self.end_datetime)
        if (start, end) == (self.start_datetime, self.end_datetime):
            return self
        return dataclasses.replace(
            self, start_datetime=start, end_datetime=end, clip_end=self.clip_end or open_end
        )

    def identity(self) -> dict[str, Any]:
        """What makes this request differ from another, its times apart."""
        held = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in BY_THE_WAY
        }
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in held.items()
        }

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for the client; its own defaults are left to it."""
        names = [
            f.name
            for f in dataclasses.fields(self)
            if f.name not in ("clip_end", "patience", "absent", "revisit")
        ]
        given = {
            name: getattr(self, name) for name in names if getattr(self, name) not in (None, ())
        }
        return given | ({"variables": list(self.variables)} if self.variables else {})

    def box(self) -> str:
        """The box in words.

        >>> CopernicusRequest(dataset_id="x", minimum_latitude=20, maximum_latitude=25.25).box()
        'latitude 20 to 25.25'
        """
        said = []
        for name in RANGES:
            low, high = (getattr(self, f"{end}_{name}") for end in ("minimum", "maximum"))
            if low is not None or high is not None:
                said.append(
                    f"{name} {'...' if low is None else f'{low:g}'} to {'...' if high is None else f'{high:g}'}"
                )
        return ", ".join(said) or "the whole dataset"


@dataclass(frozen=True, kw_only=True)
class Target:
    """How the store is laid out.

    Parameters
    ----------
    chunks
        Length of a chunk by dimension; by default 24 times, 256 latitudes and 256 longitudes.
    zarr_format
        3, or 2 for older readers.
    expect
        Sizes that the box must have, by dimension; another is an error.
    """

    chunks: dict[str, int] = field(default_factory=dict)
    zarr_format: int = 3
    expect: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.zarr_format not in (2, 3):
            raise OptionError(f"zarr_format={self.zarr_format!r}; choose from 2, 3")
        for table in ("chunks", "expect"):
            for dim, length in getattr(self, table).items():
                check_number(f"{table}.{dim}", length, 1, whole=True)
                check_most(f"{table}.{dim}", length, 2**31 - 1)

    def lengths(self, dims: tuple[str, ...]) -> dict[str, int]:
        """Length of a chunk in each dimension, time first.

        >>> Target(chunks={"latitude": 64}).lengths(("time", "latitude", "longitude"))
        {'time': 24, 'latitude': 64, 'longitude': 256}
        """
        for given in ("chunks", "expect"):
            for dim in getattr(self, given):
                if dim not in dims:
                    raise OptionError(
                        f"{given} names {dim!r}; the dimensions are {', '.join(dims)}"
                    )
        return {dim: self.chunks.get(dim, 24 if dim == "time" else 256) for dim in dims}
