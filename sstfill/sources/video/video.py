# SPDX-License-Identifier: Apache-2.0
"""Import video clips into one Zarr store ``(clip, channel, time, y, x)``, split for training."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill import io
from sstfill.checks import check_number
from sstfill.errors import InputError, OptionError
from sstfill.progress import track
from sstfill.sources.atomic_store import check_store, is_made, provenance, whole_store
from sstfill.sources.video import files as video_files
from sstfill.sources.video.files import Footage
from sstfill.sources.video.frames import Crop, Dtype, Framing

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


class Cut(NamedTuple):
    """A sequence cut from a clip, by the number of its first frame; ``(channel, time, y, x)``."""

    clip: str
    start: int
    values: NDArray[Any]


@dataclass(kw_only=True)
class Cutter:
    """Cuts clips into sequences.

    `short` collects the names of clips too short for one; `first` is the name and size of the first
    clip, to which all others must be equal.
    """

    framing: Framing
    frames: int
    stride: int
    per_clip: int | None
    short: list[str] = field(default_factory=list)
    first: tuple[str, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        check_number("frames", self.frames, 1, whole=True)
        check_number("stride", self.stride, 1, whole=True)
        if self.per_clip is not None:
            check_number("per_clip", self.per_clip, 1, whole=True)

    def cuts(self, clip: Footage) -> Iterator[Cut]:
        """Yield the sequences of a clip, without overlap; a remainder is left out."""
        chosen = itertools.islice(clip.pictures, 0, None, self.stride)
        for number in itertools.count():
            if number == self.per_clip:
                return
            pictures = [self.framing(p, clip.name) for p in itertools.islice(chosen, self.frames)]
            if len(pictures) < self.frames:
                if number == 0:
                    stride = ""
                    if self.stride > 1:
                        stride = f" at stride {self.stride}"
                    log.warning(
                        "%s is left out: it has %d frames%s, %d are needed",
                        clip.name,
                        len(pictures),
                        stride,
                        self.frames,
                    )
                    self.short.append(clip.name)
                return
            values = np.stack(pictures, axis=1)
            size = values.shape[2:]
            self.first = self.first or (clip.name, size)
            first, expected = self.first
            if size != expected:
                raise InputError(
                    f"{clip.name} is {size[0]}x{size[1]}, {first} is {expected[0]}x{expected[1]}; "
                    "bring them to one size, such as size=64"
                )
            yield Cut(clip.name, number * self.frames * self.stride, values)


def import_video(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int | None = 64,
    frames: int = 35,
    gray: bool = False,
    stride: int = 1,
    crop: Crop = "none",
    split: tuple[float, float, float] = (0.9, 0.05, 0.05),
    per_clip: int | None = 1,
    axes: str | None = None,
    dtype: Dtype = "uint8",
    seed: int = 0,
    zarr_format: int = 3,
    shard_bytes: float = 16e6,
) -> xr.Dataset:
    """Import video clips into one Zarr store, clip by clip; it is written whole or not at all.

    Clips are video files, folders of pictures (one clip each, in natural order of their names), and
    arrays in ``.npy``, ``.npz`` or ``.mat`` (before MATLAB 7.3), at or below `path`. A clip shorter
    than needed is left out with a warning.

    Parameters
    ----------
    path
        A folder, searched with all folders in it, or one file.
    out
        The store, ``.zarr``; one made from the same with the same options is returned, any other
        refused.
    size
        Height and width of the frames in pixels, to which they are resized; None keeps those of the
        clips.
    frames
        Frames of a sequence.
    gray
        One channel, the BT.601 luma, in place of red, green and blue.
    stride
        Take each `stride`-th frame.
    crop
        Before resizing: ``"none"``, ``"center"`` (the largest square), or ``(top, left, height,
        width)`` in pixels.
    split
        Fractions of train, validation and test. All sequences of a clip fall in the same; from
        three clips on, a fraction above 0 has at least one clip.
    per_clip
        Most sequences cut from a clip, one after another; None takes all.
    axes
        Axes of arrays, a letter for each: n (clip), t, c (channel), y, x. By default from the
        shape: ``tyx``, ``tyxc``, ``tcyx``, ``ntyx``, ``ntyxc``, ``ntcyx`` in .npy and .npz,
        ``yxt``, ``yxct``, ``yxtn`` in .mat.
    dtype
        ``"uint8"``, or ``"float32"`` with the values as they came. Pictures are 0 (black) to 255
        (white) in both; those of more than 8 bits, such as 16-bit PNG, are rounded in the first and
        keep their fractions in the second.
    seed
        Seed of the split.
    zarr_format
        2 or 3.
    shard_bytes
        Bytes of sequences that share a file of a store of format 3, in which each can still be read
        alone.

    Returns
    -------
    xarray.Dataset
        The store opened lazily: ``video(clip, channel, time, y, x)``, names ``clip``, and for each
        the ``source`` clip, its ``first_frame`` and its ``split`` (0 train, 1 validation, 2 test).

    Raises
    ------
    InputError
        No clips, none long enough, sizes or values that do not fit.
    ReadError
        A file that cannot be decoded; nothing is written.
    OptionError, WriteError
        A value outside its range; an output that cannot be written.
    """
    fractions = check_split(split)
    cutter = Cutter(
        framing=Framing(size=size, gray=gray, crop=crop, dtype=dtype),
        frames=frames,
        stride=stride,
        per_clip=per_clip,
    )
    sources = video_files.find(Path(path))
    check_store(out, zarr_format, sources)  # the store may lie beside the clips
    options = {
        "from": str(Path(path).resolve()),
        "files": len(sources),
        "size": size,
        "frames": frames,
        "gray": gray,
        "stride": stride,
        "crop": crop,
        "split": fractions,
        "per_clip": per_clip,
        "axes": axes,
        "dtype": dtype,
        "seed": seed,
    }
    if is_made(out, zarr_format, "import-video", options):
        return io.open(out, chunks={})
    with whole_store(out, zarr_format) as store:
        cuts = _cuts(sources, Path(path), axes, cutter)
        kept = _write(cuts, store, cutter, zarr_format, shard_bytes)
        if not kept:
            raise InputError(
                f"none of {len(cutter.short)} clips in {path} has {frames} frames at stride "
                f"{stride}; ask for fewer: frames=... (--frames)"
            )
        # after the values: which clips are long enough shows only then
        labels = _labels(kept, per_clip, fractions, seed)
        labels["channel"] = ("channel", np.array(cutter.framing.channels, dtype=object))
        options |= {"clips_left_out": len(cutter.short)}
        labels.attrs = {"Conventions": "CF-1.11", "title": f"Video clips from {Path(path).name}"}
        labels.attrs |= provenance(str(Path(path).resolve()), "import-video", options)
        labels.to_zarr(store, mode="a", zarr_format=zarr_format, consolidated=False)
    return io.open(out, chunks={})


def check_split(split: tuple[float, float, float]) -> tuple[float, ...]:
    """Check the fractions of train, validation and test, and return them."""
    fractions = tuple(map(float, split))
    valid = len(fractions) == 3 and all(0 <= fraction <= 1 for fraction in fractions)
    if not valid or abs(sum(fractions) - 1) > 1e-6:
        raise OptionError(
            f"split={split!r}; give the fractions of train, validation and test, which add up to 1"
        )
    return fractions


def _cuts(sources: list[Path], root: Path, axes: str | None, cutter: Cutter) -> Iterator[Cut]:
    fractions = cutter.framing.dtype == "float32"
    for source in track(sources, "clips", len(sources)):
        name = root.name
        if source != root:
            name = source.relative_to(root).as_posix()
        for clip in video_files.read(source, name, axes, fractions=fractions):
            yield from cutter.cuts(clip)


def _write(
    cuts: Iterator[Cut], store: Path, cutter: Cutter, zarr_format: int, shard_bytes: float
) -> list[tuple[str, int]]:
    """Write sequences some megabytes at a time; return the clip and first frame of each."""
    kept: list[tuple[str, int]] = []
    first = next(cuts, None)
    if first is None:
        return kept
    together = 1  # Zarr v2 knows no shards
    if zarr_format == 3:
        # A shard is held in memory while it is written.
        together = max(1, min(512, int(shard_bytes // first.values.nbytes)))
    # The first has been taken to learn the size of a sequence.
    cuts = itertools.chain([first], cuts)
    while batch := list(itertools.islice(cuts, together)):
        video = _video(np.stack([cut.values for cut in batch]), cutter)
        if kept:
            video.to_zarr(store, append_dim="clip", zarr_format=zarr_format, consolidated=False)
        else:
            encoding = {"chunks": (1, *first.values.shape)}
            if together > 1:
                encoding["shards"] = (together, *first.values.shape)
            video.to_zarr(
                store,
                mode="w-",
                zarr_format=zarr_format,
                consolidated=False,
                encoding={"video": encoding},
            )
        kept += [(cut.clip, cut.start) for cut in batch]
    return kept


def _video(values: NDArray[Any], cutter: Cutter) -> xr.Dataset:
    dims = ("clip", "channel", "time", "y", "x")
    attrs: dict[str, Any] = {"long_name": "brightness", "units": "1"}
    if cutter.framing.dtype == "uint8":
        attrs |= {"valid_min": np.uint8(0), "valid_max": np.uint8(255)}
    return xr.Dataset({"video": (dims, values, attrs)})


def _labels(
    kept: list[tuple[str, int]], per_clip: int | None, fractions: tuple[float, ...], seed: int
) -> xr.Dataset:
    """Return name, source clip, first frame and split of each sequence."""
    source = [clip for clip, _ in kept]
    start = [first for _, first in kept]
    names = source
    if per_clip != 1:
        names = [f"{clip}@{first}" for clip, first in kept]
    # by clip, not by sequence: sequences of one clip are too alike to test on
    assigned = _assigned(list(dict.fromkeys(source)), fractions, seed)
    split = np.array([assigned[clip] for clip in source], np.int8)
    flags = {
        "long_name": "part of the data set",
        "flag_values": np.arange(3, dtype=np.int8),
        "flag_meanings": " ".join(SPLITS),
    }
    ds = xr.Dataset()
    ds["clip"] = _text(names, "name of the sequence")
    ds["source"] = _text(source, "clip that the sequence was cut from")
    ds["first_frame"] = ("clip", np.array(start), {"long_name": "first frame in the clip"})
    ds["split"] = ("clip", split, flags)
    return ds


def _text(values: list[str], long_name: str) -> xr.Variable:
    return xr.Variable("clip", np.array(values, dtype=object), {"long_name": long_name})


def _assigned(clips: list[str], fractions: tuple[float, ...], seed: int) -> dict[str, int]:
    """Return the number of the split of each clip, by a seeded draw."""
    count = len(clips)
    # from three clips on, each split that is asked for has one at least
    least = [int(fraction > 0 and count >= 3) for fraction in fractions]
    first = max(round(fractions[1] * count), least[1])
    # By cumulative sums, so that the parts always add up to all clips.
    second = max(round((fractions[1] + fractions[2]) * count), first + least[2])
    # What training must keep is taken off last, from the others.
    second = min(second, count - least[0])
    first = min(first, second - least[2])
    parts = [1] * first + [2] * (second - first) + [0] * (count - second)
    order = np.random.default_rng(seed).permutation(count)
    return {clips[number]: part for number, part in zip(order, parts, strict=True)}
