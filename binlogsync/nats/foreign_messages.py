"""Messages in a source's stream that no tail wrote: the tail records them, and a check reports them.

Their sequences are in the schema bucket under the key `foreign`. A message that was deleted, or dropped by the stream,
is no longer reported.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import nats.js.errors
from nats.aio.client import Client

from binlogsync.codec import subjects
from binlogsync.codec.tail_messages import is_tail_message
from binlogsync.nats.buckets import ensure_schemas
from binlogsync.nats.stream import StreamSpec

_KEY = "foreign"
_MOST = 100


@dataclass(frozen=True, slots=True)
class ForeignMessage:
    """A foreign message that is in the stream now."""

    sequence: int
    subject: str


async def record_foreign(client: Client, shape: StreamSpec, sequences: Sequence[int]) -> None:
    """Add the sequences to the recorded ones; the last hundred are kept."""
    bucket = await ensure_schemas(client, shape)
    kept = sorted({*await _recorded(client, shape.source), *sequences})[-_MOST:]
    await bucket.put(_KEY, json.dumps(kept).encode())


async def foreign_messages(client: Client, source: str) -> list[ForeignMessage]:
    """The recorded messages that are still in the stream."""
    found = []
    for sequence in await _recorded(client, source):
        try:
            message = await client.jetstream().get_msg(subjects.stream_name(source), sequence)
        except nats.js.errors.NotFoundError:
            continue
        if not is_tail_message(message.headers or {}, sequence):
            found.append(ForeignMessage(sequence, message.subject or ""))
    return found


def describe_foreign(messages: Sequence[ForeignMessage], source: str) -> str:
    """A description for the user, with the next step."""
    stream = subjects.stream_name(source)
    if not messages:
        return f"The tail has written all messages of stream {stream} that it has read."
    named = ", ".join(f"{each.sequence} ({each.subject})" for each in messages[:10])
    more = f" and {len(messages) - 10} more" if len(messages) > 10 else ""
    return (
        f"Another program publishes to stream {stream}: sequence {named}{more}. Consumers ignore these messages. "
        f"Allow only the tail to publish to {' and '.join(subjects.stream_subjects(source))}, and delete each with: "
        f"nats stream rmm {stream} {messages[0].sequence}"
    )


async def _recorded(client: Client, source: str) -> list[int]:
    try:
        entry = await (await client.jetstream().key_value(subjects.schema_bucket(source))).get(_KEY)
        kept = json.loads(entry.value or b"[]")
    except (nats.js.errors.NotFoundError, ValueError):
        return []
    return [each for each in kept if isinstance(each, int)] if isinstance(kept, list) else []
