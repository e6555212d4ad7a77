# SPDX-License-Identifier: Apache-2.0
"""Fill archives larger than memory, unit by unit, on one machine or a cluster."""

from sstfill.archive.run import FillOutcome, fill_archive
from sstfill.archive.verify import Verified, verify

__all__ = ["FillOutcome", "Verified", "fill_archive", "verify"]
