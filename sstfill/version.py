# SPDX-License-Identifier: Apache-2.0
"""The version, read from the installed package's metadata, and those of libraries that matter."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

__version__ = version("sstfill")
LIBRARIES = ("numpy", "scipy", "xarray", "dask", "zarr", "netCDF4", "numba", "torch")
"""On which results or files depend."""


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Versions of sstfill, Python and some libraries, without importing any of them.

    >>> list(versions())[:3]
    ['sstfill', 'python', 'numpy']
    """
    found = {"sstfill": __version__, "python": platform.python_version()}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an installation made by hand, without its dependencies
            found[name] = "not installed"
    return found
