# SPDX-License-Identifier: Apache-2.0
"""The files of a command: the series and sea mask that it reads, the output that it may write."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask.threaded
import xarray as xr

from sstfill import io
from sstfill.errors import InputError, OptionError, unknown
from sstfill.fields import grid
from sstfill.fields.reading.account import MissingValues
from sstfill.fields.reading.sea import find_sea
from sstfill.fields.reading.variables import find_fields
from sstfill.fields.transform import ASKED
from sstfill.io.output import place
from sstfill.io.untrusted.declared import check_memory
from sstfill.io.write import SUFFIXES

LARGE = 50e6  # bytes; a larger series is read block by block
BLOCK = 16e6  # bytes of one variable in a block of images


def add_input(parser: argparse.ArgumentParser, *, unless: str | None = None) -> None:
    """Give a parser the options of the input, which may be left out in the case `unless`."""
    text = (
        "NetCDF file or Zarr store; several files, such as one a day, are read as one series, "
        "see import-granules"
    )
    if unless is None:
        parser.add_argument("inputs", metavar="INPUT", nargs="+", help=text)
    else:
        parser.add_argument("inputs", metavar="INPUT", nargs="*", help=f"{text}; not {unless}")
    group = parser.add_argument_group("input")
    group.add_argument(
        "--quality-level",
        type=int,
        metavar="N",
        help="lowest GHRSST quality to keep, 0 to 5 (best)",
    )
    group.add_argument(
        "--l2p-flags", metavar="A,B", help="GHRSST flags that make a pixel a gap, such as ice,lake"
    )
    group.add_argument(
        "--sea",
        metavar="FILE[:VAR]",
        help="sea mask, 1 at sea and 0 on land (the reverse if its name is lsm or similar); by "
        "default one in the input, else all pixels that are ever observed and, with "
        "sstfill[landmask], the sea by a land mask",
    )
    group.add_argument(
        "--time-chunk",
        type=int,
        metavar="N",
        help="read N images at a time; by default a series above "
        f"{LARGE / 1e6:.0f} MB is read in blocks, a smaller one whole",
    )
    group.add_argument(
        "--group",
        metavar="NAME",
        help="the group of a NetCDF file or Zarr store to read; by default the root, or the one "
        "group that holds fields",
    )
    add_links(group)


def add_lakes(parser: argparse.ArgumentParser) -> None:
    """Give a parser the option that tells what lakes are."""
    parser.add_argument(
        "--lakes",
        action=argparse.BooleanOptionalAction,
        help="fill lakes, or take them as land; by default as the mask has it",
    )


def add_links(parser: argparse._ActionsContainer) -> None:
    """Give a parser the option that lets an input refer to other files."""
    parser.add_argument(
        "--allow-links",
        action="store_true",
        help="follow links in the input to other files of this machine; only for files from "
        "somebody you trust",
    )


def add_variables(parser: argparse.ArgumentParser) -> None:
    """Give a parser the option that names variables; `names` reads it."""
    parser.add_argument(
        "--variable",
        action="append",
        metavar="V",
        help="a variable, or several with commas between; may be repeated; by default each one "
        "that can be filled",
    )


def add_transform(parser: argparse.ArgumentParser) -> None:
    """Give a parser the option of the space that is filled in."""
    parser.add_argument(
        "--transform",
        choices=ASKED,
        default="auto",
        help="fill decimal logarithms (concentrations), logits (fractions) or the values as they "
        "are; by default auto, by standard_name, names and units",
    )


def names(given: str | list[str] | None) -> list[str] | None:
    """Split names at commas; None where none are given.

    >>> names(["sst,chlorophyll", "salinity"])
    ['sst', 'chlorophyll', 'salinity']
    """
    if given is None:
        return None
    words = ",".join([given] if isinstance(given, str) else given).split(",")
    return [word.strip() for word in words if word.strip()]


@contextlib.contextmanager
def series(
    args: argparse.Namespace, *, large: float = LARGE, block_bytes: float = BLOCK
) -> Iterator[xr.Dataset]:
    """Open the input; damage found only while lazy values are read is a `ReadError`, too.

    Several inputs are imported into a store for the time being. A series of more than `large` bytes
    is read lazily, in blocks of about `block_bytes`.
    """
    path = args.inputs[0]
    with contextlib.ExitStack() as stack:
        if len(args.inputs) > 1:
            path = stack.enter_context(_imported(args))
        yield stack.enter_context(_opened(path, args, large, block_bytes))


@contextlib.contextmanager
def _imported(args: argparse.Namespace) -> Iterator[str]:
    """Import several inputs into a store that is removed in the end."""
    from sstfill.sources.granules.granules import import_granules

    if args.group is not None:
        raise OptionError(
            f"--group {args.group} reads one input, and {len(args.inputs)} are given; fill them "
            "one by one"
        )
    with tempfile.TemporaryDirectory(prefix="sstfill-") as folder:
        store = str(Path(folder, "series.zarr"))
        # no empty steps: a day that is missing would be filled as an image of the series
        import_granules(args.inputs, store, step="none").close()
        yield store


@contextlib.contextmanager
def _opened(
    path: str, args: argparse.Namespace, large: float, block_bytes: float
) -> Iterator[xr.Dataset]:
    how: dict[str, Any] = {
        "quality_level": args.quality_level,
        "l2p_flags": names(args.l2p_flags),
        "group": args.group,
        "allow_links": args.allow_links,
    }
    if args.time_chunk is not None and args.time_chunk < 1:
        raise OptionError(
            f"--time-chunk {args.time_chunk} is less than 1; "
            "give the number of images to read at a time"
        )
    with computing_in_threads(), io.reading(path), io.open(path, chunks={}, **how) as stored:
        if args.time_chunk is None and stored.nbytes <= large:
            yield stored.load()
            return
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="The specified chunks separate the stored chunks"
            )  # as asked for
            sizes = blocks(stored, args.time_chunk, block_bytes=block_bytes)
            chunked = io.open(path, chunks=sizes, **how)
        with chunked:
            yield chunked


@contextlib.contextmanager
def computing_in_threads() -> Iterator[None]:
    """Have dask compute in threads unless somebody chose; else it imports distributed, which takes
    0.3 s, to look for a client.
    """
    if "distributed" in sys.modules or dask.config.get("scheduler", None):
        yield
        return
    # not by its name, for which dask looks for a client as well
    with dask.config.set(scheduler=dask.threaded.get):
        yield


def account(args: argparse.Namespace, ds: xr.Dataset | None = None) -> dict[str, MissingValues]:
    """Count the missing values of the input by rule, and warn of those that nobody declared.

    Several inputs were imported into the store that `ds` was opened from.
    """
    path = args.inputs[0]
    if ds is not None and len(args.inputs) > 1:
        path = ds.encoding["source"]
    found = io.missing_values(
        path,
        variables=names(args.variable),
        quality_level=args.quality_level,
        l2p_flags=names(args.l2p_flags),
        group=args.group,
        allow_links=args.allow_links,
    )
    for missing in found.values():
        missing.warn()
    return found


def blocks(
    ds: xr.Dataset, images: int | None = None, *, block_bytes: float = BLOCK
) -> dict[str, int]:
    """Sizes of blocks along time: `images`, or about `block_bytes` in whole stored chunks.

    The other dimensions stay as stored.
    """
    fields = find_fields(ds)
    if not fields:
        return {}
    da = max((ds[name] for name in fields), key=lambda da: da.nbytes)
    time, length = grid.axes(da).dims[0], da.sizes[grid.axes(da).dims[0]]
    stored = da.encoding.get("preferred_chunks", {})
    unit = min(length, stored.get(time, 1))
    if images is not None:
        return {str(time): images}
    if unit == length and any(stored[d] < n for d, n in da.sizes.items() if d in stored):
        # stored as long series of few pixels: to read it image by image would read it all each time
        return {}
    # whole stored chunks: half of one would be decompressed as a whole, too
    wanted = block_bytes * length / da.nbytes
    return {str(time): max(1, round(wanted / unit)) * unit}


def sea(text: str | None, lakes: bool | None = None) -> xr.DataArray | None:
    """Read the sea mask that ``FILE`` or ``FILE:VAR`` names."""
    if text is None:
        return None
    path, variable = text, ""
    # a file may have a colon in its name, and a path of Windows has one
    if not Path(text).exists() and ":" in text[1:]:
        path, _, variable = text.rpartition(":")
    with io.reading(path), io.open(path) as ds:
        if variable:
            if variable not in ds.variables:
                raise unknown("variable", variable, map(str, ds.data_vars))
            ds = ds[[variable]]
        found = find_sea(ds, lakes=lakes)  # knows by the name whether 1 is land
        if found is None and len(ds.data_vars) == 1:
            found = next(iter(ds.data_vars.values()))
        if found is None:
            raise InputError(f"no sea mask found in {path}; name its variable: --sea {path}:NAME")
        check_memory(Path(path), "the sea mask", found.nbytes)
        return found.load()


def check_output(path: str, sources: Sequence[str] = (), *, claimed: bool = False) -> None:
    """Refuse before the work what `sstfill.io.write` would refuse after it.

    With `claimed`, `sstfill.io.claimed` or an archive job looks next at what lies there.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise OptionError(
            f"cannot tell a format from {target.name!r}; end it with {', '.join(SUFFIXES)}"
        )
    place.check_parent(path)
    for source in sources:
        place.check_apart(path, source)
    if not claimed:
        place.check_replaceable(path)


PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg")
FILMS = (".gif", ".mp4")


def is_film(path: str) -> bool:
    """Whether a name ends as that of a film, not of a picture."""
    return Path(path).suffix.lower() in FILMS


def check_picture(
    path: str | None, sources: Sequence[str] = (), formats: Sequence[str] = PICTURES
) -> None:
    """Refuse before the work a picture that could not be saved after it."""
    if path is not None:
        place.check_parent(path)
        # looked for, not imported: that takes seconds, which an error should not wait for
        absent = [name for name in ("matplotlib", "cartopy") if find_spec(name) is None]
        if absent:
            raise OptionError(
                f"a picture needs {' and '.join(absent)}; install them: pip install 'sstfill[plot]'"
            )
        suffix = Path(path).suffix.lower()
        if suffix not in formats:
            films = ", or with .gif or .mp4 for a film" if FILMS[0] in formats else ""
            raise OptionError(
                f"cannot write a picture as {suffix or path!r}; "
                f"end its name with .png, .pdf or .svg{films}"
            )
        place.check(path, sources)
