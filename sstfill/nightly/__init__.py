# SPDX-License-Identifier: Apache-2.0
"""The nightly job: bring new days in, fill them, score them, report; what it returns says whether
to page somebody.
"""

from sstfill.nightly.night import EXIT, Night
from sstfill.nightly.recipe import NightlyRecipe, load_nightly
from sstfill.nightly.run import run_night

__all__ = ["EXIT", "Night", "NightlyRecipe", "load_nightly", "run_night"]
