# SPDX-License-Identifier: Apache-2.0
"""Members drawn by networks, on synthetic oceans that they were not trained on.

Checkpoints are compared as they are, without blending or scaling, where the truth is hidden from
them: `sstfill.training` keeps oceans with their first guesses, so that nothing is filled anew.
Beside them stands what a network without draws offers: independent errors of the stated size.

Run: python benchmarks/gan_draws.py FOLDER_OF_OCEANS CHECKPOINT...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from draws import LEVELS, SIDES, WAVES, percent
from report import heading, publish, table

from sstfill.evaluation import score_against
from sstfill.methods.gan.network import Networks
from sstfill.methods.gan.noise import Noise
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.training.data import cache

OCEANS = range(1, 25)
MEMBERS, SEED = 16, 0
INDEPENDENT = "independent errors"
Parts = tuple[float, float]


def sequences(folder: Path) -> Iterator[cache.Arrays]:
    """Oceans of the validation that hold something."""
    for number in OCEANS:
        arrays = cache.read(folder / f"{number}.npz")
        if arrays:
            yield arrays


def drawn(networks: Networks, arrays: cache.Arrays) -> xr.Dataset:
    """Estimate, error and members of one ocean, in its scaled units."""
    sample = cache.to_sample(arrays)
    guess, error = sample.guess[0].numpy(), sample.error[0].numpy()
    shape = guess.shape
    noise = Noise(SEED, MEMBERS * networks.draws, np.arange(float(shape[0])))
    box = (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
    correction, log_ratio, apart = networks.correct(sample.channels.numpy(), noise.within(box))
    if not networks.draws:
        apart = list(np.random.default_rng(SEED).normal(size=(MEMBERS, *shape)))
    seen, known = sample.observed[0].numpy(), sample.values[0].numpy()
    mean = np.where(seen, known, guess + error * correction)
    sigma = np.where(seen, 0, error * np.exp(log_ratio) * np.sqrt(2))
    members = mean + sigma * np.stack(apart)
    dims = ("time", "y", "x")
    return xr.Dataset(
        {
            "field": (dims, mean.astype("f4")),
            "field_error": (dims, sigma.astype("f4")),
            "field_members": (("member", *dims), members.astype("f4")),
        }
    )


def judged(arrays: cache.Arrays, filled: dict[str, xr.Dataset]) -> xr.Dataset:
    sample = cache.to_sample(arrays)
    dims = ("time", "y", "x")
    hidden, known = sample.withheld[0].numpy(), (sample.withheld | sample.observed)[0].numpy()
    truth = xr.DataArray(sample.values[0].numpy(), dims=dims, name="field").where(known)
    hide = xr.DataArray(hidden, dims=dims)
    sea = xr.DataArray(sample.sea[0, 0].numpy(), dims=dims[1:])
    return score_against(truth, filled, hide, obs=truth.where(~hide), sea=sea).data


def chequered(field: np.ndarray, hidden: np.ndarray) -> Parts:
    """Size of the chequered part of cells of 2x2 pixels, over the deviation of the field, and how
    alike it is in neighbouring cells of a row: noise has 1 and 0.
    """
    y, x = (n // 2 * 2 for n in field.shape[1:])
    corners = [field[:, i:y:2, j:x:2] for i in (0, 1) for j in (0, 1)]
    known = np.all([hidden[:, i:y:2, j:x:2] for i in (0, 1) for j in (0, 1)], axis=0)
    part = (corners[0] - corners[1] - corners[2] + corners[3]) / 2
    apart = part - part[known].mean()
    both = known[..., 1:] & known[..., :-1]
    if not both.any():  # single pixels are hidden
        return np.nan, np.nan
    alike = (apart[..., 1:] * apart[..., :-1])[both].mean() / np.square(apart[known]).mean()
    return float(part[known].std() / field[hidden].std()), float(alike)


def chequered_parts(arrays: cache.Arrays, filled: dict[str, xr.Dataset]) -> dict[str, Parts]:
    """The chequered part of the errors of the estimate, and of one member of each network."""
    sample = cache.to_sample(arrays)
    hidden = sample.withheld[0].numpy()
    found = {}
    for name, one in filled.items():
        mean, error = one["field"].values, np.where(hidden, one["field_error"].values, 1)
        found["the truth"] = chequered((sample.values[0].numpy() - mean) / error, hidden)
        found[name] = chequered((one["field_members"].values[0] - mean) / error, hidden)
    return found


def main(folder: Path, paths: list[str]) -> None:
    torch.set_num_threads(1)
    loaded = [Checkpoint.load(path) for path in paths]
    checkpoints = {f"objective {one.config['objective']}": one for one in loaded}
    networks = {INDEPENDENT: Networks(Checkpoint.load("sstfill/models/compact"), "cpu")}
    networks |= {name: Networks(checkpoint, "cpu") for name, checkpoint in checkpoints.items()}
    cards, parts = [], []
    for arrays in sequences(folder):
        filled = {name: drawn(network, arrays) for name, network in networks.items()}
        cards.append(judged(arrays, filled))
        parts.append(chequered_parts(arrays, filled))
        print(len(cards), cards[-1]["crps_members"].values, flush=True)
    lines = [line(name, [card.sel({"method": name}) for card in cards]) for name in networks]
    levels = " / ".join(f"{100 * level:.0f}" for level in LEVELS)
    head = ["members by", "CRPS stated", "CRPS of members", "energy", f"% within {levels}"]
    head += [f"{side} x {side} means: % within {levels}" for side in SIDES]
    head += [f"power, {WAVES[0]:.0f} to {WAVES[1]:.0f} pixels: mean distance (dB)"]
    head += ["gradients: ratio to the truth's, quantiles 50 and 95 %"]
    told = ", ".join(f"{name} {one.fingerprint}" for name, one in checkpoints.items())
    text = heading(
        "Members of the network on synthetic oceans",
        oceans=f"{len(cards)}, numbers {OCEANS[0]} to {OCEANS[-1]}; means over oceans",
        members=MEMBERS,
        seed=SEED,
        checkpoints=told,
        scaled="as the networks state it; no blending, no scaling on withheld clouds",
    )
    text += table(head, lines) + "\n## Chequered part of the deviations\n\n"
    head = ["", "size over the deviation", "likeness of neighbouring cells"]
    rows = []
    for name in parts[0]:
        rows.append([name, *np.nanmean([one[name] for one in parts], axis=0).tolist()])
    publish("gan_draws", text + table(head, rows))


def line(name: str, cards: list[xr.Dataset]) -> list[object]:
    """A line of the table: means over oceans."""

    def mean(key: str, **at: object) -> xr.DataArray:
        every = [card[key].sel(**at).values for card in cards]
        return xr.DataArray(np.nanmean(every, axis=0))

    levels = list(LEVELS)
    cells: list[object] = [name]
    cells += [float(mean(key)) for key in ("crps", "crps_members", "energy")]
    cells.append(percent(mean("coverage", level=levels)))
    cells += [percent(mean("patch_coverage", patch=side, level=levels)) for side in SIDES]
    distances = []
    for card in cards:
        if card.get("power_ratio_draws", card["crps"]).ndim:
            middle = (card["wavelength"] >= WAVES[0]) & (card["wavelength"] <= WAVES[1])
            distances.append(float(abs(card["power_ratio_draws"].where(middle)).mean()))
    cells.append(f"{np.mean(distances):.2f} ({len(distances)} oceans)")
    ratios = []
    for quantile in (0.5, 0.95):
        drawn = mean("gradient_draws", quantile=quantile)
        ratios.append(float(drawn / mean("gradient_truth", quantile=quantile)))
    cells.append(f"{ratios[0]:.2f} / {ratios[1]:.2f}")
    return cells


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
