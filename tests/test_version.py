# SPDX-License-Identifier: Apache-2.0
"""The versions of what matters, without importing it."""

from __future__ import annotations

import numpy as np
import pytest

import sstfill
from sstfill import version
from sstfill.cli import main


def test_command_tells_versions_of_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"sstfill {sstfill.__version__}\n")
    for name in ("python", "numpy", "xarray", "dask", "torch"):
        assert f"\n{name} " in out, name
    assert f"numpy {np.__version__}\n" in out


def test_a_library_without_metadata_is_named() -> None:
    found = version.versions(("numpy", "no-such-library"))
    assert found["no-such-library"] == "not installed"
    assert found["numpy"] == np.__version__
