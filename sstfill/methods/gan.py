# SPDX-License-Identifier: Apache-2.0
"""Filling by a trained network: the one that ships with sstfill, or one trained on the archive itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr

from sstfill import gaps
from sstfill.answers import Answers, gather
from sstfill.checkpoint import Checkpoint
from sstfill.checks import check_choice, check_number
from sstfill.errors import InputError, OptionError
from sstfill.methods.base import register
from sstfill.methods.gan_compact import corrected
from sstfill.methods.gan_network import VIEWS, Networks
from sstfill.methods.gan_paper import completed
from sstfill.methods.oi_engine import resolved
from sstfill.mixing import combined
from sstfill.nearness import reach
from sstfill.trials import Recipe, Trials, Verdict

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent.parent / "models" / "compact"
"""The checkpoint that comes with sstfill."""
SHARE = 0.2
"""Part of the observed pixels withheld to weigh the network against its first guesses, and to scale its error."""
Columns = dict[str, xr.Dataset]


@register
@dataclass(frozen=True, kw_only=True)
class Gan:
    """Fill by a neural network that corrects first guesses, weighed against them on withheld clouds.

    The network that ships with sstfill was trained on synthetic oceans under many kinds of clouds. It sees what optimal
    interpolation, EOFs and interpolation in time make of the series, in units of their errors, and so has no units,
    grid or time step of its own. `sstfill.train` makes one for an archive, or the paper's GAN ("Unsupervised
    spatiotemporal data inpainting", 2020), which fills by itself.

    Parameters
    ----------
    model
        A checkpoint: a directory, what `train` returned, or None for the one that ships with sstfill.
    samples
        Views of the series that are filled and averaged, up to 16: turned, mirrored and with anomalies of opposite
        sign; their spread adds to the expected error.
    adapt
        Withhold clouds (a fifth of what is observed), and where first guesses do better there than the network, mix
        them in by distance to data; scale the error to hold there. Doubles the time.
    device
        Where the network runs: "cpu", "cuda", or "auto": a GPU if there is one.
    seed
        Seed of the withheld clouds and of the first guesses.

    Examples
    --------
    >>> Gan(samples=0)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: samples=0 must be a whole number, 1 to 16
    """

    name: ClassVar[str] = "gan"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1
    largest: ClassVar[int] = 0  # `Auto` and ``score(methods="all")`` take it only where it is named
    __pydantic_config__: ClassVar[Any] = {"arbitrary_types_allowed": True}

    model: str | Path | Checkpoint | None = None
    samples: int = 1
    adapt: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.model, Gan):
            object.__setattr__(self, "model", self.model.model)
        if not isinstance(self.model, str | Path | Checkpoint | None):
            raise OptionError(f"model is a {type(self.model).__name__}; give a checkpoint's directory, or what train() "
                              "returned")  # fmt: skip
        check_number("samples", self.samples, 1, VIEWS, whole=True)
        if not isinstance(self.adapt, bool):
            raise OptionError(f"adapt={self.adapt!r} must be True or False")
        check_choice("device", self.device, ("auto", "cpu", "cuda"))
        check_number("seed", self.seed, 0, whole=True)

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights, and what they were trained on; `ReadError` if they cannot be read."""
        if isinstance(self.model, Checkpoint):
            return self.model
        return _loaded(str(self.model) if self.model is not None else str(SHIPPED), _changed(self.model or SHIPPED))

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        networks = Networks(self.checkpoint, resolved(self.device), self.samples)
        verdict = self._verdict(obs, sea, networks) if self.adapt else None
        columns = _columns(obs, sea, networks, self.seed)
        for concern in columns["gan"].attrs.pop("concerns", ()):
            log.warning("%s", concern)
        account: dict[str, Any] = {"model": networks.checkpoint.fingerprint}
        if verdict is None:
            return columns["gan"].drop_attrs(deep=False).assign_attrs(account)
        used = verdict.recipe.weights.used
        names = [list(columns)[k] for k in used]
        recipe = Recipe(verdict.recipe.weights.among(used), verdict.recipe.scale[:, used])
        found = combined(recipe, [columns[n] for n in names], obs)
        return found.drop_attrs(deep=False).assign_attrs(account | {"mixed": names, "why": verdict.why})

    def _verdict(self, obs: xr.DataArray, sea: xr.DataArray, networks: Networks) -> Verdict | None:
        """Withhold clouds; find what to mix the network with, and how to scale its error; None where there are none."""
        try:
            hidden = gaps.transplant_clouds(obs, sea, share=SHARE, seed=_own(self.seed))
        except InputError as reason:
            log.info("the network is not weighed against its first guesses: %s", reason)
            return None
        seen = obs.where(~hidden)
        answers = {n: _answers(hidden, obs, found) for n, found in _columns(seen, sea, networks, self.seed).items()}
        distance, lag, *_ = gather(hidden, *reach(seen))
        verdict = Trials.of(answers, 1, distance, lag).verdict(True)
        log.info("%s", verdict.why)
        return verdict


def _columns(obs: xr.DataArray, sea: xr.DataArray, networks: Networks, seed: int) -> Columns:
    """What the network says, and the guesses it started from."""
    return (corrected if networks.corrects else completed)(obs, sea, networks, seed)


def _answers(hidden: xr.DataArray, obs: xr.DataArray, found: xr.Dataset) -> Answers:
    error = found["error"] if "error" in found else xr.full_like(obs, np.nan, dtype=np.float32)
    return Answers(*gather(hidden, obs, found["mean"].transpose(*obs.dims), error.transpose(*obs.dims)))


def _own(seed: int) -> int:
    """Seed of clouds that are neither those of a score nor those of `Auto`."""
    return int(np.random.SeedSequence([seed, 3]).generate_state(1)[0])


def _changed(path: str | Path | Checkpoint) -> float:
    config = Path(str(path)) / "config.json"
    return config.stat().st_mtime if config.is_file() else 0.0


@lru_cache(maxsize=4)
def _loaded(path: str, changed: float) -> Checkpoint:
    return Checkpoint.load(path)
