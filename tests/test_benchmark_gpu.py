# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a GPU, which is run where there is one: every line of it, on small fields."""

from __future__ import annotations

import pytest

gpu = pytest.importorskip("gpu")  # torch may be absent

DEVICE_IS_PICKED_IN = (
    "sstfill.methods.gan.method",
    "sstfill.methods.gan.fitted",
    "sstfill.methods.oi.method",
    "sstfill.methods.oi.fitted",
    "sstfill.training.distributed",
    "gpu",
)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU by another name, under which all is done that is done for a GPU."""
    for module in DEVICE_IS_PICKED_IN:
        monkeypatch.setattr(
            f"{module}.pick_device", lambda device: "cpu:0" if device == "cuda" else device
        )
    for name, value in (
        ("synchronize", None),
        ("reset_peak_memory_stats", None),
        ("max_memory_allocated", 5e9),
        ("get_device_name", "a GPU"),
    ):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda value=value: value)


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_it_prints_each_row_and_all_rows_at_the_end(capsys, monkeypatch) -> None:
    monkeypatch.setattr(gpu, "publish", None)  # a small run leaves the documentation alone
    gpu.main(["--device", "cuda", "--small"])
    first, last = capsys.readouterr().out.split("seconds in all")
    rows = [line for line in last.splitlines() if line.startswith("| ")]
    steps, fills, trainings, units = 4, 11, 2, 4
    assert len(rows) == steps + fills + trainings + units + 4  # and a head for each table
    assert all(row in first for row in rows)
    assert "| `gan` | cuda | 1 |" in last and "a GPU" in last
    apart = [float(row.split("|")[-2]) for row in rows if "| cpu |" in row and row[-3] != " "]
    assert len(apart) == 7 and max(apart) < 0.05
    memory = [row for row in rows if "| cuda |" in row]
    assert len(memory) == 7 and all("| 5 |" in row for row in memory)


def test_what_does_not_fit_the_time_is_left_out(capsys, monkeypatch) -> None:
    written = {}
    monkeypatch.setattr(gpu, "publish", lambda name, text: written.update({name: text}))
    monkeypatch.setattr(gpu, "Sizes", lambda: gpu.SMALL)
    gpu.main(["--device", "cpu", "--minutes", "0"])
    assert "What a GPU does" in written["gpu"] and "##" not in written["gpu"]


def test_what_fails_does_not_cost_the_others(capsys, monkeypatch) -> None:
    done = []

    def part(name):
        def measure(*given):
            done.append(name)
            if name == "series":
                raise RuntimeError("CUDA out of memory")

        measure.__name__ = name
        return measure

    parts = ["one_step", "series", "trained", "units"]
    for name in parts:
        monkeypatch.setattr(gpu, name, part(name))
    with pytest.raises(SystemExit, match="failed: series"):
        gpu.main(["--device", "cpu", "--small"])
    assert done == parts and "CUDA out of memory" in capsys.readouterr().out
