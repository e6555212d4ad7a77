# SPDX-License-Identifier: Apache-2.0
"""Which failures of the Copernicus Marine client are final, and the errors shown for them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator

from sstfill.errors import OptionError, ReadError, SstfillError, unknown
from sstfill.sources.copernicus.request import CopernicusRequest

# mistakes in a program, not failures of the network: they are raised as they are
OURS = (TypeError, AttributeError, NameError, ImportError, AssertionError)


def may_pass(error: BaseException) -> bool:
    """Whether another attempt may help: not after a refusal or a mistake in a program."""
    return isinstance(error, Exception) and not isinstance(error, (SstfillError, *OURS))


def refusal(
    error: BaseException, request: CopernicusRequest, known: Callable[[], list[str]]
) -> BaseException | None:
    """Return the error to raise, or None where another attempt may help.

    Parameters
    ----------
    error
        What the client raised. Its classes are known by name, because their modules move.
    request
        What was asked.
    known
        Gives the ids of all datasets; called where the one asked for does not exist.
    """
    if isinstance(error, (SstfillError, *OURS)):
        return error
    name, text = type(error).__name__, " ".join(str(error).split())
    if name == "InvalidUsernameOrPassword" or 401 in _statuses(error) or 403 in _statuses(error):
        return ReadError(
            "Copernicus Marine refused the user name or the password; correct them, or run: "
            "copernicusmarine login"
        )
    if name in ("DatasetNotFound", "ProductNotFound") or "was not found in the catalogue" in text:
        ids = known()
        if not ids:
            return OptionError(
                f"no dataset {request.dataset_id!r}; look it up: copernicusmarine describe"
            )
        nearest = difflib.get_close_matches(request.dataset_id, ids, n=5, cutoff=0.4)
        return unknown("dataset", request.dataset_id, nearest or ids[:5])
    if name == "VariableDoesNotExistInTheDataset":
        return OptionError(
            f"{text} See copernicusmarine describe --dataset-id {request.dataset_id}"
        )
    if name == "CoordinatesOutOfDatasetBounds":
        return OptionError(
            f"{request.dataset_id}: {text[0].lower()}{text[1:]}; ask for what lies within"
        )
    if name in ("DatasetVersionNotFound", "DatasetVersionPartNotFound"):
        return OptionError(f"{text} A store cannot mix versions: begin another store")
    if name == "DatasetUpdating":
        return ReadError(f"{text} Try again after the update, or choose an end_datetime before it")
    if name in (
        "ServiceNotAvailable",
        "NoServiceAvailable",
        "FormatNotSupported",
        "ServiceDoesNotExistForCommand",
        "ServiceNotSupported",
        "WrongDatetimeFormat",
    ):
        return OptionError(f"{request.dataset_id} cannot be read with these options: {text}")
    return None


def summary(error: BaseException) -> str:
    """Return an error in one short line, without the parameters of addresses.

    A user name may be among the parameters. Of an error without a text, or one that says only that
    attempts failed, its cause is shown.

    >>> summary(OSError("no answer from https://host/key?x-cop-user=ada"))
    'OSError: no answer from https://host/key'
    """
    # libraries wrap errors several times, and the outer ones say no more than that attempts failed
    behind = error.__cause__ or error.__context__
    while behind is not None:
        text = str(error)
        proxy = type(error).__name__ == "ProxyError"
        if text and "Max retries exceeded" not in text and not proxy:
            break
        error, behind = behind, behind.__cause__ or behind.__context__
    text = re.sub(r"\?[^\s\"'()]*", "", " ".join(str(error).split()))
    if not text:
        return type(error).__name__
    return f"{type(error).__name__}: {text}"[:160]


def _statuses(error: BaseException) -> Iterator[int]:
    """Yield HTTP statuses of the login server behind an error; `ChunkAudit` deals with chunks."""
    if type(error).__name__ != "CouldNotConnectToAuthenticationSystem":
        return
    held: BaseException | None = error
    while held is not None:
        status = getattr(getattr(held, "response", None), "status_code", None)
        if isinstance(status, int):
            yield status
        held = held.__cause__ or held.__context__
