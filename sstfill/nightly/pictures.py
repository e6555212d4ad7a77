# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report, as data that stand in the page itself: maps of the newest image, and the
history of a score.
"""

from __future__ import annotations

import base64
import io as streams
import logging
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from sstfill import io, plot
from sstfill.fields import grid
from sstfill.io.untrusted import guard
from sstfill.nightly.history import Usual
from sstfill.nightly.recent import thinning

log = logging.getLogger(__name__)
PIXELS = 120_000
"""Pixels at most of a map that is drawn; a larger grid is thinned."""
DPI = 100
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 240, 58, 14, 12, 30
NIGHTS = 60


def map_of_newest(filled: Path, name: str) -> tuple[str, str]:
    """Draw the newest image: what was seen, what was filled, how sure, where from.

    Returns
    -------
    str, str
        A PNG as a data URI, and a note on it; the first is empty where no picture could be drawn,
        the note says why.
    """
    try:
        with io.reading(filled), guard.open_zarr(filled, chunks=None) as held:
            parts = [n for n in (name, f"{name}_error", f"{name}_source") if n in held]
            time, *sides = map(str, grid.axes(held[name]).dims)
            every = thinning(tuple(held.sizes[d] for d in sides), PIXELS)
            last = (
                held[parts]
                .isel({time: slice(-1, None), **{d: slice(None, None, every) for d in sides}})
                .load()
            )
        figure = plot.maps(last, variable=name, time=0)
        stream = streams.BytesIO()
        figure.savefig(stream, format="png", dpi=DPI)
    except Exception as error:  # a picture is not worth a night
        log.warning("no map of %s: %s", name, error)
        return "", f"no map: {error}"
    note = f"every {every}th row and column is drawn" if every > 1 else ""
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode(), note


def score_chart(lines: Sequence[dict[str, Any]], name: str, past: Usual | None) -> str:
    """Draw the RMSE of the last nights as SVG; tonight's is the last one."""
    nights = [
        (one.get("newest") or one["started"][:10], one["found"][name])
        for one in lines
        if name in one["found"]
    ]
    scored = [(when, found) for when, found in nights if found["score"].get("rmse") is not None]
    known = [(when, found["score"]["rmse"], found["model"]) for when, found in scored[-NIGHTS:]]
    if not known:
        return ""
    values = np.array([v for _, v, _ in known])
    top = 1.15 * max(values.max(), past.limit if past else 0.0) or 1.0
    x = LEFT + (WIDTH - LEFT - RIGHT) * (np.arange(len(known)) + 0.5) / len(known)
    y = _height(values, top)
    parts = [*_axes(top), *_dates([when for when, _, _ in known], x)]
    if past:
        parts += [
            *_level(past.median, top, "#666", "", f"median {past.median:.3g}", 15),
            *_level(past.limit, top, "#b3261e", "6 4", f"limit {past.limit:.3g}", -5),
        ]
    parts.append(
        f'<polyline fill="none" stroke="#0072b2" stroke-width="1.5" points="{_points(x, y)}"/>'
    )
    for i, (when, value, model) in enumerate(known):
        over = past is not None and value > past.limit
        colour = "#b3261e" if over else "#0072b2" if model == known[-1][2] else "#999"
        size = 5 if i == len(known) - 1 else 3
        said = f"<title>{escape(f'{when}: RMSE {value:.3g}')}</title>"
        parts.append(
            f'<circle cx="{x[i]:.1f}" cy="{y[i]:.1f}" r="{size}" fill="{colour}">{said}</circle>'
        )
    label = escape(f"RMSE of {name} on withheld clouds, last {len(known)} nights")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _height(values: Any, top: float) -> Any:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * np.asarray(values) / top


def _points(x: Any, y: Any) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _axes(top: float) -> list[str]:
    step = float(f"{top / 4:.0e}")
    lines = []
    for value in np.arange(0, top, step):
        at = _height(value, top)
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e3e3e3"/>'
        )
        lines.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    return lines


def _dates(dates: Sequence[str], x: Any) -> list[str]:
    some = sorted({0, len(dates) // 2, len(dates) - 1})
    return [
        f'<text x="{np.clip(x[i], LEFT + 30, WIDTH - RIGHT - 36):.1f}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(dates[i][:10])}</text>"
        for i in some
    ]


def _level(value: float, top: float, colour: str, dashes: str, text: str, down: int) -> list[str]:
    at = float(_height(value, top))
    ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"'
    return [
        f'<line {ends} stroke="{colour}" stroke-dasharray="{dashes}"/>',
        f'<text x="{LEFT + 6}" y="{at + down:.1f}" style="fill:{colour}">{escape(text)}</text>',
    ]
