# SPDX-License-Identifier: Apache-2.0
"""A figure of a series of liquid water path (LWP) and of the masks that thresholds make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from sstfill.occlusion.lwp import frame_label, in_grams, ordered
from sstfill.plot.sheet import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMES, MASKS = 4, 3  # that are drawn
PICTURE = 1.7  # inches


def masks(
    series: xr.DataArray,
    thresholds: Sequence[float],
    fractions: Sequence[float],
    *,
    start_after: int,
) -> Figure:
    """Draw frames spread over the series after spin-up, and below each the masks of thresholds.

    Parameters
    ----------
    series
        LWP, as of `sstfill.occlusion.lwp_series`.
    thresholds, fractions
        In g m-2, and the fraction of the series above each; at most `MASKS` of them are drawn.
    start_after
        Frames of spin-up.
    """
    ordering, grams = ordered(series, None)
    steps = np.unique(np.linspace(start_after, len(ordering) - 1, FRAMES).round().astype(int))
    frames = [in_grams(ordering[int(step)], grams) for step in steps]
    rows = np.unique(np.linspace(0, len(thresholds) - 1, MASKS).round().astype(int))
    tall = PICTURE * float(np.clip(frames[0].shape[0] / frames[0].shape[1], 0.3, 3))
    figure = new_figure(
        PICTURE * len(steps) + 1.4, (tall + 0.1) * (len(rows) + 1) + 0.6, "constrained"
    )
    boxes = figure.subplots(len(rows) + 1, len(steps), squeeze=False)
    # a cloudless series has no top, and a scale of no length cannot be drawn
    top = max(float(np.percentile(frames, 99)), 1e-6)
    for column, (step, frame) in enumerate(zip(steps, frames, strict=True)):
        image = boxes[0, column].imshow(
            frame, vmin=0, vmax=top, cmap="Blues_r", origin="lower", interpolation="nearest"
        )
        boxes[0, column].set_title(frame_label(ordering, int(step)), fontsize="small")
        for row, chosen in enumerate(rows, 1):
            hidden = frame > thresholds[chosen]
            boxes[row, column].imshow(
                hidden, vmin=0, vmax=1, cmap="Blues_r", origin="lower", interpolation="nearest"
            )
    for row, chosen in enumerate(rows, 1):
        boxes[row, 0].set_ylabel(
            f"above {thresholds[chosen]:g}\n{fractions[chosen]:.1%} of the series", fontsize="small"
        )
    for ax in boxes.ravel():
        ax.set(xticks=[], yticks=[])
    boxes[0, 0].set_ylabel("LWP", fontsize="small")
    figure.colorbar(image, ax=list(boxes[0]), pad=0.01, extend="max").set_label(
        "g m-2", fontsize="small"
    )
    return figure
