# SPDX-License-Identifier: Apache-2.0
"""Tables of the paper's protocol, in Markdown, to be read beside the paper's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from sstfill.evaluation.paper import published
from sstfill.evaluation.paper.datasets import FRAMES, SHARES, Note
from sstfill.evaluation.paper.plan import CLOUD, MIDDLE, SCENES, SIMPLE
from sstfill.evaluation.paper.protocol import STATIC, WHOLE
from sstfill.evaluation.paper.published import Published
from sstfill.evaluation.paper.records import facts, records

TITLES = {
    "raindrops": "Raindrops",
    "remove-pixel": "Remove-Pixel",
    "vertical-moving-bar": "Vertical-Moving-Bar",
}
DEGREES = ("°C", "K", "kelvin")  # units in which an MAE can stand beside one of the paper's SST
PEERS = {"clip grey": ("KTH",), "clip": ("FaceForensics++", "BAIR")}
"""The paper's videos of the same kind as a clip: KTH is grey, the others are in colour."""
READING = """\
Every number of ours is measured on the data listed below. **Every number marked "paper" was measured on other data** \
(GLOBAL_ANALYSIS_FORECAST hourly SST 6 h apart; FaceForensics++, KTH, BAIR) and stands beside ours for orientation: \
the difference between a paper's number and ours is one of data as well as of method.

- MAE, RMSE and bias are over the occluded pixels alone; `±` is the standard deviation over sequences, as in the paper.
- The same sequences and masks for every method; default options. No method is told the occluded truth.
- A pixel that a method leaves unfilled counts as the mean of what was seen of the sequence; `filled` tells how many.
- `of std`: MAE over the standard deviation of the truth, by which data sets of different units compare.
- `s` is wall time of one sequence. Channels of a clip in colour are filled together by methods that can.
- Clips are scaled to -1 ... 1 (the paper's generator ends in a tanh, but its text does not state the range).
- Frames are 6 h apart in the paper and in the synthetic ocean, elsewhere as they come: the list of files tells.
- LWP thresholds are set to the paper's occluded shares of the whole series; a sequence of it has more or less.
- FID and FVD need networks pre-trained on ImageNet and Kinetics, which are not at hand: ours are not given.
"""


def to_markdown(
    results: xr.Dataset, notes: Iterable[Note] = (), figures: Sequence[str] = ()
) -> str:
    """Tables 1 to 4 with the paper's numbers beside ours."""
    lines = records(results)
    parts = ["# The paper's protocol on the data at hand\n", _heading(facts(results)), READING]
    parts += [f"![{name}]({name})\n" for name in figures]
    parts += ["## Data\n", _data(lines, results.attrs["fingerprints"]), _found(list(notes))]
    parts += [*_table_1(lines), *_table_2(lines), _table_3(), *_table_4(lines), _failures(lines)]
    return "\n".join(part for part in parts if part)


def _heading(said: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in said["versions"].items())
    full = (said["frames"], said["size"]) == (FRAMES, 64) and len(said["shares"]) == len(SHARES)
    warning = "" if full else "**A quick run, smaller than the protocol: no numbers to quote.**\n\n"
    return (
        f"{warning}- measured {said['date']} with Python {said['python']}, {versions}\n- {said['machine']}\n"
        f"- seed {said['seed']}, {said['sequences']} sequences of each data set, {said['frames']} images of "
        f"{said['size']}x{said['size']} pixels (clips: {said['clip_frames']} frames)\n"
        f"- methods {', '.join(said['methods'])}\n- device {said['device']}\n"
    )


def _data(lines: list[dict[str, Any]], fingerprints: dict[str, str]) -> str:
    rows = []
    for name, mine in _grouped(lines, "data").items():
        spread = float(np.nanmean([line["truth_std"] for line in mine]))
        rows.append(
            [name, mine[0]["kind"], mine[0]["units"], f"{spread:.3g}", f"`{fingerprints[name]}`"]
        )
    return _table(["data set", "kind", "units", "std", "fingerprint of sequences and masks"], rows)


def _found(notes: list[Note]) -> str:
    rows = [[note.path, "used" if note.used else "not used", note.how] for note in notes]
    return (
        "What was found in the folders:\n\n" + _table(["file", "", "how, or why not"], rows)
        if rows
        else ""
    )


def _table_1(lines: list[dict[str, Any]]) -> list[str]:
    names = [cls.name for cls in SIMPLE]
    parts = []
    for data, mine in _grouped(
        [line for line in lines if line["operator"] in names], "data"
    ).items():
        head = [
            "method",
            *(f"{TITLES[n]} {what}" for n in names for what in ("MAE", "of std", "s")),
            "measured on",
        ]
        rows = [
            [
                f"**{m}**",
                *(c for n in names for c in _cells(_one(own, operator=n))),
                "this data set",
            ]
            for m, own in _grouped(mine, "method").items()
        ]
        peers = (
            PEERS["clip grey" if data.endswith("(grey)") else "clip"]
            if mine[0]["kind"] == "clip"
            else ()
        )
        rows += [
            _paper_row(peer, method, names)
            for peer in peers
            for method in dict.fromkeys(row.method for row in published.rows("1", data=peer))
        ]
        parts.append(f"### {data} ({mine[0]['units']})\n\n" + _table(head, rows))
    note = "" if any("paper" in p for p in parts) else _published("1")
    return ["## Table 1: raindrops, removed pixels, a moving bar\n", *parts, note] if parts else []


def _paper_row(peer: str, method: str, operators: list[str]) -> list[str]:
    found = {row.operator: row for row in published.rows("1", data=peer) if row.method == method}
    cells = [c for name in operators for c in (_paper_mae(found[name]), "", "")]
    return [f"paper: {method}", *cells, f"{peer} (other data)"]


def _table_2(lines: list[dict[str, Any]]) -> list[str]:
    whole = [
        line for line in lines if line["variant"] == WHOLE and line["operator"] in (CLOUD, SCENES)
    ]
    theirs = {row.occluded: row for row in published.rows("2a") if row.lwp}
    parts = []
    for data, mine in _grouped(whole, "data").items():
        methods = list(_grouped(mine, "method"))
        rows = []
        for (masks, share), own in _grouped(mine, "masks", "share").items():
            by = {line["method"]: line for line in own}
            met = f"{100 * own[0]['occluded']:.1f}"
            wanted = f"{100 * share:.1f}" if not math.isnan(share) else "-"
            paper = theirs.get(share)
            beside = [_paper_mae(paper), f"{paper.lwp:g}"] if paper else ["", ""]
            rows.append([masks, wanted, met, *(_mae(by.get(m)) for m in methods), *beside])
        rows += _all_shares(mine, methods)
        head = [
            "masks",
            "occluded %: paper",
            "here",
            *methods,
            "paper: GAN (°C, other data: hourly SST)",
            "paper: LWP",
        ]
        keep = len(head) if mine[0]["units"] in DEGREES else -2
        parts.append(
            f"### {data}: MAE ({mine[0]['units']})\n\n"
            + _table(head[:keep], [row[:keep] for row in rows])
        )
    title = "## Table 2a: clouds at the paper's six occluded shares\n"
    return [title, *parts, *_table_2b(whole)] if parts else []


def _all_shares(lines: list[dict[str, Any]], methods: list[str]) -> list[list[str]]:
    """The paper's last line: means over the thresholds, of MAE and of its standard deviation."""
    rows = []
    overall = next(row for row in published.rows("2a") if row.lwp is None)
    for masks, mine in _grouped(
        [line for line in lines if line["operator"] == CLOUD], "masks"
    ).items():
        if len(_grouped(mine, "share")) < len(SHARES):
            continue
        cells = []
        for own in (_grouped(mine, "method")[m] for m in methods):
            done = all(line["n"] for line in own)
            means = [float(np.mean([line[k] for line in own])) for k in ("mae", "mae_std")]
            cells.append(_spread(*means) if done else "failed")
        met = float(np.mean([line["occluded"] for line in mine]))
        rows.append([f"{masks}, all", "47.1", f"{100 * met:.1f}", *cells, _paper_mae(overall), ""])
    return rows


def _table_2b(whole: list[dict[str, Any]]) -> list[str]:
    theirs = {row.method: row for row in published.rows("2b")}
    parts = []
    for (data, masks), mine in _grouped(
        [w for w in whole if w["share"] == MIDDLE], "data", "masks"
    ).items():
        rows, in_degrees = [], mine[0]["units"] in DEGREES
        for line in mine:
            peer = theirs.get(published.COUNTERPARTS.get(line["method"], ""))
            beside = (
                f"{peer.method}: {_paper_mae(peer)} °C on other data" if peer and in_degrees else ""
            )
            mae, of_std, seconds = _cells(line)
            pooled = [
                _number(line["pooled_rmse"]),
                _number(line["pooled_bias"], "+"),
                _percent(line["filled_share"]),
            ]
            rows.append([f"**{line['method']}**", mae, of_std, *pooled, seconds, beside])
        if in_degrees:
            rows += [
                [
                    f"paper: {row.method}",
                    _paper_mae(row),
                    *[""] * 5,
                    f"on {row.data}, other data (°C)",
                ]
                for row in theirs.values()
            ]
        head = [
            "method",
            "MAE",
            "of std",
            "RMSE",
            "bias",
            "filled",
            "s",
            "paper's method of the same kind",
        ]
        parts.append(f"### {data}, under {masks} ({mine[0]['units']})\n\n" + _table(head, rows))
    title = f"## Table 2b: methods at {100 * MIDDLE:.1f} % (the paper's LWP threshold 70 g m-2)\n"
    return [title, *parts] if parts else []


def _table_3() -> str:
    return (
        "## Table 3: supervised variants of the GAN\n\nNo method here stands against them yet.\n\n"
        + _published("3")
    )


def _table_4(lines: list[dict[str, Any]]) -> list[str]:
    alone = [line for line in lines if line["variant"] == STATIC]
    rows = []
    for line in alone:
        same = {key: line[key] for key in ("data", "masks", "share", "method")}
        both = _one(lines, variant=WHOLE, **same)
        rows.append([line["data"], line["method"], _mae(both), _mae(line), line["units"]])
    title = (
        f"## Table 4: without time, at {100 * MIDDLE:.1f} %\n\nStatic: each frame is filled as if there were no other, "
        "by methods that can; frames wholly under cloud get the mean of what was seen of the sequence. The recurrent "
        "variant is one of the GAN.\n"
    )
    ours = (
        _table(["data set", "method", "MAE, whole sequence", "MAE, static", "units"], rows)
        if rows
        else ""
    )
    return [title, ours, _published("4")]


def _published(table: str) -> str:
    rows = [
        [
            f"paper: {row.method}",
            row.operator,
            _paper_mae(row),
            _number(row.fid),
            _number(row.fvd),
            f"{row.data} (other data), MAE {row.units}",
        ]
        for row in published.rows(table)
    ]
    return _table(["method", "operator", "MAE", "FID", "FVD", "measured on"], rows)


def _failures(lines: list[dict[str, Any]]) -> str:
    rows = [
        [
            line["method"],
            line["variant"],
            line["data"],
            f"{line['operator']} {_share(line['share'])}",
            line["reason"],
        ]
        for line in lines
        if line["reason"]
    ]
    return (
        "## What failed\n\n" + _table(["method", "variant", "data set", "operator", "reason"], rows)
        if rows
        else ""
    )


def _one(lines: list[dict[str, Any]], **key: Any) -> dict[str, Any] | None:
    return next((line for line in lines if all(line[k] == v for k, v in key.items())), None)


def _grouped(lines: Iterable[dict[str, Any]], *keys: str) -> dict[Any, list[dict[str, Any]]]:
    """Group by the values of some keys, in order of appearance; all NaN are one value."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for line in lines:
        values = tuple(math.nan if line[k] != line[k] else line[k] for k in keys)
        groups.setdefault(values[0] if len(keys) == 1 else values, []).append(line)
    return groups


def _cells(line: dict[str, Any] | None) -> list[str]:
    """MAE, MAE over the standard deviation of the truth, and seconds."""
    if line is None:
        return ["", "", ""]
    return [
        _mae(line),
        _percent(line["mae"] / line["truth_std"]),
        _number(line["seconds"], digits=2),
    ]


def _mae(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    return _spread(line["mae"], line["mae_std"]) if line["n"] else "failed"


def _paper_mae(row: Published) -> str:
    return "unable to finish" if row.mae is None else _spread(row.mae, row.mae_std)


def _spread(mean: float, std: float | None) -> str:
    return f"{mean:.4f}" + (f" ± {std:.4f}" if std is not None and math.isfinite(std) else "")


def _number(value: float | None, sign: str = "", *, digits: int = 4) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:{sign}.{digits}g}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else ""


def _share(share: float) -> str:
    return _percent(share)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return (
        "\n".join(
            [
                *lines,
                *(
                    "| " + " | ".join(str(c).replace("|", "\\|") for c in row) + " |"
                    for row in rows
                ),
            ]
        )
        + "\n"
    )
