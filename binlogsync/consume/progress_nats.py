"""Progress in a NATS key-value bucket, for consumers without a DuckDB file.

It is stored after a handler has returned, never before: a kill between the two repeats a few changes and loses none. An
update is conditional on the revision read before, so two consumers with one client id cannot both update it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue

from binlogsync.change import ChangeBatch
from binlogsync.consume.gaps import ConsumerGap
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, Tracker
from binlogsync.consume.skips import Skip
from binlogsync.errors import ConsumeError, SinkError, WireError
from binlogsync.stream.buckets import create_key_value
from binlogsync.stream.client import NatsConnection
from binlogsync.wire.subjects import durable_name, stream_name, unescape

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_SKIPS = "/skips"
_MOVES = "/moves"
_GAPS = "/gaps"


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

    def put(self, key: str, value: bytes, revision: int) -> int | None:
        """Write the value if the key still has that revision (0: if it does not exist); returns the new revision, None
        if it does not.

        If the acknowledgement was lost but the value is stored, that counts as written.
        """

        async def put(bucket: KeyValue) -> int | None:
            try:
                if revision:
                    return int(await bucket.update(key, value, last=revision))
                return int(await bucket.create(key, value))
            except nats.js.errors.KeyWrongLastSequenceError:
                current = await _get(bucket, key)
                return current[1] if current is not None and current[0] == value else None

        return self._run(put)

    def values(self, pattern: str) -> list[bytes]:
        """The values of all keys that match; `*` stands for one token between dots."""
        return list(self.items(pattern).values())

    def items(self, pattern: str) -> dict[str, bytes]:
        """The values of all keys that match, by key. Does not create the bucket."""

        async def items(bucket: KeyValue) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            watcher: Any = await bucket.watch(pattern, ignore_deletes=True)
            try:
                while (entry := await watcher.updates(self._connection.options.request_timeout_s)) is not None:
                    found[entry.key] = entry.value or b""
            finally:
                await watcher.stop()
            return found

        try:
            return self._run(items, makes=False)
        except _NoBucketError:
            return {}

    def delete(self, key: str) -> None:
        """Delete the key."""

        async def delete(bucket: KeyValue) -> None:
            await bucket.delete(key)

        self._run(delete)

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
                    config.replicas = (await js.stream_info(self._stream)).config.num_replicas or 1
                bucket = await create_key_value(js, config)
            return await work(bucket)

        try:
            with self._lock:
                return self._connection.retry(on_bucket)
        except nats.js.errors.APIError as error:
            raise SinkError(
                f"NATS at {self._connection.options.address} rejected a request for the key-value bucket {self.name}: "
                f"{error.description} (code {error.err_code}); allow this account to create and use it"
            ) from error


async def _get(bucket: KeyValue, key: str) -> tuple[bytes, int] | None:
    try:
        entry = await bucket.get(key)
    except nats.js.errors.KeyNotFoundError:
        return None
    return entry.value or b"", int(entry.revision or 0)


class NatsProgress:
    """A ProgressStore in the bucket CDC_<SOURCE>_progress."""

    is_held = False

    def __init__(self, connection: NatsConnection, source: str) -> None:
        self._bucket = KeyValueBucket(connection, f"{stream_name(source)}_progress", stream=stream_name(source))
        self._revisions: dict[str, int] = {}

    def release(self) -> None:
        """Does nothing: no resource is held."""

    def load(self, key: ProgressKey) -> ConsumerProgress:
        """See ProgressStore."""
        name = _name(key)
        found = self._bucket.get(name)
        self._revisions[name] = 0 if found is None else found[1]
        return NO_PROGRESS if found is None else ConsumerProgress(**json.loads(found[0]))

    def move(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """See ProgressStore."""
        name = _name(key)
        moved = replace(after, epoch=before.epoch + 1)
        value = json.dumps(asdict(moved)).encode()
        revision = self._bucket.put(name, value, self._revisions.get(name, 0))
        if revision is None and self._revisions.get(name, 0) and self._bucket.get(name) is None:
            log.warning("%s: key-value bucket %s was deleted; writing progress again", key, self._bucket.name)
            revision = self._bucket.put(name, value, 0)
        if revision is None:
            raise ConsumeError(
                f"{key}: progress in {self._bucket.name} was changed by another consumer with this client id: it is no "
                f"longer {before}; stop one of the two, or use another client id"
            )
        self._revisions[name] = revision
        return moved

    def record_move(self, key: ProgressKey, line: str) -> None:
        """Append a line to the record of rewinds. Raises ConsumeError when another rewind is in progress."""
        name = _name(key) + _MOVES
        before, revision = self._bucket.get(name) or (b"", 0)
        if self._bucket.put(name, before + line.encode() + b"\n", revision) is None:
            raise ConsumeError(
                f"{key}: rewound ({line}), but another rewind is in progress; check the result with `binlogsync status`"
            )

    def moves(self, key: ProgressKey) -> Sequence[str]:
        """The recorded rewinds, oldest first."""
        found = self._bucket.get(_name(key) + _MOVES)
        return [] if found is None else found[0].decode().splitlines()

    def gaps(self, key: ProgressKey) -> Sequence[ConsumerGap]:
        """See GapStore."""
        name = _name(key) + _GAPS
        found = self._bucket.get(name)
        self._revisions[name] = 0 if found is None else found[1]
        return [] if found is None else [ConsumerGap.from_json(line) for line in found[0].splitlines()]

    def put_gaps(self, key: ProgressKey, gaps: Sequence[ConsumerGap]) -> None:
        """See GapStore."""
        name = _name(key) + _GAPS
        lines = b"".join(gap.to_json().encode() + b"\n" for gap in gaps)
        revision = self._bucket.put(name, lines, self._revisions.get(name, 0))
        if revision is None:
            raise ConsumeError(f"{key}: another process changed its gaps at the same time; try again")
        self._revisions[name] = revision

    def skips(self, key: ProgressKey) -> Sequence[Skip]:
        """See SkipStore."""
        found = self._bucket.get(_name(key) + _SKIPS)
        return [] if found is None else [Skip.from_json(line) for line in found[0].splitlines()]

    def skip(self, key: ProgressKey, tracker: Tracker, done: tuple[ChangeBatch, int], skip: Skip) -> ConsumerProgress:
        """See SkipStore. Writes the record first, and removes it when another process has updated progress."""
        name = _name(key) + _SKIPS
        found = self._bucket.get(name)
        before, revision = (b"", 0) if found is None else found
        put = self._bucket.put(name, before + skip.to_json().encode() + b"\n", revision)
        if put is None:
            raise ConsumeError(
                f"{key}: another process skips a change of this consumer; check the result, then try again"
            )
        try:
            return self.move(key, tracker.progress, tracker.after([done]))
        except ConsumeError:
            self._bucket.put(name, before, put)
            raise


def load_all_progress(connection: NatsConnection, source: str) -> dict[str, ConsumerProgress]:
    """Progress of all consumers that store it in NATS, by "client of database.table", or by key if that is hashed.

    Raises SinkError.
    """
    found = KeyValueBucket(connection, f"{stream_name(source)}_progress").items("*")
    return {
        _display_name(name): ConsumerProgress(**json.loads(value))
        for name, value in found.items()
        if not name.endswith((_SKIPS, _MOVES, _GAPS))
    }


def _display_name(name: str) -> str:
    parts = name.replace("/", "%").split("=")
    try:
        client, database, table = map(unescape, parts)
    except (ValueError, WireError):
        return name
    return f"{client} of {database}.{table}"


def _name(key: ProgressKey) -> str:
    """The key: the name of the durable with / instead of %, which NATS does not allow in keys."""
    return durable_name(key.client, key.database, key.table).replace("%", "/")
