# SPDX-License-Identifier: Apache-2.0
"""The stand-in's server: an HTTP proxy on 127.0.0.1 that answers for every host itself."""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import xarray as xr

from standin.catalogue import Catalogue, Published
from standin.faults import CHUNK, Do, Dropped, Fault, Faults, Slow, Status, Truncated

# What the client asks for over TLS, and what stands for it without: no resolver knows .invalid (RFC
# 6761).
HOSTS = {
    "auth": "auth.marine.copernicus.eu",
    "stac": "stac.marine.copernicus.eu",
    "data": "s3.waw3-1.cloudferro.com",
}
ACCOUNTS = {"ada": "right-password"}
S3_ERRORS = {
    403: "AccessDenied",
    404: "NoSuchKey",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}
GONE = (ConnectionError, ssl.SSLError)  # the client hung up; its own business


class Seen(NamedTuple):
    """One request as it was answered; status 0 where no answer was given."""

    method: str
    path: str
    status: int


class Reply(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    kind: str = "application/json"


class StandIn(ThreadingHTTPServer):
    """The service: `with StandIn(dataset, ...) as server:` listens on a port that the system chose.

    `published` are `Published` versions, or plain datasets published under the id "standin_P1D-m".
    `accounts` are passwords by user. With `tls` it answers CONNECT and speaks for the real hosts;
    without, plain HTTP for hosts under .invalid.
    """

    daemon_threads = False
    block_on_close = True

    def __init__(
        self,
        *published: Published | xr.Dataset,
        accounts: dict[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tls = tls
        self.accounts = ACCOUNTS if accounts is None else accounts
        versions = tuple(
            p if isinstance(p, Published) else Published("standin_P1D-m", p) for p in published
        )
        self.catalogue = Catalogue(versions, stac=self.origin("stac"), data=self.origin("data"))
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._mishaps: list[BaseException] = []
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._loop = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def origin(self, role: str) -> str:
        """Scheme and host that speak for "auth", "stac" or "data"."""
        return f"https://{HOSTS[role]}" if self.tls else f"http://{role}.standin.invalid"

    @property
    def url(self) -> str:
        """The address for the proxy variables."""
        return f"http://127.0.0.1:{self.server_port}"

    def chunks(self) -> list[str]:
        """Paths of the data chunks that were asked for, answered or not, in order."""
        return [s.path for s in self.seen if re.search(CHUNK, s.path)]

    def lacks(self, path: str) -> bool:
        """A chunk that does not exist, being all land or withdrawn; there is nothing a fault could
        spoil.
        """
        return bool(re.search(CHUNK, path)) and self.catalogue.get(path) is None

    def __enter__(self) -> StandIn:
        self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._mishaps:
            raise self._mishaps[0]

    def close(self) -> None:
        """Stop listening and hang up; connections are refused from now on. May be called again."""
        if not self.closing.is_set():
            self.closing.set()
            self.shutdown()
            self.socket.close()
            with self._lock:
                for connection in self._connections:
                    _hang_up(connection)
            self.server_close()  # joins the threads of the connections
            self._loop.join()

    def keep(self, connection: socket.socket) -> None:
        """Remember a connection, to hang up when the server closes."""
        with self._lock:
            self._connections.add(connection)
        if self.closing.is_set():
            _hang_up(connection)

    def forget(self, connection: socket.socket) -> None:
        """This connection has ended."""
        with self._lock:
            self._connections.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that hangs up; all else fails the test, at the end of `with`."""
        error = sys.exception()
        if error is not None and not isinstance(error, GONE):
            self._mishaps.append(error)

    def reply(self, method: str, path: str, headers: Any, form: bytes) -> Reply:
        """Answer as the service does when all is well."""
        match path.rsplit("/", 1)[-1], method:
            case "token", "POST":
                return self._token(parse_qs(form.decode()))
            case "userinfo", "GET":
                return self._userinfo(headers.get("Authorization", ""))
            case _:
                found = self.catalogue.get(path)
                return (
                    refusal(404, path)
                    if found is None
                    else Reply(200, found, "application/octet-stream")
                )

    def _token(self, form: dict[str, list[str]]) -> Reply:
        user, password = (form.get(key, [""])[0] for key in ("username", "password"))
        if user not in self.accounts or self.accounts[user] != password:
            return _json(
                400, {"error": "invalid_grant", "error_description": "Invalid user credentials"}
            )
        return _json(200, {"access_token": f"token-of-{user}", "token_type": "Bearer"})

    def _userinfo(self, bearer: str) -> Reply:
        user = bearer.removeprefix("Bearer token-of-")
        return (
            _json(200, {"preferred_username": user})
            if user in self.accounts
            else refusal(401, "/userinfo")
        )


class _Handler(BaseHTTPRequestHandler):
    """One connection; over TLS from its CONNECT on."""

    server: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.keep(self.connection)

    def finish(self) -> None:
        super().finish()
        self.server.forget(self.connection)
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Silent: `server.seen` has it."""

    def do_CONNECT(self) -> None:
        if self.server.tls is None:
            self.send_error(501, "this stand-in has no certificate: StandIn(tls=...)")
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.rfile.close()
        self.wfile.close()
        self.server.forget(self.connection)
        self.request = self.server.tls.wrap_socket(
            self.connection, server_side=True, do_handshake_on_connect=False
        )
        self.setup()
        self.request.do_handshake()
        self.close_connection = False

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        form = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = None if self.server.lacks(path) else self.server.faults.take(path)
        if isinstance(fault, Do):
            fault.action()
        elif isinstance(fault, Slow):
            self.server.closing.wait(fault.seconds)
        elif isinstance(fault, Dropped):
            self.server.seen.append(Seen(self.command, path, 0))
            self.close_connection = True
            return
        if isinstance(fault, Status):
            reply = refusal(fault.code, path)
        else:
            reply = self.server.reply(self.command, path, self.headers, form)
        self.server.seen.append(Seen(self.command, path, reply.status))
        self._send(reply, fault)

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        body = reply.body
        if isinstance(fault, Truncated):
            body = body[: int(len(body) * fault.fraction)]
            self.close_connection = True
        promised = body if isinstance(fault, Truncated) and fault.declared else reply.body
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(promised)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def refusal(code: int, path: str) -> Reply:
    """An error document as the object store sends it."""
    name = S3_ERRORS.get(code, "Unauthorized" if code == 401 else "InternalError")
    error = f"<Code>{name}</Code><Message>{name}</Message><Key>{path}</Key>"
    xml = f"<?xml version='1.0'?><Error>{error}</Error>"
    return Reply(code, xml.encode(), "application/xml")


def _json(status: int, document: dict[str, str]) -> Reply:
    return Reply(status, json.dumps(document).encode())


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it had gone already
