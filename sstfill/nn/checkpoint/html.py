# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint shows in Jupyter: a table of what it was trained on, and its loss curves as
inline SVG.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape
from typing import Any, TypeGuard

WIDTH, HEIGHT = 300, 150
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 34, 20
LONGEST = 160
"""Characters of a table's cell."""
CURVES = {
    "train": "training loss",
    "withheld": "withheld loss",
    "adversarial": "adversarial loss",
    "withheld_mae": "withheld MAE",
}
"""Keys of an epoch that are drawn, and what they are called."""
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
"""Keys of a configuration that are listed, and what they are called."""
TRAINED = {"steps": "steps", "seconds": "seconds", "device": "device"}


def summary(title: str, config: Mapping[str, Any]) -> str:
    """Describe a checkpoint as HTML: a table, and a curve for each score kept in its history.

    Parameters
    ----------
    title
        Heading.
    config
        Its configuration; what is absent or not as expected is passed over.

    >>> summary("Checkpoint", {"units": "<K>"})
    '<div><strong>Checkpoint</strong><table><tr><th>units</th><td>&lt;K&gt;</td></tr></table></div>'
    """
    history = _history(config)
    rows = _best(history)
    rows |= {
        label: _text(config[key])
        for key, label in ROWS.items()
        if config.get(key) not in (None, "", {}, [])
    }
    if effort := _text(_part(config.get("trained"), TRAINED)):
        rows["training"] = effort
    body = "".join(
        f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>" for label, text in rows.items()
    )
    curves = "".join(_curve(label, _points(history, key)) for key, label in CURVES.items())
    return f"<div><strong>{escape(title)}</strong><table>{body}</table>{curves}</div>"


def _history(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    trained = config.get("trained")
    entries = trained.get("history") if isinstance(trained, Mapping) else None
    return (
        [entry for entry in entries if isinstance(entry, Mapping)]
        if isinstance(entries, list)
        else []
    )


def _points(history: list[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    pairs = [(entry.get("epoch", n), entry.get(key)) for n, entry in enumerate(history)]
    return [(float(x), float(y)) for x, y in pairs if _is_number(x) and _is_number(y)]


def _is_number(value: Any) -> TypeGuard[float]:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def _best(history: list[Mapping[str, Any]]) -> dict[str, str]:
    points = _points(history, "withheld_mae")
    if not points:
        return {}
    epoch, best = min(points, key=lambda point: point[1])
    return {"withheld MAE": f"{_text(best)} in scaled units, best, in epoch {epoch:g}"}


def _part(found: Any, names: Mapping[str, str]) -> dict[str, Any]:
    return (
        {names[key]: found[key] for key in names if key in found}
        if isinstance(found, Mapping)
        else {}
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
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _curve(label: str, points: list[tuple[float, float]]) -> str:
    """Draw one curve, or nothing where there is no point; its least, its last and the epochs are
    told in words.
    """
    if not points:
        return ""
    xs, ys = zip(*points, strict=True)
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    places = [
        (LEFT + across * _share(x, xs), TOP + down * (1 - _share(y, ys))) for x, y in points
    ]  # up is more, as everywhere
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    low = min(range(len(ys)), key=ys.__getitem__)
    words = f"{label}: {_text(ys[0])} to {_text(ys[-1])}, least {_text(ys[low])}"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}"'
        ' font-size="11" fill="currentColor">'
        f'<text x="{LEFT}" y="14">{escape(words)}</text>'
        f'<polyline points="{line}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>'
        f'<circle cx="{places[low][0]:.1f}" cy="{places[low][1]:.1f}" r="3" fill="#d62728"/>'
        f'<text x="{LEFT}" y="{HEIGHT - 5}">epoch {xs[0]:g}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{xs[-1]:g}</text></svg>'
    )


def _share(value: float, among: tuple[float, ...]) -> float:
    low, high = min(among) / 2, max(among) / 2  # halves, whose difference is always finite
    return (value / 2 - low) / (high - low) if high > low else 0.5
