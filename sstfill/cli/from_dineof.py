# SPDX-License-Identifier: Apache-2.0
"""``sstfill from-dineof``: the command that does what an init file of DINEOF asks for."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from sstfill.cli.options import flag
from sstfill.errors import OptionError, ReadError
from sstfill.fields import tables
from sstfill.io.dineof_init import REMEDY, InitEntry, read_init
from sstfill.io.untrusted.documents import short
from sstfill.io.write import SUFFIXES
from sstfill.methods import Dineof
from sstfill.printable import printable

WIDTH = 98
"""Characters of a line of the command, before the backslash that continues it."""
NUMBERS: dict[str, tuple[str, type]] = {
    "nev": ("max_modes", int),
    "alpha": ("alpha", float),
    "numit": ("filter_iterations", int),
    "toliter": ("tolerance", float),
    "nitemax": ("max_iterations", int),
    "seed": ("seed", int),
}
"""Keys of DINEOF that are options of `sstfill.methods.Dineof`."""
LANCZOS = "is ignored: sstfill computes eigenvalues to rounding error, not by Lanczos iterations"
UNUSED = "is ignored: only a program that is no longer built with DINEOF reads it"
MODES = "is ignored: the modes have names of sstfill's own"
WITHOUT_EFFECT = {
    "ncv": LANCZOS,
    "tol": LANCZOS,
    "number_cv_points": UNUSED,
    "cloud_size": UNUSED,
    "cloud_mask": UNUSED,
    "EOF.U": MODES,
    "EOF.V": MODES,
    "EOF.Sigma": MODES,
    "Output": "is ignored: the number of modes and the error of the cross-validation are in the "
    "attribute sstfill_method of the output",
}
"""Keys of DINEOF that have no option, and why."""
HANDLED = ("data", "mask", "time", "neini", "rec", "eof", "norm", "results", "clouds")
LAST = 10**6
"""Sorts a note that is about no line behind all lines."""
KEYS = (*NUMBERS, *WITHOUT_EFFECT, *HANDLED)


def add_from_dineof(parser: argparse.ArgumentParser) -> None:
    """Give a parser the argument of ``sstfill from-dineof``."""
    parser.add_argument("init", metavar="INIT", help="init file of DINEOF, such as dineof.init")


def run_from_dineof(args: argparse.Namespace) -> Iterator[str]:
    """Print the command, and as comments of the shell what it does otherwise."""
    found = Translation(args.init, read_init(args.init))
    # All of it before the first line: an error must not leave half a command on the screen.
    found.translate()
    yield wrapped(found.words)
    yield "\n".join(printable(f"# {note}") for note in found.notes)


class DineofField(NamedTuple):
    """A field as DINEOF names it: a file and, for NetCDF, the variable in it."""

    path: str
    variable: str

    @classmethod
    def named(cls, text: str) -> DineofField:
        """Read ``file.nc#variable``; without ``#`` it is a binary file of one array.

        >>> DineofField.named("sst.nc#SST"), DineofField.named("sst.gher").variable
        (DineofField(path='sst.nc', variable='SST'), '')
        """
        path, _, variable = text.partition("#")
        return cls(path, variable)


class Translation:
    """Words of a command, and notes on what it does otherwise, from the entries of an init file."""

    def __init__(self, name: str, entries: dict[str, InitEntry]) -> None:
        self.name = name
        self.entries = entries
        self.words = ["sstfill", "fill"]
        self._notes: list[tuple[int, str]] = []

    def translate(self) -> None:
        """Go through what the keys of DINEOF ask for, in the order of the command's options.

        Raises
        ------
        ReadError
            There is no ``data``, or a value is not of the kind that its key takes.
        OptionError
            A number lies outside the range of its option.
        """
        if not self._items("data"):
            raise ReadError(f"{self.name} has no line data = ['FILE#VARIABLE']; {REMEDY}")
        self._data()
        self._mask()
        # DINEOF knows no transform and no other method, so both are pinned.
        self.words += ["--transform", "none", "--method", "dineof", "--solver", "reference"]
        self._modes()
        for key, (option, kind) in NUMBERS.items():
            if key in self.entries and key != "nev":
                self._add_number(key, option, kind)
        self._filter()
        self._cross_validation()
        self._switches()
        for key in self.entries:
            if key in WITHOUT_EFFECT:
                self._note(key, WITHOUT_EFFECT[key])
            elif key not in KEYS:
                self._note(key, "is ignored: it is not a key of DINEOF, which passes over it, too")
        for key in NUMBERS:
            if key not in self.entries:
                default = getattr(Dineof(), NUMBERS[key][0])
                # DINEOF demands each of its keys, and has no defaults
                self._add_notes(f"{key} is missing: sstfill takes {default}")
        self._add_notes(
            "--solver reference takes the steps of DINEOF; without it the same result is found "
            "many times faster, to hundredths of a degree",
            "--transform none fills the values as they are; for a concentration leave it out, and "
            "sstfill fills logarithms",
            "without --method and its options sstfill takes the method that does best on withheld "
            "clouds of this series",
        )

    def _data(self) -> None:
        """Name input, output and variables."""
        fields = [DineofField.named(text) for text in self._items("data")]
        first = fields[0]
        # Each file once, in the order in which they are named.
        paths = list(dict.fromkeys(field.path for field in fields))
        source = first.path
        if not all(field.variable for field in fields):
            source = str(PurePosixPath(first.path).with_suffix(".nc"))
            self._note(
                "data", f"is binary: write all of it in one NetCDF file with dates, here {source}"
            )
        elif len(paths) > 1:
            source = "merged.nc"
            self._note(
                "data",
                "names several files: sstfill fills variables of one file together; "
                f"merge them, here into {source}: xarray.open_mfdataset, or cdo merge",
            )
        self.words += [_file(source), "--out", _file(self._output(source))]
        variables = []
        for field in fields:
            # DINEOF reads a part of an array by "file#variable(:,:,1)"
            variable, bracket, part = field.variable.partition("(")
            if bracket:
                self._note(
                    "data",
                    f"takes ({part} of {variable}: sstfill fills all of it; cut it out first: "
                    "xarray's .isel, or ncks -d",
                )
            if variable:
                variables.append(variable)
        if variables:
            self.words += ["--variable", ",".join(dict.fromkeys(variables))]
        if len(fields) > 1:
            self.words.append("--together")

    def _output(self, source: str) -> str:
        """Name the output: the first of ``results``, in a format that sstfill writes."""
        results = [DineofField.named(text) for text in self._items("results")]
        target = PurePosixPath("filled.nc")
        if results:
            target = PurePosixPath(results[0].path)
        else:
            self._add_notes(f"results is missing: sstfill writes {target}")
        if target.suffix.lower() not in SUFFIXES:
            target = target.with_suffix(".nc")
            self._note("results", f"is binary: sstfill writes NetCDF, here {target}")
        # DINEOF may overwrite its input
        if target == PurePosixPath(source):
            target = target.with_stem(f"{target.stem}_filled")
            self._note("results", f"is the input, which sstfill does not change: here {target}")
        if len({result.path for result in results}) > 1:
            self._note("results", f"names several files: sstfill writes one, here {target}")
        given = [DineofField.named(text).variable for text in self._items("data")]
        wanted = [result.variable for result in results]
        if any(wanted) and given != wanted:
            self._note("results", "filled variables keep the names that they have in the input")
        return str(target)

    def _mask(self) -> None:
        """Name the mask of the sea, or state what is done without one."""
        masks = list(dict.fromkeys(self._items("mask")))
        if not masks:
            self._add_notes(
                "mask is missing: DINEOF then takes all pixels as sea, and gives those that are "
                "never observed the mean of the series; sstfill leaves them empty"
            )
            return
        path, variable = DineofField.named(masks[0])
        if not variable:
            path = str(PurePosixPath(path).with_suffix(".nc"))
            self._note("mask", f"is binary: write it as NetCDF, here {path}")
        self.words += ["--sea", _file(":".join(filter(None, (path, variable))))]
        if len(masks) > 1:
            self._note("mask", f"names several masks: sstfill takes one, here {masks[0]}")
        # DINEOF takes 1 as sea whatever the name; sstfill goes by it.
        if variable.lower() in tables.load("masks")["names"]["land"]:
            self._note(
                "mask", f"sstfill takes 1 as land in a variable called {variable}; rename it"
            )

    def _modes(self) -> None:
        """Choose the number of modes among 1 to ``nev``, or fix it where the two limits are one."""
        least = 1
        if "neini" in self.entries:
            least = int(self._number("neini", int))
        if "nev" not in self.entries:
            return
        most = self._number("nev", int)
        # DINEOF tries the numbers of modes from neini to nev: the same means a fixed one
        if least == most:
            self._add_number("nev", "modes", int)
            return
        self._add_number("nev", "max_modes", int)
        if least > 1:
            self._note("neini", "has no option: sstfill tries 1, 2, 3, ... modes")

    def _filter(self) -> None:
        """State where the dates come from, and in which units the filter is."""
        # Without a filter DINEOF has no use for times.
        if "alpha" not in self.entries or self._number("alpha", float) == 0:
            return
        if "time" in self.entries:
            self._note(
                "time",
                "has no option: sstfill takes the dates of the data, and alpha in days squared; "
                "where these numbers are not days, scale alpha",
            )

    def _cross_validation(self) -> None:
        """Withhold clouds where the user gave some, else single points."""
        if "clouds" in self.entries:
            self.words += ["--cross-validation", "clouds"]
            self._note("clouds", "is ignored: sstfill transplants clouds of other dates itself")
            return
        self.words += ["--cross-validation", "random"]
        self._add_notes(
            "--cross-validation random withholds single points as DINEOF does, though not the same "
            "ones; clouds, the default of sstfill, chooses better"
        )

    def _switches(self) -> None:
        """Translate the keys that are 0 or 1."""
        if self._is_on("norm"):
            self.words.append("--normalise")
        if self._is_on("eof"):
            self.words.append("--return-modes")
            self._note("eof", "the modes become variables of the output, with names of their own")
        if self._is_on("rec"):
            self._note(
                "rec",
                "has no option: sstfill keeps observed values as they are, as rec = 0 does; the "
                "sum of the modes that --return-modes writes, plus the mean, is the smooth field",
            )

    def _is_on(self, key: str) -> bool:
        """Whether a key that takes 0 or 1 is 1."""
        return key in self.entries and self._number(key, int) == 1

    def _add_number(self, key: str, option: str, kind: type) -> None:
        """Add an option, checked as `sstfill fill` would check it."""
        value = self._number(key, kind)
        options: dict[str, Any] = {option: value}
        try:
            # Only built to have the value checked.
            Dineof(**options)
        except OptionError as error:
            raise OptionError(f"{self.name}, {self._line(key)}: {error}") from error
        self.words += [flag(option), repr(value)]

    def _number(self, key: str, kind: type) -> float:
        """Read a number as Fortran does, which writes exponents of double precision with a d."""
        items = self.entries[key].items
        try:
            # A list of several is no number; unpacking raises a ValueError, as conversion does.
            (text,) = items
            return kind(text.lower().replace("d", "e"))
        except ValueError as error:
            what = "a whole number" if kind is int else "a number"
            raise ReadError(f"{self.name}, {self._line(key)} is not {what}; correct it") from error

    def _items(self, key: str) -> tuple[str, ...]:
        """Items of a key that names files; none where it is missing."""
        if key not in self.entries:
            return ()
        return tuple(item for item in self.entries[key].items if item)

    @property
    def notes(self) -> list[str]:
        """What the command does otherwise, first by line of the init file."""
        return [text for _, text in sorted(self._notes, key=lambda note: note[0])]

    def _note(self, key: str, text: str) -> None:
        """Note something about a line."""
        self._notes.append((self.entries[key].line, f"{self._line(key)}: {text}"))

    def _add_notes(self, *texts: str) -> None:
        """Note what is about no line."""
        self._notes += [(LAST, text) for text in texts]

    def _line(self, key: str) -> str:
        """Quote the line of a key.

        >>> Translation("dineof.init", {"nev": InitEntry(3, "5", ("5",))})._line("nev")
        'line 3: nev = 5'
        """
        entry = self.entries[key]
        value = entry.text if len(entry.text) < 60 else short(entry.text)
        return f"line {entry.line}: {key} = {value}"


def _file(name: str) -> str:
    """Return the name of a file that no parser takes for an option."""
    return f"./{name}" if name.startswith("-") else name


def wrapped(words: list[str]) -> str:
    r"""Quote the words of a command for a shell, in lines that end before an option.

    >>> print(wrapped(["sstfill", "fill", "a b.nc", "--out", "c.nc"]))
    sstfill fill 'a b.nc' --out c.nc
    """
    # A line breaks before an option only, so that its value stays on its line.
    parts: list[str] = []
    for word in words:
        if word.startswith("--") or not parts:
            parts.append(shlex.quote(word))
        else:
            parts[-1] += f" {shlex.quote(word)}"
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) < WIDTH:
            lines[-1] += f" {part}"
        else:
            lines.append(f"    {part}")
    return " \\\n".join(lines)
