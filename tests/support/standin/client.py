# SPDX-License-Identifier: Apache-2.0
"""Mode B: the real client in this process, pointed at a stand-in without TLS."""

from __future__ import annotations

import io
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from standin.server import StandIn

PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


def point_at(
    server: StandIn,
    patch: pytest.MonkeyPatch,
    home: Path,
    *,
    user: str | None = None,
    password: str | None = None,
) -> None:
    """Send everything the client asks for to `server`, with its first login unless one is given.

    The client keeps its files under `home`. Patched are addresses, the login and the folder of
    saved logins, which the client reads from the environment when it is imported; its code runs as
    released.
    """
    from copernicusmarine.core_functions import credentials_utils, marine_datastore_config, sessions

    loopback_only(patch)
    _descriptions_read_once(patch)
    patch.setattr(sys, "stdin", io.StringIO())  # nobody to ask for a password
    known_user, known_password = next(iter(server.accounts.items()))
    if user is None:
        user = known_user
    if password is None:
        password = known_password
    realm = f"{server.origin('auth')}/realms/MIS/protocol/openid-connect"
    patch.setattr(
        credentials_utils, "COPERNICUS_MARINE_AUTH_SYSTEM_TOKEN_ENDPOINT", f"{realm}/token"
    )
    patch.setattr(
        credentials_utils, "COPERNICUS_MARINE_AUTH_SYSTEM_USERINFO_ENDPOINT", f"{realm}/userinfo"
    )
    patch.setattr(credentials_utils, "COPERNICUSMARINE_SERVICE_USERNAME", user)
    patch.setattr(credentials_utils, "COPERNICUSMARINE_SERVICE_PASSWORD", password)
    patch.setattr(credentials_utils, "DEFAULT_CLIENT_BASE_DIRECTORY", home / ".copernicusmarine")
    config = f"{server.origin('data')}/mdl-metadata/clientsConfigV1.json"
    patch.setattr(marine_datastore_config, "MARINE_DATASTORE_CONFIG_URL_DIRECT", config)
    patch.setattr(
        marine_datastore_config,
        "MARINE_DATASTORE_CONFIG_URL_CDN",
        f"{server.origin('stac')}/clients-config-v1",
    )
    patch.setattr(sessions, "PROXIES", {"http": server.url, "https": server.url})
    for name, value in _environment(server, home, user, password).items():
        patch.setenv(name, value)
    for name in (n for n in os.environ if n.startswith("AWS_PROFILE")):
        patch.delenv(name)


@cache
def _reader() -> Callable[[str], Any]:
    """Read a description of a service that lies with botocore, once in a process."""
    from botocore.loaders import JSONFileLoader

    return cache(JSONFileLoader().load_file)


def _descriptions_read_once(patch: pytest.MonkeyPatch) -> None:
    """Share the descriptions of services between sessions, half of what an opening costs here."""
    from botocore.loaders import JSONFileLoader

    read = _reader()
    patch.setattr(JSONFileLoader, "load_file", lambda _, path: read(path))


def _environment(server: StandIn, home: Path, user: str, password: str) -> dict[str, str]:
    return {
        **dict.fromkeys(PROXIES, server.url),
        "NO_PROXY": "",
        "no_proxy": "",
        "HOME": str(home),
        "COPERNICUSMARINE_CREDENTIALS_DIRECTORY": str(home),
        "COPERNICUSMARINE_SERVICE_USERNAME": user,
        "COPERNICUSMARINE_SERVICE_PASSWORD": password,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(home / "no-aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-aws-credentials"),
    }


def impatient(patch: pytest.MonkeyPatch, tries: int = 2) -> None:
    """Let the client give up on a chunk after `tries` attempts without waiting; as released it
    takes nine minutes.
    """
    from copernicusmarine.core_functions import custom_s3_store_zarr_v3 as store
    from copernicusmarine.core_functions import sessions

    released = next(
        c for c in store.CustomS3StoreZarrV3.__mro__ if c.__module__.startswith("copernicusmarine.")
    )
    patch.setattr(released.__init__, "__defaults__", (None, tries, 0))
    as_released = sessions.botocore.config.Config

    def without_retries(**options: Any) -> Any:
        return as_released(**options | {"retries": {"max_attempts": 0}})

    patch.setattr(sessions.botocore.config, "Config", without_retries)


def end_openings(seconds: float = 20.0) -> None:
    """Wait for openings that were given up: with the addresses restored they would go on to the
    real ones.
    """
    for thread in openings():
        thread.join(seconds)
        assert not thread.is_alive()


def openings() -> list[threading.Thread]:
    """Openings that are under way, or were given up."""
    return [thread for thread in threading.enumerate() if thread.name == "sstfill-limited"]


def loopback_only(patch: pytest.MonkeyPatch) -> None:
    """Refuse to look up, or to connect to, anything but this machine."""
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def guarded_look_up(host: Any, *args: Any, **options: Any) -> Any:
        _refuse_unless_loopback(host)
        return look_up(host, *args, **options)

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_unless_loopback(address[0])
        connect(self, address)

    patch.setattr(socket, "getaddrinfo", guarded_look_up)
    patch.setattr(socket.socket, "connect", guarded_connect)


def _refuse_unless_loopback(host: Any) -> None:
    text = host.decode() if isinstance(host, bytes) else host or "localhost"
    try:
        here = ipaddress.ip_address(text).is_loopback
    except ValueError:
        here = text == "localhost"
    if not here:
        raise PermissionError(f"a test tried to reach {text}; only loopback is allowed")
