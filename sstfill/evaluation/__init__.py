# SPDX-License-Identifier: Apache-2.0
"""Scores of methods at observed pixels that were hidden from them under transplanted clouds."""

from sstfill.evaluation.scorecard import Scorecard
from sstfill.evaluation.withheld import score, score_against

__all__ = ["Scorecard", "score", "score_against"]
