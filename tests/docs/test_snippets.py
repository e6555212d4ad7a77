# SPDX-License-Identifier: Apache-2.0
"""Every command and snippet of README.md and the pages runs, on small files.

The Python of a page is run as one session and its commands as another, each in a folder of its own
that holds the files of `docs_world`. What cannot be run has a comment before it in the page that
tells why: ``<!-- not run: it needs the network -->``, or of one command or statement of a block:
``<!-- not run `sstfill train`: it takes hours -->``. Where ``<!-- output as shown -->`` stands, the
lines that the page shows must be printed; else they stand for the kind.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from docs_world import MADE, NAMES, OF_PAGES, lay_out

from sstfill.cli import main
from sstfill.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?P<notes>(?:^<!--[^\n]*-->\n+)*)^```(?P<kind>python|console)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = re.compile(r"<!-- not run(?: `(?P<part>[^`]+)`)?: (?P<why>[^\n]{8,}) -->")
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)
SHOWN = "<!-- output as shown -->"
FEW = ("climatology", "interpolate")
ELSEWHERE = {"make": "CI runs it", "pip": "it needs a package index"}
"""Programs that are no part of sstfill, and why they are not run."""


class Block(NamedTuple):
    """A block of a page; `left_out` are parts that are not run, the empty one is all of it."""

    kind: str
    text: str
    line: int
    left_out: list[str]
    shown: bool


def blocks(page: Path) -> Iterator[Block]:
    """Blocks of Python and of commands, in the order of the page."""
    text = page.read_text("utf-8")
    for found in BLOCK.finditer(text):
        left_out = [note["part"] or "" for note in NOT_RUN.finditer(found["notes"])]
        line = text.count("\n", 0, found.start("text"))
        yield Block(found["kind"], found["text"], line, left_out, SHOWN in found["notes"])


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stock")
    lay_out(folder)
    return folder


@pytest.fixture
def page(
    request: pytest.FixtureRequest, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A page; the current folder holds the files that it names.

    What tries all methods tries two: which of them do better is tested elsewhere.
    """
    found: Path = request.param
    folder = tmp_path / "world"
    shutil.copytree(stock, folder, ignore=lambda *_: MADE.get(found.name, ()))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))
    for user in ("sstfill.methods.auto.method", "sstfill.evaluation.withheld"):
        monkeypatch.setattr(f"{user}.affordable", lambda _: list(FEW))
    return found


def pages_with(kind: str) -> list[Any]:
    """Pages that have something of a kind to run."""
    found = []
    for page in PAGES:
        if any(block.kind == kind and "" not in block.left_out for block in blocks(page)):
            found.append(pytest.param(page, id=str(page.relative_to(ROOT))))
    return found


# xarray selects from an index of texts in a way that pandas is about to change.
@pytest.mark.filterwarnings("ignore:Treating an array-like object")
@pytest.mark.parametrize("page", pages_with("python"), indirect=True)
def test_python_runs(page: Path) -> None:
    given = NAMES | OF_PAGES.get(page.name, {})
    names: dict[str, Any] = {"__name__": __name__}
    for block in blocks(page):
        if block.kind != "python" or "" in block.left_out:
            continue
        # The lines of the page are those of the traceback.
        tree = ast.parse("\n" * block.line + block.text, str(page))
        kept = []
        for statement in tree.body:
            source = ast.unparse(statement)
            if not any(part in source for part in block.left_out):
                kept.append(statement)
        tree.body = kept
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in given and node.id not in names:
                names[node.id] = given[node.id]()
        exec(compile(tree, str(page), "exec", dont_inherit=True), names)


@pytest.mark.parametrize("page", pages_with("console"), indirect=True)
def test_commands_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page):
        if block.kind != "console" or "" in block.left_out:
            continue
        printed = ""
        commands, shown = sessions(block.text)
        for command in commands:
            if not any(command.startswith(part) for part in block.left_out):
                printed += run(command, capsys)
        if block.shown:
            for line in shown:
                assert line.partition(" ...")[0] in printed, f"{page}, near line {block.line}"


def sessions(text: str) -> tuple[list[str], list[str]]:
    """Commands of a block, each with the lines that continue it, and lines that it shows."""
    commands = [found.replace("\\\n", "") for found in COMMAND.findall(text)]
    shown = [line.strip(" \\") for line in COMMAND.sub("", text).splitlines()]
    return commands, [line for line in shown if line.strip(" .#")]


def run(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command of a page, which must succeed, and return what it prints."""
    words = shlex.split(command, comments=True)
    if words[0] in ELSEWHERE:
        return ""
    assert words[0] == "sstfill", f"{command}: state in a comment why it is not run"
    target = None
    if ">" in words:
        target = Path(words.pop()).name
        words.remove(">")
    expanded = []
    for word in words[1:]:
        # A pattern with two stars is quoted in the pages: sstfill itself expands it.
        if "*" in word and "**" not in word:
            expanded += sorted(map(str, Path().glob(word)))
        else:
            expanded.append(word)
    try:
        status = main(expanded)
    except SystemExit as end:  # of --help
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    assert status == 0, f"{command}: {err}"
    if target is not None:
        Path(target).write_text(out)
    return out


def test_every_reason_stands_before_a_block() -> None:
    """A comment that is misspelt, or no longer before what it is about, would be lost."""
    for page in PAGES:
        text = page.read_text("utf-8")
        used = sum(len(block.left_out) for block in blocks(page))
        assert text.count("<!-- not run") == used, page


def test_commands_are_cut_out_of_blocks() -> None:
    text = "$ sstfill fill a.nc \\\n    --out b.nc   # both\nwritten to b.nc\n$ sstfill info a.nc\n"
    commands, shown = sessions(text)
    assert [shlex.split(command, comments=True) for command in commands] == [
        ["sstfill", "fill", "a.nc", "--out", "b.nc"],
        ["sstfill", "info", "a.nc"],
    ]
    assert shown == ["written to b.nc"]
