"""Messages of a tail that a changed configuration of its stream stored under other subjects, where no reader looks.

The tail notices the change within seconds, and refuses to write until it is undone. Then what was stored from the
first such message on is removed, so that the stream ends at a checkpoint before it and the tail reads the rest from the
binlog again. Readers drop what they have had already, by its position in the binlog.
"""

from __future__ import annotations

import logging

import nats.js.errors
from nats.aio.client import Client

from binlogsync.errors import SinkError
from binlogsync.wire import subjects
from binlogsync.wire.envelope import has_tail_header

log = logging.getLogger(__name__)
_MOST = 200_000


async def remove_misplaced(client: Client, source: str) -> int:
    """Remove the end of the stream that begins with such a message; gives how many were removed, mostly none.

    Raises SinkError when it is longer than a few seconds of changes.
    """
    js, stream = client.jetstream(), subjects.stream_name(source)
    state = (await js.stream_info(stream, subjects_filter=">")).state
    others = [each for each in state.subjects or {} if not each.startswith(subjects.all_subjects(source)[:-1])]
    places = []
    for subject in others:
        message = await js.get_msg(stream, max(state.first_seq, 1), subject, next=True)
        if has_tail_header(message.headers or {}):
            places.append(message.seq or 0)
    if not places:
        return 0
    first, last = min(places), state.last_seq
    if last - first >= _MOST:
        raise SinkError(
            f"stream {stream} holds changes under other subjects ({others[0]}) since sequence {first}, which readers "
            f"do not find, and too many messages after it to write again: rebuild the mirrors of those tables, and "
            f"remove the messages with: nats stream purge {stream} --subject {others[0]}"
        )
    removed = 0
    for sequence in range(last, first - 1, -1):
        try:
            await js.delete_msg(stream, sequence)
            removed += 1
        except nats.js.errors.NotFoundError:
            continue
    log.error(
        "stream %s: removed %d messages from sequence %d on, because changes were stored under other subjects (%s); "
        "the tail writes them again",
        stream,
        removed,
        first,
        others[0],
    )
    return removed
