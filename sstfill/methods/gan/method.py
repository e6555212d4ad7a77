# SPDX-License-Identifier: Apache-2.0
"""Filling by a trained network: the one that ships with sstfill, or one trained on the archive
itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import xarray as xr

from sstfill.checks import check_choice, check_number
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.fields import gaps
from sstfill.methods.base import register
from sstfill.methods.gan.compact import corrected
from sstfill.methods.gan.network import VIEWS, Networks
from sstfill.methods.gan.network_inputs import CHANNELS
from sstfill.methods.gan.paper import completed
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.nn.device import pick_device
from sstfill.validation.blend import combined, rescaled
from sstfill.validation.calibration import StratifiedScale, standardised
from sstfill.validation.cross_validation import BlendRecipe, CrossValidation
from sstfill.validation.distances import distance_to_data
from sstfill.validation.withheld_estimates import WithheldEstimates, gather

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).parents[2] / "models" / "compact"
"""The checkpoint that comes with sstfill."""
SHARE = 0.2
"""Part of the observed pixels withheld to weigh the network against its first guesses, and to scale
its error.
"""
Columns = dict[str, xr.Dataset]


class NetworkBlend(NamedTuple):
    """What withheld clouds say of a network and its first guesses: which to mix, how to scale the
    error, and why.
    """

    names: list[str]
    recipe: BlendRecipe
    strata: StratifiedScale
    why: str


@register
@dataclass(frozen=True, kw_only=True)
class Gan:
    """Fill by a neural network that corrects first guesses, weighed against them on withheld
    clouds.

    The network that ships with sstfill was trained on synthetic oceans under many kinds of clouds.
    It sees what optimal interpolation, EOFs and interpolation in time make of the series, in units
    of their errors, and so has no units, grid or time step of its own. `sstfill.train` makes one
    for an archive, or the paper's GAN ("Unsupervised spatiotemporal data inpainting", 2020), which
    fills by itself.

    Parameters
    ----------
    model
        A checkpoint: a directory, what `train` returned, or None for the one that ships with
        sstfill.
    samples
        Views of the series that are filled and averaged, up to 16: turned, mirrored and with
        anomalies of opposite sign; their spread adds to the expected error. The paper's networks
        know no sign: 8 views at most.
    adapt
        Withhold clouds (a fifth of what is observed), and where first guesses do better there than
        the network, mix them in by distance to data; scale the error to hold there, near data and
        far from them. Doubles the time.
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

    model: str | Path | Checkpoint | Gan | None = None
    samples: int = 1
    adapt: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.model, Gan):
            object.__setattr__(self, "model", self.model.model)
        if not isinstance(self.model, str | Path | Checkpoint | None):
            raise OptionError(
                f"model is a {type(self.model).__name__}; give a checkpoint's directory, or what train() "
                "returned"
            )
        if isinstance(self.model, str | Path) and not Path(self.model).exists():
            raise OptionError(
                f"model={str(self.model)!r}: there is no such folder; give one that a checkpoint was saved in"
            )
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
        folder = SHIPPED if self.model is None else Path(str(self.model))
        return _loaded(folder, _changed(folder))

    def _repr_html_(self) -> str:
        return self.checkpoint._repr_html_()

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        networks = Networks(_usable(self.checkpoint), pick_device(self.device), self.samples)
        weighed = self._weighed(obs, sea, networks) if self.adapt else None
        if weighed is None or not networks.corrects:
            networks = replace(networks, bounded=True)  # nothing else keeps a bad network out
        columns = _columns(obs, sea, networks, self.seed)
        account: dict[str, Any] = {"model": networks.checkpoint.fingerprint}
        if concern := columns["gan"].attrs["concern"]:
            account["concern"] = concern
            log.warning("%s", concern)
        found = columns["gan"]
        if weighed is not None:
            stated = _stated(columns)
            found = combined(weighed.recipe, [stated[n] for n in weighed.names], obs)
            found = rescaled(found, weighed.strata, obs)
            account |= {"mixed": weighed.names, "why": weighed.why}
        found = found.chunk(obs.chunksizes) if obs.chunks else found
        return found.drop_attrs(deep=False).assign_attrs(account)

    def _weighed(
        self, obs: xr.DataArray, sea: xr.DataArray, networks: Networks
    ) -> NetworkBlend | None:
        """Withhold clouds, fill them, compare; None where there are none to withhold."""
        try:
            hidden = gaps.transplant_clouds(obs, sea, share=SHARE, seed=_own(self.seed))
        except InputError as reason:
            log.info("the network is not weighed against its first guesses: %s", reason)
            return None
        seen = obs.where(~hidden)
        trials = _tried(
            hidden, obs, _stated(_columns(seen, sea, networks, self.seed)), distance_to_data(seen)
        )
        recipe, fair, why = trials.verdict(True)
        z = standardised(fair.mean - fair.truth, fair.sigma)
        strata = StratifiedScale.fit(z, fair.image, trials.distance, trials.lag)
        used = recipe.weights.used
        log.info("%s", why)
        lean = BlendRecipe(recipe.weights.among(used), recipe.scale[:, used])
        return NetworkBlend([trials.names[k] for k in used], lean, strata, why)


def _usable(checkpoint: Checkpoint) -> Checkpoint:
    """Raise `ReadError` unless a checkpoint says all that filling needs."""
    config = checkpoint.config
    if config["network"]["name"] == "compact":
        if config.get("channels") not in (None, list(CHANNELS)):
            raise ReadError(
                f"{checkpoint} was trained to see other first guesses than this version of sstfill has; "
                "train it anew"
            )
        return checkpoint
    if missing := [name for name in ("patch", "scaling") if not config.get(name)]:
        raise ReadError(
            f"{checkpoint} does not say its {' and '.join(missing)}; save it by sstfill.train"
        )
    return checkpoint


def _columns(obs: xr.DataArray, sea: xr.DataArray, networks: Networks, seed: int) -> Columns:
    """What the network says, and the guesses it started from."""
    return (corrected if networks.corrects else completed)(obs, sea, networks, seed)


def _stated(columns: Columns) -> Columns:
    """Where none states an error, one that is the same everywhere, for withheld clouds to scale."""
    if any("error" in found for found in columns.values()):
        return columns
    return {
        n: found.assign(error=xr.ones_like(found["mean"], dtype=np.float32))
        for n, found in columns.items()
    }


def _tried(
    hidden: xr.DataArray,
    obs: xr.DataArray,
    columns: Columns,
    near: tuple[xr.DataArray, xr.DataArray],
) -> CrossValidation:
    """What each fill says of the hidden pixels, and how far these are from data; lazy fields in one
    go.
    """
    unknown = xr.full_like(obs, np.nan, dtype=np.float32)
    errors = [found.get("error", unknown) for found in columns.values()]
    means = [found["mean"] for found in columns.values()]
    truth, distance, lag, *said, image, layer = gather(hidden, obs, *near, *errors, *means[::-1])
    pairs = zip(columns, said[: len(errors)], said[len(errors) :][::-1], strict=True)
    answers = {
        name: WithheldEstimates(truth, mean, sigma, image, layer) for name, sigma, mean in pairs
    }
    return CrossValidation.of(answers, 1, distance, lag)


def _own(seed: int) -> int:
    """Seed of clouds that are neither those of a score nor those of `Auto`."""
    return int(np.random.SeedSequence([seed, 3]).generate_state(1)[0])


def _changed(folder: Path) -> float:
    config = folder / "config.json"
    return config.stat().st_mtime if config.is_file() else 0.0


@lru_cache(maxsize=4)
def _loaded(folder: Path, changed: float) -> Checkpoint:
    return Checkpoint.load(folder)
