# SPDX-License-Identifier: Apache-2.0
"""``sstfill import-granules``, ``import-video``, ``import-pycles``, and ``sstfill clouds``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from sstfill import io, plot
from sstfill.cli.downloading import Watch
from sstfill.cli.source import add_variables, check_picture, names
from sstfill.errors import OptionError
from sstfill.evaluation.paper import published
from sstfill.occlusion.lwp import SPIN_UP, frame_label, lwp_series
from sstfill.plot import clouds
from sstfill.printable import printable
from sstfill.sources.granules.granules import import_granules
from sstfill.sources.pycles.clouds import occluded_fractions
from sstfill.sources.pycles.pycles import LAYOUTS, import_pycles
from sstfill.sources.video.frames import Crop
from sstfill.sources.video.video import SPLITS, import_video


def add_import_video(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill import-video``."""
    parser.add_argument(
        "input",
        metavar="PATH",
        help="folder of video files, folders of pictures (png, jpg), .npy, .npz or .mat arrays; "
        "or one file",
    )
    _add_output(parser)
    parser.add_argument(
        "--size", default="64", metavar="N|none", help="height and width in pixels (default: 64)"
    )
    parser.add_argument(
        "--frames", type=int, default=35, metavar="N", help="frames of a sequence (default: 35)"
    )
    parser.add_argument(
        "--gray", action="store_true", help="one channel in place of red, green and blue"
    )
    parser.add_argument(
        "--stride", type=int, default=1, metavar="N", help="take each N-th frame (default: 1)"
    )
    parser.add_argument(
        "--crop",
        default="none",
        metavar="none|center|TOP,LEFT,HEIGHT,WIDTH",
        help="what to cut out before resizing (default: none)",
    )
    parser.add_argument(
        "--split",
        default="0.9,0.05,0.05",
        metavar="A,B,C",
        help="fractions of train, validation and test, by clip (default: 0.9,0.05,0.05)",
    )
    parser.add_argument(
        "--per-clip",
        default="1",
        metavar="N|all",
        help="greatest number of sequences of a clip (default: 1)",
    )
    parser.add_argument(
        "--axes",
        metavar="LETTERS",
        help="axes of arrays, such as ntyxc (clip, time, y, x, channel); by default inferred from "
        "their shape",
    )
    parser.add_argument(
        "--dtype", default="uint8", metavar="uint8|float32", help="how to store (default: uint8)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the split (default: 0)"
    )


def run_import_video(args: argparse.Namespace) -> Iterator[str]:
    """Import clips, and report how many."""
    watch = Watch()
    with import_video(
        args.input,
        args.out,
        size=_count("size", args.size, "none"),
        frames=args.frames,
        gray=args.gray,
        stride=args.stride,
        crop=_crop(args.crop),
        split=_split(args.split),
        per_clip=_count("per-clip", args.per_clip, "all"),
        axes=args.axes,
        dtype=args.dtype,
        seed=args.seed,
        zarr_format=args.zarr_format,
    ) as ds:
        count = np.bincount(ds["split"].values, minlength=len(SPLITS))
        parts = ", ".join(f"{n} {name}" for n, name in zip(count, SPLITS, strict=True))
        # In the order of the dims: `sizes` of a Dataset has an order of its own.
        shape = " x ".join(f"{ds.sizes[d]} {d}" for d in ds["video"].dims)
        # Too short clips are no error: folders of videos usually hold some.
        left_out = json.loads(ds.attrs["sstfill_import"])["clips_left_out"]
        ended = watch.summary(args.out, ds.attrs)
    yield f"video {shape}; {parts}"
    if left_out:
        yield (
            f"{left_out} clips have fewer than {args.frames} frames at stride {args.stride}, "
            "and are left out"
        )
    yield ended


def add_import_granules(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill import-granules``."""
    parser.add_argument(
        "input", metavar="PATH", nargs="+", help="folder of granules, a glob in quotes, or files"
    )
    _add_output(parser)
    add_variables(parser)
    parser.add_argument(
        "--quality-level",
        type=int,
        metavar="N",
        help="lowest GHRSST quality to keep, 0 to 5 (best); all by default",
    )
    parser.add_argument(
        "--step",
        default="auto",
        metavar="auto|none|LENGTH",
        help="time step, such as 1D or 12h; none adds no empty steps (default: auto)",
    )
    parser.add_argument(
        "--duplicates",
        default="refuse",
        metavar="refuse|latest",
        help="two granules of one step (default: refuse)",
    )


def run_import_granules(args: argparse.Namespace) -> Iterator[str]:
    """Import granules, and report how many and of which dates."""
    watch = Watch()
    with import_granules(
        args.input,
        args.out,
        variables=names(args.variable),
        quality_level=args.quality_level,
        step=args.step,
        duplicates=args.duplicates,
        zarr_format=args.zarr_format,
    ) as ds:
        record = json.loads(ds.attrs["sstfill_import"])
        first, last = ds.attrs["time_coverage_start"], ds.attrs["time_coverage_end"]
        steps = ds["granule"].size
        ended = watch.summary(args.out, ds.attrs)
    yield printable(
        f"{record['granules']} granules -> {steps} steps from {first} to {last}, "
        f"{record['empty_steps']} of them empty"
    )
    yield printable(f"fields: {', '.join(record['variables'])}")
    yield ended


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        required=True,
        metavar="OUT.zarr",
        help="the store; an earlier one of the same input is kept, any other is refused",
    )
    parser.add_argument(
        "--zarr-format", type=int, default=3, metavar="N", help="2 or 3 (default: 3)"
    )


def _count(option: str, text: str, nothing: str) -> int | None:
    if text.lower() == nothing:
        return None
    return _whole(f"--{option}", text, f"a whole number, or {nothing}")


def _crop(text: str) -> Crop:
    if "," not in text:
        return text  # type: ignore[return-value]  # checked with the others
    wanted = "four whole numbers of pixels: top,left,height,width"
    numbers = [_whole("--crop", word, wanted) for word in text.split(",")]
    if len(numbers) != 4:
        raise OptionError(f"--crop {text}; give {wanted}")
    top, left, height, width = numbers
    return top, left, height, width


def _whole(option: str, text: str, wanted: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise OptionError(f"{option} {text}; give {wanted}") from error


def _split(text: str) -> tuple[float, float, float]:
    try:
        # Three numbers exactly: unpacking raises the same ValueError as a word that is none.
        train, validation, test = map(float, text.split(","))
    except ValueError as error:
        raise OptionError(f"--split {text}; give three fractions such as 0.9,0.05,0.05") from error
    return train, validation, test


def add_import_pycles(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill import-pycles``."""
    parser.add_argument(
        "directory", metavar="OUTPUT_DIR", help="what PyCLES wrote: Output.<simname>.<id>"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="OUT",
        help="the store; an earlier one of the same input is kept, any other is refused",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="which output to use, where there are several: visualization files, fields of each "
        "rank, or what combine3d.py joined; by default the one with most frames",
    )
    parser.add_argument(
        "--stats",
        metavar="FILE",
        help="Stats.*.nc with the density for 3-D fields, where the folder of the run has none",
    )
    parser.add_argument(
        "--start",
        metavar="DATE",
        help="date at which the simulation starts; by default time is in seconds since then",
    )
    parser.add_argument("--zarr-format", type=int, choices=(2, 3), default=3, help="(default: 3)")


def run_import_pycles(args: argparse.Namespace) -> Iterator[str]:
    """Import a run, and report what it holds."""
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
        yield watch.summary(out, written.attrs)


def _found(ds: xr.Dataset) -> str:
    series = ds["LWP"]
    last = len(series) - 1
    sizes = ", ".join(f"{d} {n}" for d, n in series.sizes.items())
    dates = f"{frame_label(series, 0)} to {frame_label(series, last)}"
    return printable(f"LWP ({sizes}) from {ds.attrs['lwp_from']}, {dates}")


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
        "--plot", metavar="PNG", help="also draw some frames, and the masks of some thresholds"
    )


def run_clouds(args: argparse.Namespace) -> Iterator[str]:
    """Print the occluded fraction for each threshold, and draw."""
    check_picture(args.plot, [args.input])
    # low to high, as the paper's table has them
    thresholds = _numbers(args.thresholds) or sorted(published.occluded_by_threshold())
    with io.reading(args.input):
        series = lwp_series(args.input)
        try:
            fractions = occluded_fractions(series, thresholds, start_after=args.start_after)
            yield table(series, thresholds, fractions, args.start_after)
            if args.plot:
                figure = clouds.masks(series, thresholds, fractions, start_after=args.start_after)
                yield f"drawn to {plot.save(figure, args.plot)}"
        finally:
            # The series is lazy: its file must stay open until the last frame is drawn.
            series.close()


def table(
    series: xr.DataArray, thresholds: Sequence[float], fractions: Sequence[float], start_after: int
) -> str:
    """Lay out the occluded percentages, beside the paper's where it has the threshold."""
    sizes = ", ".join(f"{d} {n}" for d, n in series.sizes.items())
    # The fractions that the paper states, so that a user sees whether the series is the paper's.
    known = published.occluded_by_threshold()
    lines = [
        f"LWP ({sizes}), frames {start_after} to {series.sizes['time'] - 1}",
        "  above g m-2  occluded   in the paper",
    ]
    for threshold, fraction in zip(thresholds, fractions, strict=True):
        line = f"  {threshold:>11g}  {100 * fraction:>6.1f} %"
        if threshold in known:
            line += f" {100 * known[threshold]:>11.1f} %"
        lines.append(line)
    return "\n".join(lines)


def _numbers(given: list[str] | None) -> list[float]:
    try:
        return [float(word) for word in names(given) or []]
    except ValueError as error:
        raise OptionError(
            f"--thresholds {','.join(given or [])}: {error}; give numbers with commas between"
        ) from error
