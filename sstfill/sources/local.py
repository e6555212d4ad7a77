# SPDX-License-Identifier: Apache-2.0
"""Sources with a DOI or on the user's disk: cloud simulations and video clips."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from sstfill import io
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.sources.copernicus.request import Target
from sstfill.sources.plan import DownloadPlan
from sstfill.sources.pycles.store import frames_in_chunk
from sstfill.sources.video import files as video_files
from sstfill.sources.video.frames import Framing
from sstfill.sources.video.video import Cutter, check_split, import_video

UNISST = "10.6084/m9.figshare.9929798"
PUBLISHED = (10_800, 64, 64)  # (time, y, x) of the series behind that DOI
TFRECORDS = (
    "TFRecords cannot be read; write each sequence of frames as a folder of pictures, "
    "or as .npy (time, y, x, channel)"
)


@dataclass(frozen=True, kw_only=True)
class PyclesSource:
    """The liquid water path that the paper's authors published, ``(time, y, x)`` in kg m-2.

    Parameters
    ----------
    doi
        Of the data set that holds it; only this one is known.
    path
        A copy on your own disk, taken instead of the download.
    cache
        Folder for the download; by default pooch's own for sstfill.
    """

    doi: str = UNISST
    path: str = ""
    cache: str = ""

    def __post_init__(self) -> None:
        if self.doi != UNISST:
            raise OptionError(
                f"doi={self.doi!r}; only {UNISST} is known. Your own PyCLES runs: "
                "sstfill import-pycles"
            )

    def plan(self, target: Target) -> DownloadPlan:
        """Describe what `run` would do; of a local copy, the header is read."""
        missing = self._missing()
        shape: tuple[int, ...] = PUBLISHED
        cache = self.cache or "pooch's folder"
        if not self.cache and find_spec("pooch") is not None:
            import pooch

            cache = str(pooch.os_cache("sstfill"))
        source = f"doi:{self.doi}, 354 MB, kept in {cache}"
        if self.path:
            source = str(Path(self.path).resolve())
            if not missing:
                from sstfill.occlusion.lwp import published

                shape = published(Path(self.path)).shape
        frames, height, width = shape
        together = frames_in_chunk(frames, (height, width))
        chunks = f"{together} x {height} x {width} (time, y, x)"
        plan = DownloadPlan(
            source=source,
            what="LWP, g m-2",
            box=f"{frames:,} frames of {height} x {width}",
            target=f"Zarr v{target.zarr_format}, chunks {chunks}",
            remarks=tuple(filter(None, [missing])),
        )
        if self.path and missing:  # nobody knows the size of a copy that does not exist
            return plan
        return replace(
            plan,
            sizes={"time": frames, "y": height, "x": width},
            nbytes=4 * math.prod(shape),
            windows=math.ceil(frames / together),
        )

    def run(self, out: str | os.PathLike[str], target: Target) -> xr.Dataset:
        """Fetch or read the array, and write it as a store."""
        from sstfill.sources.pycles.published import published_lwp

        if self.path and (missing := self._missing()):
            raise ReadError(missing)
        published_lwp(
            out, path=self.path or None, cache=self.cache or None, zarr_format=target.zarr_format
        )
        return io.open(out, chunks={})

    def _missing(self) -> str:
        """Return what the user has to do first; empty if there is nothing."""
        if self.path and not Path(self.path).is_file():
            return (
                f"{Path(self.path).resolve()} does not exist; give a copy, or leave path out to "
                "download it"
            )
        if not self.path and find_spec("pooch") is None:
            return "the download needs pooch; install it: pip install 'sstfill[clouds]'"
        return ""


@dataclass(frozen=True, kw_only=True)
class VideoSource:
    """Clips from a folder on your own disk, see `sstfill.sources.video.video.import_video`.

    Parameters
    ----------
    path
        Folder of the clips, from where the command is run.
    size, frames, gray, stride, crop, split, per_clip, axes, dtype, seed
        As for `import_video`; TOML, which knows no None, has ``size = "none"`` and ``per_clip =
        "all"``.
    obtain
        How to obtain the data set, and what to put into `path`.
    """

    path: str
    size: int | Literal["none"] | None = 64
    frames: int = 35
    gray: bool = False
    stride: int = 1
    crop: str | tuple[int, int, int, int] = "none"
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    per_clip: int | Literal["all"] | None = 1
    axes: str | None = None
    dtype: Literal["uint8", "float32"] = "uint8"
    seed: int = 0
    obtain: str = ""

    def __post_init__(self) -> None:
        crop: Any = self.crop
        framing = Framing(size=self._size, gray=self.gray, crop=crop, dtype=self.dtype)
        Cutter(framing=framing, frames=self.frames, stride=self.stride, per_clip=self._per_clip)
        check_split(self.split)

    @property
    def _size(self) -> int | None:
        if isinstance(self.size, str):
            return None
        return self.size

    @property
    def _per_clip(self) -> int | None:
        if isinstance(self.per_clip, str):
            return None
        return self.per_clip

    def plan(self, target: Target) -> DownloadPlan:
        """Describe what `run` would do; the folder is searched, no clip is opened."""
        try:
            number = len(self._sources())
            found = f"{number:,} videos, arrays or folders of pictures found; lengths not looked at"
        except (InputError, ReadError) as error:
            found = str(error)
        size = "pixels as they are"
        if self._size:
            size = f"{self._size} x {self._size} pixels"
        colours = "red, green, blue"
        if self.gray:
            colours = "gray"
        chunks = "a chunk for each sequence (clip, channel, time, y, x)"
        return DownloadPlan(
            source=str(Path(self.path).resolve()),
            what=f"video, {colours}",
            box=f"{self.frames} frames of {size}, {self._per_clip or 'all'} of each clip",
            target=f"Zarr v{target.zarr_format}, {chunks}",
            remarks=(found,),
        )

    def run(self, out: str | os.PathLike[str], target: Target) -> xr.Dataset:
        """Cut the clips, and write them as a store."""
        self._sources()  # the error of a folder without clips says how to obtain them
        crop: Any = self.crop
        return import_video(
            self.path,
            out,
            size=self._size,
            frames=self.frames,
            gray=self.gray,
            stride=self.stride,
            crop=crop,
            split=self.split,
            per_clip=self._per_clip,
            axes=self.axes,
            dtype=self.dtype,
            seed=self.seed,
            zarr_format=target.zarr_format,
        )

    def _sources(self) -> list[Path]:
        folder = Path(self.path)
        if not folder.exists():
            remedy = self.obtain or "put the clips there, or change path"
            raise ReadError(f"{folder.resolve()} does not exist; {remedy}")
        try:
            return video_files.find(folder)
        except InputError as error:
            if any(folder.rglob("*.tfrecord*")):
                raise InputError(
                    f"{folder.resolve()} holds no clips: {self.obtain or TFRECORDS}"
                ) from error
            if self.obtain:
                raise InputError(f"{error}. {self.obtain}") from error
            raise
