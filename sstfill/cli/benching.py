# SPDX-License-Identifier: Apache-2.0
"""``sstfill bench``: run the paper's protocol on what is at hand, and write its tables and figures."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sstfill.cli.source import names
from sstfill.errors import WriteError
from sstfill.evaluation.paper import datasets, protocol, published, records, tables
from sstfill.evaluation.paper.plan import DEVICES, OPERATORS, ProtocolPlan, quick
from sstfill.io import atomic_path, place
from sstfill.methods import METHODS
from sstfill.plot import benchmarks
from sstfill.plot.output import signed

BENCHES = ("paper",)
NAME = "paper"


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill bench``."""
    parser.add_argument(
        "bench",
        choices=BENCHES,
        help="paper: the tables of 'Unsupervised spatiotemporal data "
        "inpainting', its operators and every method, on the data at hand",
    )
    parser.add_argument(
        "--data",
        action="append",
        metavar="DIR",
        default=None,
        help="folder searched for gap-free "
        "series, clips, liquid water path and cloud images; may be repeated; by default the synthetic "
        "ocean under synthetic clouds alone",
    )
    parser.add_argument(
        "--out",
        default="benchmarks-out",
        metavar="DIR",
        help="folder for paper.md, .json, .csv and the figures (default: benchmarks-out)",
    )
    parser.add_argument(
        "--methods", metavar="A,B,C", help=f"of {', '.join(sorted(METHODS))}; by default all"
    )
    parser.add_argument(
        "--operators", metavar="A,B,C", help=f"of {', '.join(OPERATORS)}; by default all"
    )
    parser.add_argument(
        "--sequences", type=int, default=3, metavar="N", help="of each data set (default: 3)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="equal seeds draw equal sequences and masks (default: 0)",
    )
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="for methods that can use a GPU (default: auto)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two small sequences and three occluded shares: seconds "
        "instead of minutes, no numbers to quote",
    )


def run_bench(args: argparse.Namespace) -> Iterator[str]:
    """Run the protocol and write what came of it."""
    methods, operators = names(args.methods), names(args.operators)
    plan = ProtocolPlan(
        sequences=args.sequences,
        seed=args.seed,
        device=args.device,
        methods=tuple(methods) if methods else None,
        operators=tuple(operators) if operators else None,
    )
    yield from paper(quick(plan) if args.quick else plan, args.data or [], args.out)


def paper(plan: ProtocolPlan, folders: Sequence[str | Path], out: str | Path) -> Iterator[str]:
    """Run a plan on what lies in some folders, write tables and figures to `out`, and tell text by
    text.

    Raises
    ------
    ReadError
        A folder does not exist.
    WriteError
        `out` cannot be written to; what is there is untouched.
    """
    check_out(out)
    found = datasets.find(folders)
    for note in found.notes:
        yield f"{'used' if note.used else 'not used':9}{note.path}: {note.how}"
    outcome = protocol.run(plan, found)
    written = write(outcome, found, Path(out))
    yield from _summary(outcome)
    yield f"written to {out}: {', '.join(written)}"


def write(outcome: protocol.ProtocolResult, found: datasets.DatasetChoice, out: Path) -> list[str]:
    """Write tables and figures, all made before the first is written; each replaces its predecessor
    whole.
    """
    pictures = figures(outcome)
    texts = {
        f"{NAME}.json": records.to_json(outcome.results, found.notes),
        f"{NAME}.csv": records.to_csv(outcome.results),
        f"{NAME}.md": tables.to_markdown(outcome.results, found.notes, list(pictures)),
    }
    files = pictures | {name: text.encode() for name, text in texts.items()}
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"cannot make folder {out}: {error.strerror}; choose another --out"
        ) from error
    for name, content in files.items():
        with atomic_path(out / name, replaces=place.check_replaceable) as temporary:
            temporary.write_bytes(content)
    return sorted(files)


def figures(outcome: protocol.ProtocolResult) -> dict[str, bytes]:
    """PNG images by file name; none where matplotlib is absent."""
    if find_spec("matplotlib") is None:
        return {}
    drawn = {}
    if outcome.results["share"].notnull().any():
        drawn[f"{NAME}_by_share.png"] = benchmarks.by_share(outcome.results, references())
    for number, sample in enumerate(outcome.samples, 1):
        drawn[f"{NAME}_sample_{number}.png"] = benchmarks.strip(sample)
    images = {}
    for name, figure in drawn.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, **signed("png"))
        images[name] = buffer.getvalue()
    return images


def references() -> dict[str, list[tuple[float, float]]]:
    """The paper's MAE (°C) by occluded share under clouds, on its own data.

    >>> references()["DINEOF (Alvera-Azcárate 2011)"]
    [(0.395, 0.1214)]
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for row in [
        *published.rows("2a"),
        *(r for r in published.rows("2b") if r.method == published.DINEOF),
    ]:
        if row.lwp and row.mae is not None and row.occluded is not None:
            points.setdefault(row.method, []).append((row.occluded, row.mae))
    return points


def check_out(out: str | Path) -> None:
    """Refuse before the work a folder that could not be written after it."""
    place.check_parent(out)
    if Path(out).exists() and not Path(out).is_dir():
        raise WriteError(f"cannot write to {out}: it is a file; choose another --out")
    for written in sorted(Path(out).glob(f"{NAME}[._]*")):
        place.check_replaceable(written)


def _summary(outcome: protocol.ProtocolResult) -> Iterator[str]:
    """One line for each data set: the best method over all its rows, and what failed."""
    lines = records.records(outcome.results)
    for data in dict.fromkeys(line["data"] for line in lines):
        mine = [
            line for line in lines if line["data"] == data and line["variant"] == protocol.WHOLE
        ]
        won = [min(group, key=lambda line: line["mae"])["method"] for group in _settings(mine)]
        told = ", ".join(
            f"{m} {won.count(m)}" for m in sorted(set(won), key=won.count, reverse=True)
        )
        yield f"{data}: least MAE in {len(won)} settings: {told or 'none filled'}"
    failed = [line for line in lines if line["reason"]]
    if failed:
        yield f"{len(failed)} of {len(lines)} rows failed, the first ({failed[0]['method']}): {failed[0]['reason']}"


def _settings(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if line["n"]:
            groups.setdefault(f"{line['operator']} {line['masks']} {line['share']}", []).append(
                line
            )
    return list(groups.values())
