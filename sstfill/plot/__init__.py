# SPDX-License-Identifier: Apache-2.0
"""Pictures of filled series, scorecards and trainings; matplotlib is imported when one is drawn.

Each function returns a figure that Jupyter shows, and draws into axes or a figure of yours where
`ax` or `fig` is given. `save` writes it.
"""

from sstfill.plot.draws import members
from sstfill.plot.film import Animation, animation
from sstfill.plot.kinds import picture
from sstfill.plot.maps import maps, panels
from sstfill.plot.output import save
from sstfill.plot.scores import scorecard
from sstfill.plot.training import training

__all__ = [
    "Animation",
    "animation",
    "maps",
    "members",
    "panels",
    "picture",
    "save",
    "scorecard",
    "training",
]
