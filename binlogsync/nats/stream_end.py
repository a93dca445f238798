"""The end of a source's stream: its last messages, which contain the checkpoint, and repairs of an incomplete batch."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import Header, RawStreamMsg

from binlogsync.codec import subjects
from binlogsync.codec.envelope import CHECKPOINT, WRITE_ID
from binlogsync.codec.snapshot_state import SNAPSHOT_STATE
from binlogsync.codec.tail_messages import MOST_WITHOUT_CHECKPOINT, is_tail_message, tail_checkpoint
from binlogsync.errors import PositionError
from binlogsync.nats.jetstream_error_codes import JS_NO_MESSAGE_FOUND_ERR
from binlogsync.position import Checkpoint

log = logging.getLogger(__name__)
_PARTIAL_AFTER_S = 1.0

UNPROVEN = (
    "so it is unknown which changes are stored. Inspect it with: nats stream view {stream}. Then restore the stream "
    "from a backup; or, if its messages are not needed, empty it with: nats stream purge {stream}, and restart the "
    "tail: it starts at the checkpoint of the position store or, without one, at BINLOGSYNC_START"
)


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a stream.

    Attributes:
        sequence: sequence of the last message that ever existed; 0 if there was none.
        checkpoint: checkpoint text in the last message of a tail; None without such a message or text.
        write_id: write id in that message, or None.
        is_empty: True when the stream has no message now.
        batch_id: id of the atomic batch of that message, or None.
        own: sequence of that message; 0 if there is none.
        foreign: sequences of the messages after it, which were published by other programs.
        partial: number of messages deleted because the server had stored only a part of their atomic batch.
        snapshot: progress of an incremental snapshot in the last message of a tail, or None.
    """

    sequence: int
    checkpoint: str | None = None
    write_id: str | None = None
    is_empty: bool = True
    batch_id: str | None = None
    own: int = 0
    foreign: tuple[int, ...] = ()
    partial: int = 0
    snapshot: str | None = None

    @property
    def is_partial_batch(self) -> bool:
        """True when the last message belongs to an atomic batch of a tail that is incomplete."""
        return not self.is_empty and self.checkpoint is None and self.batch_id is not None

    def require_checkpoint(self, stream: str) -> Checkpoint | None:
        """The checkpoint, None when the stream is empty; raises PositionError when no message has a valid one."""
        if self.is_empty:
            return None
        if self.checkpoint is None:
            raise PositionError(
                f"stream {stream} is not empty (its last message is sequence {self.sequence}), and no message in it "
                f"carries a checkpoint that its tail has stored there: {UNPROVEN.format(stream=stream)}"
            )
        return Checkpoint.from_text(self.checkpoint)


async def stream_end(client: Client, source: str) -> StreamEnd:
    """The end according to the stream's leader; its sequence includes messages that were deleted from the end."""
    js, stream = client.jetstream(), subjects.stream_name(source)
    state = (await js.stream_info(stream)).state
    while True:
        last = await _last_message(js, source)
        again = (await js.stream_info(stream)).state
        if again.last_seq == state.last_seq:
            break
        state = again
    if last is None:
        return StreamEnd(state.last_seq)
    foreign: list[int] = []
    while last is not None and not _may_end(last):
        foreign.append(last.seq or 0)
        last = await _message_before(js, source, last.seq or 0, state.first_seq)
    if last is not None and (proven := await _proven_before(js, source, last, state.first_seq)) is not None:
        foreign += range(last.seq or 0, proven.seq or 0, -1)
        last = proven
    headers = (last.headers if last is not None else None) or {}
    return StreamEnd(
        state.last_seq,
        headers.get(CHECKPOINT),
        headers.get(WRITE_ID),
        False,
        headers.get(Header.BATCH_ID),
        (last.seq or 0) if last is not None else 0,
        tuple(reversed(foreign)),
        snapshot=headers.get(SNAPSHOT_STATE),
    )


async def _proven_before(js: JetStreamContext, source: str, last: RawStreamMsg, first: int) -> RawStreamMsg | None:
    """If the checkpoint of `last` does not contain its sequence: the last earlier message whose checkpoint does,
    because then `last` is a copy of a message of an older version. None if there is none.
    """
    sequence = last.seq or 0
    checkpoint = tail_checkpoint(last.headers or {}, sequence)
    if checkpoint is None or checkpoint.sequence is not None:
        return None
    for _ in range(MOST_WITHOUT_CHECKPOINT):
        message = await _message_before(js, source, sequence, first)
        if message is None:
            return None
        sequence = message.seq or 0
        checkpoint = tail_checkpoint(message.headers or {}, sequence)
        if checkpoint is not None and checkpoint.sequence is not None:
            return message
    return None


def _may_end(message: RawStreamMsg) -> bool:
    """True for a message of the tail: one with a valid checkpoint, or one of an incomplete batch."""
    headers, sequence = message.headers or {}, message.seq or 0
    if CHECKPOINT in headers:
        return tail_checkpoint(headers, sequence) is not None
    return is_tail_message(headers, sequence)


async def _message_before(js: JetStreamContext, source: str, sequence: int, first: int) -> RawStreamMsg | None:
    """The message before that sequence; None when there is none."""
    stream = subjects.stream_name(source)
    for number in range(sequence - 1, max(first, 1) - 1, -1):
        try:
            return await js.get_msg(stream, number)
        except nats.js.errors.NotFoundError as error:
            if error.err_code != JS_NO_MESSAGE_FOUND_ERR:
                raise
    return None


async def repaired_end(client: Client, source: str) -> StreamEnd:
    """The end, after the messages of an incomplete batch were deleted.

    nats-server stores an atomic batch completely or not at all, except when it runs out of storage: then it keeps the
    first messages and sends no reply. They are deleted, so that the stream ends at a checkpoint again.
    """
    end = await stream_end(client, source)
    while end.is_partial_batch:
        await asyncio.sleep(_PARTIAL_AFTER_S)  # a batch that another writer is storing right now looks the same
        before, end = end, await stream_end(client, source)
        if before == end:
            removed = await _remove_batch(client.jetstream(), source, end)
            log.error(
                "stream %s: the server stored only %d messages of an atomic batch; deleted them",
                source,
                removed,
            )
            return replace(await stream_end(client, source), partial=removed)
    return end


async def _remove_batch(js: JetStreamContext, source: str, end: StreamEnd) -> int:
    removed = 0
    message = await _message_before(js, source, end.own + 1, end.own)
    while message is not None and message.seq is not None:
        headers = message.headers or {}
        if headers.get(Header.BATCH_ID) != end.batch_id or CHECKPOINT in headers:
            break
        await js.delete_msg(subjects.stream_name(source), message.seq)
        removed += 1
        message = await _message_before(js, source, message.seq, 1)
    return removed


async def _last_message(js: JetStreamContext, source: str) -> RawStreamMsg | None:
    found: list[RawStreamMsg] = []
    for subject in subjects.stream_subjects(source):
        try:
            found.append(await js.get_last_msg(subjects.stream_name(source), subject))
        except nats.js.errors.NotFoundError as error:
            if error.err_code != JS_NO_MESSAGE_FOUND_ERR:
                raise
    return max(found, key=lambda message: message.seq or 0, default=None)
