# SPDX-License-Identifier: Apache-2.0
"""Which libraries are imported by what: time is theirs, so that lists of modules are held and not
seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sstfill
from sstfill.cli import parser

HEAVY = (
    *("torch", "safetensors", "numba", "distributed", "pydantic", "tqdm", "zarr", "netCDF4"),
    *("matplotlib", "cartopy", "scipy.stats", "scipy.sparse", "scipy.optimize", "dask.array"),
)
"""What takes long to import and serves some tasks only."""


def loaded(code: str) -> set[str]:
    """Names of the modules that a process of its own has imported after `code`."""
    how = ["-c", code + "\nimport json, sys; sys.stderr.write(json.dumps(list(sys.modules)))"]
    done = subprocess.run([sys.executable, *how], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


def test_importing_the_package_imports_xarray_alone() -> None:
    found = loaded("import sstfill")
    assert "xarray" in found
    assert {name for name in found if name.startswith("sstfill")} == {"sstfill"}
    assert found.isdisjoint({*HEAVY, "scipy", "dask"})


def as_command(*words: str) -> set[str]:
    """Names of the modules that the command has imported at its end."""
    code = f"""
import sys
sys.argv = ["/usr/bin/sstfill", *{list(words)!r}]
from sstfill.cli import main
try:
    status = main()
except SystemExit as end:
    status = end.code
assert status == 0, status
"""
    return loaded(code)


def test_help_imports_nothing_beyond_the_standard_library() -> None:
    found = as_command("--help")
    assert found.isdisjoint(
        {*HEAVY, "numpy", "xarray", "pandas", "scipy", "dask", "sstfill.methods", "sstfill.io"}
    )


def test_info_imports_what_reads(tmp_path: Path) -> None:
    from sstfill.synthetic import ocean

    sstfill.io.write(ocean(shape=(6, 8, 8), seed=1), tmp_path / "in.nc")
    found = as_command("info", str(tmp_path / "in.nc"))
    ours = {
        "sstfill.archive",
        "sstfill.training",
        "sstfill.nightly",
        "sstfill.accessor",
        "sstfill.evaluation",
    }
    serving = {"netCDF4", "dask.array", "scipy.sparse"}
    assert found & ({*HEAVY, *ours} - serving) == set()


TASKS = {
    *("torch", "safetensors", "numba", "cartopy", "matplotlib", "pydantic", "tqdm", "netCDF4"),
    *("zarr", "sstfill.cli"),
}
"""What serves tasks that a session may never come to."""
LIGHT = [
    ("sstfill", TASKS),
    ("sstfill.plot", TASKS),
    ("sstfill.training.options", TASKS),
    ("sstfill.training.recipe", TASKS),
    ("sstfill.training.train", TASKS),
    ("sstfill.nn", ("torch",)),
    ("sstfill.nn.registry", ("torch",)),
    ("sstfill.nn.checkpoint.checkpoint", ("torch",)),
    ("sstfill.fields.scaling", ("torch",)),
    ("sstfill.occlusion", ("torch", "matplotlib", "cartopy")),
    ("sstfill.methods.registry", ("torch", "numba")),
    ("sstfill.methods.oi.method", ("torch", "numba")),
    ("sstfill.methods.oi.covariance_fit", ("torch", "numba")),
    ("sstfill.methods.patchmatch.method", ("torch", "numba")),
    ("sstfill.evaluation.paper.frechet", ("torch",)),
]
"""Modules, in the order in which they may load more, and what none may have loaded so far."""


def test_importing_a_module_loads_nothing_that_some_tasks_only_need() -> None:
    code = f"""
import importlib, sys
for module, heavy in {LIGHT!r}:
    importlib.import_module(module)
    found = [name for name in heavy if name in sys.modules]
    assert not found, (module, found)
"""
    loaded(code)


FIRST = [
    "import sstfill.fill",
    "from sstfill.fill import fill",
    "import sstfill.methods, sstfill.fill, sstfill.archive",
    "from sstfill import fill",
    "import sstfill; sstfill.fill; import sstfill.fill",
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process that has imported libraries")
def test_fill_is_the_function_whatever_was_imported_first() -> None:
    code = f"""
import os, traceback, warnings
import dask.array, scipy.optimize, xarray  # what takes long, and is none of ours
warnings.simplefilter("ignore")
for first in {FIRST!r}:
    child = os.fork()
    if not child:
        try:
            exec(first)
            import sstfill, sys
            assert sstfill.fill is sys.modules["sstfill.fill"].fill
            from sstfill import fill
            assert fill is sstfill.fill
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, first
"""
    loaded(code)


def test_names_are_found_listed_and_may_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import sstfill
missing = set(sstfill.__all__) - set(dir(sstfill))
assert not missing, missing
assert "auto" in sstfill.METHODS
assert sstfill.describe.describe  # a module that is no public name
assert not hasattr(sstfill, "nothing")
try:
    sstfill.nothing
except AttributeError as error:
    assert str(error) == "module 'sstfill' has no attribute 'nothing'"
import xarray
assert "harmonics" in xarray.Dataset.gapfill.climatology.__doc__
assert type(xarray.Dataset().gapfill) is sstfill.DatasetGapfill
from sstfill import *
assert score is sstfill.score
"""
    loaded(code)
    monkeypatch.setattr(sstfill, "fill", None)
    assert sstfill.fill is None


def test_the_command_alone_goes_without_the_accessor() -> None:
    code = "import sys; sys.argv = [{!r}]; import sstfill; print('xarray' in sys.modules)"
    for program, expected in (
        ("/usr/bin/sstfill", "False"),
        ("sstfill.exe", "False"),
        ("mine.py", "True"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(program)], capture_output=True, text=True
        )
        assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_the_package_imports_where_there_is_no_resource_module() -> None:
    """Windows has neither `resource` nor `fcntl`."""
    loaded(
        """
import sys
sys.modules["resource"] = sys.modules["fcntl"] = None
import sstfill, sstfill.archive, sstfill.nightly
from sstfill.archive.unit import peak
assert peak() == 0
"""
    )


@pytest.mark.parametrize("name", sorted(parser.COMMANDS))
def test_every_subcommand_has_its_two_functions(name: str) -> None:
    add, run = parser.COMMANDS[name].parts(name)
    assert callable(add) and callable(run)
