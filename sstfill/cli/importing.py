# SPDX-License-Identifier: Apache-2.0
"""``sstfill import-video`` and ``sstfill import-granules``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import numpy as np

from sstfill.cli.downloading import Watch
from sstfill.cli.source import add_variables, names
from sstfill.errors import OptionError
from sstfill.sources.granules.granules import import_granules
from sstfill.sources.video.frames import Crop
from sstfill.sources.video.video import SPLITS, import_video


def add_import_video(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of ``sstfill import-video``."""
    parser.add_argument(
        "input",
        metavar="PATH",
        help="folder of video files, folders of pictures (png, jpg), .npy, "
        ".npz or .mat arrays; or one file",
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
        help="shares of train, validation and test, by clip (default: 0.9,0.05,0.05)",
    )
    parser.add_argument(
        "--per-clip", default="1", metavar="N|all", help="most sequences of a clip (default: 1)"
    )
    parser.add_argument(
        "--axes",
        metavar="LETTERS",
        help="axes of arrays, such as ntyxc (clip, time, y, x, channel); "
        "by default told from their shape",
    )
    parser.add_argument(
        "--dtype", default="uint8", metavar="uint8|float32", help="how to store (default: uint8)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the split (default: 0)"
    )


def run_import_video(args: argparse.Namespace) -> Iterator[str]:
    """Import clips, and say how many."""
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
        shape = " x ".join(f"{ds.sizes[d]} {d}" for d in ds["video"].dims)
        left_out = json.loads(ds.attrs["sstfill_import"])["clips_left_out"]
        ended = watch.said(args.out, ds.attrs)
    yield f"video {shape}; {parts}"
    if left_out:
        yield f"{left_out} clips have fewer than {args.frames} frames at stride {args.stride}, and are left out"
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
    """Import granules, and say from when to when."""
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
        said = json.loads(ds.attrs["sstfill_import"])
        first, last = ds.attrs["time_coverage_start"], ds.attrs["time_coverage_end"]
        steps = ds["granule"].size
        ended = watch.said(args.out, ds.attrs)
    yield f"{said['granules']} granules -> {steps} steps from {first} to {last}, {said['empty_steps']} of them empty"
    yield f"fields: {', '.join(said['variables'])}"
    yield ended


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        required=True,
        metavar="OUT.zarr",
        help="the store; one made of the same before is kept, another is refused",
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
    top, left, height, width = (_whole("--crop", t, "four numbers") for t in _four(text))
    return top, left, height, width


def _four(text: str) -> list[str]:
    words = text.split(",")
    if len(words) != 4:
        raise OptionError(
            f"--crop {text}; give four whole numbers of pixels: top,left,height,width"
        )
    return words


def _whole(option: str, text: str, wanted: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise OptionError(f"{option} {text}; give {wanted}") from error


def _split(text: str) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(word) for word in text.split(","))
    except ValueError as error:
        raise OptionError(f"--split {text}; give three shares such as 0.9,0.05,0.05") from error
    return train, validation, test
