# SPDX-License-Identifier: Apache-2.0
"""A filled series as a film: its dates one after another, as GIF or MP4."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from sstfill.checks import check_number
from sstfill.errors import OptionError, WriteError
from sstfill.io import atomic_path
from sstfill.io.output import place
from sstfill.plot.canvas import canvas
from sstfill.plot.maps import (
    check_layers,
    cmap_of,
    draw,
    draw_error,
    finish,
    joined,
    scale_of,
    steps_of,
    title_of,
    values_of,
)
from sstfill.plot.output import SIGNED
from sstfill.plot.sheet import entitle, new_sheet
from sstfill.plot.view import Label, date, view, with_units

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYERS = ("observed", "filled", "error")
DPI = 100
"""Of a film; at more, a GIF of a year is tens of megabytes."""
FORMATS = (".gif", ".mp4")


@dataclass(frozen=True, eq=False)
class Animation:
    """A film of a filled series. Jupyter plays it; `save` writes it.

    Attributes
    ----------
    figure
        The figure, which shows one frame at a time.
    frames
        Number of frames.
    fps
        Frames a second.
    show
        Draws the frame of a number into the figure.
    """

    figure: Figure
    frames: int
    fps: float
    show: Callable[[int], None] = field(repr=False)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the film beside its target, then move it into place.

        Parameters
        ----------
        path
            File to write: ``.gif``, or ``.mp4`` where the program ffmpeg is installed.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        OptionError
            Another suffix, or no ffmpeg.
        WriteError
            The file cannot be written, or one is there that sstfill did not draw; it is left as it
            was.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in FORMATS:
            raise OptionError(
                f"cannot write a film as {target.name!r}; end its name in {' or '.join(FORMATS)}"
            )
        with atomic_path(target, replaces=place.check_replaceable) as temporary:
            self._write(temporary, suffix)
        return target

    def _write(self, file: Path, suffix: str) -> None:
        from matplotlib.animation import FFMpegWriter, PillowWriter

        writer: Any = PillowWriter(fps=self.fps)  # type: ignore[arg-type]  # it takes fractions
        if suffix == ".mp4":
            if not FFMpegWriter.isAvailable():
                raise OptionError(
                    "MP4 is written by the program ffmpeg, which is not installed; install it, or "
                    "end the name in .gif"
                )
            writer = FFMpegWriter(
                fps=self.fps,  # type: ignore[arg-type]
                metadata={"comment": SIGNED},
            )
        # A writer knows the format by the suffix, which `file` need not have.
        with TemporaryDirectory() as folder:
            film = Path(folder) / f"film{suffix}"
            try:
                with writer.saving(self.figure, str(film), DPI):
                    for number in range(self.frames):
                        self.show(number)
                        writer.grab_frame()
            except subprocess.CalledProcessError as error:
                raise WriteError(
                    f"cannot write the film: ffmpeg ended with status {error.returncode}; end the "
                    "name in .gif"
                ) from error
            content = film.read_bytes()
        if suffix == ".gif":
            # A comment may stand before the last byte, the trailer (GIF89a, sections 24 and 27).
            comment = SIGNED.encode()
            content = content[:-1] + b"\x21\xfe" + bytes([len(comment)]) + comment + b"\x00\x3b"
        file.write_bytes(content)

    def _repr_html_(self) -> str:
        with TemporaryDirectory() as folder:
            content = self.save(Path(folder) / "film.gif").read_bytes()
        encoded = base64.b64encode(content).decode()
        return f'<img src="data:image/gif;base64,{encoded}" alt="{self.frames} dates as a film">'


def animation(
    filled: xr.Dataset,
    *,
    variable: str | None = None,
    times: Sequence[Label] | None = None,
    layers: Sequence[str] = ("observed", "filled"),
    fig: Figure | None = None,
    cmap: str | None = None,
    robust: bool = True,
    fps: float = 4.0,
) -> Animation:
    """Make a film of a filled series, a frame for each date.

    Parameters
    ----------
    filled
        What `fill()` returned.
    variable
        Which variable; needed only where several were filled.
    times
        Dates or indices of steps. Default: all of the series.
    layers
        Some of ``"observed"``, ``"filled"``, ``"error"``, side by side. The error is left out where
        the method states none.
    fig
        Draw into this figure. Default: a new figure.
    cmap, robust
        As in `sstfill.plot.maps`; all dates share one colour scale.
    fps
        Frames a second.

    Returns
    -------
    Animation
        Jupyter plays it; its `save` writes a GIF, or MP4 where ffmpeg is installed.

    Raises
    ------
    OptionError
        An unknown layer or variable, a date outside the series, or no date at all, too small a
        figure, `fps` not above zero.
    InputError
        The dataset is not what `fill()` returns.

    Examples
    --------
    >>> from sstfill import fill, synthetic
    >>> ocean = synthetic.ocean(shape=(4, 12, 12))
    >>> film = animation(fill(ocean, "interpolate", variables="sst"))
    >>> film.frames, film.fps
    (4, 4.0)
    """
    check_number("fps", fps, 0, above=True)
    whole = view(filled, variable)
    shown = check_layers(layers, whole, LAYERS)
    if times is None:
        steps = list(range(whole.field.sizes["time"]))
    else:
        steps = steps_of(whole.field, times)
    # all dates are loaded: the colour scale is that of all of them
    where, views = canvas(whole.field), [whole.at(step) for step in steps]
    sheet = new_sheet(where, 1, len(shown), fig)
    fields = joined([now.field for now in views])
    field_scale = scale_of(fields, robust)
    meshes, field_boxes = [], []
    for number, (box, layer) in enumerate(zip(sheet.maps, shown, strict=True)):
        finish(box, where, views[0], left=number == 0)
        if layer == "error":
            errors = joined([values_of("error", now) for now in views])
            mesh = draw_error(sheet, box, where, views[0], robust, errors)
        else:
            mesh = draw(box, where, values_of(layer, views[0]), cmap or cmap_of(whole), field_scale)
            field_boxes.append(box)
            field_mesh = mesh
        meshes.append(mesh)
    if field_boxes:
        label = with_units(whole.label, whole.units)
        sheet.add_bar(field_boxes, field_mesh, label, fields, field_scale)

    def show(number: int) -> None:
        now = views[number]
        entitle(sheet, f"{whole.label}, {date(whole.field, steps[number])}")
        for box, mesh, layer in zip(sheet.maps, meshes, shown, strict=True):
            box.set_title(title_of(layer, now), fontsize="medium", parse_math=False)
            # the same mesh with new values: land and axes are not drawn anew
            mesh.set_array(np.ma.masked_invalid(values_of(layer, now).values))

    show(0)
    return Animation(sheet.figure, len(steps), float(fps), show)
