# SPDX-License-Identifier: Apache-2.0
"""The scorecard of a comparison of methods, and its tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from sstfill.errors import unknown
from sstfill.plot import scores
from sstfill.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


class ScoreColumn(NamedTuple):
    """A column of the table: title, variable, number format, and the distance from perfect.

    `level` chooses an interval of a variable that has several. A scorecard may lack the variable.
    """

    title: str
    key: str
    text: Callable[[float, int], str]
    rank: Callable[[float], float] = float
    level: float | None = None


def _fixed(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}"


def _percent(value: float, decimals: int) -> str:
    return f"{value:.1%}"


def _short(value: float, decimals: int) -> str:
    if value < 10:
        return f"{value:.2g}"
    return f"{value:.0f}"


COLUMNS = (
    ScoreColumn("RMSE", "rmse", _fixed),
    ScoreColumn("common RMSE", "common_rmse", _fixed),
    ScoreColumn("RMSE log10", "rmse_log10", lambda value, decimals: f"{value:.3f}"),
    ScoreColumn("RMSE logit", "rmse_logit", lambda value, decimals: f"{value:.3f}"),
    ScoreColumn("MAE", "mae", _fixed),
    ScoreColumn("bias", "bias", lambda value, decimals: f"{value:+.{decimals}f}", rank=abs),
    ScoreColumn(
        "corr.", "correlation", lambda value, decimals: f"{value:.3f}", rank=lambda value: -value
    ),
    ScoreColumn("CRPS", "crps", _fixed),
    ScoreColumn("CRPS of draws", "crps_members", _fixed),
    ScoreColumn("energy", "energy", _fixed),
    ScoreColumn("in 68 %", "coverage", _percent, rank=lambda value: abs(value - 0.68), level=0.68),
    ScoreColumn("in 95 %", "coverage", _percent, rank=lambda value: abs(value - 0.95), level=0.95),
    ScoreColumn("filled", "filled_fraction", _percent, rank=lambda value: -value),
    ScoreColumn("seconds", "seconds", _short),
)


@dataclass(frozen=True, repr=False, eq=False)
class Scorecard:
    """Errors of methods at pixels that were withheld from them; see `sstfill.evaluation.score`.

    `data` holds, for each ``method``, ``rmse``, ``mae``, ``bias``, ``correlation``, ``crps``, ``n``
    and ``filled_fraction`` at the withheld pixels which that method filled, ``common_rmse`` at
    those which all methods that filled any filled, ``seconds`` and ``cpu_seconds`` of one fill;
    ``coverage`` (method, level) of the stated error; and ``rmse_by_cloud``, ``rmse_by_distance``,
    ``rmse_by_lag`` (method, bin), likewise ``mae``, ``bias`` and ``n``. Of transformed values it
    also holds ``rmse_log10`` (or ``rmse_logit``) and the like; ``coverage`` is then that of the
    error in transformed space.

    Where members were drawn it holds, too, what `sstfill.evaluation.draws.draw_scores` returns:
    ``crps_members``, ``energy``, ``rank_histogram`` (method, rank), ``rank_deviation``,
    ``patch_coverage`` and ``patch_coverage_independent`` (method, patch, level), ``n_patches``
    (method, patch), ``gradient_truth``, ``gradient_draws`` and ``gradient_mean`` (method,
    quantile); and against a truth without gaps ``power_ratio_draws`` and ``power_ratio_mean``
    (method, wavelength), decibels. ``card["oi"]`` holds the numbers of one method.
    """

    data: xr.Dataset

    def __getitem__(self, method: str) -> xr.Dataset:
        """Return the numbers of one method.

        ``data.sel(method="oi")`` would return all of them: `method` is an argument of xarray's own.

        Raises
        ------
        OptionError
            The method was not scored.
        """
        scored = self.data["method"].values.tolist()
        if method not in scored:
            raise unknown("method", method, scored)
        return self.data.sel({"method": method})

    @property
    def best(self) -> str:
        """Name of the method of lowest RMSE at the pixels that all methods filled.

        So leaving hard pixels out cannot win. Without common pixels each method's own count.
        """
        return str(_ranked(self.data).method.values[0])

    def plot(self, ax: Axes | None = None, fig: Figure | SubFigure | None = None) -> Figure:
        """Draw the scorecard; see `sstfill.plot.scorecard`.

        Parameters
        ----------
        ax
            Where to draw the pooled errors alone.
        fig
            Where to draw all panels. Default: a new figure.

        Returns
        -------
        Figure
            Not shown; `sstfill.plot.save` writes it.
        """
        return scores.scorecard(self, ax, fig)

    def to_dataset(self) -> xr.Dataset:
        """Return a copy of the numbers."""
        # Whoever changes it must not change the card.
        return self.data.copy(deep=True)

    def to_json(self) -> str:
        """Write the whole dataset as JSON; NaN becomes null."""
        # JSON has no NaN, and Python's `json` would write it all the same
        content = {"sstfill": __version__} | _json_ready(self.data.to_dict())
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Scorecard:
        """Read what `to_json` wrote."""
        tree = json.loads(text)
        for variable in tree["data_vars"].values():
            values = np.array(variable["data"])
            if values.dtype == object:  # null becomes NaN
                values = values.astype(np.float64)
            variable["data"] = values
        return cls(xr.Dataset.from_dict(tree))

    def to_markdown(self) -> str:
        """Write a Markdown table, best values bold, best method first."""
        # The mark is the only thing in which the three kinds of table differ.
        head, *rows = _table(self.data, lambda cell, best: f"**{cell}**" if best else cell)
        rule = ["---", *("---:" for _ in head[1:])]
        lines = []
        for row in (head, rule, *rows):
            # A label may hold a bar, which ends a cell in Markdown.
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |")
        return "\n".join(lines)

    def __str__(self) -> str:
        rows = _table(self.data, lambda cell, best: cell + ("*" if best else " "))
        # As wide as cells with the mark.
        rows[0] = [title + " " for title in rows[0]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [_title(self.data)]
        for name, *numbers in rows:
            cells = [name.ljust(widths[0])]
            for number, width in zip(numbers, widths[1:], strict=True):
                cells.append(number.rjust(width))
            lines.append(" ".join(cells).rstrip())
        lines.append("* best of its column")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, *rows = _table(
            self.data, lambda cell, best: f"<b>{escape(cell)}</b>" if best else escape(cell)
        )
        top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = ""
        for row in rows:
            body += "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        caption = f"<caption>{escape(_title(self.data))}</caption>"
        return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _ranked(data: xr.Dataset) -> xr.Dataset:
    """Return the methods from best to worst; those that filled nothing come last."""
    # A method that left hard pixels out would else come first.
    errors = data.common_rmse if data.common_rmse.notnull().any() else data.rmse
    return data.isel(method=np.argsort(errors.fillna(np.inf).values, kind="stable"))


def _title(data: xr.Dataset) -> str:
    attrs = data.attrs
    units = ""
    if attrs.get("units"):
        units = f" ({attrs['units']})"
    clouds = "given clouds" if attrs["clouds"] == "given" else f"clouds of {attrs['clouds']}"
    seed = ""
    if "seed" in attrs:
        seed = f", seed {attrs['seed']}"
    times = ""
    if attrs["repeats"] > 1:
        times = f", {attrs['repeats']} times"
    fraction = f"{attrs['fraction']:.1%} of the observed{times}{seed}"
    hidden = f"{attrs['n_withheld']} pixels withheld under {clouds} ({fraction})"
    return f"{attrs['variable']}{units}: {hidden}"


def _table(data: xr.Dataset, mark: Callable[[str, bool], str]) -> list[list[str]]:
    """Make a title row and a row for each method.

    `mark` writes each cell, given whether it is the best of its column.
    """
    data = _ranked(data)
    # An RMSE of 0, of a method that knows the truth, has no digits to count.
    known = data.rmse.values[np.isfinite(data.rmse.values) & (data.rmse.values > 0)]
    decimals = 2
    if known.size:  # three digits of the smallest error
        decimals = max(0, 2 - math.floor(math.log10(known.min())))
    columns = [["method"]]
    for name in data.method.values:
        # Marked as not best, for the mark also pads cells.
        columns[0].append(mark(str(name), False))
    for column in COLUMNS:
        if column.key not in data:
            continue
        values = data[column.key]
        if column.level is not None:
            values = values.sel(level=column.level)
        # Where all methods filled everything the column would say the same twice.
        repeated = column.key == "common_rmse" and values.equals(data.rmse)
        if np.isfinite(values).any() and not repeated:
            columns.append([column.title, *_cells(column, values.values, decimals, mark)])
    return list(map(list, zip(*columns, strict=True)))


def _cells(
    column: ScoreColumn, values: np.ndarray, decimals: int, mark: Callable[[str, bool], str]
) -> list[str]:
    known = [float(value) for value in values if math.isfinite(value)]
    best = None
    if len(known) > 1:  # one that is alone is not the best
        best = min(map(column.rank, known))
    cells = []
    for value in map(float, values):
        if math.isfinite(value):
            cells.append(mark(column.text(value, decimals), column.rank(value) == best))
        else:
            cells.append(mark("-", False))
    return cells


def _json_ready(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _json_ready(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_json_ready(value) for value in node]
    if isinstance(node, float) and not math.isfinite(node):
        return None
    return node
