# SPDX-License-Identifier: Apache-2.0
"""Networks pinned to an archive: their checkpoint, their first guesses, and how they are weighed
against these.
"""

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
from sstfill.fields.patches import Patch, PatchGrid, Shape, map_patches
from sstfill.fields.scaling import Scaling
from sstfill.methods import Method
from sstfill.methods.common.fitted_blend import Blend, Held, ask, nearness, withhold
from sstfill.methods.common.fitted_store import read_state, write_state
from sstfill.methods.common.fitted_windowed import narrowed
from sstfill.methods.eof.bayes_eof import BayesEof
from sstfill.methods.fitted import FITTINGS, Archive, FittedMethod, Fitting, Window
from sstfill.methods.gan.compact import Correction
from sstfill.methods.gan.domain_check import domain_shift
from sstfill.methods.gan.method import SHARE, Gan, _own, _stated, _usable
from sstfill.methods.gan.network import Networks
from sstfill.methods.gan.network_inputs import FIELDS, FirstGuesses, traits
from sstfill.methods.gan.paper import PatchCompletion
from sstfill.methods.interpolation.interpolate import Interpolate
from sstfill.methods.oi.fitted import FittedOi
from sstfill.methods.oi.method import Oi
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.nn.device import pick_device
from sstfill.validation.cross_validation import CrossValidation

log = logging.getLogger(__name__)
MARGIN: Shape = (4, 8, 8)
"""What the compact network is shown around what is asked for: as in memory, where (8, 16, 16) gains
nothing.
"""
LARGEST: Shape = (96, 160, 160)
"""Of a patch that it is shown at once, about; with `HALO` around, and blended over `OVERLAP`."""
OVERLAP: Shape = (8, 16, 16)
HALO: Shape = (4, 8, 8)
CHECKPOINT = "checkpoint"
Columns = dict[str, xr.Dataset]


class Predictor(Protocol):
    """What a network, and what it starts from, say of a window."""

    @property
    def reach(self) -> Shape:
        """As of `sstfill.methods.fitted.FittedMethod`."""
        ...

    def columns(self, window: Window) -> Columns:
        """What the network says (``gan``), and what each first guess does, of what is asked for."""
        ...


@dataclass(frozen=True)
class Corrected:
    """The compact network, and its first guesses by name."""

    networks: Networks
    oi: FittedOi
    interpolate: FittedMethod
    eof: FittedMethod | None

    @property
    def reach(self) -> Shape:
        """Of the guesses: in the margin they may see less."""
        parts = [part.reach for part in (self.oi, self.interpolate, self.eof) if part is not None]
        t, y, x = (max(sides) for sides in zip(*parts, MARGIN, strict=True))
        return t, y, x

    def columns(self, window: Window) -> Columns:
        """As `sstfill.methods.gan.compact.corrected`, each cut to what is asked for."""
        window = narrowed(window, self.reach)
        wide = window.asking(MARGIN)
        obs, sea = wide.inside, wide.sea[wide.patch.within[1:]]
        guessed = self._guessed(wide)
        guess = guessed["oi"]
        if "eof" in guessed:
            guess = guess.fillna(guessed["eof"])
        guess = guess.fillna(guessed["interpolated"])
        eof = guessed.get("eof", xr.full_like(guess, np.nan))
        fields = dict(
            zip(
                FIELDS,
                (
                    guess["mean"],
                    guess["error"],
                    eof["mean"],
                    eof["error"],
                    guessed["interpolated"]["mean"],
                ),
                strict=True,
            )
        )
        dtypes = {"mean": obs.dtype, "error": np.dtype(np.float32)}
        job = Correction(self.networks, self._about(wide))
        pieces = pieces_of(obs.shape)  # type: ignore[arg-type]
        found = map_patches(
            job, obs, sea, *(fields[name] for name in FIELDS), grid=pieces, outputs=dtypes
        )
        whole = {"gan": found} | {name: one.fillna(guess) for name, one in guessed.items()}
        return {name: one.isel(_cut(window, wide)) for name, one in whole.items()}

    def _guessed(self, wide: Window) -> Columns:
        parts = {"oi": self.oi, "eof": self.eof, "interpolated": self.interpolate}
        dims = wide.obs.dims
        found = {name: part.estimate(wide) for name, part in parts.items() if part is not None}
        return {name: one.transpose(*dims).drop_attrs() for name, one in found.items()}

    def _about(self, wide: Window) -> FirstGuesses:
        """What anomalies are taken about, where patches are counted from the first pixel of what is
        asked for.
        """
        times, *space = wide.patch.within
        about = self.oi.first_guess(wide)
        here = about._replace(
            pixel=about.pixel[tuple(space)],
            image=about.image[times],
            scatter=about.scatter[tuple(space)],
        )
        own = traits(self.oi.fitted.covariance, self.oi.step, self.oi.cell)
        return FirstGuesses(xr.Dataset(), here, own)


@dataclass(frozen=True)
class Completed:
    """One of the paper's networks, which fills by itself."""

    networks: Networks

    @property
    def reach(self) -> Shape:
        """A quarter of a patch: so much context has a pixel at least where patches blend."""
        t, y, x = (-(-n // 4) for n in self._sides)
        return t, y, x

    @property
    def _sides(self) -> Shape:
        frames, height, width = self.networks.checkpoint.config["patch"]
        return frames, height, width

    def columns(self, window: Window) -> Columns:
        """As `sstfill.methods.gan.paper.completed`."""
        shown = narrowed(window, self.reach)
        halves = tuple(n // 2 for n in self._sides)
        core = tuple(max(1, n) for n in halves)
        job = PatchCompletion(self.networks, Scaling(**self.networks.checkpoint.config["scaling"]))
        outputs = {"mean": shown.obs.dtype} | (
            {"error": np.dtype(np.float32)} if self.networks.samples > 1 else {}
        )
        pieces = PatchGrid(core=core, overlap=halves)  # type: ignore[arg-type]
        found = map_patches(job, shown.obs, shown.sea, grid=pieces, outputs=outputs)
        return {"gan": found.isel(dict(zip(shown.obs.dims, shown.patch.within, strict=True)))}


@dataclass(frozen=True)
class FittedGan:
    """A network with all that it needs.

    Attributes
    ----------
    folder
        Where it lies, the checkpoint and the first guesses in folders of their own.
    sayer
        The network and its first guesses.
    weighed
        None takes the network as it is.
    account
        What is told of it: plain values.
    """

    folder: Path
    sayer: Predictor
    weighed: Blend | None
    account: dict[str, Any]

    @property
    def reach(self) -> Shape:
        """See `sstfill.methods.fitted.FittedMethod`."""
        own = (0, 0, 0) if self.weighed is None else self.weighed.reach
        t, y, x = (max(a, b) for a, b in zip(own, self.sayer.reach, strict=True))
        return t, y, x

    def estimate(self, window: Window) -> xr.Dataset:
        """See `sstfill.methods.fitted.FittedMethod`."""
        columns = self.sayer.columns(window)
        found = (
            columns["gan"] if self.weighed is None else self.weighed.mixed(_stated(columns), window)
        )
        return found.drop_attrs(deep=False).assign_attrs(self.account)

    def save(self, folder: Path) -> None:
        """See `sstfill.methods.fitted.FittedMethod`."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


def pieces_of(shape: Shape) -> PatchGrid:
    """Cut what the network is shown into equal patches that are not too large.

    >>> pieces_of((32, 288, 288)).core
    (32, 144, 144)
    """
    core = tuple(-(-n // -(-n // most)) for n, most in zip(shape, LARGEST, strict=True))
    t, y, x = (min(o, c) for o, c in zip(OVERLAP, core, strict=True))
    return PatchGrid(core=core, overlap=(t, y, x), halo=HALO)  # type: ignore[arg-type]


def fit_archive(method: Gan, archive: Archive, folder: Path) -> FittedGan:
    """Pin the first guesses, and weigh the network against them in the windows that are there to
    judge by.
    """
    checkpoint = _usable(method.checkpoint)
    checkpoint.save(folder / CHECKPOINT)
    networks = Networks(checkpoint, pick_device(method.device), method.samples)
    guesses = _guesses(method, archive) if networks.corrects else []
    held = _held(method, archive) if method.adapt else None
    weighed = None
    if held is not None:
        _pin_guesses(guesses, held.archive, folder)
        weighed = _weighed(held, _sayer(networks, folder, guesses))
    if held is None or not held.little:
        _pin_guesses(guesses, archive, folder)
    if weighed is None or not networks.corrects:
        networks = replace(networks, bounded=True)  # nothing else keeps a bad network out
    sayer = _sayer(networks, folder, guesses)
    own = (
        traits(sayer.oi.fitted.covariance, sayer.oi.step, sayer.oi.cell)
        if isinstance(sayer, Corrected)
        else ()
    )
    account: dict[str, Any] = {"model": checkpoint.fingerprint}
    if unlike := domain_shift(checkpoint, archive.obs, own):
        log.warning("%s", unlike)
        account["concern"] = unlike
    account |= {} if weighed is None else {"mixed": list(weighed.names), "why": weighed.why}
    write_state(
        folder,
        method.name,
        {
            "options": {
                name: value for name, value in config.options(method).items() if name != "model"
            },
            "fingerprint": checkpoint.fingerprint,
            "guesses": [guess.name for guess in guesses],
            "account": account,
            "weighed": None if weighed is None else weighed.told(),
        },
    )
    return FittedGan(folder, sayer, weighed, account)


def load(folder: Path) -> FittedGan:
    """Read what `pin` or `FittedGan.save` wrote; `ReadError` if the checkpoint is another one."""
    state = read_state(folder)
    checkpoint = Checkpoint.load(folder / CHECKPOINT)
    if checkpoint.fingerprint != state["fingerprint"]:
        raise ReadError(
            f"{folder / CHECKPOINT} is {checkpoint}, not {state['fingerprint'][:8]}; fill the archive anew"
        )
    method = config.build(Gan, state["options"])
    networks = Networks(_usable(checkpoint), pick_device(method.device), method.samples)
    if networks.corrects and not {Oi.name, Interpolate.name} <= set(state["guesses"]):
        raise ReadError(f"{folder} lacks the network's first guesses; fill the archive anew")
    if state["weighed"] is None or not networks.corrects:
        networks = replace(networks, bounded=True)
    sayer = _sayer(networks, folder, state["guesses"])
    weighed = None if state["weighed"] is None else Blend.heard(state["weighed"])
    return FittedGan(folder, sayer, weighed, state["account"])


def _guesses(method: Gan, archive: Archive) -> list[Method]:
    """What the compact network starts from: without EOFs where there are too few images."""
    guesses: list[Method] = [Oi(seed=method.seed), Interpolate(), BayesEof(seed=method.seed)]
    return [guess for guess in guesses if archive.obs.sizes["time"] >= guess.min_times]


def _pin_guesses(guesses: list[Method], archive: Archive, folder: Path) -> None:
    """Pin each in a new folder of its name."""
    for guess in guesses:
        own = folder / guess.name
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True)
        FITTINGS[guess.name].fit(guess, archive, own)


def _sayer(
    networks: Networks, folder: Path, guesses: Sequence[Method | str]
) -> Corrected | Completed:
    if not networks.corrects:
        return Completed(networks)
    names = [guess if isinstance(guess, str) else guess.name for guess in guesses]
    found: dict[str, Any] = {name: FITTINGS[name].load(folder / name) for name in names}
    return Corrected(networks, found[Oi.name], found[Interpolate.name], found.get(BayesEof.name))


def _held(method: Gan, archive: Archive) -> Held | None:
    """Withhold clouds; None where there are none to withhold."""
    try:
        return withhold(archive, share=SHARE, seed=_own(method.seed))
    except InputError as reason:
        log.info("the network is not weighed against its first guesses: %s", reason)
        return None


def _weighed(held: Held, sayer: Predictor) -> Blend:
    """Fill withheld clouds, and compare."""
    answers = ask(held.trials, lambda window: _stated(sayer.columns(window)))
    return Blend.of(
        CrossValidation.of(answers, 1, *nearness(held.trials)), blending=True, strata=True
    )


def _cut(window: Window, wide: Window) -> dict[Any, slice]:
    """Where what a window asks for lies in what a wider one does."""
    return dict(
        zip(window.obs.dims, Patch(window.patch.inside, wide.patch.inside).within, strict=True)
    )


FITTINGS[Gan.name] = Fitting(fit_archive, load)
