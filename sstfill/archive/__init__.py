# SPDX-License-Identifier: Apache-2.0
"""Archives of any size: filled piece by piece, night after night, on one machine or a cluster, with
nothing lost.
"""

from sstfill.archive.run import FillOutcome, fill_archive
from sstfill.archive.verify import Verified, verify

__all__ = ["FillOutcome", "Verified", "fill_archive", "verify"]
