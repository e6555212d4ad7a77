# SPDX-License-Identifier: Apache-2.0
"""Find a Copernicus Marine login where the client looks for it; it is never shown."""

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
    """A user name, a password and where they were found; its text shows only where."""

    user: str
    password: str
    where: str

    def __repr__(self) -> str:
        return f"Login(from {self.where})"


def find_login() -> Login | None:
    """Look for a login in the environment, then in the files that the client reads.

    These are the file of ``copernicusmarine login``, that of motuclient, and ``.netrc``.
    """
    user, password = os.environ.get(USER), os.environ.get(PASSWORD)
    if user and password:
        return Login(user, password, "the environment")
    saved = _saved()
    if saved is None or not (user or password):
        return saved
    where = f"the environment and {saved.where}"
    return Login(user or saved.user, password or saved.password, where)


def need_login() -> Login:
    """Return the login that was found, or raise a `ReadError` that states how to give one."""
    login = find_login()
    if login is None:
        raise ReadError(
            f"no Copernicus Marine login in {USER} and {PASSWORD}, {_own_file()}, "
            "motuclient-python.ini or .netrc; run: copernicusmarine login (free: "
            "data.marine.copernicus.eu/register)"
        )
    return login


def _own_file() -> Path:
    folder = Path(os.environ.get(FOLDER) or Path.home())
    return folder / ".copernicusmarine" / ".copernicusmarine-credentials"


def _saved() -> Login | None:
    """Read the first file that exists, as the client does."""
    netrc_name = ".netrc"
    if os.name == "nt":
        netrc_name = "_netrc"
    readers = {
        _own_file(): _from_own,
        Path.home() / "motuclient" / "motuclient-python.ini": _from_motu,
        Path.home() / netrc_name: _from_netrc,
    }
    path = next(filter(Path.is_file, readers), None)
    if path is None:
        return None
    try:
        user, password = readers[path](path)
    except (OSError, ValueError, configparser.Error, netrc.NetrcParseError, binascii.Error):
        raise ReadError(
            f"{path} holds no login that can be read; mend it, or run: copernicusmarine login"
        ) from None
    if not (user and password):
        return None
    return Login(user, password, str(path))


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
    for host in HOSTS:
        # a login of before the service moved stands under a former host
        if entry := entries.authenticators(host):
            user, _, password = entry
            return user, password or ""
    return "", ""
