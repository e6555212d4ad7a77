# SPDX-License-Identifier: Apache-2.0
"""How a dataset is read, rule by rule: files, stores and datasets in memory go the same way.

Before a file is decoded, the numbers in it that stand for missing values are declared to the
decoder: `sentinels.declare`, through `sstfill.io.backends`. Then come names, positions and dates
(`located`), and missing values that the decoder overlooked (`missing.mask_missing`). What was taken
as missing is counted by `sstfill.io.missing_values`.

Each rule is a function of a dataset, in the module of what it is about; it changes nothing that is
right already, and logs what it changed.
"""

from __future__ import annotations

import xarray as xr

from sstfill.fields.reading import dates, positions
from sstfill.fields.reading.variables import named_by_text


def located(ds: xr.Dataset) -> xr.Dataset:
    """Apply the rules that tell which variables are the positions and the times of the fields.

    They come first, because they tell which variables are fields; `missing.mask_missing` follows,
    on those that are chosen. Attributes and encoding stay.
    """
    return dates.declare(positions.declare(named_by_text(ds)))
