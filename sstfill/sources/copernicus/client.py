# SPDX-License-Identifier: Apache-2.0
"""Open and describe datasets with the Copernicus Marine client, which is imported here alone."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from sstfill.errors import OptionError, ReadError, SstfillError
from sstfill.sources.copernicus.bounds import around_the_globe, covered
from sstfill.sources.copernicus.coverage import Coverage, CoverageAxis, milliseconds, since_1970
from sstfill.sources.copernicus.credentials import need_login
from sstfill.sources.copernicus.deadline import Deadline, NoAnswerError, limited
from sstfill.sources.copernicus.reads import ATTACHED, Reads, noted
from sstfill.sources.copernicus.refusals import OURS, may_pass, refusal, summary
from sstfill.sources.copernicus.request import SERVICES, CopernicusRequest
from sstfill.sources.quiet import quiet

T = TypeVar("T")
log = logging.getLogger(__name__)


def describe_client_dataset(request: CopernicusRequest) -> Coverage:
    """Ask the catalogue about a dataset, without a login.

    Raises
    ------
    OptionError
        The dataset, version or variable is unknown; the nearest names are shown.
    ReadError
        The client is not installed, or the catalogue does not answer within ``request.timeout``.
    """
    client = _client()

    def ask() -> Coverage:
        found = client.describe(
            dataset_id=request.dataset_id,
            # a store keeps the version that it was begun with, also when there is a newer one
            show_all_versions=True,
            max_concurrent_requests=0,
            disable_progress_bar=True,
            raise_on_error=True,
        )
        return _coverage(found, request)

    coverage = _answer(ask, request)
    coverage.named(request.variables)
    return coverage


def open_client_dataset(request: CopernicusRequest) -> xr.Dataset:
    """Open one version of a dataset lazily and without Dask; nothing is clipped in silence.

    Parameters
    ----------
    request
        With absolute times.

    Returns
    -------
    Dataset
        With attrs ``dataset_id``, ``dataset_version``, ``product_id`` and ``doi``;
        ``encoding["sstfill_offset"]``, the index in the source of each dimension's first value;
        ``encoding["sstfill_reads"]``, a record of its reads, where the client allows one.

    Raises
    ------
    ReadError
        No login, a wrong password; no client; nothing answered within ``request.timeout``; a
        dataset being updated.
    OptionError
        An unknown dataset, version or variable; a box or a period that the dataset does not cover.
    """
    login = need_login()
    client = _client()
    coverage = describe_client_dataset(request)
    asked = dataclasses.replace(_within(request, coverage), dataset_version=coverage.version)
    reads = Reads(request.timeout, request.pause)

    def ask() -> xr.Dataset | None:
        with noted(reads):
            opened: xr.Dataset | None = client.open_dataset(
                **asked.arguments(),
                username=login.user,
                password=login.password,
                # no Dask: windows are cut to the chunks here, and users report the client's Dask
                # chunks as slow
                chunk_size_limit=0,
                # by default the client clips a box beyond the dataset with no more than a warning
                coordinates_selection_method=_selection(asked, coverage),
                # during an update the service hands out empty data
                raise_if_updating=True,
            )
            return opened

    ds = _answer(ask, request)
    if ds is None:  # what the client returns where it would have asked for a password
        raise ReadError(
            f"Copernicus Marine was given no login, though there is one in {login.where}; "
            "run: copernicusmarine login"
        )
    if reads.refused:
        raise ReadError(
            f"the service does not have {min(reads.refused)}, a coordinate of "
            f"{request.dataset_id}; try again later"
        )
    ds.attrs |= {
        "dataset_id": coverage.dataset_id,
        "dataset_version": coverage.version,
        "product_id": coverage.product_id,
        "doi": coverage.doi,
    }
    ds.encoding = {"sstfill_offset": _offsets(ds, coverage)}
    # the client's inside has changed: an empty record would mean that every chunk came
    if reads.ask is None:
        log.warning(
            "this release of copernicusmarine does not tell which chunks were lost; "
            "doubtful values are refused"
        )
        return ds
    ds.encoding[ATTACHED] = reads
    reads.clear()
    return ds


def other_service(request: CopernicusRequest) -> list[CopernicusRequest]:
    """Return the same request to the layouts of the service that were not asked for."""
    others = [name for name in SERVICES if name != request.service]
    return [dataclasses.replace(request, service=name) for name in others]


def client_version() -> str:
    """Return the version of the client, empty where it is not installed."""
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


def _answer(ask: Callable[[], T], request: CopernicusRequest) -> T:
    """Ask until there is an answer, a refusal that stays one, or no time left."""
    deadline = Deadline(request.timeout, first_pause=request.pause)
    reason = "no answer at all"

    def attempt() -> T:
        nonlocal reason
        try:
            # its log shows where a login lies, and warns of errors that come as exceptions too
            with quiet(logging.getLogger("copernicusmarine"), logging.CRITICAL):
                return limited(ask, deadline.left)
        except NoAnswerError:  # the reason shown is that of the last attempt that ended
            raise
        except Exception as error:  # the client raises what its libraries do
            final = refusal(error, request, _known_datasets)
            if final is not None and final is not error:
                raise final from error
            reason = summary(error)
            log.debug("no answer: %s", reason)
            raise

    def try_again(error: BaseException) -> bool:
        return may_pass(error) and not isinstance(error, NoAnswerError)

    try:
        return deadline.attempts(try_again)(attempt)
    except (SstfillError, *OURS):
        raise
    except Exception as error:
        raise ReadError(
            f"Copernicus Marine did not answer for {request.timeout:.0f} s ({reason}); check the "
            "network, or try again later"
        ) from error


def _known_datasets() -> list[str]:
    """Return the ids of all datasets, empty where they cannot be had."""
    try:
        from copernicusmarine.core_functions.marine_datastore_config import (
            get_config_and_check_version_describe,
        )
        from copernicusmarine.core_functions.sessions import JsonParserConnection

        def ask() -> list[str]:
            found: set[str] = set()
            with JsonParserConnection(timeout=10, retries=1) as connection:
                for catalogue in get_config_and_check_version_describe(False).catalogues:
                    # products by dataset
                    found.update(connection.get_json_file(catalogue.dataset_product_mapping_url))
            return sorted(found)

        return limited(ask, 30.0)
    except Exception as error:  # only the hint is lost
        log.debug("no list of datasets: %s", error)
        return []


def _coverage(found: Any, request: CopernicusRequest) -> Coverage:
    """Extract the coverage of one version from what the client describes."""
    pairs = []
    for product in found.products:
        for dataset in product.datasets:
            if dataset.dataset_id == request.dataset_id:
                pairs.append((product, dataset))
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
    variables = {}
    for service in gridded:
        for variable in service.variables:
            variables[variable.short_name] = variable.standard_name or ""
            for coordinate in variable.coordinates:
                # the layouts differ in the lengths of chunks alone
                by_service = axes.setdefault(coordinate.coordinate_id, {})
                by_service[str(service.service_name)] = coordinate
    return dataclasses.replace(
        described,
        version=version.label,
        product_id=product.product_id,
        doi=product.digital_object_identifier or "",
        variables=variables,
        axes={name: _axis(held) for name, held in axes.items()},
    )


def _axis(held: dict[str, Any]) -> CoverageAxis:
    """Convert the descriptions of one coordinate, by layout."""
    described = next(iter(held.values()))
    values = tuple(sorted(_number(v) for v in described.values or ()))
    first, last, step = described.minimum_value, described.maximum_value, described.step
    if first is None:
        first = values[0]
    if last is None:
        last = values[-1]
    if values:
        step = None  # explicit values need not be evenly spaced
    return CoverageAxis(
        first=_number(first),
        last=_number(last),
        step=step,
        values=values,
        chunk={name: int(c.chunking_length) for name, c in held.items() if c.chunking_length},
    )


def _number(value: float | str) -> float:
    if isinstance(value, str):
        return since_1970(datetime.fromisoformat(value).replace(tzinfo=None).isoformat())
    return float(value)


def _within(request: CopernicusRequest, coverage: Coverage) -> CopernicusRequest:
    """Cut the end of the period where ``clip_end`` is set; the client refuses it otherwise."""
    axis = coverage.axes.get("time")
    if not request.clip_end or request.end_datetime is None or axis is None:
        return request
    if since_1970(request.end_datetime) <= axis.last:
        return request
    return dataclasses.replace(request, end_datetime=str(milliseconds(axis.last)))


def _selection(request: CopernicusRequest, coverage: Coverage) -> str:
    """Return how the client is to cut the box: strictly, except around the globe.

    There the client takes 179.98 for a longitude beyond the last centre of a cell, 179.95; what it
    would check otherwise is checked here.
    """
    longitude = coverage.axes.get("longitude")
    if longitude is None or not around_the_globe(longitude):
        return "strict-inside"
    covered(request, coverage)
    return "inside"


def _offsets(ds: xr.Dataset, coverage: Coverage) -> dict[str, int]:
    """Return the index in the source of each dimension's first value.

    Dimensions in space whose values are no run of the source's are left out: over the dateline.
    """
    offsets = {}
    for name, axis in coverage.axes.items():
        if name not in ds.indexes or not ds.sizes[name]:
            continue
        ends = ds[name].values[[0, -1]]
        if ends.dtype.kind == "M":
            # the catalogue counts milliseconds since 1970
            ends = ends.astype("M8[ms]").astype(np.int64)
        first, last = axis.index(float(ends[0])), axis.index(float(ends[1]))
        is_run = last - first + 1 == ds.sizes[name]
        if name == "time" or (is_run and first >= 0 and last <= axis.index(axis.last)):
            offsets[name] = first
    return offsets
