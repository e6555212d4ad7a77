# SPDX-License-Identifier: Apache-2.0
"""Sizes of the compact network that those who feed it must know, without loading torch."""

from __future__ import annotations

FOLD = 2
"""Pixels of an edge folded into channels by the first layer: all layers work at half resolution."""
LEVELS = 3
"""Resolutions of the U-Net, each half of the one above."""
SIDE = FOLD * 2 ** (LEVELS - 1)
"""Frames are padded to a multiple of this."""
SPACINGS = (1, 4, 16, 64)
"""Pixels between the points of the lattices of noise; between them it is interpolated."""
