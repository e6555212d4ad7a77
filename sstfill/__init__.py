# SPDX-License-Identifier: Apache-2.0
"""sstfill fills the gaps that clouds leave in satellite archives, and estimates the error.

Use the accessor ``ds.gapfill``, which every xarray Dataset and DataArray has once this package is
imported, or the function `fill`.

>>> import sstfill
>>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
>>> filled = ocean.gapfill.interpolate(variables="sst")
>>> [name for name in filled.data_vars if name.startswith("sst")]
['sst', 'sst_source', 'sst_error']

Importing the package loads xarray and nothing else; its names are imported when first used.
"""

from __future__ import annotations

import importlib
import os
import sys
import types

# as in `typing`, which is slow to import: the command catches signals only after this import
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sstfill import (
        archive,
        config,
        errors,
        evaluation,
        io,
        methods,
        occlusion,
        plot,
        progress,
        synthetic,
    )
    from sstfill.accessor import DataArrayGapfill, DatasetGapfill
    from sstfill.errors import InputError, OptionError, ReadError, SstfillError, WriteError
    from sstfill.evaluation import Scorecard, score
    from sstfill.fields import gaps, grid
    from sstfill.fields.reading import sea
    from sstfill.fill import fill
    from sstfill.methods import (
        METHODS,
        Auto,
        BayesEof,
        Climatology,
        Dineof,
        Gan,
        Interpolate,
        Method,
        Oi,
        PatchMatch,
    )
    from sstfill.nn.checkpoint.checkpoint import Checkpoint
    from sstfill.sources.recipe import load_recipe
    from sstfill.training.options import TrainOptions
    from sstfill.training.train import train
    from sstfill.validation import metrics
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

_HOMES = {
    "sstfill.accessor": ("DataArrayGapfill", "DatasetGapfill"),
    "sstfill.nn.checkpoint.checkpoint": ("Checkpoint",),
    "sstfill.errors": ("InputError", "OptionError", "ReadError", "SstfillError", "WriteError"),
    "sstfill.evaluation": ("Scorecard", "score"),
    "sstfill.methods": (
        "METHODS",
        "Auto",
        "BayesEof",
        "Climatology",
        "Dineof",
        "Gan",
        "Interpolate",
        "Method",
        "Oi",
        "PatchMatch",
    ),
    "sstfill.sources.recipe": ("load_recipe",),
    "sstfill.training.options": ("TrainOptions",),
    "sstfill.training.train": ("train",),
    "sstfill.version": ("__version__",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
"""The module of each public name. The other public names are modules, and `fill`."""


_MODULES = {
    "gaps": "sstfill.fields.gaps",
    "grid": "sstfill.fields.grid",
    "metrics": "sstfill.validation.metrics",
    "sea": "sstfill.fields.reading.sea",
}
"""Public modules that lie deeper in the package."""


def __getattr__(name: str) -> Any:
    """Import a public name, or a module of this package, when it is first asked for."""
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOME_OF:
        found = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = found
        return found
    if not name.startswith("_"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":  # the module exists, but not one it imports
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(types.ModuleType):
    """This package, whose attribute `fill` is the function although there is a module of that name.

    The import system sets a submodule as an attribute of its package whenever it loads one; a plain
    attribute would therefore be the function or the module, depending on what was imported first.
    """

    @property
    def fill(self) -> Any:
        if "fill" not in vars(self):
            vars(self)["fill"] = importlib.import_module("sstfill.fill").fill
        return vars(self)["fill"]

    @fill.setter
    def fill(self, value: Any) -> None:
        if not isinstance(value, types.ModuleType):
            vars(self)["fill"] = value


sys.modules[__name__].__class__ = _Package


class _AccessorAtFirstUse:
    """Stands for an accessor class until ``.gapfill`` is used, which imports every method."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, data: Any) -> Any:
        return self._class()(data)

    def __getattr__(self, name: str) -> Any:
        """Look up an attribute of the class, as ``help(xarray.Dataset.gapfill.dineof)`` does."""
        return getattr(self._class(), name)

    def _class(self) -> Any:
        return getattr(importlib.import_module("sstfill.accessor"), self._name)


def _register_accessors() -> None:
    import xarray as xr

    xr.register_dataset_accessor("gapfill")(_AccessorAtFirstUse("DatasetGapfill"))
    xr.register_dataarray_accessor("gapfill")(_AccessorAtFirstUse("DataArrayGapfill"))


def _is_the_command() -> bool:
    """Whether this process is the command ``sstfill``, which uses no accessor.

    It need not import xarray before it catches signals and answers ``--help``.
    """
    # pathlib is slow to import
    program = os.path.basename(next(iter(getattr(sys, "argv", [])), ""))  # noqa: PTH119
    if program == "-m":  # so it is while Python looks for what is to be run
        following = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else []
        return following[:1] == ["sstfill"]
    return program in ("sstfill", "sstfill.exe", "sstfill-script.py")


if not _is_the_command():
    _register_accessors()
