# SPDX-License-Identifier: Apache-2.0
"""The faults with which the stand-in answers on demand."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

# Which requests a fault is for: patterns searched in the path. Coordinates are 1-D, their keys have
# no dots. Chunks that do not exist, because they hold nothing but land, are passed by.
LOGIN = r"/openid-connect/"
CONFIG = r"clients-?config"
STAC = r"\.stac\.json$|/idMapping"
CATALOGUE = f"{CONFIG}|{STAC}"
CHUNK = r"\.zarr/\w+/\d+(\.\d+)+$"


@dataclass(frozen=True)
class Status:
    """Answer with this status and an error document."""

    code: int


@dataclass(frozen=True)
class Slow:
    """Answer correctly after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Truncated:
    """Send this fraction of the body and close; with `declared` the header promises no more."""

    fraction: float = 0.5
    declared: bool = False


@dataclass(frozen=True)
class Dropped:
    """Close the connection without a word."""


@dataclass(frozen=True)
class Do:
    """Run this, then answer as usual: a dataset version that changes in the middle, for one."""

    action: Callable[[], object]


Fault = Status | Slow | Truncated | Dropped | Do


@dataclass
class _Rule:
    fault: Fault
    where: re.Pattern[str]
    times: float
    after: int

    def due(self, path: str) -> bool:
        if self.times <= 0 or not self.where.search(path):
            return False
        self.after -= 1
        return self.after < 0


class Faults:
    """The faults to come, and those that came: `fired` holds pairs (path, fault)."""

    def __init__(self) -> None:
        self.fired: list[tuple[str, Fault]] = []
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault, where: str = CHUNK, *, times: float = 1, after: int = 0) -> None:
        """Let `after` requests that match `where` pass, then answer `times` of them (inf: all) with
        `fault`.
        """
        with self._lock:
            self._rules.append(_Rule(fault, re.compile(where, re.IGNORECASE), times, after))

    def clear(self) -> None:
        """All is well again."""
        with self._lock:
            self._rules.clear()

    def take(self, path: str) -> Fault | None:
        """The fault to answer this request with, which is thereby spent once."""
        with self._lock:
            for rule in self._rules:
                if rule.due(path):
                    rule.times -= 1
                    self.fired.append((path, rule.fault))
                    return rule.fault
        return None
