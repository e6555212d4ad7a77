# SPDX-License-Identifier: Apache-2.0
"""DINEOF: data interpolating empirical orthogonal functions, the field's reference method."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import xarray as xr

from sstfill.checks import check_choice, check_number, check_share
from sstfill.errors import OptionError
from sstfill.fields import grid
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.common.lowrank import as_fields, residual_sigma
from sstfill.methods.common.matrix import ObservationMatrix, pack
from sstfill.methods.common.threads import one_blas_thread
from sstfill.methods.eof import outliers as outlier_test
from sstfill.methods.eof.error import with_error
from sstfill.methods.eof.holdout import cloud_points, random_points
from sstfill.methods.eof.truncation import DineofFit, FittedModes
from sstfill.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Dineof:
    """Fill by iterated EOF decomposition; the number of modes is chosen by cross-validation.

    The missing values are replaced by a truncated EOF decomposition of the series, again and again
    until they settle, with 1, 2, 3, ... modes; the count with the lowest error at observations set
    aside is kept, those are put back, and the iteration is run once more. A filter of the temporal
    covariance keeps the modes smooth in time.

    Parameters
    ----------
    modes
        Number of EOF modes, or ``"auto"`` for cross-validation.
    max_modes
        Largest number tried (``nev`` of the reference program).
    alpha
        Strength of the time filter in days squared (the reference ships 0.01 for daily data); 0 is
        no filter. ``"auto"`` tries 0 and 0.01 to 0.3 times the smallest time step squared, and
        keeps the best.
    filter_iterations
        Steps of the time filter (``numit``).
    cross_validation
        Set aside ``"clouds"`` of other dates (3 % of the observations), or ``"random"`` single
        points, as the reference program does; random points are given away by their neighbours and
        flatter the error.
    tolerance
        Stop iterating when the missing values change by less, relative to the standard deviation
        (``toliter``).
    max_iterations
        Most iterations for one count of modes (``nitemax``).
    normalise
        Divide each variable by its standard deviation first (``norm``; for several variables
        together).
    min_pixel_coverage, min_image_coverage
        Pixels (images) observed to a smaller share take no part and are not filled; 0.05 and 0.02
        are usual.
    error_length
        Correlation length of the observation error in km; the error field of Beckers et al. (2006)
        counts observations nearer than that as one.
    solver
        ``"fast"``: single precision, modes counted on a sample of pixels, warm-started subspace and
        over-relaxation; the same fixed point. ``"reference"``: each step as the reference program
        takes it, in double precision.
    outliers
        Also return ``outlier``: 1 where an observation looks suspect (Alvera-Azcárate et al. 2012),
        else 0; 2 in gaps and on land.
    return_modes
        Also return the modes: ``spatial_mode``, ``temporal_mode``, ``singular_value``,
        ``explained_variance``.
    seed
        Seed of the points set aside, the pixel sample and the starting vectors.

    References
    ----------
    Beckers & Rixen (2003), Journal of Atmospheric and Oceanic Technology 20, 1839-1856.
    Alvera-Azcárate, Barth, Rixen & Beckers (2005), Ocean Modelling 9, 325-346.
    Beckers, Barth & Alvera-Azcárate (2006), Ocean Science 2, 183-199 (error field).
    Alvera-Azcárate, Barth, Sirjacobs & Beckers (2009), Ocean Science 5, 475-485 (time filter).
    """

    name: ClassVar[str] = "dineof"
    multivariate: ClassVar[bool] = True
    min_times: ClassVar[int] = 3

    modes: int | Literal["auto"] = "auto"
    max_modes: int = 100
    alpha: float | Literal["auto"] = "auto"
    filter_iterations: int = 3
    cross_validation: Literal["clouds", "random"] = "clouds"
    tolerance: float = 1e-3
    max_iterations: int = 300
    normalise: bool = False
    min_pixel_coverage: float = 0.0
    min_image_coverage: float = 0.0
    error_length: float = 25.0
    solver: Literal["fast", "reference"] = "fast"
    outliers: bool = False
    return_modes: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.modes != "auto":
            check_number("modes", self.modes, 1, whole=True)
        if self.alpha != "auto":
            check_number("alpha", self.alpha, 0)
        for option, least in (
            ("max_modes", 1),
            ("filter_iterations", 0),
            ("max_iterations", 1),
            ("seed", 0),
        ):
            check_number(option, getattr(self, option), least, whole=True)
        check_number("error_length", self.error_length, 0)
        check_number("tolerance", self.tolerance, 0, above=True)
        for option in ("min_pixel_coverage", "min_image_coverage"):
            check_share(option, getattr(self, option))
        check_choice("cross_validation", self.cross_validation, ("clouds", "random"))
        check_choice("solver", self.solver, ("fast", "reference"))

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        matrix, fitted = self.decompose(obs, sea)
        ratio = overlap(
            self.error_length, *grid.cell_km(obs.isel(variable=0, missing_dims="ignore"))
        )
        low = with_error(
            fitted.modes, matrix, ratio if "lat" in obs.coords else 1.0, fitted.cv_error
        )
        matrix = matrix.without_values()
        found = as_fields(low, matrix, obs)
        if self.outliers:
            found["outlier"] = outlier_test.outliers(
                obs, found["mean"], residual_sigma(low, matrix, obs), sea
            )
        if self.return_modes:
            found = found.merge(modes_dataset(fitted, matrix, obs))
        found.attrs = fitted.diagnostics()
        return found

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        """Fit to an archive larger than memory (see `sstfill.methods.registry.fit`)."""
        from sstfill.methods.eof.fitted import fitted_dineof

        return fitted_dineof(self, archive, folder)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        """Read what `fit` wrote."""
        from sstfill.methods.eof.fitted import load_modes

        return load_modes(folder)

    def decompose(
        self, obs: xr.DataArray, sea: xr.DataArray
    ) -> tuple[ObservationMatrix, FittedModes]:
        """Decompose `obs`: the packed observations (gaps filled) and the modes kept."""
        matrix = pack(
            obs,
            sea,
            dtype=np.float64 if self.solver == "reference" else np.float32,
            normalise=self.normalise,
            min_pixel_coverage=self.min_pixel_coverage,
            min_image_coverage=self.min_image_coverage,
        )
        if len(matrix.times) < self.min_times:
            raise OptionError(
                f"min_image_coverage={self.min_image_coverage} leaves {len(matrix.times)} images; lower it"
            )
        if self.cross_validation == "clouds":
            points = cloud_points(matrix, obs, sea, self.seed)
        else:
            points = random_points(matrix, np.random.default_rng(self.seed))
        run = DineofFit(
            modes=self.modes,
            max_modes=self.max_modes,
            alpha=self.alpha,
            filter_iterations=self.filter_iterations,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            exact=self.solver == "reference",
            seed=self.seed,
        )
        with nullcontext() if self.solver == "reference" else one_blas_thread():
            return matrix, run(matrix, points, grid.days(obs)[matrix.times])


def overlap(length: float, dy: float, dx: float) -> float:
    """How many grid cells share one independent observation error: ``length² / (dx dy)``, at least
    1.
    """
    return max(1.0, length**2 / (dy * dx))


def modes_dataset(fitted: FittedModes, matrix: ObservationMatrix, obs: xr.DataArray) -> xr.Dataset:
    """EOF modes on the grid of `obs`: unit-norm patterns and amplitudes, singular values in the
    units of the field.

    The singular values of a normalised field have no units.
    """
    U, s, V = fitted.modes
    order = [d for d in obs.dims if d != "time"]
    patterns = np.full((len(s), int(np.prod([obs.sizes[d] for d in order]))), np.nan, U.dtype)
    patterns[:, matrix.pixels] = U.T
    amplitudes = np.full((len(s), obs.sizes["time"]), np.nan, V.dtype)
    amplitudes[:, matrix.times] = V.T
    mode = xr.DataArray(np.arange(1, len(s) + 1), dims="mode", attrs={"long_name": "EOF mode"})
    coords = {
        "mode": mode,
        **{k: c for k, c in obs.coords.items() if "time" not in c.dims},
        "time": obs["time"],
    }
    spatial = patterns.reshape(len(s), *(obs.sizes[d] for d in order))
    share = 100 * s.astype(np.float64) ** 2 / fitted.total
    units = obs.attrs.get("units") if (matrix.scale == 1).all() else "1"
    known = {} if units is None else {"units": units}
    return xr.Dataset(
        {
            "spatial_mode": (
                ("mode", *order),
                spatial,
                {"long_name": "spatial EOF, unit norm over all pixels", "units": "1"},
            ),
            "temporal_mode": (
                ("mode", "time"),
                amplitudes,
                {"long_name": "temporal EOF, unit norm", "units": "1"},
            ),
            "singular_value": ("mode", s, {"long_name": "singular value"} | known),
            "explained_variance": (
                "mode",
                share,
                {"long_name": "share of the filled variance", "units": "percent"},
            ),
        },
        coords={k: c for k, c in coords.items() if set(c.dims) <= {"mode", "time", *order}},
    )
