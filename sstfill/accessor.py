# SPDX-License-Identifier: Apache-2.0
"""``ds.gapfill`` and ``da.gapfill``: each method of sstfill as one call on an xarray object."""

from __future__ import annotations

import dataclasses
import html
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import xarray as xr

from sstfill import plot
from sstfill.describe import Description, describe
from sstfill.docstrings import parameters
from sstfill.errors import OptionError, unknown
from sstfill.evaluation import Scorecard, score
from sstfill.fill import fill
from sstfill.methods import (
    METHODS,
    BayesEof,
    Climatology,
    Dineof,
    Gan,
    Interpolate,
    Method,
    Oi,
    PatchMatch,
)
from sstfill.methods.auto.method import Auto
from sstfill.modes import dineof_modes
from sstfill.nn.checkpoint.checkpoint import Checkpoint
from sstfill.occlusion import Occlusion
from sstfill.plot.maps import LAYERS
from sstfill.plot.view import Label
from sstfill.training.options import Device, Network, ObjectiveName, Precision, TrainOptions
from sstfill.training.train import train

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

F = TypeVar("F", bound=Callable[..., Any])
Names = str | Sequence[str]
Methods = str | Method | Iterable[str | Method] | Mapping[str, str | Method]


DOOR = parameters(fill)


def _documented(*texts: Mapping[str, str]) -> Callable[[F], F]:
    """Decorate: add to a docstring what `texts` say of its parameters, those of the method and
    those of the door.
    """

    def decorate(function: F) -> F:
        said = {n: " ".join(t[n] for t in texts if n in t) for n in function.__annotations__}
        entries = [
            f"{n}\n{textwrap.indent(textwrap.fill(text, 100), '    ')}"
            for n, text in said.items()
            if text
        ]
        function.__doc__ = "\n".join(
            [function.__doc__ or "", "", "Parameters", "----------", *entries, ""]
        )
        return function

    return decorate


def _field(filled: xr.Dataset, like: xr.DataArray) -> xr.DataArray:
    """Return the filled field alone, under the name it had; it links to no companions, for they are
    left behind.
    """
    found = filled["field" if like.name is None else like.name].rename(like.name)
    own = {"ancillary_variables": like.attrs.get("ancillary_variables")}
    found.attrs = {k: v for k, v in (found.attrs | own).items() if v is not None}
    return found


class _UnknownMethodError(OptionError, AttributeError):
    """A method that sstfill does not have, asked for as an attribute: `hasattr` and the like must
    see it as one.
    """


class _Accessor:
    """What both accessors do: show what `info` says, and name the methods there are when asked for
    another.
    """

    _data: xr.Dataset | xr.DataArray
    fill: Callable[..., Any]

    def __repr__(self) -> str:
        try:
            return str(describe(self._data))
        except Exception:  # whatever is wrong with the data, a notebook or debugger must be able to show this object
            return type(self).__name__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):  # what copy, pickle and notebooks probe for
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name not in METHODS:
            raise _UnknownMethodError(*unknown("method", name, sorted(METHODS)).args)
        cls = METHODS[name]  # of an installed package, or registered in this program

        def fill_with(**options: Any) -> Any:
            fields = {field.name for field in dataclasses.fields(cls)}
            own = {key: value for key, value in options.items() if key in fields}
            others = {key: value for key, value in options.items() if key not in fields}
            if "seed" in own:
                others["seed"] = own["seed"]
            return self.fill(cls(**own), **others)

        return fill_with


class DatasetGapfill(_Accessor):
    """Fill the gaps of a Dataset's gridded series: ``ds.gapfill.dineof()``, ``ds.gapfill.score()``,
    ...

    What is filled comes back as a Dataset with, for each variable ``v``, the companions ``v_error``
    (one sigma) and ``v_source`` (0 observed, 1 filled, 2 not filled, 3 withheld, 4 land); see
    `sstfill.fill`.
    """

    _data: xr.Dataset

    def __init__(self, data: xr.Dataset) -> None:
        self._data = data

    @_documented(DOOR)
    def fill(
        self,
        method: Method | str | None = None,
        *,
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        withheld: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill with a method, its name, or (by default) what does best under withheld clouds; see
        `sstfill.Auto`.
        """
        return fill(
            self._data,
            method,
            variables=variables,
            together=together,
            sea=sea,
            withheld=withheld,
            score=score,
            seed=seed,
        )

    @_documented(parameters(Auto), DOOR)
    def auto(
        self,
        *,
        methods: tuple[str, ...] | None = None,
        blend: bool = True,
        budget: float | None = None,
        share: float = 0.2,
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill with the best of all methods on withheld clouds, or a blend of several; see
        `sstfill.Auto`.
        """
        return fill(
            self._data,
            Auto(methods=methods, blend=blend, budget=budget, share=share, seed=seed),
            variables=variables,
            together=together,
            sea=sea,
            score=score,
            seed=seed,
        )

    @_documented(parameters(Climatology), DOOR)
    def climatology(
        self,
        *,
        harmonics: int = 2,
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill with each pixel's mean and seasonal cycle; see `sstfill.Climatology`."""
        return fill(
            self._data,
            Climatology(harmonics=harmonics),
            variables=variables,
            together=together,
            sea=sea,
            score=score,
            seed=seed,
        )

    @_documented(parameters(Interpolate), DOOR)
    def interpolate(
        self,
        *,
        limit: float | None = None,
        space: bool = True,
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill by linear interpolation in time, then in space; see `sstfill.Interpolate`."""
        return fill(
            self._data,
            Interpolate(limit=limit, space=space),
            variables=variables,
            together=together,
            sea=sea,
            score=score,
            seed=seed,
        )

    @_documented(parameters(Dineof), DOOR)
    def dineof(
        self,
        *,
        modes: int | Literal["auto"] = "auto",
        max_modes: int = 100,
        alpha: float | Literal["auto"] = "auto",
        filter_iterations: int = 3,
        cross_validation: Literal["clouds", "random"] = "clouds",
        tolerance: float = 1e-3,
        max_iterations: int = 300,
        normalise: bool = False,
        min_pixel_coverage: float = 0.0,
        min_image_coverage: float = 0.0,
        error_length: float = 25.0,
        solver: Literal["fast", "reference"] = "fast",
        outliers: bool = False,
        return_modes: bool = False,
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill by iterated EOF decomposition with cross-validated modes; see `sstfill.Dineof`."""
        return fill(
            self._data,
            Dineof(
                modes=modes,
                max_modes=max_modes,
                alpha=alpha,
                filter_iterations=filter_iterations,
                cross_validation=cross_validation,
                tolerance=tolerance,
                max_iterations=max_iterations,
                normalise=normalise,
                min_pixel_coverage=min_pixel_coverage,
                min_image_coverage=min_image_coverage,
                error_length=error_length,
                solver=solver,
                outliers=outliers,
                return_modes=return_modes,
                seed=seed,
            ),
            variables=variables,
            together=together,
            sea=sea,
            score=score,
            seed=seed,
        )

    @_documented(parameters(BayesEof), DOOR)
    def bayes_eof(
        self,
        *,
        modes: int | Literal["auto"] = "auto",
        normalise: bool = False,
        sample: int | Literal["auto"] = "auto",
        tolerance: float = 1e-3,
        max_iterations: int = 40,
        min_pixel_coverage: float = 0.0,
        min_image_coverage: float = 0.0,
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill by EOFs weighed by variational Bayes, with red-noise amplitudes; see
        `sstfill.BayesEof`.
        """
        return fill(
            self._data,
            BayesEof(
                modes=modes,
                normalise=normalise,
                sample=sample,
                tolerance=tolerance,
                max_iterations=max_iterations,
                min_pixel_coverage=min_pixel_coverage,
                min_image_coverage=min_image_coverage,
                seed=seed,
            ),
            variables=variables,
            together=together,
            sea=sea,
            score=score,
            seed=seed,
        )

    @_documented(parameters(Oi), DOOR)
    def oi(
        self,
        *,
        length_scale: float | tuple[float, float] | Literal["auto"] = "auto",
        time_scale: float | Literal["auto"] = "auto",
        noise: float | Literal["auto"] = "auto",
        covariance: Literal["auto", "exponential", "matern", "gauss", "two-scale"] = "auto",
        background: Literal["auto", "mean", "pixel", "additive"] = "auto",
        flow: tuple[float, float] = (0.0, 0.0),
        neighbours: int = 50,
        device: Literal["cpu", "cuda", "auto"] = "cpu",
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill by optimal interpolation in space and time; see `sstfill.Oi`."""
        return fill(
            self._data,
            Oi(
                length_scale=length_scale,
                time_scale=time_scale,
                noise=noise,
                covariance=covariance,
                background=background,
                flow=flow,
                neighbours=neighbours,
                device=device,
                seed=seed,
            ),
            variables=variables,
            together=together,
            sea=sea,
            score=score,
            seed=seed,
        )

    @_documented(parameters(PatchMatch), DOOR)
    def patchmatch(
        self,
        *,
        patch: int = 5,
        levels: int | Literal["auto"] = "auto",
        iterations: int = 5,
        sweeps: int = 2,
        remove_mean: bool = True,
        sharp: bool = False,
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill with what similar space-time patches show; see `sstfill.PatchMatch`."""
        return fill(
            self._data,
            PatchMatch(
                patch=patch,
                levels=levels,
                iterations=iterations,
                sweeps=sweeps,
                remove_mean=remove_mean,
                sharp=sharp,
                seed=seed,
            ),
            variables=variables,
            together=together,
            sea=sea,
            score=score,
            seed=seed,
        )

    @_documented(parameters(Gan), DOOR)
    def gan(
        self,
        model: str | Path | Checkpoint | Gan | None = None,
        *,
        samples: int = 1,
        adapt: bool = True,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.Dataset:
        """Fill by a trained network; see `sstfill.Gan`."""
        return fill(
            self._data,
            Gan(model=model, samples=samples, adapt=adapt, device=device, seed=seed),
            variables=variables,
            together=together,
            sea=sea,
            score=score,
            seed=seed,
        )

    @_documented(parameters(TrainOptions), parameters(train))
    def train(
        self,
        *,
        variable: str | None = None,
        clouds: str | Occlusion = "own",
        objective: ObjectiveName = "withheld",
        network: Network = "compact",
        truth: xr.DataArray | str | None = None,
        start: str | Path | Checkpoint | Gan = "shipped",
        clips: int = 40,
        log_scaled: bool = False,
        epochs: int = 20,
        samples: int = 300,
        frames: int = 24,
        size: int = 64,
        batch: int = 1,
        base: int = 32,
        learning_rate: float | None = None,
        patience: int = 5,
        precision: Precision = "float32",
        device: Device = "auto",
        out: str | Path | None = None,
        resume: bool = False,
        sea: xr.DataArray | None = None,
        seed: int = 0,
    ) -> Gan:
        """Train a network on this archive, without ground truth; see `sstfill.train`."""
        return train(
            self._data,
            TrainOptions(
                objective=objective,
                network=network,
                epochs=epochs,
                samples=samples,
                frames=frames,
                size=size,
                batch=batch,
                base=base,
                learning_rate=learning_rate,
                patience=patience,
                precision=precision,
                device=device,
                seed=seed,
            ),
            variable=variable,
            clouds=clouds,
            truth=truth,
            start=start,
            clips=clips,
            log_scaled=log_scaled,
            sea=sea,
            out=out,
            resume=resume,
        )

    @_documented(parameters(Dineof), parameters(dineof_modes))
    def dineof_modes(
        self,
        *,
        modes: int | Literal["auto"] = "auto",
        max_modes: int = 100,
        alpha: float | Literal["auto"] = "auto",
        filter_iterations: int = 3,
        cross_validation: Literal["clouds", "random"] = "clouds",
        tolerance: float = 1e-3,
        max_iterations: int = 300,
        normalise: bool = False,
        min_pixel_coverage: float = 0.0,
        min_image_coverage: float = 0.0,
        error_length: float = 25.0,
        solver: Literal["fast", "reference"] = "fast",
        variables: Names | None = None,
        together: bool = False,
        sea: xr.DataArray | None = None,
        seed: int = 0,
    ) -> xr.Dataset:
        """Return the EOF modes that DINEOF finds, without the filled field; see
        `sstfill.modes.dineof_modes`.
        """
        return dineof_modes(
            self._data,
            Dineof(
                modes=modes,
                max_modes=max_modes,
                alpha=alpha,
                filter_iterations=filter_iterations,
                cross_validation=cross_validation,
                tolerance=tolerance,
                max_iterations=max_iterations,
                normalise=normalise,
                min_pixel_coverage=min_pixel_coverage,
                min_image_coverage=min_image_coverage,
                error_length=error_length,
                solver=solver,
                seed=seed,
            ),
            variables=variables,
            together=together,
            sea=sea,
        )

    @_documented(parameters(score))
    def score(
        self,
        methods: Methods | None = None,
        *,
        variable: str | None = None,
        clouds: xr.DataArray | None = None,
        share: float = 0.1,
        seed: int = 0,
        repeats: int = 1,
        sea: xr.DataArray | None = None,
        calibrate: bool = True,
    ) -> Scorecard:
        """Score methods on observed pixels hidden under the clouds of other dates; see
        `sstfill.score`.
        """
        return score(
            self._data,
            methods,
            variable=variable,
            clouds=clouds,
            share=share,
            seed=seed,
            repeats=repeats,
            sea=sea,
            calibrate=calibrate,
        )

    @_documented(parameters(plot.maps))
    def plot(
        self,
        *,
        variable: str | None = None,
        time: Label | None = None,
        layers: Sequence[str] = LAYERS,
        axes: Sequence[Axes] | None = None,
        cmap: str | None = None,
        robust: bool = True,
    ) -> Figure:
        """Draw one date of a *filled* Dataset: observed, filled, error and source; see
        `sstfill.plot.maps`.
        """
        return plot.maps(
            self._data,
            variable=variable,
            time=time,
            layers=layers,
            axes=axes,
            cmap=cmap,
            robust=robust,
        )

    @_documented(parameters(describe))
    def info(
        self, *, variables: Names | None = None, sea: xr.DataArray | None = None
    ) -> Description:
        """Say what sstfill sees here: fields, time, grid, sea, gaps, and what would fail; it raises
        nothing.
        """
        return describe(self._data, variables=variables, sea=sea)


class DataArrayGapfill(_Accessor):
    """Fill the gaps of a gridded series: ``da.gapfill.dineof()`` returns the filled DataArray.

    For the expected error and the source of each pixel, fill a Dataset:
    ``da.to_dataset(name="sst").gapfill.dineof()``.
    """

    _data: xr.DataArray

    def __init__(self, data: xr.DataArray) -> None:
        self._data = data

    @_documented(DOOR)
    def fill(
        self,
        method: Method | str | None = None,
        *,
        sea: xr.DataArray | None = None,
        withheld: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Fill with a method, its name, or (by default) what does best under withheld clouds; see
        `sstfill.Auto`.
        """
        return _field(
            fill(self._data, method, sea=sea, withheld=withheld, score=score, seed=seed), self._data
        )

    @_documented(parameters(Auto), DOOR)
    def auto(
        self,
        *,
        methods: tuple[str, ...] | None = None,
        blend: bool = True,
        budget: float | None = None,
        share: float = 0.2,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Fill with the best of all methods on withheld clouds, or a blend of several; see
        `sstfill.Auto`.
        """
        return _field(
            fill(
                self._data,
                Auto(methods=methods, blend=blend, budget=budget, share=share, seed=seed),
                sea=sea,
                score=score,
                seed=seed,
            ),
            self._data,
        )

    @_documented(parameters(Climatology), DOOR)
    def climatology(
        self,
        *,
        harmonics: int = 2,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Fill with each pixel's mean and seasonal cycle; see `sstfill.Climatology`."""
        return _field(
            fill(self._data, Climatology(harmonics=harmonics), sea=sea, score=score, seed=seed),
            self._data,
        )

    @_documented(parameters(Interpolate), DOOR)
    def interpolate(
        self,
        *,
        limit: float | None = None,
        space: bool = True,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Fill by linear interpolation in time, then in space; see `sstfill.Interpolate`."""
        return _field(
            fill(
                self._data, Interpolate(limit=limit, space=space), sea=sea, score=score, seed=seed
            ),
            self._data,
        )

    @_documented(parameters(Dineof), DOOR)
    def dineof(
        self,
        *,
        modes: int | Literal["auto"] = "auto",
        max_modes: int = 100,
        alpha: float | Literal["auto"] = "auto",
        filter_iterations: int = 3,
        cross_validation: Literal["clouds", "random"] = "clouds",
        tolerance: float = 1e-3,
        max_iterations: int = 300,
        normalise: bool = False,
        min_pixel_coverage: float = 0.0,
        min_image_coverage: float = 0.0,
        error_length: float = 25.0,
        solver: Literal["fast", "reference"] = "fast",
        outliers: bool = False,
        return_modes: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Fill by iterated EOF decomposition with cross-validated modes; see `sstfill.Dineof`."""
        return _field(
            fill(
                self._data,
                Dineof(
                    modes=modes,
                    max_modes=max_modes,
                    alpha=alpha,
                    filter_iterations=filter_iterations,
                    cross_validation=cross_validation,
                    tolerance=tolerance,
                    max_iterations=max_iterations,
                    normalise=normalise,
                    min_pixel_coverage=min_pixel_coverage,
                    min_image_coverage=min_image_coverage,
                    error_length=error_length,
                    solver=solver,
                    outliers=outliers,
                    return_modes=return_modes,
                    seed=seed,
                ),
                sea=sea,
                score=score,
                seed=seed,
            ),
            self._data,
        )

    @_documented(parameters(BayesEof), DOOR)
    def bayes_eof(
        self,
        *,
        modes: int | Literal["auto"] = "auto",
        normalise: bool = False,
        sample: int | Literal["auto"] = "auto",
        tolerance: float = 1e-3,
        max_iterations: int = 40,
        min_pixel_coverage: float = 0.0,
        min_image_coverage: float = 0.0,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Fill by EOFs weighed by variational Bayes, with red-noise amplitudes; see
        `sstfill.BayesEof`.
        """
        return _field(
            fill(
                self._data,
                BayesEof(
                    modes=modes,
                    normalise=normalise,
                    sample=sample,
                    tolerance=tolerance,
                    max_iterations=max_iterations,
                    min_pixel_coverage=min_pixel_coverage,
                    min_image_coverage=min_image_coverage,
                    seed=seed,
                ),
                sea=sea,
                score=score,
                seed=seed,
            ),
            self._data,
        )

    @_documented(parameters(Oi), DOOR)
    def oi(
        self,
        *,
        length_scale: float | tuple[float, float] | Literal["auto"] = "auto",
        time_scale: float | Literal["auto"] = "auto",
        noise: float | Literal["auto"] = "auto",
        covariance: Literal["auto", "exponential", "matern", "gauss", "two-scale"] = "auto",
        background: Literal["auto", "mean", "pixel", "additive"] = "auto",
        flow: tuple[float, float] = (0.0, 0.0),
        neighbours: int = 50,
        device: Literal["cpu", "cuda", "auto"] = "cpu",
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Fill by optimal interpolation in space and time; see `sstfill.Oi`."""
        return _field(
            fill(
                self._data,
                Oi(
                    length_scale=length_scale,
                    time_scale=time_scale,
                    noise=noise,
                    covariance=covariance,
                    background=background,
                    flow=flow,
                    neighbours=neighbours,
                    device=device,
                    seed=seed,
                ),
                sea=sea,
                score=score,
                seed=seed,
            ),
            self._data,
        )

    @_documented(parameters(PatchMatch), DOOR)
    def patchmatch(
        self,
        *,
        patch: int = 5,
        levels: int | Literal["auto"] = "auto",
        iterations: int = 5,
        sweeps: int = 2,
        remove_mean: bool = True,
        sharp: bool = False,
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Fill with what similar space-time patches show; see `sstfill.PatchMatch`."""
        return _field(
            fill(
                self._data,
                PatchMatch(
                    patch=patch,
                    levels=levels,
                    iterations=iterations,
                    sweeps=sweeps,
                    remove_mean=remove_mean,
                    sharp=sharp,
                    seed=seed,
                ),
                sea=sea,
                score=score,
                seed=seed,
            ),
            self._data,
        )

    @_documented(parameters(Gan), DOOR)
    def gan(
        self,
        model: str | Path | Checkpoint | Gan | None = None,
        *,
        samples: int = 1,
        adapt: bool = True,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        sea: xr.DataArray | None = None,
        score: bool = True,
        seed: int = 0,
    ) -> xr.DataArray:
        """Fill by a trained network; see `sstfill.Gan`."""
        return _field(
            fill(
                self._data,
                Gan(model=model, samples=samples, adapt=adapt, device=device, seed=seed),
                sea=sea,
                score=score,
                seed=seed,
            ),
            self._data,
        )

    @_documented(parameters(TrainOptions), parameters(train))
    def train(
        self,
        *,
        clouds: str | Occlusion = "own",
        objective: ObjectiveName = "withheld",
        network: Network = "compact",
        truth: xr.DataArray | str | None = None,
        start: str | Path | Checkpoint | Gan = "shipped",
        clips: int = 40,
        log_scaled: bool = False,
        epochs: int = 20,
        samples: int = 300,
        frames: int = 24,
        size: int = 64,
        batch: int = 1,
        base: int = 32,
        learning_rate: float | None = None,
        patience: int = 5,
        precision: Precision = "float32",
        device: Device = "auto",
        out: str | Path | None = None,
        resume: bool = False,
        sea: xr.DataArray | None = None,
        seed: int = 0,
    ) -> Gan:
        """Train a network on this archive, without ground truth; see `sstfill.train`."""
        return train(
            self._data,
            TrainOptions(
                objective=objective,
                network=network,
                epochs=epochs,
                samples=samples,
                frames=frames,
                size=size,
                batch=batch,
                base=base,
                learning_rate=learning_rate,
                patience=patience,
                precision=precision,
                device=device,
                seed=seed,
            ),
            clouds=clouds,
            truth=truth,
            start=start,
            clips=clips,
            log_scaled=log_scaled,
            sea=sea,
            out=out,
            resume=resume,
        )

    @_documented(parameters(Dineof), parameters(dineof_modes))
    def dineof_modes(
        self,
        *,
        modes: int | Literal["auto"] = "auto",
        max_modes: int = 100,
        alpha: float | Literal["auto"] = "auto",
        filter_iterations: int = 3,
        cross_validation: Literal["clouds", "random"] = "clouds",
        tolerance: float = 1e-3,
        max_iterations: int = 300,
        normalise: bool = False,
        min_pixel_coverage: float = 0.0,
        min_image_coverage: float = 0.0,
        error_length: float = 25.0,
        solver: Literal["fast", "reference"] = "fast",
        sea: xr.DataArray | None = None,
        seed: int = 0,
    ) -> xr.Dataset:
        """Return the EOF modes that DINEOF finds, without the filled field; see
        `sstfill.modes.dineof_modes`.
        """
        return dineof_modes(
            self._data,
            Dineof(
                modes=modes,
                max_modes=max_modes,
                alpha=alpha,
                filter_iterations=filter_iterations,
                cross_validation=cross_validation,
                tolerance=tolerance,
                max_iterations=max_iterations,
                normalise=normalise,
                min_pixel_coverage=min_pixel_coverage,
                min_image_coverage=min_image_coverage,
                error_length=error_length,
                solver=solver,
                seed=seed,
            ),
            sea=sea,
        )

    @_documented(parameters(score))
    def score(
        self,
        methods: Methods | None = None,
        *,
        clouds: xr.DataArray | None = None,
        share: float = 0.1,
        seed: int = 0,
        repeats: int = 1,
        sea: xr.DataArray | None = None,
        calibrate: bool = True,
    ) -> Scorecard:
        """Score methods on observed pixels hidden under the clouds of other dates; see
        `sstfill.score`.
        """
        return score(
            self._data,
            methods,
            clouds=clouds,
            share=share,
            seed=seed,
            repeats=repeats,
            sea=sea,
            calibrate=calibrate,
        )

    @_documented(parameters(describe))
    def info(self, *, sea: xr.DataArray | None = None) -> Description:
        """Say what sstfill sees here: time, grid, sea, gaps, and what would fail; it raises
        nothing.
        """
        return describe(self._data, sea=sea)
