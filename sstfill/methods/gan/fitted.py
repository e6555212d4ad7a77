# SPDX-License-Identifier: Apache-2.0
"""`Gan` fitted to an archive: a checkpoint, its fitted first guesses, and their blend."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.errors import InputError, ReadError
from sstfill.fields.patches import Patch, Shape
from sstfill.fields.reading.dates import absolute_days
from sstfill.methods import registry
from sstfill.methods.base import Archive, FittedMethod, Method, Window
from sstfill.methods.common.deviations import about
from sstfill.methods.common.fitted_blend import (
    ArchiveHoldout,
    blend_halo,
    blend_window,
    predict_windows,
    withhold,
)
from sstfill.methods.common.fitted_store import read_state, write_state
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.gan.compact import Correction
from sstfill.methods.gan.domain_check import domain_shift
from sstfill.methods.gan.method import (
    FRACTION,
    Estimates,
    Gan,
    check_draws,
    check_usable,
    cloud_seed,
    with_errors,
)
from sstfill.methods.gan.network import Networks
from sstfill.methods.gan.network_inputs import FirstGuesses, series_features
from sstfill.methods.gan.noise import Noise
from sstfill.methods.gan.paper import complete_patches, patch_grid
from sstfill.methods.gan.tiling import pieces_of
from sstfill.methods.interpolation.interpolate import Interpolate
from sstfill.methods.oi.fitted import FittedOi
from sstfill.methods.oi.method import Oi
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.nn.device import pick_device
from sstfill.validation.blend import Blend
from sstfill.validation.cross_validation import CrossValidation

log = logging.getLogger(__name__)
MARGIN: Shape = (4, 8, 8)
"""What the compact network sees around the part to be estimated: as in memory, where (8, 16, 16)
gains nothing.
"""
CHECKPOINT = "checkpoint"


class Predictor(Protocol):
    """A network that fills windows, with the first guesses that it starts from."""

    @property
    def halo(self) -> Shape:
        """As of `sstfill.methods.base.FittedMethod`."""
        ...

    def estimates(self, window: Window, members: int = 0) -> Estimates:
        """Estimate the inside of a window by the network (``gan``) and by each first guess; members
        are those of the network.
        """
        ...


@dataclass(frozen=True)
class CompactPredictor:
    """The compact network, and its fitted first guesses."""

    networks: Networks
    oi: FittedOi
    interpolate: FittedMethod
    eof: FittedMethod | None
    seed: int

    @property
    def halo(self) -> Shape:
        """Of the first guesses: in the margin they may see less."""
        parts = [part.halo for part in (self.oi, self.interpolate, self.eof) if part is not None]
        t, y, x = np.max([*parts, MARGIN], axis=0).tolist()
        return t, y, x

    @property
    def features(self) -> tuple[float, float, float]:
        """Of the archive, see `sstfill.methods.gan.network_inputs.series_features`."""
        return series_features(self.oi.fitted.covariance, self.oi.step, self.oi.cell)

    def estimates(self, window: Window, members: int = 0) -> Estimates:
        """As `sstfill.methods.gan.compact.estimate_compact`, for the inside of a window."""
        window = window.narrowed(self.halo)
        # The network needs first guesses in its margin, too.
        wide = window.widened(MARGIN)
        obs, sea = wide.inside, wide.sea[wide.patch.within[1:]]
        guesses = {}
        for name, part in (("oi", self.oi), ("eof", self.eof), ("interpolated", self.interpolate)):
            if part is not None:
                guesses[name] = part.estimate(wide).transpose(*wide.obs.dims).drop_attrs()
        interpolated = guesses["interpolated"]
        guess = guesses["oi"]
        if "eof" in guesses:
            guess = guess.fillna(guesses["eof"])
        guess = guess.fillna(interpolated)
        eof = guesses.get("eof", xr.full_like(guess, np.nan))
        fields = {
            "oi": guess["mean"],
            "oi_error": guess["error"],
            "eof": eof["mean"],
            "eof_error": eof["error"],
            "interpolated": interpolated["mean"],
        }
        t, y, x = obs.shape
        times, rows, columns = wide.patch.inside
        days = absolute_days(obs, first=times.start)
        noise = Noise(self.seed, members, days, rows.start, columns.start)
        correction = Correction(self.networks, self._at_patches(wide), noise)
        found = correction.apply(obs, sea, fields, pieces_of((t, y, x)))
        estimates = {"gan": found} | {name: one.fillna(guess) for name, one in guesses.items()}
        inside = Patch(window.patch.inside, wide.patch.inside).within
        cut = dict(zip(window.obs.dims, inside, strict=True))
        return {name: one.isel(cut) for name, one in estimates.items()}

    def _at_patches(self, wide: Window) -> FirstGuesses:
        """Return background and features; patches are counted from the first pixel inside."""
        times, *space = wide.patch.within
        background = self.oi.background(wide)
        here = background._replace(
            pixel=background.pixel[tuple(space)],
            image=background.image[times],
            scatter=background.scatter[tuple(space)],
        )
        return FirstGuesses(xr.Dataset(), here, self.features)


@dataclass(frozen=True)
class PaperPredictor:
    """One of the paper's networks, which needs no first guesses."""

    networks: Networks

    @property
    def halo(self) -> Shape:
        """A quarter of a patch: each pixel has so much context at least where patches blend."""
        frames, height, width = self.networks.checkpoint.config["patch"]
        return -(-frames // 4), -(-height // 4), -(-width // 4)

    def estimates(self, window: Window, members: int = 0) -> Estimates:
        """As `sstfill.methods.gan.paper.estimate_paper`, for the inside of a window."""
        shown = window.narrowed(self.halo)
        grid = patch_grid(self.networks)
        found = complete_patches(shown.obs, shown.sea, self.networks, grid)
        return {"gan": found.isel(dict(zip(shown.obs.dims, shown.patch.within, strict=True)))}


@dataclass(frozen=True)
class FittedGan:
    """A network with all that it needs to fill windows.

    Attributes
    ----------
    folder
        Holds the checkpoint and the first guesses, in folders of their own.
    predictor
        The network and its first guesses.
    blend
        Of their estimates; None takes the network as it is.
    account
        The model, its blend and a domain shift: plain values.
    """

    folder: Path
    predictor: Predictor
    blend: Blend | None
    account: dict[str, Any]

    @property
    def halo(self) -> Shape:
        """See `sstfill.methods.base.FittedMethod`."""
        t, y, x = np.maximum(blend_halo(self.blend), self.predictor.halo).tolist()
        return t, y, x

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.base.FittedMethod`."""
        return self._blended(self.predictor.estimates(window), window)

    def _blended(self, estimates: Estimates, window: Window) -> xr.Dataset:
        if self.blend is not None:
            estimates = with_errors(estimates)
        found = blend_window(self.blend, estimates, window)
        return found.drop_attrs(deep=False).assign_attrs(self.account)

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.base.FittedMethod`."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


@dataclass(frozen=True)
class FittedDrawingGan(FittedGan):
    """The same, with a network that draws."""

    predictor: CompactPredictor

    def simulate(self, window: Window, members: int) -> xr.Dataset:
        """See `sstfill.methods.base.FittedSimulates` and `sstfill.methods.Gan.simulate`."""
        estimates = self.predictor.estimates(window, members)
        found = self._blended(estimates, window)
        drawn = about(found, estimates["gan"], window.inside, self.predictor.seed)
        return found.assign(members=drawn)


def fit_archive(method: Gan, archive: Archive, folder: Path) -> FittedGan:
    """Fit the first guesses, and blend the network with them as the withheld clouds suggest."""
    checkpoint = check_usable(method.checkpoint)
    if archive.members:
        check_draws(checkpoint)
    checkpoint.save(folder / CHECKPOINT)
    networks = Networks(checkpoint, pick_device(method.device))
    first_guesses: list[Method] = []
    if networks.corrects:
        times = archive.obs.sizes["time"]
        every: list[Method] = [Oi(seed=method.seed), Interpolate(), BayesEof(seed=method.seed)]
        # Without EOFs where there are too few images.
        first_guesses = [guess for guess in every if times >= guess.min_times]
    names = [guess.name for guess in first_guesses]
    holdout = None
    if method.adapt:
        holdout = _withhold(method, archive)
    blend = None
    if holdout is not None:
        for guess in first_guesses:
            registry.fit_part(guess, holdout.archive, folder)
        blend = _fit_blend(holdout, _load_predictor(networks, folder, names, method.seed))
    if holdout is None or not holdout.little:
        for guess in first_guesses:
            registry.fit_part(guess, archive, folder)
    predictor = _load_predictor(networks, folder, names, method.seed)
    account = _account(checkpoint, archive, predictor, blend)
    options = config.options(method)
    # The checkpoint is in the folder; where it came from does not matter any more.
    del options["model"]
    state = {
        "options": options,
        "fingerprint": checkpoint.fingerprint,
        "guesses": names,
        "account": account,
        "weighed": None if blend is None else blend.to_dict(),
    }
    write_state(folder, method.name, state)
    return load(folder)


def load(folder: Path) -> FittedGan:
    """Read what `fit_archive` or `FittedGan.save` wrote; `ReadError` for another checkpoint."""
    state = read_state(folder)
    checkpoint = Checkpoint.load(folder / CHECKPOINT)
    if checkpoint.fingerprint != state["fingerprint"]:
        raise ReadError(
            f"{folder / CHECKPOINT} is {checkpoint}, not {state['fingerprint'][:8]}; "
            "fill the archive anew"
        )
    method = config.build(Gan, state["options"])
    networks = Networks(check_usable(checkpoint), pick_device(method.device))
    if networks.corrects and not {Oi.name, Interpolate.name} <= set(state["guesses"]):
        raise ReadError(f"{folder} lacks the network's first guesses; fill the archive anew")
    blend = None
    if state["weighed"] is not None:
        blend = Blend.from_dict(state["weighed"])
    if blend is None or not networks.corrects:
        # Without first guesses beside it, nothing else keeps a bad network out.
        networks = replace(networks, bounded=True)
    predictor = _load_predictor(networks, folder, state["guesses"], method.seed)
    if isinstance(predictor, CompactPredictor) and networks.draws:
        return FittedDrawingGan(folder, predictor, blend, state["account"])
    return FittedGan(folder, predictor, blend, state["account"])


def _withhold(method: Gan, archive: Archive) -> ArchiveHoldout | None:
    """Withhold clouds; None where there are none to withhold."""
    try:
        return withhold(archive, fraction=FRACTION, seed=cloud_seed(method.seed))
    except InputError as reason:
        log.info("the network is not blended with its first guesses: %s", reason)
        return None


def _load_predictor(
    networks: Networks, folder: Path, names: Sequence[str], seed: int
) -> CompactPredictor | PaperPredictor:
    if not networks.corrects:
        return PaperPredictor(networks)
    parts: dict[str, Any] = {name: registry.load(folder / name) for name in names}
    eof = parts.get(BayesEof.name)
    return CompactPredictor(networks, parts[Oi.name], parts[Interpolate.name], eof, seed)


def _fit_blend(holdout: ArchiveHoldout, predictor: Predictor) -> Blend:
    """Fill withheld clouds, and compare the network with its first guesses."""
    estimates = predict_windows(
        holdout.windows, lambda window: with_errors(predictor.estimates(window))
    )
    validation = CrossValidation.of(estimates, 1)
    blend = validation.decision(blending=True).blend
    log.info("%s", blend.why)
    return blend


def _account(
    checkpoint: Checkpoint,
    archive: Archive,
    predictor: CompactPredictor | PaperPredictor,
    blend: Blend | None,
) -> dict[str, Any]:
    account: dict[str, Any] = {"model": checkpoint.fingerprint}
    features = predictor.features if isinstance(predictor, CompactPredictor) else ()
    shift = domain_shift(checkpoint, archive.obs, features)
    if shift:
        log.warning("%s", shift)
        account["domain_shift"] = shift
    if blend is not None:
        account |= {"blended": list(blend.names), "why": blend.why}
    return account
