# SPDX-License-Identifier: Apache-2.0
"""What numpydoc docstrings say of options, so that the accessor and the command line need not say
it again.
"""

from __future__ import annotations

import inspect
import re

PARAMETERS = re.compile(
    r"^Parameters\n-{3,}\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", re.DOTALL | re.MULTILINE
)


def summary(thing: object) -> str:
    """First line of a docstring, without its full stop; empty where there is none.

    >>> from sstfill.methods import Climatology
    >>> summary(Climatology)
    'Fill with the mean of each pixel plus a harmonic seasonal cycle'
    """
    return (inspect.getdoc(thing) or "").partition("\n")[0].removesuffix(".")


def parameters(thing: object) -> dict[str, str]:
    """Text of each parameter in a docstring's section *Parameters*, on one line.

    >>> from sstfill.methods import Interpolate
    >>> parameters(Interpolate)["space"]
    'Fill sea pixels that are never observed by harmonic (membrane) interpolation between their
    neighbours.'
    """
    section = PARAMETERS.search(inspect.getdoc(thing) or "")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section[1].splitlines() if section else ():
        if line[:1].strip():
            names = [name.strip() for name in line.partition(":")[0].split(",")]
            found |= dict.fromkeys(names, "")
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return found
