# SPDX-License-Identifier: Apache-2.0
"""Explanations of options, read from numpydoc docstrings for the accessor and the command line."""

from __future__ import annotations

import inspect
import re

PARAMETERS = re.compile(
    r"^Parameters\n-{3,}\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", re.DOTALL | re.MULTILINE
)


def summary(thing: object) -> str:
    """Return the first paragraph of a docstring on one line, without its full stop.

    It is empty if there is none.

    >>> from sstfill.methods import Climatology
    >>> summary(Climatology)
    'Fill with the mean of each pixel plus a harmonic seasonal cycle'
    """
    first = (inspect.getdoc(thing) or "").partition("\n\n")[0]
    return " ".join(first.split()).removesuffix(".")


def parameters(thing: object) -> dict[str, str]:
    """Return the text of each parameter in a docstring's section *Parameters*, on one line.

    >>> from sstfill.methods import Interpolate
    >>> parameters(Interpolate)["space"][:39]
    'Fill sea pixels that are never observed'
    """
    section = PARAMETERS.search(inspect.getdoc(thing) or "")
    found: dict[str, str] = {}
    names: list[str] = []
    if section is None:
        return found
    for line in section[1].splitlines():
        # a name stands at the margin, its explanation is indented
        if line[:1].strip():
            names = [name.strip() for name in line.partition(":")[0].split(",")]
            found |= dict.fromkeys(names, "")
        else:
            for name in names:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found
