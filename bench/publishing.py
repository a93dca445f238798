"""The bare loop that our sink is compared with: ready-made messages of the same bytes, published by nats-py alone.

No MySQL, no decoding, no rendering: atomic batches are sent as fast as nats-py sends them, each committed when the one
before it is acknowledged, as our sink does.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header, StorageType, StreamConfig

from bench.readers import Reading, flushes
from binlogsync.mysql import MySQLConfig
from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.sinks.jetstream_frames import Head
from binlogsync.sinks.jetstream_messages import Packing, pieces

_TIMEOUT_S = 60
Batch = Sequence[tuple[Head, bytes]]


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """Atomic batches of messages, and how many changes they hold."""

    batches: Sequence[Batch]
    changes: int
    bytes: int


def make_ready(config: MySQLConfig, options: JetStreamOptions, changes: int, most: int) -> ReadyMade:
    """What our sink would publish of about the first `most` changes of the binlog."""
    packing = Packing(options.format, options.changes_per_message, options.max_batch_bytes)
    batches: list[Batch] = []
    taken = 0
    for flush in flushes(config, changes):
        if taken < most:
            taken += flush.changes
            for piece in pieces(flush, packing, 0):
                batches.append([(piece.head(i), piece.payload(i)) for i in range(len(piece))])
    return ReadyMade(batches, taken, sum(len(body) for batch in batches for _, body in batch))


def publish_bare(url: str, ready: ReadyMade) -> Reading:
    """Publish it into a stream of its own."""
    return asyncio.run(_publish(url, ready))


async def _publish(url: str, ready: ReadyMade) -> Reading:
    client = await nats.connect(url)
    subject = ready.batches[0][0][0].subject
    name = f"bare-{uuid.uuid4().hex}"
    js = client.jetstream()
    config = StreamConfig(name, subjects=[f"{name}.>"], storage=StorageType.FILE, allow_atomic=True, allow_direct=True)
    await js.add_stream(config)
    subject = f"{name}.{subject}"
    begun = time.perf_counter()
    answer: asyncio.Task[Msg] | None = None
    for batch in ready.batches:
        identity = uuid.uuid4().hex
        for number, (head, body) in enumerate(batch[:-1], 1):
            headers = {Header.BATCH_ID: identity, Header.BATCH_SEQUENCE: str(number), **head.headers}
            await client.publish(subject, body, headers=headers)
        if answer is not None:
            _check(await answer)
        answer = asyncio.create_task(_commit(client, subject, batch, identity))
    if answer is not None:
        _check(await answer)
    seconds = time.perf_counter() - begun
    await js.delete_stream(name)
    await client.close()
    return Reading(seconds, ready.bytes, ready.changes)


async def _commit(client: Client, subject: str, batch: Batch, identity: str) -> Msg:
    head, body = batch[-1]
    own: dict[str, str] = {Header.BATCH_ID: identity, Header.BATCH_SEQUENCE: str(len(batch)), Header.BATCH_COMMIT: "1"}
    return await client.request(subject, body, timeout=_TIMEOUT_S, headers={**own, **head.headers})


def _check(answer: Msg) -> None:
    if "error" in (ack := json.loads(answer.data)):
        raise SystemExit(f"the bare loop was refused: {ack['error']}")
