# SPDX-License-Identifier: Apache-2.0
"""Pages of HTML from templates that share one frame, ``base.html.jinja`` beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sstfill.io.output import place
from sstfill.version import __version__

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent


@cache
def template(path: Path) -> jinja2.Template:
    """Return a template, which may extend ``base.html.jinja``."""
    import jinja2  # when a page is made: most commands make none

    # Autoescape: titles, paths and warnings come from files of others.
    environment = jinja2.Environment(
        autoescape=True,
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader([HERE, path.parent]),
    )
    environment.filters["sentence"] = lambda text: text[:1].upper() + text[1:]
    # Dates come in ISO form, which is read more easily with a space.
    environment.filters["clock"] = lambda text: text.replace("T", " ").replace("Z", " UTC")
    environment.filters["percent"] = "{:.1%}".format
    environment.globals["generator"] = f"{place.PAGE} {__version__}"
    return environment.get_template(path.name)


def in_words(table: Mapping[str, Any]) -> dict[str, str]:
    """Return values as they are printed; what is None or empty is left out.

    >>> in_words({"seed": 0, "download": None, "models": {"sst": "0a1b", "chl": "2c3d"}})
    {'seed': '0', 'models': 'sst 0a1b, chl 2c3d'}
    """
    words = {}
    for key, value in table.items():
        # One level is enough: no table of a page nests deeper.
        if isinstance(value, dict):
            value = ", ".join(f"{name} {part}" for name, part in value.items())
        if value not in (None, ""):
            words[key] = str(value)
    return words
