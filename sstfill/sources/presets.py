# SPDX-License-Identifier: Apache-2.0
"""The recipes that ship with sstfill, wherever it is installed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

KINDS = ("copernicus", "clouds", "video")
"""Folders of recipes that fetch or import data; there are others, which train."""


def folder() -> Path:
    """Where the recipes lie: in the installed package, or beside the package in a checkout of the
    sources.

    >>> (folder() / "copernicus").is_dir()
    True
    """
    installed = Path(str(files("sstfill"))) / "recipes"
    return installed if installed.is_dir() else Path(str(files("sstfill"))).parent / "recipes"


def presets() -> dict[str, Path]:
    """Files of the recipes by name.

    >>> "copernicus/natl_hourly" in presets()
    True
    """
    return {
        f"{kind}/{path.stem}": path
        for kind in KINDS
        for path in sorted((folder() / kind).glob("*.toml"))
    }
