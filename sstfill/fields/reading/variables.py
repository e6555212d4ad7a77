# SPDX-License-Identifier: Apache-2.0
"""Which variables of a dataset are fields to fill."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import xarray as xr

from sstfill.errors import InputError, OptionError, unknown
from sstfill.fields import tables
from sstfill.fields.grid import axes, sizes, temperature_unit

log = logging.getLogger(__name__)
T = TypeVar("T")


class _Words(NamedTuple):
    """One table of ``variables.toml``."""

    words: frozenset[str]
    phrases: tuple[str, ...]

    def describe(self, called: str, title: str = "") -> bool:
        """Whether a word stands in what a variable is called, or a phrase there or in its title."""
        # whole words: "mask" is in "sea_mask", and not in "masked_sst"
        if self.words & set(re.split(r"[^a-z]+", called.lower())):
            return True
        spelled = "_".join(f"{called} {title}".lower().split())
        return any(phrase in spelled for phrase in self.phrases)


@cache
def _table(name: str) -> _Words:
    """Read a table of the words by which variables are known."""
    table = tables.load("variables")[name]
    return _Words(frozenset(table["words"]), tuple(table["phrases"]))


def _called(name: Hashable, da: xr.DataArray) -> str:
    return f"{name} {da.attrs.get('standard_name', '')}"


def is_ancillary(name: Hashable, da: xr.DataArray) -> bool:
    """Whether a variable goes with another one: a mask, flag, error or the like."""
    if {"flag_meanings", "flag_values", "flag_masks"} & set(da.attrs):
        return True
    return _table("ancillary").describe(_called(name, da))


def missing_means_none(name: Hashable, da: xr.DataArray) -> bool:
    """Whether a gap in a variable may stand for none of it: sea ice, snow, fire, rain.

    >>> missing_means_none("ice", xr.DataArray(0.0, attrs={"long_name": "Sea ice concentration"}))
    True
    """
    if temperature_unit(str(da.attrs.get("units", ""))):  # of ice or snow, which is there or not
        return False
    return _table("missing_means_none").describe(
        _called(name, da), str(da.attrs.get("long_name", ""))
    )


def _trouble(da: xr.DataArray) -> str | None:
    try:
        axes(da)
    except InputError as error:
        return str(error)
    return None


def named_by_text(ds: xr.Dataset) -> xr.Dataset:
    """Name by text the variables that numbers name, as `to_dataset(dim=...)` may do.

    Raises
    ------
    InputError
        Two variables would have one name, such as 1 and "1".
    """
    texts = {name: str(name) for name in ds.data_vars if not isinstance(name, str)}
    for name, text in texts.items():
        if text in ds.variables:
            raise InputError(
                f"the dataset holds {name!r} and {text!r}, which are one name in a file; rename "
                f"one: ds.rename({{{name!r}: 'other'}})"
            )
    return ds.rename(texts) if texts else ds


def named_as(ds: xr.Dataset, data: xr.Dataset | xr.DataArray) -> xr.Dataset:
    """Undo `named_by_text`: give the variables of `ds` the names that they have in `data`."""
    if isinstance(data, xr.DataArray):
        return ds
    numbers = {str(name): name for name in data.data_vars if not isinstance(name, str)}
    return ds.rename(numbers) if numbers else ds


def find_fields(ds: xr.Dataset) -> list[str]:
    """Names of the fields to fill: floating, on time and two spatial dims, not ancillary.

    >>> ds = xr.Dataset({"sst": (("time", "y", "x"), [[[280.0]]])})
    >>> find_fields(ds.assign(sst_error=ds.sst))
    ['sst']
    """
    linked: set[str] = set()
    for variable in ds.variables.values():
        for link in ("ancillary_variables", "bounds"):
            # what another variable names as its own by CF is no field, whatever it is called
            linked.update(names_in(str(variable.attrs.get(link, "")), ds))
    found = []
    for name, da in ds.data_vars.items():
        if da.dtype.kind != "f" or name in linked or is_ancillary(name, da):
            continue
        if _trouble(da) is None:
            found.append(str(name))
    return found


def names_in(text: str, ds: xr.Dataset) -> list[str]:
    """Names in an attribute such as ``ancillary_variables``, which blanks separate.

    Names of the dataset are known also where they have blanks themselves.

    >>> ds = xr.Dataset({"sst": 1.0, "sst error": 0.1})
    >>> names_in("sst error sst_flag", ds)
    ['sst error', 'sst_flag']
    """
    blank = [re.escape(name) for name in map(str, ds.variables) if " " in name]
    # "sst error flag" must not be read as "sst error" and "flag"
    longest_first = sorted(blank, key=len, reverse=True)
    return re.findall(
        "|".join([rf"(?<!\S)(?:{name})(?!\S)" for name in longest_first] + [r"\S+"]), text
    )


def pick_fields(ds: xr.Dataset, variables: str | Sequence[str] | None = None) -> list[str]:
    """Names to fill: those given, or every field that `find_fields` finds.

    Left to choose, fields whose gaps may stand for none (`missing_means_none`) are passed over,
    unless there is nothing else to fill.

    Raises
    ------
    OptionError
        A name that is not in the dataset, or an empty list.
    InputError
        Nothing given, and no candidate.
    """
    if variables is not None:
        given = [variables] if isinstance(variables, str | int) else variables
        names = list(dict.fromkeys(map(str, given)))
        if not names:
            raise OptionError(
                "variables=[] names nothing to fill; leave it out to fill every field"
            )
        for name in names:
            if name not in ds.data_vars:
                raise unknown("variable", name, find_fields(ds) or map(str, ds.data_vars))
        return names
    if found := find_fields(ds):
        return _with_true_gaps(ds, found)
    variables_held = [f"{n} {da.dtype}{sizes(da)}" for n, da in ds.data_vars.items()]
    held = ", ".join(variables_held) or "no variables"
    reason = "a field needs floating values on time and two spatial dims"
    for key, da in ds.data_vars.items():
        if da.dtype.kind == "f" and not is_ancillary(key, da) and (trouble := _trouble(da)):
            reason = trouble
            break
    raise InputError(f"nothing to fill: the dataset holds {held}; {reason}")


def _with_true_gaps(ds: xr.Dataset, found: list[str]) -> list[str]:
    """Leave out the fields in which missing may mean none; all are kept if there are no others."""
    doubtful = [name for name in found if missing_means_none(name, ds[name])]
    if not doubtful:
        return found
    kept = [name for name in found if name not in doubtful]
    listed = ", ".join(doubtful)
    if kept:
        log.warning("%s: left alone, because missing may mean none; name it to fill it", listed)
        return kept
    log.warning(
        "%s: filled everywhere, though missing may mean none; set it to 0 where there is none",
        listed,
    )
    return found


def without_trouble(names: Sequence[str], check: Callable[[str], T]) -> dict[str, T]:
    """Check each variable, and pass over those that cannot be filled if others can be.

    Returns what `check` returned of the others, by name.

    Raises
    ------
    InputError
        That of the first variable, if none can be filled.
    """
    found, troubles = {}, {}
    for name in names:
        try:
            found[name] = check(name)
        except InputError as error:
            troubles[name] = error
    if not found:
        raise troubles[names[0]]
    for name, trouble in troubles.items():
        log.warning("%s is left as it is: %s", name, trouble)
    return found


def pick_field(ds: xr.Dataset, variable: str | None = None) -> str:
    """Name of the one field to work on; `InputError` lists them where there are several."""
    names = pick_fields(ds, variable)
    if len(names) > 1:
        raise InputError(
            f"the dataset holds {len(names)} fields, {', '.join(names)}; "
            f"name one: variable={names[0]!r}"
        )
    return names[0]
