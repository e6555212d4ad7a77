# SPDX-License-Identifier: Apache-2.0
"""Sequences with their first guesses, worked out once and kept on disk: these cost more than a step
of training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from sstfill.errors import ReadError
from sstfill.fields.scaling import SPREADS
from sstfill.io.atomic import atomic_path, fail
from sstfill.io.untrusted.arrays import read_arrays
from sstfill.methods.gan.network_inputs import (
    CHANNELS,
    FIELDS,
    SIGNED,
    FirstGuesses,
    channels,
    unit,
)
from sstfill.training.data.sample import Sample

PRECISION = np.float16
"""Of the channels on disk."""
ARRAYS = {"channels": "f", "values": "f", "guess": "f", "error": "f", "sea": "b"}
"""What a file holds at least, and the kinds of its dtypes."""


def compute_inputs(
    obs: xr.DataArray, known: NDArray, sea: xr.DataArray, seed: int
) -> dict[str, NDArray]:
    """Fill a cloudy sequence by the first guesses; arrays that make a `Sample`, and that a file can
    hold.

    Parameters
    ----------
    obs
        What the network shall see, ``(time, y, x)``, NaN in the gaps.
    known
        What the trainer knows, NaN where nothing; same shape.
    sea
        True at sea, ``(y, x)``.
    seed
        Of the first guesses.
    """
    guesses = FirstGuesses.of(obs, sea, seed=seed)
    fields = {name: np.asarray(guesses.fields[name].values) for name in FIELDS}
    level = guesses.background.image[:, np.newaxis, np.newaxis] + guesses.background.pixel
    scatter, wet = guesses.background.scatter, sea.values.astype(bool)
    seen = channels(obs.values, wet, fields, level, scatter, guesses.features)
    scaled = {"values": known, "guess": fields["oi"]}
    parts = {n: ((a - level) / (SPREADS * scatter)).astype(np.float32) for n, a in scaled.items()}
    usable = np.isfinite(known) & np.isfinite(fields["oi"]) & wet
    return {
        "channels": seen.astype(PRECISION),
        "values": np.where(usable, parts["values"], np.float32(np.nan)),
        "guess": np.nan_to_num(parts["guess"]),
        "error": (unit(fields["oi_error"], scatter) / (SPREADS * scatter)).astype(np.float32),
        "sea": wet,
        "traits": np.array(guesses.features),
    }


def write(file: Path, arrays: dict[str, NDArray]) -> None:
    """Write a sequence, whole or not at all; `WriteError` if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(file.parent, error)
    with atomic_path(file) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def read(file: Path) -> dict[str, NDArray]:
    """Read a sequence, empty for one with nothing to see; `ReadError` if it is damaged."""
    try:
        arrays = read_arrays(file, {}, remedy="")
        if not arrays:
            return arrays
        wrong = [n for n, kind in ARRAYS.items() if n not in arrays or arrays[n].dtype.kind != kind]
        if wrong:
            raise ReadError(f": it lacks the array {wrong[0]!r}, or that is of another type")
        shape = arrays["values"].shape
        shapes = {name: arrays[name].shape for name in ("guess", "error")}
        if (
            {*shapes.values()} != {shape}
            or arrays["channels"].shape[1:] != shape
            or arrays["sea"].shape != shape[1:]
        ):
            raise ReadError(f": its arrays do not go together, {shapes}")
        return arrays
    except ReadError as error:
        reason = str(error).partition(": ")[2].rstrip("; ")
        raise ReadError(f"{file} is damaged ({reason}); remove it, and it is made anew") from error


def turned(arrays: dict[str, NDArray], rng: np.random.Generator) -> dict[str, NDArray]:
    """Turn a sequence about, mirror it, and change the sign of its anomalies, each by chance."""
    turns, mirror, sign = int(rng.integers(4)), bool(rng.integers(2)), float(rng.choice([-1, 1]))
    flip = np.isin(CHANNELS, SIGNED)[:, np.newaxis, np.newaxis, np.newaxis]
    signed = {"values": sign * arrays["values"], "guess": sign * arrays["guess"]}
    signed["channels"] = np.where(flip, sign * arrays["channels"], arrays["channels"])

    def one(array: NDArray) -> NDArray:
        if array.ndim < 2:
            return array
        straight = np.rot90(array, turns, (-2, -1))
        return np.swapaxes(straight, -1, -2) if mirror else straight

    return {name: one(array) for name, array in (arrays | signed).items()}


def sample(arrays: dict[str, NDArray]) -> Sample:
    """Make a `Sample`: what the channels call observed is seen, the rest of what is known is
    withheld.
    """
    values = torch.from_numpy(np.ascontiguousarray(arrays["values"], np.float32))[
        np.newaxis
    ]  # c t y x
    seen = torch.from_numpy(np.ascontiguousarray(arrays["channels"], np.float32))  # k t y x
    known = values.isfinite()
    observed = (seen[CHANNELS.index("observed")] > 0.5)[np.newaxis] & known
    guess, error = (
        torch.from_numpy(np.ascontiguousarray(arrays[n], np.float32))[np.newaxis]
        for n in ("guess", "error")
    )
    sea = (
        torch.from_numpy(np.ascontiguousarray(arrays["sea"]))
        .expand_as(values[0])[np.newaxis]
        .clone()
    )
    return Sample(
        torch.where(known, values, 0.0),
        observed,
        known & ~observed,
        observed | known,
        sea,
        seen,
        guess,
        error,
    )
