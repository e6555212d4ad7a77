# SPDX-License-Identifier: Apache-2.0
"""Gap-filling methods; importing this package registers them all in `METHODS`."""

from sstfill.methods.base import METHODS, Method, method_class
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.eof.dineof import Dineof
from sstfill.methods.gan.method import Gan
from sstfill.methods.interpolation.climatology import Climatology
from sstfill.methods.interpolation.interpolate import Interpolate
from sstfill.methods.oi.method import Oi
from sstfill.methods.patchmatch.method import PatchMatch

__all__ = [
    "METHODS",
    "BayesEof",
    "Climatology",
    "Dineof",
    "Gan",
    "Interpolate",
    "Method",
    "Oi",
    "PatchMatch",
    "method_class",
]
