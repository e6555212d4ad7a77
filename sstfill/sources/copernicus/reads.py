# SPDX-License-Identifier: Apache-2.0
"""Record which chunks the client's store was refused, and end its attempts at a deadline."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import xarray as xr

from sstfill.errors import ReadError
from sstfill.sources.copernicus.deadline import Deadline
from sstfill.sources.copernicus.refusals import OURS, summary

# bytes of compressed chunks kept, for windows that end within a chunk of the source
CACHE = 3 * 2**24
METADATA = (".zmetadata", ".zarray", ".zattrs", ".zgroup", "zarr.json")
ATTACHED = "sstfill_reads"


class Reads:
    """Chunks that a store delivered since `clear`, and chunks that it said it does not have.

    The client turns a chunk answered 403 or 404 into missing values without a word. Zarr leaves out
    chunks of nothing but fill values, so that this may be right; `ChunkAudit` decides.

    Parameters
    ----------
    seconds
        How long each chunk may be asked for.
    pause
        Seconds before it is asked for again the first time.

    Attributes
    ----------
    came, refused
        Keys of chunks.
    ask
        Whether the store has a key now, past the cache; None where the client cannot be asked.
    stop
        Set when nobody waits any more for what is under way.
    session
        Held while the client's session is made.
    """

    def __init__(self, seconds: float, pause: float = 0.25) -> None:
        self.seconds = seconds
        self.pause = pause
        self.came: set[str] = set()
        self.refused: set[str] = set()
        self.ask: Callable[[str], bool] | None = None
        self.stop = threading.Event()
        self.session = threading.Lock()
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Begin a new record; the cache stays."""
        with self._lock:
            self.came, self.refused = set(), set()

    def cached(self, key: str) -> bytes | None:
        """Return the bytes of a chunk that came recently, and record it as one that came."""
        with self._lock:
            if key not in self._cache:
                return None
            # the least recently used goes first
            self._cache.move_to_end(key)
            self.came.add(key)
            return self._cache[key]

    def note(self, key: str, body: bytes | None) -> None:
        """Record an answer: the bytes of a chunk, or None where there is no such key."""
        # metadata that are absent are no loss of values
        if key.rpartition("/")[2] in METADATA:
            return
        with self._lock:  # chunks are read by threads of Zarr
            if body is None:
                self.refused.add(key)
                return
            self.came.add(key)
            self._cached_bytes += len(body) - len(self._cache.pop(key, b""))
            self._cache[key] = body
            # the last one stays however large it is: the next window begins within it
            while self._cached_bytes > CACHE and len(self._cache) > 1:
                _, oldest = self._cache.popitem(last=False)
                self._cached_bytes -= len(oldest)

    def forget(self) -> None:
        """Empty the cache: one of its chunks may be damaged."""
        with self._lock:
            self._cache.clear()
            self._cached_bytes = 0


def reads_of(ds: xr.Dataset) -> Reads | None:
    """Return the record of reads that comes with a dataset of the client."""
    found = ds.encoding.get(ATTACHED)
    if isinstance(found, Reads):
        return found
    return None


_thread = threading.local()  # `reads`: the record for what this thread opens
_installing = threading.Lock()
_openings = 0


@contextlib.contextmanager
def noted(reads: Reads) -> Iterator[None]:
    """Record in `reads` what is read of the datasets that the client opens in this context.

    Other threads, among them openings that were given up and still wait for an answer, are not
    affected. Where the inside of the client is not as in release 2.5 nothing is recorded.
    """
    try:
        from copernicusmarine.core_functions import custom_s3_store_zarr_v3 as module

        _install(module, +1)
    except (ImportError, AttributeError):
        yield
        return
    _thread.reads = reads
    try:
        yield
    finally:
        _thread.reads = None
        _install(module, -1)


def _install(module: Any, change: int) -> None:
    """Replace the client's store by ours while anything is being opened."""
    global _openings
    with _installing:  # datasets may be opened by several threads: the last one restores
        if _openings == 0:
            module.CustomS3StoreZarrV3 = _recording(module.CustomS3StoreZarrV3)
        _openings += change
        if _openings == 0:
            module.CustomS3StoreZarrV3 = module.CustomS3StoreZarrV3.__base__


def _recording(original: Any) -> Any:
    """Return the client's store as a class that records its reads where the thread has a record."""

    class RecordingStore(original):
        """The client's store, with a record of its reads."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            # at construction, in the thread that opens; reads come from threads of Zarr
            self._reads: Reads | None = getattr(_thread, "reads", None)
            if self._reads is not None:
                self._reads.ask = self.has

        def _get_session(self) -> Any:
            if self._reads is None:
                return super()._get_session()
            with self._reads.session:  # threads would each make one
                if self._session is None:
                    session = super()._get_session()
                    name = self._copernicus_marine_username
                    session.s3_client = _without_retries(
                        session.s3_client, name, self._reads.seconds
                    )
                return self._session

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if self._reads is None:
                return await super().get(key, prototype, byte_range)
            body = self._reads.cached(key)
            if body is not None:
                return prototype.buffer.from_bytes(body)
            found = await super().get(key, prototype, byte_range)
            if found is not None:
                body = found.to_bytes()
            self._reads.note(key, body)
            return found

        def with_retries(self, fn: Callable[[], Any]) -> Any:
            if self._reads is None:
                return super().with_retries(fn)
            deadline = Deadline(self._reads.seconds, first_pause=self._reads.pause)
            return deadline.attempts(stopped=self._reads.stop)(fn)

        def has(self, key: str) -> bool:
            """Whether the service has this key now; `ReadError` if it does not answer."""

            def ask() -> bool:
                return _is_there(self._get_session(), self._bucket, f"{self._root_path}/{key}")

            try:
                return bool(self.with_retries(ask))
            except OURS:
                raise
            except Exception as error:  # of the network
                raise ReadError(
                    f"the service does not answer whether it has {key} ({summary(error)}); check "
                    "the network and run the same command again, it goes on where it was"
                ) from error

    return RecordingStore


def _is_there(session: Any, bucket: str, key: str) -> bool:
    import botocore.exceptions

    try:
        session.get_object(bucket_name=bucket, object_key=key)["Body"].close()
    except botocore.exceptions.ClientError as error:
        # the service answers 403, too, for a key that it does not have
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
            return False
        raise
    return True


def _without_retries(client: Any, username: str | None, seconds: float) -> Any:
    """Return the same S3 client with one attempt: how often is decided in `with_retries` alone."""
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
    # a session of our own: boto3's default session is not safe for threads
    once = boto3.Session().client("s3", config=config, endpoint_url=client.meta.endpoint_url)
    for operation in ("GetObject", "HeadObject", "ListObjectsV2"):
        once.meta.events.register(
            f"before-call.s3.{operation}", create_custom_query_function(username)
        )
    client.close()
    return once
