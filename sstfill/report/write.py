# SPDX-License-Identifier: Apache-2.0
"""Write the report of a fill: one HTML file that holds its pictures and loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import plot
from sstfill.errors import InputError, OptionError
from sstfill.fields.gaps import SOURCE_FLAGS
from sstfill.fields.transform import SCALES
from sstfill.io.output import place
from sstfill.io.output.atomic import atomic_path
from sstfill.plot.filled import calibration, methods_tried, sources_in_time
from sstfill.plot.view import View, dates, view
from sstfill.report.page import in_words, template
from sstfill.report.pictures import Picture, thinned
from sstfill.report.summary import decisions, fill_record, fill_score, filled_variables, number
from sstfill.version import versions

StrPath = str | PathLike[str]
TEMPLATE = Path(__file__).with_name("fill.html.jinja")
SUFFIXES = (".html", ".htm")
DATES = 4
"""Dates that are drawn before and after."""
ORIGIN = ("title", "institution", "source", "references", "license", "date_created")
"""Attributes of the input that the page repeats."""
LONGEST = 500
"""Characters of an attribute that are shown."""


@dataclass(frozen=True)
class VariableReport:
    """What the page shows of one variable.

    Attributes
    ----------
    name, label, units, extent
        As they are printed; the extent is the number and the span of the images, and their size.
    counts
        Pixels by flag, see `sstfill.fields.gaps.SOURCE_FLAGS`, in all images.
    decided
        What was decided, and why.
    score
        Measures of the score, and what they are; `n_withheld` pixels were withheld.
    coverage
        Fraction of withheld values inside the intervals, by the fraction that should be.
    scale
        Factors of the stated error by distance to data: a row of titles, then one a distance.
    pictures
        By name; one that could not be drawn tells why.
    """

    name: str
    label: str
    units: str
    extent: str
    counts: dict[str, int]
    decided: dict[str, str]
    score: dict[str, str]
    n_withheld: int | None
    coverage: dict[float, float]
    scale: list[list[str]]
    pictures: dict[str, Picture]

    @property
    def missing(self) -> float:
        """Fraction of the sea that was not observed; a withheld value was not seen either."""
        sea = sum(self.counts.values()) - self.counts["land"]
        return 1 - self.counts["observed"] / max(sea, 1)


def write_report(
    filled: xr.Dataset,
    path: str | PathLike[str],
    *,
    command: str = "",
    missing: Mapping[str, str] | None = None,
) -> Path:
    """Write a page about a filled series: maps, scores, errors, what was decided, and versions.

    Parameters
    ----------
    filled
        What `fill()` returned, or what was read from a file that sstfill wrote.
    path
        File to write, ``.html``. It appears whole or not at all; a file that is there is replaced
        only if it is a page of sstfill.
    command
        The command that filled it, for the page.
    missing
        By variable, which rules tell its missing values.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        The dataset is not what `fill()` returns.
    OptionError
        The name does not end with .html, or matplotlib or cartopy is not installed.
    WriteError
        The file cannot be written, or one is there that sstfill did not make.
    """
    # Checked once more, for a caller may not have asked before the work.
    check_target(path)
    names = filled_variables(filled)
    if not names:
        held = ", ".join(map(str, filled.data_vars)) or "(none)"
        raise InputError(
            f"no variable among {held} has its '_source' flags and the attribute sstfill_method; "
            "pass the dataset that fill() returned"
        )
    found = [_variable(filled, name) for name in names]
    origin = {name: str(filled.attrs.get(name, ""))[:LONGEST] for name in ORIGIN}
    provenance = {"command": command, **origin}
    history = str(filled.attrs.get("history", "")).splitlines()
    text = template(TEMPLATE).render(
        title=origin["title"] or ", ".join(one.label for one in found),
        variables=found,
        missing=dict(missing or {}),
        provenance=in_words(provenance),
        history=history,
        versions=versions(),
    )
    with atomic_path(path, replaces=place.check_replaceable) as temporary:
        # Paths in it may not be valid UTF-8.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return Path(path)


def check_target(path: StrPath, sources: Iterable[StrPath] = ()) -> None:
    """Refuse before the work a report that could not be written after it."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise OptionError(f"cannot write a report as {Path(path).name!r}; end its name with .html")
    # Found without importing them, which takes seconds.
    absent = [name for name in ("matplotlib", "cartopy") if find_spec(name) is None]
    if absent:
        raise OptionError(
            f"a report needs {' and '.join(absent)}; install them: pip install 'sstfill[plot]'"
        )
    place.check(path, sources)


def _variable(filled: xr.Dataset, name: str) -> VariableReport:
    """Gather what the page shows of one variable."""
    whole = view(filled, name)
    record = fill_record(filled[name].attrs.get("sstfill_method"))
    score = fill_score(filled[name].attrs.get("sstfill_score"))
    counts = _counts(whole.source)
    when = dates(whole.field)
    rows, columns = whole.field.shape[1:]
    coverage = {}
    for level, fraction in score.get("coverage", {}).items():
        if fraction is not None:
            # JSON has its keys as text.
            coverage[float(level)] = float(fraction)
    decided = decisions(filled[name])
    options = []
    for key, value in record["options"].items():
        if value is not None:
            options.append(f"{key} {_plain(value)}")
    decided["options"] = ", ".join(options)
    if "sigma_scale" in score:
        decided["errors"] = (
            f"what the method states is multiplied by {number(score['sigma_scale'])}, by which it "
            "holds on withheld clouds"
        )
    # A flag's value is its column.
    totals = counts.sum(0)
    return VariableReport(
        name=name,
        label=whole.label,
        units=whole.units,
        extent=f"{len(when)} images, {when[0]} to {when[-1]}, {rows} x {columns} pixels",
        counts={flag: int(totals[value]) for flag, value in SOURCE_FLAGS.items()},
        decided=decided,
        score=_measures(score, whole.units),
        n_withheld=score.get("n"),
        coverage=dict(sorted(coverage.items())),
        scale=_scale_table(score.get("scale")),
        pictures=_pictures(filled, whole, counts, coverage, record["diagnostics"]),
    )


def _counts(source: xr.DataArray) -> NDArray[np.int64]:
    """Count the pixels of each flag in each image, shape ``(times, 5)``, in one pass."""
    space = source.dims[1:]
    flags = {}
    for name, value in SOURCE_FLAGS.items():
        flags[name] = (source == value).sum(space)
    # One compute for all flags: a lazy field is read once.
    counted = xr.Dataset(flags, coords={}).compute()
    return np.stack([counted[name].values for name in SOURCE_FLAGS], axis=1)


def _measures(score: Mapping[str, Any], units: str) -> dict[str, str]:
    """Return the measures of a score by their names; empty without a score."""
    names = {"rmse": "RMSE", "mae": "MAE", "bias": "bias"}
    # The scale beside which an error is small or large.
    names |= {"std": "standard deviation of what was withheld"}
    measures = {}
    for key, title in names.items():
        if score.get(key) is not None:
            measures[title] = f"{number(float(score[key]))} {units}".strip()
    if score.get("correlation") is not None:
        measures["correlation"] = f"{score['correlation']:.3f}"
    for scale in filter(None, SCALES.values()):
        if score.get(f"rmse_{scale}") is not None:
            measures[f"RMSE in {scale}"] = number(float(score[f"rmse_{scale}"]))
    if score.get("filled_fraction") is not None:
        measures["withheld pixels that were filled"] = f"{score['filled_fraction']:.1%}"
    if score.get("fraction") is not None:
        measures["fraction of the observations withheld"] = f"{score['fraction']:.0%}"
    if "overlap" in score.get("resemblance", {}):
        measures["distances to data, in common with the gaps"] = (
            f"{score['resemblance']['overlap']:.0%}"
        )
    return measures


def _scale_table(scale: Mapping[str, Any] | None) -> list[list[str]]:
    """Return the factors of the stated error by distance (rows) and by days (columns) to data."""
    if scale is None:
        return []
    lags = [f"{lag:.3g} d" for lag in scale["lag_days"]]
    table = [["", *lags]]
    for distance, factors in zip(scale["distance_km"], scale["factor"], strict=True):
        table.append([f"{distance:.3g} km", *(f"{factor:.2f}" for factor in factors)])
    return table


def _pictures(
    filled: xr.Dataset,
    whole: View,
    counts: NDArray[np.int64],
    coverage: Mapping[float, float],
    diagnostics: Mapping[str, Any],
) -> dict[str, Picture]:
    """Draw the figures of a variable; one that fails is stated in its place."""
    name = str(whole.field.name)
    tried = {}
    for method, rmse in dict(diagnostics.get("rmse") or {}).items():
        # Of variables filled together there is a number for each of them.
        if isinstance(rmse, int | float):
            tried[method] = rmse
    # more cells than the picture has pixels would show nothing more
    few, note = thinned(filled, name)
    # Drawn later and one by one, so that one that fails does not take the others along.
    drawings: dict[str, Any] = {
        "maps": lambda: plot.panels(few, variable=name, n=DATES),
        "layers": lambda: plot.maps(few, variable=name),
        "sources": lambda: sources_in_time(counts, dates(whole.field)),
    }
    # A comparison of one method shows nothing.
    if len(tried) > 1:
        units = f"({whole.units})" if whole.units else ""
        chosen = diagnostics.get("chosen", [])
        drawings["methods"] = lambda: methods_tried(tried, chosen, units)
    if coverage:
        drawings["calibration"] = lambda: calibration(coverage)
    pictures = {}
    for kind, draw in drawings.items():
        try:
            pictures[kind] = Picture.of(draw(), note if kind in ("maps", "layers") else "")
        # Whatever a drawing fails with, the page is worth having without it.
        except Exception as error:
            pictures[kind] = Picture.missing(kind, name, error)
    return pictures


def _plain(value: Any) -> str:
    """Write the value of an option.

    >>> _plain(True), _plain(["oi", "dineof"]), _plain(0.001)
    ('yes', 'oi, dineof', '0.001')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)
