"""Decodes delivered messages of a table to ChangeBatches with stream sequences. Pure, except for two given look-ups."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pyarrow as pa

from binlogsync.change import ChangeBatch
from binlogsync.codec.envelope import (
    ARROW,
    CONTENT_TYPE,
    JSON,
    JSON_LINES,
    LARGE_OBJECT,
    LARGE_OBJECT_SIZE,
    SCHEMA,
    SCHEMA_CHANGE,
    count_changes,
    decode_arrow,
    decode_schema_change,
    parse,
)
from binlogsync.codec.tail_messages import is_tail_message
from binlogsync.errors import WireError, excerpt
from binlogsync.schema import TableSchema

_LARGE_BYTES = 64 << 20
_DIGITS = 19
_FINGERPRINT, _OBJECT = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """Changes of one table under one schema and one set of columns, in stream order; or a schema change (`batch.ddl`).

    Attributes:
        batch: the changes. Its `seq` column contains the stream sequence too, because `seq` is not on the wire.
        sequences: uint64 array with the stream sequence of the message of each change; repeats if a message has
            several changes.
        reply: the reply subject for `StreamReader.ack`: of the last message that is completely in this batch or an
            earlier one of the same fetch; None if there is none.
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
    """One message; `reply` is the subject that acks it, "" when no durable delivered it."""

    sequence: int
    headers: dict[str, str]
    payload: bytes
    reply: str = ""


@dataclass(frozen=True, slots=True)
class MessageLookups:
    """Look-ups of what a message refers to: a schema by fingerprint, and a body that was too large for a message."""

    schema: Callable[[str], TableSchema]
    large_object: Callable[[str], bytes]


def count_decodable(messages: Sequence[DeliveredMessage]) -> int:
    """Number of messages that may be decoded together, limited by the size of their bodies in the object store. At
    least one, unless there are none.
    """
    size = 0
    for number, message in enumerate(messages):
        if LARGE_OBJECT not in message.headers:
            continue
        text = message.headers.get(LARGE_OBJECT_SIZE, "")
        size += int(text) if text.isdecimal() and len(text) < _DIGITS else _LARGE_BYTES
        if number and size > _LARGE_BYTES:
            return number
    return len(messages)


def decode(messages: Sequence[DeliveredMessage], lookups: MessageLookups) -> list[StreamBatch]:
    """The changes, in order; raises WireError with the message's sequence.

    Messages that no tail wrote are ignored; the ack of the changes before them acks them too.
    """
    done: list[StreamBatch] = []
    reply: str | None = None
    for (kind, fingerprint, statement, own), group in groupby(messages, _group_key):
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


def _group_key(message: DeliveredMessage) -> tuple[str | None, str | None, str | None, bool]:
    """Messages with an equal key are decoded together: three headers, and whether the tail wrote the message."""
    headers = message.headers
    own = is_tail_message(headers, message.sequence)
    return headers.get(CONTENT_TYPE), headers.get(SCHEMA), headers.get(SCHEMA_CHANGE), own


def _body(message: DeliveredMessage, lookups: MessageLookups) -> bytes:
    name = message.headers.get(LARGE_OBJECT)
    if name is None:
        return message.payload
    if not _OBJECT.fullmatch(name):
        raise WireError(f"{LARGE_OBJECT} is {excerpt(name)}, which is not the name of an object written by binlogsync")
    return lookups.large_object(name)


def _batches(
    kind: str | None, fingerprint: str | None, bodies: Sequence[bytes], lookups: MessageLookups
) -> tuple[list[ChangeBatch], list[int]]:
    """The batches, and the number of changes in each message."""
    if kind == ARROW:
        batches = [decode_arrow(body) for body in bodies]
        return batches, [len(batch) for batch in batches]
    if kind not in (JSON, JSON_LINES):
        raise WireError(
            f"content type {excerpt(kind)} is not written by binlogsync; another program publishes to this stream"
        )
    if fingerprint is None:
        raise WireError(f"the message has no {SCHEMA} header; another program publishes to this stream")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise WireError(f"{SCHEMA} is {excerpt(fingerprint)}, which is not the fingerprint of a table schema")
    return parse(bodies, lookups.schema(fingerprint)), [count_changes(body, kind) for body in bodies]


def _located(
    batches: Sequence[ChangeBatch], counts: Sequence[int], messages: Sequence[DeliveredMessage], reply: str | None
) -> Iterator[StreamBatch]:
    sequences = np.repeat(np.array([message.sequence for message in messages], np.uint64), counts)
    ends = np.cumsum(counts)
    if sum(len(batch) for batch in batches) != len(sequences):
        raise WireError(f"{len(messages)} messages have {len(sequences)} lines but {sum(map(len, batches))} changes")
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
