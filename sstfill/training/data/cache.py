# SPDX-License-Identifier: Apache-2.0
"""Training sequences with their first guesses, computed once and kept on disk.

First guesses cost more than a step of training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from sstfill.errors import ReadError
from sstfill.fields.scaling import SPREADS
from sstfill.io.output.atomic import atomic_path, fail
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
"""Arrays that a file holds at least, and the kinds of their dtypes."""
Arrays = dict[str, NDArray]


def compute_inputs(obs: xr.DataArray, known: NDArray, sea: xr.DataArray, seed: int) -> Arrays:
    """Compute the first guesses of a cloudy sequence, and what the network sees.

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

    Returns
    -------
    dict
        Arrays that `to_sample` makes a `Sample` of, and that `write` keeps: values, first guess and
        error scaled by the series' own level and scatter.
    """
    guesses = FirstGuesses.of(obs, sea, seed=seed)
    fields = {name: np.asarray(guesses.fields[name].values) for name in FIELDS}
    level = guesses.background.image[:, np.newaxis, np.newaxis] + guesses.background.pixel
    scatter = guesses.background.scatter
    at_sea = sea.values.astype(bool)
    seen = channels(obs.values, at_sea, fields, level, scatter, guesses.features)
    # As `sstfill.methods.gan` scales what it fills; both must do the same.
    scale = SPREADS * scatter
    values = ((known - level) / scale).astype(np.float32)
    guess = ((fields["oi"] - level) / scale).astype(np.float32)
    # without a first guess there is nothing to correct
    usable = np.isfinite(known) & np.isfinite(fields["oi"]) & at_sea
    return {
        # half precision halves the disk space; values, of which the loss is made, stay single
        "channels": seen.astype(PRECISION),
        "values": np.where(usable, values, np.float32(np.nan)),
        "guess": np.nan_to_num(guess),
        "error": (unit(fields["oi_error"], scatter) / scale).astype(np.float32),
        "sea": at_sea,
        "traits": np.array(guesses.features),
    }


def write(file: Path, arrays: Arrays) -> None:
    """Write a sequence, whole or not at all; `WriteError` if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(file.parent, error)
    with atomic_path(file) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def read(file: Path) -> Arrays:
    """Read a sequence, empty for one with nothing to see; `ReadError` if it is damaged."""
    try:
        arrays = read_arrays(file, {}, remedy="")
        if arrays:
            _check(arrays)
    except ReadError as error:
        reason = str(error).partition(": ")[2].rstrip("; ")
        raise ReadError(f"{file} is damaged ({reason}); remove it, and it is made again") from error
    return arrays


def _check(arrays: Arrays) -> None:
    """Raise `ReadError` unless all arrays are there, of their kind, and of one shape."""
    for name, kind in ARRAYS.items():
        if name not in arrays or arrays[name].dtype.kind != kind:
            raise ReadError(f": it lacks the array {name!r}, or that is of another type")
    shape = arrays["values"].shape
    shapes = {name: arrays[name].shape for name in ("guess", "error")}
    if (
        set(shapes.values()) != {shape}
        or arrays["channels"].shape[1:] != shape
        or arrays["sea"].shape != shape[1:]
    ):
        raise ReadError(f": the shapes of its arrays do not match, {shapes}")


def augment(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Rotate a sequence, mirror it, and change the sign of its anomalies, each at random."""
    turns = int(rng.integers(4))
    mirror = bool(rng.integers(2))
    # Eddies are as often warm as cold, so an anomaly of the other sign is as likely.
    sign = float(rng.choice([-1, 1]))
    # Errors, distances and masks have no sign to change.
    signed = np.isin(CHANNELS, SIGNED)[:, np.newaxis, np.newaxis, np.newaxis]
    changed = arrays | {
        "values": sign * arrays["values"],
        "guess": sign * arrays["guess"],
        "channels": np.where(signed, sign * arrays["channels"], arrays["channels"]),
    }
    for name, array in changed.items():
        # Traits are of the whole sequence.
        if array.ndim < 2:
            continue
        # so that the network learns no direction of this archive
        rotated = np.rot90(array, turns, (-2, -1))
        changed[name] = np.swapaxes(rotated, -1, -2) if mirror else rotated
    return changed


def to_sample(arrays: Arrays) -> Sample:
    """Make a `Sample`: the channel "observed" is seen, the rest of the known pixels is withheld."""
    seen = _tensor(arrays["channels"])  # k t y x
    values = _tensor(arrays["values"])[np.newaxis]  # c t y x
    known = values.isfinite()
    observed = (seen[CHANNELS.index("observed")] > 0.5)[np.newaxis] & known
    sea = torch.from_numpy(np.ascontiguousarray(arrays["sea"]))  # y x
    return Sample(
        values=torch.where(known, values, 0.0),
        observed=observed,
        withheld=known & ~observed,
        second_mask=observed | known,
        sea=sea.expand_as(values[0])[np.newaxis].clone(),
        channels=seen,
        guess=_tensor(arrays["guess"])[np.newaxis],
        error=_tensor(arrays["error"])[np.newaxis],
    )


def _tensor(array: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
