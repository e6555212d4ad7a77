# SPDX-License-Identifier: Apache-2.0
"""The exceptions sstfill raises, and nothing else.

Every one is an `SstfillError` *and* the builtin a Python user would expect::

    SstfillError
    ├── InputError  (ValueError)   the data cannot be filled: no time, all land, infinities, ...
    ├── OptionError (ValueError)   an unknown method, option or value
    ├── ReadError   (OSError)      a file that is missing, truncated or of another format
    └── WriteError  (OSError)      an output that cannot be written; what was there is untouched

A message states the value and the remedy, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sstfill.printable import printable


class SstfillError(Exception):
    """Base of the errors of sstfill; the message is one line that is safe to print."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(SstfillError, ValueError):
    """The data cannot be filled as they are."""


class OptionError(SstfillError, ValueError):
    """An unknown method or option, or a value outside its range."""


class ReadError(SstfillError, OSError):
    """A file that cannot be read as a gridded time series."""


class WriteError(SstfillError, OSError):
    """An output that cannot be written; an earlier output is left as it was."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> OptionError:
    """Build the error for a name that is not among `choices`, nearest name first.

    >>> print(unknown("method", "dinof", ["climatology", "dineof"]))
    no method 'dinof'; did you mean 'dineof'? Choose from climatology, dineof
    """
    names = list(map(str, choices))
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = ""
    if near:
        hint = f"did you mean {near[0]!r}? "
    return OptionError(f"no {kind} {name!r}; {hint}Choose from {', '.join(names) or '(none)'}")
