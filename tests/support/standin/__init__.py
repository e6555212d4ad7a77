# SPDX-License-Identifier: Apache-2.0
"""A loopback Copernicus Marine: catalogue, login and ARCO Zarr for the real, unmodified client.

Mode B, in the test's own process and without TLS (`standin.client.point_at`): three addresses of
the client are monkeypatched and the rest goes through an HTTP proxy. Mode A, in a subprocess and
over TLS (`standin.tls.environment`): environment variables alone. Both ask the same `StandIn`, a
server on 127.0.0.1 that acts as that proxy::

    with StandIn(a_model("cmems_mod_glo_phy_anfc_0.083deg_PT1H-m")) as server:
        point_at(server, monkeypatch, tmp_path)
        server.faults.add(Status(503), CHUNK)  # the next chunk asked for is refused once
        ds = copernicusmarine.open_dataset(dataset_id=..., chunk_size_limit=0)

Everything that was asked for is in `server.seen`. What the server does on demand is in
`standin.faults`.
"""

from standin.catalogue import Published
from standin.faults import CATALOGUE, CHUNK, CONFIG, LOGIN, Do, Dropped, Slow, Status, Truncated
from standin.server import StandIn
from standin.store import a_level3, a_model

__all__ = [
    "CATALOGUE",
    "CHUNK",
    "CONFIG",
    "LOGIN",
    "Do",
    "Dropped",
    "Published",
    "Slow",
    "StandIn",
    "Status",
    "Truncated",
    "a_level3",
    "a_model",
]
