# SPDX-License-Identifier: Apache-2.0
"""Where the sea is: masks of either polarity, found in a dataset and matched to a field's grid.

Without a mask an offline land mask tells, or what was observed. Names and words are listed in
``masks.toml``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from sstfill.errors import InputError
from sstfill.fields import tables
from sstfill.fields.grid import Axes, axes, is_rectilinear
from sstfill.fields.reading import landmask
from sstfill.fields.reading.positions import degrees

log = logging.getLogger(__name__)

_TABLE = tables.load("masks")
_NAMES, _WORDS, _FIELD = _TABLE["names"], _TABLE["words"], _TABLE["field"]
_STANDARD_NAMES = _TABLE["standard_names"]
SEEN_LEAST = 0.1
"""Least fraction of the sea by the offline land mask that must be observed at some time, for the
rest to be filled: of less, the field covers another region than its grid."""


class Sea(NamedTuple):
    """Where to fill, and why there.

    Attributes
    ----------
    mask
        True at sea, over the two spatial dims of the field.
    origin
        What it is from, as `info` prints it.
    own
        Whether it was found, not given.
    guessed
        Whether there was no mask to tell what pixels are that are never observed.
    """

    mask: xr.DataArray
    origin: str
    own: bool = True
    guessed: bool = False


def locate_sea(
    field: xr.DataArray,
    ds: xr.Dataset,
    observed: NDArray[np.bool_],
    given: xr.DataArray | None = None,
    *,
    lakes: bool | None = None,
) -> Sea:
    """Find the sea of a field: by the mask given, else one in the data, else by a land mask.

    The offline land mask is asked only if it is installed (the extra ``landmask``), if some pixels
    are never observed, and if the name, units or long name tell that the field is one of the sea
    (`is_of_the_sea`). It adds sea pixels to those that are observed at least once, but in no body
    of water in which nothing is ever observed. In all other cases the sea is what is observed at
    least once, and pixels never observed are taken as land.

    Parameters
    ----------
    field
        A standardised field.
    ds
        What else there is, without the variables that are filled.
    observed
        Where `field` is observed at least once, ``(y, x)``.
    given
        A mask as for `sea_mask`.
    lakes
        True: lakes are filled, False: they are land, None: as the mask has it. A mask must flag
        them; by the offline land mask all lakes are land, so that a lake is what is observed on
        land and apart from the sea.

    Raises
    ------
    InputError
        The mask given cannot be read, or does not cover the field.
    """
    if given is not None:
        return Sea(sea_mask(field, given, lakes=lakes).compute(), "as given", own=False)
    for found, either in _masks(ds, lakes):
        try:
            mask = sea_mask(field, found).compute()
        except InputError as error:
            log.warning("%s of the data is passed over: %s", found.name, error)
            continue
        # most observations lie at sea, so a mask in which most lie on land is the other way round
        if either and 2 * int(observed[mask.values].sum()) < int(observed.sum()):
            log.warning(
                "%s is taken as 1 at sea, 0 on land or the reverse by where the observations are",
                found.name,
            )
            mask = ~mask
        return Sea(mask, f"from variable {str(found.name)!r}")
    return _without_a_mask(field, observed, lakes)


def _without_a_mask(field: xr.DataArray, observed: NDArray[np.bool_], lakes: bool | None) -> Sea:
    """Take for sea what is observed at least once, and what an offline land mask adds to that."""
    never = int(observed.size - observed.sum())
    has_coast = "lat" in field.coords and is_of_the_sea(field)
    remedy = "give sea= if some are sea"
    if has_coast and not landmask.is_installed():
        remedy = "install sstfill[landmask], or give sea=, if some are sea"
    elif has_coast and (never or lakes is not None):
        lat, lon = degrees(field)
        at_sea = _joined(landmask.is_sea(lat, lon), observed, lakes)
        if observed.sum() >= SEEN_LEAST * at_sea.sum():
            added = int((at_sea & ~observed).sum())
            origin = f"by {landmask.NAME}, {added} pixels never observed among them"
            log.info("%s: sea %s", field.name, origin)
            return Sea(_on_grid(at_sea, field), origin, guessed=True)
        remedy = "less than a tenth of the sea is ever observed; give sea= to fill the rest"
    if lakes is not None:
        log.warning(
            "%s: nothing tells lakes from the sea; lakes=%s changes nothing", field.name, lakes
        )
    origin = "pixels observed at least once"
    if never:
        origin += f"; the {never} never observed are taken as land ({remedy})"
        log.info("%s: sea is %s", field.name, origin)
    return Sea(_on_grid(observed, field), origin, guessed=never > 0)


def _joined(
    sea: NDArray[np.bool_], observed: NDArray[np.bool_], lakes: bool | None
) -> NDArray[np.bool_]:
    """Return observed pixels, and the bodies of water in which some are; perhaps without lakes."""
    # neighbours by corners too: a strait may be one cell wide
    bodies, count = ndimage.label(sea | observed, structure=np.ones((3, 3)))
    kept = np.zeros(count + 1, bool)
    # A product of one sea has nothing in the next one.
    kept[bodies[observed]] = True
    if lakes is False:
        salt = np.zeros(count + 1, bool)
        salt[bodies[sea]] = True
        kept &= salt
    # the label of what is neither
    kept[0] = False
    return np.asarray(kept[bodies])


def is_of_the_sea(field: xr.DataArray) -> bool:
    """Whether a field has values at sea only, by its standard name, long name or name.

    >>> is_of_the_sea(xr.DataArray(0.0, name="tos"))
    True
    >>> is_of_the_sea(xr.DataArray(0.0, attrs={"standard_name": "air_temperature"}, name="sst"))
    False
    """
    for key in ("standard_name", "long_name"):
        text = str(field.attrs.get(key, "")).lower()
        if set(re.split("[^a-z]+", text)) & set(_FIELD["other"]):
            return False
        if any(words in text for words in _FIELD["sea"]):
            return True
        if key == "standard_name" and text:
            return False
    return str(field.name).lower() in _FIELD["names"]


def sea_mask(
    field: xr.DataArray, sea: xr.DataArray | None = None, *, lakes: bool | None = None
) -> xr.DataArray:
    """Boolean sea mask over the two spatial dims of a standardised field, True at sea.

    Parameters
    ----------
    field
        A standardised field, NaN in the gaps.
    sea
        A mask: bool, 0 to 1 (0 or NaN is land), per cent (with such units; half or less is land),
        or with CF ``flag_meanings`` that distinguish sea or water from land (a cell flagged as both
        is land). Dims come in any order; with time or depth, sea at any step counts. By default
        the pixels that are observed at least once.

        Cells are matched by latitude and longitude where both have them (any orientation,
        longitudes modulo 360, `sea` may be larger), else by shape.
    lakes
        True: what `sea` flags as a lake or river is filled, False: it is land, None: lakes that are
        also flagged as water, as OSTIA does, are filled.

    Raises
    ------
    InputError
        `sea` holds other values, or does not cover the field.
    """
    spatial = field.dims[-2:]
    if sea is None:
        observed = field.notnull().any([d for d in field.dims if d not in spatial])
        return observed.drop_attrs().rename("sea")
    mask = _as_sea(sea, lakes=lakes)
    depths = [d for d in mask.dims if str(d).lower() in _TABLE["dimensions"]["depth"]]
    if depths and mask.ndim - len(depths) >= 2:
        mask = mask.any(depths)
    found = axes(mask, time=False)
    mask = mask.any([d for d in mask.dims if d not in found.dims]).transpose(*found.dims)
    values = _matched(mask, found, field)
    if values.shape != field.shape[-2:]:
        raise InputError(
            f"sea mask of shape {mask.shape} does not lie on the field's grid of shape "
            f"{field.shape[-2:]}; regrid it: sea.interp_like(field, method='nearest')"
        )
    return _on_grid(values, field)


def _on_grid(values: Any, field: xr.DataArray) -> xr.DataArray:
    spatial = field.dims[-2:]
    coords = {n: c for n, c in field.coords.items() if set(c.dims) <= set(spatial)}
    return xr.DataArray(values, coords=coords, dims=spatial, name="sea")


def _as_sea(
    mask: xr.DataArray, *, land: bool = False, fraction: bool = False, lakes: bool | None = None
) -> xr.DataArray:
    """Read a mask of either polarity (`land`: nonzero is land) as True at sea.

    Of a `fraction`, more than one half must be sea.
    """
    if mask.dtype == bool:
        return ~mask if land else mask
    if flags := _flags(mask):
        return _flagged_sea(mask, flags, lakes)
    values = mask.fillna(0)
    low, high = float(values.min()), float(values.max())
    percent = str(mask.attrs.get("units", "")).lower().strip() in _TABLE["units"]["percent"]
    percent = percent or bool(re.search("per ?cent|%", _long_name(mask)))
    if low >= 0 and 1 < high <= 100 and (percent or fraction):
        values, low, high, fraction = values / 100, low / 100, high / 100, True
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"mask {str(mask.name)!r} holds {low:g} to {high:g}; give 1 at sea and 0 on land, "
            "or flag_meanings"
        )
    if lakes is not None:
        log.warning("mask %s flags no lakes; lakes=%s changes nothing", mask.name, lakes)
    if land:
        return values < 0.5
    if fraction:
        return values > 0.5
    return values > 0


class _Flag(NamedTuple):
    """A meaning of a mask: ``values & bits == number``, or ``values == number`` without bits.

    `number` is None where any of `bits` will do.
    """

    bits: int | None
    number: int | None
    meaning: str

    def holds(self, values: xr.DataArray) -> xr.DataArray:
        if self.bits is None:
            return values.isin([self.number])
        if self.number is None:
            return (values & self.bits) != 0
        return (values & self.bits) == self.number

    def tells(self, kind: str) -> bool:
        """Whether the meaning is one of ``land``, ``sea`` or ``lake``."""
        text = re.sub("[^a-z]+", " ", self.meaning)
        words = set(text.split())
        before = "|".join(_WORDS["negation"])
        # "no land" and "non-ocean" mean the contrary of the word in them
        denied = set(re.findall(rf"\b(?:{before}) ([a-z]+)", text))
        if kind == "lake":
            return bool(words & set(_WORDS["lake"]) - denied)
        on_land = bool(words & set(_WORDS["land"]) - denied or denied & set(_WORDS["sea"]))
        at_sea = bool(words & set(_WORDS["sea"]) - denied or denied & set(_WORDS["land"]))
        return on_land if kind == "land" else at_sea and not on_land


def _flags(mask: xr.DataArray) -> list[_Flag]:
    """Return what the numbers of a mask mean, by CF attributes, else by its long name or comment.

    Raises
    ------
    InputError
        It has ``flag_meanings``, and they tell neither sea nor land.
    """
    meanings = str(mask.attrs.get("flag_meanings", "")).strip().lower()
    if meanings:
        flags = _told(meanings) or _declared(meanings, mask.attrs)
        # MUR lists sums of bits beside the bits: a lake, 5, is 1 for water and 4 for a lake.
        single = _numbers(mask.attrs.get("flag_masks"))
        for i, flag in enumerate(flags):
            if flag.bits is None and flag.number in single:
                flags[i] = _Flag(flag.number, None, flag.meaning)
        if not any(flag.tells("sea") or flag.tells("land") for flag in flags):
            raise InputError(
                f"mask {str(mask.name)!r} flags neither sea nor land but "
                f"{mask.attrs['flag_meanings']!r}; give sea=... as 1 at sea, 0 on land"
            )
        return flags
    for key in ("long_name", "comment", "description"):
        flags = _told(str(mask.attrs.get(key, "")).lower())
        if _tell_both(flags):
            return flags
    return []


def _tell_both(flags: Sequence[_Flag]) -> bool:
    """Whether there is a flag for the sea, and one for land."""
    at_sea = any(flag.tells("sea") for flag in flags)
    return at_sea and any(flag.tells("land") for flag in flags)


def _told(text: str) -> list[_Flag]:
    """Read meanings with their numbers: ``0=land, 1=sea``, ``land: 0; sea: 1``, ``b0: sea``."""
    bits = re.findall(r"\bb(?:it)?\s*(\d+)\s*[=:]\s*([^\d,;|]+)", text)
    if bits:
        # 63 bits fit a signed integer
        return [_Flag(1 << int(bit), None, meaning) for bit, meaning in bits if int(bit) < 63]
    pairs = re.findall(r"(?<![\w.])(\d+)b?\s*(?:=|:|is|for)\s*([^\d,;|]+)", text)
    if not pairs:
        words = re.findall(r"([a-z][a-z _-]*?)\s*[=:]\s*(\d+)(?![\w.])", text)
        pairs = [(number, meaning) for meaning, number in words]
    return [_Flag(None, int(number), meaning) for number, meaning in pairs]


def _declared(meanings: str, attrs: Mapping[Hashable, Any]) -> list[_Flag]:
    """Pair CF ``flag_meanings`` with ``flag_masks``, ``flag_values`` or both."""
    words = meanings.split()
    # Not by CF, but found: a list with commas, whose entries hold blanks.
    if re.search("[,;]", meanings):
        words = [word.strip() for word in re.split("[,;]", meanings)]
    bits, numbers = _numbers(attrs.get("flag_masks")), _numbers(attrs.get("flag_values"))
    if not bits and not numbers:
        return []
    if bits and numbers:
        # masks in which their numbers do not fit are wrong, and the numbers tell alone
        fit = [number & ~bit == 0 for bit, number in zip(bits, numbers, strict=False)]
        if len(bits) != len(numbers) or not all(fit):
            bits = []
    unknown = [None] * len(words)
    # lists of other lengths are found: what has no partner means nothing
    told = zip(bits or unknown, numbers or unknown, words, strict=False)
    return [_Flag(bit, number, word) for bit, number, word in told]


def _numbers(declared: Any) -> list[int]:
    """Return whole numbers, also from text such as ``1b, 2b, 4b``."""
    if declared is None:
        return []
    if isinstance(declared, str):
        return list(map(int, re.findall(r"-?\d+", declared)))
    numbers: list[int] = np.ravel(np.asarray(declared)).astype(np.int64).tolist()
    return numbers


def _flagged_sea(mask: xr.DataArray, flags: Sequence[_Flag], lakes: bool | None) -> xr.DataArray:
    """Read a mask with flags as True at sea."""
    values = mask.fillna(0).astype(np.int64)
    nowhere = xr.zeros_like(values, dtype=bool)

    def flagged(kind: str) -> xr.DataArray | None:
        found = nowhere
        chosen = [flag for flag in flags if flag.tells(kind)]
        for flag in chosen:
            found = found | flag.holds(values)
        return found if chosen else None

    on_land, at_sea, on_lake = flagged("land"), flagged("sea"), flagged("lake")
    # a missing flag was read as 0, which may stand for the sea
    sea = mask.notnull()
    # flags for land alone: the sea is what is not land, and not missing
    if at_sea is not None:
        sea = sea & at_sea
    if on_land is not None:
        sea = sea & ~on_land
    if lakes is not None and on_lake is None:
        log.warning("mask %s flags no lakes; lakes=%s changes nothing", mask.name, lakes)
    elif lakes is not None and on_lake is not None:
        sea = sea | (on_lake & mask.notnull()) if lakes else sea & ~on_lake
    return sea.drop_attrs()


def _matched(mask: xr.DataArray, found: Axes, field: xr.DataArray) -> Any:
    """Values of `mask` at the cells of `field`, by coordinates if both are rectilinear.

    Else they are taken as they lie.
    """
    if not is_rectilinear(mask, found) or field.dims[-2:] != ("lat", "lon"):
        return mask.data
    rows = _nearest(field["lat"].values, mask[found.lat].values, 0.0)
    columns = _nearest(field["lon"].values, mask[found.lon].values, 360.0)
    if rows is None or columns is None:
        here = f"{_range(mask, found.lat)}, {_range(mask, found.lon)}"
        there = f"{_range(field, 'lat')}, {_range(field, 'lon')}"
        raise InputError(
            f"sea mask {mask.shape} over {here} does not cover the field {field.shape[-2:]} over "
            f"{there}; regrid it: sea.interp_like(field, method='nearest')"
        )
    return mask.isel({found.dims[0]: rows, found.dims[1]: columns}).data


def _range(da: xr.DataArray, name: Hashable) -> str:
    return f"{name} {float(da[name].min()):g}..{float(da[name].max()):g}"


def _nearest(wanted: np.ndarray, given: np.ndarray, period: float) -> np.ndarray | None:
    """Index into `given` of each of `wanted`; None if one is over a quarter of a cell away.

    A `period` of 0 is none.
    """
    wanted, given = wanted.astype(np.float64), given.astype(np.float64)
    if period:
        # -10 and 350 degrees are one longitude
        wanted, given = wanted % period, given % period
    order = np.argsort(given)
    above = np.searchsorted(given[order], wanted)
    # Both neighbours; past the last comes the first, which is right on a circle and harmless else.
    neighbours = order[np.stack([above - 1, above % given.size])]
    distance = np.abs(wanted - given[neighbours])
    if period:
        distance = np.minimum(distance, period - distance)
    cell = float(np.median(np.diff(given[order]))) if given.size > 1 else 1.0
    # farther, and a cell of the mask would stand for another than its own
    if distance.min(axis=0).max() > cell / 4:
        return None
    return neighbours[distance.argmin(axis=0), np.arange(wanted.size)]


def find_sea(ds: xr.Dataset, *, lakes: bool | None = None) -> xr.DataArray | None:
    """Find the sea mask of a dataset, True at sea; None if there is none.

    Masks are found by standard name (``sea_binary_mask``, ``land_area_fraction`` and the like),
    then by usual names (in ``land_sea_mask``, ``lsm`` and the like **1 is land**, as in ECMWF's; a
    land fraction of one half or more is land), then by CF flags that tell both land and sea.
    ``flag_meanings`` overrule the name, and so does a long name or comment such as "0=land, 1=sea".
    Masks that flag something else, or hold other numbers, are passed over with a note; so is a
    variable called no more than ``mask``, ``sea``, ``land`` or ``wet`` that flags nothing and
    varies in time. `lakes` as in `sea_mask`.

    >>> ds = xr.Dataset({"lsm": (("y", "x"), np.array([[0, 1]]))})
    >>> find_sea(ds).values.tolist()
    [[True, False]]
    """
    for mask, _ in _masks(ds, lakes):
        log.info("sea taken from %s of the data", mask.name)
        return mask
    return None


def _masks(ds: xr.Dataset, lakes: bool | None) -> Iterator[tuple[xr.DataArray, bool]]:
    """Yield the masks of a dataset, the best first, and whether 1 may be either land or sea."""
    ranks = []
    for names in _STANDARD_NAMES.values():
        ranks += [f"standard {name}" for name in names]
    ranks += [*_NAMES["sea"], *_NAMES["land"], "flags"]
    found = []
    for name, variable in ds.variables.items():
        if variable.ndim < 2:
            continue
        standard = f"standard {str(variable.attrs.get('standard_name', '')).lower()}"
        key = next((k for k in (standard, str(name).lower()) if k in ranks), None)
        if key is None and "flag_meanings" in variable.attrs:
            flags = _declared(str(variable.attrs["flag_meanings"]).lower(), variable.attrs)
            if _tell_both(flags):
                key = "flags"
        if key is not None:
            found.append((key, name))
    for key, name in sorted(found, key=lambda mask: ranks.index(mask[0])):
        role = key.removeprefix("standard ")
        land = role in (*_NAMES["land"], *_STANDARD_NAMES["land"])
        words = set(re.split("[^a-z]+", _long_name(ds[name])))
        of_land, of_sea = words & set(_WORDS["land"]), words & set(_WORDS["sea"])
        land_by_words = role in _NAMES["vague"] and bool(of_land) and not of_sea
        land = land or land_by_words
        if trouble := _why_not_sea(ds[name], key):
            log.info("%s: not the sea, unless passed as sea=", trouble)
            continue
        try:
            told = ds[name].dtype != bool and bool(_flags(ds[name]))
            mask = _as_sea(ds[name], land=land, fraction=role in _NAMES["fraction"], lakes=lakes)
        except InputError as error:
            log.warning("%s is passed over, as it does not tell the sea: %s", name, error)
            continue
        yield mask, not told and (role in _NAMES["either"] or land_by_words)


def _why_not_sea(mask: xr.DataArray, key: str) -> str:
    """Return why a variable of such a name is no sea mask; empty if it may be one."""
    if mask.dtype.kind not in "biuf":
        return f"{mask.name} holds {mask.dtype}"
    told = bool(str(mask.attrs.get("flag_meanings", "")).strip())
    if key in _NAMES["vague"] and not told:
        if _varies(mask):
            return f"{mask.name} varies in time and flags nothing"
        if set(re.split("[^a-z]+", _long_name(mask))) & set(_WORDS["other"]):
            return f"{mask.name} is by its long name {mask.attrs['long_name']!r}"
        if key == "mask" and not bool((mask.fillna(0) != 0).any()):
            return "mask is 0 everywhere"
    if key == "flags" and _varies(mask):
        return f"{mask.name} varies in time"
    return ""


def _long_name(mask: xr.DataArray) -> str:
    return str(mask.attrs.get("long_name", "")).lower()


def _varies(mask: xr.DataArray) -> bool:
    """Whether a mask differs along any but its two spatial dims."""
    if mask.ndim < 3 or not mask.size:
        return False
    first = {d: 0 for d in mask.dims if d not in axes(mask, time=False).dims}
    values = mask.fillna(0)
    return bool((values != values.isel(first, drop=True)).any())
