# SPDX-License-Identifier: Apache-2.0
"""The one seam to the Copernicus Marine client, which is imported here and nowhere else, when it is
needed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from sstfill.errors import OptionError, ReadError
from sstfill.sources.copernicus.bounds import around_the_globe, covered
from sstfill.sources.copernicus.coverage import Coverage, CoverageAxis, milliseconds, since_1970
from sstfill.sources.copernicus.credentials import need_login
from sstfill.sources.copernicus.deadline import Deadline, NoAnswerError, limited
from sstfill.sources.copernicus.reads import ATTACHED, Reads, noted
from sstfill.sources.copernicus.refusals import refusal, told
from sstfill.sources.copernicus.request import SERVICES, CopernicusRequest

T = TypeVar("T")
log = logging.getLogger(__name__)


def describe_client_dataset(request: CopernicusRequest) -> Coverage:
    """Ask the catalogue for a dataset; needs no login.

    Raises
    ------
    OptionError
        An unknown dataset, version or variable, the nearest names shown.
    ReadError
        The client is not installed, or the catalogue does not answer within ``request.patience``.
    """
    client = _client()

    def ask() -> Coverage:
        found = client.describe(
            dataset_id=request.dataset_id,
            show_all_versions=True,
            max_concurrent_requests=0,
            disable_progress_bar=True,
            raise_on_error=True,
        )
        return _coverage(found, request)

    coverage = _answer(ask, request, Deadline(request.patience))
    coverage.named(request.variables)
    return coverage


def open_client_dataset(request: CopernicusRequest) -> xr.Dataset:
    """Open a dataset lazily, its version pinned, without Dask; nothing is clipped in silence.

    Parameters
    ----------
    request
        With absolute times.

    Returns
    -------
    Dataset
        With attrs ``dataset_id``, ``dataset_version``, ``product_id`` and ``doi``;
        ``encoding["sstfill_offset"]``, the index in the source of each dimension's first value;
        ``encoding["sstfill_reads"]``, an account of its reads, where the client's store could be
        given one.

    Raises
    ------
    ReadError
        No login, a wrong password; no client; nothing answered within ``request.patience``; a
        dataset being updated.
    OptionError
        An unknown dataset, version or variable; a box or a period that the dataset does not cover.
    """
    login = need_login()
    client = _client()
    coverage = describe_client_dataset(request)
    asked = dataclasses.replace(_within(request, coverage), dataset_version=coverage.version)
    patience = Deadline(request.patience)
    reads = Reads(request.patience)

    def ask() -> xr.Dataset | None:
        with noted(reads):
            opened: xr.Dataset | None = client.open_dataset(
                **asked.arguments(),
                username=login.user,
                password=login.password,
                chunk_size_limit=0,
                coordinates_selection_method=_selection(asked, coverage),
                raise_if_updating=True,
            )
            return opened

    ds = _answer(ask, request, patience)
    if ds is None:  # what the client returns where it would have asked for a password
        raise ReadError(
            f"Copernicus Marine was given no login, though there is one in {login.where}; run: copernicusmarine login"
        )
    if reads.refused:
        raise ReadError(
            f"the service does not have {min(reads.refused)}, a coordinate of {request.dataset_id}; try again later"
        )
    ds.attrs |= {
        "dataset_id": coverage.dataset_id,
        "dataset_version": coverage.version,
        "product_id": coverage.product_id,
        "doi": coverage.doi,
    }
    ds.encoding = {"sstfill_offset": _offsets(ds, coverage)}
    if (
        reads.ask is None
    ):  # the client's inside has changed: an empty account would tell that every chunk came
        log.warning(
            "this release of copernicusmarine does not tell which chunks were lost; doubtful values are refused"
        )
        return ds
    ds.encoding[ATTACHED] = reads
    reads.clear()
    return ds


def other_service(request: CopernicusRequest) -> list[CopernicusRequest]:
    """The same request to the layouts of the service that were not asked for."""
    return [
        dataclasses.replace(request, service=name) for name in SERVICES if name != request.service
    ]


def client_version() -> str:
    """Version of the client, empty where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("copernicusmarine")
    except PackageNotFoundError:
        return ""


def _client() -> Any:
    try:
        import copernicusmarine
    except ImportError as error:
        raise ReadError(
            f"the Copernicus Marine client is missing ({error}); pip install 'sstfill[copernicus]'"
        ) from error
    return copernicusmarine


def _answer(ask: Callable[[], T], request: CopernicusRequest, patience: Deadline) -> T:
    """Ask until there is an answer, a refusal that stays one, or no patience left."""
    attempt, reason = 0, "no answer at all"
    while True:
        try:
            with _hushed():
                answer = limited(ask, patience.left)
        except Exception as error:  # the client raises what its libraries do; `refusal` sorts it
            final = refusal(error, request, _known_datasets)
            if final is not None:
                raise final from error
            in_vain = isinstance(error, NoAnswerError)
            reason = reason if in_vain else told(error)  # of the last attempt that ended
            if in_vain or not patience.wait(attempt):
                raise ReadError(
                    f"Copernicus Marine did not answer for {request.patience:.0f} s ({reason}); check the "
                    "network, or try again later"
                ) from error
            log.debug("attempt %d failed: %s", attempt, error)
            attempt += 1
        else:
            patience.renew()
            return answer


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep the client's own log quiet: it tells where a login lies, and warns of what becomes an
    error here.
    """
    logger = logging.getLogger("copernicusmarine")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _known_datasets() -> list[str]:
    """Ids of all datasets, for an error that shows the nearest; empty where they cannot be had."""
    try:
        from copernicusmarine.core_functions.marine_datastore_config import (
            get_config_and_check_version_describe,
        )
        from copernicusmarine.core_functions.sessions import JsonParserConnection

        def ask() -> list[str]:
            with JsonParserConnection(timeout=10, retries=1) as connection:
                tables = [
                    connection.get_json_file(c.dataset_product_mapping_url)
                    for c in get_config_and_check_version_describe(False).catalogues
                ]
            return sorted({name for table in tables for name in table})

        return limited(ask, 30.0)
    except Exception as error:  # only the hint is lost
        log.debug("no list of datasets: %s", error)
        return []


def _coverage(found: Any, request: CopernicusRequest) -> Coverage:
    pairs = [
        (p, d) for p in found.products for d in p.datasets if d.dataset_id == request.dataset_id
    ]
    if not pairs:
        raise OptionError(
            f"no dataset {request.dataset_id!r} in the catalogue; see copernicusmarine describe"
        )
    product, dataset = pairs[0]
    labels = tuple(v.label for v in dataset.versions)
    described = Coverage(dataset_id=request.dataset_id, version=labels[0], versions=labels)
    described.check_version(request.dataset_version)
    version = next(v for v in dataset.versions if v.label == (request.dataset_version or labels[0]))
    part = version.get_part(request.dataset_part)
    gridded = [s for s in part.services if s.service_name in SERVICES and s.variables]
    axes: dict[str, Any] = {}
    for service in gridded:
        for coordinate in (c for v in service.variables for c in v.coordinates):
            axes.setdefault(coordinate.coordinate_id, {})[str(service.service_name)] = coordinate
    return dataclasses.replace(
        described,
        version=version.label,
        product_id=product.product_id,
        doi=product.digital_object_identifier or "",
        variables={v.short_name: v.standard_name or "" for s in gridded for v in s.variables},
        axes={name: _axis(held) for name, held in axes.items()},
    )


def _axis(held: dict[str, Any]) -> CoverageAxis:
    first = next(iter(held.values()))
    values = tuple(sorted(_number(v) for v in first.values or ()))
    low = _number(first.minimum_value) if first.minimum_value is not None else values[0]
    high = _number(first.maximum_value) if first.maximum_value is not None else values[-1]
    chunk = {name: int(c.chunking_length) for name, c in held.items() if c.chunking_length}
    return CoverageAxis(
        first=low, last=high, step=None if values else first.step, values=values, chunk=chunk
    )


def _number(value: float | str) -> float:
    return (
        since_1970(datetime.fromisoformat(value).replace(tzinfo=None).isoformat())
        if isinstance(value, str)
        else float(value)
    )


def _within(request: CopernicusRequest, coverage: Coverage) -> CopernicusRequest:
    """Cut the end where the request says so; the client refuses what goes beyond otherwise."""
    axis = coverage.axes.get("time")
    if (
        not request.clip_end
        or request.end_datetime is None
        or axis is None
        or since_1970(request.end_datetime) <= axis.last
    ):
        return request
    return dataclasses.replace(request, end_datetime=str(milliseconds(axis.last)))


def _selection(request: CopernicusRequest, coverage: Coverage) -> str:
    """The client's way to cut the box: strictly, but for boxes over the dateline of a grid that
    counts cells.

    There the client takes 179.98 for a longitude beyond the last centre, 179.95; the rest is
    checked here instead.
    """
    longitude = coverage.axes.get("longitude")
    if longitude is None or not around_the_globe(longitude):
        return "strict-inside"
    covered(request, coverage)
    return "inside"


def _offsets(ds: xr.Dataset, coverage: Coverage) -> dict[str, int]:
    offsets = {}
    for name, axis in coverage.axes.items():
        if name in ds.indexes and ds.sizes[name]:
            first = ds[name].values[0]
            value = (
                float(first.astype("M8[ms]").astype(np.int64))
                if ds[name].dtype.kind == "M"
                else float(first)
            )
            offsets[name] = axis.index(value)
    return offsets
