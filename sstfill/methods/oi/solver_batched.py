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
from sstfill.methods.oi.solver_kernels import SHARE, Kernel, NeighbourOffsets, Space

LOOKED_AT = 2**24
"""Positions that are examined for observations at once."""
SHORT = 1024
"""Offsets that are tried first: most targets find enough observations among them."""
BATCH = 2048
"""Systems solved at once."""
NO_QUADRANT = 4
"""Number of the place itself, which lies in none of the four."""
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
    for rows, steps, sparse in _batches(where, order, device):
        for part, found in _found(field, where, rows, steps, sparse, most):
            mean[part], variance[part] = _solved(
                field, where[part], found, tensors, numbers, kernel.noise
            )
    return mean.cpu().numpy(), variance.cpu().numpy()


def _batches(
    targets: Tensor, order: NeighbourOffsets, device: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of targets that share lists of offsets, and these lists, the sparse one last."""
    pattern = torch.as_tensor(order.pattern, device=device)[targets[:, 1]]
    for p in torch.unique(pattern).tolist():
        near = order.steps[order.begin[p] : order.begin[p + 1]].astype(np.int64)
        far = order.sparse[order.sparse_begin[p] : order.sparse_begin[p + 1]].astype(np.int64)
        steps, sparse = torch.as_tensor(near, device=device), torch.as_tensor(far, device=device)
        rows = torch.nonzero(pattern == p).squeeze(1)
        for part in torch.split(rows, BATCH):
            yield part, steps, sparse


def _found(
    field: Tensor, targets: Tensor, rows: Tensor, steps: Tensor, sparse: Tensor, most: int
) -> Iterator[tuple[Tensor, Neighbours]]:
    """Observations for the targets of some rows: those that find enough at the beginning of the
    list first, then the others.
    """
    short = steps[:SHORT]
    found, last = _gathered(field, targets[rows], short, most)
    full = found.there.all(1)
    if len(steps) <= SHORT:
        full = torch.ones_like(full)
    at_once = Neighbours(found.at[full], found.there[full])
    yield rows[full], _spread(field, targets[rows[full]], at_once, last[full], sparse)
    if not bool(full.all()):
        for part in torch.split(rows[~full], max(1, LOOKED_AT // len(steps))):
            found, last = _gathered(field, targets[part], steps, most)
            yield part, _spread(field, targets[part], found, last, sparse)


def _looked_at(field: Tensor, targets: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """What lies at steps ``(m, 3)`` from the targets: channel, time, y, x ``(b, m, 4)``, and
    whether it is observed, ``(b, m)``; where the own channel has none, another's serves.
    """
    at = targets[:, None, 1:] + steps  # b m 3
    size = torch.tensor(field.shape[1:], device=field.device)
    inside = ((at >= 0) & (at < size)).all(-1)
    at = at.clamp(min=torch.zeros_like(size), max=size - 1)
    t, y, x = at.unbind(-1)
    seen = ~torch.isnan(field[:, t, y, x]) & inside  # c b m
    own = seen.gather(0, targets[:, 0].view(1, -1, 1).expand(1, *t.shape))[0]
    channel = torch.where(own, targets[:, :1], seen.to(torch.int8).argmax(0))
    return torch.cat([channel[..., None], at], -1), seen.any(0)


def _gathered(
    field: Tensor, targets: Tensor, steps: Tensor, most: int
) -> tuple[Neighbours, Tensor]:
    """First `most` observations along the list; and the last place in it that was looked at."""
    at, some = _looked_at(field, targets, steps)
    rank = some.cumsum(1)
    last = (rank < most).sum(1).clamp(max=len(steps) - 1)
    return _packed(at, some & (rank <= most), most), last


def _packed(at: Tensor, there: Tensor, most: int) -> Neighbours:
    """Put those that are there side by side, at most so many."""
    row, column = torch.nonzero(there, as_tuple=True)
    slot = there.cumsum(1)[row, column] - 1
    packed = torch.zeros((len(at), most, 4), dtype=torch.int64, device=at.device)
    filled = torch.zeros((len(at), most), dtype=torch.bool, device=at.device)
    packed[row, slot] = at[row, column]
    filled[row, slot] = True
    return Neighbours(packed, filled)


def _spread(
    field: Tensor, targets: Tensor, found: Neighbours, last: Tensor, sparse: Tensor
) -> Neighbours:
    """Give each quadrant its share: see `sstfill.methods.oi.solver_kernels.spread`."""
    if not len(sparse):
        return found
    most = found.there.shape[1]
    share = most // SHARE
    step = found.at[..., 2:] - targets[:, None, 2:]
    quadrant = torch.where(found.there, _quadrant(step), NO_QUADRANT)
    place = sparse[:, 3]
    of_sparse = _quadrant(sparse[:, 1:3])
    at, some = _looked_at(field, targets, sparse[:, :3])
    some &= place > last[:, None]
    taken = torch.zeros_like(some)
    spare = found.there & (quadrant == NO_QUADRANT)
    for q in range(NO_QUADRANT):
        here = quadrant == q
        candidate = some & (of_sparse == q)
        lacking = share - here.sum(1, keepdim=True)
        taken |= candidate & (candidate.cumsum(1) <= lacking)
        spare |= here & (here.cumsum(1) > share)
    surplus = found.there.sum(1, keepdim=True) + taken.sum(1, keepdim=True) - most
    # the last of those that can be spared make room
    from_the_end = spare.flip(1).cumsum(1).flip(1)
    kept = found.there & ~(spare & (from_the_end <= surplus))
    return _packed(torch.cat([found.at, at], 1), torch.cat([kept, taken], 1), most)


def _quadrant(step: Tensor) -> Tensor:
    """Number of the quadrant in which steps ``(..., 2)`` lie, as in `solver_kernels.quadrant`."""
    y, x = step.unbind(-1)
    number = torch.full_like(y, NO_QUADRANT)
    number[(y >= 0) & (x > 0)] = 0
    number[(y > 0) & (x <= 0)] = 1
    number[(y <= 0) & (x < 0)] = 2
    number[(y < 0) & (x >= 0)] = 3
    return number


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
