# SPDX-License-Identifier: Apache-2.0
"""Find data for the paper's protocol by their content, with a note on each file met."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from sstfill import io, occlusion
from sstfill.errors import ReadError, SstfillError
from sstfill.evaluation.paper.published import OCCLUDED
from sstfill.evaluation.paper.sequences import (
    Clip,
    CloudScene,
    LwpClouds,
    MovingShapes,
    SeriesFile,
    SyntheticOcean,
    TruthSource,
    decoded,
)
from sstfill.fields import grid
from sstfill.fields.reading.dates import days_since_first
from sstfill.fields.reading.variables import find_fields
from sstfill.io.read import ZARR_MARKS
from sstfill.io.untrusted import guard
from sstfill.occlusion.lwp import is_lwp
from sstfill.occlusion.lwp import published as published_lwp

FRAMES, STRIDE = 24, 10
"""Of the paper: frames of a sequence, and LWP frames from one mask to the next."""
LEAST = 40
"""Least edge of a field, pixels."""
MOST_MISSING = 0.01
"""Fraction of the sea that may be missing from a truth: such pixels count as land."""
NUMPY = b"\x93NUMPY"
SURVEY_BYTES = 64e6
"""Bytes of a field that are looked at for gaps."""


class Note(NamedTuple):
    """A file that was found, and how it is used or why it is not."""

    path: str
    used: bool
    how: str


@dataclass(kw_only=True)
class DatasetChoice:
    """The data that the protocol runs on: true sequences, clouds, scenes, and notes on files."""

    sources: list[TruthSource] = field(default_factory=lambda: [SyntheticOcean()])
    clouds: list[LwpClouds] = field(default_factory=list)
    scenes: list[CloudScene] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def find(
    folders: Sequence[str | os.PathLike[str]] = (), *, unsteady: bool = False, shapes: bool = False
) -> DatasetChoice:
    """Search folders recursively; the synthetic ocean is always there.

    Parameters
    ----------
    folders
        Folders (or single files, Zarr stores). Used are liquid water path (time, y, x), images of
        cloud classes, series without gaps of at least 24 images and 40 x 40 pixels, and video
        clips; see `Note` for the rest.
    unsteady
        Whether the synthetic ocean is the unsteady one.
    shapes
        Whether there are clips of moving shapes, too.

    Raises
    ------
    ReadError
        A folder does not exist.

    >>> [source.name for source in find().sources]
    ['synthetic ocean']
    """
    chosen = DatasetChoice(sources=[SyntheticOcean(unsteady=unsteady)])
    if shapes:
        chosen.sources.append(MovingShapes())
    others = 0
    for folder in map(Path, folders):
        if not folder.exists():
            raise ReadError(f"cannot read {folder}: no such folder; check the name given as --data")
        for path in _members(folder):
            name = path.name if path == folder else str(path.relative_to(folder))
            note = _use(path, name, chosen)
            if note is None:
                others += 1
            else:
                chosen.notes.append(note)
    if others:
        how = "neither NetCDF, Zarr, NumPy nor video"
        chosen.notes.append(Note(f"{others} other files", False, how))
    return chosen


def _members(path: Path) -> Iterator[Path]:
    """Yield files and Zarr stores below a path, in order of their names."""
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        return
    if any((path / mark).is_file() for mark in ZARR_MARKS):
        yield path
        return
    # A folder that may not be listed is no reason to stop, as `lost+found` on a mounted disk.
    if not os.access(path, os.R_OK | os.X_OK):
        return
    for member in sorted(path.iterdir()):
        # A link to a folder above would be followed for ever.
        linked_folder = member.is_symlink() and member.is_dir()
        if not member.name.startswith(".") and not linked_folder:
            yield from _members(member)


def _use(path: Path, name: str, chosen: DatasetChoice) -> Note | None:
    """Add the data of a path to `chosen`; None for a file of another kind."""
    try:
        head = b""
        if not path.is_dir():
            with io.reading(path), path.open("rb") as stream:
                # By content, not by name: the paper's data come under all kinds of names.
                head = stream.read(16)
        if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] == b"AVI "):
            return _clip(path, name, chosen)
        if head.startswith(NUMPY):
            mapped = published_lwp(path)
            # Twice the series: the file's own values, and those in single precision.
            guard.check_memory(path, "its series", 2 * 4 * mapped.size)
            return _clouds(mapped.astype("float32"), name, chosen)
        if not path.is_dir() and not head.startswith((b"CDF", b"\x89HDF")):
            return None
        with io.reading(path), io.open(path, chunks={}) as ds:
            return _dataset(ds, path, name, chosen)
    except (SstfillError, ValueError, TypeError) as error:
        # the last two: attributes of a wrong type
        return Note(name, False, str(error))


def _dataset(ds: xr.Dataset, path: Path, name: str, chosen: DatasetChoice) -> Note:
    """Add a dataset: clouds, a scene of cloud classes, or a series without gaps."""
    for variable in ds.data_vars.values():
        if is_lwp(variable):
            guard.check_memory(path, f"{variable.name!r}", 2 * variable.nbytes)
            return _clouds(variable.load(), name, chosen)
    for variable in ds.data_vars.values():
        # A scene of cloud classes is told by whole numbers, two dims and its name.
        classes = variable.dtype.kind in "iub" or "flag_meanings" in variable.attrs
        if classes and variable.ndim == 2 and "cloud" in str(variable.name).lower():
            guard.check_memory(path, f"{variable.name!r}", 2 * variable.nbytes)
            return _scene(variable.load(), name, chosen)
    fields = find_fields(ds)
    if not fields:
        held = ", ".join(f"{n} {v.dtype}" for n, v in ds.data_vars.items())
        if not held:  # as in a file that keeps its data in groups
            held = "no variables in the root group"
        return Note(name, False, f"no floating field on time and two spatial dims: {held}")
    return _series(ds, fields, path, name, chosen)


def _series(
    ds: xr.Dataset, fields: Sequence[str], path: Path, name: str, chosen: DatasetChoice
) -> Note:
    """Add a series as truth, sea surface temperature before other fields, if it has no gaps."""
    main = fields[0]
    for candidate in fields:
        if "sea_surface_temperature" in str(ds[candidate].attrs.get("standard_name", "")):
            main = candidate
            break
    trouble, missing = _gaps(grid.standardise(ds[main]))
    if trouble:
        return Note(name, False, f"{main}: {trouble}")
    label = name
    if len(fields) > 1:
        label = f"{name}: {main}"
    units = str(ds[main].attrs.get("units", "1"))
    units = "°C" if grid.temperature_unit(units) == "°C" else units
    chosen.sources.append(SeriesFile(name=label, path=path, variable=main, units=units))
    how = f"gap-free series {main} ({_spacing(ds[main])}): truth"
    if missing:
        how += f"; pixels with gaps ({missing:.2%}) count as land"
    if len(fields) > 1:
        how += f"; not its other fields {', '.join(n for n in fields if n != main)}"
    return Note(name, True, how)


def _gaps(field: xr.DataArray) -> tuple[str, float]:
    """Why a standardised field cannot serve as truth, and the fraction missing of its sea.

    Of a large field some images are looked at.
    """
    times, ny, nx = field.shape
    if times < FRAMES or min(ny, nx) < LEAST:
        return f"{times} images of {ny}x{nx} pixels; {FRAMES} of {LEAST}x{LEAST} are needed", 0.0
    count = int(np.clip(SURVEY_BYTES / (ny * nx * field.dtype.itemsize), 2, times))
    images = np.unique(np.linspace(0, times - 1, count).astype(int))
    # Spread over the whole series, since gaps may come with a season.
    known = field.isel(time=images).notnull().values
    sea = known.any(0)
    if not sea.any():
        return "nothing observed", 0.0
    missing = float(1 - known[:, sea].mean())
    if missing > MOST_MISSING:
        return f"{missing:.1%} of the sea is missing; a truth has no gaps", missing
    return "", missing


def _spacing(da: xr.DataArray) -> str:
    days = float(np.median(np.diff(days_since_first(grid.standardise(da)))))
    if abs(days - 1) < 0.01:
        return "daily"
    if days < 1:
        return f"every {days * 24:.3g} h"
    return f"every {days:.3g} days"


def _clouds(lwp: xr.DataArray, name: str, chosen: DatasetChoice) -> Note:
    """Add clouds at the paper's occluded fractions.

    The paper's thresholds would not do: the fraction depends on how deep the clouds are.
    """
    after_spin_up = lwp.sizes["time"] - occlusion.SPIN_UP
    # A shorter series has its masks closer together in time, rather than none.
    stride = min(STRIDE, (after_spin_up - 1) // (FRAMES - 1))
    if stride < 1:
        needed = occlusion.SPIN_UP + FRAMES
        return Note(name, False, f"LWP of {lwp.sizes['time']} frames; {needed} are needed")
    thresholds = {fraction: occlusion.threshold_for(lwp, fraction) for fraction in OCCLUDED}
    clouds = LwpClouds(
        name=name, lwp=lwp, thresholds=thresholds, stride=stride, start_after=occlusion.SPIN_UP
    )
    chosen.clouds.append(clouds)
    listed = ", ".join(f"{threshold:.1f}" for threshold in thresholds.values())
    how = f"liquid water path: clouds, thresholds {listed} g m-2, every {stride}th frame"
    return Note(name, True, how)


def _scene(da: xr.DataArray, name: str, chosen: DatasetChoice) -> Note:
    """Add a scene, its classes read by their meanings; without meanings 0 is clear."""
    meanings = str(da.attrs.get("flag_meanings", "clear cloudy")).lower().split()
    stated = da.attrs.get("flag_values", range(len(meanings)))
    if isinstance(stated, str):
        flags = stated.replace(",", " ").split()
    else:
        flags = [str(flag) for flag in np.ravel(np.asarray(stated))]
    clear_flags, land_flags, unseen_flags = [], [], []
    for meaning, flag in zip(meanings, flags, strict=False):
        # Attributes as text may carry NetCDF's suffixes for bytes and short integers.
        value = int(flag.rstrip("bBsSuU"))
        words = meaning.split("_")
        if meaning.startswith("clear"):
            clear_flags.append(value)
        if "land" in words:
            land_flags.append(value)
        if "no" in words:
            unseen_flags.append(value)
    values = da.values
    # No meaning starts with "clear": by convention 0 is.
    clear = np.isin(values, clear_flags or [0])
    land = np.isin(values, land_flags)
    outside = land | np.isin(values, unseen_flags)
    chosen.scenes.append(CloudScene(name=name, hidden=~clear & ~land, outside=outside))
    ny, nx = values.shape
    how = f"cloud classes of {ny}x{nx} pixels: a window moving across is a sequence of masks"
    return Note(name, True, how)


def _clip(path: Path, name: str, chosen: DatasetChoice) -> Note:
    """Add a clip twice, in grey and in colour."""
    count = len(decoded(path, LEAST, True))
    if count < FRAMES:
        return Note(name, False, f"a clip of {count} frames, {FRAMES} are needed")
    chosen.sources.append(Clip(name=f"{name} (grey)", path=path))
    chosen.sources.append(Clip(name=f"{name} (RGB)", path=path, channels=("r", "g", "b")))
    how = f"a clip of {count} frames: truth, in grey and in colour, resized to a square"
    return Note(name, True, how)
