# SPDX-License-Identifier: Apache-2.0
"""A figure that a notebook shows; importing this module imports matplotlib."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that Jupyter shows as a picture, whatever was imported before.

    Jupyter shows a plain matplotlib figure only once pyplot has been imported, which sets up the
    display of figures. The figures of sstfill do not go through pyplot, which would keep each of
    them until it is closed.
    """

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        # The margins are cut as Jupyter cuts those of the figures of pyplot.
        self.savefig(picture, format="png", bbox_inches="tight")
        return picture.getvalue()
