# SPDX-License-Identifier: Apache-2.0
"""A method of one's own, as docs/tutorials/own-method.md writes it, is a method like any other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import sstfill
from sstfill import cli
from sstfill.errors import OptionError
from sstfill.methods import METHODS, method_class, registry
from sstfill.methods.common import sampling

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "own-method.md"
CELL = r"```\{code-cell\} ipython3\n(.*?)```"
CLASS, *USES = re.findall(CELL, PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(autouse=True)
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods that a test registers are gone after it."""
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))


def run(code: str, names: dict[str, Any]) -> None:
    """Run code as written: it does not inherit this module's `annotations`."""
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)


@pytest.fixture
def own(methods: None) -> None:
    run(CLASS, {"__name__": __name__})


@pytest.fixture
def ocean() -> xr.Dataset:
    return sstfill.synthetic.ocean(shape=(12, 16, 16), seed=1)


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, modules: dict[str, str], entries: str
) -> None:
    """Put a package on the path that names methods in its metadata."""
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sstfill.methods]\n{entries}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(METHODS, "_looked_up", False)


def test_the_page_runs_as_written() -> None:
    names: dict[str, Any] = {"__name__": __name__}
    run(CLASS, names)
    for use in USES:
        run(use, names)
    filled = names["filled"]
    assert isinstance(filled, xr.Dataset) and int((filled["sst_source"] == 1).sum()) > 100


def test_the_accessor_and_the_command_know_it(
    own: None, ocean: xr.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = sstfill.fill(ocean, method_class("running_mean")(window=5), variables="sst")
    found = ocean.gapfill.running_mean(window=5, variables="sst")
    xr.testing.assert_equal(found, expected)
    xr.testing.assert_equal(ocean.sst.gapfill.running_mean(window=5), found["sst"])
    with pytest.raises(TypeError, match="windows"):
        ocean.gapfill.running_mean(windows=5)
    sstfill.io.write(ocean[["sst"]], tmp_path / "in.nc")
    words = ["fill", str(tmp_path / "in.nc"), "--out", str(tmp_path / "out.nc"), "--quiet"]
    assert cli.main([*words, "--method", "running_mean", "--window", "5"]) == 0
    with xr.open_dataset(tmp_path / "out.nc") as written:
        assert '"window": 5' in written["sst"].attrs["sstfill_method"]
    assert cli.main(["methods"]) == 0
    assert "running_mean" in capsys.readouterr().out


def test_archives_ask_it_about_each_work_unit(own: None, ocean: xr.Dataset, tmp_path: Path) -> None:
    archive = sampling.gather(ocean.sst, ocean.sea.astype(bool))
    method = method_class("running_mean")(window=5)
    fitted = registry.fit(method, archive, tmp_path / "model")
    window = archive.trials[0]
    read = registry.load(tmp_path / "model")
    xr.testing.assert_identical(read.estimate(window), fitted.estimate(window))


def test_a_method_of_an_installed_package_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ocean: xr.Dataset
) -> None:
    plain = CLASS.replace("@register\n", "")  # the entry point registers it
    install(tmp_path, monkeypatch, {"my_package": plain}, "running_mean = my_package:RunningMean")
    assert method_class("running_mean").__module__ == "my_package"
    assert "running_mean" in METHODS and "running_mean" in list(METHODS)
    assert ocean.sst.gapfill.running_mean(window=3).notnull().all("time").any()
    assert METHODS["climatology"] is sstfill.Climatology


@pytest.mark.parametrize(
    "modules, entry, reason",
    [
        ({}, "broken = no_such_package:Nothing", "No module named 'no_such_package'"),
        ({"failing": "1 / 0"}, "broken = failing:Nothing", "division by zero"),
        ({"other": "class Nothing: name = 'nothing'"}, "broken = other:Nothing", "not a method"),
        (
            {"thief": CLASS.replace("@register\n", "").replace("running_mean", "oi")},
            "broken = thief:RunningMean",
            "there is another method named 'oi'",
        ),
    ],
    ids=["missing", "failing", "no method", "taken"],
)
def test_a_broken_entry_point_is_one_warning(
    modules: dict[str, str],
    entry: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    install(tmp_path, monkeypatch, modules, entry)
    assert "broken" not in METHODS and METHODS["oi"] is sstfill.Oi
    assert len(list(METHODS)) == len(METHODS)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and reason in record.getMessage()
    with pytest.raises(OptionError, match="no method 'broken'"):
        method_class("broken")
    assert len(caplog.records) == 1


def test_every_method_of_the_package_is_registered_with_it() -> None:
    assert {"auto", "oi", "dineof", "bayes_eof", "climatology", "interpolate", "patchmatch"} < set(
        METHODS
    )
    assert METHODS is sstfill.METHODS
