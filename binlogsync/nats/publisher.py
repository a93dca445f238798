"""Publishes the units of a flush to a stream, each atomically and fenced: only after this writer's last message.

Several units are in flight at a time, so that the server stores one while the acknowledgement of another is on its way.
Each is fenced by the sequence of its predecessor, and by something that no other writer can have written, because a
foreign message may have got that sequence. So those that are stored are the first ones, in order, with no foreign
message between them.

A unit of several messages is an atomic batch. If another one follows at once, it ends with a checkpoint message under a
subject of this writer alone, and the next batch expects that message to be the last of that subject
(Nats-Expected-Last-Subject-Sequence); a batch supports no other fence of this kind. Otherwise its last message is one
of the unit, and carries the checkpoint.

A unit of one message needs no batch, and nats-server then stores it several times as fast. Its second fence is the id
of its predecessor (Nats-Expected-Last-Msg-Id). A batch waits until all single messages before it are acknowledged, and
the other way round.

In a cluster the server compares these only after consensus on the message, and nats-server 2.15 then leaves the stream
blocked; so only one unit is in flight there.

Meanwhile other threads build the next units.

A few single messages can also be sent by the thread that has built them (`start`): then only the acknowledgements wake
the event loop, and no task of it is needed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import Header

from binlogsync.codec import subjects
from binlogsync.codec.envelope import CHECKPOINT, WRITE_ID
from binlogsync.codec.snapshot_state import SNAPSHOT_STATE
from binlogsync.nats.adapter import can_send_now, send_framed, send_now, subscribe_raw
from binlogsync.nats.message_block import MessageBlock, RawMessage
from binlogsync.nats.protocol_text import MessageBatch, SubjectAndHeaders, encode_batch, encode_header
from binlogsync.nats.publish_progress import Attempt, PublishProgress, QueuedUnit
from binlogsync.nats.publish_unit import PublishUnit
from binlogsync.nats.unit_queue import UnitQueue

_FENCE, _FENCE_ID, _ID = (
    header.value for header in (Header.EXPECTED_LAST_SEQUENCE, Header.EXPECTED_LAST_MSG_ID, Header.MSG_ID)
)
_SUBJECT_FENCE = Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value
_FENCED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"  # nats-py has no constant for it
_BATCH_ID, _BATCH_SEQUENCE, _BATCH_COMMIT = (
    header.value for header in (Header.BATCH_ID, Header.BATCH_SEQUENCE, Header.BATCH_COMMIT)
)
_WINDOW = 8
_WINDOW_BYTES = 32 << 20
"""Limit for all batches in flight, unless one alone is larger. nats-server keeps a batch in memory until its commit."""
_END = b"\r\n"
_MOST_STARTED = 32  # messages that `start` sends at once
_POLL_S = 0.5
Done = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """Options of publishing.

    Attributes:
        source: name of the source.
        writer: id of the writer, of letters and digits; no other writer of the stream has it.
        timeout_s: time limit for an acknowledgement.
        is_clustered: True when the stream has replicas.
        ready: moves bodies that are too large for the server out of a unit.
        largest_body: bytes of the largest body that need not be moved.
    """

    source: str
    writer: str
    timeout_s: float
    is_clustered: bool
    ready: Callable[[Client, PublishUnit], Awaitable[PublishUnit]]
    largest_body: int


@dataclass(frozen=True, slots=True)
class _PendingAck:
    """A unit in flight, waiting for its acknowledgement.

    Attributes:
        unit: the unit.
        write_id: of this attempt.
        count: number of messages, with the one of the writer's subject.
        answer: the acknowledgement.
    """

    unit: PublishUnit
    write_id: str
    count: int
    answer: asyncio.Future[RawMessage]

    @property
    def allows_batch(self) -> bool:
        """True for a batch that ends with a message of the writer's subject, so that another may follow."""
        return self.count > len(self.unit)


class Publisher:
    """Stores units over one connection. It cannot be used after an error; the next publisher sends the unsettled units
    again.
    """

    def __init__(self, client: Client, progress: PublishProgress, sending: PublishOptions) -> None:
        self._client = client
        self._progress = progress
        self._sending = sending
        self._window = 1 if sending.is_clustered else _WINDOW
        self._own_subject = subjects.writer_subject(sending.source, sending.writer)
        self._expected = progress.last
        self._flight: deque[_PendingAck] = deque()
        self._answers: dict[str, Callable[[RawMessage], None]] = {}
        self._inbox = client.new_inbox()
        self._numbers = itertools.count()
        self._id_prefix, self._ids = secrets.token_hex(8), itertools.count()
        self._loop = asyncio.get_running_loop()
        self._started: deque[tuple[Done, float]] = deque()  # with the end of the time limit; at most one
        self._is_polling = False

    async def open(self) -> None:
        """Subscribe to acknowledgements."""
        await subscribe_raw(self._client, f"{self._inbox}.*", self._received)

    async def store(self, units: UnitQueue, following: UnitQueue | None) -> None:
        """Store the unsettled units, then `units`; returns after the last acknowledgement. Each acknowledgement updates
        `progress`. Units of `following` are sent meanwhile, and may be stored.

        Raises nats.js.errors.APIError for an error reply, and the errors of nats-py for a broken connection.
        """
        while (queued := await self._next(units)) is not None:
            await self._send(queued, units.has_next or (following is not None and following.has_next))
        while not units.is_stored:
            while following is not None and (unit := following.take_built(self._most_messages)) is not None:
                await self._send(self._queued(unit, following), True)  # more flushes than these two are likely
            await self._settle_first()

    def start(self, units: UnitQueue, done: Done) -> bool:
        """Send `units` now, from any thread; nothing else is in flight, and no other method is called until the end.

        Returns False if that is not possible: if they are not a few single messages, or the event loop has to send
        them. Else `done` is called once, in any thread: with None when all are acknowledged, or with an error, after
        which this publisher cannot be used.
        """
        if not can_send_now(self._client):
            return False
        taken = units.take_singles(self._sending.largest_body, 1 if self._window == 1 else _MOST_STARTED)
        if not taken:
            return False
        self._started.append((done, self._loop.time() + self._sending.timeout_s))
        try:
            text = self._encode_started(taken, units)
        except ValueError as error:
            self._end_started(error)
            return True
        if not self._is_polling:
            self._is_polling = True
            self._loop.call_soon_threadsafe(self._poll)
        if not send_now(self._client, text):
            self._end_started(nats.errors.Error("nats: the socket does not accept more"))
        return True

    def _encode_started(self, taken: Sequence[PublishUnit], owner: UnitQueue) -> bytes:
        """The messages as protocol text. Each is refused unless the one before is stored, so the acknowledgement of the
        last is that of all.
        """
        texts, before = list[bytes | memoryview](), ""
        for unit in taken:
            headers = self._single_headers(before)
            before = headers[_ID]
            answered = partial(self._acknowledged, before) if unit is taken[-1] else None
            texts += self._encode_last(self._queued(unit, owner), unit, 1, headers, answered)
        return b"".join(texts)

    async def _next(self, units: UnitQueue) -> QueuedUnit | None:
        """The next unit to send, starting with those left unsettled by an earlier connection; None at the end."""
        unsettled = self._progress.unsettled
        if len(self._flight) < len(unsettled):
            return unsettled[len(self._flight)]
        if (making := units.waiting()) is not None:
            await asyncio.shield(asyncio.wrap_future(making))
        unit = units.take()
        return None if unit is None else self._queued(unit, units)

    def _queued(self, unit: PublishUnit, owner: UnitQueue) -> QueuedUnit:
        queued = QueuedUnit(unit, owner)
        self._progress.unsettled.append(queued)
        return queued

    @property
    def _most_messages(self) -> int:
        """Size of the largest unit that may be sent now: after others of its kind, or when nothing is in flight."""
        if not self._flight:
            return sys.maxsize
        if len(self._flight) >= self._window:
            return 0
        if self._flight[-1].allows_batch:
            return sys.maxsize if sum(each.unit.nbytes for each in self._flight) < _WINDOW_BYTES else 0
        return 1 if self._flight[-1].count == 1 else 0

    async def _send(self, queued: QueuedUnit, is_followed: bool) -> None:
        """Wait until the unit may be sent, and send it; `is_followed`: another one will be sent at once."""
        unit = await self._sending.ready(self._client, queued.unit)
        if len(unit) == 1:
            while self._flight and self._most_messages != 1:
                await self._settle_first()
            headers = self._single_headers(self._flight[-1].write_id if self._flight else "")
            await self._send_last(queued, unit, 1, headers)
        else:
            await self._send_batch(queued, unit, is_followed and self._window > 1)

    def _single_headers(self, before: str) -> dict[str, str]:
        """Id and fences of a single message; `before` is the id of one in flight, or ""."""
        headers = {_FENCE: str(self._expected), _ID: self._new_id()}
        if before:
            headers[_FENCE_ID] = before
        return headers

    async def _send_batch(self, queued: QueuedUnit, unit: PublishUnit, allows_batch: bool) -> None:
        """Send the messages, and commit them when the predecessors allow it."""
        write_id, count = self._new_id(), len(unit) + allows_batch
        fences = {_FENCE: str(self._expected)}
        if self._flight and self._flight[-1].allows_batch:
            fences |= {_SUBJECT_FENCE: str(self._expected), _FENCED_SUBJECT: self._own_subject}
        heads, which, addresses, sizes = unit.batch
        stop = count - 1
        body = MessageBatch(heads, which[:stop], addresses[:stop], sizes[:stop])
        await send_framed(self._client, encode_batch(body, write_id, fences))
        while self._most_messages < len(unit):
            await self._settle_first()
        headers = {_BATCH_ID: write_id, _BATCH_SEQUENCE: str(count), _BATCH_COMMIT: "1"}
        await self._send_last(queued, unit, count, headers)

    async def _send_last(self, queued: QueuedUnit, unit: PublishUnit, count: int, headers: dict[str, str]) -> None:
        """Send the last of `count` messages, with the checkpoint: of the unit, or an additional one."""
        answer: asyncio.Future[RawMessage] = self._loop.create_future()
        texts = self._encode_last(queued, unit, count, headers, partial(_answer, answer))
        self._flight.append(_PendingAck(unit, headers.get(_BATCH_ID) or headers[_ID], count, answer))
        await send_framed(self._client, *texts)

    def _encode_last(
        self,
        queued: QueuedUnit,
        unit: PublishUnit,
        count: int,
        headers: dict[str, str],
        answered: Callable[[RawMessage], None] | None,
    ) -> tuple[bytes, memoryview, bytes]:
        """The last of `count` messages as protocol text; `answered` gets the acknowledgement, in the event loop.

        Without `answered`, none is requested.
        """
        write_id, start = headers.get(_BATCH_ID) or headers[_ID], self._expected
        allows_batch = count > len(unit)
        self._expected += count
        # The sequence reveals a copy of this message that is stored at another sequence.
        checkpoint = unit.checkpoint.at_sequence(self._expected)
        headers |= {CHECKPOINT: checkpoint.to_text(), WRITE_ID: write_id}
        if unit.snapshot:
            headers[SNAPSHOT_STATE] = unit.snapshot
        self._progress.attempts[write_id] = Attempt(queued, start, self._expected)
        reply = ""
        if answered is not None:
            reply = f"{self._inbox}.{next(self._numbers)}"
            self._answers[reply] = answered
        head = SubjectAndHeaders(self._own_subject, {}) if allows_batch else unit.head(count - 1)
        payload = memoryview(b"") if allows_batch else unit.view(count - 1)
        return encode_header(head, headers, reply, len(payload)), payload, _END

    async def _settle_first(self) -> None:
        """Wait for the acknowledgement of the oldest unit in flight."""
        sent = self._flight[0]
        async with asyncio.timeout(self._sending.timeout_s):
            answer = await sent.answer
        _check(answer, self._progress.last + sent.count, sent.count)
        self._flight.popleft()
        self._progress.settle(sent.write_id)

    def _new_id(self) -> str:
        """A unique id for a write: one random prefix per publisher, because random bytes cost a system call."""
        return f"{self._id_prefix}{next(self._ids):016x}"

    def _received(self, block: MessageBlock) -> None:
        for message in block.messages():
            if (answered := self._answers.pop(message.subject, None)) is not None:
                answered(message)

    # Messages sent by `start`; all in the event loop, except `_end_started`

    def _acknowledged(self, write_id: str, answer: RawMessage) -> None:
        """The server has replied to the last of them; its reply does not count after an error."""
        if not self._started:
            return
        try:
            _check(answer, self._progress.attempts[write_id].end, 1)
            self._progress.settle(write_id)
        except Exception as error:  # noqa: BLE001 - passed to the caller of `start`
            self._end_started(error)
            return
        self._end_started(None)

    def _poll(self) -> None:
        """Called repeatedly while messages are in flight: nothing else detects a lost connection or a late reply."""
        self._is_polling = False  # before `_started` is read: `start` sets that, and then reads this
        first = next(iter(self._started), None)  # in one step: `start` may end it in its thread
        if first is None:
            return
        _, ends_s = first
        if self._client.is_closed:
            self._end_started(nats.errors.ConnectionClosedError())
        elif self._loop.time() > ends_s:
            self._end_started(nats.errors.TimeoutError())
        else:
            self._is_polling = True
            self._loop.call_later(_POLL_S, self._poll)

    def _end_started(self, error: Exception | None) -> None:
        try:
            done, _ = self._started.popleft()  # in one thread only
        except IndexError:
            return
        done(error)


def _answer(future: asyncio.Future[RawMessage], message: RawMessage) -> None:
    if not future.done():
        future.set_result(message)


def _check(answer: RawMessage, end: int, count: int) -> None:
    """Raise the error in the server's reply to a unit of `count` messages that ends at sequence `end`."""
    if not answer.data and answer.headers.get("Status") == "503":
        raise nats.errors.NoRespondersError
    ack: dict[str, Any] = json.loads(answer.data)
    if "error" in ack:
        raise nats.js.errors.APIError.from_error(ack["error"])
    if ack.get("count", 1) != count or ack["seq"] != end:
        raise nats.js.errors.APIError(description=f"the acknowledgement {ack} is not for {count} messages up to {end}")
