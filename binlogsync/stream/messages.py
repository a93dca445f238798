"""Messages of a table, as delivered, to ChangeBatches with stream sequences. Pure but for two look-ups it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pyarrow as pa

from binlogsync.change import ChangeBatch
from binlogsync.errors import WireError, excerpt
from binlogsync.schema import TableSchema
from binlogsync.wire.envelope import (
    ARROW,
    CONTENT_TYPE,
    JSON,
    JSON_LINES,
    LARGE_OBJECT,
    LARGE_OBJECT_SIZE,
    SCHEMA,
    SCHEMA_CHANGE,
    changes_in,
    decode_arrow,
    decode_schema_change,
    parse,
)
from binlogsync.wire.tail_messages import is_tail_message

_LARGE_BYTES = 64 << 20
_DIGITS = 19
_FINGERPRINT, _OBJECT = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """Changes of one table under one schema and one set of columns, in stream order; or a schema change (`batch.ddl`).

    Attributes:
        batch: the changes. Its `seq` column holds the stream sequence as well (the reader's own numbers are not on the
            wire).
        sequences: uint64 array, the stream sequence of the message that held each change; repeats where a message holds
            several.
        reply: what `StreamReader.ack` answers to: the last message that is wholly in this batch or an earlier one of
            the same fetch; None when there is none.
    """

    batch: ChangeBatch
    sequences: pa.UInt64Array
    reply: str | None

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def last_sequence(self) -> int:
        """Stream sequence of the last change."""
        return int(self.sequences[-1].as_py())


@dataclass(frozen=True, slots=True)
class DeliveredMessage:
    """One message: `reply` acks it, "" when it was not delivered by a durable."""

    sequence: int
    headers: dict[str, str]
    payload: bytes
    reply: str = ""


@dataclass(frozen=True, slots=True)
class MessageLookups:
    """What a message refers to: the schema of a fingerprint, and the body that was too large for it."""

    schema: Callable[[str], TableSchema]
    large_object: Callable[[str], bytes]


def count_decodable(messages: Sequence[DeliveredMessage]) -> int:
    """How many of the messages may be decoded at once: their bodies in the object store bound the memory. At least one,
    unless there is none.
    """
    size = 0
    for number, message in enumerate(messages):
        if LARGE_OBJECT not in message.headers:
            continue
        told = message.headers.get(LARGE_OBJECT_SIZE, "")
        size += int(told) if told.isdecimal() and len(told) < _DIGITS else _LARGE_BYTES
        if number and size > _LARGE_BYTES:
            return number
    return len(messages)


def decode(messages: Sequence[DeliveredMessage], lookups: MessageLookups) -> list[StreamBatch]:
    """The changes, in order; raises WireError naming the message's sequence.

    Messages that no tail wrote are left out; an ack of what is before them acks them too.
    """
    done: list[StreamBatch] = []
    reply: str | None = None
    for (kind, fingerprint, statement, own), group in groupby(messages, _what):
        part = list(group)
        if not own:
            if done and part[-1].reply:
                reply = part[-1].reply
                done[-1] = replace(done[-1], reply=reply)
            continue
        try:
            if statement is not None:
                counted = [decode_schema_change(statement) for _ in part], [1] * len(part)
            else:
                counted = _batches(kind, fingerprint, [_body(message, lookups) for message in part], lookups)
            for batch in _located(counted[0], counted[1], part, reply):
                done.append(batch)
                reply = batch.reply
        except WireError as error:
            span = f"{part[0].sequence}..{part[-1].sequence}" if len(part) > 1 else str(part[0].sequence)
            raise WireError(f"stream sequence {span}: {error}") from error
    return done


def _what(message: DeliveredMessage) -> tuple[str | None, str | None, str | None, bool]:
    """What messages have in common that are decoded at once, and whether the tail wrote them."""
    headers = message.headers
    own = is_tail_message(headers, message.sequence)
    return headers.get(CONTENT_TYPE), headers.get(SCHEMA), headers.get(SCHEMA_CHANGE), own


def _body(message: DeliveredMessage, lookups: MessageLookups) -> bytes:
    name = message.headers.get(LARGE_OBJECT)
    if name is None:
        return message.payload
    if not _OBJECT.fullmatch(name):
        raise WireError(f"{LARGE_OBJECT} is {excerpt(name)}, which is no name of an object that binlogsync stores")
    return lookups.large_object(name)


def _batches(
    kind: str | None, fingerprint: str | None, bodies: Sequence[bytes], lookups: MessageLookups
) -> tuple[list[ChangeBatch], list[int]]:
    """The batches, and how many changes each message holds."""
    if kind == ARROW:
        batches = [decode_arrow(body) for body in bodies]
        return batches, [len(batch) for batch in batches]
    if kind not in (JSON, JSON_LINES):
        raise WireError(
            f"content type {excerpt(kind)} is none that binlogsync writes; something else publishes into this stream"
        )
    if fingerprint is None:
        raise WireError(f"the message has no {SCHEMA} header; something else publishes into this stream")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise WireError(f"{SCHEMA} is {excerpt(fingerprint)}, which is no fingerprint of a table schema")
    return parse(bodies, lookups.schema(fingerprint)), [changes_in(body, kind) for body in bodies]


def _located(
    batches: Sequence[ChangeBatch], counts: Sequence[int], messages: Sequence[DeliveredMessage], reply: str | None
) -> Iterator[StreamBatch]:
    sequences = np.repeat(np.array([message.sequence for message in messages], np.uint64), counts)
    ends = np.cumsum(counts)
    if sum(len(batch) for batch in batches) != len(sequences):
        raise WireError(f"{len(messages)} messages hold {len(sequences)} lines but {sum(map(len, batches))} changes")
    start = 0
    for batch in batches:
        stop = start + len(batch)
        whole = int(np.searchsorted(ends, stop, "right")) - 1
        reply = (messages[whole].reply or None) if whole >= 0 else reply
        own = pa.array(sequences[start:stop])
        index = batch.data.schema.get_field_index("seq")
        data = batch.data.set_column(index, batch.data.schema.field(index), own.cast(pa.int64()))
        yield StreamBatch(replace(batch, data=data), own, reply)
        start = stop
