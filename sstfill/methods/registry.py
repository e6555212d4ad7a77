# SPDX-License-Identifier: Apache-2.0
"""The methods by name: those of this package, of installed packages, and of `register`; and their
fit to archives.
"""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr

from sstfill.checks import check_number
from sstfill.errors import InputError, OptionError, unknown
from sstfill.methods.base import Archive, FittedMethod, Method, Simulates

log = logging.getLogger(__name__)
GROUP = "sstfill.methods"
"""Entry points of this group are methods of installed packages."""
MOST_MEMBERS = 10_000
"""Members that can be asked for; more would only exhaust memory."""

M = TypeVar("M", bound=type)


class Methods(MutableMapping[str, type[Any]]):
    """Method classes by name.

    Methods of installed packages join when a name is not found, or all names are asked for.
    """

    def __init__(self) -> None:
        self._classes: dict[str, type[Any]] = {}
        self._looked_up = False

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._classes:
            self._add_installed()
        return self._classes[name]

    def __setitem__(self, name: str, cls: type[Any]) -> None:
        self._classes[name] = cls

    def __delitem__(self, name: str) -> None:
        del self._classes[name]

    def __iter__(self) -> Iterator[str]:
        self._add_installed()
        # A list, for a method may be registered while a caller walks through.
        return iter(list(self._classes))

    def __len__(self) -> int:
        self._add_installed()
        return len(self._classes)

    def __repr__(self) -> str:
        return f"<methods: {', '.join(sorted(self))}>"

    def _add_installed(self) -> None:
        """Register the methods of installed packages, once; one that is broken costs a warning."""
        if self._looked_up:
            return
        self._looked_up = True  # first, for a package may look up methods while it is imported
        for entry in importlib.metadata.entry_points(group=GROUP):
            try:
                cls = entry.load()
                _check_method(cls)
                # A method of ours must not be replaced unnoticed.
                if self._classes.get(cls.name, cls) is not cls:
                    raise TypeError(f"there is another method named {cls.name!r}")
            except Exception as error:  # whatever another package does, sstfill must go on
                log.warning(
                    "the method %s = %s of an installed package is left out: %s: %s",
                    *(entry.name, entry.value, type(error).__name__, error),
                )
                continue
            self._classes[cls.name] = cls


def _check_method(cls: Any) -> None:
    """Raise `TypeError` unless a class has what a method must have."""
    needed = ("name", "multivariate", "min_times", "reconstruct", "__dataclass_fields__")
    missing = [name for name in needed if not hasattr(cls, name)]
    if not isinstance(cls, type) or missing:
        raise TypeError(f"it is not a method, a dataclass with {', '.join(needed[:-1])}")


METHODS = Methods()


def register(cls: M) -> M:
    """Class decorator: enter a method into `METHODS` under its `name`."""
    METHODS[cls.name] = cls  # type: ignore[attr-defined]
    return cls


def method_class(name: str) -> type[Any]:
    """Return the method class registered as `name`; `OptionError` lists the choices."""
    if name not in METHODS:
        raise unknown("method", name, sorted(METHODS))
    return METHODS[name]


def seeded(cls: type[Any], seed: int) -> Any:
    """Make a method with default options, and this seed where it takes one."""
    if "seed" in getattr(cls, "__dataclass_fields__", {}):
        return cls(seed=seed)
    return cls()


def check_members(method: Method, members: int) -> None:
    """Raise `OptionError` for a number of members that is none, or a method that cannot draw any.

    >>> from sstfill.methods import Climatology
    >>> check_members(Climatology(), 20)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    sstfill.errors.OptionError: members=20: climatology cannot draw members; ...
    """
    check_number("members", members, 0, MOST_MEMBERS, whole=True)
    if not members or isinstance(method, Simulates):
        return
    able = [name for name, cls in METHODS.items() if hasattr(cls, "simulate")]
    raise OptionError(
        f"members={members}: {method.name} cannot draw members; methods that can: "
        f"{', '.join(sorted(able))}"
    )


def affordable(obs: xr.DataArray) -> list[str]:
    """Names of the methods that accept so few images and whose cost is bearable for so many values.

    A costly method states as `largest` the number of values beyond which it runs only if named.
    """
    names = []
    for name, cls in METHODS.items():
        # What is entered by `register` alone is not checked for either number.
        enough = obs.sizes["time"] >= getattr(cls, "min_times", 1)
        if enough and obs.size <= getattr(cls, "largest", obs.size):
            names.append(name)
    return names


def fit(method: Method, archive: Archive, folder: Path) -> FittedMethod:
    """Fit a method to an archive larger than memory, and save it.

    Parameters
    ----------
    method
        One without a ``fit`` of its own is asked about each window as about a series of its own.
    archive
        See `sstfill.methods.common.sampling.gather`.
    folder
        New or empty; it is created.

    Raises
    ------
    InputError
        If the archive has too few images, or the method cannot be fitted to it.

    Examples
    --------
    >>> import tempfile
    >>> import sstfill.synthetic
    >>> from sstfill.methods import Interpolate
    >>> from sstfill.methods.common.sampling import gather
    >>> ocean = sstfill.synthetic.ocean(shape=(8, 16, 16), seed=1)
    >>> archive = gather(ocean.sst, ocean.sea.astype(bool))
    >>> fitted = fit(Interpolate(), archive, Path(tempfile.mkdtemp()) / "model")
    >>> fitted.estimate(archive.trials[0])["mean"].shape
    (8, 16, 16)
    """
    # What is entered by `register` alone is not checked for it.
    times, least = archive.obs.sizes["time"], getattr(method, "min_times", 1)
    if times < least:
        raise InputError(
            f"{method.name} needs at least {least} time steps, the archive has {times}; "
            "use method 'interpolate'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    found: FittedMethod
    if hasattr(method, "fit"):
        found = method.fit(archive, folder)
    else:
        from sstfill.methods.common.fitted_windowed import FittedWindowed

        found = FittedWindowed(method)
        found.save(folder)
    return found


def fit_part(method: Method, archive: Archive, folder: Path) -> FittedMethod:
    """Fit a method that is part of another, in a folder of its name below that of the other.

    An earlier fit is removed: another method is tried by a fit without the withheld pixels, and
    fitted again once it is chosen.
    """
    own = folder / method.name
    shutil.rmtree(own, ignore_errors=True)
    # The name of a method is one folder, see `sstfill.methods.common.fitted_schema.Name`.
    own.mkdir(parents=True)
    return fit(method, archive, own)


def load(folder: Path) -> FittedMethod:
    """Read what `fit` or `FittedMethod.save` wrote.

    Raises
    ------
    ReadError
        If the folder holds no fitted method, or a damaged one.
    OptionError
        If its method is not registered here.
    """
    from sstfill.methods.common.fitted_store import saved_method
    from sstfill.methods.common.fitted_windowed import FittedWindowed

    cls = method_class(saved_method(folder))
    found: FittedMethod = (
        cls.load(folder) if hasattr(cls, "load") else FittedWindowed.load(folder, cls)
    )
    return found
