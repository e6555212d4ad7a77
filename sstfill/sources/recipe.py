# SPDX-License-Identifier: Apache-2.0
"""A recipe: a TOML file that says what to bring in, from where, and into what kind of store."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from typing import Any

import xarray as xr

from sstfill import config
from sstfill.checks import check_number
from sstfill.errors import OptionError, unknown
from sstfill.io.presets import find_recipe, presets
from sstfill.io.untrusted.documents import naming, one_line, read_toml, short
from sstfill.sources.copernicus.request import CopernicusRequest, Target
from sstfill.sources.local import PyclesSource, VideoSource
from sstfill.sources.plan import QUICK, DownloadPlan

Source = CopernicusRequest | PyclesSource | VideoSource
SOURCES: dict[str, type[Any]] = {
    "copernicus": CopernicusRequest,
    "pycles": PyclesSource,
    "video": VideoSource,
}
TABLES = ("title", "source", "target")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to bring in, and into what kind of store.

    Attributes
    ----------
    name
        Of the recipe.
    title
        One line on what it is for.
    source
        The [source] table, by its ``kind``.
    target
        The [target] table.
    """

    name: str
    title: str
    source: Source
    target: Target

    def plan(self, patience: float = QUICK) -> DownloadPlan:
        """Say what `run` would do; the catalogue is asked, nothing is fetched.

        Parameters
        ----------
        patience
            Seconds that the catalogue has for its answer; the plan then tells what the recipe alone
            says.

        Raises
        ------
        OptionError
            What `run` would be refused for: a dataset or variable that there is not, a box or
            period beyond it.
        """
        if isinstance(self.source, CopernicusRequest):
            from sstfill.sources.copernicus.planning import plan

            check_number("patience", patience, 0, above=True)
            return plan(self.source, self.target, patience=patience)
        return self.source.plan(self.target)

    def run(self, out: str | os.PathLike[str], update: bool = False) -> xr.Dataset:
        """Bring the data in; run again, it goes on where it was, or returns what is there.

        Parameters
        ----------
        out
            The store, ``.zarr``.
        update
            Append the times that are new since the store was made, and fetch again those that
            ``revisit`` covers.

        Returns
        -------
        Dataset
            The store, opened lazily.

        Raises
        ------
        SstfillError
            See `sstfill.sources.copernicus.download.download`.
        """
        if isinstance(self.source, CopernicusRequest):
            from sstfill.sources.copernicus.download import download

            return download(self.source, out, target=self.target, update=update)
        if update:
            raise OptionError(f"{self.name} has nothing to update; leave update out")
        return self.source.run(out, self.target)


def load_recipe(name_or_path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe that ships with sstfill, or one of your own.

    Parameters
    ----------
    name_or_path
        A name such as ``"copernicus/natl_hourly"``, as listed by ``sstfill recipes``, or a TOML
        file.

    Returns
    -------
    Recipe
        Checked, with nothing fetched.

    Raises
    ------
    ReadError
        No such recipe, or no TOML.
    OptionError
        An unknown table or key (the message lists the valid ones), or a value that does not fit.

    >>> load_recipe("copernicus/natl_hourly").source.variables
    ('thetao',)
    """
    path = find_recipe(name_or_path)
    tables, _ = read_toml(path)
    shipped = {file.resolve(): name for name, file in presets().items()}
    name = shipped.get(path.resolve(), path.name)
    with naming(name):
        return _built(name, tables)


def _built(name: str, tables: dict[str, Any]) -> Recipe:
    for key in tables:
        if key not in TABLES:
            raise unknown(f"table of {name}", key, TABLES)
    for key in ("source", "target"):
        if not isinstance(tables.get(key, {}), dict):
            raise OptionError(f"{key}={short(tables[key])} in {name} is no table; write [{key}]")
    source = {key: _plain(value) for key, value in tables.get("source", {}).items()}
    kind = source.pop("kind", None)
    if kind is None:
        raise OptionError(f"[source] of {name} has no kind; choose from {', '.join(SOURCES)}")
    if not isinstance(kind, str):
        raise OptionError(
            f"kind={short(kind)} in {name} is no text; choose from {', '.join(SOURCES)}"
        )
    if kind not in SOURCES:
        raise unknown(f"kind of source in {name}", kind, SOURCES)
    target = config.build(Target, tables.get("target", {}))
    if kind != "copernicus" and (target.chunks or target.expect):
        raise OptionError(
            f'[target] {"chunks" if target.chunks else "expect"} in {name} is for kind = "copernicus"; '
            f"leave it out, kind = {kind!r} has a layout of its own"
        )
    title = one_line("title", tables.get("title", ""))
    return Recipe(name=name, title=title, source=config.build(SOURCES[kind], source), target=target)


def _plain(value: Any) -> Any:
    """TOML knows dates; a request has them as text."""
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value
