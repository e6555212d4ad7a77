# SPDX-License-Identifier: Apache-2.0
"""What `import sstfill` gives."""

from __future__ import annotations

import importlib
import types

import pytest
import xarray as xr

import sstfill
from sstfill.docstrings import parameters, summary

PUBLIC = {
    *("fill", "score", "Scorecard", "METHODS", "Method", "__version__"),
    *("train", "TrainOptions", "Checkpoint"),
    *("Auto", "BayesEof", "Climatology", "Dineof", "Gan", "Interpolate", "Oi", "PatchMatch"),
    *("DatasetGapfill", "DataArrayGapfill"),
    *("SstfillError", "InputError", "OptionError", "ReadError", "WriteError"),
    *(
        "archive",
        "config",
        "errors",
        "evaluation",
        "gaps",
        "grid",
        "io",
        "load_recipe",
        "methods",
        "metrics",
        "occlusion",
        "plot",
        "progress",
        "sea",
        "synthetic",
    ),
}


def test_public_names() -> None:
    assert set(sstfill.__all__) == PUBLIC
    assert len(sstfill.__all__) == len(PUBLIC)
    for name in PUBLIC:
        assert getattr(sstfill, name) is not None


def test_fill_is_the_function_and_its_module_stays_importable() -> None:
    from sstfill.fill import fill

    assert sstfill.fill is fill
    assert isinstance(importlib.import_module("sstfill.fill"), types.ModuleType)
    assert sstfill.fill is fill  # importing the module again does not take the name back


def test_every_registered_method_is_exported() -> None:
    assert {cls.__name__ for cls in sstfill.METHODS.values()} <= set(sstfill.__all__)


def test_importing_registers_the_accessors() -> None:
    assert isinstance(xr.Dataset().gapfill, sstfill.DatasetGapfill)
    assert isinstance(xr.DataArray(1.0).gapfill, sstfill.DataArrayGapfill)


def test_train_is_the_function() -> None:
    from sstfill.training.train import train

    assert sstfill.train is train
    assert isinstance(importlib.import_module("sstfill.training.train"), types.ModuleType)


def test_parameters_of_a_docstring() -> None:
    class Options:
        """Do a thing.

        Parameters
        ----------
        one, two
            Text of both,
            on two lines.
        three : int
            Another.

        References
        ----------
        four
            No parameter.
        """

    assert parameters(Options) == {
        "one": "Text of both, on two lines.",
        "two": "Text of both, on two lines.",
        "three": "Another.",
    }
    assert summary(Options) == "Do a thing"
    assert summary(type("Long", (), {"__doc__": "Do a thing of\n    two lines.\n\n    More."})) == (
        "Do a thing of two lines"
    )
    assert parameters(types.SimpleNamespace(__doc__=None)) == {}


@pytest.mark.parametrize(
    "cls", [*sstfill.METHODS.values(), sstfill.TrainOptions], ids=lambda cls: cls.__name__
)
def test_every_option_is_explained(cls: type) -> None:
    import dataclasses

    said = parameters(cls)
    assert set(said) == {f.name for f in dataclasses.fields(cls)}
    assert all(said.values())
