"""The JetStream sink: exactly once and in order into one stream for each source; the stream contains its checkpoint.

A flush is published in units (single messages or atomic batches), each fenced with the last sequence of this writer and
with the checkpoint in a header of its last message. After a lost acknowledgement, the end of the stream decides what is
stored. If another writer has written, that is a `FencedError`; if acknowledged messages are missing, the broker lost
data, which is a SinkError.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from binlogsync.change import ChangeBatch
from binlogsync.codec import subjects
from binlogsync.errors import FencedError, SinkError
from binlogsync.flush import Flush
from binlogsync.nats import jetstream_error_codes as js
from binlogsync.nats.client import ConnectionLostError, NatsConnection
from binlogsync.nats.objects import put_object
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.sinks import Sink
from binlogsync.sinks.jetstream.foreign import record_foreign
from binlogsync.sinks.jetstream.messages import unit_builders
from binlogsync.sinks.jetstream.misplaced import remove_misplaced
from binlogsync.sinks.jetstream.options import JetStreamOptions
from binlogsync.sinks.jetstream.publish import Publisher, PublishOptions
from binlogsync.sinks.jetstream.publish_progress import PublishProgress
from binlogsync.sinks.jetstream.publish_unit import PackingOptions, PublishUnit
from binlogsync.sinks.jetstream.server_errors import refused_error, retries_exhausted_error
from binlogsync.sinks.jetstream.stream import (
    StreamEnd,
    StreamSpec,
    ensure_large,
    ensure_large_schemas,
    ensure_schemas,
    ensure_stream,
    repaired_end,
)
from binlogsync.sinks.jetstream.unit_queue import UnitQueue
from binlogsync.sinks.jetstream.watch import StreamWatch

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
_ATTEMPTS = 5
_MAKERS = 2
_HEADER_ROOM = 4096
_PAUSE_S = 0.2
_REPAIR_S = 120.0
_FLUSH_S = 3600.0
_SCHEMAS_S = 120.0


class JetStreamSink(Sink):
    """A Sink into a stream of NATS. Only one thread may use it at a time."""

    name = "jetstream"

    def __init__(self, options: JetStreamOptions) -> None:
        self.options = options
        self._connection: NatsConnection | None = None
        self._shape: StreamSpec | None = None
        self._progress = PublishProgress()
        self._written = 0
        self._is_clustered = False
        self._publisher: Publisher | None = None
        self._schemas: dict[str, TableSchema] = {}
        self._watch: StreamWatch | None = None
        self._makers: ThreadPoolExecutor | None = None
        self._ready: dict[int, tuple[Flush, UnitQueue]] = {}

    @property
    def last_sequence(self) -> int:
        """Stream sequence of the last stored message."""
        return self._written

    @property
    def feeds_consumers(self) -> bool:
        """True: consumers read the stream."""
        return True

    def open(self, source: str) -> Checkpoint | None:
        """Connect, create or check the stream, and return its checkpoint; None when it is empty."""
        self.close()
        options = self.options
        self._shape = shape = StreamSpec(
            subjects.check_source(source), options.replicas, options.max_age_s, options.max_bytes
        )
        self._connection = connection = NatsConnection(options, f"binlogsync tail {source}")
        self._schemas = {}
        self._makers = ThreadPoolExecutor(_MAKERS, thread_name_prefix=f"messages-{source}")
        try:
            connection.open()
            self._is_clustered = connection.call(lambda client: ensure_stream(client, shape)) > 1
            connection.call(lambda client: ensure_schemas(client, shape))
            self._watch = connection.call(lambda client: StreamWatch.begin(client, shape))
            connection.call(lambda client: remove_misplaced(client, source), _REPAIR_S)
            end = connection.call(lambda client: repaired_end(client, source), _REPAIR_S)
            if end.foreign:
                self._note_foreign(connection, end)
            checkpoint = end.require_checkpoint(subjects.stream_name(source))
        except BaseException as error:
            self.close()
            if isinstance(error, nats.js.errors.APIError):
                raise refused_error(self.options.address, subjects.stream_name(source), error) from error
            raise
        self._progress = PublishProgress(end.sequence, end.write_id)
        self._written = end.sequence
        log.info("stream %s ends at sequence %d, checkpoint %s", subjects.stream_name(source), end.sequence, checkpoint)
        return checkpoint

    def note_case(self, lower_case_table_names: str) -> None:
        """Store how the server compares table names, for the readers of the stream."""
        shape, connection = self._shape, self._connection
        assert shape is not None
        assert connection is not None

        async def put(client: Client) -> None:
            await (await ensure_schemas(client, shape)).put(subjects.CASE_KEY, lower_case_table_names.encode())

        connection.call(put)

    def stored_tables(self, source: str) -> Set[tuple[str, str]]:
        """The tables with changes in the stream."""
        with StreamReader(self.options, source) as reader:
            return reader.tables().keys()

    def consumed_tables(self, source: str) -> Set[tuple[str, str]]:
        """The tables with a durable of the stream."""
        with StreamReader(self.options, source) as reader:
            return reader.followed_tables()

    def write(self, flush: Flush) -> None:
        """Store the flush; returns when the server has acknowledged all of it."""
        connection, makers = self._connection, self._makers
        if connection is None or makers is None:
            raise SinkError("the JetStream sink is not open; call open(source) first")
        todo = self._made_ready(flush, connection, makers)
        following = self._ready.get(flush.number + 1)
        try:
            self._publish(flush, todo, following, connection)
            self._written = todo.end
        except BaseException:
            self._publisher = None
            self._progress.forget()
            raise
        finally:
            todo.drop()

    def watch(self) -> None:
        """See Sink. Does nothing while the connection is lost; the next write reconnects."""
        connection, watch = self._connection, self._watch
        if connection is None or watch is None or connection.is_lost:
            return
        try:
            if connection.call(watch.has_schemas):
                return
            bucket = subjects.schema_bucket(watch.shape.source)
            log.warning("key-value bucket %s was deleted; writing %d table schemas again", bucket, len(self._schemas))
            schemas, self._schemas = self._schemas, {}
            self._put_schemas(connection, schemas)
            self._watch = connection.call(lambda client: StreamWatch.begin(client, watch.shape))
        except ConnectionLostError as error:
            log.debug("checking the stream of %s: %s", watch.shape.source, error)
        except nats.js.errors.APIError as error:
            raise refused_error(self.options.address, subjects.stream_name(watch.shape.source), error) from error

    def prepare(self, flush: Flush) -> None:
        """Start to build the messages of the flush after the next one."""
        if self._connection is not None and self._makers is not None and not self._connection.is_lost:
            ready = self._made_ready(flush, self._connection, self._makers)
            self._ready[flush.number] = (flush, ready)

    def _made_ready(self, flush: Flush, connection: NatsConnection, makers: ThreadPoolExecutor) -> UnitQueue:
        """The units of the flush, as started by `prepare`, or started now."""
        prepared, ready = self._ready.pop(flush.number, (None, None))
        if ready is not None:
            if prepared is flush:
                return ready
            if ready.is_begun:
                raise SinkError(f"flush {flush.number} differs from the prepared one, which is partly stored")
            ready.drop()
        return UnitQueue(unit_builders(flush, self._packing(flush, connection), time.time_ns() // 1000), makers)

    def _publish(
        self, flush: Flush, todo: UnitQueue, following: tuple[Flush, UnitQueue] | None, connection: NatsConnection
    ) -> None:
        """Publish until all is acknowledged; after a missing reply, the end of the stream shows what is stored."""
        deadline, attempts, settled = 0.0, 0, self._progress.last
        stream = subjects.stream_name(flush.source)
        while True:
            try:
                if connection.is_lost:
                    self._publisher = None
                    connection.reconnect(deadline or time.monotonic() + self.options.reconnect_timeout_s)
                if deadline or (self._publisher is None and self._progress.unsettled):
                    self._settle_unknown(connection, flush.source)
                self._store(connection, flush, todo, following)
                return
            except (ConnectionLostError, nats.js.errors.APIError, nats.js.errors.Error, nats.errors.Error) as error:
                self._publisher = None
                if isinstance(error, nats.js.errors.APIError) and error.err_code not in _RETRIED:
                    raise refused_error(self.options.address, stream, error) from error
                if self._progress.last != settled:
                    deadline, attempts, settled = 0.0, 0, self._progress.last
                deadline = deadline or time.monotonic() + self.options.reconnect_timeout_s
                attempts += isinstance(error, nats.js.errors.APIError)
                if time.monotonic() >= deadline or attempts > _ATTEMPTS:
                    raise retries_exhausted_error(self.options.address, stream, error) from error
                log.warning("stream %s: %s; checking what is stored", stream, error)
                time.sleep(_PAUSE_S if attempts > 1 else 0)

    def _store(
        self,
        connection: NatsConnection,
        flush: Flush,
        todo: UnitQueue,
        following: tuple[Flush, UnitQueue] | None,
    ) -> None:
        """One attempt to publish the flush."""
        for each in (flush,) if following is None else (flush, following[0]):
            self._register(connection, each.batches)
        publisher = self._connected(flush, connection)
        after = None if following is None else following[1]
        connection.call(lambda _: publisher.store(todo, after), timeout_s=_FLUSH_S)

    def _connected(self, flush: Flush, connection: NatsConnection) -> Publisher:
        """The publisher of this connection; a new one after an error."""
        if self._publisher is not None:
            return self._publisher
        limit = self._packing(flush, connection).max_message_bytes
        sending = PublishOptions(
            self.options.request_timeout_s,
            self._is_clustered,
            lambda client, unit: self._without_large(client, unit, limit),
        )

        async def begin(client: Client) -> Publisher:
            publisher = Publisher(client, self._progress, sending)
            await publisher.open()
            return publisher

        self._publisher = connection.call(begin)
        return self._publisher

    def close(self) -> None:
        """Close the connection."""
        self._ready.clear()
        self._publisher = None
        makers, self._makers = self._makers, None
        if makers is not None:
            makers.shutdown(wait=False, cancel_futures=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _packing(self, flush: Flush, connection: NatsConnection) -> PackingOptions:
        options = self.options
        limit = connection.max_payload - _HEADER_ROOM - 2 * len(flush.checkpoint.to_text())
        return PackingOptions(options.format, options.changes_per_message, options.max_batch_bytes, limit)

    async def _without_large(self, client: Client, unit: PublishUnit, limit: int) -> PublishUnit:
        """The unit with each body that is too large for the server moved to the object store, named by its hash."""
        shape, names = self._shape, {}
        assert shape is not None
        for number in unit.larger_than(limit):
            body = unit.view(number)
            names[number] = sha256(body).hexdigest()
            bucket = await ensure_large(client, shape)
            await put_object(client, bucket, names[number], body, self.options.request_timeout_s)
        return unit.referring(names) if names else unit

    def _register(self, connection: NatsConnection, batches: tuple[ChangeBatch, ...]) -> None:
        """Store new schemas in the schema bucket, before the first message that refers to them."""
        new = {batch.schema.fingerprint: batch.schema for batch in batches if batch.ddl is None}
        new = {key: schema for key, schema in new.items() if key not in self._schemas}
        if new:
            self._put_schemas(connection, new)

    def _put_schemas(self, connection: NatsConnection, schemas: dict[str, TableSchema]) -> None:
        shape = self._shape
        assert shape is not None
        limit, timeout_s = connection.max_payload - _HEADER_ROOM, self.options.request_timeout_s

        async def put(client: Client) -> None:
            bucket = await ensure_schemas(client, shape)
            for key, schema in schemas.items():
                document = schema.to_json().encode()
                if len(document) <= limit:
                    await bucket.put(key, document)
                else:
                    large = await ensure_large_schemas(client, shape)
                    await put_object(client, large, key, document, timeout_s)

        connection.call(put, _SCHEMAS_S)
        self._schemas.update(schemas)

    def _note_foreign(self, connection: NatsConnection, end: StreamEnd) -> None:
        """Warn about messages of another publisher, and record them for the check."""
        shape = self._shape
        assert shape is not None
        text = (
            "stream %s: %d messages from sequence %d on are ignored: no tail wrote them; "
            "find out which program publishes to %s"
        )
        names = (subjects.stream_name(shape.source), len(end.foreign), end.foreign[0])
        log.warning(text, *names, subjects.all_subjects(shape.source))
        connection.call(lambda client: record_foreign(client, shape, end.foreign))

    def _settle_unknown(self, connection: NatsConnection, source: str) -> None:
        """Find out from the end of the stream whether the unit with the lost acknowledgement is stored."""
        progress = self._progress
        end = connection.call(lambda client: repaired_end(client, source), _REPAIR_S)
        stream = subjects.stream_name(source)
        if end.partial:
            raise SinkError(
                f"NATS at {self.options.address} stored only {end.partial} messages of an atomic batch in {stream}, "
                "probably because storage was exhausted (they were removed again): free disk space, or raise "
                "max_file_store or max_bytes"
            )
        if end.sequence == progress.last:
            return
        if end.foreign:
            self._note_foreign(connection, end)
        if end.sequence < progress.last:
            raise SinkError(
                f"stream {stream} LOST MESSAGES that NATS had acknowledged: it ends at sequence {end.sequence}, and "
                f"{progress.last} was acknowledged; the tail must restart from the end of the stream"
            )
        if end.write_id is not None and progress.end_after(end.write_id) == end.own:
            log.warning("stream %s: all up to sequence %d was stored, its acknowledgement was lost", stream, end.own)
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
            f"{progress.last}; stop one of the two tails of source {source}"
        )
