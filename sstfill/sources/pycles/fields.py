# SPDX-License-Identifier: Apache-2.0
"""Integrate the 3-D fields of a PyCLES run over the column to liquid water path.

LWP is the sum of ql times density and layer depth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import InputError, ReadError
from sstfill.io.untrusted import guard

Floats = NDArray[np.float64]
GRAMS = 1000.0  # per kilogram
CUT_SHORT = "if the run was stopped while it wrote, remove that time step, else copy the file again"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a NetCDF file of a run; damage, also of values that are read, is a `ReadError`."""
    with guard.open_netcdf(path, CUT_SHORT) as dataset:
        yield dataset


def column_weights(stats: Path) -> Floats:
    """Return the mass of dry reference air in each layer, rho0 dz, g m-2, ``(nz,)``.

    It is read from a run's statistics file. The density at cell centres is ``rho0_half`` in the
    CliMA fork and ``rho0`` elsewhere; ``profiles/z`` are the upper edges of the layers in both, of
    equal depth or not. LWP is the sum of ql times these.
    """
    with opened(stats) as dataset:
        reference = _variables(dataset, "reference")
        density = reference.get("rho0_half", reference.get("rho0"))
        edges = _variables(dataset, "profiles").get("z")
        if density is None or edges is None:
            raise InputError(
                f"{stats} has no reference/rho0 or no profiles/z; give the run's own: stats=..."
            )
        rho, top = _filled(density), _filled(edges)
    # the lowest layer begins at the ground
    weights = rho * np.diff(top, prepend=0.0) * GRAMS
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ReadError(
            f"{stats}: density or heights are missing or not positive; give the statistics of "
            "another run of the same case: stats=..."
        )
    return weights


def is_combined(path: Path) -> bool:
    """Whether a file holds a whole time step, as ``combine3d.py`` writes it, not that of a rank."""
    with opened(path) as dataset:
        return "fields" in dataset.groups and "dims" not in dataset.groups


def combined_offset(path: Path) -> int:
    """Return the number that the name of a combined file adds to its time.

    It is a million in the CliMA fork, which writes x, y and z too.
    """
    with opened(path) as dataset:
        if "x" in dataset["fields"].variables:
            return 1_000_000
        return 0


def combined_lwp(path: Path, weights: Floats) -> Floats:
    """Integrate a file with ``fields/ql (nx, ny, nz)`` over the column, g m-2, ``(y, x)``."""
    with opened(path) as dataset:
        ql = _liquid(dataset, path)
        if ql.ndim != 3:
            raise InputError(
                f"{path}: ql has dims {ql.dimensions}, not (nx, ny, nz); "
                "give what combine3d.py wrote"
            )
        _check_levels(path, ql.shape[2], weights)
        # PyCLES has x first
        return (_filled(ql) @ weights).T


def ranks_lwp(folder: Path, weights: Floats) -> Floats:
    """Join the rank files of a time step and integrate them over the column, g m-2, ``(y, x)``.

    Raises
    ------
    ReadError
        No rank files, damaged ones, or cells that no rank covers.
    InputError
        Ranks of different grids or over the same cells; no ``ql``; another number of levels than
        the density has.
    """
    parts = sorted(folder.glob("*.nc"))
    covered, lwp = np.zeros((0, 0, 0), dtype=bool), np.zeros((0, 0))
    for path in parts:
        with opened(path) as dataset:
            size = _triple(dataset, path, "nl")
            grid = _triple(dataset, path, "n")
            low = _triple(dataset, path, "indx_lo")
            if not covered.size:
                _check_levels(path, grid[2], weights)
                covered, lwp = np.zeros(grid, dtype=bool), np.zeros(grid[:2])
            box = tuple(slice(at, at + n) for at, n in zip(low, size, strict=True))
            ql = _liquid(dataset, path)
            # a slice beyond the grid is cut short by NumPy without an error
            if covered.shape != grid or ql.size != np.prod(size) or covered[box].shape != size:
                raise InputError(
                    f"{path}: {size} cells at {low} of {grid} do not fit the other ranks' "
                    f"{covered.shape}; keep one run in a folder"
                )
            if covered[box].any():
                raise InputError(
                    f"{path} has cells of another rank too; keep the ranks of one run in a folder"
                )
            # added, not set: ranks may divide the column, too
            lwp[box[:2]] += _filled(ql).reshape(size) @ weights[box[2]]
            covered[box] = True
    if not covered.size or not covered.all():
        fraction = 0.0
        if covered.size:
            fraction = covered.mean()
        raise ReadError(
            f"{folder}: {len(parts)} rank files cover {fraction:.0%} of the grid; "
            "copy the missing ones, or remove that time step"
        )
    return lwp.T


def _variables(dataset: Any, group: str) -> dict[str, Any]:
    if group not in dataset.groups:
        return {}
    return dict(dataset.groups[group].variables)


def _triple(dataset: Any, path: Path, kind: str) -> tuple[int, ...]:
    """Return the three numbers ``<kind>_0 .. <kind>_2`` of a rank file's group ``dims``."""
    dims = _variables(dataset, "dims")
    numbers = []
    for axis in range(3):
        name = f"{kind}_{axis}"
        if name not in dims:
            raise ReadError(
                f"{path} has no dims/{name}; it is not a rank file of PyCLES, or was cut short: "
                "remove it"
            )
        numbers.append(int(dims[name][0]))
    return tuple(numbers)


def _liquid(dataset: Any, path: Path) -> Any:
    fields = _variables(dataset, "fields")
    if "ql" not in fields:
        raise InputError(
            f"{path} holds {', '.join(sorted(fields)) or 'no fields'}, no ql; add 'ql' to "
            "fields_io.diagnostic_fields of the namelist and run again"
        )
    return fields["ql"]


def _filled(variable: Any) -> Floats:
    """Return the values, NaN where none were written: NetCDF reserves the space before."""
    return np.asarray(np.ma.filled(variable[:].astype(np.float64), np.nan))


def _check_levels(path: Path, levels: int, weights: Floats) -> None:
    if levels != len(weights):
        raise InputError(
            f"{path} has {levels} levels, the statistics {len(weights)}; "
            "give those of the same run: stats=..."
        )
