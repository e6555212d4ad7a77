# SPDX-License-Identifier: Apache-2.0
"""Gap-filling methods; importing this package registers them all in `METHODS`."""

from sstfill.methods.auto.method import Auto
from sstfill.methods.base import FittedMethod, Method
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.eof.climatology import Climatology
from sstfill.methods.eof.dineof import Dineof
from sstfill.methods.gan.method import Gan
from sstfill.methods.interpolation.interpolate import Interpolate
from sstfill.methods.oi.method import Oi
from sstfill.methods.patchmatch.method import PatchMatch
from sstfill.methods.registry import METHODS, method_class, register

__all__ = [
    "METHODS",
    "Auto",
    "BayesEof",
    "Climatology",
    "Dineof",
    "FittedMethod",
    "Gan",
    "Interpolate",
    "Method",
    "Oi",
    "PatchMatch",
    "method_class",
    "register",
]
