# SPDX-License-Identifier: Apache-2.0
"""The recipes that ship with sstfill, and the file of a recipe that a user names."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from sstfill.errors import ReadError, unknown
from sstfill.io.untrusted.documents import place, short

DATA = ("copernicus", "clouds", "video")
"""Folders of the recipes that download or import data; the others fill (nightly) and train."""


def folder() -> Path:
    """Return the folder of the recipes, in the installed package or in a checkout of the sources.

    >>> (folder() / "copernicus").is_dir()
    True
    """
    installed = Path(str(files("sstfill"))) / "recipes"
    return installed if installed.is_dir() else Path(str(files("sstfill"))).parent / "recipes"


def presets(kinds: tuple[str, ...] = DATA) -> dict[str, Path]:
    """Return the files of the shipped recipes by name.

    >>> "copernicus/natl_hourly" in presets()
    True
    """
    found = {}
    for kind in kinds:
        for path in sorted((folder() / kind).glob("*.toml")):
            found[f"{kind}/{path.stem}"] = path
    return found


def find_recipe(name: str | os.PathLike[str], kinds: tuple[str, ...] = DATA) -> Path:
    """Return the file of a recipe: one that the user has, or one that ships.

    Parameters
    ----------
    name
        A TOML file, or a name such as ``"train/oceans"``, with or without ``recipes/`` before it
        and ``.toml`` after it.
    kinds
        Folders of shipped recipes to look in. Where it is one, its name may be left out.

    Raises
    ------
    ReadError
        No such file.
    OptionError
        No such name; the message has the nearest one.

    >>> find_recipe("oceans", ("train",)).name
    'oceans.toml'
    """
    text = os.fspath(name)
    path = place(text, "recipe")
    if path.exists() and not path.is_dir():
        return path
    shipped = presets(kinds)
    # only the whole name counts: nowhere/oceans.toml is a file that is missing, not train/oceans
    wanted = text.removeprefix("recipes/").removesuffix(".toml")
    if wanted in shipped:
        return shipped[wanted]
    if len(kinds) == 1 and f"{kinds[0]}/{wanted}" in shipped:
        return shipped[f"{kinds[0]}/{wanted}"]
    if path.suffix == ".toml":
        raise ReadError(
            f"no recipe can be read from {short(text)[1:-1]}: no such file; give a TOML file, "
            f"or one that ships: {', '.join(shipped)}"
        )
    raise unknown("recipe", text, shipped)
