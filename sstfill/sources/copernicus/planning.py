# SPDX-License-Identifier: Apache-2.0
"""Plan a download: ask the catalogue for its size, without a login and without data."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from sstfill.errors import OptionError, ReadError
from sstfill.sources.copernicus.bounds import covered
from sstfill.sources.copernicus.client import describe_client_dataset
from sstfill.sources.copernicus.coverage import Coverage
from sstfill.sources.copernicus.credentials import find_login
from sstfill.sources.copernicus.request import SERVICES, CopernicusRequest, Target
from sstfill.sources.copernicus.windows import cut
from sstfill.sources.plan import QUICK, DownloadPlan

DIMS = ("time", "latitude", "longitude")
BYTES = 4  # of a value as a rule; packed ones may come as float64


def plan(
    request: CopernicusRequest,
    target: Target,
    describer: Callable[[CopernicusRequest], Coverage] = describe_client_dataset,
    *,
    timeout: float = QUICK,
) -> DownloadPlan:
    """Return what a download would do; without the catalogue, what the recipe alone states.

    Parameters
    ----------
    request, target
        As for `download`.
    describer
        Gives what the catalogue tells; another than the client's is for tests.
    timeout
        Seconds that the catalogue has for its answer.

    Raises
    ------
    OptionError
        What a download would be refused for: an unknown dataset, version or variable; a box, a
        depth or a period that the dataset does not have, or in which nothing lies.
    """
    absolute = request.resolved(datetime.now(UTC))
    chunks = target.lengths(DIMS)
    lengths = " x ".join(map(str, chunks.values()))
    where = ""
    with contextlib.suppress(ReadError):  # a file that cannot be read holds none
        login = find_login()
        if login is not None:
            where = login.where
    base = DownloadPlan(
        source=request.dataset_id,
        what=", ".join(request.variables) or "all",
        box=_box(absolute),
        target=f"Zarr v{target.zarr_format}, chunks {lengths} ({', '.join(DIMS)})",
        login=where,
    )
    try:
        coverage = describer(dataclasses.replace(absolute, timeout=timeout))
    except ReadError as error:
        remarks = [f"shape not known: {error}"]
        if target.expect:
            sizes_expected = ", ".join(f"{d} {n}" for d, n in target.expect.items())
            remarks.append(f"the recipe expects {sizes_expected}")
        return dataclasses.replace(base, remarks=tuple(remarks))
    absolute = covered(absolute, coverage)
    sizes = coverage.sizes(absolute)
    names = coverage.named(request.variables)
    nbytes = int(np.prod(list(sizes.values()), dtype=np.int64)) * BYTES * len(names)
    if not nbytes:
        empty = ", ".join(d for d, n in sizes.items() if not n)
        raise OptionError(
            f"nothing of {request.dataset_id} lies in {_box(absolute)} (no {empty}); "
            "widen the box or the period"
        )
    remarks = []
    for dim, expected in target.expect.items():
        if sizes.get(dim) != expected:
            remarks.append(
                f"the recipe expects {expected} values of {dim}, the box holds {sizes.get(dim)}; "
                "the download would be refused"
            )
    source = f"{request.dataset_id}, version {coverage.version}"
    if coverage.doi:
        source += f", doi:{coverage.doi}"
    source_chunks = {d: coverage.axes[d].chunk.get(SERVICES[0], 1) for d in sizes}
    pixels = target.window_bytes // (BYTES * len(names))
    windows = cut(sizes, {d: chunks[d] for d in sizes}, source_chunks, pixels=pixels)
    return dataclasses.replace(
        base,
        source=source,
        what=", ".join(names),
        box=_box(absolute),
        sizes=sizes,
        nbytes=nbytes,
        remarks=tuple(remarks),
        windows=len(windows),
    )


def _box(request: CopernicusRequest) -> str:
    times = []
    for time in (request.start_datetime, request.end_datetime):
        times.append((time or "...").removesuffix(".000").removesuffix("T00:00:00"))
    return f"{request.box()}; {' to '.join(times)}"
