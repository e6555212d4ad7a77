# SPDX-License-Identifier: Apache-2.0
"""The store of a run before its units are filled: coordinates, attributes and provenance, for the
days there are.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from sstfill import config
from sstfill.archive import store
from sstfill.archive.job import Days, FillJob
from sstfill.archive.model import Model
from sstfill.archive.unit import Task
from sstfill.fields import grid
from sstfill.io.atomic import flush
from sstfill.methods.common import sampling
from sstfill.version import __version__

DRAFT = "draft-"
"""Begins the name of a store that units are written into."""


@dataclass(frozen=True)
class StoreLayout:
    """What is stored of each variable, and where."""

    staged: Path
    fields: Mapping[str, xr.DataArray]
    attrs: Mapping[str, Any]

    @classmethod
    def of(
        cls, job: FillJob, ds: xr.Dataset, days: Mapping[str, Days], request: Mapping[str, Any]
    ) -> StoreLayout:
        """Lay out the variables in `days` as they are in an archive, time first, single dims
        dropped.
        """
        fields = {name: _like(ds[name], Model.load(job.model(name)), request) for name in days}
        told = f"{', '.join(fields)} filled by {request['method']}, unit by unit"
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} sstfill {__version__}: {told}"
        history = "\n".join(filter(None, [line, str(ds.attrs.get("history", ""))]))
        attrs = {
            str(k): store.plain(v) for k, v in ds.attrs.items() if not str(k).startswith("sstfill_")
        }
        return cls(job.staged, fields, attrs | {"history": history})

    def holds(self, task: Task) -> bool:
        """Whether all chunks of a unit are there."""
        return all(chunk.is_file() for chunk in chunks(self.staged, task))

    def make(self, draft: Path, kept: Iterable[Task]) -> None:
        """Make a store that units are written into, and the one that takes whole ones, with what is
        done kept.
        """
        for old in self.staged.parent.glob(f"{DRAFT}*"):
            shutil.rmtree(old)
        store.lay_out(draft, self.fields, sampling.CORE, self.attrs)
        arrays = [f"{name}{part}" for name in self.fields for part in store.PARTS]
        store.adopt(
            draft,
            self.staged,
            {chunk for task in kept for chunk in chunks(self.staged, task)},
            arrays,
        )


def chunks(at: Path, task: Task) -> list[Path]:
    """Files of the chunks of a unit in a store."""
    return [
        store.chunk_file(at, f"{task.name}{part}", task.patch, sampling.CORE)
        for part in store.PARTS
    ]


def take(task: Task, staged: Path) -> None:
    """Take the chunks of a unit from where it was written: who still writes for an earlier run can
    spoil nothing.
    """
    for made, kept in zip(chunks(task.draft, task), chunks(staged, task), strict=True):
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(made, kept)  # noqa: PTH105
        flush(kept.parent)


def _like(da: xr.DataArray, model: Model, request: Mapping[str, Any]) -> xr.DataArray:
    dims = grid.axes(da).dims
    bare = da.isel({d: 0 for d in da.dims if d not in dims}).transpose(*dims)
    name = str(da.name)
    said = {"name": request["method"], "options": request["options"], "diagnostics": {}}
    linked = [
        *str(da.attrs.get("ancillary_variables", "")).split(),
        *(f"{name}{p}" for p in store.PARTS[1:]),
    ]
    own = {
        "ancillary_variables": " ".join(dict.fromkeys(linked)),
        "sstfill_version": __version__,
        "sstfill_method": json.dumps(said, allow_nan=False),
        "sstfill_model": model.fingerprint,
    }
    if model.summary:
        own["sstfill_score"] = json.dumps(config.plain(model.summary), allow_nan=False)
    return bare.assign_attrs(da.attrs | own)
