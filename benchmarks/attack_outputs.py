# SPDX-License-Identifier: Apache-2.0
"""Outputs under a name where something of the user's is: refused, with nothing of it changed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from attack_configs import NIGHTLY
from attack_inputs import series
from attack_yard import Case, Words, aside, run_warm

Lay = Callable[[Path], object]
FILL = ("--method", "interpolate", "--no-score")


def cases(home: Path, rng: random.Random) -> Iterator[Case]:
    """All of them, and the replacements that are to be made."""
    yield from stores()
    yield from nights()
    yield from others()
    yield from allowed()


def archive(path: Path) -> None:
    """Write an archive as a user has it."""
    path.parent.mkdir(exist_ok=True)
    aside(
        lambda: series().chunk(time=1).to_zarr(path, zarr_format=3, consolidated=False), path.parent
    )


def _refused(name: str, lay: Lay, words: Words) -> Case:
    """A case that is to be refused: nothing may be changed."""

    def arrange(folder: Path, rng: random.Random) -> list[Words]:
        series().to_netcdf(folder / "in.nc")
        lay(folder)
        return [words]

    return Case(name, arrange, makes=("out.zarr.job",), fine=(2,))


def stores() -> Iterator[Case]:
    """Folders that end with .zarr and hold what sstfill did not make."""

    def ours(folder: Path) -> None:
        if run_warm(["fill", "in.nc", "--out", "out.zarr", *FILL], folder).status:
            raise SystemExit("what is to be replaced could not be made")

    def with_notes(folder: Path) -> None:
        ours(folder)
        (folder / "out.zarr" / "notes.txt").write_text("mine")

    def with_group(folder: Path) -> None:
        ours(folder)
        archive(folder / "out.zarr" / "station")

    def with_input(folder: Path) -> None:
        ours(folder)
        shutil.move(folder / "in.nc", folder / "out.zarr" / "in.nc")

    def old_notes(folder: Path) -> None:
        (folder / "out.zarr").mkdir()
        (folder / "out.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / "out.zarr" / "thesis.txt").write_text("mine")

    def only_notes(folder: Path) -> None:
        (folder / "out.zarr").mkdir()
        (folder / "out.zarr" / "notes.txt").touch()

    def linked(folder: Path) -> None:
        archive(folder / "raw.zarr")
        (folder / "out.zarr").symlink_to("raw.zarr")

    def hard_link(folder: Path) -> None:
        (folder / "out.nc").hardlink_to(folder / "in.nc")

    lays: dict[str, Lay] = {
        "a raw archive": lambda folder: archive(folder / "out.zarr"),
        "our store with the user's notes in it": with_notes,
        "our store with a group of the user's in it": with_group,
        "a mark of Zarr and a thesis": old_notes,
        "a link to a raw archive": linked,
        "a file": lambda folder: (folder / "out.zarr").write_text("mine"),
        "an empty file of the user's and nothing else": only_notes,
    }
    for memory in ((), ("--memory", "1GB")):
        how = "unit by unit" if memory else "in memory"
        words: Words = ["fill", "in.nc", "--out", "out.zarr", *FILL[:2], *memory]
        for name, lay in lays.items():
            yield _refused(f"fill {how} over {name}", lay, words)
        inner: Words = ["fill", "out.zarr/in.nc", "--out", "out.zarr", *FILL[:2], *memory]
        yield _refused(f"fill {how}, the input inside of the output", with_input, inner)
    yield _refused(
        "DINEOF modes over a raw archive",
        lays["a raw archive"],
        ["dineof-modes", "in.nc", "--out", "out.zarr"],
    )
    yield _refused(
        "fill over the input itself", lambda folder: None, ["fill", "in.nc", "--out", "in.nc"]
    )
    yield _refused(
        "fill over a hard link to the input", hard_link, ["fill", "in.nc", "--out", "out.nc", *FILL]
    )


def nights() -> Iterator[Case]:
    """Report folders of a night that are the user's."""

    def lay(change: Lay, report: str = "report") -> Lay:
        def act(folder: Path) -> None:
            archive(folder / "in.zarr")
            text = NIGHTLY.replace('report = "report"', f'report = "{report}"')
            (folder / "nightly.toml").write_text(text)
            change(folder)

        return act

    def of_user(name: str, text: str) -> Lay:
        def act(folder: Path) -> None:
            (folder / "report").mkdir()
            (folder / "report" / name).write_text(text)

        return act

    def nothing(folder: Path) -> None:
        """The recipe alone is odd."""

    found = {
        "with a user's index.html": lay(of_user("index.html", "<h1>my home page</h1>")),
        "with a user's latest.json": lay(of_user("latest.json", '{"mine": 1}')),
        "with a user's lock": lay(of_user("lock", "keep me")),
        "with a user's history.jsonl": lay(of_user("history.jsonl", '{"mine": 1}\n')),
        "with a user's nightly.log": lay(of_user("nightly.log", "my own log\n")),
        "that is the archive": lay(nothing, "in.zarr"),
        "that is inside of the archive": lay(nothing, "in.zarr/report"),
        "that is the archive by another name": lay(
            lambda folder: (folder / "other").symlink_to("in.zarr"), "other"
        ),
        "that is the folder of the recipe, with an index.html": lay(
            lambda folder: (folder / "index.html").write_text("mine"), "."
        ),
    }
    for name, act in found.items():
        case = _refused(f"nightly: a report folder {name}", act, ["nightly", "nightly.toml"])
        yield Case(
            case.name, case.arrange, makes=("out.zarr", "out.zarr.job"), fine=(2,), keeps=False
        )


def others() -> Iterator[Case]:
    """Further outputs: models, stores of downloads and imports, pictures."""

    def folder_of(name: str, content: dict[str, str]) -> Lay:
        def act(folder: Path) -> None:
            (folder / name).mkdir()
            for file, text in content.items():
                (folder / name / file).write_text(text)

        return act

    def clouds(folder: Path) -> None:
        import numpy as np

        np.save(folder / "lwp.npy", np.random.default_rng(1).random((8, 8, 8)).astype("f4"))
        (folder / "recipe.toml").write_text('[source]\nkind = "pycles"\npath = "lwp.npy"\n')
        archive(folder / "out.zarr")

    train: Words = [
        "train",
        "in.nc",
        "--out",
        "model",
        "--network",
        "static",
        "--base",
        "2",
        "--epochs",
        "1",
        "--samples",
        "1",
        "--size",
        "8",
        "--frames",
        "4",
    ]
    yield _refused(
        "train over another's config.json",
        folder_of("model", {"config.json": '{"mine": 1}'}),
        train,
    )
    yield _refused("train over a file", lambda folder: (folder / "model").write_text("mine"), train)
    yield _refused(
        "download over a raw archive", clouds, ["download", "recipe.toml", "--out", "out.zarr"]
    )
    yield _refused(
        "a picture over a folder",
        folder_of("map.png", {"a.txt": "mine"}),
        ["plot", "in.nc", "--out", "map.png"],
    )
    yield _refused(
        "a NetCDF file over a folder",
        folder_of("out.nc", {"a.txt": "mine"}),
        ["fill", "in.nc", "--out", "out.nc", *FILL],
    )
    yield _refused(
        "fill into a folder that is not there",
        lambda folder: None,
        ["fill", "in.nc", "--out", "nowhere/out.nc", *FILL],
    )
    yield _refused(
        "fill over a pipe",
        lambda folder: os.mkfifo(folder / "out.nc"),
        ["fill", "in.nc", "--out", "out.nc", *FILL],
    )


def allowed() -> Iterator[Case]:
    """Outputs of our own, which a next run replaces: to refuse these would be wrong, too."""
    for name, more in (("out.nc", ()), ("out.zarr", ()), ("out.zarr", ("--memory", "1GB"))):

        def arrange(
            folder: Path, rng: random.Random, name: str = name, more: Words = more
        ) -> list[Words]:
            series().to_netcdf(folder / "in.nc")
            words: Words = ["fill", "in.nc", "--out", name, *FILL[:2], *more]
            again: Words = [*words, "--seed", "1", *(("--refit",) if more else ())]
            return [words, again]

        yield Case(
            f"an output of ours, {name}{' unit by unit' if more else ''}", arrange, fine=(0,)
        )
