# SPDX-License-Identifier: Apache-2.0
"""The nights before: one line of JSON each, and the usual range of their scores."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sstfill.errors import ReadError
from sstfill.io.output.atomic import atomic_path
from sstfill.io.untrusted.documents import parse_json, read_bytes
from sstfill.nightly.night import Night
from sstfill.nightly.recipe import Alert

log = logging.getLogger(__name__)
FLOOR = 0.05
"""Least median absolute deviation of the scores, as a fraction of their median."""
BYTES = 256 * 2**20
"""Most bytes of a history that is read: centuries of nights."""
LISTED = 10
"""Most bad lines whose numbers a warning lists."""
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
KEPT = ("status", "started", "seconds", "attention", "failure", "newest", "state", "found")


@dataclass(frozen=True)
class Usual:
    """The usual range of a score: its median, the limit above it, and the number of nights."""

    median: float
    limit: float
    nights: int


class RecentScore(BaseModel):
    """The part of a variable's score that later nights use."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    rmse: Number | None = None
    bias: Number | None = None
    n: Number | None = None
    sigma_scale: Number | None = None
    coverage: dict[str, Number | None] | None = None


class VariableLine(BaseModel):
    """The part of a variable's report that later nights use."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    model: str
    score: RecentScore
    filled_fraction: Number | None = None


class Line(BaseModel):
    """A line of the history; see `line`."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    status: Literal["fine", "attention", "failed", "busy"]
    started: str
    state: str
    found: dict[str, VariableLine]
    failure: str = ""
    newest: str = ""
    attention: list[str] = []
    seconds: dict[str, Number] = {}
    days: dict[str, int] = {}
    times: int = 1


def read(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a history.

    Lines that no night wrote are left out with one warning; `write` keeps them in another file.
    """
    good, bad = _split(path)
    if bad:
        numbers = [f"line {number}" for number in list(bad)[:LISTED]]
        if len(bad) > LISTED:
            numbers.append("...")
        log.warning(
            "%s of %s cannot be read and is left out; it is kept in %s",
            ", ".join(numbers),
            path,
            _unreadable(path).name,
        )
    return good


def _split(path: Path) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
    """Return the lines that can be read, and by number those that cannot."""
    if not path.exists():
        return [], {}
    # Bytes, for a bad line may not even be UTF-8, and is kept as it is.
    content = read_bytes(path, remedy="move it away; the next night begins another one", most=BYTES)
    good: list[dict[str, Any]] = []
    bad: dict[int, bytes] = {}
    for number, text in enumerate(content.splitlines(), 1):
        if not text.strip():
            continue
        try:
            found = _renamed(parse_json(text, path, remedy=""))
            Line.model_validate(found, strict=True)
        except (ReadError, ValueError):  # pydantic's errors are ValueErrors
            bad[number] = text
        else:
            good.append(found)
    return good, bad


def _renamed(line: Any) -> Any:
    """Give a line the names of today: earlier versions wrote ``filled_share``."""
    found = None
    if isinstance(line, dict):
        found = line.get("found")
    if isinstance(found, dict):
        for one in found.values():
            if isinstance(one, dict) and "filled_share" in one:
                one["filled_fraction"] = one.pop("filled_share")
    return line


def _unreadable(path: Path) -> Path:
    """Return the file that keeps lines which cannot be read."""
    return path.with_name(f"{path.stem}.unreadable{path.suffix}")


def line(night: Night) -> dict[str, Any]:
    """Return the line that the history keeps of a night."""
    whole = night.to_dict()
    kept = {key: whole[key] for key in KEPT}
    days = {}
    if whole["outcome"] is not None:
        for key in ("new", "revised", "influenced", "units", "made"):
            days[key] = whole["outcome"][key]
    return kept | {"days": days, "times": 1}


def added(lines: list[dict[str, Any]], night: Night) -> list[dict[str, Any]]:
    """Add the line of a night; it replaces the last line if output and failure are the same."""
    new = line(night)
    if not lines:
        return [new]
    last = lines[-1]
    if (last["state"], last.get("failure", "")) != (new["state"], new["failure"]):
        return [*lines, new]
    # a job that runs each hour on the same data must not fill the history with one line an hour
    new |= {"started": last["started"], "times": last.get("times", 1) + 1, "again": new["started"]}
    if night.outcome is None or not night.outcome.made:
        # Nothing was filled again: the days that the first of these nights filled are shown.
        for key in ("days", "seconds"):
            if key in last:
                new[key] = last[key]
    return [*lines[:-1], new]


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write all lines atomically; lines there that cannot be read are kept in another file."""
    # read again: `read` has given the good lines alone
    _, bad = _split(path)
    if bad:
        kept = _unreadable(path)
        before = b""
        if kept.is_file():
            before = kept.read_bytes()
        with atomic_path(kept) as temporary:
            # Added to, never replaced: it may hold lines of an earlier accident.
            temporary.write_bytes(before + b"\n".join(bad.values()) + b"\n")
    with atomic_path(path) as temporary:
        # NaN is not JSON, and other programs read this file
        text = "".join(json.dumps(one, allow_nan=False) + "\n" for one in lines)
        temporary.write_text(text, encoding="utf-8")


def same_state(lines: list[dict[str, Any]], state: str) -> dict[str, Any] | None:
    """Return the last night that left the output as it is now."""
    for one in reversed(lines):
        if one["state"] == state and one["found"]:
            return one
    return None


def usual(
    lines: list[dict[str, Any]], state: str, name: str, model: str, alert: Alert
) -> Usual | None:
    """Return the usual range of a variable's RMSE; None with fewer than `Alert.min_nights` nights.

    It is taken from earlier nights with the same model, each state of the output once. Median and
    median absolute deviation are used, so that one bad night does not move the range.
    """
    by_state: dict[str, float] = {}
    # By state: a night run twice on the same output must not count twice.
    for one in lines:
        found = one["found"].get(name, {})
        error = found.get("score", {}).get("rmse")
        if one["state"] != state and found.get("model") == model and error is not None:
            by_state[one["state"]] = error
    # Dicts keep their order: the last nights are the newest.
    past = np.array(list(by_state.values())[-alert.rmse_nights :])
    if past.size < alert.min_nights:
        return None
    median = float(np.median(past))
    deviation = max(float(np.median(np.abs(past - median))), FLOOR * median)
    sigma = 1.4826 * deviation  # the standard deviation, were the scores normally distributed
    return Usual(median, median + alert.rmse_sigma * sigma, past.size)
