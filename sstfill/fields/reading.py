# SPDX-License-Identifier: Apache-2.0
"""How a dataset is read, rule by rule: files, stores and datasets in memory go the same way.

Each rule is a function of a dataset, in the module of what it is about; it changes nothing that is
right already, and logs what it changed.
"""

from __future__ import annotations

import xarray as xr

from sstfill.fields import dates, missing, positions


def understood(ds: xr.Dataset) -> xr.Dataset:
    """Apply the rules of reading to a decoded dataset; what was understood before stays as it is.

    Attributes and encoding stay.
    """
    ds = positions.declare(ds)
    ds = dates.declare(ds)
    return missing.mask_missing(ds)
