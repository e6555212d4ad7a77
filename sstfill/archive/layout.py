# SPDX-License-Identifier: Apache-2.0
"""The store of a run before its units are filled: coordinates, attributes, provenance."""

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
from sstfill.archive.companions import Companions
from sstfill.archive.job import FillJob
from sstfill.archive.model import Model
from sstfill.archive.unit import Task
from sstfill.fields import grid
from sstfill.fields.error_distribution import ErrorDistribution
from sstfill.io.attributes import storable_attrs
from sstfill.io.output.atomic import flush
from sstfill.io.packing import REWRITTEN
from sstfill.methods.common import sampling
from sstfill.version import __version__

DRAFT = "draft-"
"""Prefix of the name of a store that units are written into."""


@dataclass(frozen=True)
class StoreLayout:
    """Fields of the store, without values, and where it lies.

    Attributes
    ----------
    parts
        By variable, what is stored of it, see `sstfill.archive.store.parts`.
    members
        Drawn of each variable.
    distributions
        Of the errors of each variable.
    """

    staged: Path
    fields: Mapping[str, xr.DataArray]
    attrs: Mapping[str, Any]
    parts: Mapping[str, tuple[str, ...]]
    companions: Companions
    members: int
    distributions: Mapping[str, ErrorDistribution]

    @classmethod
    def of(
        cls, job: FillJob, ds: xr.Dataset, models: Mapping[str, Model], request: Mapping[str, Any]
    ) -> StoreLayout:
        """Lay out the variables that have `models` as they are in an archive, time first, no single
        dims.
        """
        fields = {name: _laid_out(ds[name], model, request) for name, model in models.items()}
        members = request.get("members", 0)
        parts = {name: store.parts(model.transform, members) for name, model in models.items()}
        companions = Companions.of(ds, list(models), members)
        attrs = {}
        for key, value in companions.small.attrs.items():
            # of another store, which this one is made from
            if not str(key).startswith("sstfill_"):
                attrs[str(key)] = store.plain(value)
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        line = (
            f"{now} sstfill {__version__}: {', '.join(fields)} filled by {request['method']}, "
            "unit by unit"
        )
        earlier = str(ds.attrs.get("history", ""))
        attrs["history"] = f"{line}\n{earlier}" if earlier else line
        distributions = {name: model.scale.distribution for name, model in models.items()}
        return cls(job.staged, fields, attrs, parts, companions, members, distributions)

    def holds(self, task: Task) -> bool:
        """Whether all chunks of a unit are in the staged store."""
        return all(chunk.is_file() for chunk in chunks(self.staged, task))

    def make(self, draft: Path, kept: Iterable[Task]) -> None:
        """Make the draft that units are written into, and the staged store that takes whole units.

        Chunks of the units in `kept` stay; older drafts and all other chunks go.
        """
        for old in self.staged.parent.glob(f"{DRAFT}*"):
            shutil.rmtree(old)
        limits = {f"_{limit}" for limit in store.LIMITS}
        limited = [name for name, parts in self.parts.items() if limits <= set(parts)]
        store.lay_out(
            *(draft, self.fields, sampling.CORE, self.attrs, self.companions.small),
            limited=limited,
            members=self.members,
            distributions=self.distributions,
        )
        arrays = []
        for name, parts in self.parts.items():
            arrays += [f"{name}{part}" for part in parts]
        done: set[Path] = set()
        for task in kept:
            done.update(chunks(self.staged, task))
        store.adopt(draft, self.staged, done, arrays)


def chunks(at: Path, task: Task) -> list[Path]:
    """Return the files of a unit's chunks in a store."""
    files = store.unit_files(at, task.name, task.parts, task.patch, sampling.CORE)
    return list(files.values())


def take(task: Task, staged: Path) -> None:
    """Move the chunks of a unit from its draft into the staged store.

    Each run has its own draft, so a worker that still writes for an earlier one spoils nothing.
    """
    for made, kept in zip(chunks(task.draft, task), chunks(staged, task), strict=True):
        # A rename, not a copy: the chunk is there whole or not at all.
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(made, kept)  # noqa: PTH105
        # else a loss of power could leave the unit in the ledger and not in the store
        flush(kept.parent)


def _laid_out(da: xr.DataArray, model: Model, request: Mapping[str, Any]) -> xr.DataArray:
    dims = grid.axes(da).dims
    bare = da.isel({d: 0 for d in da.dims if d not in dims}).transpose(*dims)
    name = str(da.name)
    method = {"name": request["method"], "options": request["options"], "diagnostics": {}}
    members = request.get("members", 0)
    linked = [f"{name}{part}" for part in store.parts(model.transform, members)[1:]]
    if theirs := da.attrs.get("ancillary_variables"):
        linked.insert(0, str(theirs))
    if model.transform.kind != "none":
        method["transform"] = model.transform.to_dict()
    if members:
        method["members"] = members
    own = {
        "ancillary_variables": " ".join(linked),
        "sstfill_version": __version__,
        "sstfill_method": json.dumps(method, allow_nan=False),
        "sstfill_model": model.fingerprint,
    }
    if model.summary:
        own["sstfill_score"] = json.dumps(config.plain(model.summary), allow_nan=False)
    # The store holds floats, and no range is known before its estimates are.
    kept = config.without(da.attrs, REWRITTEN)
    return bare.drop_attrs(deep=False).assign_attrs(storable_attrs(kept, repr(name)) | own)
