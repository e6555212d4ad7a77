# SPDX-License-Identifier: Apache-2.0
"""Where a Copernicus Marine login lies, looked up as the client does but before it asks anybody;
never shown.
"""

from __future__ import annotations

import base64
import binascii
import configparser
import netrc
import os
from dataclasses import dataclass
from pathlib import Path

from sstfill.errors import ReadError

USER, PASSWORD = "COPERNICUSMARINE_SERVICE_USERNAME", "COPERNICUSMARINE_SERVICE_PASSWORD"
FOLDER = "COPERNICUSMARINE_CREDENTIALS_DIRECTORY"
HOSTS = ("nrt.cmems-du.eu", "my.cmems-du.eu", "auth.marine.copernicus.eu", "default_host")


@dataclass(frozen=True, repr=False)
class Login:
    """A user name and a password, and where they were found; its text says only where."""

    user: str
    password: str
    where: str

    def __repr__(self) -> str:
        return f"Login(from {self.where})"


def find_login() -> Login | None:
    """Look for a login in the environment, the file of ``copernicusmarine login``, motuclient's and
    ``.netrc``.
    """
    given = os.environ.get(USER), os.environ.get(PASSWORD)
    if given[0] and given[1]:
        return Login(given[0], given[1], "the environment")
    saved = _saved()
    user, password = given[0] or (saved and saved.user), given[1] or (saved and saved.password)
    return (
        Login(user, password, f"the environment and {saved.where}" if any(given) else saved.where)
        if (saved and user and password)
        else None
    )


def need_login() -> Login:
    """Return the login that was found, or raise a `ReadError` that tells how to give one."""
    login = find_login()
    if login is None:
        raise ReadError(
            f"no Copernicus Marine login in {USER} and {PASSWORD}, {_own_file()}, motuclient-python.ini or "
            ".netrc; run: copernicusmarine login (free: data.marine.copernicus.eu/register)"
        )
    return login


def _own_file() -> Path:
    return (
        Path(os.environ.get(FOLDER) or Path.home())
        / ".copernicusmarine"
        / ".copernicusmarine-credentials"
    )


def _saved() -> Login | None:
    """The first file that exists decides, as for the client."""
    readers = {
        _own_file(): _from_own,
        Path.home() / "motuclient" / "motuclient-python.ini": _from_motu,
        Path.home() / ("_netrc" if os.name == "nt" else ".netrc"): _from_netrc,
    }
    for path, read in readers.items():
        if path.is_file():
            try:
                user, password = read(path)
            except (OSError, ValueError, configparser.Error, netrc.NetrcParseError, binascii.Error):
                raise ReadError(
                    f"{path} holds no login that can be read; mend it, or run: copernicusmarine login"
                ) from None
            return Login(user, password, str(path)) if user and password else None
    return None


def _from_own(path: Path) -> tuple[str, str]:
    parser = configparser.RawConfigParser()
    parser.read_string(base64.standard_b64decode(path.read_text("ascii")).decode("utf-8"))
    return parser.get("credentials", "username"), parser.get("credentials", "password")


def _from_motu(path: Path) -> tuple[str, str]:
    parser = configparser.RawConfigParser()
    parser.read_string(path.read_text("utf-8"))
    return parser.get("Main", "user"), parser.get("Main", "pwd")


def _from_netrc(path: Path) -> tuple[str, str]:
    entries = netrc.netrc(path)
    found = next((held for host in HOSTS if (held := entries.authenticators(host))), None)
    return (found[0], found[2] or "") if found else ("", "")
