"""Reads the messages of accepted gaps: changes that MySQL had purged, and that the operator accepted as lost."""

from __future__ import annotations

import logging

import nats.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from binlogsync.codec import subjects
from binlogsync.codec.envelope import GAP
from binlogsync.nats.reader import StreamReader

log = logging.getLogger(__name__)

_FETCH = 1000
_TIMEOUT_S = 120.0


def read_gap_texts(reader: StreamReader) -> list[str]:
    """The JSON text of each gap, in order, from the headers on the checkpoint subject. Raises SinkError."""
    return reader.ask(lambda client: _read(client, reader), _TIMEOUT_S)


async def _read(client: Client, reader: StreamReader) -> list[str]:
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        headers_only=True,
        inactive_threshold=60.0,
        mem_storage=True,
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
