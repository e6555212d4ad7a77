# SPDX-License-Identifier: Apache-2.0
"""The settled method of one variable of an archive, with all that filling needs: sea, sample
points, error scale.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from sstfill import config
from sstfill.errors import ReadError
from sstfill.fields.patches import Shape
from sstfill.io.atomic import flush
from sstfill.io.untrusted.arrays import read_arrays
from sstfill.io.untrusted.documents import checked, read_bytes, read_json
from sstfill.methods import Method
from sstfill.methods.base import Archive, FittedMethod, Points
from sstfill.methods.fitted_score import fitted_and_scored
from sstfill.methods.registry import load
from sstfill.validation.calibration import EXTREME

REMEDY = "put it back from a backup, or fill the archive anew with --anew"


class Score(BaseModel):
    """The ``score.json`` of a model."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    summary: dict[str, Any]
    sigma_scale: Annotated[float, Field(ge=1 / EXTREME, le=EXTREME)]
    dims: tuple[str, str]


@dataclass(frozen=True)
class Model:
    """A pinned method, the sea, the points of the sample, and the factor that makes its stated
    error hold.
    """

    pinned: FittedMethod
    sea: xr.DataArray
    points: Points
    summary: dict[str, Any]
    sigma_scale: float
    fingerprint: str = ""

    @classmethod
    def make(cls, method: Method, whole: Archive, folder: Path) -> Model:
        """Pin a method to an archive, score it, and save all that; the folder appears whole or not
        at all.
        """
        draft = folder.with_name(f".{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        pinned, found = fitted_and_scored(method, whole, draft / "method")
        model = cls(
            pinned,
            whole.sea,
            whole.points,
            found.summary if found else {},
            found.sigma_scale if found else 1.0,
        )
        model._save(draft)
        (draft / "fingerprint").write_text(_fingerprint(draft), encoding="utf-8")
        for member in [*draft.rglob("*"), draft]:
            flush(member)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(draft, folder)  # noqa: PTH105
        flush(folder.parent)
        return cls.load(folder)

    def shape(self, times: int) -> Shape:
        """Shape of an archive of so many images."""
        rows, columns = self.sea.shape
        return times, rows, columns

    def _save(self, folder: Path) -> None:
        np.savez(
            folder / "grid.npz",
            sea=self.sea.values,
            rows=self.points.rows,
            columns=self.points.columns,
        )
        told = {
            "summary": config.plain(self.summary),
            "sigma_scale": self.sigma_scale,
            "dims": list(self.sea.dims),
        }
        (folder / "score.json").write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read a model.

        Raises
        ------
        ReadError
            If it is not whole, if any file of it is not what was written when the method was
            settled, or if a number of it is not one that sstfill can have written.
        """
        word = read_bytes(folder / "fingerprint", remedy=REMEDY, most=100).decode(
            "ascii", "replace"
        )
        found = _fingerprint_now(folder)
        if found != word:
            raise ReadError(
                f"the settled method in {folder} was changed since it was settled: its fingerprint was "
                f"{ascii(word)[1:-1]}, now it is {found}; {REMEDY}"
            )
        path = folder / "score.json"
        score = checked(Score, read_json(path, remedy=REMEDY), path, remedy=REMEDY)
        arrays = read_arrays(
            folder / "grid.npz", {"sea": "b", "rows": "iu", "columns": "iu"}, remedy=REMEDY
        )
        sea, points = arrays["sea"], Points(arrays["rows"], arrays["columns"])
        shapes = (sea.ndim, points.rows.ndim, points.columns.shape)
        if shapes != (2, 1, points.rows.shape) or not _lie_within(points, sea.shape):
            raise ReadError(
                f"cannot read {folder / 'grid.npz'}: its points do not lie on its grid; {REMEDY}"
            )
        field = xr.DataArray(sea, dims=score.dims, name="sea")
        return cls(load(folder / "method"), field, points, score.summary, score.sigma_scale, word)


def _lie_within(points: Points, shape: tuple[int, ...]) -> bool:
    rows, columns = points
    low, high = (rows >= 0) & (columns >= 0), (rows < shape[0]) & (columns < shape[1])
    return bool((low & high).all())


def _fingerprint_now(folder: Path) -> str:
    """The fingerprint of what is on the disk; worked out again only where a file has changed since
    the last time.
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
    """Files of a model, but for its fingerprint and what the system leaves there (``.nfs...``,
    ``.DS_Store``).
    """
    found = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")]
    return sorted(file for file in found if file != folder / "fingerprint")


def _fingerprint(folder: Path) -> str:
    """16 hex digits of all files of a model."""
    words = hashlib.sha256()
    for file in _files(folder):
        words.update(os.fsencode(file.relative_to(folder).as_posix()))
        with file.open("rb") as stream:
            words.update(hashlib.file_digest(stream, "sha256").digest())
    return words.hexdigest()[:16]
