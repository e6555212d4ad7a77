# SPDX-License-Identifier: Apache-2.0
"""Gan: fill by a trained network, the one that ships with sstfill or one trained on the archive."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr

from sstfill import config
from sstfill.checks import check_choice, check_number
from sstfill.errors import InputError, OptionError, ReadError
from sstfill.fields.transform import Kind
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.common.deviations import about
from sstfill.methods.eof.bayes_eof import BayesEof, BayesEofOfKnownAmplitudes
from sstfill.methods.gan.compact import estimate_compact
from sstfill.methods.gan.network import Networks, draws
from sstfill.methods.gan.network_inputs import CHANNELS, FittedGuesses
from sstfill.methods.gan.paper import estimate_paper
from sstfill.methods.oi.method import Oi
from sstfill.methods.registry import register
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.nn.device import pick_device
from sstfill.validation.blend import Blend
from sstfill.validation.cross_validation import CrossValidation
from sstfill.validation.withheld_estimates import WithheldEstimates, gather
from sstfill.validation.withholding.series_holdout import SeriesHoldout

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).parents[2] / "models" / "compact"
"""The checkpoint that comes with sstfill."""
FRACTION = 0.2
"""Fraction of the observed pixels that is withheld to blend the network with its first guesses, and
to scale its error.
"""
TRIAL = 1_200_000
"""Values on which the blend is fitted, about; of a series of `TIMES` as many a window of all times.

On m_20k_200, of four times as many, the RMSE of the fill is 0.190 so, and was 0.196 by all.
"""
TIMES = 2
Estimates = dict[str, xr.Dataset]


@register
@dataclass(frozen=True, kw_only=True)
class Gan:
    """Fill by a neural network that corrects first guesses; blended with them on withheld clouds.

    The network that ships with sstfill was trained on synthetic oceans under many kinds of clouds.
    It sees the estimates of optimal interpolation, EOFs and interpolation in time, in units of
    their errors, and so has no units, grid or time step of its own. `sstfill.train` trains one for
    an archive, or the GAN of Yin, Pajot, de Bezenac and Gallinari (2019), which needs no first
    guesses; its networks are called the paper's.

    Parameters
    ----------
    model
        A checkpoint: a directory, what `train` returned, or None for the one that ships with
        sstfill.
    adapt
        Withhold clouds (a fifth of the observations). Where first guesses do better there than the
        network, blend them in by distance to data; scale the error to hold there, near data and
        far from them. Doubles the time, but of a large series only a window is compared.
    device
        Where the network runs: "cpu", "cuda", or "auto": a GPU if there is one.
    seed
        Seed of the withheld clouds and of the first guesses.

    Examples
    --------
    >>> Gan(seed=-1)
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: seed=-1 must be a whole number, 0 or more
    """

    name: ClassVar[str] = "gan"
    multivariate: ClassVar[bool] = False
    min_times: ClassVar[int] = 1
    # `Auto` and ``score(methods="all")`` take it only where it is named.
    largest: ClassVar[int] = 0
    shares_fit: ClassVar[bool] = True
    """Another blend, fitted to other clouds, would state errors on another scale."""
    __pydantic_config__: ClassVar[Any] = {"arbitrary_types_allowed": True}

    model: str | Path | Checkpoint | Gan | None = None
    adapt: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.model, Gan):
            object.__setattr__(self, "model", self.model.model)
        if not isinstance(self.model, str | Path | Checkpoint | None):
            raise OptionError(
                f"model is a {type(self.model).__name__}; give a checkpoint's directory, or what "
                "train() returned"
            )
        if isinstance(self.model, str | Path) and not Path(self.model).exists():
            raise OptionError(
                f"model={str(self.model)!r}: there is no such folder; give one that a checkpoint "
                "was saved in"
            )
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
        card = folder / "config.json"
        # Part of the key of a cache: a checkpoint that was written again is read again.
        changed = 0.0
        if card.is_file():
            changed = card.stat().st_mtime
        return _loaded(folder, changed)

    @property
    def trained_transform(self) -> Kind | None:
        """The transform of the values that the network was trained on; None fits any.

        `sstfill.fill` fills in that space.
        """
        config = self.checkpoint.config
        if (config.get("scaling") or {}).get("kind") == "log":  # as early checkpoints state it
            return "log"
        trained: Kind | None = config.get("transform")
        return trained

    def _repr_html_(self) -> str:
        return self.checkpoint._repr_html_()

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        return self._fill(obs, sea, 0)

    def simulate(self, obs: xr.DataArray, sea: xr.DataArray, members: int) -> xr.Dataset:
        """Fill `obs`, and draw members (see `sstfill.methods.base.Simulates.simulate`).

        The network turns noise into deviations from its estimate, which are scaled to the error
        that is stated after the blending (`sstfill.methods.common.deviations`).

        Raises
        ------
        OptionError
            If the network was not trained to draw.
        """
        check_draws(self.checkpoint)
        return self._fill(obs, sea, members)

    def _fill(self, obs: xr.DataArray, sea: xr.DataArray, members: int) -> xr.Dataset:
        networks = self._networks()
        blend, fitted = self._blend(obs, sea, networks)
        if blend is None or not networks.corrects:
            # Without first guesses beside it, nothing else keeps a bad network out.
            networks = replace(networks, bounded=True)
        # What was fitted for the blend is not fitted again: it took as long as all patches.
        wanted = () if blend is None else blend.names
        estimates = estimate_all(obs, sea, networks, self.seed, members, fitted, wanted)
        network = found = estimates["gan"]
        account: dict[str, Any] = {"model": networks.checkpoint.fingerprint}
        if found.attrs["domain_shift"]:
            account["domain_shift"] = found.attrs["domain_shift"]
            log.warning("%s", account["domain_shift"])
        if blend is not None:
            found = blend.apply(with_errors(estimates), obs)
            account |= {"blended": list(blend.names), "why": blend.why}
        if members:
            found = found.assign(members=about(found, network, obs, self.seed))
        if obs.chunks:
            found = found.chunk(obs.chunksizes)
        return found.drop_attrs(deep=False).assign_attrs(account)

    def fitted_to(self, obs: xr.DataArray, sea: xr.DataArray) -> Gan:
        """Fit first guesses and their blend (see `sstfill.methods.base.FitsOnce`)."""
        blend, guesses = self._blend(obs, sea, self._networks())
        seen = int(obs.count())
        return GanOfKnownBlend(**config.values(Gan, self), blend=blend, guesses=guesses, seen=seen)

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        """Fit to an archive larger than memory (see `sstfill.methods.registry.fit`)."""
        from sstfill.methods.gan.fitted import fit_archive

        return fit_archive(self, archive, folder)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        """Read what `fit` wrote."""
        from sstfill.methods.gan.fitted import load

        return load(folder)

    def _networks(self) -> Networks:
        return Networks(check_usable(self.checkpoint), pick_device(self.device))

    def _blend(
        self, obs: xr.DataArray, sea: xr.DataArray, networks: Networks
    ) -> tuple[Blend | None, FittedGuesses | None]:
        """Return the blend and the first guesses, as far as they are fitted."""
        if not self.adapt:
            return None, None
        return self._fit_blend(obs, sea, networks)

    def _fit_blend(
        self, obs: xr.DataArray, sea: xr.DataArray, networks: Networks
    ) -> tuple[Blend | None, FittedGuesses | None]:
        """Withhold clouds, fill them, compare; None where there are none to withhold.

        Return also the first guesses of the network: the covariance fitted to all of the series,
        EOFs to what is not withheld.
        """
        try:
            holdout = SeriesHoldout.draw(obs, sea, cloud_seed(self.seed), FRACTION)
        except InputError as reason:
            log.info("the network is not blended with its first guesses: %s", reason)
            return None, None
        left = obs.where(~holdout.hidden)
        trial = holdout
        if holdout.size >= TIMES * TRIAL:
            trial, _ = holdout.part(TRIAL)
        fitted = of_trial = None
        if networks.corrects:
            # The covariance is that of the whole series, as in the fill: another would weigh the
            # interpolation by what it is not. That it has seen the withheld pixels, too, does no
            # harm that we could measure: on five draws of withheld clouds from three real series
            # the RMSE of the fill stayed within 0.5 %, and its CRPS fell by up to 1 %.
            oi, eof = Oi(seed=self.seed).fitted_to(obs, sea), BayesEof(seed=self.seed)
            if obs.sizes["time"] >= eof.min_times:
                eof = eof.fitted_to(left, sea)
            fitted = of_trial = FittedGuesses(oi, eof)
            if trial is not holdout and isinstance(eof, BayesEofOfKnownAmplitudes):
                # Amplitudes are those of the whole images, which a window would not tell as well.
                of_trial = FittedGuesses(oi, eof.unchanged())
        shown = trial.obs.where(~trial.hidden)
        estimates = estimate_all(shown, trial.sea, networks, self.seed, fitted=of_trial)
        validation = _cross_validation(trial, with_errors(estimates))
        blend = validation.decision(blending=True).blend
        log.info("%s", blend.why)
        return blend, fitted


@dataclass(frozen=True, kw_only=True, eq=False)
class GanOfKnownBlend(Gan):
    """A network with first guesses and a blend that were fitted before.

    Parameters
    ----------
    blend
        Of the network and its first guesses; None where nothing could be withheld to fit it.
    guesses
        The first guesses; None where the network knows none.
    seen
        How many observations they were fitted to. Where fewer of them are shown, some are withheld.
    """

    blend: Blend | None
    guesses: FittedGuesses | None
    seen: int

    def _blend(
        self, obs: xr.DataArray, sea: xr.DataArray, networks: Networks
    ) -> tuple[Blend | None, FittedGuesses | None]:
        guesses = self.guesses
        if guesses is not None and int(obs.count()) != self.seen:
            # Amplitudes of another selection of the observations might tell what is withheld now.
            guesses = guesses._replace(eof=BayesEof(seed=self.seed))
        return self.blend, guesses


def check_usable(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint; `ReadError` unless it states all that filling needs."""
    config = checkpoint.config
    if config["network"]["name"] == "compact":
        if config.get("channels") not in (None, list(CHANNELS)):
            raise ReadError(
                f"{checkpoint} was trained to see other first guesses than this version of "
                "sstfill has; train it again"
            )
        return checkpoint
    missing = [name for name in ("patch", "scaling") if not config.get(name)]
    if missing:
        raise ReadError(
            f"{checkpoint} does not state its {' and '.join(missing)}; save it by sstfill.train"
        )
    return checkpoint


def check_draws(checkpoint: Checkpoint) -> None:
    """Raise `OptionError` unless the checkpoint's network draws members."""
    if not draws(checkpoint):
        raise OptionError(
            f"{checkpoint} was not trained to draw members; fill without members, or train it "
            "with objective='draws'"
        )


def estimate_all(
    obs: xr.DataArray,
    sea: xr.DataArray,
    networks: Networks,
    seed: int,
    members: int = 0,
    fitted: FittedGuesses | None = None,
    wanted: Collection[str] | None = None,
) -> Estimates:
    """Fill `obs` by the network (``gan``) and by the `wanted` first guesses that it starts from.

    Members are those of the network. For `fitted` and `wanted` see
    `sstfill.methods.gan.compact.estimate_compact`.
    """
    if networks.corrects:
        return estimate_compact(obs, sea, networks, seed, members, fitted, wanted)
    return estimate_paper(obs, sea, networks)


def with_errors(estimates: Estimates) -> Estimates:
    """Where no estimate states an error, add one of 1 everywhere, for withheld clouds to scale."""
    if any("error" in found for found in estimates.values()):
        return estimates
    constant = {}
    for name, found in estimates.items():
        constant[name] = found.assign(error=xr.ones_like(found["mean"], dtype=np.float32))
    return constant


def cloud_seed(seed: int) -> int:
    """Return a seed of other clouds than those of a score, and those of `Auto`."""
    return int(np.random.SeedSequence([seed, 3]).generate_state(1)[0])


def _cross_validation(holdout: SeriesHoldout, estimates: Estimates) -> CrossValidation:
    """Gather the estimates at the withheld pixels; lazy fields are computed together."""
    unknown = xr.full_like(holdout.obs, np.nan, dtype=np.float32)
    errors = [found.get("error", unknown) for found in estimates.values()]
    means = [found["mean"] for found in estimates.values()]
    # The mean of the network comes last: its blocks are the ones that `gather` computes in.
    fields = [*errors, *means[::-1]]
    truth, *values, image, layer = gather(holdout.scored, holdout.obs, *fields)
    sigmas, means_at = values[: len(errors)], values[len(errors) :][::-1]
    places = image, layer, holdout.distance, holdout.lag, holdout.weight, holdout.odds
    by_name = {}
    for name, mean, sigma in zip(estimates, means_at, sigmas, strict=True):
        by_name[name] = WithheldEstimates(truth, mean, sigma, *places)
    return CrossValidation.of(by_name, 1)


@lru_cache(maxsize=4)
def _loaded(folder: Path, changed: float) -> Checkpoint:
    return Checkpoint.load(folder)
