# SPDX-License-Identifier: Apache-2.0
"""Import a PyCLES run, in any layout of its output, into a Zarr store of liquid water path."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.checks import check_choice
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.io.untrusted.documents import read_json
from sstfill.sources.atomic_store import check_store, is_made, provenance
from sstfill.sources.pycles.fields import (
    GRAMS,
    column_weights,
    combined_lwp,
    combined_offset,
    is_combined,
    ranks_lwp,
)
from sstfill.sources.pycles.store import frames_in_chunk, write_series
from sstfill.sources.pycles.unpickle import read_array

log = logging.getLogger(__name__)

LAYOUTS = ("visualization", "fields", "combined")
"""A pickle for each time; a folder of rank files for each time; files of ``combine3d.py``."""
SOURCE = "PyCLES (Pressel et al. 2015, doi:10.1002/2015MS000496)"
PICKLE_OFFSET = 10_000_000
"""Added to the time in the names of visualisation files."""
FROM = {
    "visualization": "lwp of the visualisation files",
    "fields": "ql times density, summed over the column",
    "combined": "ql times density, summed over the column",
}


@dataclass(frozen=True)
class PyclesRun:
    """A run on the disk.

    Attributes
    ----------
    folder
        Of the run.
    namelist
        Its options; empty if there is no namelist.
    frames
        Files by time in seconds, by layout.
    """

    folder: Path
    namelist: dict[str, Any]
    frames: dict[str, dict[int, Path]]

    def option(self, section: str, key: str, default: Any = None) -> Any:
        """Return an option of the namelist."""
        options = self.namelist.get(section)
        if not isinstance(options, dict):
            return default
        return options.get(key, default)


def import_pycles(
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layout: str | None = None,
    stats: str | os.PathLike[str] | None = None,
    start: str | None = None,
    zarr_format: int = 3,
) -> Path:
    """Import the liquid water path of a PyCLES run, g m-2, ``(time, y, x)``, one frame in memory at
    a time.

    Parameters
    ----------
    directory
        The run's output, ``Output.<simname>.<id>``, or the folder in which it is the only one; the
        folder of the visualisation files, of the fields, or of what ``combine3d.py`` wrote will do
        too.
    out
        Zarr store to write; one made from the same with the same options is kept, any other
        refused.
    layout
        ``"visualization"``, ``"fields"`` (rank files) or ``"combined"``; by default the one with
        most frames.
    stats
        A statistics file ``Stats.*.nc`` for the density, where the run's own is not in its folder.
    start
        Date and time at which the simulation starts, such as ``"2001-07-10"``; times are then
        dates, else seconds.
    zarr_format
        3, or 2 for older readers.

    Returns
    -------
    Path
        The store; `sstfill.occlusion.lwp_series` opens it.

    Raises
    ------
    ReadError
        No such folder, no frames in it, damaged files, missing ranks, no density.
    InputError
        Frames of different grids, several runs, no liquid water, values that are not finite.
    OptionError, WriteError
        An unknown layout, a date that cannot be read; a store that cannot be written.
    """
    check_store(out, zarr_format)
    # Before the run is looked for: a typing error shows at once.
    epoch = _date(start)
    run = find_run(Path(directory))
    check_store(out, zarr_format, [run.folder])  # the store may lie beside the run
    chosen = _choose(run, layout)
    paths = dict(sorted(run.frames[chosen].items()))
    read = _reader(run, chosen, stats)
    times = np.array(list(paths))
    steps = np.diff(times)
    if len(steps) and steps.max() > 1.5 * np.median(steps):
        log.warning(
            "frames are not evenly spaced: %d s after %d s, %g s as a rule; masks drawn from them "
            "jump there",  # they are drawn by number of frames
            steps.max(),
            times[int(steps.argmax())],
            np.median(steps),
        )
    # The first frame tells the grid; the others are compared with it as they are read.
    shape = read(next(iter(paths.values()))).shape
    stated = (run.option("grid", "ny"), run.option("grid", "nx"))
    if None not in stated and stated != shape:
        raise InputError(
            f"{run.folder}: frames of {shape} (y, x), but its namelist says {stated}; "
            "keep one run in a folder"
        )
    options = {
        "directory": os.fspath(directory),
        "layout": chosen,
        "stats": stats,
        "start": start,
        "frames": len(paths),
    }
    # After the run is found: the layout and the number of frames belong to what was asked for.
    if is_made(out, zarr_format, "import_pycles", options):
        return Path(out)
    title = "Liquid water path"
    if case := run.option("meta", "casename"):
        title += f" of {case}"
    attrs = {
        "Conventions": "CF-1.11",
        "title": f"{title}, simulated by PyCLES",
        "layout": chosen,
        "lwp_from": FROM[chosen],
    }
    if run.namelist:
        attrs["namelist"] = json.dumps(run.namelist, sort_keys=True)
    attrs |= provenance(SOURCE, "import_pycles", options)
    coords = xr.Dataset(coords=_axes(run, times, shape, epoch), attrs=attrs)
    size = frames_in_chunk(len(paths), shape)
    blocks = _blocks(list(paths.values()), read, shape, size)
    write_series(Path(out), blocks, coords, (len(paths), *shape), zarr_format)
    return Path(out)


def find_run(directory: Path) -> PyclesRun:
    """Find the frames of a run in its folder, or of the only run in a folder.

    Raises
    ------
    ReadError
        There are no frames; the message says what there is.
    InputError
        There are several runs.
    """
    if not directory.is_dir():
        reason = "no such folder; check the name"
        if directory.exists():
            reason = "it is a file; give the folder of the run"
        raise ReadError(f"cannot read {directory}: {reason}")
    runs = []
    for folder in (directory, *sorted(directory.glob("Output.*"))):
        if folder.is_dir():
            run = _run(folder)
            if run.frames:
                runs.append(run)
    if len(runs) == 1:
        return runs[0]
    if runs:
        names = ", ".join(run.folder.name for run in runs)
        raise InputError(f"{directory} holds {len(runs)} runs ({names}); name one of them")
    folders = [path for path in sorted(directory.iterdir()) if path.is_dir()]
    # Nothing here; look one level deeper, only to tell which folder was meant.
    below = [folder.name for folder in folders if _run(folder).frames]
    if below:
        raise InputError(
            f"{directory} holds folders with frames of runs ({', '.join(below[:5])}); "
            "name one of them"
        )
    # PyCLES writes statistics by default, but no frames.
    if any(directory.glob("*/Stats.*.nc")) or any(directory.glob("*/*/Stats.*.nc")):
        raise ReadError(
            f"{directory} holds statistics but no frames; set visualization.frequency of the "
            "namelist to 30 to 60 s (it is off by default) and run again"
        )
    raise ReadError(
        f"{directory} holds no output of PyCLES; give the folder with Visualization/1*.pkl or "
        "fields/<time>/<rank>.nc"
    )


def _run(folder: Path) -> PyclesRun:
    """Find what a folder holds of a run: it may be the run's own, or one inside of it."""
    namelist = _namelist(folder)
    # PyCLES writes the namelist into the folder of the run, not below.
    inside = folder.name in ("Visualization", "fields") or folder.parent.name.startswith("Output.")
    if not namelist and inside:
        namelist = _namelist(folder.parent)
    run = PyclesRun(folder, namelist, {})
    pickles = _pickles(folder / "Visualization") or _pickles(folder)
    steps = _steps(folder / str(run.option("fields_io", "fields_dir", "fields")))
    if not steps and any(folder.glob("[0-9]*/0.nc")):
        steps = _steps(folder)
    subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isidentifier())
    combined = _combined([folder, *subfolders])
    for layout, paths in zip(LAYOUTS, (pickles, steps, combined), strict=True):
        if paths:
            run.frames[layout] = paths
    return run


def _namelist(folder: Path) -> dict[str, Any]:
    """Read the namelist that PyCLES copies to its output, ``.in``; empty if none can be read."""
    for path in sorted(folder.glob("*.in")):
        try:
            namelist = read_json(path, remedy="")
        except ReadError as error:
            log.warning(
                "%s cannot be read (%s); the grid's spacing is not known without it", path, error
            )
            continue
        if isinstance(namelist.get("grid"), dict):
            return namelist
    return {}


def _pickles(folder: Path) -> dict[int, Path]:
    found = {}
    for path in folder.glob("*.pkl"):
        # the name is the only time that a visualisation file has
        if re.fullmatch(r"[0-9]{8,}", path.stem) and int(path.stem) >= PICKLE_OFFSET:
            found[int(path.stem) - PICKLE_OFFSET] = path
    return found


def _steps(folder: Path) -> dict[int, Path]:
    """Return the folders of rank files, also empty ones: PyCLES makes a folder before its files."""
    found = {}
    if folder.is_dir():
        for path in folder.iterdir():
            if re.fullmatch(r"[0-9]+", path.name) and path.is_dir():
                found[int(path.name)] = path
    return found


def _combined(folders: list[Path]) -> dict[int, Path]:
    """Return the combined files of the first folder that has some."""
    for folder in folders:
        paths = [p for p in sorted(folder.glob("*.nc")) if re.fullmatch(r"[0-9]+", p.stem)]
        found = {int(path.stem): path for path in paths}
        # Other NetCDF files may have numbers for names too.
        if found and is_combined(first := next(iter(found.values()))):
            offset = combined_offset(first)
            return {number - offset: path for number, path in found.items()}
    return {}


def _choose(run: PyclesRun, layout: str | None) -> str:
    """Return the layout asked for, else the one of most frames, the first among equals."""
    if layout is None:
        return max(run.frames, key=lambda name: len(run.frames[name]))
    check_choice("layout", layout, LAYOUTS)
    if layout not in run.frames:
        found = ", ".join(f"{name} ({len(paths)} frames)" for name, paths in run.frames.items())
        raise InputError(f"{run.folder} has no frames of layout {layout!r}; it has {found}")
    return layout


def _reader(
    run: PyclesRun, layout: str, stats: str | os.PathLike[str] | None
) -> Callable[[Path], NDArray[np.float64]]:
    """Return the function that reads a frame, g m-2, ``(y, x)``."""
    if layout == "visualization":
        return _pickled_lwp
    if stats is None:
        own = run.folder / str(run.option("stats_io", "stats_dir", "stats"))
        near = sorted(own.glob("Stats.*.nc"))
        near += sorted(run.folder.glob("Stats.*.nc"))
        # the folder given may be one inside of the run's
        near += sorted(run.folder.parent.glob("stats/Stats.*.nc"))
        if not near:
            raise ReadError(
                f"{run.folder} has no stats/Stats.*.nc, which holds the density; "
                "give one: stats=..."
            )
        stats = near[0]
    # The density is the same in all frames: PyCLES is anelastic, with a reference profile.
    weights = column_weights(Path(stats))
    if layout == "fields":
        return lambda folder: ranks_lwp(folder, weights)
    return lambda path: combined_lwp(path, weights)


def _pickled_lwp(path: Path) -> NDArray[np.float64]:
    lwp = read_array(path, "lwp")
    if lwp.ndim != 2 or lwp.dtype.kind != "f":
        raise InputError(
            f"{path}: lwp is {lwp.dtype} {lwp.shape}, not floating (x, y); give output of PyCLES"
        )
    # PyCLES writes (x, y) in kg m-2
    return lwp.T.astype(np.float64) * GRAMS


def _blocks(
    paths: list[Path],
    read: Callable[[Path], NDArray[np.float64]],
    shape: tuple[int, ...],
    size: int,
) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(paths), size):
        block = []
        for path in paths[start : start + size]:
            frame = read(path)
            if frame.shape != shape:
                raise InputError(
                    f"{path} is a frame of {frame.shape} (y, x), {paths[0].name} of {shape}; "
                    "keep the frames of one run in a folder"
                )
            if not np.isfinite(frame).all():
                raise InputError(
                    f"{path} has values that are not finite; remove it and the frames after it, in "
                    "which the run was stopped or had failed"
                )
            block.append(frame)
        yield np.stack(block)


def _date(start: str | None) -> np.datetime64 | None:
    if start is None:
        return None
    try:
        date = np.datetime64(start, "ns")
    except ValueError as error:
        raise OptionError(
            f"start={start!r} is not a date; write it as '2001-07-10' or '2001-07-10T06:00'"
        ) from error
    if np.isnat(date):
        raise OptionError(f"start={start!r} is not a date; write it as '2001-07-10'")
    return date


def _axes(
    run: PyclesRun, times: NDArray[np.int64], shape: tuple[int, ...], epoch: np.datetime64 | None
) -> dict[str, Any]:
    """Return the coordinates: time in seconds or as dates, x and y at cell centres.

    Without a namelist the spacing is not known, and x and y are left out.
    """
    about = {"long_name": "simulated time since the start of the run", "axis": "T"}
    if epoch is None:
        axes: dict[str, Any] = {"time": ("time", times.astype(np.float64), about | {"units": "s"})}
    else:
        axes = {"time": ("time", epoch + times.astype("m8[s]"), about | {"standard_name": "time"})}
    for name, count in zip(("y", "x"), shape, strict=True):
        step = run.option("grid", f"d{name}")
        if isinstance(step, int | float) and step > 0:
            attrs = {
                "units": "m",
                "axis": name.upper(),
                "long_name": f"{name} of the cell centre, in a doubly periodic "
                "domain that may move with the mean wind",
            }
            axes[name] = (name, (np.arange(count) + 0.5) * step, attrs)
    return axes
