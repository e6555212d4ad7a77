# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels of `patchmatch`: the search for similar patches, and the vote.

The module imports numba, so import it when needed. A series is padded by half a patch on every side
and flattened, so that a patch is a list of steps from its centre. Each target is handled on its own
and reads only the result of the sweep before: neither the order of targets nor the number of
threads changes a bit of the result. Kernels release the interpreter's lock and run in Python's
threads, so two fills at once are safe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sstfill.methods.common.kernels.jit import compiled

FAR = np.float32(1e30)
"""Distance of a patch that has no match yet."""
SMALL = np.float32(1e-12)
"""Keeps divisions by weights and distances defined."""
LAGS = 4
"""Images before and after in which a patch without a match is compared with its own place."""

RELAXED = {"contract", "reassoc", "nsz"}
"""Sums may be taken in the order that is fastest on the machine; NaN stays NaN."""


@compiled(fastmath=RELAXED)
def _draw(key: np.uint64, index: int) -> np.uint64:
    """Return a random number of key and index alone (splitmix64; Steele, Lea & Flood 2014)."""
    z = key + np.uint64(index) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled(fastmath=RELAXED)
def _trusted(p: int, weight: NDArray, rows: NDArray, width: int) -> np.float32:
    """Sum of the weights of a target patch."""
    total = SMALL
    for c in range(len(weight)):
        for row in rows:
            for k in range(p + row, p + row + width):
                total += weight[c, k]
    return total


@compiled(fastmath=RELAXED)
def _distance(
    p: int,
    q: int,
    values: NDArray,
    weight: NDArray,
    penalty: NDArray,
    rows: NDArray,
    width: int,
    free: bool,
    norm: np.float32,
    best: np.float32,
    offset: NDArray,
) -> np.float32:
    """Mean square difference of two patches, weighted by the target, plus the cost of the source.

    With `free` the weighted mean difference of each channel is subtracted, and written to `offset`.
    Stops early and returns `FAR` beyond `best`: both sums can only grow.
    """
    total = np.float32(0)
    limit = best * norm
    for c in range(len(values)):
        s0, s1, s2 = np.float32(0), np.float32(0), np.float32(0)
        for i in range(len(rows)):
            for k in range(rows[i], rows[i] + width):
                w = weight[c, p + k]
                step = values[c, p + k] - values[c, q + k]
                s0 += w
                s1 += w * step
                s2 += w * (step * step + penalty[c, q + k])
            if i % width == width - 1:
                now = s2 - s1 * s1 / s0 if free and s0 > 0 else s2
                if total + now > limit:
                    return FAR
        offset[c] = s1 / s0 if free and s0 > 0 else np.float32(0)
        # A difference of two sums may round to just below 0.
        total += max(s2 - s1 * offset[c], np.float32(0))
    return total / norm


@compiled(fastmath=RELAXED)
def _drawn(
    state: np.uint64, centre: int, radius: int, strides: NDArray, size: NDArray, half: int
) -> int:
    """Return a random position, at most `radius` from `centre` along each axis."""
    place = 0
    rest = centre
    for axis in range(3):
        at = rest // strides[axis] - half
        rest %= strides[axis]
        state = _draw(state, axis + 1)
        low, high = max(at - radius, 0), min(at + radius, size[axis] - 1)
        at = low + np.int64((state >> np.uint64(33)) % np.uint64(high - low + 1))
        place += (at + half) * strides[axis]
    return place


@compiled(fastmath=RELAXED)
def sweep(
    targets: NDArray,
    values: NDArray,
    weight: NDArray,
    penalty: NDArray,
    source: NDArray,
    rows: NDArray,
    width: int,
    free: bool,
    strides: NDArray,
    size: NDArray,
    jump: int,
    key: np.uint64,
    match: NDArray,
    new_match: NDArray,
    distance: NDArray,
    offsets: NDArray,
) -> None:
    """Improve the match of each target from its neighbours' matches and from random positions.

    Neighbours are `jump` away; random positions come ever nearer to the present match. A target
    without a match also tries its own place in the images before and after. No patch is matched to
    itself.

    Parameters
    ----------
    targets
        Flat positions of the patches to match, ``(n,)``.
    values, weight, penalty
        Shape ``(channels, padded positions)``: the series, the weight of a target pixel, the cost
        of a source pixel.
    source
        True where the centre of a source may lie, ``(padded positions,)``.
    rows, width
        Step from the centre of a patch to the first pixel of each of its rows, and their length.
    free
        Whether patches are compared less their means.
    strides, size
        Steps to the next image, row and column of the padded series; its shape without padding.
    key
        Seed of the random numbers, which depend on the position besides.
    match, new_match
        Position that each patch is matched to, -1 for none; read, and written.
    distance, offsets
        Written: squared distance ``(padded positions,)``, and the number added to the source,
        ``(channels, padded positions)``.
    """
    trial = np.empty(len(values), np.float32)
    for p in targets:
        norm = _trusted(p, weight, rows, width)
        best, at = FAR, match[p]
        if at >= 0:
            best = _distance(
                p, at, values, weight, penalty, rows, width, free, norm, FAR, offsets[:, p]
            )
        state = _draw(key, p)
        radius = max(size[0], size[1], size[2])
        tried = 0
        # First the matches of six neighbours, then the same place in other images, then random
        # places ever nearer to the match.
        while radius > 0:
            sign = 1 - 2 * (tried % 2)
            q = -1
            if tried < 6:
                step = sign * jump * strides[tried // 2]
                if 0 <= p + step < len(source) and match[p + step] >= 0:
                    # The neighbour's match, moved back by as much: where it moved to, this patch
                    # will have moved too.
                    q = match[p + step] - step
            elif tried < 6 + 2 * LAGS:
                if match[p] < 0:
                    q = p + sign * ((tried - 4) // 2) * strides[0]
            else:
                state = _draw(state, tried)
                q = _drawn(state, at if at >= 0 else p, radius, strides, size, width // 2)
                radius //= 2
            tried += 1
            # A patch is the best match of itself, and would keep a gap as it is.
            if 0 <= q < len(source) and q != p and q != at and source[q]:
                d = _distance(p, q, values, weight, penalty, rows, width, free, norm, best, trial)
                if d < best:
                    best, at = d, q
                    # element by element: a whole column takes seconds more to compile
                    for c in range(len(trial)):
                        offsets[c, p] = trial[c]
        new_match[p] = at
        distance[p] = best


@compiled(fastmath=RELAXED)
def _scale(buffer: NDArray) -> np.float32:
    """Return the 75th percentile of squared distances (Newson et al. 2014, section 3.2)."""
    return max(np.sort(buffer)[3 * (len(buffer) - 1) // 4], SMALL)


@compiled(fastmath=RELAXED)
def vote(
    pixels: NDArray,
    values: NDArray,
    lend: NDArray,
    steps: NDArray,
    sharp: bool,
    match: NDArray,
    distance: NDArray,
    offsets: NDArray,
    mean: NDArray,
    variance: NDArray,
) -> None:
    """Estimate each pixel as the mean over the matches of the patches around it.

    The weights are ``exp(-d / 2 s)`` of the squared distances ``d``, where ``s`` is their 75th
    percentile, times the trust in the source pixel. `sharp` takes the best patch alone.

    Parameters
    ----------
    pixels
        Flat positions to estimate, ``(n,)``.
    values, lend
        The series, and the weight of each pixel as a source, ``(channels, padded positions)``.
    steps
        From the centre of a patch to each of its pixels.
    match, distance, offsets
        The result of `sweep`.
    mean, variance
        Written, ``(channels, n)``: the estimate and its expected squared error (spread of the votes
        and mean squared distance); NaN where nothing was lent.
    """
    near = np.empty(len(steps), np.int64)
    buffer = np.empty(len(steps), np.float32)
    for i in range(len(pixels)):
        count = 0
        for step in steps:
            # Patches that cover the pixel have their centres a step before it.
            if match[pixels[i] - step] >= 0:
                near[count] = step
                buffer[count] = distance[pixels[i] - step]
                count += 1
        scale = _scale(buffer[:count]) if count else SMALL
        for c in range(len(values)):
            s0, s1, s2, sd, nearest = 0.0, 0.0, 0.0, 0.0, np.float64(FAR)
            for k in range(count):
                p = pixels[i] - near[k]
                d = np.float64(buffer[k])
                w = lend[c, match[p] + near[k]] * np.exp(-0.5 * d / scale)
                if w <= 0 or (sharp and d >= nearest):
                    continue
                if sharp:
                    # A nearer patch replaces all votes so far.
                    s0, s1, s2, sd, nearest = 0.0, 0.0, 0.0, 0.0, d
                value = np.float64(values[c, match[p] + near[k]] + offsets[c, p])
                s0 += w
                s1 += w * value
                s2 += w * value * value
                sd += w * d
            mean[c, i] = s1 / s0 if s0 > 0 else np.nan
            variance[c, i] = max(s2 / s0 - (s1 / s0) ** 2, 0.0) + sd / s0 if s0 > 0 else np.nan
