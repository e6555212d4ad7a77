# SPDX-License-Identifier: Apache-2.0
"""``sstfill import-pycles`` and ``sstfill clouds``: a simulated series of liquid water path,
imported and looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from sstfill import io, plot
from sstfill.cli.downloading import Watch
from sstfill.cli.source import check_picture, names
from sstfill.errors import OptionError
from sstfill.evaluation.paper import published
from sstfill.occlusion.lwp import SPIN_UP, in_grams, lwp_series, ordered
from sstfill.plot.sheet import new_figure
from sstfill.sources.pycles.clouds import occluded_fractions
from sstfill.sources.pycles.pycles import LAYOUTS, import_pycles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMES, MASKS, PICTURE = 4, 3, 1.7  # frames and masks that are drawn; inches of one


def add_import_pycles(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill import-pycles``."""
    parser.add_argument(
        "directory", metavar="OUTPUT_DIR", help="what PyCLES wrote: Output.<simname>.<id>"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="OUT",
        help="Zarr store to write; one made of the same before is kept, another is refused",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="where several were written: visualization files, fields of "
        "each rank, or what combine3d.py joined; by default the one with most frames",
    )
    parser.add_argument(
        "--stats",
        metavar="FILE",
        help="Stats.*.nc with the density for 3-D fields, where the run's own is not in its folder",
    )
    parser.add_argument(
        "--start",
        metavar="DATE",
        help="date at which the simulation starts; by default time is in seconds since then",
    )
    parser.add_argument("--zarr-format", type=int, choices=(2, 3), default=3, help="(default: 3)")


def run_import_pycles(args: argparse.Namespace) -> Iterator[str]:
    """Import a run, and say what was found."""
    watch = Watch()
    out = import_pycles(
        args.directory,
        args.out,
        layout=args.layout,
        stats=args.stats,
        start=args.start,
        zarr_format=args.zarr_format,
    )
    with io.reading(out), io.open(out) as written:
        yield _found(written)
        yield watch.said(out, written.attrs)


def _found(ds: xr.Dataset) -> str:
    series = ds["LWP"]
    last = len(series) - 1
    sizes = ", ".join(f"{d} {n}" for d, n in series.sizes.items())
    return f"LWP ({sizes}) from {ds.attrs['lwp_from']}, {when(series, 0)} to {when(series, last)}"


def add_clouds(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill clouds``."""
    parser.add_argument(
        "input",
        metavar="LWP",
        help="series of liquid water path: NetCDF, Zarr, or the paper's .npy",
    )
    parser.add_argument(
        "--thresholds",
        action="append",
        metavar="A,B,C",
        help="in g m-2; by default those of the paper",
    )
    parser.add_argument(
        "--start-after",
        type=int,
        default=SPIN_UP,
        metavar="N",
        help=f"frames left out while the clouds form (default: {SPIN_UP})",
    )
    parser.add_argument(
        "--plot", metavar="PNG", help="also draw some frames, and what thresholds make of them"
    )


def run_clouds(args: argparse.Namespace) -> Iterator[str]:
    """Print the occluded share of each threshold, and draw."""
    check_picture(args.plot, args.input)
    thresholds = _numbers(args.thresholds) or sorted(paper())
    with io.reading(args.input):
        series = lwp_series(args.input)
        try:
            shares = occluded_fractions(series, thresholds, start_after=args.start_after)
            yield table(series, thresholds, shares, args.start_after)
            if args.plot:
                figure = draw(series, thresholds, shares, start_after=args.start_after)
                yield f"drawn to {plot.save(figure, args.plot)}"
        finally:
            series.close()


def paper() -> dict[float, float]:
    """Occluded share by threshold (g m-2) on the paper's own series, its Table 2a.

    >>> paper()[70]
    0.395
    """
    return {
        row.lwp: row.occluded
        for row in published.rows("2a")
        if row.lwp is not None and row.occluded is not None
    }


def table(
    series: xr.DataArray, thresholds: Sequence[float], shares: Sequence[float], start_after: int
) -> str:
    """Lay out the occluded shares in percent, beside the paper's where it has the threshold."""
    sizes = ", ".join(f"{d} {n}" for d, n in series.sizes.items())
    known = paper()
    lines = [
        f"LWP ({sizes}), frames {start_after} to {series.sizes['time'] - 1}",
        "  above g m-2  occluded   in the paper",
    ]
    for threshold, share in zip(thresholds, shares, strict=True):
        theirs = f"{100 * known[threshold]:>11.1f} %" if threshold in known else ""
        lines.append(f"  {threshold:>11g}  {100 * share:>6.1f} % {theirs}".rstrip())
    return "\n".join(lines)


def draw(
    series: xr.DataArray, thresholds: Sequence[float], shares: Sequence[float], *, start_after: int
) -> Figure:
    """Draw frames spread over the series after spin-up, and below each what some of the thresholds
    leave to be seen.
    """
    ordering, grams = ordered(series, None)
    steps = np.unique(np.linspace(start_after, len(ordering) - 1, FRAMES).round().astype(int))
    frames = [in_grams(ordering[int(step)], grams) for step in steps]
    rows = np.unique(np.linspace(0, len(thresholds) - 1, MASKS).round().astype(int))
    tall = PICTURE * float(np.clip(frames[0].shape[0] / frames[0].shape[1], 0.3, 3))
    figure = new_figure(
        PICTURE * len(steps) + 1.4, (tall + 0.1) * (len(rows) + 1) + 0.6, "constrained"
    )
    boxes = figure.subplots(len(rows) + 1, len(steps), squeeze=False)
    top = max(float(np.percentile(frames, 99)), 1e-6)
    for column, (step, frame) in enumerate(zip(steps, frames, strict=True)):
        image = boxes[0, column].imshow(
            frame, vmin=0, vmax=top, cmap="Blues_r", origin="lower", interpolation="nearest"
        )
        boxes[0, column].set_title(when(ordering, int(step)), fontsize="small")
        for row, chosen in enumerate(rows, 1):
            hidden = frame > thresholds[chosen]
            boxes[row, column].imshow(
                hidden, vmin=0, vmax=1, cmap="Blues_r", origin="lower", interpolation="nearest"
            )
    for row, chosen in enumerate(rows, 1):
        boxes[row, 0].set_ylabel(
            f"above {thresholds[chosen]:g}\n{shares[chosen]:.1%} of the series", fontsize="small"
        )
    for ax in boxes.ravel():
        ax.set(xticks=[], yticks=[])
    boxes[0, 0].set_ylabel("LWP", fontsize="small")
    figure.colorbar(image, ax=list(boxes[0]), pad=0.01, extend="max").set_label(
        "g m-2", fontsize="small"
    )
    return figure


def when(series: xr.DataArray, step: int) -> str:
    """Time of a frame: a date, the minutes of a simulation, or its number."""
    clock = series["time"][step] if "time" in series.coords else None
    if clock is not None and clock.dtype.kind == "M":
        return str(clock.values.astype("datetime64[s]")).replace("T", " ")
    if clock is not None and series["time"].attrs.get("units") in ("s", "seconds"):
        return f"{float(clock) / 60:g} min"
    return f"frame {step}"


def _numbers(given: list[str] | None) -> list[float]:
    try:
        return [float(word) for word in names(given) or []]
    except ValueError as error:
        raise OptionError(
            f"--thresholds {','.join(given or [])}: {error}; give numbers with commas between"
        ) from error
