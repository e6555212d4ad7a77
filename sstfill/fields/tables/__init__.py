# SPDX-License-Identifier: Apache-2.0
"""Tables of names, words and units by which files are read, as TOML."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """Read a table, such as ``"dates"``; it is shared, so it must not be changed."""
    return tomllib.loads(resources.files(__name__).joinpath(f"{name}.toml").read_text("utf-8"))
