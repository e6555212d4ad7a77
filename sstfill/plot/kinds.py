# SPDX-License-Identifier: Apache-2.0
"""One door to the pictures of a filled series, by their kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from sstfill.errors import OptionError, unknown
from sstfill.plot.film import Animation, animation
from sstfill.plot.maps import maps, panels
from sstfill.plot.view import Label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Kind = Literal["maps", "panels", "animation"]
KINDS: dict[str, Callable[..., Any]] = {"maps": maps, "panels": panels, "animation": animation}


def picture(
    filled: xr.Dataset,
    *,
    kind: Kind = "maps",
    variable: str | None = None,
    time: Label | None = None,
    times: Sequence[Label] | None = None,
    n: int | None = None,
    layers: Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    fig: Figure | SubFigure | None = None,
    cmap: str | None = None,
    robust: bool = True,
    fps: float | None = None,
) -> Figure | Animation:
    """Draw a filled series: one date in its layers, several dates, or a film.

    Parameters
    ----------
    filled
        What `fill()` returned.
    kind
        ``"maps"``: one date, observed, filled, error and source (`sstfill.plot.maps`);
        ``"panels"``: several dates, observed above filled (`sstfill.plot.panels`);
        ``"animation"``: a film, whose ``save("film.gif")`` writes it (`sstfill.plot.animation`).
    variable
        Which variable; needed only where several were filled.
    time
        Of maps: a date or the index of a step. Default: a date about half of which was filled.
    times
        Of panels and animation: dates or indices.
    n
        Of panels: how many dates where `times` names none; 6 by default.
    layers
        Of maps and animation: some of ``"observed"``, ``"filled"``, ``"error"``, and of maps
        ``"source"``.
    ax
        Of maps and panels: draw into these axes. In a notebook, end the line with a semicolon, or
        your figure is shown twice.
    fig
        Draw into this figure. Default: a new figure.
    cmap
        Name of a matplotlib colour map for the field. Default: plasma for temperature, else
        cividis.
    robust
        Colour scale from the 2nd to the 98th percentile instead of from the least to the greatest
        value.
    fps
        Of animation: frames a second; 4 by default.

    Returns
    -------
    Figure or Animation
        Jupyter shows it; `sstfill.plot.save` writes it.

    Raises
    ------
    OptionError
        An unknown kind, an option of another kind, or a value that the kind refuses.
    InputError
        The dataset is not what `fill()` returns.
    """
    if kind not in KINDS:
        raise unknown("kind", kind, list(KINDS))
    given: dict[str, Any] = {}
    options = {"time": time, "times": times, "n": n, "layers": layers, "fps": fps}
    for name, value in {**options, "ax": ax, "fig": fig}.items():
        if value is not None:
            given[name] = value
    for name in given:
        takers = [other for other in KINDS if name in inspect.signature(KINDS[other]).parameters]
        if kind not in takers:
            raise OptionError(
                f"kind={kind!r} has no {name}; leave it out, or choose kind "
                f"{' or '.join(map(repr, takers))}"
            )
    return KINDS[kind](filled, variable=variable, cmap=cmap, robust=robust, **given)
