# SPDX-License-Identifier: Apache-2.0
"""A nightly recipe: a TOML file with what to download, how to fill it, and when to alert."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sstfill import config
from sstfill.checks import check_most, check_number
from sstfill.errors import OptionError, unknown
from sstfill.fields.transform import Asked
from sstfill.io.presets import find_recipe
from sstfill.io.presets import folder as shipped_folder
from sstfill.io.untrusted.documents import (
    naming,
    one_line,
    place,
    read_toml,
    short,
    without_comments,
)
from sstfill.methods import Method, method_class
from sstfill.methods.registry import MOST_MEMBERS
from sstfill.sources.copernicus.request import CopernicusRequest
from sstfill.sources.recipe import Recipe, load_recipe

TABLES = ("title", "nightly", "download", "fill", "alert")


@dataclass(frozen=True, kw_only=True)
class Nightly:
    """The [nightly] table.

    Parameters
    ----------
    archive
        Zarr store that is filled.
    filled
        Zarr store to fill it into.
    report
        Folder of the report: ``index.html``, ``latest.json``, ``history.jsonl``, ``nightly.log``,
        ``lock``.
    """

    archive: str
    filled: str
    report: str

    def __post_init__(self) -> None:
        for name in ("archive", "filled"):
            if not getattr(self, name).rstrip("/").endswith(".zarr"):
                raise OptionError(
                    f"{name}={getattr(self, name)!r} in [nightly] is no Zarr store; end its name "
                    "with .zarr"
                )
        if len({self.archive, self.filled, self.report}) < 3:
            raise OptionError(
                f"archive, filled and report in [nightly] are not three places: {self.archive!r}, "
                f"{self.filled!r}, {self.report!r}; give three"
            )


@dataclass(frozen=True, kw_only=True)
class Download:
    """The [download] table.

    Parameters
    ----------
    recipe
        A recipe of ``sstfill recipes``, or a TOML file of one, relative to the nightly recipe.
    """

    recipe: str


@dataclass(frozen=True, kw_only=True)
class Fill:
    """The [fill] table; further keys are options of the method.

    Parameters
    ----------
    method
        Name of the method; ``"auto"`` chooses by withheld clouds on the first night.
    variables
        Names; empty for all variables that can be filled.
    quality_level, l2p_flags, allow_links
        As in `sstfill.io.open`.
    transform, members
        As in `sstfill.archive.fill_archive`.
    seed
        Seed of all random choices.
    """

    method: str = "auto"
    variables: tuple[str, ...] = ()
    quality_level: int | None = None
    l2p_flags: tuple[str, ...] = ()
    allow_links: bool = False
    transform: Asked = "auto"
    members: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("seed", self.seed, 0, whole=True)
        check_number("members", self.members, 0, MOST_MEMBERS, whole=True)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """The [alert] table: limits beyond which a night calls for attention.

    Parameters
    ----------
    rmse_sigma
        Most robust standard deviations that tonight's RMSE on withheld clouds may lie above the
        median of its history; one is 1.4826 times the median absolute deviation, which counts as at
        least 5 % of the median.
    rmse_nights
        Most nights of that history.
    min_nights
        Least nights of that history; with fewer the RMSE calls nobody.
    min_filled_fraction
        Least fraction of the gaps at sea in the recent images that must be filled.
    max_age_days
        Greatest age of the newest image.
    empty_days
        Number of newest images each of which must have observations; 0 watches none.
    """

    rmse_sigma: float = 4.0
    rmse_nights: int = 60
    min_nights: int = 7
    min_filled_fraction: float = 0.9
    max_age_days: float = 3.0
    empty_days: int = 3

    def __post_init__(self) -> None:
        check_number("rmse_sigma", self.rmse_sigma, 0, above=True)
        check_number("rmse_nights", self.rmse_nights, 1, whole=True)
        check_most("rmse_nights", self.rmse_nights, 1_000_000)
        check_number("min_nights", self.min_nights, 1, whole=True)
        check_number("min_filled_fraction", self.min_filled_fraction, 0, 1)
        check_number("max_age_days", self.max_age_days, 0, above=True)
        check_number("empty_days", self.empty_days, 0, whole=True)
        check_most("empty_days", self.empty_days, 100_000)
        if self.min_nights > self.rmse_nights:
            raise OptionError(
                f"min_nights={self.min_nights} is more than rmse_nights={self.rmse_nights}; lower "
                "it"
            )


@dataclass(frozen=True, kw_only=True)
class NightlyRecipe:
    """A nightly recipe, checked.

    Attributes
    ----------
    name, title, text
        Name and title; the tables as text, without comments.
    archive, filled, report
        Absolute paths.
    download
        Recipe that brings new days in; None where another program does.
    method
        Method of the first night; later nights compare it with that of the output.
    fill, alert
        The tables.
    """

    name: str
    title: str
    text: str
    archive: Path
    filled: Path
    report: Path
    download: Recipe | None
    method: Method
    fill: Fill
    alert: Alert


def load_nightly(
    recipe: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None
) -> NightlyRecipe:
    """Read a nightly recipe.

    Parameters
    ----------
    recipe
        A TOML file, or the name of one that ships with sstfill, such as ``"nightly/med_l3s"``.
    folder
        Where relative paths begin. Default: the folder of the recipe; of one that ships, the
        working directory.

    Raises
    ------
    ReadError
        No such file, or it is not valid TOML.
    OptionError
        An unknown table or key (the message lists the valid ones), or a value that does not fit.

    >>> load_nightly("nightly/med_l3s").download.name
    'copernicus/nightly_l3s'
    """
    path = find_recipe(recipe, ("nightly",))
    tables, _ = read_toml(path)
    ships = path.resolve().is_relative_to(shipped_folder().resolve())
    with naming(path.name):
        if folder is not None:
            base = place(folder, "folder")
        elif ships:
            base = Path()
        else:
            base = path.parent
        return _built(path, tables, base.resolve())


def _built(path: Path, tables: Mapping[str, Any], base: Path) -> NightlyRecipe:
    for key, table in tables.items():
        if key not in TABLES:
            raise unknown(f"table of {path.name}", key, TABLES)
        # `fill = "oi"` in place of a table is a likely slip.
        if key != "title" and not isinstance(table, dict):
            raise OptionError(f"{key}={short(table)} in {path.name} is not a table; write [{key}]")
    # ascii without its quotes: a file name may hold what no terminal prints.
    title = one_line("title", tables.get("title", ascii(path.stem)[1:-1]))
    given = dict(tables.get("nightly", {}))
    for field in dataclasses.fields(Nightly):
        if field.name not in given:
            raise OptionError(
                f"[nightly] of {path.name} has no {field.name}; it takes archive, filled, report"
            )
    places = config.build(Nightly, given)
    archive = place(places.archive, "archive", base)
    filled = place(places.filled, "filled", base)
    report = place(places.report, "report", base)
    # before hours of work: the first night makes the folder itself, and not those above it
    if not report.parent.is_dir():
        raise OptionError(
            f"report={places.report!r} of {path.name} lies in {report.parent}, which is not there; "
            f"create it: mkdir -p {report.parent}"
        )
    fill, method = _fill(dict(tables.get("fill", {})), base)
    return NightlyRecipe(
        name=path.stem,
        title=title,
        text=without_comments(tables),
        archive=archive,
        filled=filled,
        report=report,
        download=_download(tables, path),
        method=method,
        fill=fill,
        alert=config.build(Alert, tables.get("alert", {})),
    )


def _download(tables: Mapping[str, Any], path: Path) -> Recipe | None:
    if "download" not in tables:
        return None
    if "recipe" not in tables["download"]:
        raise OptionError(
            f"[download] of {path.name} has no recipe; name one of sstfill recipes, or a TOML file"
        )
    name = config.build(Download, tables["download"]).recipe
    beside = place(name, "recipe", path.parent)
    # beside the nightly recipe, wherever the command is run
    found = load_recipe(beside if beside.is_file() else name)
    if not isinstance(found.source, CopernicusRequest):
        raise OptionError(
            f"recipe={short(name)} in [download] brings in one series that does not grow; leave "
            "[download] out"
        )
    return found


def _fill(given: dict[str, Any], base: Path) -> tuple[Fill, Method]:
    """Build the [fill] table and the method; keys that are not of the table are its options."""
    known = [field.name for field in dataclasses.fields(Fill)]
    fill = config.build(Fill, config.only(given, known))
    cls = method_class(fill.method)
    fields = [field.name for field in dataclasses.fields(cls)]
    # The table has a seed of its own, for both.
    names = [name for name in fields if name != "seed"]
    options = config.without(given, known)
    for key in options:
        if key not in names:
            raise unknown(f"key of [fill] with method = {fill.method!r}", key, [*known, *names])
    model = options.get("model")
    if isinstance(model, str) and place(model, "model", base).exists():
        # a path begins where the recipe's other paths do; a name that ships stays a name
        options["model"] = str(place(model, "model", base))
    # one seed for the method and for the withheld clouds
    if "seed" in fields:
        options["seed"] = fill.seed
    return fill, config.build(cls, options)
