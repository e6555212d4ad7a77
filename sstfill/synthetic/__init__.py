# SPDX-License-Identifier: Apache-2.0
"""Synthetic oceans: surface quasi-geostrophic SST, moving clouds, a coast, large EOF series."""

from sstfill.synthetic.coast import land
from sstfill.synthetic.cover import clouds
from sstfill.synthetic.modes import eof_series
from sstfill.synthetic.scene import ocean
from sstfill.synthetic.temperature import UNSTEADY, sst

__all__ = ["UNSTEADY", "clouds", "eof_series", "land", "ocean", "sst"]
