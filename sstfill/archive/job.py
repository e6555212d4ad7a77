# SPDX-License-Identifier: Apache-2.0
"""The folder beside a filled store: request, fitted methods, days, and the run under way.

filled.zarr.job/
    lock              held by the process that works on the output
    job.json          what was asked for, by which version, about which grid
    model/VARIABLE/   the fitted method
    days/VARIABLE.npz what the input held when the output was made
    next/             the run under way: the same members, its ledger, and staged.zarr
    commit            there while what is in next/ is being put in place
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from sstfill import config
from sstfill.archive.source import Stats
from sstfill.archive.store import REVISION, ROOT, publish
from sstfill.errors import ReadError, WriteError
from sstfill.fields.transform import Asked
from sstfill.io.output import place
from sstfill.io.output.atomic import atomic_path, fail, flush, noted
from sstfill.io.output.lock import OutputLock
from sstfill.io.untrusted.arrays import read_arrays
from sstfill.io.untrusted.documents import checked, misfit, parse_json, read_json
from sstfill.methods.common import former
from sstfill.methods.registry import MOST_MEMBERS
from sstfill.version import __version__

FORMAT = 1
"""Format of the folder; another format is refused."""
PARTS = ("lock", "job.json", "model", "days", "next", "commit")
"""Members of the folder."""
ARRAYS = {"time": "i", "digest": "u", "count": "i", "revision": "i", "sample": "f", "stats": "U"}
"""Arrays of a file of days, and the kinds of their dtypes."""

Name = Annotated[str, Field(min_length=1, pattern=r"^[^/\x00]+$")]
"""Name of a variable; it becomes the name of a file."""


class JobDocument(BaseModel):
    """The content of ``job.json``: see `sstfill.archive.settings.RunSettings.request`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    format: int
    version: str
    mode: Literal["first", "refit", "update"]
    variables: Annotated[list[Name], Field(min_length=1)]
    quality_level: int | None
    l2p_flags: list[str]
    group: str | None = None
    grid: Annotated[list[Any], Field(min_length=2)]
    core: tuple[int, int, int]
    seed: Annotated[int, Field(strict=True, ge=0)]
    method: str
    options: dict[str, Any]
    transform: Asked = "none"
    members: Annotated[int, Field(strict=True, ge=0, le=MOST_MEMBERS)] = 0
    like: str | None = None
    lakes: bool | None = None
    input: str = ""


@dataclass(frozen=True)
class Days:
    """What an archive held when it was last read.

    Attributes
    ----------
    time
        Days as whole microseconds since 1970, ``(time,)``.
    digest, count
        Digest of the observations of each image, and their number.
    revision
        How often each day of the output was made.
    sample
        ``(time, point)``, see `sstfill.methods.base.Window`.
    stats
        Files of the archive.
    """

    time: NDArray[np.int64]
    digest: NDArray[np.uint64]
    count: NDArray[np.int64]
    revision: NDArray[np.int32]
    sample: NDArray[np.float32]
    stats: Stats

    def save(self, path: Path) -> None:
        """Write to a file, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # file names are of any length: as JSON, not as an array of equally long texts
        arrays = config.without(vars(self), ["stats"])
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, stats=np.array(json.dumps(self.stats)), **arrays)

    @classmethod
    def none(cls, points: int) -> Days:
        """Return the days of an archive that was never read: none."""
        return cls(
            time=np.zeros(0, np.int64),
            digest=np.zeros(0, np.uint64),
            count=np.zeros(0, np.int64),
            revision=np.zeros(0, np.int32),
            sample=np.zeros((0, points), np.float32),
            stats={},
        )

    @classmethod
    def load(cls, path: Path) -> Days:
        """Read from a file; `ReadError` if it is damaged, or its arrays do not go together."""
        remedy = f"remove {path.parents[1]} and fill anew"
        arrays = read_arrays(path, ARRAYS, remedy=remedy)
        if arrays.keys() != ARRAYS.keys():
            raise ReadError(f"cannot read {path}: it holds an array that is not of days; {remedy}")
        shapes = {name: arrays[name].shape for name in ("time", "digest", "count", "revision")}
        sample = arrays["sample"]
        one_shape = len(set(shapes.values())) == 1 and arrays["time"].ndim == 1
        if not one_shape or sample.shape[:-1] != arrays["time"].shape:
            raise ReadError(
                f"cannot read {path}: its arrays have {shapes} and {sample.shape}; {remedy}"
            )
        found = parse_json(str(arrays.pop("stats")), path, remedy=remedy)
        try:
            stats = TypeAdapter(Stats).validate_python(found, strict=True)
        except ValueError as error:
            raise ReadError(f"cannot read {path}: {misfit(error)}; {remedy}") from error
        return cls(**arrays, stats=stats)


class FillJob:
    """The folder of a job, open to one process at a time; use as a context.

    A lock of the operating system sees to that: it goes with the process that holds it.
    """

    def __init__(self, out: Path) -> None:
        self.out = place.resolved(out) if out.is_symlink() else out
        self.folder = self.out.with_name(self.out.name + ".job")
        self.next = self.folder / "next"
        self.staged = self.next / "staged.zarr"
        # Whether opening the job has completed a run that was cut short while it was put in place.
        self.ended = False
        self._lock = OutputLock(self.out)

    def __enter__(self) -> FillJob:
        try:
            self._check_folder()
            self._lock.__enter__()
            if (self.folder / "commit").exists():
                self._put_in_place()
                self.ended = True
            if self.begun is None:
                # What is left is of a run that was put in place, or that was never begun.
                shutil.rmtree(self.next, ignore_errors=True)
        except BaseException as error:
            self.__exit__()
            if isinstance(error, OSError):
                fail(self.out, error)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()

    def _check_folder(self) -> None:
        """Refuse a folder that no job made, and whatever else lies in one."""
        held: set[str] = set()
        with contextlib.suppress(FileNotFoundError):
            # Suppressed, because another job may be removing the folder at this moment.
            held = {member.name for member in self.folder.iterdir()}
        begun = (self.next / "job.json").is_file() or held & {"lock", "job.json", "commit"}
        temporary = {name for name in held if name.startswith(".") and ".tmp" in name}
        strange = sorted(held - temporary - set(PARTS))
        if strange or (held and not begun):
            named = ", ".join((strange or sorted(held))[: place.NAMED])
            raise WriteError(
                f"cannot write {self.out}: the job keeps its state in {self.folder}, which holds "
                f"{named}; move that elsewhere, or choose another output"
            )

    @property
    def finished(self) -> dict[str, Any] | None:
        """The request that the finished output was filled by; None if there is no such output."""
        if not (self.out / REVISION / ROOT).exists():
            return None  # nothing is there, or something that no job made
        return _read(self.folder / "job.json")

    @property
    def begun(self) -> dict[str, Any] | None:
        """The request of the run under way; None if there is none."""
        return _read(self.next / "job.json")

    def begin(self, request: Mapping[str, Any], lender: FillJob | None = None) -> None:
        """Start a run; what is left of an earlier unfinished one is removed.

        The request is written last: a run that has it has the fitted methods of the `lender`, too.
        """
        shutil.rmtree(self.next, ignore_errors=True)
        self.next.mkdir(parents=True, exist_ok=True)
        if lender is not None:
            # a copy, for the lender may be fitted anew
            shutil.copytree(lender.folder / "model", self.next / "model", dirs_exist_ok=True)
        with atomic_path(self.next / "job.json") as temporary:
            document = {"format": FORMAT, "version": __version__, **request}
            temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")

    def model(self, name: str) -> Path:
        """Return the folder of a variable's fitted method, that of the run under way if any."""
        own = self.next / "model" / name
        if own.is_dir():
            return own
        return self.folder / "model" / name

    def commit(self) -> None:
        """Put what the run made in place; after a kill, the next run completes that."""
        # the mark must not reach the disk before what it speaks of
        for member in [*self.next.rglob("*"), self.next]:
            flush(member)
        with atomic_path(self.folder / "commit") as mark:
            mark.write_text("what is in next/ is being put in place\n", encoding="utf-8")
        try:
            self._put_in_place()
        except KeyboardInterrupt as stop:
            stop.args = (
                f"{self.out} is being put in place; run the same command again to complete that",
            )
            raise

    def _put_in_place(self) -> None:
        # Every step can be done again: a process that goes on after a kill begins at the first.
        begun = self.begun
        replace = begun is not None and begun["mode"] == "refit"
        with noted(self.out, self.staged):
            publish(self.staged, self.out, replace=replace)
        for part in ("model", "days"):
            for made in sorted((self.next / part).glob("*")):
                kept = self.folder / part / made.name
                kept.parent.mkdir(exist_ok=True)
                if kept.is_dir():
                    shutil.rmtree(kept)
                os.replace(made, kept)  # noqa: PTH105
        if (self.next / "job.json").exists():
            os.replace(self.next / "job.json", self.folder / "job.json")  # noqa: PTH105
        for folder in (self.folder / "model", self.folder / "days", self.folder):
            flush(folder)
        # last: until here a process that opens the job does all of it again
        (self.folder / "commit").unlink()
        shutil.rmtree(self.next, ignore_errors=True)


def is_archive_output(out: str | Path) -> bool:
    """Whether a job of an archive works, or has worked, on an output; a lock alone is not one."""
    # of the path, not of its text: that may end with a slash, or lead to a store elsewhere
    folder = FillJob(Path(out)).folder
    return any((folder / name).is_file() for name in ("job.json", "next/job.json", "commit"))


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    remedy = f"remove {path.parent} and fill anew"
    found = read_json(path, remedy=remedy)
    if found.get("format") != FORMAT:
        raise ReadError(
            f"{path} was written by sstfill {str(found.get('version'))[:40]!r}, in another format; "
            "go on with that version, or fill anew to another output"
        )
    if found.get("mode") == "anew":
        found["mode"] = "refit"  # the word that earlier code wrote
    checked(JobDocument, found, path, remedy=remedy)
    return found | {"options": former.options_now(found["method"], found["options"])}


@contextlib.contextmanager
def open_job(out: Path) -> Iterator[FillJob]:
    """Open the job of an output."""
    if not out.parent.is_dir():
        raise WriteError(
            f"cannot write {out}: folder {out.parent} does not exist; create it: "
            f"mkdir -p {out.parent}"
        )
    with FillJob(out) as job:
        yield job
