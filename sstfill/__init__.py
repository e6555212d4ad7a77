# SPDX-License-Identifier: Apache-2.0
"""sstfill fills the gaps that clouds leave in satellite archives, and says how wrong each filled pixel may be.

The ways in: ``ds.gapfill`` on every xarray Dataset and DataArray once this package is imported, and `fill`.

>>> import sstfill
>>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
>>> filled = ocean.gapfill.interpolate(variables="sst")
>>> [name for name in filled.data_vars if name.startswith("sst")]
['sst', 'sst_source', 'sst_error']
"""

from sstfill import (
    archive,
    config,
    errors,
    evaluation,
    gaps,
    grid,
    io,
    methods,
    metrics,
    occlusion,
    plot,
    progress,
    sea,
    synthetic,
)
from sstfill.accessor import DataArrayGapfill, DatasetGapfill
from sstfill.auto import Auto
from sstfill.checkpoint import Checkpoint
from sstfill.errors import InputError, OptionError, ReadError, SstfillError, WriteError
from sstfill.evaluation import Scorecard, score
from sstfill.fill import fill  # the function takes the name of its module, which stays in sys.modules
from sstfill.methods import METHODS, BayesEof, Climatology, Dineof, Gan, Interpolate, Method, Oi, PatchMatch
from sstfill.sources.recipe import load_recipe
from sstfill.training.options import TrainOptions
from sstfill.training.train import train
from sstfill.version import __version__

__all__ = [
    "METHODS",
    "Auto",
    "BayesEof",
    "Checkpoint",
    "Climatology",
    "DataArrayGapfill",
    "DatasetGapfill",
    "Dineof",
    "Gan",
    "InputError",
    "Interpolate",
    "Method",
    "Oi",
    "OptionError",
    "PatchMatch",
    "ReadError",
    "Scorecard",
    "SstfillError",
    "TrainOptions",
    "WriteError",
    "__version__",
    "archive",
    "config",
    "errors",
    "evaluation",
    "fill",
    "gaps",
    "grid",
    "io",
    "load_recipe",
    "methods",
    "metrics",
    "occlusion",
    "plot",
    "progress",
    "score",
    "sea",
    "synthetic",
    "train",
]
