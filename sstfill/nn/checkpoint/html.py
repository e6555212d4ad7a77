# SPDX-License-Identifier: Apache-2.0
"""The summary of a checkpoint in Jupyter: a table, and loss curves as inline SVG."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape
from typing import Any, TypeGuard

WIDTH, HEIGHT = 300, 150
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 34, 20
LONGEST = 160
"""Characters of a cell of the table at most."""
CURVES = {
    "train": "training loss",
    "withheld": "withheld loss",
    "adversarial": "adversarial loss",
    "withheld_mae": "withheld MAE",
}
"""Keys of an epoch that are drawn, and their titles."""
ROWS = {
    "variable": "variable",
    "units": "units",
    "spread": "standard deviation of the anomaly",
    "step_days": "time step, days",
    "cell_km": "cell, km",
    "patch": "patch, time y x",
    "channels": "channels",
    "objective": "objective",
    "occlusion": "clouds in training",
    "data": "trained on",
    "scores": "scores",
    "sstfill_version": "sstfill",
}
"""Keys of a configuration that are listed, and their titles."""
TRAINED = ("steps", "seconds", "device")


def summary(title: str, config: Mapping[str, Any]) -> str:
    """Describe a checkpoint as HTML: a table, and a curve for each score kept in its history.

    Parameters
    ----------
    title
        Heading.
    config
        Its configuration; what is absent or malformed is left out.

    >>> summary("Checkpoint", {"units": "<K>"})
    '<div><strong>Checkpoint</strong><table><tr><th>units</th><td>&lt;K&gt;</td></tr></table></div>'
    """
    history = _history(config)
    rows: dict[str, str] = {}
    points = _points(history, "withheld_mae")
    if points:
        epoch, best = min(points, key=lambda point: point[1])
        rows["withheld MAE"] = f"{_text(best)} in scaled units, best, in epoch {epoch:g}"
    for key, label in ROWS.items():
        if config.get(key) not in (None, "", {}, []):
            rows[label] = _text(config[key])
    trained = config.get("trained")
    if isinstance(trained, Mapping):
        effort = _text({key: trained[key] for key in TRAINED if key in trained})
        if effort:
            rows["training"] = effort
    body = ""
    for label, text in rows.items():
        body += f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>"
    curves = "".join(_curve(label, _points(history, key)) for key, label in CURVES.items())
    return f"<div><strong>{escape(title)}</strong><table>{body}</table>{curves}</div>"


def _history(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    trained = config.get("trained")
    entries = trained.get("history") if isinstance(trained, Mapping) else None
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _points(history: list[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    pairs = [(entry.get("epoch", n), entry.get(key)) for n, entry in enumerate(history)]
    return [(float(x), float(y)) for x, y in pairs if _is_number(x) and _is_number(y)]


def _is_number(value: Any) -> TypeGuard[float]:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def _text(value: Any) -> str:
    """Write plain values on one line.

    >>> _text({"mae": 0.123456, "patch": [24, 64]})
    'mae 0.1235, patch 24 64'
    """
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    elif isinstance(value, list | tuple):
        text = " ".join(_text(inner) for inner in value)
    elif isinstance(value, float):
        text = f"{value:.4g}"
    else:
        text = "" if value is None else str(value)
    if len(text) > LONGEST:
        return text[: LONGEST - 3] + "..."
    return text


def _curve(label: str, points: list[tuple[float, float]]) -> str:
    """Draw a curve with its least and last value in words; nothing without a point."""
    if not points:
        return ""
    xs, ys = zip(*points, strict=True)
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    places = []
    for x, y in points:
        height = down * (1 - _fraction(y, ys))  # SVG counts downward
        places.append((LEFT + across * _fraction(x, xs), TOP + height))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    low = min(range(len(ys)), key=ys.__getitem__)
    words = f"{label}: {_text(ys[0])} to {_text(ys[-1])}, least {_text(ys[low])}"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(words)}" font-size="11" fill="currentColor">'
        f'<text x="{LEFT}" y="14">{escape(words)}</text>'
        f'<polyline points="{line}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>'
        f'<circle cx="{places[low][0]:.1f}" cy="{places[low][1]:.1f}" r="3" fill="#d62728"/>'
        f'<text x="{LEFT}" y="{HEIGHT - 5}">epoch {xs[0]:g}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{xs[-1]:g}</text></svg>'
    )


def _fraction(value: float, among: tuple[float, ...]) -> float:
    low, high = min(among) / 2, max(among) / 2  # halves, whose difference is always finite
    if high == low:
        return 0.5
    return (value / 2 - low) / (high - low)
