# SPDX-License-Identifier: Apache-2.0
"""Import the liquid water path that Yin, Pajot, de Bezenac and Gallinari (2019) published."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sstfill.errors import OptionError, ReadError, WriteError
from sstfill.io.untrusted.documents import squeezed
from sstfill.occlusion.lwp import published
from sstfill.progress import track
from sstfill.sources.atomic_store import check_store, is_made, provenance
from sstfill.sources.copernicus.refusals import summary
from sstfill.sources.pycles.store import frames_in_chunk, write_series
from sstfill.sources.quiet import quiet

DOI = "10.6084/m9.figshare.9929798"
NAME = "cloud_dataset.npy"
ARTICLE = "https://api.figshare.com/v2/articles/9929798"
FILES = "https://api.figshare.com/v2/file/download"
REGISTRY = "registry.txt"
"""File in the cache with the checksum that figshare stated: a second run needs no network."""
TIMEOUT = 30.0
"""Seconds without an answer."""
GRAMS = 1000.0
BY_HAND = f"download {NAME} from https://doi.org/{DOI} with a browser and give it as path"


def published_lwp(
    out: str | os.PathLike[str],
    *,
    path: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    zarr_format: int = 3,
) -> Path:
    """Import the paper's series into a Zarr store, g m-2.

    It is the array ``cloud_dataset.npy``, ``(10800, 64, 64)``, in kg m-2, which is mapped into
    memory and written block by block. Its frames carry no times, so ``time`` counts them.

    Parameters
    ----------
    out
        Zarr store to write; one made from the same array is kept, any other refused.
    path
        A local copy; by default the file is downloaded by its DOI and checked against the checksum
        figshare states. A copy is called the published series only where an earlier download has
        left that checksum in `cache`, and it is the same; otherwise the store says that it is of a
        local file.
    cache
        Folder for the download, which is kept there; by default pooch's own for sstfill.
    zarr_format
        3, or 2 for older readers.

    Returns
    -------
    Path
        The store; `sstfill.occlusion.lwp_series` opens it.

    Raises
    ------
    OptionError
        No `path`, and pooch is not installed.
    ReadError
        No network, no such record, another checksum; a copy that is missing, damaged or no NumPy
        array.
    InputError
        An array that is not floating ``(time, y, x)``, or values that cannot be kg m-2.
    WriteError
        A cache or store that cannot be written.
    """
    if path is None:
        check_store(out, zarr_format)
        array = fetch(cache)
    else:
        array = Path(path)
        check_store(out, zarr_format, [array])
    series = published(array)
    shape = (series.sizes["time"], series.sizes["y"], series.sizes["x"])
    # read in pieces: the array has 354 MB
    with array.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    theirs = path is None or f"md5:{md5}" == _stated(cache)
    options = {"doi": "", "file": array.name, "md5": md5, "downloaded": path is None}
    if is_made(out, zarr_format, "published_lwp", {"md5": md5}):
        return Path(out)
    attrs = {"Conventions": "CF-1.11", "title": "Liquid water path"}
    source = f"local file {array.name}, not compared with doi:{DOI}"
    if theirs:
        attrs["title"] = (
            "Liquid water path simulated by PyCLES, the cloud masks of 'Unsupervised "
            "spatiotemporal data inpainting'"
        )
        attrs["references"] = f"https://doi.org/{DOI}"
        source = f"figshare, doi:{DOI}"
        options["doi"] = DOI
    counted = {
        "long_name": "number of the frame; the authors published no times",
        "units": "1",
        "axis": "T",
    }
    coords = xr.Dataset(
        coords={"time": ("time", np.arange(shape[0]), counted)},
        attrs=attrs | provenance(source, "published_lwp", options),
    )
    size = frames_in_chunk(shape[0], shape[1:])
    blocks = (series[at : at + size].to_numpy() * GRAMS for at in range(0, shape[0], size))
    write_series(Path(out), blocks, coords, shape, zarr_format)
    return Path(out)


def fetch(cache: str | os.PathLike[str] | None = None) -> Path:
    """Download the paper's array unless it is in the cache, check it, and return its path."""
    try:
        import pooch
        import requests
    except ImportError as error:
        raise OptionError(
            f"the download needs pooch; pip install 'sstfill[clouds]', or {BY_HAND}"
        ) from error
    if cache is None:
        cache = pooch.os_cache("sstfill")
    folder = Path(cache)
    store = pooch.create(path=folder, base_url=f"doi:{DOI}/", registry=None, retry_if_failed=2)
    try:
        with quiet(pooch.get_logger(), logging.WARNING):
            if (folder / REGISTRY).is_file():
                store.load_registry(folder / REGISTRY)
            else:
                for file in _files():
                    store.registry[file["name"]] = f"md5:{file['computed_md5']}"
            found = Path(store.fetch(NAME, downloader=_download))
        (folder / REGISTRY).write_text(f"{NAME} {store.registry[NAME]}\n")
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        reason = squeezed(error)
        if isinstance(error, requests.RequestException):
            reason = summary(error)
        raise ReadError(
            f"cannot download {NAME} (doi:{DOI}): {reason}; try again later, or {BY_HAND}"
        ) from error
    except OSError as error:
        raise WriteError(
            f"cannot keep {NAME} in {folder}: {error.strerror or error}; give another cache"
        ) from error
    return found


def _stated(cache: str | os.PathLike[str] | None) -> str | None:
    """Return the checksum that figshare stated at an earlier download; None without one."""
    with contextlib.suppress(ImportError, OSError):
        if cache is None:
            import pooch

            cache = pooch.os_cache("sstfill")
        for line in (Path(cache) / REGISTRY).read_text("utf-8").splitlines():
            name, _, checksum = line.partition(" ")
            if name == NAME:
                return checksum.strip()
    return None


def _files() -> list[dict[str, Any]]:
    """What figshare's interface says of the record's files."""
    import requests

    answer = requests.get(ARTICLE, timeout=TIMEOUT)
    answer.raise_for_status()
    return list(answer.json()["files"])


def _download(url: str, output_file: Any, store: Any) -> None:
    """Download a file for pooch: by DOI, or past the web site if that asks for a browser.

    The site then answers with an empty 202 or a 403.
    """
    import pooch
    import requests

    options: dict[str, Any] = {"timeout": TIMEOUT, "chunk_size": 2**18}
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*doesn't specify which version", category=UserWarning
        )
        with contextlib.suppress(requests.RequestException, LookupError):
            pooch.DOIDownloader(progressbar=_Bar(), **options)(url, output_file, store)
    # the web site asks for a browser: the interface of the service has the same file
    if Path(output_file).stat().st_size == 0:
        number = next(f["id"] for f in _files() if f["name"] == NAME)
        pooch.HTTPDownloader(progressbar=_Bar(), **options)(f"{FILES}/{number}", output_file, store)


class _Bar:
    """A progress bar as pooch wants one, on sstfill's seam: megabytes."""

    total = 0

    def __init__(self) -> None:
        self._seen, self._shown = 0, 0
        self._steps: Iterator[int] | None = None

    def update(self, count: int) -> None:
        self._seen += count
        if self._steps is None:
            whole = math.ceil(self.total / 1e6)
            self._steps = track(range(whole), f"{NAME} (MB)", whole)
        new = int(self._seen / 1e6) - self._shown
        self._shown += sum(1 for _ in itertools.islice(self._steps, max(0, new)))

    def reset(self) -> None:
        """Pooch starts again from 0 at the end; what was shown stays."""
        self._seen = 0

    def close(self) -> None:
        for _ in self._steps or ():
            pass
