# SPDX-License-Identifier: Apache-2.0
"""``sstfill recipes``, ``sstfill plan`` and ``sstfill download``."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Hashable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from sstfill.errors import OptionError
from sstfill.io.presets import presets
from sstfill.printable import printable
from sstfill.sources.copernicus.request import CopernicusRequest
from sstfill.sources.recipe import Recipe, load_recipe


def add_recipes(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill recipes``: the name of one, to see its text."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="print this recipe, to copy and change it"
    )


def run_recipes(args: argparse.Namespace) -> Iterator[str]:
    """List the recipes that ship, or print one."""
    known = presets()
    if args.name is not None:
        recipe = load_recipe(args.name)
        if recipe.name in known:
            yield known[recipe.name].read_text("utf-8").rstrip()
        else:
            yield printable(f"{recipe.name}: {recipe.title}")
        return
    # aligned, as a table
    width = max(map(len, known))
    yield "\n".join(f"{name:<{width}}  {load_recipe(name).title}" for name in known)


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill plan``."""
    _add_recipe(parser)


def run_plan(args: argparse.Namespace) -> Iterator[str]:
    """Describe what a recipe would download, and what is missing for it."""
    recipe = _recipe(args)
    yield str(recipe.plan() if args.timeout is None else recipe.plan(timeout=args.timeout))


def add_download(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill download``."""
    _add_recipe(parser)
    parser.add_argument(
        "--out",
        required=True,
        metavar="ZARR",
        help="store to write; if the command is killed, the same command continues",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="append the times that are new since the store was made, and download those again "
        "that the recipe's revisit covers",
    )


def run_download(args: argparse.Namespace) -> Iterator[str]:
    """Download the data of a recipe."""
    watch = Watch()
    recipe = _recipe(args)
    with recipe.run(args.out, update=args.update) as ds:
        sizes = ", ".join(f"{d} {n:,}" for d, n in ds.sizes.items())
        # Fields before the variables that go with them, which have fewer dims.
        largest_first = sorted(ds.data_vars, key=lambda name: (-ds[name].ndim, str(name)))
        variables = ", ".join(map(str, largest_first))
        yield printable(f"{recipe.name}: {variables} ({sizes})")
        yield watch.summary(args.out, ds.attrs)


class Watch:
    """Time since the start of a command, and whether a store was there before it."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        # As stores state their dates.
        self._date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def summary(self, out: object, attrs: Mapping[Hashable, Any]) -> str:
        """State that a store was written, or that it was there already, by its date."""
        made = str(attrs.get("date_modified", attrs.get("date_created", "")))
        # texts of one form: they sort as the dates do
        if made and made < self._date:
            made = printable(made)
            return f"{out} has been complete since {made}; nothing was fetched or written"
        return f"written to {out} in {time.perf_counter() - self._started:.1f} s"


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a name of sstfill recipes, or a TOML file of your own"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        help="how long to wait for an answer before giving up (Copernicus Marine; default: the "
        "recipe's, or 300; of a plan: 15)",
    )


def _recipe(args: argparse.Namespace) -> Recipe:
    recipe = load_recipe(args.recipe)
    if args.timeout is None:
        return recipe
    if not isinstance(recipe.source, CopernicusRequest):
        raise OptionError(
            f"--timeout is for recipes of Copernicus Marine, and {recipe.name} is not one; "
            "leave it out"
        )
    return dataclasses.replace(
        recipe, source=dataclasses.replace(recipe.source, timeout=args.timeout)
    )
