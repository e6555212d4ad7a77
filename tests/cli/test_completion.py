# SPDX-License-Identifier: Apache-2.0
"""The shell completes commands, options, methods and files by the script that is printed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sstfill.cli import main
from sstfill.cli.completion import whole_parser
from sstfill.cli.parser import COMMANDS
from sstfill.methods import METHODS


def completed(script: Path, folder: Path, *words: str) -> set[str]:
    """What bash offers for the last of some words."""
    code = f"""
source {script}
COMP_WORDS=({" ".join(map(repr, words))})
COMP_CWORD={len(words) - 1}
$(complete -p sstfill | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return {word.strip() for word in done.stdout.splitlines() if word.strip()}


def test_bash_completes_what_the_parser_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("shtab", reason="the extra `completion` is not installed")
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "sstfill.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "in.nc").touch()
    assert set(COMMANDS) <= completed(script, tmp_path, "sstfill", "")
    assert completed(script, tmp_path, "sstfill", "from") == {"from-dineof"}
    assert "--min-pixel-coverage" in completed(script, tmp_path, "sstfill", "fill", "--min")
    methods = completed(script, tmp_path, "sstfill", "fill", "--method", "")
    assert set(METHODS) <= methods
    assert "in.nc" in completed(script, tmp_path, "sstfill", "info", "i")


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab", reason="the extra `completion` is not installed")
    assert main(["completion", "bsh"]) == 2
    assert "no shell 'bsh'; did you mean 'bash'?" in capsys.readouterr().err


def test_without_the_extra_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'sstfill[completion]'" in capsys.readouterr().err


def test_options_of_all_methods_are_known_once() -> None:
    (fill,) = (
        parser
        for action in whole_parser()._actions
        if action.dest == "command"
        for name, parser in action.choices.items()
        if name == "fill"
    )
    flags = [flag for action in fill._actions for flag in action.option_strings]
    assert len(flags) == len(set(flags)) and {"--modes", "--noise", "--limit"} <= set(flags)
