# SPDX-License-Identifier: Apache-2.0
"""Methods without a fit of their own: they fill each window as if it were a series of its own."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.errors import InputError
from sstfill.fields.patches import Shape
from sstfill.methods.base import STEPS, Method, Window
from sstfill.methods.common.fitted_store import read_state, write_state

log = logging.getLogger(__name__)
HALO: Shape = (STEPS, 32, 32)
"""Margin of a work unit, in images and pixels."""


@dataclass(frozen=True)
class FittedWindowed:
    """A method that fills each window from what the window shows, and nothing else."""

    method: Method

    @property
    def halo(self) -> Shape:
        """See `sstfill.methods.base.FittedMethod`."""
        return HALO

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.base.FittedMethod`; what the method refuses (too few observations)
        stays unfilled.
        """
        # A window may show more, for other methods of a blend; the estimate must not depend on it.
        shown = window.narrowed(HALO)
        inside = shown.inside
        unknown = xr.Dataset({"mean": xr.full_like(inside, np.nan).drop_attrs()}, inside.coords)
        # At an end of a short archive a window may hold too few images, which is no error of the
        # user's.
        if shown.obs.sizes["time"] < self.method.min_times or not bool(shown.obs.notnull().any()):
            return unknown
        try:
            found = self.method.reconstruct(shown.obs, shown.sea)
        except InputError as reason:
            log.info("%s left a window unfilled: %s", self.method.name, reason)
            return unknown
        fields = {}
        for name in ("mean", "error"):
            if name in found:
                fields[name] = found[name].transpose(*shown.obs.dims)[shown.patch.within]
        return xr.Dataset(fields, attrs=found.attrs)

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.base.FittedMethod`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_state(folder, self.method.name, {"options": config.options(self.method)})

    @classmethod
    def load(cls, folder: Path, method: type[Any]) -> FittedWindowed:
        """Read what `save` wrote, of a method of this class."""
        return cls(config.build(method, read_state(folder)["options"]))
