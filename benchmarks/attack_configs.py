# SPDX-License-Identifier: Apache-2.0
"""Trained models, recipes, folders of jobs and histories of nights that were altered or damaged."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from attack_inputs import (
    TEXTS,
    Payload,
    blot,
    flip,
    npy,
    overwrite,
    places,
    series,
    tamper,
    truncate,
)
from attack_yard import Case, Words, aside

from sstfill.cli import main

Mend = Callable[[Path, random.Random], object]

NIGHTLY = """title = "a night"

[nightly]
archive = "in.zarr"
filled = "out.zarr"
report = "report"

[fill]
method = "interpolate"
limit = 5.0
seed = 1
variables = ["sst"]

[alert]
rmse_sigma = 4.0
rmse_nights = 60
min_nights = 7
min_filled_fraction = 0.5
max_age_days = 1e6
empty_days = 3
"""
TRAIN = """[train]
network = "static"
base = 2
size = 16
frames = 4
batch = 1
samples = 2
epochs = 1
learning_rate = 1e-3
seed = 3

[archive]
variable = "sst"
clouds = "own"
clips = 4
"""
PYCLES = """title = "clouds"

[source]
kind = "pycles"
path = "lwp.npy"

[target]
zarr_format = 3
"""
VIDEO = """title = "clips"

[source]
kind = "video"
path = "clips"
size = 8
frames = 3
gray = true
per_clip = 2
split = [0.8, 0.1, 0.1]
"""
SOUND = "as it was"
VALUES = (
    "-1",
    "0",
    "1e308",
    "nan",
    "inf",
    "-inf",
    "9" * 5000,
    "10" * 12,
    '""',
    '"abc"',
    "true",
    "[]",
    "{}",
    "[[[]]]",
    '"\\u001b[31mred"',
    '"../../etc"',
    '"/dev/zero"',
    '"~nouser/x"',
    "1979-05-27",
    '"' + "x" * 5000 + '"',
    "[-1]",
    '"a\\u0000b"',
    "0.5",
    '["sst", "sst"]',
    "{a = 1}",
)
"""What is put in the place of a value of a recipe, as TOML."""
ODD_LINES = (
    "nonesuch = 1",
    '"\\u001b[31m" = 1',
    "[nonesuch]\na = 1",
    "[[fill]]",
    "a.b.c = 1",
    "# \x7f\x1b[31m",
)


def cases(home: Path, rng: random.Random) -> Iterator[Case]:
    """All of them; what they begin with is made first, by the program as it is."""
    base = home.with_name("configs")
    aside(lambda: make_bases(base), home)
    yield from checkpoints(base)
    yield from recipes(base)
    yield from jobs(base)
    yield from histories(base)


def make_bases(base: Path) -> None:
    """Write an archive of two nights, what a first night makes of it, and a tiny network."""
    import torch

    from sstfill.nn import registry
    from sstfill.nn.checkpoint.checkpoint import Checkpoint

    base.mkdir()
    os.chdir(base)
    whole = series((20, 10, 14))
    for name, days in (("first.zarr", 18), ("second.zarr", 20)):
        whole.isel(time=slice(days)).chunk(time=1).to_zarr(name, zarr_format=3, consolidated=False)
    series((8, 16, 16)).to_netcdf("small.nc")
    torch.manual_seed(1)
    config = {
        "network": {"name": "static", "options": {"base": 2}},
        "patch": [4, 16, 16],
        "units": "degrees_C",
        "scaling": {"kind": "standardise", "mean": 15.0, "std": 2.0},
        "step_days": 1.0,
        "cell_km": 20.0,
        "spread": 1.0,
    }
    Checkpoint(config, registry.build("static", {"base": 2}).state_dict()).save("model")
    shutil.copytree("first.zarr", "in.zarr")
    Path("nightly.toml").write_text(NIGHTLY)
    filled = main(
        [
            "fill",
            "in.zarr",
            "--out",
            "out.zarr",
            "--method",
            "interpolate",
            "--memory",
            "1GB",
            "--quiet",
        ]
    )
    night = Path("night")
    night.mkdir()
    for name in ("in.zarr", "nightly.toml"):
        shutil.move(name, night / name)
    nightly = main(["nightly", "night/nightly.toml", "--quiet"])
    if filled or nightly not in (0, 1):
        raise SystemExit(2)


# Trained models


def checkpoints(base: Path) -> Iterator[Case]:
    """Checkpoints whose configuration or weights are not what they were."""
    yield _checkpoint(base, SOUND, lambda model, rng: None)
    for _ in range(30):
        yield _checkpoint(
            base,
            "an odd value in config.json",
            lambda model, rng: tamper(model / "config.json", rng),
        )
    for name, text in TEXTS.items():
        act = partial(overwrite, text=text)
        yield _checkpoint(base, f"config.json that is {name}", partial(_to_config, act=act))
    for options in (
        {"base": 4096},
        {"base": 10**9},
        {"base": 10**30},
        {"base": -1},
        {"base": 2.5},
        {"base": "2"},
        {"base": True},
        {"base": 2, "fill": float("nan")},
        {"base": 2, "more": 1},
        {"base": 2, "channels": 10**6},
        {"base": 2, "time_kernel": 10**9 + 1},
        {},
    ):
        yield _checkpoint(base, f"options {options}", partial(reconfigured, options=options))
    for name in ("compact", "recurrent", "paper", "nonesuch", "../static", "os.system", ""):
        yield _checkpoint(base, f"the network {name!r}", partial(reconfigured, name=name))
    for act in (flip, truncate, blot):
        for signed in (False, True):
            for _ in range(2):
                name = (
                    "weights damaged "
                    f"({act.__name__}){', and their digest made to fit' if signed else ''}"
                )
                yield _checkpoint(base, name, partial(reweighted, act=act, signed=signed))
    headers = {
        "a header of 10^12 bytes": struct.pack("<Q", 10**12) + b"{}",
        "a header that is no JSON": struct.pack("<Q", 8) + b"{nonsens",
        "tensors of 10^12 elements": safetensors(
            {"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}}
        ),
        "a header nested deep": struct.pack("<Q", 200_000) + b"[" * 200_000,
        "a pickle": pickle.dumps(Payload()),
        "nothing": b"",
    }
    for name, content in headers.items():
        act = partial(overwrite, text=content)
        yield _checkpoint(base, f"weights: {name}", partial(reweighted, act=act, signed=True))
    for value in (np.nan, 1.0, np.inf, 1e30):
        act = partial(constant, value=value)
        yield _checkpoint(
            base,
            f"weights all {value}",
            partial(reweighted, act=act, signed=True),
            refused=value != 1e30,
        )
    for name, make in (
        ("a pipe", os.mkfifo),
        ("/dev/zero", lambda path: path.symlink_to("/dev/zero")),
    ):
        for part in ("config.json", "weights.safetensors"):
            yield _checkpoint(base, f"{part} is {name}", partial(_instead, part=part, make=make))


def _checkpoint(base: Path, name: str, mend: Mend, *, refused: bool = False) -> Case:
    def arrange(folder: Path, rng: random.Random) -> list[Words]:
        shutil.copytree(base / "model", folder / "model")
        shutil.copy(base / "small.nc", folder / "in.nc")
        mend(folder / "model", rng)
        how = ["--method", "gan", "--model", "model", "--no-adapt", "--no-score"]
        return [["fill", "in.nc", "--out", "out.nc", *how]]

    fine = (0,) if name == SOUND else (0, 2)
    return Case(f"checkpoint: {name}", arrange, refused=refused, fine=fine)


def _to_config(model: Path, rng: random.Random, act: Mend) -> None:
    act(model / "config.json", rng)


def _instead(model: Path, rng: random.Random, part: str, make: Callable[[Path], object]) -> None:
    (model / part).unlink()
    make(model / part)


def reconfigured(
    model: Path, rng: random.Random, name: str = "static", options: Any = None
) -> None:
    """Let a configuration name another network, or other options."""
    file = model / "config.json"
    tree = json.loads(file.read_text())
    tree["network"] = {"name": name, "options": {"base": 2} if options is None else options}
    file.write_text(json.dumps(tree))


def reweighted(model: Path, rng: random.Random, act: Mend, signed: bool) -> None:
    """Change the file of weights; where `signed`, the configuration tells its digest."""
    weights, file = model / "weights.safetensors", model / "config.json"
    act(weights, rng)
    if signed:
        tree = json.loads(file.read_text())
        tree["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        file.write_text(json.dumps(tree))


def constant(path: Path, rng: random.Random, value: float) -> None:
    """Put one value in the place of all weights of single precision."""
    content = path.read_bytes()
    size = 8 + struct.unpack("<Q", content[:8])[0]
    count = (len(content) - size) // 4
    path.write_bytes(
        content[:size] + np.full(count, value, "<f4").tobytes() + content[size + 4 * count :]
    )


def safetensors(header: dict[str, Any]) -> bytes:
    """A file of weights that has this header, and four bytes."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4)


# Recipes


def recipes(base: Path) -> Iterator[Case]:
    """Recipes of nights, trainings and downloads with a line that is not what it was."""
    for text, lay in ((NIGHTLY, _night), (TRAIN, _training), (PYCLES, _pycles), (VIDEO, _video)):
        kind = lay.__name__.strip("_")
        yield _recipe(base, f"{kind}: as it was", text, lay, lambda content, rng: content)
        for _ in range(14):
            yield _recipe(base, f"{kind}: an odd value", text, lay, odd_value)
        for _ in range(3):
            yield _recipe(base, f"{kind}: bytes flipped", text, lay, flipped)
            yield _recipe(base, f"{kind}: an odd key", text, lay, odd_key)
        for name, content in odd_toml().items():
            yield _recipe(
                base, f"{kind}: {name}", text, lay, lambda _, rng, content=content: content
            )


def _recipe(
    base: Path, name: str, text: str, lay: Any, change: Callable[[bytes, random.Random], bytes]
) -> Case:
    def arrange(folder: Path, rng: random.Random) -> list[Words]:
        words: list[Words] = lay(base, folder)
        (folder / "recipe.toml").write_bytes(change(text.encode(), rng))
        return words

    makes = ("out.zarr", "out.zarr.job", "report", "model", "lwp.zarr", "clips.zarr")
    return Case(
        f"recipe of {name}",
        arrange,
        makes=makes,
        fine=(0, 1, 2) if lay is _night else (0, 2),
        keeps=False,
    )


def _night(base: Path, folder: Path) -> list[Words]:
    shutil.copytree(base / "first.zarr", folder / "in.zarr")
    return [["nightly", "recipe.toml"]]


def _training(base: Path, folder: Path) -> list[Words]:
    return [["train", "nonesuch.nc", "--out", "model", "--recipe", "recipe.toml"]]


def _pycles(base: Path, folder: Path) -> list[Words]:
    np.save(folder / "lwp.npy", np.random.default_rng(1).random((20, 8, 8)).astype("f4"))
    return [["plan", "recipe.toml"]]


def _video(base: Path, folder: Path) -> list[Words]:
    (folder / "clips").mkdir()
    for k in range(3):
        np.save(
            folder / "clips" / f"clip{k}.npy",
            np.random.default_rng(k).integers(0, 255, (9, 16, 16, 1), "u1"),
        )
    return [["plan", "recipe.toml"]]


def odd_value(content: bytes, rng: random.Random) -> bytes:
    """Put something odd in the place of a value; what a network is asked for stays."""
    lines = content.decode().splitlines()
    found = [
        k for k, line in enumerate(lines) if "=" in line and not line.startswith(("kind", "path"))
    ]
    at = rng.choice(found)
    lines[at] = f"{lines[at].partition('=')[0]}= {rng.choice(VALUES)}"
    return "\n".join(lines).encode()


def odd_key(content: bytes, rng: random.Random) -> bytes:
    """Add a key, a table or a comment that nobody asked for."""
    odd = rng.choice(
        [
            "nonesuch = 1",
            '"\\u001b[31m" = 1',
            "[nonesuch]\na = 1",
            "[[fill]]",
            "a.b.c = 1",
            "# \x7f\x1b[31m",
        ]
    )
    lines = content.decode().splitlines()
    lines.insert(rng.randrange(len(lines)), odd)
    return "\n".join(lines).encode()


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Change a byte."""
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def odd_toml() -> dict[str, bytes]:
    """Whole files that are no recipe."""
    return {
        "nothing": b"",
        "bytes that are no text": bytes(range(128, 256)),
        "nested deep": b"a = " + b"[" * 50_000 + b"]" * 50_000,
        "tables nested deep": b"[" + b"a." * 20_000 + b"a]",
        "inline tables nested deep": b"a = " + b"{a = " * 20_000 + b"1" + b"}" * 20_000,
        "a number of 5,000 digits": b"[fill]\nseed = " + b"9" * 5000,
        "a NUL": b'title = "a\x00b"',
    }


# The folder of a job


def jobs(base: Path) -> Iterator[Case]:
    """A filled archive, a file of whose job or of itself is damaged; the input is as it was, or has
    two new days.
    """
    acts: dict[str, Mend] = {
        "flipped": partial(flip, count=3),
        "cut short": truncate,
        "gone": lambda path, rng: path.unlink(),
        "nothing": partial(overwrite, text=b""),
        "not JSON": partial(overwrite, text=TEXTS["bytes that are no text"]),
        "nested deep": partial(overwrite, text=TEXTS["nested 100,000 deep"]),
        "an odd value": tampered,
        "a pipe": _pipe,
    }
    for name, act in acts.items():
        for source in ("first.zarr", "second.zarr"):
            for part in ("out.zarr.job", "out.zarr"):
                yield _job(base, f"a file of {part}: {name}", source, part, act)
        yield _job(base, f"a file of out.zarr.job: {name}", "second.zarr", "out.zarr.job", act)
    for name in ("bomb", "pickle", "10^12 elements"):
        act = partial(npz, kind=name)
        yield _job(base, f"days/sst.npz: {name}", "second.zarr", "out.zarr.job/days", act)
    for scale in (1e30, float("nan"), -1.0, 0.0):
        act = partial(rescaled, scale=scale)
        yield _job(
            base,
            f"numbers of the model set to {scale}",
            "second.zarr",
            "out.zarr.job/model",
            act,
            refused=True,
        )


def _job(
    base: Path, name: str, source: str, part: str, act: Mend, *, refused: bool = False
) -> Case:
    def arrange(folder: Path, rng: random.Random) -> list[Words]:
        shutil.copytree(base / source, folder / "in.zarr")
        for of_it in ("out.zarr", "out.zarr.job"):
            shutil.copytree(base / of_it, folder / of_it)
        found = sorted(
            path for path in (folder / part).rglob("*") if path.is_file() and path.name != "lock"
        )
        act(rng.choice(found), rng)
        return [
            ["verify", "out.zarr"],
            ["fill", "in.zarr", "--out", "out.zarr", "--update"],
            ["verify", "out.zarr"],
        ]

    return Case(f"job: {name}", arrange, refused=refused)


def tampered(path: Path, rng: random.Random) -> None:
    """Put an odd value into a JSON file; blot others."""
    try:
        tamper(path, rng)
    except ValueError:
        blot(path, rng)


def _pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def npz(path: Path, rng: random.Random, kind: str) -> None:
    """Put an archive of arrays in place of one: 3 GB of zeros in a few kilobytes, or a pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name in ("time", "digest", "count", "revision", "sample", "stats"):
            if kind == "bomb":
                with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                    member.write(npy("<f4", (3 * 10**9 // 24, 1, 1))[:-64])
                    for _ in range(500):
                        member.write(bytes(1_000_000))
            elif kind == "pickle":
                file.writestr(f"{name}.npy", npy("|O", (1,)) + pickle.dumps([Payload()]))
            else:
                file.writestr(f"{name}.npy", npy("<f4", (10**6, 10**6)))


def rescaled(path: Path, rng: random.Random, scale: float) -> None:
    """Change all numbers with a fraction in the JSON files of a model, as if its fit had ended
    elsewhere.
    """
    for file in sorted(path.parent.rglob("*.json")):
        tree = json.loads(file.read_text())
        for container, key in places(tree):
            if isinstance(container[key], float):
                container[key] = scale
        file.write_text(json.dumps(tree))


# Nights before


def histories(base: Path) -> Iterator[Case]:
    """A report folder with a history that is damaged: the night is made all the same."""
    acts: dict[str, Mend] = {
        "a byte that is no text": lambda path, rng: path.write_bytes(b"\xff" + path.read_bytes()),
        "bytes flipped": partial(flip, count=3),
        "cut short": truncate,
        "nothing": partial(overwrite, text=b""),
        "zeros": partial(overwrite, text=bytes(300)),
        "nested deep": partial(overwrite, text=TEXTS["nested 100,000 deep"] + b"\n"),
        "a number of 5,000 digits": partial(
            overwrite, text=TEXTS["a number of 5,000 digits"] + b"\n"
        ),
        "an odd value": tamper_line,
        "lines that are lists": partial(overwrite, text=b"[]\n7\nnull\n"),
        "a known line with odd parts": partial(
            overwrite, text=b'{"status": 1, "started": [], "state": {}, "found": 7, "failure": 1}\n'
        ),
    }
    for name, act in acts.items():
        for file in (
            ("history.jsonl", "latest.json") if name != "an odd value" else ("history.jsonl",) * 6
        ):

            def arrange(
                folder: Path, rng: random.Random, act: Mend = act, file: str = file
            ) -> list[Words]:
                shutil.copytree(base / "night", folder, dirs_exist_ok=True)
                act(folder / "report" / file, rng)
                return [["nightly", "nightly.toml"]]

            makes = ("out.zarr", "out.zarr.job", "report")
            yield Case(f"{file}: {name}", arrange, makes=makes, fine=(0, 1), keeps=False)


def tamper_line(path: Path, rng: random.Random) -> None:
    """Put odd values into a line."""
    tamper(path, rng)
    path.write_text(path.read_text() + "\n")
