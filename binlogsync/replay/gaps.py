"""Finds accepted gaps of a stream: changes that MySQL had purged, and that the operator accepted as lost.

A range that contains a gap cannot be read completely from the stream.
"""

from __future__ import annotations

import json
import logging

import nats.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from binlogsync.codec import subjects
from binlogsync.codec.envelope import GAP
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.position_order import compare
from binlogsync.replay.ranges import ReplayRange

log = logging.getLogger(__name__)

_FETCH = 1000
_TIMEOUT_S = 120.0


def find_gap(reader: StreamReader, range_: ReplayRange) -> str:
    """A description of the first gap in the range; "" if there is none.

    Reads the headers of all messages on the checkpoint subject. Raises SinkError.
    """
    for text in reader.ask(lambda client: _read_gaps(client, reader), _TIMEOUT_S):
        gap = json.loads(text)
        start, end = (Checkpoint.from_text(json.dumps(gap[name])) for name in ("from", "to"))
        # A gap at an unknown position counts as inside the range.
        if compare(range_.start, end).may_be_before and compare(start, range_.until).may_be_before:
            return f"from {start} to {end} ({gap['reason']}): {gap['missing']}"
    return ""


async def _read_gaps(client: Client, reader: StreamReader) -> list[str]:
    """The gap headers of the stream, in order."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, headers_only=True, inactive_threshold=60.0
    )
    subject = subjects.checkpoint_subject(reader.source)
    subscription = await client.jetstream().pull_subscribe(subject, stream=reader.stream, config=config)
    try:
        pending = (await subscription.consumer_info()).num_pending or 0
        gaps: list[str] = []
        while pending > 0:
            messages = await subscription.fetch(min(pending, _FETCH), timeout=10.0)
            pending -= len(messages)
            gaps += [message.headers[GAP] for message in messages if message.headers and GAP in message.headers]
        return gaps
    except nats.errors.TimeoutError:
        log.warning("stream %s dropped checkpoints while they were read", reader.stream)
        return []
    finally:
        await subscription.unsubscribe()
