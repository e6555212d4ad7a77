# SPDX-License-Identifier: Apache-2.0
"""Options: frozen dataclasses from mappings of text (command line, TOML), and to JSON values;
mappings without some keys, or with some only.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

from sstfill.errors import OptionError, unknown

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


def build(cls: type[T], options: Mapping[str, Any]) -> T:
    """Make a dataclass of options from a mapping whose values may be text.

    Raises
    ------
    OptionError
        For an unknown key (the message lists the valid ones) or a value that does not fit.

    Examples
    --------
    >>> from sstfill.methods import Interpolate
    >>> build(Interpolate, {"limit": "5"})
    Interpolate(limit=5.0, space=True)
    """
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in options:
        if key not in names:
            raise unknown(f"option of {cls.__name__}", key, names)
        if isinstance(options[key], str) and "\0" in options[key]:
            # no system takes it in the name of a file, and Python raises something else for it
            raise OptionError(
                f"{key}={reprlib.repr(options[key])} holds a null character; leave it out"
            )
        kind = _annotation(cls, key)
        # a bool is an int to Python, and `modes=True` would be one mode
        if isinstance(options[key], bool) and "bool" not in kind:
            raise OptionError(f"{key}={options[key]} is a truth value; it takes {kind}")
    from pydantic import ValidationError

    try:
        return _adapter(cls).validate_python(dict(options))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        if isinstance(cause := first.get("ctx", {}).get("error"), OptionError):
            # an option's own check says more than pydantic's wrapping of it
            raise cause from None
        where = first["loc"][0] if first["loc"] else cls.__name__
        value = " ".join(reprlib.repr(first["input"]).split())
        kind = _annotation(cls, str(where))
        raise OptionError(f"{where}={value}: {first['msg'].lower()}; it takes {kind}") from None


def values(cls: type, instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, as an instance of it, or of one derived, has them.

    >>> from sstfill.methods import Interpolate
    >>> values(Interpolate, Interpolate(limit=5.0))
    {'limit': 5.0, 'space': True}
    """
    return {f.name: getattr(instance, f.name) for f in dataclasses.fields(cls)}


def options(instance: Any) -> dict[str, Any]:
    """Return the options of a dataclass as plain values that JSON can hold."""
    return {f.name: plain(getattr(instance, f.name)) for f in dataclasses.fields(instance)}


def plain(value: Any) -> Any:
    """Turn any value into one that JSON can hold.

    NaN and infinity become None; an object of an unknown type becomes text.

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"method": getattr(value, "name", type(value).__name__), **options(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    # NumPy's arrays and scalars
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def without(mapping: Mapping[K, V], keys: Collection[Any]) -> dict[K, V]:
    """Return a mapping without some keys, in its own order; keys that it lacks do not matter.

    >>> without({"units": "K", "valid_min": 270.0}, ("valid_min", "valid_max"))
    {'units': 'K'}
    """
    return {key: value for key, value in mapping.items() if key not in keys}


def only(mapping: Mapping[K, V], keys: Iterable[K]) -> dict[K, V]:
    """Return what a mapping has of some keys, in the order of the keys.

    >>> only({"units": "K", "calendar": "standard"}, ("calendar", "dtype"))
    {'calendar': 'standard'}
    """
    return {key: mapping[key] for key in keys if key in mapping}


@cache
def _adapter(cls: type[T]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _annotation(cls: type, name: str) -> str:
    found = [f.type for f in dataclasses.fields(cls) if f.name == name]
    if found:
        return str(found[0])
    return "other values"
