# SPDX-License-Identifier: Apache-2.0
"""A recipe: a TOML file with what to download or import, from where, and into which store."""

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
    """What to download or import, and into which kind of store.

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

    def plan(self, timeout: float = QUICK) -> DownloadPlan:
        """Describe what `run` would do; the catalogue is asked, no data are downloaded.

        Parameters
        ----------
        timeout
            Seconds that the catalogue has for its answer. Without one, the plan holds what the
            recipe itself states.

        Raises
        ------
        OptionError
            `run` would be refused: no such dataset or variable, or a box or period beyond it.
        """
        if isinstance(self.source, CopernicusRequest):
            # Here, since it imports what only Copernicus Marine needs.
            from sstfill.sources.copernicus.planning import plan

            check_number("timeout", timeout, 0, above=True)
            return plan(self.source, self.target, timeout=timeout)
        return self.source.plan(self.target)

    def run(self, out: str | os.PathLike[str], update: bool = False) -> xr.Dataset:
        """Download or import the data; run again, it goes on where it was.

        Parameters
        ----------
        out
            The store, ``.zarr``.
        update
            Append the times that are new since the store was made, and download again those that
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
        Checked, with nothing downloaded.

    Raises
    ------
    ReadError
        No such file, or it is not valid TOML.
    OptionError
        An unknown name, table or key (the message lists the valid ones), or a value that does not
        fit.

    >>> load_recipe("copernicus/natl_hourly").source.variables
    ('thetao',)
    """
    path = find_recipe(name_or_path)
    tables, _ = read_toml(path)
    # Shown by the name under which it is listed, however it was found.
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
            raise OptionError(f"{key}={short(tables[key])} in {name} is not a table; write [{key}]")
    source = dict(tables.get("source", {}))
    for key, value in source.items():
        if isinstance(value, datetime.date | datetime.time):  # a request has them as text
            source[key] = value.isoformat()
    # The rest of the table are the fields of the source of this kind.
    kind = source.pop("kind", None)
    if kind is None:
        raise OptionError(f"[source] of {name} has no kind; choose from {', '.join(SOURCES)}")
    if not isinstance(kind, str):
        raise OptionError(
            f"kind={short(kind)} in {name} is not text; choose from {', '.join(SOURCES)}"
        )
    if kind not in SOURCES:
        raise unknown(f"kind of source in {name}", kind, SOURCES)
    target = config.build(Target, tables.get("target", {}))
    own = [key for key in ("chunks", "expect", "window_bytes") if tables.get("target", {}).get(key)]
    if kind != "copernicus" and own:
        raise OptionError(
            f'[target] {own[0]} in {name} is for kind = "copernicus"; '
            f"leave it out, kind = {kind!r} has a layout of its own"
        )
    title = one_line("title", tables.get("title", ""))
    return Recipe(name=name, title=title, source=config.build(SOURCES[kind], source), target=target)
