# SPDX-License-Identifier: Apache-2.0
"""A notebook shows the pictures of sstfill, whatever was imported before."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs nbclient, of the extra `test`")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra `test`")

MADE = """
import sstfill
from sstfill import plot, synthetic

ocean = synthetic.ocean(shape=(8, 12, 12), seed=1)
filled = ocean.gapfill.interpolate(variables="sst", score=False)
filled["sst_members"] = filled["sst"].expand_dims(member=2)
card = ocean.gapfill.score(methods=["climatology", "interpolate"], variable="sst", seed=0)
"""
DRAWN = {
    "plot": "filled.gapfill.plot()",
    "panels": 'filled.gapfill.plot(kind="panels", n=2)',
    "members": "filled.gapfill.plot_members(n=2)",
    "scorecard": "card.plot()",
    "training": "plot.training(sstfill.Gan())",
}
GIF = 'filled.gapfill.plot(kind="animation", times=[0, 1])'
TABLES = {"checkpoint": "sstfill.Gan().checkpoint", "card": "card"}
PYPLOT = "import matplotlib.pyplot as plt"
OWN = "figure, ax = plt.subplots()\nfilled.gapfill.plot(ax=ax);"


def executed(*cells: str) -> list[list[dict[str, Any]]]:
    """Run the cells of a notebook in a kernel of its own; return the outputs of each."""
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    client = nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3")
    asyncio.run(client.async_execute(env=environment))
    return [cell["outputs"] for cell in notebook.cells]


def pictures(outputs: list[dict[str, Any]]) -> list[bytes]:
    """The PNG pictures among outputs."""
    held = [one["data"] for one in outputs if "data" in one]
    return [base64.b64decode(data["image/png"]) for data in held if "image/png" in data]


@pytest.mark.slow
def test_every_figure_is_shown_once_with_and_without_pyplot() -> None:
    before = list(DRAWN.values())
    cells = [MADE, *before, GIF, *TABLES.values(), PYPLOT, *before, OWN]
    _, *outputs = executed(*cells)
    shown = [outputs.pop(0) for _ in before]
    film = outputs.pop(0)
    tables = [outputs.pop(0) for _ in TABLES]
    outputs.pop(0)
    with_pyplot = [outputs.pop(0) for _ in before]
    for name, alone, beside in zip(DRAWN, shown, with_pyplot, strict=True):
        for found in (alone, beside):
            (picture,) = pictures(found)
            assert picture.startswith(b"\x89PNG") and len(picture) > 5_000, name
    assert "data:image/gif" in film[0]["data"]["text/html"]
    assert "<svg" in tables[0][0]["data"]["text/html"]  # the loss curves
    assert "<table" in tables[1][0]["data"]["text/html"]
    assert len(pictures(outputs.pop(0))) == 1  # a figure of one's own
