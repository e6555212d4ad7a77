# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint shows in Jupyter: a table of how it was trained, and its loss curves."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

WIDTH, HEIGHT = 300, 150
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 34, 20
LONGEST = 160
"""Most characters of a table's cell."""
CURVES = {
    "train": "training loss",
    "withheld": "withheld loss",
    "adversarial": "adversarial loss",
    "withheld_mae": "withheld MAE",
}
"""Keys of an epoch that are drawn, and their labels."""
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
"""Keys of a configuration that are listed, and their labels."""
TRAINED = ("steps", "seconds", "device")
"""Keys of the training that are listed."""

# The curves are drawn here, not by matplotlib, which is an optional dependency.
TEMPLATE = """\
<div><strong>{{ title }}</strong><table>
{%- for label, text in rows.items() -%}
<tr><th>{{ label }}</th><td>{{ text }}</td></tr>
{%- endfor -%}
</table>
{%- for curve in curves -%}
<svg width="{{ width }}" height="{{ height }}" viewBox="0 0 {{ width }} {{ height }}" role="img" \
aria-label="{{ curve.label }}" font-size="11" fill="currentColor">\
<text x="{{ left }}" y="14">{{ curve.label }}</text>\
<polyline points="{{ curve.points }}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>\
<circle cx="{{ curve.lowest[0] }}" cy="{{ curve.lowest[1] }}" r="3" fill="#d62728"/>\
<text x="{{ left }}" y="{{ height - 5 }}">epoch {{ curve.first_epoch }}</text>\
<text x="{{ width - right }}" y="{{ height - 5 }}" text-anchor="end">{{ curve.last_epoch }}</text>\
</svg>
{%- endfor -%}
</div>"""


@dataclass(frozen=True)
class _Curve:
    """One curve as the template draws it; coordinates in pixels, as text."""

    label: str
    points: str
    lowest: tuple[str, str]
    first_epoch: str
    last_epoch: str


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
    import jinja2

    rows = {}
    withheld = _points(_epochs(config), "withheld_mae")
    if withheld:
        epoch, best = min(withheld, key=lambda point: point[1])
        rows["withheld MAE"] = f"{_text(best)} in scaled units, best, in epoch {epoch:g}"
    for key, label in ROWS.items():
        if config.get(key) not in (None, "", {}, []):
            rows[label] = _text(config[key])
    trained = _training(config)
    effort = _text({key: trained[key] for key in TRAINED if key in trained})
    if effort:
        rows["training"] = effort
    curves = [_curve(label, points) for label, points in loss_curves(config).items()]
    # Autoescape: a configuration may come from anybody.
    template = jinja2.Environment(autoescape=True).from_string(TEMPLATE)
    return template.render(
        title=title, rows=rows, curves=curves, width=WIDTH, height=HEIGHT, left=LEFT, right=RIGHT
    )


def loss_curves(config: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Return the losses and scores that a training kept, by label: pairs of epoch and value.

    >>> history = [{"epoch": 1, "train": 0.5}, {"epoch": 2, "train": 0.25}]
    >>> loss_curves({"trained": {"history": history}})
    {'training loss': [(1.0, 0.5), (2.0, 0.25)]}
    """
    epochs = _epochs(config)
    curves = {label: _points(epochs, key) for key, label in CURVES.items()}
    return {label: points for label, points in curves.items() if points}


def _training(config: Mapping[str, Any]) -> Mapping[str, Any]:
    trained = config.get("trained")
    if isinstance(trained, Mapping):
        return trained
    return {}


def _epochs(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    history = _training(config).get("history")
    if not isinstance(history, list):
        return []
    return [epoch for epoch in history if isinstance(epoch, Mapping)]


def _points(epochs: list[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """Return (epoch, value) of the epochs that have both as numbers."""
    points = []
    for number, entry in enumerate(epochs):
        epoch, value = entry.get("epoch", number), entry.get(key)
        if _is_number(epoch) and _is_number(value):
            points.append((float(epoch), float(value)))
    return points


def _is_number(value: Any) -> TypeGuard[float]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # false for NaN and infinity, and for whole numbers that no float holds
    return number and abs(value) <= sys.float_info.max


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
    elif value is None:
        text = ""
    else:
        text = str(value)
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - 3] + "..."


def _curve(label: str, points: list[tuple[float, float]]) -> _Curve:
    """Scale a curve to the picture; its label tells the first, the last and the least value."""
    epochs = [epoch for epoch, _ in points]
    values = [value for _, value in points]
    places = []
    for epoch, value in points:
        x = LEFT + (WIDTH - LEFT - RIGHT) * _position(epoch, epochs)
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - _position(value, values))  # y points down
        places.append((f"{x:.1f}", f"{y:.1f}"))
    least = values.index(min(values))
    words = f"{_text(values[0])} to {_text(values[-1])}, least {_text(values[least])}"
    return _Curve(
        label=f"{label}: {words}",
        points=" ".join(f"{x},{y}" for x, y in places),
        lowest=places[least],
        first_epoch=f"{epochs[0]:g}",
        last_epoch=f"{epochs[-1]:g}",
    )


def _position(value: float, among: list[float]) -> float:
    """Return where a value lies between the least (0) and the greatest (1) of some values."""
    low, high = min(among) / 2, max(among) / 2  # halves, whose difference is always finite
    if high > low:
        return (value / 2 - low) / (high - low)
    return 0.5
