# SPDX-License-Identifier: Apache-2.0
"""The reference program's cross-validation points: libgfortran's random numbers, drawn as DINEOF
draws them.

libgfortran documents its generator as xoshiro256** (Blackman & Vigna 2018, public domain), the seed
array combined with four constants; checked here against the points that the reference shipped with
its Alboran example.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1
SCRAMBLE = (0xBD0C5B6E50C2DF49, 0xD46061CD46E1DF38, 0xBB4F4D4ED6103544, 0x114A583D0756AD39)


def random_numbers(seed: int) -> Iterator[float]:
    """Yield what ``random_number`` (real*8) gives after ``random_seed(put=...)`` with every element
    equal to `seed`.
    """
    word = seed & 0xFFFFFFFF
    s = [((word << 32) | word) ^ key for key in SCRAMBLE]

    def rotated(x: int, by: int) -> int:
        return ((x << by) | (x >> (64 - by))) & MASK

    while True:
        drawn = (rotated(s[1] * 5 & MASK, 7) * 9) & MASK
        shifted = s[1] << 17 & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = rotated(s[3], 45)
        yield (drawn >> 11) * 2.0**-53


def reference_points(observed: NDArray[np.bool_], seed: int = 243435) -> NDArray[np.int64]:
    """Flat positions in ``(times, pixels)`` of the points that the reference sets aside; pixels in
    its own order.

    Pixel and time are drawn until ``floor(min(0.01 M N + 40, 0.03 M N))`` distinct observed values
    are found.
    """
    times, pixels = observed.shape
    wanted = int(min(0.01 * observed.size + 40, 0.03 * observed.size))
    numbers, left, points = random_numbers(seed), observed.copy(), []
    while len(points) < wanted:
        pixel, time = int(next(numbers) * pixels), int(next(numbers) * times)
        if left[time, pixel]:
            left[time, pixel] = False
            points.append(time * pixels + pixel)
    return np.array(points)
