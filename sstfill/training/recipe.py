# SPDX-License-Identifier: Apache-2.0
"""A training recipe: a TOML file with what to train on, and how."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sstfill import config
from sstfill.errors import OptionError, ReadError, unknown
from sstfill.training.oceans import Oceans
from sstfill.training.options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class ArchiveOptions:
    """The [archive] table: what of `sstfill.train` is not in `TrainOptions`, and can be written in a file."""

    variable: str | None = None
    clouds: str = "own"
    truth: str | None = None
    start: str = "shipped"
    clips: int = 40
    log_scaled: bool = False


@dataclass(frozen=True)
class TrainRecipe:
    """What to train on, a user's archive or synthetic oceans, and how.

    Attributes
    ----------
    train
        The [train] table.
    on
        The [archive] or the [oceans] table.
    """

    train: TrainOptions
    on: ArchiveOptions | Oceans


SHIPPED = Path(__file__).parent.parent / "recipes" / "train"
"""The recipes that come with sstfill."""
TABLES: dict[str, type[Any]] = {"train": TrainOptions, "archive": ArchiveOptions, "oceans": Oceans}


def load(path: str | Path) -> TrainRecipe:
    """Read a recipe; where there is no such file, the one that ships with sstfill under its name.

    Raises
    ------
    ReadError
        If there is no such file, or it is no TOML.
    OptionError
        For an unknown table or key (the message lists the valid ones), a value that does not fit, or both [archive] and
        [oceans].
    """
    file = Path(path)
    if not file.exists() and (shipped := SHIPPED / file.with_suffix(".toml").name).is_file():
        file = shipped
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"no recipe can be read from {file}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ReadError(f"{file} is no TOML: {error}") from error
    for name, table in tables.items():
        if name not in TABLES:
            raise unknown("table of a training recipe", name, TABLES)
        if not isinstance(table, dict):
            raise OptionError(f"{name}={table!r} in {file.name} is no table; write [{name}]")
    if "archive" in tables and "oceans" in tables:
        raise OptionError(f"{file.name} has both [archive] and [oceans]; keep one")
    on = "oceans" if "oceans" in tables else "archive"
    train, data = (config.build(TABLES[name], tables.get(name, {})) for name in ("train", on))
    return TrainRecipe(train, data)
