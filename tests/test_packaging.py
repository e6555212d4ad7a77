# SPDX-License-Identifier: Apache-2.0
"""What is shipped: every file of the package in the wheel, and the recipes of other packagers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CONDA = {"dask": "dask-core", "netCDF4": "netcdf4", "torch": "pytorch"}
"""Names in conda-forge that differ."""
LEFT_OUT = {"__pycache__"}


def files_of_the_package() -> set[str]:
    """Files in the tree of the package, recipes among them, as the wheel should hold them."""
    found = set()
    for folder in ("sstfill", "recipes"):
        inside = Path("sstfill/recipes") if folder == "recipes" else Path("sstfill")
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and not LEFT_OUT & set(path.parts):
                found.add((inside / path.relative_to(ROOT / folder)).as_posix())
    return found


@pytest.mark.skipif(
    not (ROOT / "sstfill" / "recipes").is_dir(), reason="the tests do not lie in the source tree"
)
def test_the_wheel_holds_every_file_of_the_package_and_no_other(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("sstfill", "recipes", "tests/nightly"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    # The frontend `build` would download setuptools; its backend is called here instead.
    code = "import sys; from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = source.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    assert names == files_of_the_package()
    wanted = ("py.typed", "accessor.pyi", "report/base.html.jinja", "nightly/page.html.jinja")
    for part in (*wanted, "models/compact/weights.safetensors", "recipes/train/oceans.toml"):
        assert f"sstfill/{part}" in names
    assert f"Version: {PROJECT['version']}\n" in text and "License-File: LICENSE" in text


def requirement(text: str) -> tuple[str, str]:
    """Name and versions of a requirement, without blanks."""
    found = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*([<>=!~][^#;]*)?", text.strip())
    assert found, text
    return found[1], (found[2] or "").replace(" ", "")


def conda_recipe() -> dict[str, Any]:
    text = (ROOT / "conda" / "meta.yaml").read_text("utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    return yaml.safe_load(environment.from_string(text).render(PYTHON="python"))


def test_the_conda_recipe_requires_what_the_package_requires() -> None:
    recipe = conda_recipe()
    assert list(recipe) == [  # the order of conda-forge's linter
        *("package", "source", "build", "requirements", "test", "about", "extra")
    ]
    assert recipe["package"] == {"name": PROJECT["name"], "version": PROJECT["version"]}
    assert recipe["about"]["license"] == PROJECT["license"]
    assert recipe["about"]["summary"] == PROJECT["description"]
    assert (ROOT / recipe["about"]["license_file"]).is_file()
    script = PROJECT["scripts"]["sstfill"]
    assert recipe["build"]["entry_points"] == [f"sstfill = {script}"]
    expected = {("python", PROJECT["requires-python"].replace(" ", ""))}
    for text in PROJECT["dependencies"]:
        name, versions = requirement(text)
        expected.add((CONDA.get(name, name), versions))
    assert {requirement(text) for text in recipe["requirements"]["run"]} == expected
    optional = dict(map(requirement, recipe["requirements"]["run_constrained"]))
    extras = PROJECT["optional-dependencies"]
    for extra in ("plot", "copernicus", "clouds", "video", "completion"):
        for text in extras[extra]:
            name, versions = requirement(text)
            name = {"matplotlib": "matplotlib-base"}.get(name, name)
            assert optional[name] == versions, name


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    for author in citation["authors"]:
        assert {"name"} == set(author) or {"family-names", "given-names"} <= set(author)


def test_issue_forms_have_what_a_form_needs() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[0-9]*.yml"))
    assert len(forms) == 3
    for path in forms:
        form = yaml.safe_load(path.read_text("utf-8"))
        assert {"name", "description", "body"} <= set(form), path.name
        identifiers = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(set(identifiers)) == len(identifiers)
        for part in form["body"]:
            assert part["type"] in ("textarea", "input", "markdown", "dropdown")
            assert part["attributes"]["label"]
