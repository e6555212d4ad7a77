# SPDX-License-Identifier: Apache-2.0
"""Optimal interpolation in batches of tensors, for a GPU; `solver_kernels` does it pixel by pixel.

Torch takes two seconds to import, so this module is imported only when a device is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sstfill.methods.oi.covariance import LENGTH, PER_UNIT
from sstfill.methods.oi.solver_kernels import Kernel, NeighbourOffsets, Space

LOOKED_AT = 2**24
"""Positions that are examined for observations at once."""
SHORT = 1024
"""Offsets that are tried first: most targets find enough observations among them."""
BATCH = 2048
"""Systems solved at once."""
JITTER = 1e-6
"""Added to the diagonal, as a fraction of the variance, where there is no Cholesky factor."""


class Neighbours(NamedTuple):
    """Observations for a batch of targets.

    Attributes
    ----------
    at
        Channel, time, y, x, ``(b, k, 4)``.
    there
        Whether there is such an observation, ``(b, k)``.
    """

    at: Tensor
    there: Tensor


def interpolate(
    values: NDArray[np.float32],
    targets: NDArray[np.int32],
    order: NeighbourOffsets,
    space: Space,
    kernel: Kernel,
    most: int,
    device: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior mean and variance at the targets; see
    `sstfill.methods.oi.solver_kernels.interpolate`.

    Parameters
    ----------
    device
        Of torch, such as ``"cuda"``.
    """
    field = torch.as_tensor(values, device=device)
    where = torch.as_tensor(targets.astype(np.int64), device=device)
    tensors = [torch.as_tensor(np.ascontiguousarray(a), device=device) for a in space]
    numbers = [torch.as_tensor(kernel[i], device=device) for i in (0, 1, 2, 4)]
    mean = torch.zeros(len(targets), dtype=torch.float64, device=device)
    variance = torch.zeros_like(mean)
    for rows, steps in _batches(where, order, device):
        for part, found in _found(field, where, rows, steps, most):
            mean[part], variance[part] = _solved(
                field, where[part], found, tensors, numbers, kernel.noise
            )
    return mean.cpu().numpy(), variance.cpu().numpy()


def _batches(
    targets: Tensor, order: NeighbourOffsets, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of targets that share a list of offsets, and that list."""
    pattern = torch.as_tensor(order.pattern, device=device)[targets[:, 1]]
    for p in torch.unique(pattern).tolist():
        steps = order.steps[order.begin[p] : order.begin[p + 1]].astype(np.int64)
        rows = torch.nonzero(pattern == p).squeeze(1)
        for part in torch.split(rows, BATCH):
            yield part, torch.as_tensor(steps, device=device)


def _found(
    field: Tensor, targets: Tensor, rows: Tensor, steps: Tensor, most: int
) -> Iterator[tuple[Tensor, Neighbours]]:
    """Observations for the targets of some rows: those that find enough at the beginning of the
    list first, then the others.
    """
    found = _gathered(field, targets[rows], steps[:SHORT], most)
    if len(steps) <= SHORT:
        yield rows, found
        return
    full = found.there.all(1)
    yield rows[full], Neighbours(found.at[full], found.there[full])
    if not bool(full.all()):
        for part in torch.split(rows[~full], max(1, LOOKED_AT // len(steps))):
            yield part, _gathered(field, targets[part], steps, most)


def _gathered(field: Tensor, targets: Tensor, steps: Tensor, most: int) -> Neighbours:
    """First `most` observations along the list; where its own channel has none, another's serve."""
    sizes = field.shape[1:]
    at = targets[:, None, 1:] + steps  # b m 3
    size = torch.tensor(sizes, device=field.device)
    inside = ((at >= 0) & (at < size)).all(-1)
    t, y, x = at.clamp(min=torch.zeros_like(size), max=size - 1).unbind(-1)
    seen = ~torch.isnan(field[:, t, y, x]) & inside  # c b m
    own = seen.gather(0, targets[:, 0].view(1, -1, 1).expand(1, *t.shape))[0]
    channel = torch.where(own, targets[:, :1], seen.to(torch.int8).argmax(0))
    some = seen.any(0)
    rank = some.cumsum(1)
    row, column = torch.nonzero(some & (rank <= most), as_tuple=True)
    slot = rank[row, column] - 1
    found = torch.zeros((len(targets), most, 4), dtype=torch.int64, device=field.device)
    there = torch.zeros((len(targets), most), dtype=torch.bool, device=field.device)
    found[row, slot] = torch.stack([a[row, column] for a in (channel, t, y, x)], -1)
    there[row, slot] = True
    return Neighbours(found, there)


def _solved(
    field: Tensor,
    targets: Tensor,
    found: Neighbours,
    space: list[Tensor],
    numbers: list[Tensor],
    noise: float,
) -> tuple[Tensor, Tensor]:
    """Posterior mean and variance ``(b,)`` from the systems of a batch."""
    at = torch.cat([found.at, targets[:, None]], 1)  # the target comes last
    covariance = _covariances(at, targets[:, 1], space, numbers)
    k = found.there.shape[1]
    pair = found.there[:, :, None] & found.there[:, None, :]
    inner = torch.where(pair, covariance[:, :k, :k], 0.0)
    prior = covariance[:, k, k]
    diagonal = torch.where(found.there, noise, 1.0)
    # a place of no observation becomes an equation 1 x = 0 of its own
    inner = inner + torch.diag_embed(diagonal)
    right = torch.where(found.there, covariance[:, k, :k], 0.0)
    y = torch.where(found.there, field[tuple(found.at.unbind(-1))].double(), 0.0)
    factor, failed = torch.linalg.cholesky_ex(inner)
    if bool(failed.any()):
        factor = torch.linalg.cholesky(
            inner + torch.diag_embed(JITTER * prior[:, None].expand_as(diagonal))
        )
    solved = torch.linalg.solve_triangular(factor, torch.stack([right, y], -1), upper=False)
    c, z = solved.unbind(-1)
    return (c * z).sum(-1), (prior - (c * c).sum(-1)).clamp(min=0)


def _covariances(at: Tensor, now: Tensor, space: list[Tensor], numbers: list[Tensor]) -> Tensor:
    """Covariances ``(b, k, k)`` between places ``(b, k, 4)``, drifted to the time `now`."""
    xyz, drift, northward, days = space
    scales, in_space, in_time, cross = numbers
    channel, t, y, x = at.unbind(-1)
    late = days[t] - days[now][:, None]
    here = xyz[y[:, -1], x[:, -1]][:, None]
    meridian = northward[y[:, -1], x[:, -1]][:, None]
    place = xyz[y, x] - here - late[..., None] * drift[y, x]
    along = _differences((place * meridian).sum(-1)).square()
    square = (place[:, :, None] - place[:, None]).square().sum(-1)
    across = (square - along).clamp(min=0)
    apart = _differences(days[t]).abs()
    total = torch.zeros_like(along)
    for (variance, iy, ix, it), near, then in zip(scales.tolist(), in_space, in_time, strict=True):
        far = (along * iy + across * ix).sqrt()
        total += variance * _looked_up(near, far) * _looked_up(then, apart * it)
    return total * cross[channel[:, :, None], channel[:, None]]


def _differences(values: Tensor) -> Tensor:
    return values[:, :, None] - values[:, None]


def _looked_up(table: Tensor, distance: Tensor) -> Tensor:
    scaled = distance * PER_UNIT
    k = scaled.long().clamp(max=LENGTH)
    found = table[k] + (table[k + 1] - table[k]) * (scaled - k)
    return torch.where(scaled < LENGTH, found, 0.0)
