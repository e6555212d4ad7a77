# SPDX-License-Identifier: Apache-2.0
"""The account of missing values: how many there are, and by which rule."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstfill.fields.reading.sentinels import DEFAULT_FILL, ZARR_FILL, Sentinel
from sstfill.printable import printable

log = logging.getLogger(__name__)

LARGE_SHARE = 0.05
"""Share of the values that a valid range may remove without a warning, if they look plausible.

Plausible values lie no farther outside the range than it is wide.
"""
ABSENT = "absent Zarr chunks"
NEVER_WRITTEN = "images never written"
STORED_NAN = "stored NaN"
_ORIGINS = {
    DEFAULT_FILL: "NetCDF's default fill value",
    ZARR_FILL: "the fill value of the Zarr array",
}


@dataclass(frozen=True)
class MissingValues:
    """How many values of a variable are missing, and by which rule; it prints as one line.

    Attributes
    ----------
    variable
        Its name.
    size
        Number of all values.
    counts
        Number of values by rule, such as ``"_FillValue -999"``; each value counts once, by the
        first of the rules that it meets.
    warnings
        Sentences on what nobody declared, and on ranges that remove much.
    """

    variable: str
    size: int
    counts: dict[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Number of missing values."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        found = [f"{count:,} by {rule}" for rule, count in self.counts.items() if count]
        return printable(", ".join(found)) or "none"

    def warn(self) -> None:
        """Log the warnings."""
        for warning in self.warnings:
            log.warning("%s: %s", self.variable, printable(warning))


@dataclass
class Removal:
    """What a valid range removes of the values that are not missing otherwise."""

    present: int = 0
    removed: int = 0
    near: int = 0
    as_stored: int = 0
    as_unpacked: int = 0
    packed: bool = False
    least: float = np.inf
    most: float = -np.inf
    kept_least: float = np.inf
    kept_most: float = -np.inf

    def add(
        self,
        values: NDArray,
        unpacked: NDArray,
        present: NDArray[np.bool_],
        bounds: tuple[float | None, float | None],
        declared: tuple[float, float],
    ) -> NDArray[np.bool_]:
        """Count a block, and return which of its values the range removes."""
        low = -np.inf if bounds[0] is None else bounds[0]
        high = np.inf if bounds[1] is None else bounds[1]
        removed = present & ((unpacked < low) | (unpacked > high))
        self.present += int(np.count_nonzero(present))
        count = int(np.count_nonzero(removed))
        self.removed += count
        if not count:
            return removed
        kept = present & ~removed
        self.kept_least = min(self.kept_least, unpacked.min(where=kept, initial=np.inf))
        self.kept_most = max(self.kept_most, unpacked.max(where=kept, initial=-np.inf))
        self.least = min(self.least, unpacked.min(where=removed, initial=np.inf))
        self.most = max(self.most, unpacked.max(where=removed, initial=-np.inf))
        ends = (max(low, self.kept_least), min(high, self.kept_most))
        width = high - low if np.isfinite(high - low) else ends[1] - ends[0]
        near = (unpacked >= low - width) & (unpacked <= high + width)
        self.near += int(np.count_nonzero(removed & near))
        if values.dtype.kind in "iu":
            self.packed = True
            for name, numbers in (("as_stored", values), ("as_unpacked", unpacked)):
                outside = present & ((numbers < declared[0]) | (numbers > declared[1]))
                setattr(self, name, getattr(self, name) + int(np.count_nonzero(outside)))
        return removed

    def warnings(self, declared: tuple[str, tuple[float, float]]) -> list[str]:
        """Warn of a range that removes many plausible values, or nearly all of them."""
        nearly_all = self.removed > (1 - LARGE_SHARE) * self.present
        if not self.removed or not (nearly_all or self.near > LARGE_SHARE * self.present):
            return []
        text = (
            f"{declared[0]} removes {self.removed:,} of {self.present:,} values "
            f"({100 * self.removed / self.present:.1f} %), from {self.least:g} to {self.most:g}"
        )
        if self.kept_least <= self.kept_most:
            text += f"; those kept lie from {self.kept_least:g} to {self.kept_most:g}"
        # producers mistake one for the other: in the units in which little lies outside, the range
        # was meant
        others = {"packed": self.as_stored, "unpacked": self.as_unpacked}
        for units, outside in others.items():
            if self.packed and nearly_all and outside <= LARGE_SHARE * self.present:
                text += f"; in {units} units it would remove {outside:,}: is it in other units?"
                return [text]
        return [f"{text}; set the attribute right, or remove it, if they are good"]


@dataclass
class Tally:
    """Counts missing values block by block.

    Parameters
    ----------
    sentinels
        Numbers that stand for missing values, as the blocks hold them.
    bounds
        Lowest and highest valid value in unpacked units.
    declared
        The valid range as the file declares it, its text and its two numbers.
    unwritten
        What an image that was never written holds.
    kept
        A number that other programs take as missing, and that is kept.
    axis, images
        The dimension of time, and the number of images along it.
    """

    sentinels: Sequence[Sentinel] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    declared: tuple[str, tuple[float, float]] = ("valid_range", (-np.inf, np.inf))
    unwritten: Any = None
    kept: Any = None
    axis: int = 0
    images: int = 0
    size: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    zeros: int = 0
    removal: Removal = field(default_factory=Removal)

    def __post_init__(self) -> None:
        self.at_unwritten = np.zeros(self.images, np.int64)

    def add(
        self,
        values: NDArray,
        decode: Callable[[NDArray], NDArray],
        origin: int = 0,
        keep: dict[str, NDArray[np.bool_]] | None = None,
    ) -> None:
        """Count a block.

        Parameters
        ----------
        values
            As stored.
        decode
            Returns them unpacked, missing ones as NaN.
        origin
            Index of its first image.
        keep
            Further rules by name: True where a value is kept.
        """
        self.size += values.size
        wanted = bool(keep) or self.bounds != (None, None)
        missing = np.zeros(values.shape, bool) if wanted else None
        for sentinel in self.sentinels:
            self._count(f"{sentinel.rule} {sentinel.number:g}", values == sentinel.number, missing)
        if values.dtype.kind == "f":
            self._count(STORED_NAN, np.isnan(values), missing)
        if self.kept is not None:
            self.zeros += int(np.count_nonzero(values == self.kept))
        if self.unwritten is not None:
            by_image = np.moveaxis(values == self.unwritten, self.axis, 0)
            hits = by_image.reshape(len(by_image), -1).sum(axis=1)
            self.at_unwritten[origin : origin + len(hits)] += hits
        if missing is None:
            return
        if self.bounds != (None, None):
            unpacked = decode(values)
            removed = self.removal.add(values, unpacked, ~missing, self.bounds, self.declared[1])
            self._count(self.declared[0], removed, missing)
        for rule, kept in (keep or {}).items():
            self._count(rule, ~kept & ~missing, missing)

    def _count(self, rule: str, hit: NDArray[np.bool_], missing: NDArray[np.bool_] | None) -> None:
        self.counts[rule] = self.counts.get(rule, 0) + int(np.count_nonzero(hit))
        if missing is not None:
            missing |= hit

    def account(self, variable: str, *, absent: int = 0) -> MissingValues:
        """Return the account of all blocks, of whose missing values `absent` were in no chunk."""
        counts, warnings = dict(self.counts), []
        if absent:
            # they were read as the first number that stands for missing values, or as NaN
            first = next(rule for rule in (STORED_NAN, *counts) if rule in counts)
            counts = {ABSENT: absent, **counts, first: counts[first] - absent}
            warnings.append(
                f"{absent:,} values lie in chunks that the Zarr store does not hold; they are "
                "taken as missing. Zarr leaves out chunks of nothing but its fill value, too: if "
                "that is a value, write such chunks (write_empty_chunks)"
            )
        for sentinel in self.sentinels:
            count = counts[f"{sentinel.rule} {sentinel.number:g}"]
            if count and not sentinel.declared:
                origin = _ORIGINS[sentinel.rule]
                warnings.append(
                    f"{count:,} values equal {sentinel.number:g}, {origin}, which no attribute "
                    "declares; they are taken as missing"
                )
        if self.zeros:
            warnings.append(
                f"{self.zeros:,} values equal {self.kept:g}, the default fill value of the Zarr "
                "array; they are kept as values. Declare them as _FillValue if they are missing"
            )
        if self.unwritten is not None and self.images:
            whole = self.at_unwritten == self.size // self.images
            images, lost = int(whole.sum()), int(self.at_unwritten[whole].sum())
            others = int(self.at_unwritten.sum()) - lost
            counts[NEVER_WRITTEN] = lost
            if images:
                warnings.append(
                    f"{images:,} images hold nothing but {self.unwritten:g}, NetCDF's default fill "
                    "value of their type; they are taken as never written"
                )
            if others:
                warnings.append(
                    f"{others:,} values equal {self.unwritten:g}, NetCDF's default fill value of "
                    "their type, in images with others; they are kept as values. Declare it as "
                    "_FillValue if they are missing"
                )
        warnings += self.removal.warnings(self.declared)
        return MissingValues(variable, self.size, counts, tuple(warnings))
