# SPDX-License-Identifier: Apache-2.0
"""How a dataset is read, rule by rule: files, stores and datasets in memory go the same way.

Before a file is decoded, the numbers in it that stand for missing values are declared to the
decoder: `sentinels.declare`, through `sstfill.io.backends`. Then the rules below apply. What they
took as missing is counted by `sstfill.io.missing_values`.

Each rule is a function of a dataset, in the module of what it is about; it changes nothing that is
right already, and logs what it changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from sstfill.fields.reading import dates, missing, positions


def understood(ds: xr.Dataset, names: Sequence[str] | None = None) -> xr.Dataset:
    """Apply the rules of reading to a decoded dataset; what was understood before stays as it is.

    Attributes and encoding stay.

    Parameters
    ----------
    ds
        Decoded by xarray. Of a file opened by `sstfill.io`, numbers that stand for missing values
        were declared before, see `sstfill.fields.reading.sentinels`.
    names
        The fields; by default all that could be filled.
    """
    ds = positions.declare(ds)
    ds = dates.declare(ds)
    return missing.mask_missing(ds, names)
