# SPDX-License-Identifier: Apache-2.0
"""Methods that nothing needs to be settled of: they fill a window as if it were a series of its
own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.errors import InputError
from sstfill.fields.patches import Patch, Shape
from sstfill.methods.base import Method, method_class
from sstfill.methods.common.fitted_store import read_state, write_state
from sstfill.methods.fitted import FITTINGS, STEPS, Archive, Fitting, Window

log = logging.getLogger(__name__)
REACH: Shape = (STEPS, 32, 32)
"""What is seen around a work unit."""


@dataclass(frozen=True)
class FittedWindowed:
    """A method as it is: each window is filled from what it shows, and nothing else."""

    method: Method

    @property
    def reach(self) -> Shape:
        """See `sstfill.methods.fitted.FittedMethod`."""
        return REACH

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.fitted.FittedMethod`; what the method refuses (too few observations)
        stays unfilled.
        """
        shown = narrowed(window, REACH)
        inside = shown.inside
        unknown = xr.Dataset({"mean": xr.full_like(inside, np.nan).drop_attrs()}, inside.coords)
        if shown.obs.sizes["time"] < self.method.min_times or not bool(shown.obs.notnull().any()):
            return unknown
        try:
            found = self.method.reconstruct(shown.obs, shown.sea)
        except InputError as reason:
            log.info("%s left a window unfilled: %s", self.method.name, reason)
            return unknown
        fields = {
            name: found[name].transpose(*shown.obs.dims)
            for name in ("mean", "error")
            if name in found
        }
        return xr.Dataset(
            {name: field[shown.patch.within] for name, field in fields.items()}, attrs=found.attrs
        )

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.fitted.FittedMethod`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_state(folder, self.method.name, {"options": config.options(self.method)})


def narrowed(window: Window, reach: Shape) -> Window:
    """Show no more of a window than lies within reach of what is asked for, so that the rest cannot
    matter.
    """
    inside, seen = window.patch
    sides = zip(inside, seen, reach, strict=True)
    t, y, x = (slice(max(i.start - n, s.start), min(i.stop + n, s.stop)) for i, s, n in sides)
    patch = Patch(inside, (t, y, x))
    times, rows, columns = Patch((t, y, x), seen).within
    return replace(
        window,
        obs=window.obs[times, rows, columns],
        sea=window.sea[rows, columns],
        patch=patch,
        sample=window.sample[times],
    )


def kind(name: str) -> Fitting:
    """How a method of this name is pinned; as it is, unless it has a way of its own."""
    return FITTINGS.get(name, WINDOWED)


def fit_archive(method: Method, archive: Archive, folder: Path) -> FittedWindowed:
    """Write down the options of a method."""
    found = FittedWindowed(method)
    found.save(folder)
    return found


def load(folder: Path) -> FittedWindowed:
    """Read what `pin` wrote; `OptionError` if the method is not registered here."""
    state = read_state(folder)
    return FittedWindowed(config.build(method_class(state["kind"]), state["options"]))


WINDOWED = Fitting(fit_archive, load)
