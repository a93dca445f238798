"""Holes in a stream: what a person gave up when MySQL no longer had it (gap.py). A range that has one is not whole."""

from __future__ import annotations

import json
import logging

import nats.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from binlogsync.backfill.ranges import Span
from binlogsync.errors import PositionError
from binlogsync.position import Checkpoint
from binlogsync.stream.reader import StreamReader
from binlogsync.wire import subjects
from binlogsync.wire.envelope import GAP

log = logging.getLogger(__name__)

_FETCH = 1000
_LONGEST_S = 120.0


def find_hole(reader: StreamReader, span: Span) -> str:
    """What the stream says of the first hole that lies in the range; "" where it has none.

    All messages of the checkpoint subject are looked at, their headers only. Raises SinkError.
    """
    for text in reader.ask(lambda client: _notes(client, reader), _LONGEST_S):
        note = json.loads(text)
        before, behind = (Checkpoint.from_text(json.dumps(note[name])) for name in ("from", "to"))
        if _is_before(span.start, behind) and _is_before(before, span.until):
            return f"from {before} to {behind} ({note['reason']}): {note['missing']}"
    return ""


async def _notes(client: Client, reader: StreamReader) -> list[str]:
    """What is written of holes, in order."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, headers_only=True, inactive_threshold=60.0
    )
    subject = subjects.checkpoint_subject(reader.source)
    subscription = await client.jetstream().pull_subscribe(subject, stream=reader.stream, config=config)
    try:
        left = (await subscription.consumer_info()).num_pending or 0
        notes: list[str] = []
        while left > 0:
            found = await subscription.fetch(min(left, _FETCH), timeout=10.0)
            left -= len(found)
            notes += [message.headers[GAP] for message in found if message.headers and GAP in message.headers]
        return notes
    except nats.errors.TimeoutError:
        log.warning("stream %s dropped checkpoints while they were read", reader.stream)
        return []
    finally:
        await subscription.unsubscribe()


def _is_before(left: Checkpoint, right: Checkpoint) -> bool:
    """True also where the two cannot be compared: a hole that cannot be placed counts."""
    try:
        return left.precedes(right)
    except PositionError:
        return True
