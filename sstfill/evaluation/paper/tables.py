# SPDX-License-Identifier: Apache-2.0
"""Tables of the paper's protocol in Markdown, beside the paper's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from sstfill.evaluation.paper import published
from sstfill.evaluation.paper.datasets import FRAMES, Note
from sstfill.evaluation.paper.plan import CLOUD, SCENES
from sstfill.evaluation.paper.protocol import STATIC, WHOLE
from sstfill.evaluation.paper.published import PublishedScore
from sstfill.evaluation.paper.records import facts, records

TITLES = {
    "raindrops": "Raindrops",
    "remove-pixel": "Remove-Pixel",
    "vertical-moving-bar": "Vertical-Moving-Bar",
}
"""Of the simple operators, `sstfill.evaluation.paper.plan.SIMPLE`, in the order of the paper."""
DEGREES = ("°C", "K", "kelvin")  # units in which an MAE can stand beside one of the paper's SST
Record = dict[str, Any]
"""A line of `sstfill.evaluation.paper.records.records`."""
DISTANCES = ("Frechet, frames", "Frechet, sequences")
SUPERVISED = ("gan-paper", "gan-unpaired", "gan-paired")
ABLATED = (
    "gan-paper",
    "gan-recurrent",
    "gan-static",
    "gan-withheld",
    "gan-both",
    "gan-static-both",
)
"""Of `sstfill.training.paper.variants.VARIANTS`."""
READING = """\
Every number of ours is measured on the data listed below. **Every number marked "paper" was \
measured on other data** (GLOBAL_ANALYSIS_FORECAST hourly SST 6 h apart; FaceForensics++, KTH, \
BAIR) and stands beside ours for orientation: the difference between a paper's number and ours \
is one of data as well as of method.

- MAE, RMSE and bias are over the occluded pixels alone; `±` is the standard deviation over \
sequences, as in the paper.
- The same sequences and masks for every method; default options. No method sees the occluded \
truth.
- A pixel that a method leaves unfilled counts as the mean of what was seen of the sequence; \
`filled` is the fraction filled.
- `of std`: MAE over the standard deviation of the truth, by which data sets of different units \
compare.
- `s` is wall time of one sequence. Channels of a clip in colour are filled together by methods \
that can.
- Clips are scaled to -1 ... 1 (the paper's generator ends in a tanh, but its text does not \
state the range).
- Frames are 6 h apart in the paper and in the synthetic ocean, elsewhere as in the list of \
files.
- LWP thresholds are set to the paper's occluded fractions of the whole series; a sequence of it \
has more or less.
"""
LOOKS = "- Single frames are compared by {frames}, sequences by {sequences}."
STANDARD = """ \
Both grow as sequences get fewer.
"""
OTHER = """ \
FID and FVD need networks pre-trained on ImageNet and Kinetics (`--inception`, `--i3d`). Distances \
of other features compare methods within one table, and **mean nothing beside the paper's FID and \
FVD**.
"""


def to_markdown(
    results: xr.Dataset, notes: Iterable[Note] = (), figures: Sequence[str] = ()
) -> str:
    """Write tables 1 to 4 with the paper's numbers beside ours."""
    lines = records(results)
    distances = {}
    for what, name in results.attrs["features"].items():
        distances[what] = name if name in ("FID", "FVD") else f"the Frechet distance of {name}"
    standard = {"FID", "FVD"} == set(distances.values())
    reading = READING + LOOKS.format(**distances) + (STANDARD if standard else OTHER)
    parts = ["# The paper's protocol on the data at hand\n", _heading(facts(results)), reading]
    parts += [f"![{name}]({name})\n" for name in figures]
    parts += ["## Data\n", _data(lines, results.attrs["fingerprints"]), _files(notes)]
    parts += [*_table_1(lines, results.attrs["trained_on"]), *_table_2(lines)]
    parts += _table_3(lines)
    parts += [*_table_4(lines), _failures(lines)]
    return "\n".join(part for part in parts if part)


def _heading(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    size, frames = facts["size"], facts["frames"]
    # As in the paper; whatever is smaller has other errors.
    full = (frames, size) == (FRAMES, 64) and len(facts["fractions"]) == len(published.OCCLUDED)
    warning = ""
    if not full:
        warning = "**A quick run, smaller than the protocol: no numbers to quote.**\n\n"
    trained = ""
    if facts["training"]:
        trained = (
            f"- networks: {facts['training']}; those of the synthetic ocean on another one, that "
            "of each other data set on what is told beside Table 1\n"
        )
    return (
        f"{warning}- measured {facts['date']} with Python {facts['python']}, {versions}\n"
        f"- {facts['machine']}\n"
        f"- seed {facts['seed']}, {facts['sequences']} sequences of each data set, {frames} images "
        f"of {size}x{size} pixels (clips: {facts['clip_frames']} frames)\n"
        f"- methods {', '.join(facts['methods'])}\n- device {facts['device']}\n{trained}"
    )


def _data(lines: list[Record], fingerprints: dict[str, str]) -> str:
    rows = []
    for name, mine in _grouped(lines, "data").items():
        # Sequences that failed have none.
        spread = float(np.nanmean([line["truth_std"] for line in mine]))
        kind, units = mine[0]["kind"], mine[0]["units"]
        rows.append([name, kind, units, f"{spread:.3g}", f"`{fingerprints[name]}`"])
    return _table(["data set", "kind", "units", "std", "fingerprint of sequences and masks"], rows)


def _files(notes: Iterable[Note]) -> str:
    rows = []
    for note in notes:
        rows.append([note.path, "used" if note.used else "not used", note.how])
    if not rows:
        return ""
    table = _table(["file", "", "how, or why not"], rows)
    return "What was found in the folders:\n\n" + table


def _table_1(lines: list[Record], trained_on: dict[str, str]) -> list[str]:
    """Simple operators: ours, and for clips the paper's on videos of the same kind."""
    operators = list(TITLES)
    head = ["method"]
    for title in TITLES.values():
        head += [f"{title} MAE", f"{title} of std", f"{title} s"]
    head.append("measured on")
    simple = [line for line in lines if line["operator"] in TITLES]
    parts = []
    with_peers = False
    for data, mine in _grouped(simple, "data").items():
        rows = []
        for method, own in _grouped(mine, "method").items():
            row = [f"**{method}**"]
            for operator in operators:
                row += _cells(_first(own, operator=operator))
            rows.append([*row, "this data set"])
        for peer in _peers(data, mine[0]["kind"]):
            rows += _paper_rows(peer, operators)
            with_peers = True
        network = ""
        if data in trained_on:
            network = f"{trained_on[data]}.\n\n"
        parts.append(f"### {data} ({mine[0]['units']})\n\n{network}" + _table(head, rows))
    if not parts:
        return []
    paper = "" if with_peers else _published("1")
    return ["## Table 1: raindrops, removed pixels, a moving bar\n", *parts, paper]


def _peers(data: str, kind: str) -> tuple[str, ...]:
    """The paper's videos of the same kind as a clip: KTH is grey, the others are in colour."""
    if kind != "clip":
        return ()
    if data.endswith("(grey)"):
        return ("KTH",)
    return ("FaceForensics++", "BAIR")


def _paper_rows(peer: str, operators: list[str]) -> list[list[str]]:
    by_method: dict[str, dict[str, PublishedScore]] = {}
    for score in published.rows("1", data=peer):
        by_method.setdefault(score.method, {})[score.operator] = score
    rows = []
    for method, scores in by_method.items():
        row = [f"paper: {method}"]
        for operator in operators:
            # The paper has neither the standard deviation of its truth nor seconds.
            row += [_paper_mae(scores[operator]), "", ""]
        rows.append([*row, f"{peer} (other data)"])
    return rows


def _table_2(lines: list[Record]) -> list[str]:
    """Clouds: all occluded fractions (2a), and all methods at one of them (2b)."""
    cloudy = []
    # Frame by frame is a matter of Table 4.
    for line in lines:
        if line["variant"] == WHOLE and line["operator"] in (CLOUD, SCENES):
            cloudy.append(line)
    if not cloudy:
        return []
    parts = ["## Table 2a: clouds at the paper's six occluded fractions\n"]
    for data, mine in _grouped(cloudy, "data").items():
        units = mine[0]["units"]
        parts.append(f"### {data}: MAE ({units})\n\n" + _table_2a(mine, units in DEGREES))
    return [*parts, *_table_2b(cloudy)]


def _table_2a(lines: list[Record], in_degrees: bool) -> str:
    by_fraction = {row.occluded: row for row in published.rows("2a") if row.lwp is not None}
    methods = list(_grouped(lines, "method"))
    head = ["masks", "occluded %: paper", "here", *methods]
    if in_degrees:
        head += ["paper: GAN (°C, other data: hourly SST)", "paper: LWP"]
    rows = []
    for (masks, fraction), own in _grouped(lines, "masks", "fraction").items():
        by_method = {line["method"]: line for line in own}
        wanted = "-" if math.isnan(fraction) else f"{100 * fraction:.1f}"
        row = [masks, wanted, f"{100 * own[0]['occluded']:.1f}"]
        row += [_mae(by_method.get(method)) for method in methods]
        if in_degrees:
            paper = by_fraction.get(fraction)
            row += [_paper_mae(paper), f"{paper.lwp:g}"] if paper else ["", ""]
        rows.append(row)
    return _table(head, rows + _means_over_fractions(lines, methods, in_degrees))


def _means_over_fractions(
    lines: list[Record], methods: list[str], in_degrees: bool
) -> list[list[str]]:
    """The paper's last line: means over the thresholds, of MAE and of its standard deviation."""
    rows = []
    paper = next(row for row in published.rows("2a") if row.lwp is None)
    clouds = [line for line in lines if line["operator"] == CLOUD]
    for masks, mine in _grouped(clouds, "masks").items():
        # The paper's last line is over all six; over fewer it would compare other clouds.
        if len(_grouped(mine, "fraction")) < len(published.OCCLUDED):
            continue
        met = _mean(mine, "occluded")
        row = [f"{masks}, all", f"{100 * (paper.occluded or math.nan):.1f}", f"{100 * met:.1f}"]
        by_method = _grouped(mine, "method")
        for method in methods:
            own = by_method[method]
            # A mean over fewer thresholds would not be that of the others.
            if all(line["n"] for line in own):
                row.append(_spread(_mean(own, "mae"), _mean(own, "mae_std")))
            else:
                row.append("failed")
        if in_degrees:
            row += [_paper_mae(paper), ""]
        rows.append(row)
    return rows


def _table_2b(lines: list[Record]) -> list[str]:
    """All methods at the paper's middle threshold."""
    theirs = {row.method: row for row in published.rows("2b")}
    head = ["method", "MAE", "of std", "RMSE", "bias", *DISTANCES, "filled", "s"]
    head.append("paper's method of the same kind")
    parts = []
    middle = [line for line in lines if line["fraction"] == published.MIDDLE]
    for (data, masks), mine in _grouped(middle, "data", "masks").items():
        units = mine[0]["units"]
        rows = []
        for line in mine:
            mae, of_std, seconds = _cells(line)
            rmse, bias = _number(line["pooled_rmse"]), _number(line["pooled_bias"], "+")
            filled = _percent(line["filled_fraction"])
            peer = theirs.get(published.COUNTERPARTS.get(line["method"], ""))
            beside = ""
            if peer and units in DEGREES:
                beside = f"{peer.method}: {_paper_mae(peer)} °C on other data"
            method = f"**{line['method']}**"
            rows.append(
                [method, mae, of_std, rmse, bias, *_distances(line), filled, seconds, beside]
            )
        if units in DEGREES:
            for row in theirs.values():
                on = f"on {row.data}, other data (°C)"
                empty = [""] * (len(head) - 3)
                rows.append([f"paper: {row.method}", _paper_mae(row), *empty, on])
        parts.append(f"### {data}, under {masks} ({units})\n\n" + _table(head, rows))
    if not parts:
        return []
    percent = f"{100 * published.MIDDLE:.1f} %"
    title = f"## Table 2b: methods at {percent} (the paper's LWP threshold 70 g m-2)\n"
    return [title, *parts]


def _table_3(lines: list[Record]) -> list[str]:
    """The GAN and its supervised variants, on the ocean they were trained on."""
    title = f"## Table 3: supervised variants of the GAN, at {100 * published.MIDDLE:.1f} %\n"
    rows = _variant_rows(lines, SUPERVISED)
    ours = "Not trained; give --steps.\n"
    if rows:
        ours = _table(["network", "MAE", *DISTANCES, "units"], rows)
    return [title, ours, _published("3")]


def _variant_rows(lines: list[Record], names: Sequence[str]) -> list[list[str]]:
    rows = []
    for name in names:
        wanted = {"method": name, "fraction": published.MIDDLE, "operator": CLOUD}
        line = _first(lines, kind="ocean", **wanted)
        if line is not None:
            rows.append([name, _mae(line), *_distances(line), line["units"]])
    return rows


def _distances(line: Record) -> list[str]:
    return [_number(line["frechet_frames"]), _number(line["frechet_sequences"])]


def _table_4(lines: list[Record]) -> list[str]:
    rows = []
    for line in lines:
        if line["variant"] != STATIC:
            continue
        # The same case filled as a whole, to stand beside it.
        same = {key: line[key] for key in ("data", "masks", "fraction", "method")}
        whole = _first(lines, variant=WHOLE, **same)
        both = [_mae(whole), _mae(line), *_distances(line)]
        rows.append([line["data"], line["method"], *both, line["units"]])
    title = (
        f"## Table 4: without time, at {100 * published.MIDDLE:.1f} %\n\n"
        "Static: each frame is filled as if there were no other, by methods that can; frames "
        "wholly under cloud get the mean of what was seen of the sequence.\n"
    )
    ours = ""
    if rows:
        head = ["data set", "method", "MAE, whole sequence", "MAE, static"]
        ours = _table([*head, *(f"{distance}, static" for distance in DISTANCES), "units"], rows)
    networks = _variant_rows(lines, ABLATED)
    variants = ""
    if networks:
        variants = _table(["network", "MAE", *DISTANCES, "units"], networks)
    return [title, ours, variants, _published("4")]


def _published(table: str) -> str:
    rows = []
    for row in published.rows(table):
        on = f"{row.data} (other data), MAE {row.units}"
        fid, fvd = _number(row.fid), _number(row.fvd)
        rows.append([f"paper: {row.method}", row.operator, _paper_mae(row), fid, fvd, on])
    return _table(["method", "operator", "MAE", "FID", "FVD", "measured on"], rows)


def _failures(lines: list[Record]) -> str:
    rows = []
    for line in lines:
        if line["reason"]:
            case = f"{line['operator']} {_percent(line['fraction'])}"
            rows.append([line["method"], line["variant"], line["data"], case, line["reason"]])
    if not rows:
        return ""
    table = _table(["method", "variant", "data set", "operator", "reason"], rows)
    return "## What failed\n\n" + table


def _first(lines: list[Record], **keys: Any) -> Record | None:
    """Return the first record with these values."""
    for line in lines:
        if all(line[key] == value for key, value in keys.items()):
            return line
    return None


def _grouped(lines: Iterable[Record], *keys: str) -> dict[Any, list[Record]]:
    """Group by the values of some keys, in order of appearance; all NaN are one value."""
    groups: dict[Any, list[Record]] = {}
    for line in lines:
        values = []
        for key in keys:
            value = line[key]
            # One NaN for all, since a key of a dict is found by identity where it is not equal.
            values.append(math.nan if value != value else value)
        group = values[0] if len(keys) == 1 else tuple(values)
        groups.setdefault(group, []).append(line)
    return groups


def _cells(line: Record | None) -> list[str]:
    """MAE, MAE over the standard deviation of the truth, and seconds."""
    if line is None:
        return ["", "", ""]
    of_std = _percent(line["mae"] / line["truth_std"])
    return [_mae(line), of_std, _number(line["seconds"], digits=2)]


def _mae(line: Record | None) -> str:
    if line is None:
        return ""
    if not line["n"]:
        return "failed"
    return _spread(line["mae"], line["mae_std"])


def _paper_mae(row: PublishedScore) -> str:
    if row.mae is None:
        return "unable to finish"
    return _spread(row.mae, row.mae_std)


def _mean(lines: list[Record], key: str) -> float:
    return float(np.mean([line[key] for line in lines]))


def _spread(mean: float, std: float | None) -> str:
    if std is None or not math.isfinite(std):
        return f"{mean:.4f}"
    return f"{mean:.4f} ± {std:.4f}"


def _number(value: float | None, sign: str = "", *, digits: int = 4) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:{sign}.{digits}g}"


def _percent(value: float) -> str:
    if math.isfinite(value):
        return f"{100 * value:.1f} %"
    return ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        # A bar would end the cell.
        cells = [str(cell).replace("|", "\\|") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
