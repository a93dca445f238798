"""Deletes messages that a changed stream configuration stored under other subjects, where readers do not find them.

The tail detects such a change within seconds, and refuses to write until it is undone. Then all messages from the first
misplaced one on are deleted, so that the stream ends at an earlier checkpoint and the tail reads the rest from the
binlog again. Readers filter out changes that they have already applied, by position.
"""

from __future__ import annotations

import logging

import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.codec.envelope import has_tail_header
from binlogsync.errors import SinkError

log = logging.getLogger(__name__)
_MOST = 200_000


async def remove_misplaced(client: Client, source: str) -> int:
    """Delete the stream's messages from the first misplaced one on; returns their number, usually 0.

    Raises SinkError when there are more than a few seconds of changes.
    """
    js, stream = client.jetstream(), subjects.stream_name(source)
    state = (await js.stream_info(stream, subjects_filter=">")).state
    own = tuple(subject[:-1] for subject in subjects.stream_subjects(source))
    others = [each for each in state.subjects or {} if not each.startswith(own)]
    sequences = []
    for subject in others:
        message = await js.get_msg(stream, max(state.first_seq, 1), subject, next=True)
        if has_tail_header(message.headers or {}):
            sequences.append(message.seq or 0)
    if not sequences:
        return 0
    first, last = min(sequences), state.last_seq
    if last - first >= _MOST:
        raise SinkError(
            f"stream {stream} has changes under other subjects ({others[0]}) since sequence {first}, which readers do "
            f"not find, and too many messages after it to write them again: rebuild the mirrors of those tables, and "
            f"delete the messages with: nats stream purge {stream} --subject {others[0]}"
        )
    removed = 0
    for sequence in range(last, first - 1, -1):
        try:
            await js.delete_msg(stream, sequence)
            removed += 1
        except nats.js.errors.NotFoundError:
            continue
    log.error(
        "stream %s: deleted %d messages from sequence %d on, because changes were stored under other subjects (%s); "
        "the tail writes them again",
        stream,
        removed,
        first,
        others[0],
    )
    return removed
