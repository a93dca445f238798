"""Reads the stream of a source: messages from JetStream, decoded into ChangeBatches with their stream sequences.

Every call blocks and has a timeout. A durable belongs to one table of one client, delivers in stream order, and uses
AckPolicy.ALL: an ack covers all messages up to it. The caller keeps its own progress: delivery starts at the sequence
given to `ensure_durable`. A reader returns each message once: redelivered messages are filtered, and after a missed
delivery (a broken connection) the durable is recreated at that position.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.errors import ConfigError, SinkError
from binlogsync.nats.adapter import send_now
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.documents import StoredDocuments
from binlogsync.nats.durable import (
    UNUSED_S,
    DurableConsumer,
    DurableState,
    consumer_info,
    delete_consumer,
    pending_counts,
)
from binlogsync.nats.frame_kernel import REPLY, SEQUENCE
from binlogsync.nats.message_block import MessageBlock
from binlogsync.nats.messages import MessageLookups, StreamBatch, decode_block
from binlogsync.nats.pull import PullSubscription
from binlogsync.nats.read_ahead import WAIT_S, reading_ahead
from binlogsync.nats.server_errors import refused_error
from binlogsync.nats.stream_bounds import StreamBounds
from binlogsync.nats.stream_tables import count_messages
from binlogsync.nats.table_name_case import check_spelling
from binlogsync.nats.unusual_messages import count_decodable, foreign_sequences
from binlogsync.schema import TableSchema

__all__ = ["DurableState", "StreamBatch", "StreamReader"]

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Tries = Literal["once", "again"]
"""Whether a request is sent again after a lost connection."""
_NO_RESPONDERS = 503
"""Status of a request that no durable answers."""
_FOREIGN = "stream %s: message %d is ignored: no tail wrote it; find out which program publishes to %s"


class StreamReader(StreamBounds):
    """Reads the stream of one source over one connection. Not for use by several threads at once; see `beside`."""

    def __init__(self, options: NatsOptions, source: str, connection: NatsConnection | None = None) -> None:
        self.source = source
        self._options = options
        self.stream = subjects.stream_name(source)
        self._connection = connection or NatsConnection(options, f"binlogsync reader {source}")
        self._is_owner = connection is None
        self._durables: dict[str, DurableConsumer] = {}
        self._documents = StoredDocuments(source, self.ask, options.request_timeout_s)
        self._lookups = MessageLookups(self._documents.schema, self._documents.large_object)
        self.foreign = 0  # number of fetched messages that no tail wrote
        self._client: Client | None = None

    def another(self) -> StreamReader:
        """A reader of the same stream with another connection, for another thread; it is not open yet."""
        return StreamReader(self._options, self.source)

    def beside(self) -> StreamReader:
        """A reader of the same stream over the same connection, for another thread. Closing it leaves its durables."""
        return StreamReader(self._options, self.source, self._connection)

    def open(self) -> StreamReader:
        """Connect and check that the stream exists; returns itself.

        Raises SinkError when NATS cannot be reached or denies access, WireError when the source has no stream yet.
        """
        if self._is_owner:
            self._connection.open()
        try:
            self._info()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Close the connection; never raises."""
        if not self._is_owner:
            for durable in list(self._durables):
                self.leave(durable)
            return
        self._durables.clear()
        self._connection.close()

    def __enter__(self) -> StreamReader:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ensure_durable(
        self,
        durable: str,
        database: str,
        table: str,
        start_sequence: int,
        inactive_s: float = UNUSED_S,
        *,
        client_id: str | None = None,
    ) -> None:
        """Make the durable of that table deliver from `start_sequence` on (the first message at or after it).

        With a `client_id`, it also delivers the rows of snapshots that are for that client alone.

        The durable is left unchanged if that is its next message and none is unacked; otherwise it is deleted and
        created again. The server deletes a durable that is unused for `inactive_s`; it is created again when needed.
        """
        self.check_spelling(database, table)
        follow = DurableConsumer(
            durable, subjects.table_subject(self.source, database, table), max(start_sequence, 1) - 1, inactive_s
        )
        if client_id is not None:
            prefix = subjects.snapshot_prefix(self.source, client_id)
            follow.own_subject = subjects.snapshot_subject(prefix, database, table)

        async def ensure(client: Client) -> None:
            await self._drop_subscription(durable)
            info = await consumer_info(client.jetstream(), self.stream, durable)
            if info is None or not follow.is_positioned(info) or await follow.look(client.jetstream(), self.stream):
                await self._recreate(client, follow)

        self._retry(ensure)
        self._durables[durable] = follow

    def fetch(self, durable: str, max_messages: int = 1000, timeout_s: float = 1.0) -> Sequence[StreamBatch]:
        """The next messages in order; at least one if one arrives within `timeout_s`, otherwise an empty list.

        Raises WireError for a message that cannot be read, SinkError when the connection is lost for too long.
        """
        if (follow := self._durables.get(durable)) is None:
            raise ConfigError(f"durable {durable} is not open in this reader; call ensure_durable first")
        if follow.ahead:
            ahead, follow.ahead = follow.ahead, []
            return ahead
        ends_at, left_s = time.monotonic() + timeout_s, timeout_s
        while True:
            batches, is_empty = self._next(follow, max_messages, left_s)
            left_s = ends_at - time.monotonic()
            if batches or (is_empty and not follow.is_broken) or left_s <= 0:
                break
        if follow.is_broken and follow.notify is not None:
            follow.notify()  # another fetch creates the durable again
        return batches

    @contextmanager
    def reading_ahead(self, durable: str, max_changes: int) -> Iterator[None]:
        """Receive and decode messages in another thread during the `with` block, for the next `fetch`.

        The block must not use the reader; a reader `beside` it may be used. A lost connection is left to `fetch`, so
        that the end of the block does not wait for it.
        """
        follow = self._durables[durable]
        with reading_ahead(lambda: self._next(follow, max_changes, WAIT_S, tries="once")[0], max_changes) as found:
            yield
        follow.ahead += found

    def has_read_ahead(self, durable: str) -> bool:
        """True if the next `fetch` returns what was read ahead: there may be more, which `notify` has reported."""
        return bool(self._durables[durable].ahead)

    def _next(
        self, follow: DurableConsumer, most: int, timeout_s: float, tries: Tries = "again"
    ) -> tuple[Sequence[StreamBatch], bool]:
        """(batches, whether no message arrived). No batches also if no tail wrote the messages."""
        self._receive(follow, most)
        if follow.is_broken or not len(follow.kept):
            follow.kept = self._retry(lambda client: self._fetch(client, follow, (most, timeout_s)), timeout_s, tries)
            follow.received_at = time.monotonic()
        count = count_decodable(follow.kept)
        block, follow.kept = follow.kept.slice(0, count), follow.kept.slice(count, len(follow.kept))
        follow.is_broken, was_broken = True, follow.is_broken
        batches = decode_block(block, self._lookups)
        follow.is_broken = was_broken
        if len(block):
            follow.given = int(block.frames[-1, SEQUENCE])
        self._pass_foreign(follow, block, batches)
        return batches, not len(block)

    def receive(self, durable: str, max_messages: int) -> None:
        """Keep messages that have arrived for the next `fetch`, without waiting; see `listen`."""
        follow = self._durables[durable]
        if not follow.ahead:
            self._receive(follow, max_messages)

    def has_received(self, durable: str) -> bool:
        """True if messages are kept for the next `fetch`."""
        follow = self._durables[durable]
        return bool(follow.ahead or len(follow.kept))

    def _receive(self, follow: DurableConsumer, most: int) -> None:
        if follow.is_broken or follow.subscription is None or self.is_lost:
            return
        if len(follow.kept):
            follow.subscription.report_missed()  # what has arrived since is left to another fetch
        else:
            follow.kept = follow.accept(follow.subscription.take_arrived(most))
            follow.received_at = time.monotonic()

    def _pass_foreign(self, follow: DurableConsumer, block: MessageBlock, batches: Sequence[StreamBatch]) -> None:
        """Count messages that no tail wrote, warn about the first, and ack them if no ack of changes will."""
        if batches:
            follow.owed = batches[-1].reply
        foreign = foreign_sequences(block)
        if foreign and not self.foreign:
            log.warning(_FOREIGN, self.stream, foreign[0], follow.subject)
        self.foreign += len(foreign)
        if foreign and not batches and follow.owed is None:
            self._ack(block.text_of(len(block) - 1, REPLY))

    def ack(self, batch: StreamBatch, *, wait: bool = True) -> None:
        """Ack all messages of the durable up to the end of `batch`, and wait for the server's confirmation. Does
        nothing when `batch.reply` is None. Without `wait`, an ack may be lost: the messages are then delivered again.
        """
        reply = batch.reply
        if reply is None:
            return
        client = self._client
        if wait or client is None or self.is_lost or not send_now(client, f"PUB {reply} 4\r\n+ACK\r\n".encode()):
            self._ack(reply)
        for follow in self._durables.values():
            if follow.owed == reply:
                follow.owed = None

    def _ack(self, reply: str) -> None:
        async def ack(client: Client) -> None:
            try:
                await client.request(reply, b"+ACK", timeout=self._connection.options.request_timeout_s)
            except nats.errors.NoRespondersError:
                log.debug("the durable of %s does not exist any longer; nothing to ack", reply)

        self._retry(ack)

    def pending(self, durable: str) -> DurableState | None:
        """The state of the durable; None when it does not exist."""
        info = self._retry(lambda client: consumer_info(client.jetstream(), self.stream, durable))
        return None if info is None else DurableState.of(info)

    def has_all(self, durable: str) -> bool:
        """True when `fetch` has returned all messages of the durable, or passed over those that no tail wrote."""
        left, follow = self.pending(durable), self._durables[durable]
        if left is None or left.num_pending or follow.ahead:
            return False
        return left.last_delivered_stream_seq <= follow.given

    def pending_counts(self) -> Mapping[str, int]:
        """Durables of the stream -> number of messages not delivered yet or not acked."""
        return self._retry(lambda client: pending_counts(client, self.stream))

    def listen(self, durable: str, notify: Callable[[], None]) -> None:
        """Call `notify`, in the thread of the connection, when messages of the durable have arrived after a `fetch`.

        `fetch` then returns what has arrived without waiting. A fetch without messages starts to listen; it must be
        repeated after `notify`, after the connection was lost (`is_lost`), and every minute or so.
        """
        self._durables[durable].notify = notify

    @property
    def is_lost(self) -> bool:
        """True when the connection broke since the last call of this reader; the next call opens its durables again."""
        return self._connection.is_lost or not self._connection.has(self._client)

    def leave(self, durable: str) -> None:
        """Stop reading the durable; its state on the server is kept. Unacked messages will be delivered again."""
        try:
            if not self._connection.is_lost:
                self._connection.call(lambda client: self._drop_subscription(durable))
        except SinkError as error:
            log.debug("leaving durable %s: %s", durable, error)
        self._durables.pop(durable, None)

    def delete_durable(self, durable: str) -> None:
        """Delete the durable, if it exists."""

        async def delete(client: Client) -> None:
            await self._drop_subscription(durable)
            await delete_consumer(client.jetstream(), self.stream, durable)

        self._retry(delete)
        self._durables.pop(durable, None)

    def first_after_fetch(self, durable: str) -> int:
        """`first_sequence` at some time since the messages that `fetch` returned last were received.

        Several tables that have received messages before share one request.
        """
        return self._bounds(self._durables[durable].received_at)[0]

    def durable_created_at(self, durable: str) -> str | None:
        """`created_at` of the stream in which the durable was found or created last."""
        return self._durables[durable].stream_created_at

    def tables(self) -> Mapping[tuple[str, str], int]:
        """(database, table) -> number of messages, for every table with changes in the stream."""
        return self._retry(lambda client: count_messages(client, self.source))

    def check_spelling(self, database: str, table: str) -> None:
        """Raise ConfigError for a name in a letter case that the source's server does not use (it folds names)."""
        self._retry(lambda client: check_spelling(client, self.source, (database, table)))

    def schema(self, fingerprint: str) -> TableSchema:
        """The table schema with that fingerprint; raises WireError when it is not in the source's buckets."""
        return self._documents.schema(fingerprint)

    async def _fetch(self, client: Client, follow: DurableConsumer, limits: tuple[int, float]) -> MessageBlock:
        if follow.is_broken:
            await follow.look(client.jetstream(), self.stream)
            await self._recreate(client, follow)
        if follow.subscription is None:
            follow.subscription = await PullSubscription(client, self.stream, follow.name).open()
            follow.deliveries = 0
            if follow.notify is not None:
                follow.subscription.listen(follow.notify)
        follow.is_broken = True
        try:
            found = await follow.subscription.take(*limits)
        except nats.js.errors.APIError as error:
            if error.code != _NO_RESPONDERS:
                raise
            log.warning("durable %s does not exist any longer; recreating it", follow.name)
            return MessageBlock.empty()
        follow.is_broken = False
        return follow.accept(found)

    async def _recreate(self, client: Client, follow: DurableConsumer) -> None:
        """Delete the durable and create it again, starting after the last message returned."""
        js = client.jetstream()
        await self._drop_subscription(follow.name)
        # Broken until the new one exists: if the connection is lost in between, there is no durable.
        follow.subscription, follow.is_broken = None, True
        while True:
            await delete_consumer(js, self.stream, follow.name)
            await js.add_consumer(self.stream, follow.config())
            if not await follow.look(client.jetstream(), self.stream):
                break
        follow.is_broken = False

    def narrow(self, durable: str) -> None:
        """Stop reading the rows for the client alone once none are left: a second filter costs the server more."""
        follow = self._durables[durable]

        async def narrow(client: Client) -> None:
            info = await consumer_info(client.jetstream(), self.stream, durable)
            if info is not None:
                follow.note_filters(info)
            if follow.reads_own and await follow.look(client.jetstream(), self.stream):
                follow.is_broken = True  # the next fetch creates it again after the last message

        self._retry(narrow)

    async def _drop_subscription(self, durable: str) -> None:
        if (follow := self._durables.get(durable)) is not None:
            await follow.drop_subscription()

    def ask(self, work: Callable[[Client], Awaitable[Result]], timeout_s: float) -> Result:
        """Run another request that may be executed twice. Raises SinkError."""
        return self._retry(work, timeout_s)

    def _retry(
        self, work: Callable[[Client], Awaitable[Result]], extra_s: float = 0.0, tries: Tries = "again"
    ) -> Result:
        """Run the work; after a lost connection, reconnect and mark all subscriptions to be opened again."""

        async def attempt(client: Client) -> Result:
            self._forget_lost(client)
            return await work(client)

        run = self._connection.retry if tries == "again" else self._connection.call
        try:
            return run(attempt, self._connection.options.request_timeout_s + extra_s)
        except nats.js.errors.APIError as error:
            raise refused_error(self._connection.options.address, self.stream, error) from error

    def _forget_lost(self, client: Client) -> None:
        if client is not self._client:
            for follow in self._durables.values():
                follow.is_broken = follow.is_broken or follow.subscription is not None
                follow.subscription = None
            self._client = client
