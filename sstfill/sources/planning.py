# SPDX-License-Identifier: Apache-2.0
"""Plan a download: ask the catalogue how large it is, without a login and without data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from sstfill.errors import OptionError, ReadError
from sstfill.sources.client import describe_client_dataset
from sstfill.sources.coverage import Coverage, milliseconds, since_1970
from sstfill.sources.credentials import find_login
from sstfill.sources.job import WINDOW
from sstfill.sources.plan import Plan
from sstfill.sources.request import SERVICES, CopernicusRequest, Target
from sstfill.sources.windows import cut

DIMS = ("time", "latitude", "longitude")
BYTES = 4  # of a value, as a rule; packed ones may come as float64
QUICK = 30.0  # seconds that the catalogue has for its answer


def plan(
    request: CopernicusRequest,
    target: Target,
    describer: Callable[[CopernicusRequest], Coverage] = describe_client_dataset,
) -> Plan:
    """Say what a download would do.

    Parameters
    ----------
    request, target
        As for `download`.
    describer
        Gives what the catalogue says; another than the client's is for tests.

    Raises
    ------
    OptionError
        An unknown dataset, version or variable; a period that the dataset does not have.
    """
    absolute = request.resolved(datetime.now(UTC))
    chunks = target.lengths(DIMS)
    base = Plan(
        source=request.dataset_id, what=", ".join(request.variables) or "all", box=_box(absolute),
        target=f"Zarr v{target.zarr_format}, chunks {' x '.join(map(str, chunks.values()))} ({', '.join(DIMS)})",
        login=_login(),
    )  # fmt: skip
    try:
        coverage = describer(dataclasses.replace(absolute, patience=min(QUICK, request.patience)))
    except ReadError as error:
        return dataclasses.replace(base, remarks=(f"shape not known: {error}",))
    absolute = _checked(absolute, coverage)
    sizes = coverage.sizes(absolute)
    names = coverage.named(request.variables)
    nbytes = int(np.prod(list(sizes.values()), dtype=np.int64)) * BYTES * len(names)
    remarks = [
        f"expects {n} values of {d}, the box holds {sizes.get(d)}"
        for d, n in target.expect.items()
        if sizes.get(d) != n
    ]
    if not nbytes:
        remarks.append("nothing lies in the box and the period; widen them")
    return dataclasses.replace(
        base, source=f"{request.dataset_id}, version {coverage.version}{coverage.doi and f', doi:{coverage.doi}'}",
        what=", ".join(names), box=_box(absolute), sizes=sizes, nbytes=nbytes, remarks=tuple(remarks),
        windows=_windows(sizes, chunks, coverage, len(names)) if nbytes else 0,
    )  # fmt: skip


def _login() -> str:
    try:
        found = find_login()
    except ReadError:
        return ""
    return found.where if found else ""


def _checked(request: CopernicusRequest, coverage: Coverage) -> CopernicusRequest:
    """The request with the ends of the dataset where it names none; `OptionError` where it goes beyond them."""
    axis = coverage.axes.get("time")
    if axis is None:
        raise OptionError(f"{request.dataset_id} has no time dimension; choose another dataset")
    first, last = (str(milliseconds(v)) for v in (axis.first, axis.last))
    start, end = request.start_datetime or first, request.end_datetime or last
    if request.clip_end and since_1970(end) > axis.last:
        end = last
    if since_1970(start) < axis.first or since_1970(start) > axis.last or since_1970(end) > axis.last:
        raise OptionError(
            f"{request.dataset_id} has times from {first} to {last}, not {start} to {end}; ask for what lies within"
        )
    return dataclasses.replace(request, start_datetime=start, end_datetime=end)


def _box(request: CopernicusRequest) -> str:
    start, end = (
        (t or "...").removesuffix(".000").removesuffix("T00:00:00")
        for t in (request.start_datetime, request.end_datetime)
    )
    return f"{request.box()}; {start} to {end}"


def _windows(sizes: dict[str, int], chunks: dict[str, int], coverage: Coverage, variables: int) -> int:
    source = {d: coverage.axes[d].chunk.get(SERVICES[0], 1) for d in sizes}
    return len(cut(sizes, {d: chunks[d] for d in sizes}, source, pixels=WINDOW // (BYTES * variables)))
