# SPDX-License-Identifier: Apache-2.0
"""Write a figure to a file, whole or not at all."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from sstfill.errors import OptionError
from sstfill.io import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160


def save(figure: Figure, path: str | PathLike[str]) -> Path:
    """Write a figure beside its target, then move it into place.

    Parameters
    ----------
    figure
        What `maps`, `panels` or `scorecard` returned.
    path
        File to write; its suffix names the format (``.png``, ``.pdf``, ``.svg``, ...).

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    OptionError
        The suffix names no format that matplotlib writes.
    WriteError
        The file cannot be written; an earlier one is left as it was.
    """
    target = Path(path)
    formats = sorted(figure.canvas.get_supported_filetypes())
    suffix = target.suffix.lower().lstrip(".")
    if suffix not in formats:
        raise OptionError(f"cannot write a picture as {target.name!r}; end its name in .{', .'.join(formats)}")
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format=suffix, dpi=DPI)
    return target
