# SPDX-License-Identifier: Apache-2.0
"""The canvas of a map: cell corners, axes and the coast line, all without a network."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy import ndimage

from sstfill.fields.reading.positions import degrees

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAND_GREY, COAST, COAST_WIDTH = "0.80", "0.20", 0.7

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Canvas:
    """Corners of the grid cells and how to draw them.

    `x` and `y` are ``(rows + 1, columns + 1)``: longitude east of `centre` and latitude in degrees
    where `geographic`, else the index of the cell.
    """

    x: np.ndarray
    y: np.ndarray
    geographic: bool
    centre: float = 0.0

    @property
    def stretch(self) -> float:
        """Height of a degree of latitude over the width of one of longitude, as it is drawn."""
        if not self.geographic or np.ptp(self.y) > 90:
            return 1.0
        # Shapes are true in the middle of a regional map; near a pole the stretch is bounded.
        return float(1 / np.cos(np.deg2rad(np.clip(self.y.mean(), -75, 75))))

    @property
    def shape(self) -> float:
        """Height over width of the map as drawn."""
        return float(np.ptp(self.y) * self.stretch / np.ptp(self.x))

    @property
    def projection(self) -> Any:
        """The cartopy projection, or None for plain axes."""
        if not self.geographic:
            return None
        import cartopy.crs as ccrs

        return ccrs.PlateCarree(central_longitude=self.centre)


def canvas(field: xr.DataArray) -> Canvas:
    """Lay out the cells of a standardised field, dims ``(..., lat, lon)`` or ``(..., y, x)``."""
    rows, columns = field.shape[-2:]
    has_cartopy = find_spec("cartopy") is not None
    if not has_cartopy or not {"lat", "lon"} <= set(field.coords):
        y, x = np.mgrid[: rows + 1, : columns + 1] - 0.5
        return Canvas(x, y, geographic=False)
    lat, lon = degrees(field)
    if lat.ndim == 1:
        lon, lat = np.meshgrid(lon, lat)
    # pcolormesh takes no missing corners
    lat, lon = _complete(lat), _complete(lon)
    # Longitudes without the jump at the date line.
    lon = np.unwrap(np.unwrap(lon, axis=1, period=360), axis=0, period=360)
    x, y = _corners(lon, along=1), np.clip(_corners(lat, along=0), -90, 90)
    centre = _centre(x)
    # the projection draws nothing beyond its own ends, half the globe from its centre
    return Canvas(np.clip(x - centre, -180, 180), y, geographic=True, centre=centre)


def dress(ax: Axes, where: Canvas, *, left: bool, bottom: bool) -> None:
    """Set extent, aspect and the labels on the left and lower edge."""
    from matplotlib.ticker import NullFormatter

    ax.set_xlim(where.x.min(), where.x.max())
    ax.set_ylim(where.y.min(), where.y.max())
    ax.set_aspect(where.stretch)
    ax.set_facecolor("white")
    # cartopy hides both
    ax.xaxis.set_visible(True)
    ax.yaxis.set_visible(True)
    # The margin keeps the labels of neighbouring maps apart.
    columns = _ticks(*ax.get_xlim(), margin=0.08)
    if any(tick % 1 for tick in columns):  # long labels, which would run into each other
        columns = [columns[0], columns[-1]]
    ax.set_xticks(columns)
    ax.set_yticks(_ticks(*ax.get_ylim(), margin=0.0))
    if where.geographic and hasattr(ax, "projection"):
        from cartopy.mpl.ticker import LatitudeFormatter, LongitudeFormatter

        ax.xaxis.set_major_formatter(LongitudeFormatter())
        ax.yaxis.set_major_formatter(LatitudeFormatter())
    if not left:
        ax.yaxis.set_major_formatter(NullFormatter())
    if not bottom:
        ax.xaxis.set_major_formatter(NullFormatter())
    ax.tick_params(labelsize="small", color="0.4", length=3)


def draw_land(ax: Axes, where: Canvas, sea: np.ndarray) -> None:
    """Fill the land in grey and draw the coast: the edge of the data's own sea mask.

    A series without land gets the Natural Earth coast line, if its files are on this machine.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import ListedColormap

    if sea.all():
        _draw_natural_earth(ax, where)
        return
    land = np.ma.masked_array(np.ones(sea.shape), sea)
    ax.pcolormesh(
        where.x,
        where.y,
        land,
        cmap=ListedColormap([LAND_GREY]),
        vmin=0,
        vmax=1,
        zorder=2,
        # one picture within a PDF: as vectors, each cell would be a path of its own
        rasterized=True,
    )
    lines = LineCollection(
        list(_edges(where, sea)), colors=COAST, linewidths=COAST_WIDTH, capstyle="round", zorder=3
    )
    # the limits are set once for all maps of a sheet
    ax.add_collection(lines, autolim=False)


def natural_earth(resolution: str = "50m") -> Path | None:
    """Return the path of the Natural Earth coast line if its files are here; never download."""
    from cartopy import config
    from cartopy.io import Downloader

    keys = {"config": config, "category": "physical", "name": "coastline", "resolution": resolution}
    finder = Downloader.from_config(
        ("shapefiles", "natural_earth", resolution, "physical", "coastline")
    )
    for found in (finder.pre_downloaded_path(keys), finder.target_path(keys)):
        if found is None:
            continue
        path = Path(found)
        # a shapefile is three files, and a download that was cut short leaves some of them
        if all(path.with_suffix(end).is_file() for end in (".shp", ".shx", ".dbf")):
            return path
    return None


def _draw_natural_earth(ax: Axes, where: Canvas) -> None:
    add_geometries = getattr(ax, "add_geometries", None)  # plain axes have none
    if add_geometries is None or not where.geographic:
        return
    path = natural_earth()
    if path is None:
        return
    import cartopy.crs as ccrs
    from cartopy.io import shapereader

    try:
        lines = list(shapereader.Reader(path).geometries())
    except (OSError, ValueError, struct.error) as error:
        # A picture must not fail for want of a coast line.
        log.warning("coast line %s cannot be read (%s); drawn without it", path, error)
        return
    add_geometries(
        lines, ccrs.PlateCarree(), facecolor="none", edgecolor=COAST, linewidth=COAST_WIDTH
    )


def _ticks(low: float, high: float, margin: float) -> list[float]:
    """Return at least two round ticks, away from the ends by a fraction of the length."""
    from matplotlib.ticker import MaxNLocator

    low, high = low + margin * (high - low), high - margin * (high - low)
    ticks: list[float] = []
    for bins in (4, 6, 8):
        places = MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ticks = [float(place) for place in places if low <= place <= high]
        if len(ticks) > 1:
            break
    return ticks


def _corners(centres: np.ndarray, along: int) -> np.ndarray:
    """Return the corners of cells from their centres, which grow along one axis.

    A corner is the mean of the four centres around it; beyond the border they are extrapolated.
    """
    for axis in (0, 1):
        if centres.shape[axis] > 1:
            width = [(0, 0), (0, 0)]
            width[axis] = (1, 1)
            # odd: mirrored and negated, which extends a slope as a slope
            centres = np.pad(centres, width, mode="reflect", reflect_type="odd")
        else:
            # The width of a single row or column is unknown; it is drawn 0.1 degree wide.
            step = 0.1 if axis == along else 0.0
            centres = np.concatenate([centres - step, centres, centres + step], axis)
    return (centres[:-1, :-1] + centres[1:, :-1] + centres[:-1, 1:] + centres[1:, 1:]) / 4


def _complete(values: np.ndarray) -> np.ndarray:
    """Give cells without a position, as on land, that of the nearest cell with one."""
    missing = ~np.isfinite(values)
    if not missing.any() or missing.all():
        return values
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return np.asarray(values[tuple(nearest)])


def _centre(x: np.ndarray) -> float:
    """Return the central longitude that keeps the map in one piece, 0 or 180 if they do."""
    for centre in (0.0, 180.0, -180.0):
        if centre - 180 <= x.min() and x.max() <= centre + 180:
            return centre
    return float(np.round((x.min() + x.max()) / 2, -1))


def _edges(where: Canvas, sea: np.ndarray) -> np.ndarray:
    """Return the edges between sea and land, ``(edges, 2, 2)``: two end points, each (x, y)."""
    points = np.stack([where.x, where.y], -1)
    row, column = np.nonzero(sea[:, 1:] != sea[:, :-1])
    upright = np.stack([points[row, column + 1], points[row + 1, column + 1]], 1)
    row, column = np.nonzero(sea[1:] != sea[:-1])
    level = np.stack([points[row + 1, column], points[row + 1, column + 1]], 1)
    return np.concatenate([upright, level])
