# SPDX-License-Identifier: Apache-2.0
"""Gap-filling methods; importing this package registers them all in `METHODS`."""

from sstfill.methods.base import METHODS, Method, method_class
from sstfill.methods.bayes_eof import BayesEof
from sstfill.methods.climatology import Climatology
from sstfill.methods.dineof import Dineof
from sstfill.methods.gan import Gan
from sstfill.methods.interpolation import Interpolate
from sstfill.methods.oi import Oi
from sstfill.methods.patchmatch import PatchMatch

__all__ = [
    "METHODS", "BayesEof", "Climatology", "Dineof", "Gan", "Interpolate", "Method", "Oi", "PatchMatch", "method_class",
]  # fmt: skip
