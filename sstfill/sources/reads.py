# SPDX-License-Identifier: Apache-2.0
"""The client's store made honest and less stubborn: it notes the chunks it was refused, and gives up when told to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import xarray as xr

from sstfill.sources.patience import Patience

CACHE = 2**26  # bytes of compressed chunks kept, for windows that end within a chunk of the source
METADATA = (".zmetadata", ".zarray", ".zattrs", ".zgroup", "zarr.json")
ATTACHED = "sstfill_reads"


class Reads:
    """What was asked of a store since `clear`: keys of chunks that came, and keys that it says it does not have.

    The client turns a chunk answered 403 or 404 into missing values without a word. Zarr leaves out chunks of nothing but
    fill values, so that this may be right; whether it is can only be judged by who knows that it happened.
    """

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.came: set[str] = set()
        self.refused: set[str] = set()
        self.ask: Callable[[str], bool] | None = None  # whether the store has a key, past the cache
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Begin a new account."""
        with self._lock:
            self.came, self.refused = set(), set()

    def held(self, key: str) -> bytes | None:
        """Return the bytes of a chunk that came lately."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            self.came.add(key)
            return self._held[key]

    def note(self, key: str, body: bytes | None) -> None:
        """Take note of an answer: the bytes of a chunk, or None where there is no such key."""
        if key.rpartition("/")[2] in METADATA:
            return
        with self._lock:
            if body is None:
                self.refused.add(key)
                return
            self.came.add(key)
            self._held[key] = body
            while sum(map(len, self._held.values())) > CACHE and len(self._held) > 1:
                self._held.popitem(last=False)

    def forget(self) -> None:
        """Fetch all chunks anew: one of those held may be damaged."""
        with self._lock:
            self._held.clear()


def reads_of(ds: xr.Dataset) -> Reads | None:
    """Return the account that comes with a dataset of the client's."""
    found = ds.encoding.get(ATTACHED)
    return found if isinstance(found, Reads) else None


def column(key: str) -> str:
    """Name the place of a chunk without its time, which comes first: ``thetao/3.0.1`` is in the column ``thetao/*.0.1``.

    >>> column("thetao/3.0.1")
    'thetao/*.0.1'
    """
    array, _, number = key.rpartition("/")
    return f"{array}/*{number[number.find('.') :] if '.' in number else ''}"


@contextlib.contextmanager
def noted(reads: Reads) -> Iterator[None]:
    """Let datasets that the client opens in this context be read with an account in `reads`.

    Where the client's inside is not as in release 2.5 they are opened as it does, without one.
    """
    try:
        from copernicusmarine.core_functions import custom_s3_store_zarr_v3 as module

        original = module.CustomS3StoreZarrV3
        substitute = _honest(original, reads)
    except (ImportError, AttributeError):
        yield
        return
    module.CustomS3StoreZarrV3 = substitute
    try:
        yield
    finally:
        module.CustomS3StoreZarrV3 = original


def _honest(original: Any, reads: Reads) -> Any:
    lock = threading.Lock()

    class HonestStore(original):  # type: ignore[misc]
        """The client's store, with an account of its reads."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            reads.ask = self.has

        def _get_session(self) -> Any:
            with lock:
                if self._session is None:
                    session = super()._get_session()
                    session.s3_client = _impatient(session.s3_client, self._copernicus_marine_username, reads.patience)
                return self._session

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if (body := reads.held(key)) is not None:
                return prototype.buffer.from_bytes(body)
            found = await super().get(key, prototype, byte_range)
            reads.note(key, None if found is None else found.to_bytes())
            return found

        def with_retries(self, fn: Callable[[], Any]) -> Any:
            attempt = 0
            while True:
                try:
                    answer = fn()
                except Exception:  # whatever it is, another attempt is all there is to do
                    if not reads.patience.wait(attempt):
                        raise
                    attempt += 1
                else:
                    reads.patience.renew()
                    return answer

        def has(self, key: str) -> bool:
            """Whether the service has this key now."""
            import botocore.exceptions

            def ask() -> bool:
                try:
                    self._get_session().get_object(bucket_name=self._bucket, object_key=f"{self._root_path}/{key}")[
                        "Body"
                    ].close()
                except botocore.exceptions.ClientError as error:
                    if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
                        return False
                    raise
                return True

            return bool(self.with_retries(ask))

    return HonestStore


def _impatient(client: Any, username: str | None, patience: Patience) -> Any:
    """The same S3 client, which tries once: how often, and for how long, is decided in one place only."""
    import boto3
    import botocore
    import botocore.config
    from copernicusmarine.core_functions.utils import create_custom_query_function

    config = botocore.config.Config(
        signature_version=botocore.UNSIGNED, retries={"total_max_attempts": 1, "mode": "standard"}, max_pool_connections=32,
        connect_timeout=min(10.0, patience.seconds), read_timeout=min(60.0, patience.seconds),
    )  # fmt: skip
    once = boto3.Session().client("s3", config=config, endpoint_url=client.meta.endpoint_url)
    for operation in ("GetObject", "HeadObject", "ListObjectsV2"):
        once.meta.events.register(f"before-call.s3.{operation}", create_custom_query_function(username))
    client.close()
    return once


def wait_a_moment(attempt: int) -> None:
    """Give a service that has just refused a chunk time to find it again."""
    time.sleep(min(4.0, 0.5 * 2**attempt))
