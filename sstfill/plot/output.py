# SPDX-License-Identifier: Apache-2.0
"""Write a figure to a file, atomically."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sstfill.errors import OptionError
from sstfill.io import atomic_path
from sstfill.io.output import place
from sstfill.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sstfill.plot.film import Animation

DPI = 160
SIGNED = f"{place.PICTURE} {__version__}"


def signed(suffix: str) -> dict[str, Any]:
    """Return arguments of `savefig` that sign a picture as drawn by sstfill, if its format can.

    >>> signed("svg")["metadata"].keys()
    dict_keys(['Creator'])
    """
    if suffix in ("jpg", "jpeg"):
        return {"pil_kwargs": {"comment": SIGNED.encode()}}
    if suffix == "png":
        return {"metadata": {"Software": SIGNED}}
    if suffix in ("pdf", "svg", "svgz", "ps", "eps"):
        return {"metadata": {"Creator": SIGNED}}
    return {}


def save(figure: Figure | Animation, path: str | PathLike[str]) -> Path:
    """Write a figure or a film beside its target, then move it into place.

    Parameters
    ----------
    figure
        What `maps`, `panels`, `members`, `scorecard`, `training` or `animation` returned.
    path
        File to write; its suffix names the format (``.png``, ``.pdf``, ``.svg``, ...; of a film
        ``.gif``, or ``.mp4`` where ffmpeg is installed).

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    OptionError
        The suffix names no format that can be written.
    WriteError
        The file cannot be written, or one is there that sstfill did not draw; it is left as it was.
    """
    from sstfill.plot.film import Animation  # which imports this module

    if isinstance(figure, Animation):
        return figure.save(path)
    target = Path(path)
    formats = sorted(figure.canvas.get_supported_filetypes())
    suffix = target.suffix.lower().lstrip(".")
    if suffix not in formats:
        raise OptionError(
            f"cannot write a picture as {target.name!r}; end its name in .{', .'.join(formats)}"
        )
    with atomic_path(target, replaces=place.check_replaceable) as temporary:
        figure.savefig(temporary, format=suffix, dpi=DPI, **signed(suffix))
    return target
