# SPDX-License-Identifier: Apache-2.0
"""An init file of DINEOF becomes a command that `sstfill fill` takes, with notes on the rest."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sstfill
from sstfill.cli import main
from sstfill.cli.from_dineof import KEYS, Translation, wrapped
from sstfill.cli.options import method
from sstfill.cli.parser import parse
from sstfill.io.dineof_init import read_init
from sstfill.methods import Dineof
from sstfill.synthetic import ocean

# Every key that the reference program reads, with the values of the file that ships with it.
INIT = """\
! our own file

data = ['in.nc#sst']   ! gappy data
mask = ['in.nc#sea']
#time = 'other.dat'
time = 'in.nc#time'
alpha = 0.01
numit = 3
nev = 5
neini = 1
ncv = 10
tol = 1.0e-8
nitemax = 300
toliter = 1.0d-3
rec = 1
eof = 1
norm = 1
Output = 'Output/'
results = ['filled.nc#sst']
EOF.U = ['eof.nc#Usst']
EOF.V = 'eof.nc#V'
EOF.Sigma = 'eof.nc#Sigma'
seed = 243435
cloud_size = 500
"""


def translated(text: str, folder: Path) -> tuple[list[str], list[str]]:
    """Words of the command, and notes."""
    file = folder / "dineof.init"
    file.write_text(text)
    found = Translation("dineof.init", read_init(file))
    found.translate()
    return found.words, found.notes


def changed(**entries: str | None) -> str:
    """The file above with other values; without the keys that are None."""
    kept = []
    for line in INIT.splitlines():
        key = line.partition(" =")[0]
        if key not in entries:
            kept.append(line)
    kept += [f"{key} = {value}" for key, value in entries.items() if value is not None]
    return "\n".join(kept)


def test_command_fills_as_the_method_with_these_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    seen = ocean(shape=(12, 12, 14), seed=1).drop_vars("truth")
    sstfill.io.write(seen, "in.nc")
    Path("dineof.init").write_text(INIT)
    assert main(["from-dineof", "dineof.init"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    # The whole output is a script of the shell: notes are its comments.
    words = shlex.split(out.replace("\\\n", ""), comments=True)
    assert words[:2] == ["sstfill", "fill"]
    assert main(words[1:]) == 0
    dineof = Dineof(
        max_modes=5,
        alpha=0.01,
        filter_iterations=3,
        max_iterations=300,
        tolerance=1e-3,
        cross_validation="random",
        solver="reference",
        normalise=True,
        return_modes=True,
        seed=243435,
    )
    with sstfill.io.open("in.nc") as given_back, sstfill.io.open("filled.nc") as filled:
        expected = sstfill.fill(
            given_back, dineof, variables="sst", sea=given_back.sea, transform="none", seed=243435
        )
        xr.testing.assert_equal(filled.load(), expected)


def test_every_key_is_an_option_or_a_note(tmp_path: Path) -> None:
    words, notes = translated(INIT, tmp_path)
    told = " ".join(words) + "\n".join(notes)
    entries = read_init(tmp_path / "dineof.init")
    named = {"nev": "--max-modes 5", "toliter": "--tolerance 0.001", "norm": "--normalise"}
    named |= {"alpha": "--alpha 0.01", "numit": "--filter-iterations 3"}
    named |= {"nitemax": "--max-iterations 300", "seed": "--seed 243435"}
    named |= {"data": "fill in.nc", "results": "--out filled.nc", "mask": "--sea in.nc:sea"}
    silent = {"neini"}  # 1, as in sstfill
    for key in entries.keys() - silent:
        assert named.get(key, f"{key} = {entries[key].text}") in told, key
    assert set(entries) <= set(KEYS)
    lines = [int(note.split()[1].rstrip(":")) for note in notes if note.startswith("line ")]
    assert lines == sorted(lines)


@settings(max_examples=40, deadline=None)
@example(nev=5, alpha=0.01, numit=3, toliter=1e-3, seed=0, double=False, file="a]'b")
@given(
    nev=st.integers(1, 500),
    alpha=st.floats(0, 100),
    numit=st.integers(0, 50),
    toliter=st.floats(1e-12, 1),
    seed=st.integers(0, 2**31 - 1),
    double=st.booleans(),
    file=st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1).filter(
        lambda text: not set(text) & set("#:") and text.strip(".")
    ),
)
def test_what_is_printed_is_read_back(
    nev: int,
    alpha: float,
    numit: int,
    toliter: float,
    seed: int,
    double: bool,
    file: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Numbers keep every digit, and names of files pass through the shell."""
    number = repr(toliter).replace("e", "d") if double else repr(toliter)
    name = file.replace("'", "''")
    text = changed(
        data=f"['{name}.nc#sst']",
        alpha=repr(alpha),
        nev=str(nev),
        numit=str(numit),
        toliter=number,
        seed=str(seed),
    )
    words, _ = translated(text, tmp_path_factory.mktemp("init"))
    assert shlex.split(wrapped(words).replace("\\\n", "")) == words
    args = parse(words[1:])
    made = method(args, "dineof")
    assert isinstance(made, Dineof)
    found = (made.max_modes if nev > 1 else made.modes, made.alpha, made.filter_iterations)
    assert (*found, made.tolerance, made.seed) == (nev, alpha, numit, toliter, seed)
    assert Path(args.inputs[0]) == Path(f"{file}.nc")


def test_options_that_depend_on_several_keys(tmp_path: Path) -> None:
    words, _ = translated(changed(nev="7", neini="7"), tmp_path)
    assert words[words.index("--modes") + 1] == "7" and "--max-modes" not in words
    words, notes = translated(changed(neini="3", clouds="'cv.nc#clouds'", rec="0"), tmp_path)
    assert words[words.index("--cross-validation") + 1] == "clouds"
    assert any("tries 1, 2, 3, ... modes" in note for note in notes)
    assert not any("rec" in note for note in notes)
    two = "['in.nc#sst', 'in.nc#chl']"
    words, notes = translated(changed(data=two, results=two, eof="0"), tmp_path)
    assert words[words.index("--variable") + 1] == "sst,chl" and "--together" in words
    assert words[words.index("--out") + 1] == "in_filled.nc"  # the input is not changed
    assert "--return-modes" not in words


@pytest.mark.parametrize(
    ("entries", "words", "note"),
    [
        ({"data": "['a.gher']"}, "fill a.nc --out filled.nc --sea", "is binary"),
        ({"results": "['Output/a.gher']"}, "--out Output/a.nc", "is binary: sstfill writes NetCDF"),
        ({"results": None}, "--out filled.nc", "results is missing"),
        ({"data": "['a.nc#sst','b.nc#chl']"}, "fill merged.nc", "names several files"),
        ({"data": "['a.nc#sst(:,:,1:10)']"}, "--variable sst ", "takes (:,:,1:10) of sst"),
        ({"mask": None}, "--variable sst --transform", "mask is missing"),
        ({"mask": "['in.nc#lsm']"}, "--sea in.nc:lsm", "takes 1 as land in a variable called lsm"),
        ({"mask": "['m.gher']"}, "--sea m.nc ", "write it as NetCDF, here m.nc"),
        ({"toliter": None}, "--solver reference", "toliter is missing: sstfill takes 0.001"),
        ({"nve": "5"}, "--max-modes 5", "nve = 5: is ignored: it is not a key of DINEOF"),
        ({"data": "['-a.nc#sst']"}, "fill ./-a.nc", "--transform none"),
    ],
)
def test_what_has_no_equivalent_is_noted(
    entries: dict[str, str | None], words: str, note: str, tmp_path: Path
) -> None:
    found, notes = translated(changed(**entries), tmp_path)
    assert words in " ".join(found)
    assert any(note in line for line in notes), notes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "dineof.init has no line data = ['FILE#VARIABLE']; give the file"),
        ("hello world", "line 1: 'hello world' is not KEY = VALUE"),
        ("data = [", "line 1: 'data = [' is not KEY = VALUE"),
        ("data = ['a.nc#b',\n 'c.nc#d']", "line 1: \"data = ['a.nc#b',\" is not KEY = VALUE"),
        (changed(nev="many"), "nev = many is not a whole number; correct it"),
        (changed(nev="[1, 2]"), "nev = [1, 2] is not a whole number"),
        (changed(nev="0"), "nev = 0: max_modes=0 must be a whole number, 1 or more"),
        (changed(alpha="nan"), "alpha = nan: alpha=nan must be a finite number"),
        (changed(rec="maybe"), "rec = maybe is not a whole number"),
        ("CDF\x01\0\0", "it is not a text file"),
        ("!" * 2**17, "it is larger than 65,536 bytes"),
    ],
)
def test_bad_file_is_one_clear_error(
    text: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dineof.init").write_text(text)
    assert main(["from-dineof", "dineof.init"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert reason in err


def test_missing_file_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["from-dineof", "nowhere/dineof.init"]) == 2
    assert "nowhere/dineof.init: No such file" in capsys.readouterr().err


def test_notes_cannot_leave_their_comment(tmp_path: Path) -> None:
    """A file of somebody else must not smuggle a command into what a user may run."""
    text = changed(results="['a.nc; touch hacked']", nve="$(touch hacked)")
    words, notes = translated(text, tmp_path)
    script = wrapped(words).replace("sstfill fill", "true") + "\n"
    script += "\n".join(f"# {note}" for note in notes)
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)
    assert not (tmp_path / "hacked").exists()
