# SPDX-License-Identifier: Apache-2.0
"""What is asked for, checked against what an output is already: to go on with, to refuse, or to
begin.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.archive.job import FillJob
from sstfill.archive.source import ArchiveSource
from sstfill.errors import InputError, OptionError, WriteError
from sstfill.fields import grid
from sstfill.fill import chosen_method
from sstfill.methods import Method
from sstfill.methods.common import sampling
from sstfill.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSettings:
    """What is asked for, and what is known of the same output from before."""

    job: FillJob
    source: ArchiveSource
    names: tuple[str, ...]
    sea: xr.DataArray | None
    seed: int
    model: FillJob | None
    grid: list[Any]

    def request(
        self, method: Method | str | None, *, update: bool, anew: bool
    ) -> tuple[dict[str, Any], Method | None]:
        """Check what is asked for against what the output is, and say it in words that JSON can
        hold.
        """
        settled = self.job.settled
        if self.job.out.exists() and settled is None:
            raise WriteError(
                f"cannot write {self.job.out}: it was not filled as an archive; choose another output, or remove it"
            )
        like = {
            "variables": list(self.names),
            "quality_level": self.source.quality_level,
            "l2p_flags": list(self.source.l2p_flags),
            "grid": self.grid,
            "core": list(sampling.CORE),
        }
        if settled is not None and not anew and update and self.model is not None:
            raise OptionError(
                f"{self.job.out} has a settled method of its own; leave out --like, or give --anew, too"
            )
        if settled is not None and ((update and not anew) or self._ends(settled, method)):
            return self._continued(settled, method, like), None
        if settled is not None and not anew:
            raise OptionError(
                f"{self.job.out} is filled already; --update fills its new days, --anew fills all again"
            )
        if update and settled is None and self.job.begun is None:
            log.info("%s is not there yet: all of it is filled", self.job.out)
        if self.model is not None:
            return self._borrowed(self.model, method, like) | {
                "mode": "anew" if settled else "first"
            }, None
        told = {
            **like,
            "mode": "anew" if settled else "first",
            "seed": self.seed,
            **_told(method, self.seed),
        }
        return json.loads(json.dumps(told)), chosen_method(method, self.seed)

    def _ends(self, settled: dict[str, Any], method: Method | str | None) -> bool:
        """Whether this is asked again of a run that was cut short when all was filled: nothing is
        left to be done.
        """
        if not self.job.ended:
            return False
        if self.model is not None:
            return bool(settled.get("like") == str(self.model.out.resolve()))
        return _told(method, self.seed) == _said(settled)

    def _borrowed(
        self, model: FillJob, method: Method | str | None, like: dict[str, Any]
    ) -> dict[str, Any]:
        settled = model.settled
        if settled is None:
            raise OptionError(
                f"{model.out} was not filled as an archive: it has no settled method to lend"
            )
        if settled["grid"] != like["grid"]:
            raise InputError(
                f"{model.out} lends a method for the grid {settled['grid']}, the archive has {like['grid']}"
            )
        if method is not None or settled["variables"] != like["variables"]:
            raise OptionError(
                f"{model.out} lends {settled['method']} for {', '.join(settled['variables'])}; leave out "
                "the method, and name these variables"
            )
        return (
            like
            | {k: settled[k] for k in ("seed", "method", "options")}
            | {"like": str(model.out.resolve())}
        )

    def _continued(
        self, settled: dict[str, Any], method: Method | str | None, like: dict[str, Any]
    ) -> dict[str, Any]:
        own = {k: settled[k] for k in like}
        if own != like:
            key = next(k for k in like if own[k] != like[k])
            raise OptionError(
                f"{self.job.out} was filled with {key} {own[key]}, not {like[key]}; --anew fills all again"
            )
        if settled["version"] != __version__:
            raise OptionError(
                f"{self.job.out} was filled by sstfill {settled['version']}, this is {__version__}; go "
                "on with that version, or --anew fills all again"
            )
        if method is not None and (told := _told(method, settled["seed"])) != _said(settled):
            raise OptionError(
                f"{self.job.out} was filled by {settled['method']} {short(settled['options'])}, not "
                f"{told['method']} {short(told['options'])}; --anew fills all again"
            )
        return {k: v for k, v in settled.items() if k not in ("format", "version")} | {
            "mode": "update"
        }


def _told(method: Method | str | None, seed: int) -> dict[str, Any]:
    """Say a method in words that JSON can hold."""
    chosen = chosen_method(method, seed)
    told: dict[str, Any] = json.loads(
        json.dumps({"method": chosen.name, "options": config.options(chosen)})
    )
    return told


def _said(settled: dict[str, Any]) -> dict[str, Any]:
    return {k: settled[k] for k in ("method", "options")}


def tell_grid(ds: xr.Dataset, names: Sequence[str]) -> list[Any]:
    """Tell one grid from another: size, first and last position along both sides, and a word of all
    of them.
    """
    field = grid.standardise(ds[names[0]])
    for name in names:
        if (other := grid.standardise(ds[name])).shape != field.shape:
            raise InputError(
                f"{name!r} has shape {other.shape}, {names[0]!r} {field.shape}; fill them one by one: --variable"
            )
    places = [
        field[c].values.astype(np.float64).round(5) for c in ("lat", "lon") if c in field.coords
    ]
    word = hashlib.sha256(b"".join(p.tobytes() for p in places)).hexdigest()[:8]
    ends = [[f"{v:g}" for v in p.ravel()[[0, -1]]] for p in places]
    return [*field.shape[1:], *ends, *([word] if places else [])]


def short(options: Any) -> str:
    """Say the options of a method."""
    return "(" + ", ".join(f"{k}={v}" for k, v in options.items()) + ")"
