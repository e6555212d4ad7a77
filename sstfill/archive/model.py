# SPDX-License-Identifier: Apache-2.0
"""The fitted method of one variable, with what filling needs besides: sea, points, error scale."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sstfill import config
from sstfill.errors import ReadError
from sstfill.fields.error_distribution import GAUSSIAN, LEAST, ErrorDistribution
from sstfill.fields.patches import Shape
from sstfill.fields.reading.dates import days_since_first
from sstfill.fields.reading.positions import cell_km
from sstfill.fields.rounding import SINGLE_PRECISION, Rounding
from sstfill.fields.transform import NONE, FieldTransforms, Transform
from sstfill.io.output.atomic import flush
from sstfill.io.untrusted.arrays import read_arrays
from sstfill.io.untrusted.documents import checked, read_bytes, read_json
from sstfill.methods import Method
from sstfill.methods.base import Archive, FittedMethod, FittedSimulates, Points, Window
from sstfill.methods.common import former
from sstfill.methods.common.fitted_blend import NEAR, window_distances
from sstfill.methods.fitted_score import fitted_and_scored
from sstfill.methods.registry import load
from sstfill.validation.calibrated import calibrated
from sstfill.validation.calibration import EXTREME, StratifiedScale
from sstfill.validation.tails import tails_seed
from sstfill.validation.withheld import in_both_spaces

WIDER = 1.25
"""Factor of the reach in cells: where cells differ in size, some are smaller than the usual one."""
UNCHANGED = StratifiedScale.single(1.0)
REMEDY = "put it back from a backup, or fill the archive again with --refit"


Factor = Annotated[float, Field(ge=1 / EXTREME, le=EXTREME)]
Steps = Annotated[int, Field(ge=0, le=1000)]
Centre = Annotated[float, Field(gt=0, le=1e9)]


class ScaleDocument(BaseModel):
    """Factors of the error by distance to data, see `StratifiedScale.to_dict`; ``near``: how far
    data are looked for, see `Model`.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    distance_km: Annotated[list[Centre], Field(min_length=1, max_length=100)]
    lag_days: Annotated[list[Centre], Field(min_length=1, max_length=100)]
    factor: list[list[Factor]]
    near: tuple[Steps, Steps, Steps]

    @model_validator(mode="after")
    def _fits(self) -> ScaleDocument:
        for centres in (self.distance_km, self.lag_days):
            if any(b <= a for a, b in pairwise(centres)):
                raise ValueError("distances must increase")
        sizes = list(map(len, self.factor))
        if sizes != [len(self.lag_days)] * len(self.distance_km):
            raise ValueError("there must be a factor for each distance and lag")
        return self


class ScoreDocument(BaseModel):
    """The ``score.json`` of a model."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    summary: dict[str, Any]
    sigma_scale: Factor
    dims: tuple[str, str]
    scale: ScaleDocument | None = None
    degrees_of_freedom: Annotated[float, Field(ge=LEAST, le=1e6)] | None = None
    tails_seed: Annotated[int, Field(ge=0)] | None = None
    transform: Transform = NONE
    rounding: Rounding = SINGLE_PRECISION


@dataclass(frozen=True)
class Model:
    """A fitted method and what filling needs besides.

    Attributes
    ----------
    fitted
        The method, fitted to the whole archive.
    sea
        Where to fill, ``(y, x)``.
    points
        Pixels of the sample.
    summary
        Its score on withheld clouds; empty where nothing could be withheld.
    scale
        Factors by which its stated error is multiplied, by distance to data, and the distribution
        of the errors.
    transform
        Brings the values to the space that the method was fitted in.
    rounding
        Steps in which the values are recorded.
    fingerprint
        Digest of all files of the model.
    near
        Images, rows and columns on either side of a pixel in which the nearest data are looked for:
        as far as it matters to `scale`.
    tails_seed
        Of the tails of members, see `sstfill.validation.tails`; None where an earlier version
        fitted the method, which gave each pixel tails of its own.
    """

    fitted: FittedMethod
    sea: xr.DataArray
    points: Points
    summary: dict[str, Any]
    scale: StratifiedScale
    transform: Transform = NONE
    rounding: Rounding = SINGLE_PRECISION
    fingerprint: str = ""
    near: Shape = (0, 0, 0)
    tails_seed: int | None = None

    @classmethod
    def make(
        cls,
        method: Method,
        whole: Archive,
        folder: Path,
        transform: Transform = NONE,
        rounding: Rounding = SINGLE_PRECISION,
    ) -> Model:
        """Fit a method to an archive, score it, and save both; the folder appears atomically."""
        if transform.kind != "none":
            whole = replace(
                whole,
                obs=transform.apply(whole.obs),
                sample=transform.apply(whole.sample),
                trials=[transformed(window, transform) for window in whole.trials],
            )
        # Killed before the last step, it leaves a hidden draft only, and the fit is done again.
        draft = folder.with_name(f".{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        fitted, score = fitted_and_scored(method, whole, draft / "method")
        model = cls(fitted, whole.sea, whole.points, {}, UNCHANGED, transform, rounding)
        if score is not None:
            summary = in_both_spaces(score, transform).summary
            near = _near(score.scale, whole.obs)
            model = replace(model, summary=summary, scale=score.scale, near=near)
        np.savez(
            draft / "grid.npz",
            sea=model.sea.values,
            rows=model.points.rows,
            columns=model.points.columns,
        )
        written = {
            "summary": config.plain(model.summary),
            "sigma_scale": float(model.summary.get("sigma_scale", 1.0)),
            "dims": list(model.sea.dims),
            "rounding": asdict(rounding),
            "tails_seed": tails_seed(method, whole.seed),
        }
        distribution = model.scale.distribution
        if not distribution.is_gaussian:
            written["degrees_of_freedom"] = distribution.degrees_of_freedom
        if not model.scale.is_single:
            written["scale"] = model.scale.to_dict() | {"near": model.near}
        if transform.kind != "none":
            written["transform"] = transform.to_dict()
        (draft / "score.json").write_text(json.dumps(written), encoding="utf-8")
        (draft / "fingerprint").write_text(_fingerprint(draft), encoding="utf-8")
        for member in [*draft.rglob("*"), draft]:
            # before the rename, so that a folder of this name is whole also after a loss of power
            flush(member)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(draft, folder)  # noqa: PTH105
        flush(folder.parent)
        return cls.load(folder)

    def shape(self, times: int) -> Shape:
        """Return the shape of an archive of so many images."""
        rows, columns = self.sea.shape
        return times, rows, columns

    def estimate(self, window: Window, members: int = 0) -> xr.Dataset:
        """Estimate the inside of a window ``(time, y, x)``; values and errors in its units.

        Returns
        -------
        Dataset
            ``mean``, and ``error``, scaled, where it is known; with a transform also its limits,
            see `sstfill.fields.transform.FieldTransforms.invert`. With `members` also these, dims
            ``(member, time, y, x)``.
        """
        name = str(window.obs.name)
        estimate = self.estimate_in_space(transformed(window, self.transform), members)
        distributions = {name: self.scale.distribution}
        estimate = FieldTransforms({name: self.transform}).invert(estimate, distributions)
        if "error" not in estimate:
            return estimate
        error = self.rounding.at_least(estimate["error"], estimate["mean"])
        return estimate.assign(error=error)

    def estimate_in_space(self, window: Window, members: int = 0) -> xr.Dataset:
        """As `estimate`, in the space that the method was fitted in; so are the window's values."""
        own, distances = window, None
        if not self.scale.is_single:
            # The wider halo is for the distances; the method sees what it saw when it was scored.
            own = window.narrowed(self.fitted.halo)
            distances = window_distances(window, self.near)
        if members:
            assert isinstance(self.fitted, FittedSimulates)
            estimate = self.fitted.simulate(own, members)
        else:
            estimate = self.fitted.estimate(own)
        name, inside = str(window.obs.name), window.inside
        times, rows, columns = window.patch.inside
        return calibrated(
            estimate,
            {name: self.scale},
            [name],
            inside,
            distances,
            seed=self.tails_seed or 0,
            origin=(times.start, rows.start, columns.start),
        )

    @property
    def halo(self) -> Shape:
        """Margin (time, y, x) that a window must show around the part to be estimated."""
        if self.scale.is_single:
            return self.fitted.halo
        t, y, x = np.max([self.fitted.halo, self.near], axis=0).tolist()
        return t, y, x

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read a model.

        Raises
        ------
        ReadError
            A file is missing, a file has changed since the method was fitted, or a number is not
            one that sstfill can have written.
        """
        written = read_bytes(folder / "fingerprint", remedy=REMEDY, most=100)
        digest = written.decode("ascii", "replace")
        found = _current_fingerprint(folder)
        if found != digest:
            raise ReadError(
                f"the fitted method in {folder} was changed since it was fitted: its fingerprint "
                f"was {ascii(digest)[1:-1]}, now it is {found}; {REMEDY}"
            )
        path = folder / "score.json"
        score = checked(ScoreDocument, read_json(path, remedy=REMEDY), path, remedy=REMEDY)
        arrays = read_arrays(
            folder / "grid.npz", {"sea": "b", "rows": "iu", "columns": "iu"}, remedy=REMEDY
        )
        sea, points = arrays["sea"], Points(arrays["rows"], arrays["columns"])
        # a negative index would wrap around in silence
        fits = (
            sea.ndim == 2
            and points.rows.ndim == 1
            and points.columns.shape == points.rows.shape
            and bool(((points.rows >= 0) & (points.rows < sea.shape[0])).all())
            and bool(((points.columns >= 0) & (points.columns < sea.shape[1])).all())
        )
        if not fits:
            raise ReadError(
                f"cannot read {folder / 'grid.npz'}: its points do not lie on its grid; {REMEDY}"
            )
        field = xr.DataArray(sea, dims=score.dims, name="sea")
        fitted = load(folder / "method")
        summary = former.summary_now(score.summary)
        distribution = GAUSSIAN
        if score.degrees_of_freedom is not None:
            distribution = ErrorDistribution(score.degrees_of_freedom)
        scale = StratifiedScale.single(score.sigma_scale, distribution)
        near = (0, 0, 0)
        if score.scale is not None:
            scale = StratifiedScale.from_dict(score.scale.model_dump(), distribution)
            near = score.scale.near
        return cls(
            *(fitted, field, points, summary, scale),
            *(score.transform, score.rounding, digest, near, score.tails_seed),
        )


def _near(scale: StratifiedScale, obs: xr.DataArray) -> Shape:
    """Return how far data are looked for: beyond its outermost centres a scale is constant."""
    if scale.is_single:
        return (0, 0, 0)
    steps = np.diff(days_since_first(obs))
    # the shortest, so that the images that are looked at cover the lag anywhere in the series
    step = float(steps.min()) if steps.size else 1.0
    height, width = cell_km(obs)
    reach = WIDER * scale.distance[-1]
    times = min(NEAR[0], math.ceil(scale.lag[-1] / step) + 1)
    rows = min(NEAR[1], math.ceil(reach / height) + 1)
    columns = min(NEAR[2], math.ceil(reach / width) + 1)
    return times, rows, columns


def transformed(window: Window, transform: Transform) -> Window:
    """Return a window as the method sees it."""
    if transform.kind == "none":
        return window
    obs, sample = transform.apply(window.obs), transform.apply(window.sample)
    return replace(window, obs=obs, sample=sample)


def _current_fingerprint(folder: Path) -> str:
    """Return the fingerprint of what is on the disk now.

    A model may hold gigabytes and is loaded for each work unit: files are read again only where
    their size, time or inode has changed.
    """
    try:
        stats = [(str(file), file.stat()) for file in _files(folder)]
        return _fingerprint_of(
            folder, tuple((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats)
        )
    except OSError as error:
        raise ReadError(
            f"cannot read the model in {folder}: {error.strerror or error}; {REMEDY}"
        ) from error


@lru_cache(maxsize=32)
def _fingerprint_of(folder: Path, stats: tuple[tuple[str, int, int, int], ...]) -> str:
    return _fingerprint(folder)


def _files(folder: Path) -> list[Path]:
    """List the files of a model, without its fingerprint and the system's (``.nfs...``)."""
    found = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")]
    return sorted(file for file in found if file != folder / "fingerprint")


def _fingerprint(folder: Path) -> str:
    """Digest the names and contents of all files of a model; 16 hex digits."""
    digest = hashlib.sha256()
    # Names too: two files whose contents are exchanged are a change.
    for file in _files(folder):
        digest.update(os.fsencode(file.relative_to(folder).as_posix()))
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
