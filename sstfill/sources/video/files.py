# SPDX-License-Identifier: Apache-2.0
"""Read clips picture by picture: video files, folders of pictures, and arrays."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import InputError, OptionError, ReadError
from sstfill.io.untrusted import arrays, guard

VIDEOS = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".gif")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
ARRAYS = (".npy", ".npz", ".mat")
PLAIN = "save it again as a plain array, or remove it"
STEP = np.float32(65535 / 255)
"""Steps of 16 bits for one of 8 bits."""
LAYOUTS = {3: ("tyx",), 4: ("tyxc", "tcyx", "ntyx"), 5: ("ntyxc", "ntcyx")}
"""Axes of arrays by their number: the first layout that fits, in which c has length 1 or 3."""
MATLAB_LAYOUTS = {3: ("yxt",), 4: ("yxct", "yxtn"), 5: ("yxctn",)}

Pictures = Iterator[NDArray[Any]]


class Footage(NamedTuple):
    """A clip: its name, and its pictures ``(y, x, channel)`` one after another."""

    name: str
    pictures: Pictures


def find(path: Path) -> list[Path]:
    """List videos, arrays and folders of pictures at or below `path`, in natural order.

    Raises
    ------
    ReadError
        No such folder.
    InputError
        It holds no clips; the error names what it holds.
    """
    if not path.exists():
        raise ReadError(f"no clips at {path}: no such file or folder; check the name")
    if path.is_file():
        return [path]
    found: list[Path] = []
    other: set[str] = set()
    for folder, folders, files in os.walk(path):
        # in place: os.walk enters what is left in the list
        folders[:] = [name for name in folders if not name.startswith(".")]
        has_pictures = False
        for name in files:
            member = Path(folder) / name
            suffix = member.suffix.lower()
            if name.startswith("."):
                continue
            if suffix in VIDEOS + ARRAYS:
                found.append(member)
            elif suffix in PICTURES:
                has_pictures = True
            else:
                other.add(member.suffix or name)
        if has_pictures:
            found.append(Path(folder))
    if not found:
        contents = "nothing"
        if other:
            contents = f"only {', '.join(sorted(other)[:8])}"
        raise InputError(
            f"no clips in {path}: it holds {contents}; give videos ({' '.join(VIDEOS[:5])} ...), "
            f"folders of pictures ({' '.join(PICTURES[:2])}) or arrays ({' '.join(ARRAYS)})"
        )
    return sorted(found, key=lambda p: natural(p.relative_to(path).as_posix()))


def natural(text: str) -> list[tuple[int, str]]:
    """Return a sorting key by which ``frame10`` comes after ``frame9``.

    >>> sorted(["f10", "f9", "f1"], key=natural)
    ['f1', 'f9', 'f10']
    """
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def read(
    source: Path, name: str, axes: str | None, *, fractions: bool = False
) -> Iterator[Footage]:
    """Read the clips of one source; only arrays hold several.

    Pictures are uint8, 0 (black) to 255 (white). Where a file has more than 8 bits to a colour they
    are rounded to that, or, with `fractions`, float32 in the same range: a value of a 16-bit PNG
    over 257. Values of arrays are as they are.
    """
    if source.is_dir():
        yield Footage(name, _folder(source, fractions))
    elif source.suffix.lower() in ARRAYS:
        yield from _arrays(source, name, axes)
    else:
        yield Footage(name, _video(source, fractions))


def _video(path: Path, fractions: bool) -> Pictures:
    with guard.open_video(path) as container:
        for frame in container.decode(video=0):
            # telephones store pictures as the sensor lies, with a note how to turn them
            yield upright(_colours(frame, fractions), frame.rotation)


def _colours(frame: Any, fractions: bool) -> NDArray[Any]:
    """Return red, green and blue ``(y, x, 3)``, see `read`."""
    if max(part.bits for part in frame.format.components) <= 8:
        return np.asarray(frame.to_ndarray(format="rgb24"))
    # FFmpeg widens what has 10 or 12 bits to 16, so that one divisor serves all
    values = np.asarray(frame.to_ndarray(format="rgb48le"), np.float32) / STEP
    if fractions:
        return values
    return np.rint(values).astype(np.uint8)


def upright(picture: NDArray[Any], rotation: int) -> NDArray[Any]:
    """Turn a picture by `rotation` degrees counterclockwise, as its file asks for."""
    return np.rot90(picture, round(rotation / 90))


def _folder(folder: Path, fractions: bool) -> Pictures:
    first: tuple[Path, tuple[int, ...]] | None = None
    for file in sorted(folder.iterdir(), key=lambda f: natural(f.name)):
        if file.suffix.lower() not in PICTURES or file.name.startswith("."):
            continue
        with guard.open_video(file) as container:
            picture = next(container.decode(video=0), None)
            if picture is None:
                raise ReadError(f"cannot decode {file}: it holds no picture; replace or remove it")
            values = _colours(picture, fractions)
        first = first or (file, values.shape)
        if values.shape != first[1]:
            raise InputError(
                f"{file} is {values.shape[0]}x{values.shape[1]}, {first[0].name} is "
                f"{first[1][0]}x{first[1][1]}; give each clip a folder of its own"
            )
        yield values


def _arrays(path: Path, name: str, axes: str | None) -> Iterator[Footage]:
    for key, array in _loaded(path):
        label = name
        if key:
            label = f"{name}:{key}"
        letters = axes or _layout(array.shape, path)
        if sorted(letters) != sorted(set(letters) & set("ntcyx")) or not set("tyx") <= set(letters):
            raise OptionError(
                f"axes={letters!r}; name each axis once: n (clip), t, c (channel), y, x, "
                "such as 'ntyxc'"
            )
        if len(letters) != array.ndim:
            raise InputError(
                f"{label} of shape {array.shape} does not have the axes {letters!r}; "
                "name its own: axes="
            )
        if array.dtype.kind not in "uif":
            raise InputError(f"{label} holds {array.dtype} values; save it as uint8 or float32")
        yield from _split(array, letters, label)


def _layout(shape: tuple[int, ...], path: Path) -> str:
    layouts = LAYOUTS
    if path.suffix.lower() == ".mat":
        layouts = MATLAB_LAYOUTS
    if len(shape) not in layouts:
        raise InputError(
            f"{path} has shape {shape}; clips have 3 to 5 axes (time, y, x, maybe channel and clip)"
        )
    for letters in layouts[len(shape)]:
        if "c" not in letters or shape[letters.index("c")] in (1, 3):
            break
    return letters  # the last one if none fits


def _split(array: NDArray[Any], letters: str, label: str) -> Iterator[Footage]:
    """Split an array into clips, lazily if it is mapped to memory."""
    clips = array.transpose([letters.index(letter) for letter in "ntyxc" if letter in letters])
    if "n" not in letters:
        clips = clips[None]
    if "c" not in letters:
        clips = clips[..., None]
    for number, clip in enumerate(clips):
        name = f"{label}[{number}]" if "n" in letters else label
        yield Footage(name, (np.asarray(picture) for picture in clip))


def _loaded(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Read the arrays of a file by name; the one array of a ``.npy`` file has none."""
    if path.suffix.lower() == ".mat":
        yield from _candidates(path, arrays.matlab_arrays(path, axes=3))
    elif path.suffix.lower() == ".npy":
        yield "", arrays.map_array(path, PLAIN)
    else:
        with arrays.open_arrays(path, PLAIN) as archive:
            yield from _candidates(path, archive)


def _candidates(
    path: Path, members: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays of three axes or more."""
    found = False
    for key, array in members.items():
        if array.ndim >= 3:
            found = True
            yield key, array
    if not found:
        raise InputError(
            f"{path} holds no array of 3 axes or more (time, y, x); save the clip as one"
        )
