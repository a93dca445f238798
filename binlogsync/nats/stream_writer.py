"""Writes publish units to the stream of a source, exactly once and in order; reconnects after a connection error.

A publish unit is an atomic batch or a single message (publish_unit.py), with the checkpoint in a header of its last
message, or of one that follows it. Each unit is *fenced*: it names the last sequence that this writer knows
(Nats-Expected-Last-Sequence), and the server refuses it if another writer has written meanwhile. If an acknowledgement
does not arrive, the last messages of the stream are read to find out what was stored. A stream with messages of another
tail causes a FencedError; one without acknowledged messages causes a SinkError.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from hashlib import sha256
from uuid import uuid4

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.errors import FencedError, SinkError
from binlogsync.nats import jetstream_error_codes as js
from binlogsync.nats.buckets import ensure_large, ensure_large_schemas, ensure_schemas
from binlogsync.nats.client import ConnectionLostError, NatsConnection, NatsOptions
from binlogsync.nats.foreign_messages import record_foreign
from binlogsync.nats.misplaced_messages import remove_misplaced
from binlogsync.nats.objects import put_object
from binlogsync.nats.publish_progress import PublishProgress
from binlogsync.nats.publish_unit import PublishUnit
from binlogsync.nats.publisher import Publisher, PublishOptions
from binlogsync.nats.server_errors import refused_error, retries_exhausted_error
from binlogsync.nats.stream import StreamSpec, ensure_stream
from binlogsync.nats.stream_end import StreamEnd, repaired_end
from binlogsync.nats.stream_watch import StreamWatch
from binlogsync.nats.unit_queue import UnitQueue
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema

log = logging.getLogger(__name__)

_RETRIED = frozenset(
    {
        js.JS_STREAM_WRONG_LAST_MSG_ID_ERR,
        js.JS_STREAM_WRONG_LAST_SEQUENCE_ERR,
        js.JS_ATOMIC_PUBLISH_INCOMPLETE_BATCH_ERR,
        js.JS_CLUSTER_NOT_AVAIL_ERR,
        js.JS_CLUSTER_NOT_LEADER_ERR,
        js.JS_CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT_ERR,
        js.JS_ATOMIC_PUBLISH_TOO_MANY_INFLIGHT,
        js.JS_BATCH_PUBLISH_TOO_MANY_INFLIGHT,
    }
)
"""Error codes after which the end of the stream is read and unstored units are sent again: failed fences, batches that
the server abandoned, a change of the leader."""
_MOST_REFUSALS = 5  # such errors one after another, without a unit that was stored between
_HEADER_ROOM = 12 << 10  # bytes of a message reserved for headers (a key of 3 KiB as hex), without the checkpoint
_REPAIR_S = 120.0
_FLUSH_S = 3600.0
_SCHEMAS_S = 120.0


class StreamWriter:
    """The only writer of one stream. Not for use by several threads at once."""

    def __init__(self, options: NatsOptions, spec: StreamSpec) -> None:
        self._options = options
        self._spec = spec
        self._stream = subjects.stream_name(spec.source)
        self._connection = NatsConnection(options, f"binlogsync tail {spec.source}")
        self._id = uuid4().hex
        self._progress = PublishProgress()
        self._is_clustered = False
        self._publisher: Publisher | None = None
        self._schemas: dict[str, TableSchema] = {}
        self._watch: StreamWatch | None = None

    def open(self) -> StreamEnd:
        """Connect, create or check the stream and its bucket of schemas, repair its end, and return that.

        Raises SinkError when the server cannot be used or the stream is not fit for a tail.
        """
        connection, spec = self._connection, self._spec
        try:
            connection.open()
            self._is_clustered = connection.call(lambda client: ensure_stream(client, spec)) > 1
            connection.call(lambda client: ensure_schemas(client, spec))
            self._watch = connection.call(lambda client: StreamWatch.begin(client, spec))
            connection.call(lambda client: remove_misplaced(client, spec.source), _REPAIR_S)
            end = connection.call(lambda client: repaired_end(client, spec.source), _REPAIR_S)
            if end.foreign:
                self._report_foreign(end)
        except nats.js.errors.APIError as error:
            raise refused_error(self._options.address, self._stream, error) from error
        self._progress = PublishProgress(end.sequence, end.write_id)
        return end

    def close(self) -> None:
        """Close the connection; never raises."""
        self._connection.close()

    @property
    def is_lost(self) -> bool:
        """True while the connection is broken; the next `store` reconnects."""
        return self._connection.is_lost

    @property
    def is_clustered(self) -> bool:
        """True when the stream has replicas."""
        return self._is_clustered

    def message_limit(self, checkpoint: Checkpoint) -> int:
        """Largest body, in bytes, of a message that the server accepts with this checkpoint in its headers."""
        return self._connection.max_payload - _HEADER_ROOM - 2 * len(checkpoint.to_text())

    def put_in_schema_bucket(self, key: str, value: bytes) -> None:
        """Store a value in the key-value bucket of schemas, for readers of the stream. Raises SinkError."""

        async def put(client: Client) -> None:
            await (await ensure_schemas(client, self._spec)).put(key, value)

        self._connection.call(put)

    def store(
        self, units: UnitQueue, following: UnitQueue | None, schemas: Mapping[str, TableSchema], checkpoint: Checkpoint
    ) -> None:
        """Publish `units`, and return when all are acknowledged.

        Units of `following` are sent while the last acknowledgements are outstanding, and may be stored.

        Args:
            units: what to store now.
            following: the units that the next call will store; None if they are not known yet.
            schemas: by fingerprint, the table schemas that both refer to; new ones are stored first.
            checkpoint: of the last unit; determines the size of a body that is moved to the object store.

        Raises SinkError when the units cannot be stored now, FencedError when another writer has written.
        """
        try:
            self._store_with_retries(units, following, schemas, checkpoint)
        except BaseException:
            self._publisher = None
            self._progress.forget()
            raise

    def can_start(self, schemas: Mapping[str, TableSchema]) -> bool:
        """True when `start` is possible: the connection works, and has stored these table schemas."""
        is_ready = self._publisher is not None and not self._progress.unsettled and not self._connection.is_lost
        return is_ready and schemas.keys() <= self._schemas.keys()

    def start(self, units: UnitQueue, done: Callable[[Exception | None], None]) -> None:
        """Publish `units` without waiting; `can_start` was true, and no other method is called until the end.

        At the end `done` is called in any thread, with None when all are stored, or with an error, after which
        `store` has to be called with the same units.
        """
        publisher = self._publisher
        assert publisher is not None

        def ended(error: Exception | None) -> None:
            if error is not None:
                self._publisher, error = None, self._connection.sink_error(error)
            done(error)

        if not publisher.start(units, ended):
            self._connection.start(lambda _: publisher.store(units, None), ended)

    def _store_with_retries(
        self, units: UnitQueue, following: UnitQueue | None, schemas: Mapping[str, TableSchema], checkpoint: Checkpoint
    ) -> None:
        connection = self._connection
        timer, is_retry, refusals, settled = connection.retry_timer(), False, 0, self._progress.last
        while True:
            try:
                if connection.is_lost:
                    self._publisher = None
                    connection.reconnect(timer)
                if is_retry or (self._publisher is None and self._progress.unsettled):
                    self._resolve_unacknowledged()
                if new := {key: schema for key, schema in schemas.items() if key not in self._schemas}:
                    self._put_schemas(new)
                publisher = self._current_publisher(checkpoint)
                connection.call(lambda _: publisher.store(units, following), timeout_s=_FLUSH_S)  # noqa: B023 - at once
                return
            except (ConnectionLostError, nats.js.errors.APIError, nats.js.errors.Error, nats.errors.Error) as error:
                self._publisher = None
                if isinstance(error, nats.js.errors.APIError) and error.err_code not in _RETRIED:
                    raise refused_error(self._options.address, self._stream, error) from error
                if not is_retry or self._progress.last != settled:
                    timer.restart()
                    refusals, settled = 0, self._progress.last
                is_retry = True
                refusals += isinstance(error, nats.js.errors.APIError)
                if timer.is_over or refusals > _MOST_REFUSALS:
                    raise retries_exhausted_error(self._options.address, self._stream, error) from error
                log.warning("stream %s: %s; checking what is stored", self._stream, error)
                if refusals > 1:
                    timer.pause()

    def check(self) -> None:
        """Compare the stream and its buckets with what `open` found, and store the schemas again if their bucket was
        deleted. Does nothing while the connection is lost. Raises SinkError when the stream was changed or deleted.
        """
        connection, watch = self._connection, self._watch
        if watch is None or connection.is_lost:
            return
        try:
            if connection.call(watch.has_schemas):
                return
            bucket = subjects.schema_bucket(self._spec.source)
            log.warning("key-value bucket %s was deleted; writing %d table schemas again", bucket, len(self._schemas))
            schemas, self._schemas = self._schemas, {}
            self._put_schemas(schemas)
            self._watch = connection.call(lambda client: StreamWatch.begin(client, self._spec))
        except ConnectionLostError as error:
            log.debug("checking stream %s: %s", self._stream, error)
        except nats.js.errors.APIError as error:
            raise refused_error(self._options.address, self._stream, error) from error

    def _current_publisher(self, checkpoint: Checkpoint) -> Publisher:
        """The publisher of the current connection, which is created if an error has ended the last one."""
        if self._publisher is not None:
            return self._publisher
        limit = self.message_limit(checkpoint)
        sending = PublishOptions(
            self._spec.source,
            self._id,
            self._options.request_timeout_s,
            self._is_clustered,
            lambda client, unit: self._move_large_bodies(client, unit, limit),
            limit,
        )

        async def begin(client: Client) -> Publisher:
            publisher = Publisher(client, self._progress, sending)
            await publisher.open()
            return publisher

        self._publisher = self._connection.call(begin)
        return self._publisher

    async def _move_large_bodies(self, client: Client, unit: PublishUnit, limit: int) -> PublishUnit:
        """The unit with each body that is too large for the server moved to the object store, named by its hash."""
        names = {}
        for number in unit.larger_than(limit):
            body = unit.view(number)
            names[number] = sha256(body).hexdigest()
            bucket = await ensure_large(client, self._spec)
            await put_object(client, bucket, names[number], body, self._options.request_timeout_s)
        return unit.referring(names) if names else unit

    def _put_schemas(self, schemas: Mapping[str, TableSchema]) -> None:
        """Store the schemas in the schema bucket, which is created if missing."""
        limit, timeout_s = self._connection.max_payload - _HEADER_ROOM, self._options.request_timeout_s

        async def put(client: Client) -> None:
            bucket = await ensure_schemas(client, self._spec)
            for key, schema in schemas.items():
                document = schema.to_json().encode()
                if len(document) <= limit:
                    await bucket.put(key, document)
                else:
                    large = await ensure_large_schemas(client, self._spec)
                    await put_object(client, large, key, document, timeout_s)

        self._connection.call(put, _SCHEMAS_S)
        self._schemas.update(schemas)

    def _report_foreign(self, end: StreamEnd) -> None:
        """Warn about messages that no tail wrote, and record them for the asset check."""
        text = (
            "stream %s: %d messages from sequence %d on are ignored: no tail wrote them; "
            "find out which program publishes to %s"
        )
        own = " and ".join(subjects.stream_subjects(self._spec.source))
        log.warning(text, self._stream, len(end.foreign), end.foreign[0], own)
        self._connection.call(lambda client: record_foreign(client, self._spec, end.foreign))

    def _resolve_unacknowledged(self) -> None:
        """Find out from the end of the stream which of the units without an acknowledgement are stored.

        Raises FencedError if another tail has written, SinkError if acknowledged messages are missing.
        """
        progress, stream = self._progress, self._stream
        end = self._connection.call(lambda client: repaired_end(client, self._spec.source), _REPAIR_S)
        if end.partial:
            raise SinkError(
                f"NATS at {self._options.address} stored only {end.partial} messages of an atomic batch in {stream}, "
                "probably because storage was exhausted (they were removed again): free disk space, or raise "
                "max_file_store or max_bytes"
            )
        if end.sequence == progress.last:
            return
        if end.foreign:
            self._report_foreign(end)
        if end.sequence < progress.last:
            raise SinkError(
                f"stream {stream} LOST MESSAGES that NATS had acknowledged: it ends at sequence {end.sequence}, and "
                f"{progress.last} was acknowledged; the tail must restart from the end of the stream"
            )
        if end.write_id is not None and progress.end_after(end.write_id) == end.own:
            log.warning("stream %s: all up to sequence %d is stored, without an acknowledgement", stream, end.own)
            progress.settle(end.write_id)
        if end.write_id == progress.stored_id:
            if not end.foreign and end.sequence > progress.last:
                log.warning(
                    "stream %s: messages after sequence %d were deleted by another program", stream, progress.last
                )
            progress.last = end.sequence
            return
        raise FencedError(
            f"another writer has written to stream {stream}: it ends at sequence {end.sequence}, this writer's last is "
            f"{progress.last}; stop one of the two tails of source {self._spec.source}"
        )
