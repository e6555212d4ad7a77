# SPDX-License-Identifier: Apache-2.0
"""Read the arrays in a PyCLES visualisation pickle without calling anything that it names."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sstfill.errors import InputError, ReadError
from sstfill.io.error_origin import one_line

DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    MemoryError,
    OverflowError,
)
"""What unpickling raises for damaged bytes."""
NUMBER = re.compile(r"[fiu](1|2|4|8)")


class _Dtype:
    """Stands for ``numpy.dtype``: keeps what the pickle states of one."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")

    def dtype(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or not NUMBER.fullmatch(self.code):
            raise pickle.UnpicklingError(f"an array of {self.code!r}, not of numbers")
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for ``numpy.ndarray``: keeps shape, dtype and bytes, and makes an array in the end."""

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def array(self) -> NDArray[Any]:
        valid = all(type(n) is int and n >= 0 for n in self.shape)
        if not isinstance(self.dtype, _Dtype) or not valid:
            raise pickle.UnpicklingError("an array without a shape or kind")
        dtype = self.dtype.dtype()
        # Python 2 pickled bytes as str, which `encoding="latin1"` turns into text byte for byte
        raw = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        if not isinstance(raw, bytes) or len(raw) != math.prod(self.shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"an array {self.shape} without its {dtype} numbers")
        return np.frombuffer(raw, dtype).reshape(self.shape, order="F" if self.fortran else "C")


class _Reconstruct:
    """Stands for NumPy's ``_reconstruct(ndarray, (0,), b"b")``, which begins every array."""

    __slots__ = ()

    def __call__(self, *_: object) -> _Array:
        return _Array()


class _Encode:
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes into old protocols."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text in {encoding!r}")
        return text.encode("latin1")


STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("_codecs", "encode"): _Encode(),
}


class _Unpickler(pickle.Unpickler):
    """Admits the stand-ins of NumPy arrays alone."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        # the one encoding that takes every byte
        super().__init__(file, encoding="latin1")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise ReadError(
                f"cannot read {self.path}: it names {module}.{name}, which is no array and was not "
                "called; do not trust this file"
            )
        return STAND_INS[module, name]


def read_array(path: Path, name: str) -> NDArray[Any]:
    """Read one array of a pickled dict of arrays, as Python 2 or 3 wrote it.

    Parameters
    ----------
    path
        The pickle; it may come from a stranger.
    name
        Key of the array.

    Raises
    ------
    ReadError
        Missing, cut short, not a pickle, or one that names anything but NumPy arrays.
    InputError
        No such key.
    """
    try:
        with path.open("rb") as stream:
            arrays = _Unpickler(stream, path).load()
        if not isinstance(arrays, dict):
            kind = type(arrays).__name__
            raise pickle.UnpicklingError(f"it holds a {kind}, not a dict of arrays")
        found = arrays.get(name)
        if isinstance(found, _Array):
            return found.array()
    except ReadError:
        raise
    except OSError as error:
        raise ReadError(
            f"cannot read {path}: {error.strerror or error}; check the folder"
        ) from error
    except DAMAGE as error:
        raise ReadError(
            f"cannot read {path}: {one_line(error)}; if the run was stopped while it wrote, "
            "remove that file"
        ) from error
    keys = ", ".join(sorted(map(str, arrays))) or "nothing"
    raise InputError(f"{path} holds {keys}, no array {name!r}; a run without liquid water has none")
