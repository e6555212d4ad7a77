# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation in batches of tensors, for a GPU; `solver_kernels` does it tile by tile.

Torch takes two seconds to import, so this module is imported only when a device is asked for.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sstfill.methods.oi.solver_kernels import EXPONENTIAL, GAUSS, Kernel, Space, Tiles

BYTES = 2**26
"""Size of the covariances of the tiles solved at once, about; a dozen arrays are as large."""
JITTER = 1e-6
"""Added to the diagonal, as a fraction of the variance, where there is no Cholesky factor."""


def solve(
    values: NDArray[np.float32],
    targets: NDArray[np.int32],
    tiles: Tiles,
    space: Space,
    kernel: Kernel,
    device: str,
    bytes_at_once: int = BYTES,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior mean and variance at the targets; see `sstfill.methods.oi.solver_kernels.solve`.

    Parameters
    ----------
    device
        Of torch, such as ``"cuda"``.
    bytes_at_once
        See `BYTES`.
    """
    mean, variance = np.zeros(len(targets)), np.zeros(len(targets))
    field = torch.as_tensor(values, device=device)
    geometry = [torch.as_tensor(np.ascontiguousarray(a), device=device) for a in space]
    cross = torch.as_tensor(kernel.cross, device=device)
    most = tiles.neighbours.shape[1]
    of_a_tile = most * (most + tiles.members.shape[1]) * torch.float64.itemsize
    batch = max(1, bytes_at_once // of_a_tile)
    for start in range(0, len(tiles.corner), batch):
        some = slice(start, start + batch)
        origin, members = tiles.origin[some], tiles.members[some]
        neighbours, count = tiles.neighbours[some], tiles.known[some]
        there = np.arange(neighbours.shape[1]) < count[:, np.newaxis]
        # a pixel that is no target stands in for one, and its result is not used
        stand_in = np.where(members < 0, members.max(axis=1, keepdims=True), members)
        found = _solved(
            field,
            torch.as_tensor(origin, device=device).long(),
            torch.as_tensor(neighbours, device=device).long(),
            torch.as_tensor(there, device=device),
            torch.as_tensor(targets[stand_in], device=device).long(),
            geometry,
            kernel,
            cross,
        )
        wanted = members >= 0
        for whole, part in zip((mean, variance), found, strict=True):
            whole[members[wanted]] = part.cpu().numpy()[wanted]
    return mean, variance


def _solved(
    field: Tensor,
    origin: Tensor,
    neighbours: Tensor,
    there: Tensor,
    targets: Tensor,
    space: list[Tensor],
    kernel: Kernel,
    cross: Tensor,
) -> tuple[Tensor, Tensor]:
    """Posterior mean and variance ``(tile, target)`` of a batch from the observations `there`."""
    at = torch.cat([neighbours, targets], 1)
    k = neighbours.shape[1]
    covariance = _covariances(_places(at, origin, space), k, kernel)
    channel = at[..., 0]
    covariance = covariance * cross[channel[:, :, None], channel[:, None, :k]]
    inner = torch.where(there[:, :, None] & there[:, None, :], covariance[:, :k], 0.0)
    # a place of no observation becomes an equation 1 x = 0 of its own
    noise = inner.new_tensor(kernel.noise)  # a number alone would be taken in single precision
    inner = inner + torch.diag_embed(torch.where(there, noise, 1.0))
    right = torch.where(there[:, None], covariance[:, k:], 0.0)
    y = torch.where(there, field[tuple(neighbours.unbind(-1))].double(), 0.0)
    variance = float(kernel.scales[:, 0].sum())
    factor, failed = torch.linalg.cholesky_ex(inner)
    if bool(failed.any()):
        # of those tiles only: the others do not depend on which are solved beside them
        jitter = torch.where(failed > 0, JITTER * variance, 0.0)[:, None].expand(-1, k)
        factor = torch.linalg.cholesky(inner + torch.diag_embed(jitter))
    solved = torch.linalg.solve_triangular(
        factor, torch.cat([right, y[:, None]], 1).mT, upper=False
    )
    c, z = solved[..., :-1], solved[..., -1:]
    prior = variance * cross[targets[..., 0], targets[..., 0]]
    return (c * z).sum(1), (prior - (c * c).sum(1)).clamp(min=0)


def _places(at: Tensor, origin: Tensor, space: list[Tensor]) -> Tensor:
    """North, east and up of the origins, km, and day of places ``(b, k, 4)``: ``(4, b, k)``."""
    xyz, drift, northward, eastward, days = space
    _, t, y, x = at.unbind(-1)
    now, row, column = origin.unbind(-1)
    late = days[t] - days[now][:, None]
    apart = xyz[y, x] - xyz[row, column][:, None] - late[..., None] * drift[y, x]
    north, east = northward[row, column], eastward[row, column]
    up = torch.linalg.cross(east, north)
    axes = [(apart * axis[:, None]).sum(-1) for axis in (north, east, up)]
    return torch.stack([*axes, days[t]])


def _covariances(place: Tensor, k: int, kernel: Kernel) -> Tensor:
    """Covariances ``(b, place, k)`` of all places with the first `k`, in one channel."""
    north, east, up, day = place[..., None] - place[:, :, None, :k]
    total = torch.zeros_like(north)
    for (variance, by_north, by_east, by_day), shape in zip(
        kernel.scales.tolist(), kernel.shape.tolist(), strict=True
    ):
        square = north.square() * by_north + (east.square() + up.square()) * by_east
        late = day.abs() * by_day
        far = square.sqrt()
        if shape == GAUSS:
            total += variance * torch.exp(-square - late.square())
        elif shape == EXPONENTIAL:
            total += variance * torch.exp(-far - late)
        else:
            total += variance * (1 + far) * (1 + late) * torch.exp(-far - late)
    return total
