"""Pieces of a flush into a stream: each whole or not at all, behind a fence that only this writer's own end opens.

A piece of several messages is an atomic batch. Its messages are sent while the piece before it is being stored, but the
last one, which commits, only when that one is acknowledged.

A piece of one message needs no batch: nats-server stores it several times as fast so. A few of these are on their way
at a time. The fence of each is the sequence it follows, and, because a foreign message may have come to that place
meanwhile, the id of the message it follows (Nats-Expected-Last-Msg-Id). So whatever is stored of them is the first of
them, in order, and nothing foreign is between. In a cluster the server compares the id only when it has agreed on the
message, and nats-server 2.15 then leaves the stream unable to go on; there one is on its way at a time.

Meanwhile a thread makes the pieces behind.
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

from binlogsync.sinks.jetstream.frames import Batch, frame, opening
from binlogsync.sinks.jetstream.piece import Piece
from binlogsync.sinks.jetstream.progress import Progress, Taken
from binlogsync.sinks.jetstream.upcoming import Upcoming
from binlogsync.stream.adapter import send_framed
from binlogsync.wire.envelope import CHECKPOINT, WRITE_ID

_FENCE, _FENCE_ID, _ID = (
    header.value for header in (Header.EXPECTED_LAST_SEQUENCE, Header.EXPECTED_LAST_MSG_ID, Header.MSG_ID)
)
_BATCH_ID, _BATCH_SEQUENCE, _BATCH_COMMIT = (
    header.value for header in (Header.BATCH_ID, Header.BATCH_SEQUENCE, Header.BATCH_COMMIT)
)
_WINDOW = 8
_END = b"\r\n"


@dataclass(frozen=True, slots=True)
class Sending:
    """How pieces are sent.

    Attributes:
        timeout_s: for an acknowledgement.
        is_clustered: True when the stream has replicas.
        ready: moves what the server would not take out of a piece.
    """

    timeout_s: float
    is_clustered: bool
    ready: Callable[[Client, Piece], Awaitable[Piece]]


@dataclass(frozen=True, slots=True)
class _Sent:
    """A piece that waits for its acknowledgement."""

    taken: Taken
    write_id: str
    answer: asyncio.Future[Msg]


class Publisher:
    """Stores pieces over one connection. After an error it is of no use any more; the next one sends again what is
    unsettled.
    """

    def __init__(self, client: Client, progress: Progress, sending: Sending) -> None:
        self._client = client
        self._progress = progress
        self._sending = sending
        self._expected = progress.last
        self._flight: deque[_Sent] = deque()
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        self._inbox = client.new_inbox()
        self._numbers = itertools.count()

    async def open(self) -> None:
        """Listen for acknowledgements."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._answered)

    async def store(self, pieces: Upcoming, following: Upcoming | None) -> None:
        """Store what is unsettled, then `pieces`; returns when the last of them is acknowledged, `progress` moved on by
        every acknowledgement. Single messages of `following` are sent meanwhile, and may be stored.

        Raises nats.js.errors.APIError as the server answers, and what nats raises when the connection breaks.
        """
        while (taken := await self._next(pieces)) is not None:
            await self._send(taken)
        while not pieces.is_stored:
            while following is not None and self._has_room and (piece := following.take_single()) is not None:
                await self._send(self._taken(piece, following))
            await self._settle_first()

    async def _next(self, pieces: Upcoming) -> Taken | None:
        """What an earlier connection left unsettled first; None at the end."""
        unsettled = self._progress.unsettled
        if len(self._flight) < len(unsettled):
            return unsettled[len(self._flight)]
        if (making := pieces.waiting()) is not None:
            await asyncio.shield(asyncio.wrap_future(making))
        piece = pieces.take()
        return None if piece is None else self._taken(piece, pieces)

    def _taken(self, piece: Piece, owner: Upcoming) -> Taken:
        taken = Taken(piece, owner)
        self._progress.unsettled.append(taken)
        return taken

    @property
    def _has_room(self) -> bool:
        """Whether a single message may be sent now: behind others of its kind, or when nothing is on its way."""
        if not self._flight:
            return True
        most = 1 if self._sending.is_clustered else _WINDOW
        return len(self._flight) < most and len(self._flight[-1].taken.piece) == 1

    async def _send(self, taken: Taken) -> None:
        """Send a piece when it may be sent."""
        piece = await self._sending.ready(self._client, taken.piece)
        write_id, count = uuid4().hex, len(piece)
        if count == 1:
            while not self._has_room:
                await self._settle_first()
            headers = {_FENCE: str(self._expected), _ID: write_id}
            if self._flight:
                headers[_FENCE_ID] = self._flight[-1].write_id
        else:
            heads, which, addresses, sizes = piece.batch
            body = Batch(heads, which[:-1], addresses[:-1], sizes[:-1])
            await send_framed(self._client, frame(body, write_id, self._expected))
            while self._flight:
                await self._settle_first()
            headers = {_BATCH_ID: write_id, _BATCH_SEQUENCE: str(count), _BATCH_COMMIT: "1"}
        # So that a copy of this message, which is stored elsewhere, exposes itself.
        checkpoint = replace(piece.checkpoint, sequence=self._expected + count)
        headers |= {CHECKPOINT: checkpoint.to_text(), WRITE_ID: write_id}
        self._progress.attempts[write_id] = taken
        reply, answer = self._expect()
        self._flight.append(_Sent(taken, write_id, answer))
        self._expected += count
        payload = piece.view(count - 1)
        start = opening(piece.head(count - 1), headers, reply, len(payload))
        await send_framed(self._client, start, payload, _END)

    async def _settle_first(self) -> None:
        """Wait for the acknowledgement of the oldest piece that is on its way."""
        sent = self._flight[0]
        answer = await asyncio.wait_for(sent.answer, self._sending.timeout_s)
        _check(answer, self._progress.last, len(sent.taken.piece))
        self._flight.popleft()
        self._progress.settle(sent.write_id)

    def _expect(self) -> tuple[str, asyncio.Future[Msg]]:
        """A subject for an answer, and where it will be."""
        reply = f"{self._inbox}.{next(self._numbers)}"
        self._answers[reply] = answer = asyncio.get_running_loop().create_future()
        return reply, answer

    async def _answered(self, message: Msg) -> None:
        answer = self._answers.pop(message.subject, None)
        if answer is not None and not answer.done():
            answer.set_result(message)


def _check(answer: Msg, last: int, count: int) -> None:
    """Raise what the server says against a piece of so many messages behind sequence `last`."""
    if not answer.data and (answer.headers or {}).get("Status") == "503":
        raise nats.errors.NoRespondersError
    ack: dict[str, Any] = json.loads(answer.data)
    if "error" in ack:
        raise nats.js.errors.APIError.from_error(ack["error"])
    if ack.get("count", 1) != count or ack["seq"] != last + count:
        raise nats.js.errors.APIError(description=f"the acknowledgement {ack} is not of {count} messages behind {last}")
