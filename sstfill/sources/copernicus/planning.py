# SPDX-License-Identifier: Apache-2.0
"""Plan a download: ask the catalogue how large it is, without a login and without data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from sstfill.errors import OptionError, ReadError
from sstfill.sources.copernicus.bounds import covered
from sstfill.sources.copernicus.client import describe_client_dataset
from sstfill.sources.copernicus.coverage import Coverage
from sstfill.sources.copernicus.credentials import find_login
from sstfill.sources.copernicus.job import WINDOW
from sstfill.sources.copernicus.request import SERVICES, CopernicusRequest, Target
from sstfill.sources.copernicus.windows import cut
from sstfill.sources.plan import QUICK, DownloadPlan

DIMS = ("time", "latitude", "longitude")
BYTES = 4  # of a value, as a rule; packed ones may come as float64


def plan(
    request: CopernicusRequest,
    target: Target,
    describer: Callable[[CopernicusRequest], Coverage] = describe_client_dataset,
    *,
    patience: float = QUICK,
) -> DownloadPlan:
    """Say what a download would do; without the catalogue, what the recipe alone tells.

    Parameters
    ----------
    request, target
        As for `download`.
    describer
        Gives what the catalogue says; another than the client's is for tests.
    patience
        Seconds that the catalogue has for its answer.

    Raises
    ------
    OptionError
        What a download would be refused for: an unknown dataset, version or variable; a box, a
        depth or a period that the dataset does not have, or in which nothing lies.
    """
    absolute = request.resolved(datetime.now(UTC))
    chunks = target.lengths(DIMS)
    base = DownloadPlan(
        source=request.dataset_id,
        what=", ".join(request.variables) or "all",
        box=_box(absolute),
        target=f"Zarr v{target.zarr_format}, chunks {' x '.join(map(str, chunks.values()))} ({', '.join(DIMS)})",
        login=_login(),
    )
    try:
        coverage = describer(dataclasses.replace(absolute, patience=patience))
    except ReadError as error:
        pinned = ", ".join(f"{d} {n}" for d, n in target.expect.items())
        expected = (f"the recipe expects {pinned}",) if pinned else ()
        return dataclasses.replace(base, remarks=(f"shape not known: {error}", *expected))
    absolute = covered(absolute, coverage)
    sizes = coverage.sizes(absolute)
    names = coverage.named(request.variables)
    nbytes = int(np.prod(list(sizes.values()), dtype=np.int64)) * BYTES * len(names)
    if not nbytes:
        empty = ", ".join(d for d, n in sizes.items() if not n)
        raise OptionError(
            f"nothing of {request.dataset_id} lies in {_box(absolute)} (no {empty}); widen the box or the period"
        )
    remarks = [
        f"the recipe expects {n} values of {d}, the box holds {sizes.get(d)}; the download would be refused"
        for d, n in target.expect.items()
        if sizes.get(d) != n
    ]
    return dataclasses.replace(
        base,
        source=f"{request.dataset_id}, version {coverage.version}{coverage.doi and f', doi:{coverage.doi}'}",
        what=", ".join(names),
        box=_box(absolute),
        sizes=sizes,
        nbytes=nbytes,
        remarks=tuple(remarks),
        windows=_windows(sizes, chunks, coverage, len(names)),
    )


def _login() -> str:
    try:
        found = find_login()
    except ReadError:
        return ""
    return found.where if found else ""


def _box(request: CopernicusRequest) -> str:
    start, end = (
        (t or "...").removesuffix(".000").removesuffix("T00:00:00")
        for t in (request.start_datetime, request.end_datetime)
    )
    return f"{request.box()}; {start} to {end}"


def _windows(
    sizes: dict[str, int], chunks: dict[str, int], coverage: Coverage, variables: int
) -> int:
    source = {d: coverage.axes[d].chunk.get(SERVICES[0], 1) for d in sizes}
    return len(
        cut(sizes, {d: chunks[d] for d in sizes}, source, pixels=WINDOW // (BYTES * variables))
    )
