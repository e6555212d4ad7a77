# SPDX-License-Identifier: Apache-2.0
"""Mask pixels by the quality levels and flags of GHRSST products.

Source: GHRSST Data Specification (GDS) 2.0 revision 5, sections 8.2 and 8.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import xarray as xr

from sstfill.errors import InputError, OptionError, unknown

L2P_FLAGS = {"microwave": 1, "land": 2, "ice": 4, "lake": 8, "river": 16}


def quality_kept(ds: xr.Dataset, level: int) -> xr.DataArray:
    """Where the ``quality_level`` is known and `level` or better."""
    if isinstance(level, bool) or level not in range(6):
        raise OptionError(
            f"quality_level={level!r} is not a GHRSST quality; choose from 0 to 5 (5 is best)"
        )
    return _helper(ds, "quality_level") >= level


def flags_kept(ds: xr.Dataset, names: str | Sequence[str]) -> xr.DataArray:
    """Where none of the named ``l2p_flags`` is set."""
    flags = _helper(ds, "l2p_flags")
    bits = flag_bits(flags)
    raised = 0
    for name in [names] if isinstance(names, str) else names:
        if name not in bits:
            raise unknown("l2p flag", name, bits)
        raised |= bits[name]
    # decoding makes floats of flags that have a fill value, and floats have no bits
    return (flags.fillna(0).astype(np.int64) & raised) == 0


def flag_bits(flags: xr.DataArray) -> dict[str, int]:
    """Return the bit of each flag, by the variable's ``flag_meanings`` or the GHRSST standard."""
    meanings = str(flags.attrs.get("flag_meanings", "")).split()
    if not meanings:
        return dict(L2P_FLAGS)
    # without flag_masks the bits are in the order of their meanings
    masks = flags.attrs.get("flag_masks", [2**k for k in range(len(meanings))])
    if isinstance(masks, str):  # some products write "1b, 2b, 4b"
        masks = re.findall(r"-?\d+", masks)
    numbers = [int(n) for n in np.atleast_1d(masks)]
    return dict(zip(meanings, numbers, strict=False))


def _helper(ds: xr.Dataset, name: str) -> xr.DataArray:
    found = next((n for n in ds.variables if str(n).lower() == name), None)
    if found is None:
        raise InputError(
            f"{name} was asked for, but the dataset holds only "
            f"{', '.join(map(str, ds.data_vars))}; leave {name} out"
        )
    return ds[found]


def keep_where(ds: xr.Dataset, fields: Sequence[str], keep: xr.DataArray) -> xr.Dataset:
    """Mask `fields` wherever `keep` is False; attrs and encoding stay."""
    kept = {}
    for name in fields:
        da = ds[name]
        if not set(keep.dims) <= set(da.dims):
            raise InputError(
                f"{str(keep.name)!r} lies on {keep.dims}, {name!r} on {da.dims}; "
                "give them the same grid"
            )
        # `copy` keeps the encoding, which `where` drops, and the order of dimensions
        kept[name] = da.copy(deep=False, data=da.where(keep).transpose(*da.dims).data)
    return ds.assign(kept)
