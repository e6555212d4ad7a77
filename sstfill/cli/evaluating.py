# SPDX-License-Identifier: Apache-2.0
"""``sstfill score``, ``sstfill demo`` and ``sstfill bench``: how well the methods do."""

from __future__ import annotations

import argparse
import io as memory
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sstfill import io, plot
from sstfill.cli.source import (
    add_input,
    add_transform,
    check_output,
    check_picture,
    names,
    sea,
    series,
)
from sstfill.errors import WriteError
from sstfill.evaluation import score
from sstfill.evaluation.paper import datasets, protocol, published, records, tables
from sstfill.evaluation.paper.plan import DEVICES, FEATURES, OPERATORS, ProtocolPlan, quick
from sstfill.evaluation.withheld import ALL
from sstfill.fill import fill
from sstfill.io import atomic_path
from sstfill.io.output import place
from sstfill.methods import METHODS, Method
from sstfill.plot import benchmarks
from sstfill.plot.output import signed
from sstfill.printable import printable
from sstfill.report.summary import summary
from sstfill.synthetic import ocean
from sstfill.training.options import OCCLUDED_VALUE
from sstfill.training.paper.each_dataset import train_on_each
from sstfill.training.paper.variants import VariantTraining, trained
from sstfill.validation import metrics

BENCHES = ("paper",)
NAME = "paper"
QUICK = ("climatology", "interpolate", "dineof", "bayes_eof", "oi")


def add_score(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill score``."""
    add_input(parser)
    parser.add_argument(
        "--methods",
        metavar="A,B,C",
        help=f"of {', '.join(sorted(METHODS))}, with default options; "
        "all for each one that works with so many images; by default all but auto, which costs as "
        "much as the others together",
    )
    parser.add_argument("--variable", metavar="V", help="which field, where there are several")
    parser.add_argument(
        "--clouds",
        choices=("dates", "runs"),
        default="dates",
        help="dates: hide each image under the clouds of another date; runs: hide runs of dates, "
        "as long as gaps of the series last (default: dates)",
    )
    parser.add_argument(
        "--fraction",
        type=float,
        default=0.1,
        metavar="X",
        help="fraction of the observed pixels to hide (default: 0.1)",
    )
    parser.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="hide N times and pool (default: 1)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="equal seeds hide equal pixels (default: 0)",
    )
    parser.add_argument(
        "--no-calibrate",
        action="store_true",
        help="score the errors as the methods state them, not as fill scales them; halves the time",
    )
    add_transform(parser)
    parser.add_argument(
        "--members",
        type=int,
        default=0,
        metavar="N",
        help="also score N fields drawn by each method that can draw (default: 0)",
    )
    parser.add_argument("--plot", metavar="PNG", help="also draw the scores")
    parser.add_argument("--json", metavar="FILE", help="also write all numbers as JSON")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def run_score(args: argparse.Namespace) -> Iterator[str]:
    """Score methods on a file and print the table."""
    check_picture(args.plot, args.inputs)
    if args.json is not None:
        place.check(args.json, args.inputs)
    with series(args) as ds:
        wanted = ALL if args.methods == ALL else names(args.methods)
        card = score(
            ds,
            wanted,
            variable=args.variable,
            clouds=args.clouds,
            fraction=args.fraction,
            seed=args.seed,
            repeats=args.repeats,
            sea=sea(args.sea),
            calibrate=not args.no_calibrate,
            transform=args.transform,
            members=args.members,
        )
    yield card.to_markdown() if args.markdown else str(card)
    if args.json:
        with atomic_path(args.json, replaces=place.check_replaceable) as temporary:
            temporary.write_text(card.to_json())
        yield f"numbers written to {args.json}"
    if args.plot:
        yield f"drawn to {plot.save(plot.scorecard(card), args.plot)}"


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill demo``."""
    parser.add_argument(
        "--out", default=".", metavar="DIR", help="folder for filled.nc and filled.png (default: .)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another ocean (default: 0)"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=3,
        default=(60, 96, 96),
        metavar=("DAYS", "ROWS", "COLUMNS"),
        help="of the ocean (default: 60 96 96)",
    )


def run_demo(args: argparse.Namespace) -> Iterator[str]:
    """Make an ocean, score the methods, fill with the best, and compare with the truth."""
    target, picture = Path(args.out) / "filled.nc", Path(args.out) / "filled.png"
    check_output(str(target))
    drawn = all(find_spec(name) for name in ("matplotlib", "cartopy"))
    if drawn:
        check_picture(str(picture))
    days, rows, columns = args.size
    seen = ocean(shape=(days, rows, columns), step="1D", seed=args.seed)
    yield f"a synthetic ocean of {days} days, {rows} x {columns} pixels, behind moving clouds\n"
    card = score(seen, QUICK, variable="sst", seed=args.seed)
    yield f"{card}\n"
    filled = fill(seen, card.best, variables="sst", seed=args.seed)
    yield summary(filled)
    gap = (filled.sst_source == 1).values  # pixels that were filled
    error = metrics.rmse(filled.sst.values[gap], seen.truth.values[gap])
    yield f"  truth   RMSE {error:.3f} {seen.sst.units} at all filled pixels (known here)\n"
    io.write(filled, target)
    yield f"written to {target}"
    if drawn:
        yield f"drawn to {plot.save(plot.maps(filled, variable='sst'), picture)}"
    else:
        yield "not drawn: a picture needs pip install 'sstfill[plot]'"


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill bench``."""
    parser.add_argument(
        "bench",
        choices=BENCHES,
        help="paper: the tables of 'Unsupervised spatiotemporal data inpainting' (Yin et al. 2019) "
        "with its operators and every method, on the data at hand",
    )
    parser.add_argument(
        "--data",
        action="append",
        metavar="DIR",
        default=None,
        help="folder searched for gap-free series, clips, liquid water path and cloud images; may "
        "be repeated; by default only the synthetic ocean under synthetic clouds",
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
        "--frames", type=int, default=24, metavar="N", help="of a sequence (default: 24)"
    )
    parser.add_argument(
        "--size", type=int, default=64, metavar="N", help="of a frame, pixels (default: 64)"
    )
    parser.add_argument(
        "--unsteady",
        action="store_true",
        help="let images of the synthetic ocean differ from one to the next as those of an hourly "
        "satellite do: means that swing, currents of tides, warm afternoons",
    )
    parser.add_argument(
        "--shapes", action="store_true", help="also clips of moving shapes, which are generated"
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
        "--features",
        choices=FEATURES,
        default="random",
        help="of frames, for Frechet distances: of random weights, or of EfficientNet-lite0 from "
        "the extra features, which takes 0.05 s for each frame of each fill (default: random)",
    )
    for option, network, distance in (("inception", "InceptionV3", "FID"), ("i3d", "I3D", "FVD")):
        parser.add_argument(
            f"--{option}",
            metavar="FILE",
            help=f"weights of {network}, with which the Frechet distance is {distance}",
        )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="train the paper's network and its variants, N steps each, and put them beside the "
        "methods: all on the synthetic ocean, the paper's own on each other data set, too, of "
        "which the last images alone are scored then; hours for thousands of steps without a GPU; "
        "by default they are left out",
    )
    parser.add_argument(
        "--base",
        type=int,
        default=4,
        metavar="N",
        help="channels of their first layer (default: 4; the paper's: 32)",
    )
    parser.add_argument(
        "--occluded-value",
        type=float,
        default=OCCLUDED_VALUE,
        metavar="C",
        help="what they see where a pixel is occluded, in scaled units, -1 to 1 (default: 1, as "
        "the paper's authors have it; with 0 they have learnt sooner)",
    )
    parser.add_argument(
        "--networks",
        metavar="DIR",
        help="folder where they are kept: taken from there the next time, trained on where they "
        "were interrupted (default: networks in the folder of --out)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two small sequences and three occluded fractions: seconds instead of minutes, for a "
        "trial; do not quote the numbers",
    )


def run_bench(args: argparse.Namespace) -> Iterator[str]:
    """Run the protocol and write its tables and figures."""
    methods, operators = names(args.methods), names(args.operators)
    plan = ProtocolPlan(
        sequences=args.sequences,
        frames=args.frames,
        size=args.size,
        seed=args.seed,
        device=args.device,
        features=args.features,
        inception=args.inception,
        i3d=args.i3d,
        methods=tuple(methods) if methods else None,
        operators=tuple(operators) if operators else None,
    )
    if args.quick:
        plan = quick(plan)
    check_out(args.out)
    found = datasets.find(args.data or [], unsteady=args.unsteady, shapes=args.shapes)
    for note in found.notes:
        used = "used" if note.used else "not used"
        yield printable(f"{used:9}{note.path}: {note.how}")
    networks: dict[str, dict[str, Method]] = {}
    # hours of training, so that networks are kept and taken up again
    if args.steps is not None:
        folder = args.networks or str(Path(args.out) / "networks")
        training = VariantTraining(
            steps=args.steps,
            base=args.base,
            occluded_value=args.occluded_value,
            unsteady=args.unsteady,
            folder=folder,
        )
        networks, found, words = train_on_each(training, plan, found)
        plan = replace(plan, training=str(training), trained_on=words)
        ocean = found.sources[0].name
        on_ocean = trained(
            training, frames=plan.frames, size=plan.size, seed=plan.seed, device=plan.device
        )
        networks[ocean] = dict(on_ocean)
        for data, how in words.items():
            yield printable(f"{data}: {how}")
    outcome = protocol.run(plan, found, networks)
    written = write(outcome, found, Path(args.out))
    yield from _summary(outcome)
    yield f"written to {args.out}: {', '.join(written)}"


def write(outcome: protocol.ProtocolResult, found: datasets.DatasetChoice, out: Path) -> list[str]:
    """Write tables and figures; all are made before the first is written, each is atomic."""
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
    if outcome.results["fraction"].notnull().any():
        drawn[f"{NAME}_by_fraction.png"] = benchmarks.by_fraction(outcome.results, references())
    for number, sample in enumerate(outcome.samples, 1):
        drawn[f"{NAME}_sample_{number}.png"] = benchmarks.strip(sample)
    images = {}
    for name, figure in drawn.items():
        buffer = memory.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, **signed("png"))
        images[name] = buffer.getvalue()
    return images


def references() -> dict[str, list[tuple[float, float]]]:
    """The paper's MAE (°C) by occluded fraction under clouds, on its own data.

    >>> references()["DINEOF (Alvera-Azcárate 2011)"]
    [(0.395, 0.1214)]
    """
    points: dict[str, list[tuple[float, float]]] = {}
    dineof = [row for row in published.rows("2b") if row.method == published.DINEOF]
    for row in [*published.rows("2a"), *dineof]:
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
    """One line for each data set: how often each method was best; then what failed."""
    lines = records.records(outcome.results)
    for data in dict.fromkeys(line["data"] for line in lines):
        settings: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            # rows in which nothing was filled or hidden have no error to compare
            if line["data"] == data and line["variant"] == protocol.WHOLE and line["n"]:
                setting = f"{line['operator']} {line['masks']} {line['fraction']}"
                settings.setdefault(setting, []).append(line)
        best = [min(group, key=lambda line: line["mae"]) for group in settings.values()]
        wins = Counter(line["method"] for line in best)
        counts = ", ".join(f"{method} {n}" for method, n in wins.most_common())
        yield printable(f"{data}: least MAE in {len(best)} settings: {counts or 'none filled'}")
    failed = [line for line in lines if line["reason"]]
    if failed:
        first = f"the first ({failed[0]['method']}): {failed[0]['reason']}"
        yield printable(f"{len(failed)} of {len(lines)} rows failed, {first}")
