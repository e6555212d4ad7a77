# SPDX-License-Identifier: Apache-2.0
"""The most recent images of a filled archive: how well the fitted method does there, and how much
it could fill.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.archive.job import Days, FillJob
from sstfill.archive.model import Model
from sstfill.archive.source import ArchiveSource
from sstfill.errors import ReadError
from sstfill.fields import gaps, grid
from sstfill.fields.patches import Patch
from sstfill.io.untrusted import guard
from sstfill.methods.common.sampling import TRIED, cut, spatial
from sstfill.methods.fitted import Window
from sstfill.methods.fitted_score import scored
from sstfill.nightly.night import VariableReport
from sstfill.plot.view import printed

TILES = 3
"""Pieces of the recent images in which clouds are withheld."""
ROWS = 256
"""Rows of the filled store that are counted at once."""
SOME = 1_000_000
"""Pixels at most of which a median is taken."""
KINDS = ("observed", "filled", "not_filled")


def recent_score(out: Path, source: ArchiveSource, seed: int = 0) -> dict[str, dict[str, object]]:
    """Hide clouds in the most recent images, and ask the fitted method, as it is, what is below.

    Parameters
    ----------
    out
        Store that `sstfill.archive.fill_archive` made.
    source
        The archive that it was made from.
    seed
        Of the clouds that are hidden; with the same one, the same archive has the same score.

    Returns
    -------
    dict
        By variable, `sstfill.validation.withheld.Hindcast.summary`, with ``sigma_scale`` as a
        factor of the error that is stored; empty where nothing could be hidden: nothing observed,
        or no clouds.
    """
    job, found = FillJob(out), {}
    with io.reading(source.path), source.open() as ds:
        for name in variables_of(job):
            model, days = (
                Model.load(job.model(name)),
                Days.load(job.folder / "days" / f"{name}.npz"),
            )
            said = scored(
                model.fitted, list(_windows(source.field(ds, name), model, days)), seed, name
            )
            found[name] = {} if said is None else dict(said.summary)
            if "sigma_scale" in found[name]:
                found[name]["sigma_scale"] /= model.sigma_scale
    return found


def variables_of(job: FillJob) -> tuple[str, ...]:
    """Variables of a filled archive; `ReadError` if there is none."""
    asked = job.finished
    if asked is None:
        raise ReadError(
            f"{job.out} was not filled as an archive: there is no {job.folder.name} beside it"
        )
    return tuple(asked["variables"])


def _windows(obs: xr.DataArray, model: Model, days: Days) -> list[Window]:
    """Windows on the last images, where their sample shows most."""
    shape = obs.shape
    times = slice(max(0, shape[0] - TRIED[0]), shape[0])
    tiles = spatial(shape[1:], TRIED[1:])  # type: ignore[arg-type]
    number = (model.points.rows // TRIED[1]) * -(
        -shape[2] // TRIED[2]
    ) + model.points.columns // TRIED[2]
    counts = np.bincount(number, np.isfinite(days.sample[times]).sum(0), len(tiles))
    best = [i for i in np.argsort(-counts, kind="stable")[:TILES] if counts[i]]
    patches = [_patch((times, *tiles[i]), model.fitted.reach, shape) for i in best]
    return [cut(obs, model.sea, days.sample, model.points, patch) for patch in patches]


def _patch(inside: tuple[slice, ...], reach: tuple[int, ...], shape: tuple[int, ...]) -> Patch:
    sides = zip(inside, reach, shape, strict=True)
    seen = tuple(slice(max(0, s.start - r), min(n, s.stop + r)) for s, r, n in sides)
    return Patch(inside, seen)  # type: ignore[arg-type]


def look_at(
    out: Path, scores: dict[str, dict[str, object]], watched: int
) -> dict[str, VariableReport]:
    """Count where the pixels of the recent images come from, and how sure those are that were
    filled.
    """
    job, found = FillJob(out), {}
    with io.reading(out), guard.open_zarr(out, chunks=None) as held:
        for name, score in scores.items():
            days = Days.load(job.folder / "days" / f"{name}.npz")
            times = slice(max(0, len(days.time) - TRIED[0]), len(days.time))
            counts = _counted(held[f"{name}_source"], times)
            errors = _some(held[f"{name}_error"], times)
            last = range(len(days.time) - min(watched, len(days.time)), len(days.time))
            found[name] = VariableReport(
                model=Model.load(job.model(name)).fingerprint,
                score=score,
                fractions=_fractions(counts.sum(0)),
                newest=_fractions(counts[-1]),
                error=_median(errors),
                newest_error=_median(errors[-1]),
                empty=tuple(date(held[name], i) for i in last if not days.count[i]),
                units=printed(str(held[name].attrs.get("units", ""))),
            )
    return found


def _counted(source: xr.DataArray, times: slice) -> NDArray[np.int64]:
    """Pixels by image and flag, ``(time, flag)``."""
    counts = np.zeros((times.stop - times.start, len(gaps.SOURCE_FLAGS)), np.int64)
    for start in range(0, source.shape[1], ROWS):
        block = source[times, start : start + ROWS].values
        counts += np.stack(
            [np.bincount(image.ravel(), minlength=counts.shape[1]) for image in block]
        )
    return counts


def _some(error: xr.DataArray, times: slice) -> NDArray[np.float32]:
    every = thinning(error.shape[1:], SOME // max(1, times.stop - times.start))
    rows = range(0, error.shape[1], ROWS // every * every or every)
    step = rows.step
    return np.concatenate(
        [error[times, r : r + step].values[:, ::every, ::every] for r in rows], axis=1
    )


def thinning(shape: tuple[int, ...], pixels: int) -> int:
    """Every how many-th row and column to take so that an image has no more than so many pixels.

    >>> thinning((1000, 1000), 10_000)
    10
    """
    return max(1, int(np.ceil(np.sqrt(np.prod(shape) / pixels))))


def _median(errors: NDArray[np.float32]) -> float | None:
    known = errors[np.isfinite(errors)]
    return float(np.median(known)) if known.size else None


def _fractions(counts: NDArray[np.int64]) -> dict[str, float]:
    sea = int(sum(counts[gaps.SOURCE_FLAGS[k]] for k in KINDS))
    return {k: float(counts[gaps.SOURCE_FLAGS[k]] / sea) if sea else 0.0 for k in KINDS}


def date(field: xr.DataArray, step: int) -> str:
    """Date of an image, ISO 8601 to the minute; its number where times are no dates.

    >>> date(xr.DataArray([1.0], [("time", np.array(["2024-02-01"], "M8[ns]"))]), 0)
    '2024-02-01'
    """
    time = field[str(grid.axes(field).dims[0])] if field.ndim > 1 else field[field.dims[0]]
    value = time.values[step]
    if time.dtype.kind == "M":
        return str(np.datetime_as_string(value, unit="m")).removesuffix("T00:00")
    if hasattr(value, "isoformat"):
        return str(value.isoformat()[:16]).removesuffix("T00:00")
    return f"image {step}"


def newest(out: Path) -> tuple[str, float | None]:
    """Date of the newest image, and its time in days since 1970 (None where times are no dates)."""
    job = FillJob(out)
    name = variables_of(job)[0]
    with io.reading(out), guard.open_zarr(out, chunks=None) as held:
        said = date(held[name], held[name].sizes[str(grid.axes(held[name]).dims[0])] - 1)
    days = Days.load(job.folder / "days" / f"{name}.npz").time[-1] / 86_400e6
    return ("", None) if said.startswith("image ") else (said, float(days))


def state(out: Path) -> str:
    """A word for what a filled store holds: the same for the same days, observations, revisions and
    methods.
    """
    job, words = FillJob(out), hashlib.sha256()
    for name in variables_of(job):
        days = Days.load(job.folder / "days" / f"{name}.npz")
        words.update(json.dumps([name, Model.load(job.model(name)).fingerprint]).encode())
        for part in (days.time, days.digest, days.revision):
            words.update(part.tobytes())
    return words.hexdigest()[:16]
