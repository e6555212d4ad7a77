# SPDX-License-Identifier: Apache-2.0
"""The nights before: one line of JSON each, and what their scores say is usual."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sstfill.io.atomic import atomic_path
from sstfill.nightly.night import Night
from sstfill.nightly.recipe import Alert

log = logging.getLogger(__name__)
FLOOR = 0.05
"""The median absolute deviation of the scores is taken as this share of their median at least."""
KEPT = ("status", "started", "seconds", "attention", "failure", "newest", "state", "found")


@dataclass(frozen=True)
class Usual:
    """What is usual of a score: the median, how far up is too far, and of how many nights that is known."""

    median: float
    limit: float
    nights: int


def read(path: Path) -> list[dict[str, Any]]:
    """Read the lines; what is no line of ours is left out, and told."""
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
            known = isinstance(line, dict) and {"status", "started", "state", "found"} <= line.keys()
        except ValueError:
            known = False
        if known:
            lines.append(line)
        else:
            log.warning("line %d of %s cannot be read; it is left out", number, path)
    return lines


def line(night: Night) -> dict[str, Any]:
    """What is kept of a night."""
    told = night.told()
    outcome = told["outcome"] or {}
    days = {k: outcome[k] for k in ("new", "revised", "influenced", "units", "made") if k in outcome}
    return {k: told[k] for k in KEPT} | {"days": days, "times": 1}


def added(lines: list[dict[str, Any]], night: Night) -> list[dict[str, Any]]:
    """Lines with that of a night: in the place of the last one if the output is as it was and the end was the same."""
    new = line(night)
    last = lines[-1] if lines else None
    if last is None or (last["state"], last["failure"]) != (new["state"], new["failure"]):
        return [*lines, new]
    kept = {"started": last["started"], "times": last.get("times", 1) + 1, "again": new["started"]}
    if night.outcome is None or not night.outcome.made:  # what was new then is what there is to tell of this state
        kept |= {"days": last["days"], "seconds": last["seconds"]}
    return [*lines[:-1], new | kept]


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write all lines, or leave what was there."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(one, allow_nan=False) + "\n" for one in lines), encoding="utf-8")


def same_state(lines: list[dict[str, Any]], state: str) -> dict[str, Any] | None:
    """The last night that left the output as it is now."""
    return next((one for one in reversed(lines) if one["state"] == state and one["found"]), None)


def usual(lines: list[dict[str, Any]], state: str, name: str, model: str, alert: Alert) -> Usual | None:
    """What is usual of the RMSE of a variable: of earlier nights with the same method, each state of the output once.

    None with fewer than `Alert.min_nights` of them. Median and median absolute deviation, so that a bad night among
    them does not move what is usual.
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
