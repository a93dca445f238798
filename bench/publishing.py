"""The baselines of the JetStream sink: loops in nats-py that publish prepared messages with the same content.

Without MySQL, decoding and rendering. `publish_bare` sends atomic batches; each is committed when the previous one is
acknowledged, and messages with many changes are combined into batches of about `_BATCH_BYTES`. `publish_singly` sends
single messages, `_WINDOW` of them in flight, fenced only by the stream sequence: the maximum rate of the server, but
safe only without other publishers.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header, StorageType, StreamConfig

from bench.readers import Measurement, flushes
from binlogsync.mysql import MySQLConfig
from binlogsync.nats.protocol_text import SubjectAndHeaders
from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.sinks.jetstream.messages import publish_units
from binlogsync.sinks.jetstream.packing import PackingOptions

_TIMEOUT_S = 60
_WINDOW = 8
_BATCH_BYTES = 16 << 20
Batch = Sequence[tuple[SubjectAndHeaders, bytes]]


@dataclass(frozen=True, slots=True)
class PreparedMessages:
    """Atomic batches of messages, with their number of changes and bytes."""

    batches: Sequence[Batch]
    changes: int
    bytes: int


def prepare_messages(config: MySQLConfig, options: JetStreamOptions, changes: int, most: int) -> PreparedMessages:
    """The messages that the sink publishes for about the first `most` changes of the binlog."""
    packing = PackingOptions(options.format, options.changes_per_message, options.max_batch_bytes)
    batches: list[list[tuple[SubjectAndHeaders, bytes]]] = []
    taken = open_bytes = 0
    for flush in flushes(config, changes):
        if taken < most:
            taken += flush.changes
            for piece in publish_units(flush, packing, 0):
                messages = [(piece.head(i), piece.payload(i)) for i in range(len(piece))]
                size = sum(len(body) for _, body in messages)
                if len(messages) == 1 and batches and open_bytes + size <= _BATCH_BYTES:
                    batches[-1] += messages
                    open_bytes += size
                else:
                    batches.append(messages)
                    open_bytes = size if len(messages) == 1 else _BATCH_BYTES
    return PreparedMessages(batches, taken, sum(len(body) for batch in batches for _, body in batch))


def publish_bare(url: str, ready: PreparedMessages) -> Measurement:
    """Publish the messages in atomic batches, into a new stream."""
    return asyncio.run(_publish(url, ready, _in_batches))


def publish_singly(url: str, ready: PreparedMessages) -> Measurement:
    """Publish the messages one by one, into a new stream."""
    return asyncio.run(_publish(url, ready, _singly))


async def _publish(
    url: str, ready: PreparedMessages, way: Callable[[Client, str, Sequence[Batch]], Awaitable[None]]
) -> Measurement:
    client = await nats.connect(url)
    name = f"bare-{uuid.uuid4().hex}"
    js = client.jetstream()
    config = StreamConfig(name, subjects=[f"{name}.>"], storage=StorageType.FILE, allow_atomic=True, allow_direct=True)
    await js.add_stream(config)
    begun = time.perf_counter()
    await way(client, f"{name}.{ready.batches[0][0][0].subject}", ready.batches)
    seconds = time.perf_counter() - begun
    await js.delete_stream(name)
    await client.close()
    return Measurement(seconds, ready.bytes, ready.changes)


async def _in_batches(client: Client, subject: str, batches: Sequence[Batch]) -> None:
    answer: asyncio.Task[Msg] | None = None
    for batch in batches:
        identity = uuid.uuid4().hex
        for number, (head, body) in enumerate(batch[:-1], 1):
            headers = {Header.BATCH_ID: identity, Header.BATCH_SEQUENCE: str(number), **head.headers}
            await client.publish(subject, body, headers=headers)
        if answer is not None:
            _check(await answer)
        answer = asyncio.create_task(_commit(client, subject, batch, identity))
    if answer is not None:
        _check(await answer)


async def _singly(client: Client, subject: str, batches: Sequence[Batch]) -> None:
    answers: deque[asyncio.Task[Msg]] = deque()
    for number, (head, body) in enumerate(message for batch in batches for message in batch):
        if len(answers) == _WINDOW:
            _check(await answers.popleft())
        headers: dict[str, str] = {Header.EXPECTED_LAST_SEQUENCE: str(number), **head.headers}
        answers.append(asyncio.create_task(client.request(subject, body, timeout=_TIMEOUT_S, headers=headers)))
        await asyncio.sleep(0)  # lets the task send its message
    while answers:
        _check(await answers.popleft())


async def _commit(client: Client, subject: str, batch: Batch, identity: str) -> Msg:
    head, body = batch[-1]
    own: dict[str, str] = {Header.BATCH_ID: identity, Header.BATCH_SEQUENCE: str(len(batch)), Header.BATCH_COMMIT: "1"}
    return await client.request(subject, body, timeout=_TIMEOUT_S, headers={**own, **head.headers})


def _check(answer: Msg) -> None:
    if "error" in (ack := json.loads(answer.data)):
        raise SystemExit(f"the bare loop was refused: {ack['error']}")
