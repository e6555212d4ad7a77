# SPDX-License-Identifier: Apache-2.0
"""Mode A: the real client in a process of its own, over TLS, set by environment variables alone."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from standin.client import PROXIES
from standin.server import HOSTS, StandIn

if TYPE_CHECKING:
    import trustme

CERTIFICATES = (
    "COPERNICUSMARINE_SET_SSL_CERTIFICATE_PATH",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "SSL_CERT_FILE",
)


def authority() -> trustme.CA:
    """A throw-away certificate authority; nobody but the one subprocess trusts it."""
    import trustme

    return trustme.CA()


def identity(ca: trustme.CA) -> ssl.SSLContext:
    """What `StandIn(tls=...)` shows to be taken for every host the client asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*HOSTS.values()).configure_cert(context)
    return context


def environment(
    server: StandIn,
    ca: trustme.CA,
    home: Path,
    *,
    user: str | None = None,
    password: str | None = None,
) -> dict[str, str]:
    """Return the environment of the subprocess: this one's without proxies and cloud accounts.

    The login is the server's first account unless given; an empty `user` means no credentials at
    all. Files of the client go under `home`. It asks twice for a catalogue file, with no more than
    ten seconds for each answer.
    """
    trusted = home / "authority.pem"
    ca.cert_pem.write_to_path(trusted)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "COPERNICUS"))}
    known_user, known_password = next(iter(server.accounts.items()))
    if user is None:
        user = known_user
    if password is None:
        password = known_password
    return {
        **inherited,
        **dict.fromkeys(PROXIES, server.url),
        **dict.fromkeys(CERTIFICATES, str(trusted)),
        "NO_PROXY": "",
        "no_proxy": "",
        "HOME": str(home),
        "COPERNICUSMARINE_SERVICE_USERNAME": user,
        "COPERNICUSMARINE_SERVICE_PASSWORD": password,
        "COPERNICUSMARINE_CREDENTIALS_DIRECTORY": str(home),
        "COPERNICUSMARINE_HTTPS_TIMEOUT": "10",
        "COPERNICUSMARINE_HTTPS_RETRIES": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "OMP_NUM_THREADS": "1",
    }
