# SPDX-License-Identifier: Apache-2.0
"""The nights before: one line of JSON each, and what their scores say is usual."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sstfill.errors import ReadError
from sstfill.io.atomic import atomic_path
from sstfill.io.untrusted.documents import parse_json, read_bytes
from sstfill.nightly.night import Night
from sstfill.nightly.recipe import Alert

log = logging.getLogger(__name__)
FLOOR = 0.05
"""The median absolute deviation of the scores is taken as this share of their median at least."""
BYTES = 256 * 2**20
"""Of a history that is read: centuries of nights."""
TOLD = 10
"""Bad lines whose numbers are told."""
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
KEPT = ("status", "started", "seconds", "attention", "failure", "newest", "state", "found")


@dataclass(frozen=True)
class Usual:
    """What is usual of a score: the median, how far up is too far, and of how many nights that is
    known.
    """

    median: float
    limit: float
    nights: int


class Score(BaseModel):
    """What of a variable's score is used again."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    rmse: Number | None = None
    bias: Number | None = None
    n: Number | None = None
    sigma_scale: Number | None = None
    coverage: dict[str, Number | None] | None = None


class FoundLine(BaseModel):
    """What of a variable is used again."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    model: str
    score: Score
    filled_fraction: Number | None = None


class Line(BaseModel):
    """A line of the history: see `line`."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    status: Literal["fine", "attention", "failed", "busy"]
    started: str
    state: str
    found: dict[str, FoundLine]
    failure: str = ""
    newest: str = ""
    attention: list[str] = []
    seconds: dict[str, Number] = {}
    days: dict[str, int] = {}
    times: int = 1


def read(path: Path) -> list[dict[str, Any]]:
    """Read the lines; those that are not ours are left out, told in one warning, and kept aside by
    `write`.
    """
    good, bad = _parted(path)
    if bad:
        numbers = ", ".join(f"line {number}" for number in list(bad)[:TOLD]) + (
            ", ..." if len(bad) > TOLD else ""
        )
        log.warning(
            "%s of %s cannot be read and is left out; it is kept in %s",
            numbers,
            path,
            _aside(path).name,
        )
    return good


def _parted(path: Path) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
    """The lines that can be read, and by their number those that cannot."""
    if not path.exists():
        return [], {}
    content = read_bytes(path, remedy="move it away; the next night begins another one", most=BYTES)
    good: list[dict[str, Any]] = []
    bad: dict[int, bytes] = {}
    for number, text in enumerate(content.splitlines(), 1):
        if not text.strip():
            continue
        try:
            found = parse_json(text, path, remedy="")
            Line.model_validate(found, strict=True)
        except (ReadError, ValueError):  # pydantic's errors are ValueErrors
            bad[number] = text
        else:
            good.append(found)
    return good, bad


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.unreadable{path.suffix}")


def line(night: Night) -> dict[str, Any]:
    """What is kept of a night."""
    told = night.to_dict()
    outcome = told["outcome"] or {}
    days = {
        k: outcome[k] for k in ("new", "revised", "influenced", "units", "made") if k in outcome
    }
    return {k: told[k] for k in KEPT} | {"days": days, "times": 1}


def added(lines: list[dict[str, Any]], night: Night) -> list[dict[str, Any]]:
    """Lines with that of a night: in the place of the last one if the output is as it was and the
    end was the same.
    """
    new = line(night)
    last = lines[-1] if lines else None
    if last is None or (last["state"], last.get("failure", "")) != (new["state"], new["failure"]):
        return [*lines, new]
    kept = {"started": last["started"], "times": last.get("times", 1) + 1, "again": new["started"]}
    if (
        night.outcome is None or not night.outcome.made
    ):  # what was new then is what there is to tell of this state
        kept |= {key: last[key] for key in ("days", "seconds") if key in last}
    return [*lines[:-1], new | kept]


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write all lines, or leave what was there; lines there that cannot be read go to a file of
    their own first.
    """
    _, bad = _parted(path)
    if bad:
        kept = _aside(path)
        before = kept.read_bytes() if kept.is_file() else b""
        with atomic_path(kept) as temporary:
            temporary.write_bytes(before + b"".join(text + b"\n" for text in bad.values()))
    with atomic_path(path) as temporary:
        temporary.write_text(
            "".join(json.dumps(one, allow_nan=False) + "\n" for one in lines), encoding="utf-8"
        )


def same_state(lines: list[dict[str, Any]], state: str) -> dict[str, Any] | None:
    """The last night that left the output as it is now."""
    return next((one for one in reversed(lines) if one["state"] == state and one["found"]), None)


def usual(
    lines: list[dict[str, Any]], state: str, name: str, model: str, alert: Alert
) -> Usual | None:
    """What is usual of the RMSE of a variable: of earlier nights with the same method, each state
    of the output once.

    None with fewer than `Alert.min_nights` of them. Median and median absolute deviation, so that a
    bad night among them does not move what is usual.
    """
    by_state: dict[str, float] = {}
    for one in lines:
        found = one["found"].get(name, {})
        error = found.get("score", {}).get("rmse")
        if one["state"] != state and found.get("model") == model and error is not None:
            by_state[one["state"]] = error
    past = np.array(list(by_state.values())[-alert.rmse_nights :])
    if past.size < alert.min_nights:
        return None
    median = float(np.median(past))
    deviation = max(float(np.median(np.abs(past - median))), FLOOR * median)
    return Usual(median, median + alert.rmse_sigma * 1.4826 * deviation, past.size)
