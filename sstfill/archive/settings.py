# SPDX-License-Identifier: Apache-2.0
"""The settings of a run, checked against those that an existing output was filled with."""

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
from sstfill.archive.model import Model
from sstfill.archive.source import ArchiveSource
from sstfill.errors import InputError, OptionError, WriteError
from sstfill.fields import grid
from sstfill.fields.transform import Asked
from sstfill.fill import chosen_method, wanted_space
from sstfill.methods import Method
from sstfill.methods.base import FittedSimulates
from sstfill.methods.common import sampling
from sstfill.methods.registry import check_members
from sstfill.version import __version__

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSettings:
    """The output, the archive and the options of one run.

    Attributes
    ----------
    job, source
        The output to fill, and the archive that is read.
    names
        Variables to fill.
    sea, lakes
        The sea mask that the user gave, and whether lakes are filled.
    seed
        Of whatever is random.
    transform
        What the user asked for, as in `sstfill.fill`.
    members
        How many the user asked for; None where nothing was said.
    lender
        The job whose fitted method is used (``--like``).
    grid
        What `describe_grid` returns.
    """

    job: FillJob
    source: ArchiveSource
    names: tuple[str, ...]
    sea: xr.DataArray | None
    lakes: bool | None
    seed: int
    transform: Asked
    members: int | None
    lender: FillJob | None
    grid: list[Any]

    def request(
        self, method: Method | str | None, *, update: bool, refit: bool
    ) -> tuple[dict[str, Any], Method | None]:
        """Return the request that ``job.json`` keeps, and the method if it is still to be fitted.

        Raises
        ------
        OptionError, InputError, WriteError
            The options contradict what the output was filled with.
        """
        finished = self.job.finished
        if self.job.out.exists() and finished is None:
            raise WriteError(
                f"cannot write {self.job.out}: it was not filled as an archive, and cannot go on; "
                "remove it and fill it with --update from the start, or choose another output"
            )
        # All runs of one output agree on these.
        common = {
            "variables": list(self.names),
            "quality_level": self.source.quality_level,
            "l2p_flags": list(self.source.l2p_flags),
            "group": self.source.group,
            "grid": self.grid,
            # units of another size would number and chunk otherwise
            "core": list(sampling.CORE),
        }
        if finished is not None:
            if update and not refit and self.lender is not None:
                raise OptionError(
                    f"{self.job.out} has a fitted method of its own; leave out --like, or add "
                    "--refit"
                )
            if (update and not refit) or self._is_completed(finished, method):
                return self._continued(finished, method, common), None
            if not refit:
                raise OptionError(
                    f"{self.job.out} is filled already; --update fills its new days, --refit fills "
                    "all again"
                )
        elif update and self.job.begun is None:
            log.info("%s is not there yet: all of it is filled", self.job.out)
        # What is not asked for is absent, as from the requests of earlier versions.
        if self.lakes is not None:
            common["lakes"] = self.lakes
        if self.members:
            common["members"] = self.members
        mode = "first" if finished is None else "refit"
        if self.lender is not None:
            return self._borrowed(self.lender, method, common) | {"mode": mode}, None
        chosen = chosen_method(method, self.seed)
        check_members(chosen, self.members or 0)
        request = {
            **common,
            "mode": mode,
            "seed": self.seed,
            "transform": wanted_space(self.transform, chosen),
            **_described(method, self.seed),
        }
        # As job.json gives it back: a resumed run compares it with what was read there.
        return json.loads(json.dumps(request)), chosen

    def _is_completed(self, finished: dict[str, Any], method: Method | str | None) -> bool:
        """Whether opening the job has just completed the very run that is asked for.

        That run was cut short while its output was put in place; asked for again, it has nothing
        left to fill.
        """
        same_members = self.members in (None, finished.get("members", 0))
        if not self.job.ended or not same_members:
            return False
        if self.lender is not None:
            return bool(finished.get("like") == str(self.lender.out.resolve()))
        same_transform = self.transform in ("auto", transform_of(finished))
        return same_transform and _described(method, self.seed) == _method_of(finished)

    def _borrowed(
        self, lender: FillJob, method: Method | str | None, common: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the request of a run that uses the fitted method of another output."""
        lent = lender.finished
        if lent is None:
            raise OptionError(
                f"{lender.out} was not filled as an archive: it has no fitted method to lend"
            )
        if lent["grid"] != common["grid"]:
            raise InputError(
                f"{lender.out} lends a method for the grid {lent['grid']}, the archive has "
                f"{common['grid']}"
            )
        if common.get("lakes") != lent.get("lakes"):
            raise OptionError(
                f"{lender.out} was filled with lakes {lent.get('lakes')}, not "
                f"{common.get('lakes')}; use the same for both"
            )
        if method is not None or lent["variables"] != common["variables"]:
            raise OptionError(
                f"{lender.out} lends {lent['method']} for {', '.join(lent['variables'])}; leave "
                "out the method, and name these variables"
            )
        self._check_transform(lender, lent)
        if self.members:
            for name in self.names:
                check_fitted(name, Model.load(lender.model(name)), self.members)
        taken = {key: lent[key] for key in ("seed", "method", "options")}
        taken["transform"] = transform_of(lent)
        return common | taken | {"like": str(lender.out.resolve())}

    def _continued(
        self, finished: dict[str, Any], method: Method | str | None, common: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the request of a run that adds days to the output, by the method it has."""
        for key, value in common.items():
            # what older versions could not be asked for is not in their requests
            if finished.get(key) != value:
                raise OptionError(
                    f"{self.job.out} was filled with {key} {finished.get(key)}, not {value}; "
                    "--refit fills all again"
                )
        self._check_transform(self.job, finished)
        # Another version may estimate otherwise, and old and new days would not fit together.
        if finished["version"] != __version__:
            raise OptionError(
                f"{self.job.out} was filled by sstfill {finished['version']}, this is "
                f"{__version__}; go on with that version, or --refit fills all again"
            )
        if method is not None:
            asked = _described(method, finished["seed"])
            if asked != _method_of(finished):
                raise OptionError(
                    f"{self.job.out} was filled by {finished['method']} "
                    f"{format_options(finished['options'])}, not {asked['method']} "
                    f"{format_options(asked['options'])}; --refit fills all again"
                )
        if self.lakes is not None and self.lakes != finished.get("lakes"):
            raise OptionError(
                f"{self.job.out} was filled with lakes {finished.get('lakes')}, not {self.lakes}; "
                "--refit fills all again"
            )
        drawn = finished.get("members", 0)
        if self.members not in (None, drawn):
            raise OptionError(
                f"{self.job.out} was filled with {drawn} members, not {self.members}; leave it out "
                "to go on with these, or fill all again with --refit, or to another output"
            )
        kept = config.without(finished, ("format", "version"))
        return kept | {"mode": "update"}

    def _check_transform(self, job: FillJob, finished: dict[str, Any]) -> None:
        """Refuse another transform than that of a finished output; ``auto`` takes it over."""
        used = transform_of(finished)
        if self.transform not in ("auto", used):
            raise OptionError(
                f"{job.out} was filled with transform={used!r}, not {self.transform!r}; --refit "
                "fills all again"
            )


def check_fitted(name: str, model: Model, members: int) -> None:
    """Raise `OptionError` where members are asked of a fitted method that cannot draw, or drew them
    with other tails.
    """
    if members and not isinstance(model.fitted, FittedSimulates):
        raise OptionError(
            f"members={members}: the method that was fitted for {name!r} cannot draw members; "
            "leave it out, or fit another: sstfill fill --method NAME --members N"
        )
    # In one store there would be members of two kinds.
    if members and model.tails_seed is None and not model.scale.distribution.is_gaussian:
        raise OptionError(
            f"members={members}: the method of {name!r} was fitted by an earlier version of "
            "sstfill, whose members differ from those of today; fit one anew: --refit, or --method "
            "NAME into another output"
        )


def transform_of(request: dict[str, Any]) -> str:
    """Return the transform of a request; one that earlier code wrote had none."""
    return str(request.get("transform", "none"))


def _described(method: Method | str | None, seed: int) -> dict[str, Any]:
    """Return a method's name and options as JSON gives them back: lists for tuples."""
    chosen = chosen_method(method, seed)
    described: dict[str, Any] = json.loads(
        json.dumps({"method": chosen.name, "options": config.options(chosen)})
    )
    return described


def _method_of(request: dict[str, Any]) -> dict[str, Any]:
    return {"method": request["method"], "options": request["options"]}


def describe_grid(ds: xr.Dataset, names: Sequence[str]) -> list[Any]:
    """Return what tells one grid from another: size, ends of both axes, digest of all positions."""
    field = grid.standardise(ds[names[0]])
    for name in names:
        other = grid.standardise(ds[name])
        if other.shape != field.shape:
            raise InputError(
                f"{name!r} has shape {other.shape}, {names[0]!r} {field.shape}; fill them one by "
                "one: --variable"
            )
    described: list[Any] = list(field.shape[1:])
    digest = hashlib.sha256()
    positions = [field[c].values for c in ("lat", "lon") if c in field.coords]
    for values in positions:
        # Single and double precision positions of one product differ beyond five decimals.
        rounded = values.astype(np.float64).round(5)
        digest.update(rounded.tobytes())
        described.append([f"{end:g}" for end in rounded.ravel()[[0, -1]]])
    if positions:
        described.append(digest.hexdigest()[:8])
    return described


def format_options(options: dict[str, Any]) -> str:
    """Return the options of a method as they stand in a message."""
    return "(" + ", ".join(f"{k}={v}" for k, v in options.items()) + ")"
