# SPDX-License-Identifier: Apache-2.0
"""The settled method of one variable of an archive, with all that filling needs: sea, sample points, error scale."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.errors import ReadError
from sstfill.io import guard
from sstfill.io.atomic import flush
from sstfill.methods import Method
from sstfill.patches import Shape
from sstfill.pinned import Archive, Pinned, Points, load
from sstfill.pinned.score import pinned_and_scored


@dataclass(frozen=True)
class Model:
    """A pinned method, the sea, the points of the sample, and the factor that makes its stated error hold."""

    pinned: Pinned
    sea: xr.DataArray
    points: Points
    summary: dict[str, Any]
    sigma_scale: float
    fingerprint: str = ""

    @classmethod
    def make(cls, method: Method, whole: Archive, folder: Path) -> Model:
        """Pin a method to an archive, score it, and save all that; the folder appears whole or not at all."""
        draft = folder.with_name(f".{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        pinned, found = pinned_and_scored(method, whole, draft / "method")
        model = cls(
            pinned, whole.sea, whole.points, found.summary if found else {}, found.sigma_scale if found else 1.0
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
        np.savez(folder / "grid.npz", sea=self.sea.values, rows=self.points.rows, columns=self.points.columns)
        told = {"summary": config.plain(self.summary), "sigma_scale": self.sigma_scale, "dims": list(self.sea.dims)}
        (folder / "score.json").write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read a model; `ReadError` if it is not whole."""
        try:
            told = json.loads((folder / "score.json").read_text(encoding="utf-8"))
            with guard.open_arrays(folder / "grid.npz", "fill the archive anew") as held:
                sea = xr.DataArray(held["sea"], dims=told["dims"], name="sea")
                points = Points(held["rows"], held["columns"])
            word = (folder / "fingerprint").read_text(encoding="utf-8")
        except ReadError:
            raise
        except (OSError, ValueError, KeyError) as error:
            raise ReadError(f"cannot read the model in {folder}: {error}; fill the archive anew") from error
        return cls(load(folder / "method"), sea, points, told["summary"], told["sigma_scale"], word)


def _fingerprint(folder: Path) -> str:
    """16 hex digits of all files of a model."""
    words = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        words.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as stream:
            words.update(hashlib.file_digest(stream, "sha256").digest())
    return words.hexdigest()[:16]
