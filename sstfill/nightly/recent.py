# SPDX-License-Identifier: Apache-2.0
"""The most recent images of a filled archive: score of the fitted method, and what was filled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.archive.job import Days, FillJob
from sstfill.archive.model import Model, transformed
from sstfill.archive.source import ArchiveSource
from sstfill.errors import ReadError
from sstfill.fields import gaps, grid
from sstfill.fields.patches import Patch
from sstfill.fields.reading import dates
from sstfill.io.untrusted import guard
from sstfill.methods.base import Window
from sstfill.methods.common.sampling import TRIAL, cut, tile
from sstfill.methods.fitted_score import scored
from sstfill.nightly.night import RecentReport
from sstfill.plot.view import printed
from sstfill.report.pictures import thinning
from sstfill.validation.withheld import in_both_spaces

TILES = 3
"""Most pieces of the recent images in which clouds are withheld."""
ROWS = 256
"""Rows of the filled store that are read at once."""
SAMPLE = 1_000_000
"""Most pixels of which a median is taken."""
KINDS = ("observed", "filled", "not_filled")


def recent_score(out: Path, source: ArchiveSource, seed: int = 0) -> dict[str, dict[str, object]]:
    """Score the fitted method, as it is, on withheld clouds in the most recent images.

    Parameters
    ----------
    out
        Store that `sstfill.archive.fill_archive` made.
    source
        The archive that it was made from.
    seed
        Seed of the withheld clouds; with the same one, the same archive has the same score.

    Returns
    -------
    dict
        By variable, `sstfill.validation.withheld.WithheldScore.summary`, with ``sigma_scale`` as a
        factor of the error that is stored; empty where nothing could be withheld: nothing observed,
        or no clouds.
    """
    job = FillJob(out)
    scores: dict[str, dict[str, object]] = {}
    with io.reading(source.path), source.open() as ds:
        for name in filled_variables(job):
            model = Model.load(job.model(name))
            days = _load_days(job, name)
            windows = _windows(source.field(ds, name), model, days)
            shown = [transformed(window, model.transform) for window in windows]
            # The error that is stored, scaled by the model's own scale, is scored.
            score = scored(model.estimate_in_space, shown, seed, name)
            if score is None:
                scores[name] = {}
                continue
            summary = dict(in_both_spaces(score, model.transform).summary)
            # factors by distance, of the error that is scaled already: of no use to a report
            summary.pop("scale", None)
            scores[name] = summary
    return scores


def filled_variables(job: FillJob) -> tuple[str, ...]:
    """Return the variables of a filled archive; `ReadError` if there is none."""
    request = job.finished
    if request is None:
        raise ReadError(
            f"{job.out} was not filled as an archive: there is no {job.folder.name} beside it"
        )
    return tuple(request["variables"])


def _load_days(job: FillJob, name: str) -> Days:
    return Days.load(job.folder / "days" / f"{name}.npz")


def _windows(obs: xr.DataArray, model: Model, days: Days) -> list[Window]:
    """Cut windows of the last images, where their sample shows most observations."""
    count, _, columns = obs.shape
    times = slice(max(0, count - TRIAL[0]), count)
    tiles = tile(obs.shape[1:], TRIAL[1:])  # type: ignore[arg-type]
    tiles_across = -(-columns // TRIAL[2])
    tile_of_point = model.points.rows // TRIAL[1] * tiles_across
    tile_of_point = tile_of_point + model.points.columns // TRIAL[2]
    observed = np.isfinite(days.sample[times]).sum(0)
    # The sample stands for the images: reading them to count would cost as much as to score.
    in_tile = np.bincount(tile_of_point, observed, len(tiles))
    windows = []
    # stable: among equals the same pieces each night, so that scores can be compared
    for number in np.argsort(-in_tile, kind="stable")[:TILES]:
        if not in_tile[number]:
            break  # nothing is observed in this tile, nor in any after it
        inside = (times, *tiles[number])
        seen = []
        for side, halo, length in zip(inside, model.halo, obs.shape, strict=True):
            seen.append(slice(max(0, side.start - halo), min(length, side.stop + halo)))
        patch = Patch(inside, tuple(seen))  # type: ignore[arg-type]
        windows.append(cut(obs, model.sea, days.sample, model.points, patch))
    return windows


def variable_reports(
    out: Path, scores: dict[str, dict[str, object]], watched: int
) -> dict[str, RecentReport]:
    """Report by variable on the recent images: sources of the pixels, errors of the filled ones.

    The newest `watched` images are searched for one with nothing observed.
    """
    job = FillJob(out)
    reports = {}
    with io.reading(out), guard.open_zarr(out, chunks=None) as held:
        for name, score in scores.items():
            days = _load_days(job, name)
            total = len(days.time)
            # the images that are scored, too
            times = slice(max(0, total - TRIAL[0]), total)
            counts = _count_flags(held[f"{name}_source"], times)
            errors = _sampled(held[f"{name}_error"], times)
            empty = []
            for step in range(max(0, total - watched), total):
                if not days.count[step]:
                    empty.append(date(held[name], step))
            reports[name] = RecentReport(
                model=Model.load(job.model(name)).fingerprint,
                score=score,
                fractions=_fractions(counts.sum(0)),
                newest=_fractions(counts[-1]),
                error=_median(errors),
                newest_error=_median(errors[-1]),
                empty=tuple(empty),
                units=printed(str(held[name].attrs.get("units", ""))),
            )
    return reports


def _count_flags(source: xr.DataArray, times: slice) -> NDArray[np.int64]:
    """Count the pixels of each image by source flag, ``(time, flag)``."""
    counts = np.zeros((times.stop - times.start, len(gaps.SOURCE_FLAGS)), np.int64)
    for start in range(0, source.shape[1], ROWS):
        block = source[times, start : start + ROWS].values
        for image, pixels in enumerate(block):
            counts[image] += np.bincount(pixels.ravel(), minlength=counts.shape[1])
    return counts


def _sampled(error: xr.DataArray, times: slice) -> NDArray[np.float32]:
    """Read every n-th row and column of some images, at most `SAMPLE` pixels."""
    every = thinning(error.shape[1:], SAMPLE // max(1, times.stop - times.start))
    # Blocks begin at a multiple of `every`, so that the rows taken are evenly spaced.
    step = max(ROWS // every, 1) * every
    blocks = []
    for start in range(0, error.shape[1], step):
        blocks.append(error[times, start : start + step].values[:, ::every, ::every])
    return np.concatenate(blocks, axis=1)


def _median(errors: NDArray[np.float32]) -> float | None:
    known = errors[np.isfinite(errors)]
    if known.size:
        return float(np.median(known))
    return None


def _fractions(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the fraction of the sea of each kind of source, from the counts by flag."""
    of_kind = {kind: int(counts[gaps.SOURCE_FLAGS[kind]]) for kind in KINDS}
    sea = sum(of_kind.values())
    return {kind: count / max(1, sea) for kind, count in of_kind.items()}


def date(field: xr.DataArray, step: int) -> str:
    """Return the date of an image, ISO 8601 to the minute; its number where times are no dates.

    >>> date(xr.DataArray([1.0], [("time", np.array(["2024-02-01"], "M8[ns]"))]), 0)
    '2024-02-01'
    """
    dim = field.dims[0] if field.ndim == 1 else grid.axes(field).dims[0]
    times = dates.read_times(field, dim, dates.candidates(field))
    if times is None or not times.are_dates:
        return f"image {step}"
    value = times.variable.values[step]
    if times.variable.dtype.kind == "M":
        return str(np.datetime_as_string(value, unit="m")).removesuffix("T00:00")
    return str(value.isoformat()[:16]).removesuffix("T00:00")


def newest(out: Path) -> tuple[str, float | None]:
    """Return the date of the newest image, and its time in days since 1970.

    Where times are no dates, these are empty and None.
    """
    job = FillJob(out)
    name = filled_variables(job)[0]
    with io.reading(out), guard.open_zarr(out, chunks=None) as held:
        field = held[name]
        last = date(field, field.sizes[str(grid.axes(field).dims[0])] - 1)
    if last.startswith("image "):
        return "", None
    return last, float(_load_days(job, name).time[-1] / 86_400e6)


def state(out: Path) -> str:
    """Digest what a filled store holds: days, observations, revisions and fitted methods."""
    job = FillJob(out)
    digest = hashlib.sha256()
    for name in filled_variables(job):
        days = _load_days(job, name)
        digest.update(json.dumps([name, Model.load(job.model(name)).fingerprint]).encode())
        for part in (days.time, days.digest, days.revision):
            digest.update(part.tobytes())
    return digest.hexdigest()[:16]
