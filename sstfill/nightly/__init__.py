# SPDX-License-Identifier: Apache-2.0
"""The nightly job: download new days, fill them, score them, and report."""

from sstfill.nightly.night import EXIT, Night
from sstfill.nightly.recipe import NightlyRecipe, load_nightly
from sstfill.nightly.run import run_night

__all__ = ["EXIT", "Night", "NightlyRecipe", "load_nightly", "run_night"]
