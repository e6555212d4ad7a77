# SPDX-License-Identifier: Apache-2.0
"""The result of a comparison of methods, and how it prints."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from sstfill.plot import scores
from sstfill.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ScoreColumn(NamedTuple):
    """One column of the table: its title, variable and number format, and the distance from perfect
    to rank by.
    """

    title: str
    key: str
    text: Callable[[float, int], str]
    rank: Callable[[float], float] = float
    level: float | None = None


def _fixed(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}"


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}"


def _percent(value: float, decimals: int) -> str:
    return f"{value:.1%}"


def _short(value: float, decimals: int) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


COLUMNS = (
    ScoreColumn("RMSE", "rmse", _fixed),
    ScoreColumn("common RMSE", "common_rmse", _fixed),
    ScoreColumn("MAE", "mae", _fixed),
    ScoreColumn("bias", "bias", _signed, rank=abs),
    ScoreColumn(
        "corr.", "correlation", lambda value, decimals: f"{value:.3f}", rank=lambda value: -value
    ),
    ScoreColumn("CRPS", "crps", _fixed),
    ScoreColumn("in 68 %", "coverage", _percent, rank=lambda value: abs(value - 0.68), level=0.68),
    ScoreColumn("in 95 %", "coverage", _percent, rank=lambda value: abs(value - 0.95), level=0.95),
    ScoreColumn("filled", "filled_share", _percent, rank=lambda value: -value),
    ScoreColumn("seconds", "seconds", _short),
)


@dataclass(frozen=True, repr=False, eq=False)
class Scorecard:
    """Errors of methods at pixels that were withheld from them; see `sstfill.evaluation.score`.

    `data` holds, for each ``method``, ``rmse``, ``mae``, ``bias``, ``correlation``, ``crps``, ``n``
    and ``filled_share`` at the withheld pixels which that method filled, ``common_rmse`` at those
    which all methods that filled any filled, ``seconds`` and ``cpu_seconds`` of one fill;
    ``coverage`` (method, level) of the stated error; and ``rmse_by_cloud``, ``rmse_by_distance``,
    ``rmse_by_lag`` (method, bin), likewise ``mae``, ``bias`` and ``n``.
    """

    data: xr.Dataset

    @property
    def best(self) -> str:
        """Name of the method of lowest RMSE at the pixels common to all (so that leaving hard
        pixels out cannot win).

        Falls back to each method's own pixels where there are none in common.
        """
        return str(_ranked(self.data).method.values[0])

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw it; see `sstfill.plot.scorecard`.

        Parameters
        ----------
        ax
            Where to draw the pooled errors alone. Default: a new figure with all there is.

        Returns
        -------
        Figure
            Not shown; `sstfill.plot.save` writes it.
        """
        return scores.scorecard(self, ax)

    def to_dataset(self) -> xr.Dataset:
        """Return a copy of the numbers."""
        return self.data.copy(deep=True)

    def to_json(self) -> str:
        """Write the whole dataset as JSON; what is not known is null."""
        return json.dumps(
            {"sstfill": __version__} | _json_ready(self.data.to_dict()), allow_nan=False
        )

    @classmethod
    def from_json(cls, text: str) -> Scorecard:
        """Read what `to_json` wrote."""
        return cls(xr.Dataset.from_dict(_from_json(json.loads(text))))

    def to_markdown(self) -> str:
        """Write a Markdown table, best values bold, best method first."""
        head, *rows = _table(self.data, lambda cell, best: f"**{cell}**" if best else cell)
        rule = ["---", *("---:" for _ in head[1:])]
        return "\n".join(
            "| " + " | ".join(c.replace("|", r"\|") for c in row) + " |"
            for row in (head, rule, *rows)
        )

    def __str__(self) -> str:
        rows = _table(self.data, lambda cell, best: cell + ("*" if best else " "))
        rows[0] = [title + " " for title in rows[0]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
        return "\n".join(
            [
                _title(self.data),
                *(" ".join(line).rstrip() for line in lines),
                "* best of its column",
            ]
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, *rows = _table(
            self.data, lambda cell, best: f"<b>{escape(cell)}</b>" if best else escape(cell)
        )
        top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows
        )
        caption = f"<caption>{escape(_title(self.data))}</caption>"
        return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _ranked(data: xr.Dataset) -> xr.Dataset:
    """Return the methods from best to worst; those that filled nothing come last."""
    errors = data.common_rmse if data.common_rmse.notnull().any() else data.rmse
    return data.isel(method=np.argsort(errors.fillna(np.inf).values, kind="stable"))


def _title(data: xr.Dataset) -> str:
    attrs = data.attrs
    units = f" ({attrs['units']})" if attrs.get("units") else ""
    clouds = "clouds of other dates" if attrs["clouds"] == "other dates" else "given clouds"
    seed = f", seed {attrs['seed']}" if "seed" in attrs else ""
    times = f", {attrs['repeats']} times" if attrs["repeats"] > 1 else ""
    hidden = f"{attrs['n_withheld']} pixels withheld under {clouds} ({attrs['share']:.1%} of the observed{times}{seed})"
    return f"{attrs['variable']}{units}: {hidden}"


def _table(data: xr.Dataset, mark: Callable[[str, bool], str]) -> list[list[str]]:
    """Title row and a row for each method; `mark` gets each cell and whether it is the best of its
    column.
    """
    data = _ranked(data)
    known = data.rmse.values[np.isfinite(data.rmse.values) & (data.rmse.values > 0)]
    decimals = max(0, 2 - math.floor(math.log10(known.min()))) if known.size else 2
    columns = []
    for column in COLUMNS:
        values = (
            data[column.key] if column.level is None else data[column.key].sel(level=column.level)
        )
        if np.isfinite(values).any() and not (
            column.key == "common_rmse" and values.equals(data.rmse)
        ):
            columns.append([column.title, *_cells(column, values.values, decimals, mark)])
    names = ["method", *(mark(str(name), False) for name in data.method.values)]
    return [list(row) for row in zip(names, *columns, strict=True)]


def _cells(
    column: ScoreColumn, values: np.ndarray, decimals: int, mark: Callable[[str, bool], str]
) -> list[str]:
    ranks = [column.rank(float(v)) if math.isfinite(v) else math.inf for v in values]
    texts = [column.text(float(v), decimals) if math.isfinite(v) else "-" for v in values]
    rivals = sum(map(math.isfinite, ranks)) > 1  # one that is alone is not the best
    return [
        mark(text, rivals and rank == min(ranks)) for text, rank in zip(texts, ranks, strict=True)
    ]


def _json_ready(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _json_ready(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_json_ready(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def _from_json(tree: dict[str, Any]) -> dict[str, Any]:
    for variable in tree["data_vars"].values():
        values = np.array(variable["data"])
        variable["data"] = (
            values.astype(np.float64) if values.dtype == object else values
        )  # null becomes NaN
    return tree
