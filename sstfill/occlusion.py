# SPDX-License-Identifier: Apache-2.0
"""Measurement operators of the inpainting GAN: random occlusion masks, and a pure `apply` of x*m + c*(1-m).

The four of "Unsupervised spatiotemporal data inpainting" (section 3.2). Each is a frozen dataclass whose fields are its
parameters; `draw` returns a mask `observed` (True = seen), `fill_value` is the paper's c. Lengths, widths and speeds
are shares of the frame's edge, speeds per frame; a pixel is occluded where its centre lies in a bar.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sstfill.checks import check_number, check_share
from sstfill.errors import InputError, OptionError, unknown

Shape = tuple[int, int, int]
Mask = NDArray[np.bool_]
LwpSeries = xr.DataArray | NDArray[np.floating]
SPIN_UP = 100  # LWP frames left out by the paper's authors while the simulated clouds form
GRAMS = {"gm-2": 1.0, "g/m2": 1.0, "kgm-2": 1000.0, "kg/m2": 1000.0}  # by LWP units without spaces, dots, ^ and **


class Occlusion(Protocol):
    """A random measurement process: hashable, its fields are its parameters."""

    name: ClassVar[str]
    fill_value: ClassVar[float]

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` (True = seen) of `shape` (time, y, x)."""
        ...


def apply(values: Any, observed: Any, fill: float) -> Any:
    """Occlude a sequence: x*m + c*(1-m), equation 1 of the paper.

    Written as a selection, so that observed values stay bit-identical and a NaN under the mask does not survive.

    Parameters
    ----------
    values
        Floating array, ``(..., time, y, x)``: NumPy, or of a kind with a ``where`` method (xarray; torch, where it is
        differentiable). Not modified.
    observed
        True where `values` are seen, of a shape that broadcasts against theirs; a tensor where `values` is one.
    fill
        The constant c that occluded pixels are set to.

    >>> apply(np.array([[1.5, 2.5]]), np.array([True, False]), 0.0)
    array([[1.5, 0. ]])
    """
    if hasattr(values, "where"):
        return values.where(observed, fill)
    return np.where(observed, values, fill)


@dataclass(frozen=True, kw_only=True)
class RemovePixel:
    """Each pixel of each frame is lost independently, with probability `share` (0 or more, less than 1)."""

    name: ClassVar[str] = "remove-pixel"
    fill_value: ClassVar[float] = 0.0

    share: float = 0.5

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` (True = seen) of `shape` (time, y, x)."""
        return rng.random(_checked(shape)) >= self.share


@dataclass(frozen=True, kw_only=True)
class Raindrops:
    """Bars of one width and random length fall at random speeds; out of the frame, they return to the top.

    The position is uniform over the whole fall, so that no frame and no pixel is occluded more often than another.
    With the defaults 19.6 % of the pixels are occluded, 16 to 23 % in a sequence (measured: 200 of 24 frames of 64x64).
    """

    name: ClassVar[str] = "raindrops"
    fill_value: ClassVar[float] = 1.0

    count: int = 32
    width: float = 1 / 32
    min_length: float = 0.1
    max_length: float = 0.5
    min_speed: float = 0.02
    max_speed: float = 0.1

    def __post_init__(self) -> None:
        check_number("count", self.count, 1, whole=True)
        check_share("width", self.width, zero=False)
        _check_span("length", self.min_length, self.max_length)
        _check_span("speed", self.min_speed, self.max_speed, zero=True)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` (True = seen) of `shape` (time, y, x)."""
        frames, ny, nx = _checked(shape)
        length = rng.uniform(self.min_length, self.max_length, self.count)
        speed = rng.uniform(self.min_speed, self.max_speed, self.count)
        start = rng.uniform(0, 1 + length)  # of the lower end; the bar is just out of the frame at 0 and at 1 + length
        left = rng.uniform(-self.width, 1, self.count)
        lower = (start + speed * np.arange(frames)[:, None]) % (1 + length)
        rows = _inside(ny, (lower - length)[..., None], length[:, None])  # time, bar, y
        columns = _inside(nx, left[:, None], self.width)  # bar, x
        return rows.swapaxes(1, 2).astype(np.float32) @ columns.astype(np.float32) == 0


@dataclass(frozen=True, kw_only=True)
class VerticalMovingBar:
    """One vertical bar crosses the frame at constant speed, to the left or the right, and re-enters opposite.

    The bar's width is the occluded share: 10 to 30 % with the defaults, 20 % on average.
    """

    name: ClassVar[str] = "vertical-moving-bar"
    fill_value: ClassVar[float] = 1.0

    min_width: float = 0.1
    max_width: float = 0.3
    min_speed: float = 0.02
    max_speed: float = 0.1

    def __post_init__(self) -> None:
        _check_span("width", self.min_width, self.max_width)
        _check_span("speed", self.min_speed, self.max_speed, zero=True)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` (True = seen) of `shape` (time, y, x)."""
        frames, ny, nx = _checked(shape)
        width = rng.uniform(self.min_width, self.max_width)
        velocity = rng.uniform(self.min_speed, self.max_speed) * rng.choice([-1, 1])
        left = (rng.random() + velocity * np.arange(frames)[:, None]) % 1
        occluded = _inside(nx, left, width) | _inside(nx, left - 1, width)  # time, x
        return np.repeat(~occluded[:, None, :], ny, axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cloud:
    """Clouds of a large-eddy simulation: a pixel is occluded where the liquid water path (LWP) exceeds a threshold.

    A draw starts at a random frame of the series and at a random corner of its domain, which is taken as doubly
    periodic (as PyCLES domains are): a smaller shape is a crop, a larger one repeats the domain without a seam.
    Instances are equal to themselves alone.

    Parameters
    ----------
    lwp
        LWP ``(time, y, x)``, DataArray or NumPy array, without gaps. Load it first if many masks are to be drawn.
    threshold
        In g m-2, whatever the units of `lwp`; the paper uses 55 to 80. `threshold_for` gives it for an occluded share.
    stride
        LWP frames from one mask to the next.
    start_after
        Frames left out at the start of the series (spin-up).
    augment
        Also flip y and x at random. The mean wind then blows from anywhere.
    units
        ``"g m-2"`` or ``"kg m-2"``; by default the attribute ``units`` of `lwp`, and an array needs to be told.

    >>> lwp = np.tile([20.0, 90.0], (30, 1, 1))
    >>> Cloud(lwp=lwp, units="g m-2", start_after=0).draw((3, 1, 4), np.random.default_rng(0)).mean()
    np.float64(0.5)
    """

    name: ClassVar[str] = "cloud"
    fill_value: ClassVar[float] = 1.0

    lwp: LwpSeries = field(repr=False)
    threshold: float = 70.0
    stride: int = 10
    start_after: int = SPIN_UP
    augment: bool = False
    units: str | None = None

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0)
        check_number("stride", self.stride, 1, whole=True)
        check_number("start_after", self.start_after, 0, whole=True)
        _series(self.lwp, self.units)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Mask:
        """Draw a mask `observed` (True = seen) of `shape` (time, y, x); `InputError` where the series is too short."""
        frames, *plane = _checked(shape)
        series, grams = _series(self.lwp, self.units)
        span, settled = (frames - 1) * self.stride + 1, len(series) - self.start_after
        if settled < span:
            raise InputError(
                f"the LWP series has {len(series)} frames, {max(settled, 0)} after start_after={self.start_after}; "
                f"{frames} masks at stride={self.stride} need {span}; give a longer series or a smaller stride"
            )
        start = self.start_after + int(rng.integers(settled - span + 1))
        observed = _grams(series[start : start + span : self.stride], grams) <= self.threshold
        rows, columns = ((rng.integers(n) + np.arange(m)) % n for n, m in zip(series.shape[1:], plane, strict=True))
        down, right = rng.choice([-1, 1], 2) if self.augment else (1, 1)
        return observed[:, rows[::down, None], columns[::right]]


OPERATORS: dict[str, type[Any]] = {cls.name: cls for cls in (Cloud, Raindrops, RemovePixel, VerticalMovingBar)}


def operator_class(name: str) -> type[Any]:
    """Return the measurement operator called `name`; `OptionError` lists the choices.

    >>> operator_class("raindrops")(count=3).count
    3
    """
    if name not in OPERATORS:
        raise unknown("measurement operator", name, sorted(OPERATORS))
    return OPERATORS[name]


def cloud_share(lwp: LwpSeries, threshold: float, *, start_after: int = SPIN_UP, units: str | None = None) -> float:
    """Share of the pixels that a threshold (g m-2) occludes, after the first `start_after` frames; see `Cloud`.

    >>> cloud_share(np.array([[[20.0, 50.0, 60.0, 90.0]]]), 55.0, start_after=0, units="g m-2")
    0.5
    """
    check_number("threshold", threshold, 0)
    return float((_settled(lwp, start_after, units) > threshold).mean())


def threshold_for(lwp: LwpSeries, share: float, *, start_after: int = SPIN_UP, units: str | None = None) -> float:
    """Least threshold (g m-2) that occludes `share` of the pixels or a little less: the inverse of `cloud_share`.

    `InputError` where fewer pixels than that hold any liquid water: clouds cannot cover more.

    >>> threshold_for(np.array([[[20.0, 50.0, 60.0, 90.0]]]), 0.5, start_after=0, units="g m-2")
    50.0
    """
    check_share("share", share)
    values = _settled(lwp, start_after, units)
    cloudy = float((values > 0).mean())
    if share > cloudy:
        raise InputError(f"share={share!r}, but only {cloudy:.3f} of the LWP is above 0; ask for a smaller share")
    return float(np.quantile(values, 1 - share, method="inverted_cdf"))


def _settled(lwp: LwpSeries, start_after: int, units: str | None) -> NDArray[np.floating]:
    check_number("start_after", start_after, 0, whole=True)
    series, grams = _series(lwp, units)
    if len(series) <= start_after:
        raise InputError(f"the LWP series has {len(series)} frames, none after start_after={start_after}; lower it")
    return _grams(series[start_after:], grams)


def _series(lwp: LwpSeries, units: str | None) -> tuple[xr.DataArray, float]:
    """Return the series with time first (y before x where they are so called), and the factor that makes it g m-2."""
    if isinstance(lwp, np.ndarray) and lwp.ndim == 3:
        lwp = xr.DataArray(lwp, dims=("time", "y", "x"))
    if not isinstance(lwp, xr.DataArray) or lwp.ndim != 3 or not lwp.size or "time" not in lwp.dims:
        met = getattr(lwp, "dims", getattr(lwp, "shape", ""))
        raise InputError(f"LWP is a {type(lwp).__name__} {met}; give a filled array (time, y, x)")
    stated = units if units is not None else lwp.attrs.get("units")
    if (key := str(stated).translate(str.maketrans("", "", " ^*."))) not in GRAMS:
        raise OptionError(f"LWP units={stated!r}; give units='g m-2' or units='kg m-2'")
    return lwp.transpose("time", "y", "x", ..., missing_dims="ignore"), GRAMS[key]


def _grams(series: xr.DataArray, factor: float) -> NDArray[np.floating]:
    values = series.to_numpy() * factor
    if not np.isfinite(values).all():  # a gap would pass for a cloud
        raise InputError(f"{int((~np.isfinite(values)).sum())} LWP values are not finite; give a series without gaps")
    return values


def _inside(n: int, start: Any, length: Any) -> Mask:
    centres = (np.arange(n) + 0.5) / n  # of the pixels along an edge of length 1
    return (start <= centres) & (centres < start + length)


def _checked(shape: Shape) -> Shape:
    if len(shape) != 3 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in shape):
        raise OptionError(f"shape={shape!r}; give whole numbers of frames, rows and columns, each 1 or more")
    return shape


def _check_span(option: str, least: float, most: float, *, zero: bool = False) -> None:
    check_share(f"min_{option}", least, zero=zero)
    check_share(f"max_{option}", most, zero=zero)
    if least > most:
        raise OptionError(f"min_{option}={least!r} is above max_{option}={most!r}; swap them")
