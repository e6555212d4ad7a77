# SPDX-License-Identifier: Apache-2.0
"""Pictures of filled series and of scorecards; matplotlib is imported when one is drawn."""

from sstfill.plot.draws import members
from sstfill.plot.maps import maps, panels
from sstfill.plot.output import save
from sstfill.plot.scores import scorecard

__all__ = ["maps", "members", "panels", "save", "scorecard"]
