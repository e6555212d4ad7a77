# SPDX-License-Identifier: Apache-2.0
"""Which failures of the Copernicus Marine client are final, and what to tell of them; all others
may pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from sstfill.errors import OptionError, ReadError, SstfillError, unknown
from sstfill.sources.copernicus.request import CopernicusRequest

OURS = (TypeError, AttributeError, NameError, ImportError, AssertionError)
"""A mistake in a program is none of the network's: it is raised as it is."""


def refusal(
    error: BaseException, request: CopernicusRequest, known: Callable[[], list[str]]
) -> BaseException | None:
    """Return the error to raise, or None where another attempt may help.

    Parameters
    ----------
    error
        What the client raised; known by name, since its modules move.
    request
        What was asked.
    known
        Gives the ids of all datasets, where it is one that does not exist.
    """
    if isinstance(error, (SstfillError, *OURS)):
        return error
    name, text = type(error).__name__, " ".join(str(error).split())
    if name == "InvalidUsernameOrPassword" or 401 in _statuses(error) or 403 in _statuses(error):
        return ReadError(
            "Copernicus Marine refused the user name or the password; correct them, or run: copernicusmarine login"
        )
    if name in ("DatasetNotFound", "ProductNotFound") or "was not found in the catalogue" in text:
        ids = known()
        return (
            unknown("dataset", request.dataset_id, _near(request.dataset_id, ids))
            if ids
            else OptionError(
                f"no dataset {request.dataset_id!r}; look it up: copernicusmarine describe"
            )
        )
    if name == "VariableDoesNotExistInTheDataset":
        return OptionError(
            f"{text} See copernicusmarine describe --dataset-id {request.dataset_id}"
        )
    if name == "CoordinatesOutOfDatasetBounds":
        return OptionError(
            f"{request.dataset_id}: {text[0].lower()}{text[1:]}; ask for what lies within"
        )
    if name in ("DatasetVersionNotFound", "DatasetVersionPartNotFound"):
        return OptionError(f"{text} Versions are not to be mixed: begin another store")
    if name == "DatasetUpdating":
        return ReadError(f"{text} Try again when that is over, or end before it")
    if name in (
        "ServiceNotAvailable",
        "NoServiceAvailable",
        "FormatNotSupported",
        "ServiceDoesNotExistForCommand",
        "ServiceNotSupported",
        "WrongDatetimeFormat",
    ):
        return OptionError(f"{request.dataset_id} cannot be read so: {text}")
    return None


def told(error: BaseException) -> str:
    """Say what an error says, in one short line, without the parameters of addresses: a user name
    may be among them.

    Of an error that says nothing, or that attempts were made in vain, what was behind it.

    >>> told(OSError("no answer from https://host/key?x-cop-user=ada"))
    'OSError: no answer from https://host/key'
    """
    while (behind := error.__cause__ or error.__context__) is not None and _is_a_wrapper(error):
        error = behind
    text = re.sub(r"\?[^\s\"'()]*", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:160] if text else type(error).__name__


def _is_a_wrapper(error: BaseException) -> bool:
    return (
        not str(error)
        or "Max retries exceeded" in str(error)
        or type(error).__name__ == "ProxyError"
    )


def _statuses(error: BaseException) -> Iterator[int]:
    """Answers of the login server behind an error; a chunk that is refused is dealt with elsewhere."""
    if type(error).__name__ != "CouldNotConnectToAuthenticationSystem":
        return
    held: BaseException | None = error
    while held is not None:
        status = getattr(getattr(held, "response", None), "status_code", None)
        if isinstance(status, int):
            yield status
        held = held.__cause__ or held.__context__


def _near(name: str, ids: list[str]) -> list[str]:
    """Some ids like this one: the catalogue has a thousand."""
    import difflib

    return difflib.get_close_matches(name, ids, n=5, cutoff=0.4) or ids[:5]
