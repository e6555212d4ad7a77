# SPDX-License-Identifier: Apache-2.0
"""Sources that are fetched by DOI or lie on the user's disk: cloud simulations and video clips."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from sstfill import io
from sstfill.errors import OptionError
from sstfill.sources.plan import Plan
from sstfill.sources.request import Target

UNISST = "10.6084/m9.figshare.9929798"


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
            raise OptionError(f"doi={self.doi!r}; only {UNISST} is known. Your own PyCLES runs: sstfill import-pycles")

    def plan(self, target: Target) -> Plan:
        """Say what `run` would do."""
        where = self.path or f"doi:{self.doi}"
        missing = (f"{self.path} is not there; give a copy, or leave path out to download it",)
        return Plan(source=where, what="LWP, g m-2", box="10,800 frames of 64 x 64",
                    target=f"Zarr v{target.zarr_format}",
                    remarks=missing if self.path and not Path(self.path).is_file() else ())  # fmt: skip

    def run(self, out: str | os.PathLike[str], target: Target) -> xr.Dataset:
        """Fetch or read the array, and write it as a store."""
        from sstfill.sources.pycles_published import published_lwp

        published_lwp(out, path=self.path or None, cache=self.cache or None, zarr_format=target.zarr_format)
        return io.open(out, chunks={})


@dataclass(frozen=True, kw_only=True)
class VideoSource:
    """Clips from a folder on your own disk; see `sstfill.sources.video.import_video` for what the options mean.

    Parameters
    ----------
    path
        Folder of the clips.
    size, frames, gray, stride, crop, split, per_clip, axes, dtype, seed
        As for `import_video`.
    obtain
        Where the data set is had, and what to put into `path`.
    """

    path: str
    size: int | None = 64
    frames: int = 35
    gray: bool = False
    stride: int = 1
    crop: str | tuple[int, int, int, int] = "none"
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    per_clip: int | None = 1
    axes: str | None = None
    dtype: Literal["uint8", "float32"] = "uint8"
    seed: int = 0
    obtain: str = ""

    def plan(self, target: Target) -> Plan:
        """Say what `run` would do."""
        there = Path(self.path).exists()
        size = f"{self.size} x {self.size} pixels" if self.size else "pixels as they are"
        return Plan(
            source=self.path, what=f"video, {'gray' if self.gray else 'red, green, blue'}",
            box=f"{self.frames} frames of {size}",
            target=f"Zarr v{target.zarr_format}",
            remarks=() if there else (f"{self.path} is not there; {self.obtain or 'put the clips into it'}",),
        )  # fmt: skip

    def run(self, out: str | os.PathLike[str], target: Target) -> xr.Dataset:
        """Cut the clips, and write them as a store."""
        if not Path(self.path).exists():
            raise OptionError(f"{self.path} is not there; {self.obtain or 'put the clips into it, or change path'}")
        from sstfill.sources.video import import_video

        crop: Any = self.crop
        return import_video(
            self.path, out, size=self.size, frames=self.frames, gray=self.gray, stride=self.stride, crop=crop,
            split=self.split, per_clip=self.per_clip, axes=self.axes, dtype=self.dtype, seed=self.seed,
            zarr_format=target.zarr_format,
        )  # fmt: skip
