"""Atomic batches: all messages of a piece or none, behind a fence that only this writer's own end of the stream opens.

The messages of a piece are sent while the piece before it is being stored, but the last one, which commits, only when
that one is acknowledged. So at any time the fate of one piece at most is unknown, and a piece can never land behind a
foreign one: sending the commit early would let a foreign batch of equal length slip in between. Meanwhile a thread
makes the pieces behind it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header

from binlogsync.sinks.jetstream_frames import Batch, frame
from binlogsync.sinks.jetstream_messages import Piece
from binlogsync.stream.adapter import send_framed
from binlogsync.wire.envelope import CHECKPOINT, WRITE_ID

_ID, _SEQUENCE, _COMMIT = Header.BATCH_ID, Header.BATCH_SEQUENCE, Header.BATCH_COMMIT
_FENCE = Header.EXPECTED_LAST_SEQUENCE
_AHEAD = 3


@dataclass(slots=True)
class Progress:
    """What is stored, kept up to date while pieces go out.

    Attributes:
        last: stream sequence behind the last acknowledged piece.
        unsettled: pieces sent, in part or whole, and not acknowledged; at most two, the first of them may be stored.
        write_ids: of every attempt to store the first of them.
        stored_id: write id in the last message of the stream when it ended at `last`; None when it was empty.
    """

    last: int
    unsettled: list[Piece]
    write_ids: set[str]
    stored_id: str | None = None

    def settle(self, sequence: int, write_id: str | None) -> None:
        """The first unsettled piece is stored by the attempt `write_id`, and ends at `sequence`."""
        self.last, self.stored_id = sequence, write_id
        self.unsettled.pop(0)
        self.write_ids = set()


class Upcoming:
    """Pieces in order, a few of them made ahead in a thread. What was made for one attempt is there for the next."""

    def __init__(self, pieces: Iterator[Piece], maker: ThreadPoolExecutor) -> None:
        self._pieces = pieces
        self._maker = maker
        self._made: deque[Future[Piece | None]] = deque()
        for _ in range(_AHEAD):
            self._ask()

    async def take(self) -> Piece | None:
        """The next piece; None at the end. Raises what making it raised."""
        piece = await asyncio.shield(asyncio.wrap_future(self._made[0]))
        self._made.popleft()
        self._ask()
        return piece

    def drop(self) -> None:
        """No more are wanted."""
        for made in self._made:
            made.cancel()

    def _ask(self) -> None:
        self._made.append(self._maker.submit(next, self._pieces, None))


@dataclass(frozen=True, slots=True)
class Sending:
    """How pieces are sent.

    Attributes:
        timeout_s: for an acknowledgement.
        ready: moves what the server would not take out of a piece.
    """

    timeout_s: float
    ready: Callable[[Client, Piece], Awaitable[Piece]]


async def publish_pieces(client: Client, pieces: Upcoming, progress: Progress, sending: Sending) -> None:
    """Store what is unsettled, then `pieces`, each acknowledged, `progress` moved on by every acknowledgement.

    Raises nats.js.errors.APIError as the server answers, and what nats raises when the connection breaks.
    """
    again = deque(progress.unsettled)
    answer: asyncio.Task[Msg] | None = None
    committed = ""
    try:
        expected = progress.last
        while True:
            if again:
                piece = again.popleft()
            else:
                made = await pieces.take()
                if made is None:
                    break
                piece = made
                progress.unsettled.append(piece)
            message = await sending.ready(client, piece)
            write_id = uuid4().hex
            await _send_body(client, message, write_id, expected)
            if answer is not None:
                _acknowledge(await answer, progress, committed)
            progress.write_ids.add(write_id)
            committed = write_id
            answer = asyncio.create_task(_commit(client, message, (write_id, expected), sending.timeout_s))
            expected += len(piece)
        if answer is not None:
            _acknowledge(await answer, progress, committed)
            answer = None
    finally:
        if answer is not None:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)


async def _send_body(client: Client, piece: Piece, write_id: str, expected: int) -> None:
    """All messages but the last."""
    if len(piece) > 1:
        heads, which, addresses, sizes = piece.batch
        body = Batch(heads, which[:-1], addresses[:-1], sizes[:-1])
        await send_framed(client, frame(body, write_id, expected))


async def _commit(client: Client, piece: Piece, attempt: tuple[str, int], timeout_s: float) -> Msg:
    """The last message; the server answers when all are stored."""
    write_id, expected = attempt
    count = len(piece)
    subject, own = piece.head(count - 1)
    headers = {_ID: write_id, _SEQUENCE: str(count), _COMMIT: "1", **own}
    if count == 1:
        headers[_FENCE] = str(expected)
    headers |= {CHECKPOINT: piece.checkpoint.to_text(), WRITE_ID: write_id}
    return await client.request(subject, piece.payload(count - 1), timeout=timeout_s, headers=headers)


def _acknowledge(answer: Msg, progress: Progress, write_id: str) -> None:
    ack: dict[str, Any] = json.loads(answer.data)
    if "error" in ack:
        raise nats.js.errors.APIError.from_error(ack["error"])
    count = len(progress.unsettled[0])
    if ack.get("count", 1) != count or ack["seq"] != progress.last + count:
        raise nats.js.errors.APIError(
            description=f"the acknowledgement {ack} is not of {count} messages behind {progress.last}"
        )
    progress.settle(ack["seq"], write_id)
