# SPDX-License-Identifier: Apache-2.0
"""Methods pinned to an archive larger than memory: `pin` settles what they need to know, `load`
reads that again.

>>> import tempfile
>>> import sstfill.synthetic
>>> from sstfill.methods import Interpolate
>>> from sstfill.methods.common.sampling import gather
>>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
>>> archive = gather(ocean.sst, ocean.sea.astype(bool))
>>> pinned = pin(Interpolate(), archive, Path(tempfile.mkdtemp()) / "model")
>>> pinned.estimate(archive.trials[0])["mean"].shape
(8, 16, 16)
"""

from __future__ import annotations

from pathlib import Path

import sstfill.methods.auto.fitted
import sstfill.methods.eof.fitted
import sstfill.methods.gan.fitted
import sstfill.methods.interpolation.fitted
import sstfill.methods.oi.fitted  # noqa: F401  (enters its kinds)
from sstfill.errors import InputError
from sstfill.methods.base import Method
from sstfill.methods.common import fitted_windowed
from sstfill.methods.fitted import FITTINGS, Archive, FittedMethod, Points, Window, saved_method

__all__ = ["FITTINGS", "Archive", "FittedMethod", "Points", "Window", "load", "fit"]


def fit(method: Method, archive: Archive, folder: Path) -> FittedMethod:
    """Settle what a method needs to know of an archive, and write it into a folder, which is
    created.

    Parameters
    ----------
    method
        One that has no way of its own is asked about each window as about a series of its own.
    archive
        See `sstfill.methods.common.sampling.gather`.
    folder
        New or empty.

    Raises
    ------
    InputError
        If the archive has too few images, or the method cannot be fitted to it.
    """
    if (n := archive.obs.sizes["time"]) < (least := getattr(method, "min_times", 1)):
        raise InputError(
            f"{method.name} needs at least {least} time steps, the archive has {n}; use method 'interpolate'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    found: FittedMethod = fitted_windowed.kind(method.name).fit(method, archive, folder)
    return found


def load(folder: Path) -> FittedMethod:
    """Read what `pin` or `FittedMethod.save` wrote; `ReadError` if there is nothing such."""
    return fitted_windowed.kind(saved_method(folder)).load(folder)
