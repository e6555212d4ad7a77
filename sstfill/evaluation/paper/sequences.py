# SPDX-License-Identifier: Apache-2.0
"""Sources of the paper's protocol: sequences with known truth, and masks taken from data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sstfill import io, occlusion, synthetic
from sstfill.errors import InputError
from sstfill.fields import grid
from sstfill.io.untrusted import guard

Kind = Literal["ocean", "series", "clip"]
Mask = NDArray[np.bool_]
Span = tuple[int, int | None]
"""The first of some images, and the one after the last."""
WHOLE: Span = (0, None)
TRIES = 200  # windows drawn until one serves
LEAST_SEA = 0.5  # of a crop
COVER = (0.05, 0.95)  # of a sequence of windows over a scene
OUTSIDE = 0.1  # fraction of a sequence of windows that may lie on land or off the swath
FASTEST = 4.0  # pixels a frame, of a window over a scene
MOST_FRAMES = 3000  # decoded of a clip


class TruthSource(Protocol):
    """Where true sequences come from."""

    @property
    def name(self) -> str:
        """Name in tables, and part of the seed of each draw."""
        ...

    @property
    def kind(self) -> Kind:
        """Kind of source: a synthetic ocean, a gap-free series or a clip."""
        ...

    @property
    def units(self) -> str:
        """Units of the errors."""
        ...

    def draw(self, frames: int, size: int, rng: np.random.Generator) -> xr.Dataset:
        """Draw a sequence: a variable a channel, float32 ``(time, y, x)``, NaN on land alone."""
        ...


class Masks(Protocol):
    """A source of masks, such as the operators of `sstfill.occlusion`."""

    def draw(self, shape: tuple[int, int, int], rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` (True = seen) of `shape` (time, y, x)."""
        ...


@dataclass(frozen=True, kw_only=True)
class SyntheticOcean:
    """The synthetic ocean: 5 km pixels, 6 hours from frame to frame as in the paper.

    Unsteady, images differ from one to the next as those of an hourly satellite do
    (`sstfill.synthetic.UNSTEADY`).

    >>> dict(SyntheticOcean().draw(2, 8, np.random.default_rng(0)).sizes)
    {'time': 2, 'lat': 8, 'lon': 8}
    """

    unsteady: bool = False
    kind: ClassVar[Kind] = "ocean"
    units: ClassVar[str] = "°C"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "unsteady synthetic ocean" if self.unsteady else "synthetic ocean"

    def draw(self, frames: int, size: int, rng: np.random.Generator) -> xr.Dataset:
        """Simulate a sequence."""
        seed = int(rng.integers(2**31))
        further = synthetic.UNSTEADY if self.unsteady else {}
        truth = synthetic.sst(shape=(frames, size, size), step="6h", seed=seed, **further)
        return truth.to_dataset(name="sst")


@dataclass(frozen=True, kw_only=True)
class SeriesFile:
    """A gap-free series in a file; a draw is a random span of it in a random window.

    Along an edge shorter than the window all of it is taken. A pixel with a gap counts as land.
    `images` are those that it has, by default all of the file.
    """

    name: str
    path: Path
    variable: str
    units: str
    images: Span = WHOLE
    kind: ClassVar[Kind] = "series"

    def count(self, size: int) -> int:
        """Count the images, whatever the size of a sequence."""
        del size
        with self._opened() as field:
            return field.sizes["time"]

    def whole(self, size: int) -> xr.DataArray:
        """Read all images in their own size, a pixel with a gap as land."""
        del size
        with self._opened() as field:
            guard.check_memory(self.path, f"{self.variable!r}", 2 * field.nbytes)
            truth = field.load()
        return truth.where(truth.notnull().all("time")).astype("float32").rename(self.variable)

    def draw(self, frames: int, size: int, rng: np.random.Generator) -> xr.Dataset:
        """Draw a window that is at least half sea; `InputError` where none is found."""
        with self._opened() as whole:
            wanted = dict(zip(whole.dims, (frames, size, size), strict=True))
            for _ in range(TRIES):
                window = {}
                for dim, length in wanted.items():
                    start = int(rng.integers(max(whole.sizes[dim] - length, 0) + 1))
                    window[dim] = slice(start, start + length)
                crop = whole.isel(window).load()
                # A truth has no gaps, so that a pixel with one is left out in all images.
                crop = crop.where(crop.notnull().all("time"))
                if crop[0].notnull().mean() >= LEAST_SEA and crop.std() > 0:
                    return crop.astype("float32").to_dataset(name=self.variable)
        raise InputError(
            f"{self.name}: no window of {size}x{size} without gaps and at least half sea "
            f"in {TRIES} draws"
        )

    @contextmanager
    def _opened(self) -> Iterator[xr.DataArray]:
        """Open its images."""
        with io.reading(self.path), io.open(self.path, chunks={}) as ds:
            yield grid.standardise(ds[self.variable]).isel(time=slice(*self.images))


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video file; a draw is a random span of its frames, squares with values from -1 to 1.

    `images` are those that it has, by default all of the file.
    """

    name: str
    path: Path
    channels: tuple[str, ...] = ("grey",)
    images: Span = WHOLE
    kind: ClassVar[Kind] = "clip"
    units: ClassVar[str] = "of the range -1 to 1"

    def count(self, size: int) -> int:
        """Count the frames."""
        return len(decoded(self.path, size, grey=True)[slice(*self.images)])

    def whole(self, size: int) -> xr.DataArray:
        """Decode all frames, in grey whatever the channels."""
        frames = _signed(decoded(self.path, size, grey=True)[slice(*self.images), ..., 0])
        return xr.DataArray(frames, dims=("time", "y", "x"), name="grey")

    def draw(self, frames: int, size: int, rng: np.random.Generator) -> xr.Dataset:
        """Draw consecutive frames; `InputError` where the clip is shorter."""
        whole = decoded(self.path, size, len(self.channels) == 1)[slice(*self.images)]
        if len(whole) < frames:
            raise InputError(
                f"{self.name}: {len(whole)} frames, {frames} are needed; give a longer clip"
            )
        start = int(rng.integers(len(whole) - frames + 1))
        values = _signed(whole[start : start + frames])
        dims = ("time", "y", "x")
        return xr.Dataset({c: (dims, values[..., k]) for k, c in enumerate(self.channels)})


@dataclass(frozen=True, kw_only=True)
class MovingShapes:
    """Discs, squares and bars that cross a soft background and bounce off the edges, grey.

    The edges of each are smooth over a pixel, so that a shape moves by any fraction of one.

    >>> dict(MovingShapes().draw(2, 8, np.random.default_rng(0)).sizes)
    {'time': 2, 'y': 8, 'x': 8}
    """

    name: str = "moving shapes"
    kind: ClassVar[Kind] = "clip"
    units: ClassVar[str] = "of the range -1 to 1"
    shapes: int = 4

    def draw(self, frames: int, size: int, rng: np.random.Generator) -> xr.Dataset:
        """Draw a clip; values from -1 to 1."""
        return self.scene(frames, size, size, rng).to_dataset(name="grey")

    def scene(self, frames: int, size: int, side: int, rng: np.random.Generator) -> xr.DataArray:
        """Draw a clip `side` pixels wide, of shapes as large and as many as in one of `size`."""
        soft = gaussian_filter(rng.standard_normal((side, side)), size / 8, mode="reflect")
        values = np.tile(0.3 * soft / np.abs(soft).max(), (frames, 1, 1))
        y, x = np.mgrid[:side, :side].astype(float)
        for _ in range(round(self.shapes * (side / size) ** 2)):
            # Fast enough to cross a picture of `size` in 24 frames.
            start, velocity = rng.uniform(0, side, 2), rng.uniform(-size, size, 2) / 24
            height, width = rng.uniform(size / 12, size / 5, 2)
            # Clearly darker or brighter than the background.
            disc, shade = rng.random() < 0.5, rng.choice([-1, 1]) * rng.uniform(0.5, 1)
            for t in range(frames):
                # a path that folds at the edges is one that bounces
                folded = np.mod(start + velocity * t, 2 * side)
                row, column = np.minimum(folded, 2 * side - folded)
                if disc:
                    outside = np.hypot(y - row, x - column) - width
                else:
                    outside = np.maximum(np.abs(y - row) - height, np.abs(x - column) - width)
                cover = np.clip(0.5 - outside, 0, 1)
                values[t] += cover * (shade - values[t])
        return xr.DataArray(values.astype("float32"), dims=("time", "y", "x"), name="grey")


def _signed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale pixels of 0 to 255 to -1 to 1."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


@lru_cache(maxsize=4)
def decoded(path: Path, size: int, grey: bool) -> NDArray[np.uint8]:
    """Decode a clip with PyAV, ``(time, size, size, channel)``, at most `MOST_FRAMES` of it.

    Raises
    ------
    InputError
        PyAV is absent.
    ReadError
        PyAV cannot read the file.
    """
    pixels, channels = ("gray", 1) if grey else ("rgb24", 3)
    pictures = []
    with guard.open_video(path) as container:
        for frame in container.decode(video=0):
            small = frame.reformat(width=size, height=size, format=pixels).to_ndarray()
            pictures.append(small.reshape(size, size, -1))
            if len(pictures) == MOST_FRAMES:
                break
    if not pictures:
        return np.empty((0, size, size, channels), np.uint8)
    return np.stack(pictures)


@dataclass(frozen=True, kw_only=True, eq=False)
class LwpClouds:
    """Clouds of a liquid-water-path series, with a threshold (g m-2) for each occluded fraction."""

    name: str
    lwp: xr.DataArray = field(repr=False)
    thresholds: dict[float, float]
    stride: int
    start_after: int

    def at(self, fraction: float) -> occlusion.Cloud:
        """Return the measurement operator that occludes this fraction."""
        return occlusion.Cloud(
            lwp=self.lwp,
            threshold=self.thresholds[fraction],
            stride=self.stride,
            start_after=self.start_after,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CloudScene:
    """Cloud classes of an image (y, x): what is `hidden` and `outside` (land, off the swath)."""

    name: str
    hidden: Mask = field(repr=False)
    outside: Mask = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneWindows:
    """A window that moves across a satellite image at a random velocity, a frame for each step."""

    scenes: tuple[CloudScene, ...]

    def draw(self, shape: tuple[int, int, int], rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` whose cover is 5 to 95 %; `InputError` where none is found."""
        for _ in range(TRIES):
            scene = self.scenes[int(rng.integers(len(self.scenes)))]
            corners = _path(scene.hidden.shape, shape, rng)
            if corners is None:
                continue
            hidden = _windows(scene.hidden, corners, shape[1:])
            outside = _windows(scene.outside, corners, shape[1:])
            if COVER[0] <= hidden.mean() <= COVER[1] and outside.mean() <= OUTSIDE:
                return ~hidden
        raise InputError(
            f"no window of {shape[1]}x{shape[2]} with 5 to 95 % cloud in {TRIES} draws from "
            f"{', '.join(s.name for s in self.scenes)}"
        )


def _path(
    plane: tuple[int, ...], shape: tuple[int, int, int], rng: np.random.Generator
) -> NDArray[np.int_] | None:
    """Draw the upper left corners ``(time, 2)`` of a moving window; None if it leaves the scene."""
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, FASTEST)
    # How far the corner may go; below 0 where the scene is smaller than the window.
    room = np.subtract(plane, shape[1:])
    steps = np.outer(np.arange(shape[0]), speed * np.array([np.sin(angle), np.cos(angle)]))
    middle = rng.uniform(0, 1, 2) * np.maximum(room, 0)
    # About the middle of the path, so that fast windows are found as often near any edge.
    corners = np.rint(middle + steps - steps.mean(0)).astype(int)
    if not ((corners >= 0) & (corners <= room)).all():
        return None
    return corners


def _windows(plane: Mask, corners: NDArray[np.int_], size: tuple[int, ...]) -> Mask:
    return np.stack([plane[y : y + size[0], x : x + size[1]] for y, x in corners])
