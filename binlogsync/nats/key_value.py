"""A key-value bucket of NATS for plain, synchronous code: get, conditional put, list, delete."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue

from binlogsync.errors import SinkError
from binlogsync.nats.buckets import create_key_value
from binlogsync.nats.client import NatsConnection

Result = TypeVar("Result")


class _NoBucketError(Exception):
    """The bucket does not exist, and the operation does not need it."""


class KeyValueBucket:
    """A key-value bucket, created when it does not exist. Several threads may use it.

    Args:
        connection: an open connection; the caller closes it.
        name: name of the bucket.
        ttl_s: how long a value is kept without renewal; None for no limit.
        stream: the stream whose number of replicas the bucket gets; None for one replica.
    """

    def __init__(
        self, connection: NatsConnection, name: str, ttl_s: float | None = None, stream: str | None = None
    ) -> None:
        self.name = name
        self._stream = stream
        self._connection = connection
        self._ttl_s = ttl_s
        self._lock = threading.Lock()

    def get(self, key: str) -> tuple[bytes, int] | None:
        """(value, revision); None when the key does not exist."""
        return self._run(lambda bucket: _get(bucket, key))

    def put(self, key: str, value: bytes, revision: int | None = None) -> int | None:
        """Write the value if the key still has that revision (0: if it does not exist; None: in any case); returns the
        new revision, None if it does not.

        If the acknowledgement was lost but the value is stored, that counts as written.
        """

        async def put(bucket: KeyValue) -> int | None:
            try:
                if revision is None:
                    return int(await bucket.put(key, value))
                if revision:
                    return int(await bucket.update(key, value, last=revision))
                return await _create(bucket, key, value)
            except nats.js.errors.KeyWrongLastSequenceError:
                current = await _get(bucket, key)
                return current[1] if current is not None and current[0] == value else None

        return self._run(put)

    def values(self, pattern: str) -> list[bytes]:
        """The values of all keys that match; `*` stands for one token between dots."""
        return list(self.items(pattern).values())

    def items(self, pattern: str) -> dict[str, bytes]:
        """The values of all keys that match, by key. Does not create the bucket."""
        return {key: value for key, (value, _) in self.entries(pattern).items()}

    def entries(self, pattern: str) -> dict[str, tuple[bytes, int]]:
        """(value, revision) of all keys that match, by key. Does not create the bucket.

        nats-py calls a watch empty when the server has sent all values and none has arrived yet, so an empty result is
        checked by the names of the keys.
        """

        async def read(bucket: KeyValue) -> dict[str, tuple[bytes, int]]:
            found: dict[str, tuple[bytes, int]] = {}
            watcher: Any = await bucket.watch(pattern, ignore_deletes=True)
            try:
                while (entry := await watcher.updates(self._connection.options.request_timeout_s)) is not None:
                    found[entry.key] = entry.value or b"", entry.revision
            finally:
                await watcher.stop()
            return found

        try:
            found = self._run(read, makes=False)
        except _NoBucketError:
            return {}
        if found:
            return found
        entries = {key: self.get(key) for key in self._find_keys(pattern)}
        return {key: entry for key, entry in entries.items() if entry is not None}

    def state(self) -> tuple[object, ...] | None:
        """A value that differs after each change of the bucket, in one request; None when there is no bucket."""

        async def state(client: Client) -> tuple[object, ...] | None:
            try:
                info = await client.jetstream().stream_info(f"KV_{self.name}")
            except nats.js.errors.NotFoundError:
                return None
            return info.created, info.state.first_seq, info.state.last_seq, info.state.messages

        return self._retry(state)

    def delete(self, key: str) -> None:
        """Delete the key."""

        async def delete(bucket: KeyValue) -> None:
            await bucket.delete(key)

        self._run(delete)

    def _find_keys(self, pattern: str) -> list[str]:
        """The names of all keys that match, deleted ones too."""
        prefix = f"$KV.{self.name}."

        async def names(client: Client) -> list[str]:
            try:
                info = await client.jetstream().stream_info(f"KV_{self.name}", f"{prefix}{pattern}")
            except nats.js.errors.NotFoundError:
                return []
            return [subject.removeprefix(prefix) for subject in info.state.subjects or ()]

        return self._connection.retry(names)

    def _run(self, work: Callable[[KeyValue], Awaitable[Result]], *, makes: bool = True) -> Result:
        async def on_bucket(client: Client) -> Result:
            js = client.jetstream()
            try:
                bucket = await js.key_value(self.name)
            except nats.js.errors.NotFoundError:
                if not makes:
                    raise _NoBucketError from None
                config = KeyValueConfig(bucket=self.name, ttl=self._ttl_s)
                if self._stream is not None:
                    config.replicas = await _replicas(js, self._stream)
                bucket = await create_key_value(js, config)
            return await work(bucket)

        with self._lock:
            return self._retry(on_bucket)

    def _retry(self, work: Callable[[Client], Awaitable[Result]]) -> Result:
        try:
            return self._connection.retry(work)
        except nats.js.errors.APIError as error:
            raise SinkError(
                f"NATS at {self._connection.options.address} rejected a request for the key-value bucket {self.name}: "
                f"{error.description} (code {error.err_code}); allow this account to create and use it"
            ) from error


async def _replicas(js: JetStreamContext, stream: str) -> int:
    try:
        return (await js.stream_info(stream)).config.num_replicas or 1
    except nats.js.errors.NotFoundError:
        raise SinkError(f"stream {stream} does not exist: the tail creates it; start the tail first") from None


async def _create(bucket: KeyValue, key: str, value: bytes) -> int:
    """Create the key. nats-py reads a key that exists, which may have expired, or been purged, since it was refused."""
    while True:
        with suppress(nats.js.errors.KeyNotFoundError):
            return int(await bucket.create(key, value))


async def _get(bucket: KeyValue, key: str) -> tuple[bytes, int] | None:
    try:
        entry = await bucket.get(key)
    except nats.js.errors.KeyNotFoundError:
        return None
    return entry.value or b"", int(entry.revision or 0)
