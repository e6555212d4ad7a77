# SPDX-License-Identifier: Apache-2.0
"""The client's store made honest and less stubborn: it notes the chunks it was refused, and gives
up when told to.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import xarray as xr

from sstfill.errors import ReadError
from sstfill.sources.copernicus.deadline import Deadline
from sstfill.sources.copernicus.refusals import OURS, told

CACHE = (
    3 * 2**24
)  # bytes of compressed chunks kept, for windows that end within a chunk of the source
METADATA = (".zmetadata", ".zarray", ".zattrs", ".zgroup", "zarr.json")
ATTACHED = "sstfill_reads"


class Reads:
    """What was asked of a store since `clear`: keys of chunks that came, and keys that it says it
    does not have.

    The client turns a chunk answered 403 or 404 into missing values without a word. Zarr leaves out
    chunks of nothing but fill values, so that this may be right; whether it is can only be judged
    by who knows that it happened.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds  # that each chunk may be asked for
        self.gave_up = False
        self.came: set[str] = set()
        self.refused: set[str] = set()
        self.ask: Callable[[str], bool] | None = None  # whether the store has a key, past the cache
        self.stop = threading.Event()  # set when nobody waits any more for what is under way
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0  # bytes of those
        self._lock = threading.Lock()
        self.session = threading.Lock()  # held while the client's session is made

    def clear(self) -> None:
        """Begin a new account."""
        with self._lock:
            self.came, self.refused, self.gave_up = set(), set(), False

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
            self._size += len(body) - len(self._held.pop(key, b""))
            self._held[key] = body
            while self._size > CACHE and len(self._held) > 1:
                self._size -= len(self._held.popitem(last=False)[1])

    def forget(self) -> None:
        """Fetch all chunks anew: one of those held may be damaged."""
        with self._lock:
            self._held.clear()
            self._size = 0


def reads_of(ds: xr.Dataset) -> Reads | None:
    """Return the account that comes with a dataset of the client's."""
    found = ds.encoding.get(ATTACHED)
    return found if isinstance(found, Reads) else None


_here = threading.local()  # `reads`: the account of what this thread opens
_installed = threading.Lock()
_openings = 0


@contextlib.contextmanager
def noted(reads: Reads) -> Iterator[None]:
    """Let what the client opens on this thread, in this context, be read with an account in
    `reads`.

    Other threads, among them openings that were given up and still wait for an answer, are not
    touched. Where the inside of the client is not as in release 2.5 it opens as it does, without an
    account.
    """
    try:
        from copernicusmarine.core_functions import custom_s3_store_zarr_v3 as module

        _install(module, +1)
    except (ImportError, AttributeError):
        yield
        return
    _here.reads = reads
    try:
        yield
    finally:
        _here.reads = None
        _install(module, -1)


def _install(module: Any, change: int) -> None:
    """Put our store in the place of the client's while anything is being opened."""
    global _openings
    with _installed:
        if _openings == 0:
            module.CustomS3StoreZarrV3 = _honest(module.CustomS3StoreZarrV3)
        _openings += change
        if _openings == 0:
            module.CustomS3StoreZarrV3 = module.CustomS3StoreZarrV3.__base__


def _honest(original: Any) -> Any:
    """The client's store with an account of its reads; without one, the client's store."""

    class HonestStore(original):
        """The client's store, with an account of its reads."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._reads: Reads | None = getattr(_here, "reads", None)
            if self._reads is not None:
                self._reads.ask = self.has

        def _get_session(self) -> Any:
            if self._reads is None:
                return super()._get_session()
            with self._reads.session:
                if self._session is None:
                    session = super()._get_session()
                    name = self._copernicus_marine_username
                    session.s3_client = _impatient(session.s3_client, name, self._reads.seconds)
                return self._session

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if self._reads is None:
                return await super().get(key, prototype, byte_range)
            if (body := self._reads.held(key)) is not None:
                return prototype.buffer.from_bytes(body)
            found = await super().get(key, prototype, byte_range)
            self._reads.note(key, None if found is None else found.to_bytes())
            return found

        def with_retries(self, fn: Callable[[], Any]) -> Any:
            if self._reads is None:
                return super().with_retries(fn)
            patience, attempt = Deadline(self._reads.seconds, sleep=self._reads.stop.wait), 0
            while True:
                try:
                    return fn()
                except Exception:  # whatever it is, another attempt is all there is to do
                    if not patience.wait(attempt) or self._reads.stop.is_set():
                        self._reads.gave_up = True
                        raise
                    attempt += 1

        def has(self, key: str) -> bool:
            """Whether the service has this key now; `ReadError` if it does not answer."""
            try:
                return bool(
                    self.with_retries(
                        lambda: _is_there(
                            self._get_session(), self._bucket, f"{self._root_path}/{key}"
                        )
                    )
                )
            except OURS:
                raise
            except Exception as error:  # of the network
                raise ReadError(
                    f"the service does not answer whether it has {key} ({told(error)}); check the network "
                    "and run the same command again, it goes on where it was"
                ) from error

    return HonestStore


def _is_there(session: Any, bucket: str, key: str) -> bool:
    import botocore.exceptions

    try:
        session.get_object(bucket_name=bucket, object_key=key)["Body"].close()
    except botocore.exceptions.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
            return False
        raise
    return True


def _impatient(client: Any, username: str | None, seconds: float) -> Any:
    """The same S3 client, which tries once: how often, and for how long, is decided in one place
    only.
    """
    import boto3
    import botocore
    import botocore.config
    from copernicusmarine.core_functions.utils import create_custom_query_function

    config = botocore.config.Config(
        signature_version=botocore.UNSIGNED,
        max_pool_connections=32,
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=min(10.0, seconds),
        read_timeout=min(60.0, seconds),
    )
    once = boto3.Session().client("s3", config=config, endpoint_url=client.meta.endpoint_url)
    for operation in ("GetObject", "HeadObject", "ListObjectsV2"):
        once.meta.events.register(
            f"before-call.s3.{operation}", create_custom_query_function(username)
        )
    client.close()
    return once


def wait_a_moment(attempt: int) -> None:
    """Give a service that has just refused a chunk time to find it again."""
    time.sleep(min(4.0, 0.5 * 2**attempt))
