"""Atomic batches: all messages of a piece or none, behind a fence that only this writer's own end of the stream opens.

The messages of a piece are sent while the piece before it is being stored, but the last one, which commits, only when
that one is acknowledged. So at any time the fate of one piece at most is unknown, and a piece can never land behind a
foreign one: sending the commit early would let a foreign batch of equal length slip in between.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header

from binlogsync.envelope import CHECKPOINT, WRITE_ID
from binlogsync.sinks.jetstream_messages import Piece

_ID, _SEQUENCE, _COMMIT = Header.BATCH_ID, Header.BATCH_SEQUENCE, Header.BATCH_COMMIT
_FENCE = Header.EXPECTED_LAST_SEQUENCE


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


async def publish_pieces(client: Client, pieces: Iterator[Piece], progress: Progress, timeout_s: float) -> None:
    """Store what is unsettled, then `pieces`, each acknowledged, `progress` moved on by every acknowledgement.

    Raises nats.js.errors.APIError as the server answers, and what nats raises when the connection breaks.
    """
    again = list(progress.unsettled)
    answer: asyncio.Task[Msg] | None = None
    committed = ""
    try:
        expected = progress.last
        for piece in _chain(again, pieces, progress):
            write_id = uuid4().hex
            await _send_body(client, piece, write_id, expected)
            if answer is not None:
                _acknowledge(await answer, progress, committed)
            progress.write_ids.add(write_id)
            committed = write_id
            answer = asyncio.create_task(_commit(client, piece, (write_id, expected), timeout_s))
            expected += len(piece.messages)
        if answer is not None:
            _acknowledge(await answer, progress, committed)
            answer = None
    finally:
        if answer is not None:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)


def _chain(again: list[Piece], pieces: Iterator[Piece], progress: Progress) -> Iterator[Piece]:
    yield from again
    for piece in pieces:
        progress.unsettled.append(piece)
        yield piece


async def _send_body(client: Client, piece: Piece, write_id: str, expected: int) -> None:
    """All messages but the last."""
    publish = client.publish
    for number, message in enumerate(piece.messages[:-1], 1):
        headers = {_ID: write_id, _SEQUENCE: str(number), **message.headers}
        if number == 1:
            headers[_FENCE] = str(expected)
        await publish(message.subject, message.payload, headers=headers)


async def _commit(client: Client, piece: Piece, attempt: tuple[str, int], timeout_s: float) -> Msg:
    """The last message; the server answers when all are stored."""
    write_id, expected = attempt
    count, message = len(piece.messages), piece.messages[-1]
    headers = {_ID: write_id, _SEQUENCE: str(count), _COMMIT: "1", **message.headers}
    if count == 1:
        headers[_FENCE] = str(expected)
    headers |= {CHECKPOINT: piece.checkpoint.to_text(), WRITE_ID: write_id}
    return await client.request(message.subject, message.payload, timeout=timeout_s, headers=headers)


def _acknowledge(answer: Msg, progress: Progress, write_id: str) -> None:
    ack: dict[str, Any] = json.loads(answer.data)
    if "error" in ack:
        raise nats.js.errors.APIError.from_error(ack["error"])
    count = len(progress.unsettled[0].messages)
    if ack.get("count", 1) != count or ack["seq"] != progress.last + count:
        raise nats.js.errors.APIError(
            description=f"the acknowledgement {ack} is not of {count} messages behind {progress.last}"
        )
    progress.settle(ack["seq"], write_id)
