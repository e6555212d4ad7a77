# SPDX-License-Identifier: Apache-2.0
"""Open CF and GHRSST series from NetCDF and Zarr, and write them whole or not at all."""

from sstfill.io.account import missing_values
from sstfill.io.output.atomic import atomic_path
from sstfill.io.read import open, reading
from sstfill.io.write import claimed, write

__all__ = ["atomic_path", "claimed", "missing_values", "open", "reading", "write"]
