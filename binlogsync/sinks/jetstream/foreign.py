"""Messages in a source's stream that no tail wrote: recorded when the tail meets them, so that a check names them.

Their sequences are in the bucket of schemas under the key `foreign`. A message that was removed, or that the stream has
dropped since, is not named any more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import nats.js.errors
from nats.aio.client import Client

from binlogsync.sinks.jetstream.stream import StreamSpec, ensure_schemas
from binlogsync.wire import subjects
from binlogsync.wire.tail_messages import is_tail_message

_KEY = "foreign"
_MOST = 100


@dataclass(frozen=True, slots=True)
class ForeignMessage:
    """One that is in the stream now."""

    sequence: int
    subject: str


async def record_foreign(client: Client, shape: StreamSpec, sequences: Sequence[int]) -> None:
    """Keep the sequences, the last hundred of them, with those that were recorded before."""
    bucket = await ensure_schemas(client, shape)
    kept = sorted({*await _recorded(client, shape.source), *sequences})[-_MOST:]
    await bucket.put(_KEY, json.dumps(kept).encode())


async def foreign_messages(client: Client, source: str) -> list[ForeignMessage]:
    """Those that were recorded and are still there."""
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
    """One sentence for people, with what to do."""
    stream = subjects.stream_name(source)
    if not messages:
        return f"All messages of stream {stream} that the tail has met are its own."
    named = ", ".join(f"{each.sequence} ({each.subject})" for each in messages[:10])
    more = f" and {len(messages) - 10} more" if len(messages) > 10 else ""
    return (
        f"Something else publishes into stream {stream}: sequence {named}{more}. Consumers ignore these messages. "
        f"Allow only the tail to publish to {subjects.all_subjects(source)}, and remove each with: nats stream rmm "
        f"{stream} {messages[0].sequence}"
    )


async def _recorded(client: Client, source: str) -> list[int]:
    try:
        entry = await (await client.jetstream().key_value(subjects.schema_bucket(source))).get(_KEY)
        kept = json.loads(entry.value or b"[]")
    except (nats.js.errors.NotFoundError, ValueError):
        return []
    return [each for each in kept if isinstance(each, int)] if isinstance(kept, list) else []
