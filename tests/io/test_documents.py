# SPDX-License-Identifier: Apache-2.0
"""Documents of any content are read or refused in one line; so are recipes, whatever is written
into them.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sstfill.checks import check_number
from sstfill.errors import OptionError, ReadError, SstfillError
from sstfill.io.untrusted import arrays, documents
from sstfill.nightly import load_nightly
from sstfill.sources.local import PyclesSource, VideoSource
from sstfill.sources.recipe import load_recipe
from sstfill.training.recipe import load

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(RECIPES.glob("*/*.toml"))


# --- JSON


@given(
    content=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_document_or_one_line(content: bytes) -> None:
    try:
        documents.parse_json(content, "job.json", remedy="fill anew")
    except ReadError as error:
        assert (
            "\n" not in str(error)
            and str(error).endswith("; fill anew")
            and "job.json" in str(error)
        )


@given(
    tree=st.recursive(
        st.none()
        | st.integers(-(2**64), 2**64)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(deadline=None, max_examples=50)
def test_what_json_holds_comes_back(tree: Any) -> None:
    assert documents.parse_json(json.dumps(tree), "a", remedy="") == tree


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "nested deeper than 40 levels"),
        ("[" * 60 + "]" * 60, "nested deeper than 40 levels"),
        ("9" * 5000, "a number of 5000 digits"),
        ("-1e400", "not finite"),
        ("NaN", "NaN or Infinity"),
        ("", "not valid JSON"),
    ],
)
def test_json_that_is_refused(content: str, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        documents.parse_json(content, "a.json", remedy="mend it")


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "large").write_bytes(b" " * 11)
    (tmp_path / "list").write_text("[]")
    for name in ("fifo", "loop", "large", "list", "none", "nul\0", ".", "/dev/zero"):
        with pytest.raises(ReadError) as raised:
            documents.read_json(tmp_path / name, remedy="mend it", most=10)
        assert str(raised.value).endswith("; mend it") and str(raised.value).isprintable()


# --- arrays


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_altered_arrays_are_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(npz(a=np.arange(9.0), b=np.array("text")))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("npz") / "a.npz"
    file.write_bytes(content)
    try:
        arrays.read_arrays(file, {"a": "f"}, remedy="make it anew")
    except ReadError as error:
        assert "\n" not in str(error) and str(error).endswith("; make it anew")


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def test_arrays_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    for name, kind, member in (
        ("huge", zipfile.ZIP_STORED, header((10**12,))),
        ("bomb", zipfile.ZIP_DEFLATED, header((10**6,)) + bytes(8 * 10**6)),
        ("pickle", zipfile.ZIP_STORED, None),
    ):
        file = tmp_path / f"{name}.npz"
        if member is None:
            np.savez(file, a=np.array([{}], object))
        else:
            with zipfile.ZipFile(file, "w", kind) as archive:
                archive.writestr("a.npy", member)
        with pytest.raises(ReadError, match=r"declares shape|compressed array|pickled objects"):
            arrays.read_arrays(file, {"a": "f"}, remedy="make it anew")


# --- TOML and recipes


def read_any(path: Path) -> None:
    """Read a recipe by all three readers; each gives one or one line."""
    for reader in (load, load_recipe, load_nightly):
        try:
            found = reader(path)
            source = getattr(found, "source", None)
            if isinstance(source, PyclesSource | VideoSource):
                found.plan(0.1)
        except SstfillError as error:
            assert str(error).isprintable(), str(error)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=True)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


class Raw(str):
    """TOML as it is."""


VALUES = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.lists(st.integers(-2, 9), max_size=3),
    st.sampled_from(
        [
            "~nouser/x.zarr",
            "a\0b.zarr",
            "loop/x.zarr",
            "",
            "/",
            "..",
            "\x1b[31m",
            "-99999w",
            "9999-12-31",
            {},
            {"a": {"b": 1}},
            [[1], ["x"]],
            10**18,
            -(10**18),
            10**30,
            -1,
            0,
            float("nan"),
            float("inf"),
            -0.0,
            1e308,
        ]
    ).map(copy.deepcopy),  # for tables are altered, and one put into itself has no end
)
RAW = [
    "2024-01-01",
    "2024-01-01T00:00:00Z",
    "07:32:00",
    "9" * 5000,
    "0x" + "f" * 5000,
    "[" * 5000,
    "{a=" * 500,
    "1e999",
]


@st.composite
def altered(draw: st.DrawFn, tables: dict[str, Any]) -> str:
    """A recipe with some values replaced, keys added or left out, as text."""
    tables = {
        key: dict(table) if isinstance(table, dict) else table for key, table in tables.items()
    }
    lines: list[str] = []
    raw = draw(st.none() | st.sampled_from(RAW))
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([*tables, "added"]))
        table = tables.get(name)
        if isinstance(table, dict) and table and draw(st.integers(0, 5)):
            key = draw(st.sampled_from([*table, "added"]))
            if draw(st.integers(0, 6)):
                table[key] = draw(VALUES)
            else:
                table.pop(key, None)
        else:
            tables[name] = draw(VALUES)
    lines += [
        f"{key} = {toml(value)}" for key, value in tables.items() if not isinstance(value, dict)
    ]
    for key, table in tables.items():
        if isinstance(table, dict):
            lines += [
                f"[{json.dumps(key)}]",
                *(f"{json.dumps(k)} = {toml(v)}" for k, v in table.items()),
            ]
    if raw is not None and len(lines) > 1:
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = lines[at].partition(" = ")[0] + f" = {raw}"
    return "\n".join(lines)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_null_character_in_any_text_of_a_recipe_is_one_line(tmp_path: Path, path: Path) -> None:
    file, text = tmp_path / "recipe.toml", path.read_text()
    quoted = list(re.finditer(r'= "([^"\n]*)"', text))
    assert quoted
    for found in quoted:
        file.write_text(text[: found.start(1)] + "\\u0000" + text[found.end(1) :])
        read_any(file)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_altered_recipe_is_read_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, path: Path, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "loop").symlink_to("loop")
    file = folder / "own.toml"
    file.write_text(data.draw(altered(tomllib.loads(path.read_text("utf-8")))), "utf-8")
    read_any(file)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"a." * 30_000 + b"b = 1",
        b"a = " + b"[" * 30_000,
        b"a = " + b"9" * 5000,
        b"[a]\n" * 2,
        b"a = {" + b"b = {" * 400,
        b"x = 1\n" * 20_000,
        b"\x00",
        b"title = 2024-13-99",
    ],
)
def test_toml_that_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(content)
    for reader in (load, load_recipe, load_nightly):
        with pytest.raises(ReadError, match=r"own\.toml") as raised:
            reader(tmp_path / "own.toml")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["~nouser/own.toml", "a\0b.toml", "loop/own.toml", "nowhere/own.toml", "\udcff.toml"]
)
def test_names_that_are_no_recipe(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for reader in (load, load_recipe, load_nightly):
        with pytest.raises(SstfillError) as raised:
            reader(name)
        assert str(raised.value).isprintable()


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os.path, "expanduser", lambda path: path
    )  # as of a user that the system does not know
    with pytest.raises(OptionError, match=r"filled='~/out.zarr': .*; write the whole path"):
        documents.place("~/out.zarr", "filled")


@pytest.mark.parametrize(
    "name", ["oceans", "oceans.toml", "train/oceans", "recipes/train/oceans.toml"]
)
def test_a_training_recipe_that_ships_by_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(name) == load(RECIPES / "train" / "oceans.toml")


def test_a_path_that_is_not_there_is_no_recipe_that_ships(tmp_path: Path) -> None:
    for path in (tmp_path / "oceans.toml", "nowhere/oceans.toml", "./sub/paper.toml"):
        with pytest.raises(
            ReadError,
            match=r"no such file; give a TOML file, or one that ships: train/draws, train/oceans",
        ):
            load(path)


def test_numbers_that_no_float_holds() -> None:
    for value in (10**400, 10**5000, -(10**5000)):
        with pytest.raises(OptionError, match=r"seed=.* must be a whole number") as raised:
            check_number("seed", value, 0, whole=True)
        assert len(str(raised.value)) < 200


def test_comments_are_not_shown(tmp_path: Path) -> None:
    text = (RECIPES / "nightly" / "med_l3s.toml").read_text("utf-8") + "\n# password = hunter2\n"
    (tmp_path / "own.toml").write_text(text, "utf-8")
    shown = load_nightly(tmp_path / "own.toml").text
    assert "hunter2" not in shown and "#" not in shown and "[fill]" in shown
    assert tomllib.loads(shown) == tomllib.loads(text)
