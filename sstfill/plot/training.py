# SPDX-License-Identifier: Apache-2.0
"""The loss curves of a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sstfill.errors import InputError
from sstfill.plot.sheet import check_one_place, given_axes, new_figure, root_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

WIDTH, HEIGHT = 3.4, 2.6
CURVE, LEAST = "#0072B2", "#D55E00"


def training(
    model: Any, ax: Sequence[Axes] | None = None, fig: Figure | SubFigure | None = None
) -> Figure:
    """Draw how the losses of a training fell, epoch by epoch, a panel for each.

    Parameters
    ----------
    model
        What `sstfill.train` returned, `sstfill.Gan`, or a `sstfill.Checkpoint`.
    ax
        Draw into these axes, one for each loss.
    fig
        Draw into this figure or subfigure. Default: a new figure.

    Returns
    -------
    Figure
        A matplotlib figure; see `save`. It is not shown.

    Raises
    ------
    InputError
        `model` is no network, or its checkpoint keeps no history.
    OptionError
        Both `ax` and `fig` are given, or too few axes.
    """
    from sstfill.nn.checkpoint.html import loss_curves

    check_one_place(ax, fig)
    config = getattr(getattr(model, "checkpoint", model), "config", None)
    if not isinstance(config, Mapping):
        raise InputError(
            f"{type(model).__name__} is not a trained network; pass what train() returned, or "
            "Checkpoint.load(folder)"
        )
    curves = loss_curves(config)
    if not curves:
        raise InputError("the checkpoint keeps no history of its training, so there is no curve")
    if ax is not None:
        boxes = given_axes(ax, len(curves), "losses")
    else:
        part = fig
        if part is None:
            part = new_figure(WIDTH * len(curves), HEIGHT, "constrained")
        boxes = given_axes(part.subplots(1, len(curves)), len(curves), "losses")
    from matplotlib.ticker import MaxNLocator  # here, after matplotlib is known to be installed

    for box, (label, points) in zip(boxes, curves.items(), strict=True):
        epochs, values = zip(*points, strict=True)
        box.plot(epochs, values, color=CURVE, marker="o", markersize=3)
        epoch, least = min(points, key=lambda point: point[1])
        box.plot(epoch, least, "o", color=LEAST)
        box.set_title(f"{label}: least {least:.3g}", fontsize="medium", loc="left")
        box.set_xlabel("epoch")
        box.xaxis.set_major_locator(MaxNLocator(integer=True))
        box.spines[["top", "right"]].set_visible(False)
        box.grid(color="0.9", linewidth=0.6)
    return root_of(boxes[0])
