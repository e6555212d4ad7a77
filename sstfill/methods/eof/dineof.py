# SPDX-License-Identifier: Apache-2.0
"""DINEOF: data interpolating empirical orthogonal functions, the field's reference method."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import xarray as xr

from sstfill.checks import check_choice, check_fraction, check_number
from sstfill.errors import OptionError
from sstfill.fields.reading.dates import days_since_first
from sstfill.fields.reading.positions import cell_km
from sstfill.methods.base import Archive, FittedMethod
from sstfill.methods.common.lowrank import as_fields, residual_sigma
from sstfill.methods.common.matrix import ObservationMatrix, pack
from sstfill.methods.common.threads import one_blas_thread
from sstfill.methods.eof import outliers as outlier_test
from sstfill.methods.eof.holdout import cloud_points, random_points
from sstfill.methods.eof.iteration import with_error
from sstfill.methods.eof.truncation import DineofFit, FittedModes
from sstfill.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Dineof:
    """Fill by iterated EOF decomposition; the number of modes is chosen by cross-validation.

    The missing values are replaced by a truncated EOF decomposition of the series, repeatedly until
    they converge, with 1, 2, 3, ... modes. The number of modes with the lowest error at withheld
    observations is kept, these are put back, and the iteration is run once more. A filter of the
    temporal covariance keeps the modes smooth in time.

    Parameters
    ----------
    modes
        Number of EOF modes, or ``"auto"`` for cross-validation.
    max_modes
        Largest number tried (``nev`` of the reference program).
    alpha
        Strength of the time filter in days squared (the reference program has 0.01 for daily
        data); 0 is no filter. ``"auto"`` tries 0 and 0.01 to 0.3 times the smallest time step
        squared, and keeps the best.
    filter_iterations
        Steps of the time filter (``numit``).
    cross_validation
        Withhold ``"clouds"`` of other dates (3 % of the observations), or ``"random"`` single
        points, as the reference program does. Single points are given away by their neighbours,
        which makes the error too small.
    tolerance
        Stop iterating when the missing values change by less, relative to the standard deviation
        (``toliter``).
    max_iterations
        Largest number of iterations for one number of modes (``nitemax``).
    normalise
        Divide each variable by its standard deviation first (``norm``; for several variables
        together).
    min_pixel_coverage, min_image_coverage
        Pixels (images) of which a smaller fraction is observed are left out and not filled; 0.05
        and 0.02 are usual.
    error_length
        Correlation length of the observation error in km; the error estimate of Beckers et al.
        (2006) counts observations within it as one.
    solver
        ``"fast"``: single precision, modes counted on a sample of pixels, warm-started subspace and
        over-relaxation; the same fixed point. ``"reference"``: the steps of the reference program,
        in double precision.
    outliers
        Also return ``outlier``: 1 where an observation is suspect (Alvera-Azcárate et al. 2012),
        else 0; 2 in gaps and on land.
    return_modes
        Also return the modes: ``spatial_mode``, ``temporal_mode``, ``singular_value``,
        ``explained_variance``.
    seed
        Seed of the withheld points, the pixel sample and the starting vectors.

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
    trials: ClassVar[int] = 4
    """Its number of modes differs from trial to trial, and with it the scale of its error."""

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
        check_number("max_modes", self.max_modes, 1, whole=True)
        check_number("filter_iterations", self.filter_iterations, 0, whole=True)
        check_number("max_iterations", self.max_iterations, 1, whole=True)
        check_number("seed", self.seed, 0, whole=True)
        check_number("error_length", self.error_length, 0)
        check_number("tolerance", self.tolerance, 0, above=True)
        check_fraction("min_pixel_coverage", self.min_pixel_coverage)
        check_fraction("min_image_coverage", self.min_image_coverage)
        check_choice("cross_validation", self.cross_validation, ("clouds", "random"))
        check_choice("solver", self.solver, ("fast", "reference"))

    def reconstruct(self, obs: xr.DataArray, sea: xr.DataArray) -> xr.Dataset:
        """Fill `obs` (see `sstfill.methods.base.Method.reconstruct`)."""
        matrix, fitted = self.decompose(obs, sea)
        # Without positions no distance between pixels is known: each has an error of its own.
        cells = 1.0
        if "lat" in obs.coords:
            dy, dx = cell_km(obs.isel(variable=0, missing_dims="ignore"))
            cells = overlap(self.error_length, dy, dx)
        low_rank = with_error(fitted.modes, matrix, cells, fitted.cv_error)
        # The estimate may be lazy: what it keeps alive should not hold a copy of the data.
        matrix = matrix.without_values()
        estimate = as_fields(low_rank, matrix, obs)
        if self.outliers:
            sigma = residual_sigma(low_rank, matrix, obs)
            estimate["outlier"] = outlier_test.outliers(obs, estimate["mean"], sigma, sea)
        if self.return_modes:
            estimate = estimate.merge(modes_dataset(fitted, matrix, obs))
        estimate.attrs = fitted.diagnostics()
        return estimate

    def fit(self, archive: Archive, folder: Path) -> FittedMethod:
        """Fit to an archive larger than memory (see `sstfill.methods.registry.fit`)."""
        from sstfill.methods.eof.fitted.archive_modes import fitted_dineof

        return fitted_dineof(self, archive, folder)

    @staticmethod
    def load(folder: Path) -> FittedMethod:
        """Read what `fit` wrote."""
        from sstfill.methods.eof.fitted.archive_modes import load_modes

        return load_modes(folder)

    def decompose(
        self, obs: xr.DataArray, sea: xr.DataArray
    ) -> tuple[ObservationMatrix, FittedModes]:
        """Decompose `obs`: the packed observations (gaps filled) and the modes kept."""
        exact = self.solver == "reference"
        matrix = pack(
            obs,
            sea,
            dtype=np.float64 if exact else np.float32,
            normalise=self.normalise,
            min_pixel_coverage=self.min_pixel_coverage,
            min_image_coverage=self.min_image_coverage,
        )
        # `fill` counted the images of the series; the option may have dropped some of them.
        if len(matrix.times) < self.min_times:
            raise OptionError(
                f"min_image_coverage={self.min_image_coverage} leaves {len(matrix.times)} images; "
                "lower it"
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
            exact=exact,
            seed=self.seed,
        )
        # The eigenvalue solver of the reference gains from all threads, products with a few
        # vectors lose by them.
        with nullcontext() if exact else one_blas_thread():
            return matrix, run(matrix, points, days_since_first(obs)[matrix.times])


def overlap(length: float, dy: float, dx: float) -> float:
    """Number of grid cells that share one observation error: ``length² / (dx dy)``, at least 1."""
    return max(1.0, length**2 / (dy * dx))


def modes_dataset(fitted: FittedModes, matrix: ObservationMatrix, obs: xr.DataArray) -> xr.Dataset:
    """EOF modes on the grid of `obs`.

    Spatial and temporal modes have unit norm; singular values have the units of the field, or none
    where it was normalised.
    """
    U, s, V = fitted.modes
    space = [d for d in obs.dims if d != "time"]
    sizes = [obs.sizes[d] for d in space]
    patterns = np.full((len(s), int(np.prod(sizes))), np.nan, U.dtype)
    patterns[:, matrix.pixels] = U.T
    patterns = patterns.reshape(len(s), *sizes)
    amplitudes = np.full((len(s), obs.sizes["time"]), np.nan, V.dtype)
    amplitudes[:, matrix.times] = V.T
    explained = 100 * s.astype(np.float64) ** 2 / fitted.total
    modes = xr.Dataset(
        {
            "spatial_mode": (("mode", *space), patterns),
            "temporal_mode": (("mode", "time"), amplitudes),
            "singular_value": ("mode", s),
            "explained_variance": ("mode", explained),
        }
    )
    modes["spatial_mode"].attrs = {
        "long_name": "spatial EOF, unit norm over all pixels",
        "units": "1",
    }
    modes["temporal_mode"].attrs = {"long_name": "temporal EOF, unit norm", "units": "1"}
    modes["singular_value"].attrs = {"long_name": "singular value"}
    # Standardised variables have no unit, so neither has what describes them together.
    if not (matrix.scale == 1).all():
        modes["singular_value"].attrs["units"] = "1"
    elif "units" in obs.attrs:
        modes["singular_value"].attrs["units"] = obs.attrs["units"]
    modes["explained_variance"].attrs = {
        "long_name": "fraction of the filled variance",
        "units": "percent",
    }
    number = xr.Variable("mode", np.arange(1, len(s) + 1), {"long_name": "EOF mode"})
    coords: dict[Hashable, object] = {"mode": number, "time": obs["time"]}
    for name, coord in obs.coords.items():
        # Coordinates along time belong to the amplitudes, which have theirs already.
        if set(coord.dims) <= set(space):
            coords[name] = coord
    return modes.assign_coords(coords)
