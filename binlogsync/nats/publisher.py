"""Publishes the units of a flush to a stream, each atomically and fenced: only after this writer's last message.

A unit of several messages is an atomic batch. Its messages are sent while the previous unit is being stored; its last
message, which commits the batch, is sent after the previous unit is acknowledged.

A unit of one message needs no batch, and nats-server then stores it several times as fast. A few of these are in flight
at a time. Each is fenced by the sequence of its predecessor, and by the id of its predecessor
(Nats-Expected-Last-Msg-Id), because a foreign message may have got that sequence. So those that are stored are the
first ones, in order, with no foreign message between them. In a cluster the server compares the id only after consensus
on the message, and nats-server 2.15 then leaves the stream blocked; so only one is in flight there.

Meanwhile other threads build the next units.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header

from binlogsync.codec.envelope import CHECKPOINT, WRITE_ID
from binlogsync.nats.adapter import send_framed
from binlogsync.nats.protocol_text import MessageBatch, encode_batch, encode_header
from binlogsync.nats.publish_progress import PublishProgress, QueuedUnit
from binlogsync.nats.publish_unit import PublishUnit
from binlogsync.nats.unit_queue import UnitQueue

_FENCE, _FENCE_ID, _ID = (
    header.value for header in (Header.EXPECTED_LAST_SEQUENCE, Header.EXPECTED_LAST_MSG_ID, Header.MSG_ID)
)
_BATCH_ID, _BATCH_SEQUENCE, _BATCH_COMMIT = (
    header.value for header in (Header.BATCH_ID, Header.BATCH_SEQUENCE, Header.BATCH_COMMIT)
)
_WINDOW = 8
_END = b"\r\n"


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """Options of publishing.

    Attributes:
        timeout_s: time limit for an acknowledgement.
        is_clustered: True when the stream has replicas.
        ready: moves bodies that are too large for the server out of a unit.
    """

    timeout_s: float
    is_clustered: bool
    ready: Callable[[Client, PublishUnit], Awaitable[PublishUnit]]


@dataclass(frozen=True, slots=True)
class _PendingAck:
    """A unit in flight, waiting for its acknowledgement."""

    queued: QueuedUnit
    write_id: str
    answer: asyncio.Future[Msg]


class Publisher:
    """Stores units over one connection. It cannot be used after an error; the next publisher sends the unsettled units
    again.
    """

    def __init__(self, client: Client, progress: PublishProgress, sending: PublishOptions) -> None:
        self._client = client
        self._progress = progress
        self._sending = sending
        self._expected = progress.last
        self._flight: deque[_PendingAck] = deque()
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        self._inbox = client.new_inbox()
        self._numbers = itertools.count()

    async def open(self) -> None:
        """Subscribe to acknowledgements."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._answered)

    async def store(self, units: UnitQueue, following: UnitQueue | None) -> None:
        """Store the unsettled units, then `units`; returns after the last acknowledgement. Each acknowledgement updates
        `progress`. Single messages of `following` are sent meanwhile, and may be stored.

        Raises nats.js.errors.APIError for an error reply, and the errors of nats-py for a broken connection.
        """
        while (queued := await self._next(units)) is not None:
            await self._send(queued)
        while not units.is_stored:
            while following is not None and self._has_room and (unit := following.take_single()) is not None:
                await self._send(self._queued(unit, following))
            await self._settle_first()

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
    def _has_room(self) -> bool:
        """Whether a single message may be sent now: after other single messages, or when nothing is in flight."""
        if not self._flight:
            return True
        most = 1 if self._sending.is_clustered else _WINDOW
        return len(self._flight) < most and len(self._flight[-1].queued.unit) == 1

    async def _send(self, queued: QueuedUnit) -> None:
        """Wait until the unit may be sent, and send it."""
        unit = await self._sending.ready(self._client, queued.unit)
        write_id, count = uuid4().hex, len(unit)
        if count == 1:
            while not self._has_room:
                await self._settle_first()
            headers = {_FENCE: str(self._expected), _ID: write_id}
            if self._flight:
                headers[_FENCE_ID] = self._flight[-1].write_id
        else:
            heads, which, addresses, sizes = unit.batch
            body = MessageBatch(heads, which[:-1], addresses[:-1], sizes[:-1])
            await send_framed(self._client, encode_batch(body, write_id, self._expected))
            while self._flight:
                await self._settle_first()
            headers = {_BATCH_ID: write_id, _BATCH_SEQUENCE: str(count), _BATCH_COMMIT: "1"}
        # The sequence reveals a copy of this message that is stored at another sequence.
        checkpoint = replace(unit.checkpoint, sequence=self._expected + count)
        headers |= {CHECKPOINT: checkpoint.to_text(), WRITE_ID: write_id}
        self._progress.attempts[write_id] = queued
        reply, answer = self._expect()
        self._flight.append(_PendingAck(queued, write_id, answer))
        self._expected += count
        payload = unit.view(count - 1)
        start = encode_header(unit.head(count - 1), headers, reply, len(payload))
        await send_framed(self._client, start, payload, _END)

    async def _settle_first(self) -> None:
        """Wait for the acknowledgement of the oldest unit in flight."""
        sent = self._flight[0]
        answer = await asyncio.wait_for(sent.answer, self._sending.timeout_s)
        _check(answer, self._progress.last, len(sent.queued.unit))
        self._flight.popleft()
        self._progress.settle(sent.write_id)

    def _expect(self) -> tuple[str, asyncio.Future[Msg]]:
        """A reply subject, and the future of the reply."""
        reply = f"{self._inbox}.{next(self._numbers)}"
        self._answers[reply] = answer = asyncio.get_running_loop().create_future()
        return reply, answer

    async def _answered(self, message: Msg) -> None:
        answer = self._answers.pop(message.subject, None)
        if answer is not None and not answer.done():
            answer.set_result(message)


def _check(answer: Msg, last: int, count: int) -> None:
    """Raise the error in the server's reply to a unit of `count` messages after sequence `last`."""
    if not answer.data and (answer.headers or {}).get("Status") == "503":
        raise nats.errors.NoRespondersError
    ack: dict[str, Any] = json.loads(answer.data)
    if "error" in ack:
        raise nats.js.errors.APIError.from_error(ack["error"])
    if ack.get("count", 1) != count or ack["seq"] != last + count:
        raise nats.js.errors.APIError(description=f"the acknowledgement {ack} is not for {count} messages after {last}")
