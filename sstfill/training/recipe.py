# SPDX-License-Identifier: Apache-2.0
"""A training recipe: a TOML file that says what to train on, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sstfill import config
from sstfill.checks import check_most, check_number
from sstfill.errors import OptionError, unknown
from sstfill.fields.transform import Asked
from sstfill.io.presets import find_recipe
from sstfill.io.untrusted.documents import naming, read_toml, short
from sstfill.training.data.oceans import Oceans
from sstfill.training.options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class ArchiveOptions:
    """The [archive] table: the arguments of `sstfill.train` that a file can hold."""

    variable: str | None = None
    clouds: str = "own"
    truth: str | None = None
    start: str = "shipped"
    clips: int = 40
    validated: int = 8
    transform: Asked = "auto"

    def __post_init__(self) -> None:
        for name in ("clips", "validated"):
            check_number(name, getattr(self, name), 1, whole=True)
            check_most(name, getattr(self, name), 1_000_000)


@dataclass(frozen=True)
class TrainRecipe:
    """The options of a training, and the archive or synthetic oceans to train on.

    Attributes
    ----------
    train
        The [train] table.
    on
        The [archive] or the [oceans] table.
    """

    train: TrainOptions
    on: ArchiveOptions | Oceans


TABLES: dict[str, type[Any]] = {"train": TrainOptions, "archive": ArchiveOptions, "oceans": Oceans}


def load(path: str | Path) -> TrainRecipe:
    """Read a recipe: a TOML file, or the name of one that ships with sstfill (``"oceans"``,
    ``"train/oceans"``).

    Raises
    ------
    ReadError
        If there is no such file, or it is not valid TOML.
    OptionError
        For an unknown table or key (the message lists the valid ones), a value that does not fit,
        or both [archive] and [oceans].
    """
    file = find_recipe(path, ("train",))
    tables, _ = read_toml(file)
    with naming(file.name):
        return _build(file.name, tables)


def _build(file: str, tables: dict[str, Any]) -> TrainRecipe:
    for name, table in tables.items():
        if name not in TABLES:
            raise unknown("table of a training recipe", name, TABLES)
        if not isinstance(table, dict):
            raise OptionError(f"{name}={short(table)} in {file} is not a table; write [{name}]")
    if "archive" in tables and "oceans" in tables:
        raise OptionError(f"{file} has both [archive] and [oceans]; keep one")
    # A recipe without either is for an archive, whose defaults do.
    on = "oceans" if "oceans" in tables else "archive"
    train = config.build(TrainOptions, tables.get("train", {}))
    return TrainRecipe(train, config.build(TABLES[on], tables.get(on, {})))
