"""Decodes delivered messages of a table to ChangeBatches with stream sequences. Does no I/O but the given look-ups."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise

import numpy as np

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.envelope import (
    ARROW,
    CONTENT_TYPE,
    JSON,
    JSON_LINES,
    LARGE_OBJECT,
    SCHEMA,
    SCHEMA_CHANGE,
    count_changes,
    decode_arrow,
    decode_schema_change,
)
from binlogsync.codec.json_decoder import parse, parse_text
from binlogsync.codec.tail_messages import is_tail_message
from binlogsync.errors import WireError, excerpt
from binlogsync.nats.frame_kernel import BODY, BODY_END, CONTENT, FINGERPRINT, PLAIN, REPLY, SEQUENCE, Numbers
from binlogsync.nats.message_block import MessageBlock
from binlogsync.schema import TableSchema

_FINGERPRINT, _OBJECT = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, eq=False)
class StreamBatch:
    """Changes of one table under one schema and one set of columns, in stream order; or a schema change (`batch.ddl`).

    Attributes:
        batch: the changes. Its `seq` column contains the stream sequence too, because `seq` is not on the wire.
        sequences: int64 array with the stream sequence of the message of each change; repeats if a message has several
            changes.
        reply: the reply subject for `StreamReader.ack`: of the last message that is completely in this batch or an
            earlier one of the same fetch; None if there is none.
    """

    batch: ChangeBatch
    sequences: Numbers
    reply: str | None

    def __len__(self) -> int:
        return len(self.batch)

    def slice(self, start: int, stop: int) -> StreamBatch:
        """The changes start..stop-1, without a copy; they can be acked if the last one is among them."""
        reply = self.reply if stop >= len(self) else None
        return StreamBatch(self.batch.slice(start, stop), self.sequences[start:stop], reply)

    @property
    def last_sequence(self) -> int:
        """Stream sequence of the last change."""
        return int(self.sequences[-1])


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


@dataclass(frozen=True, slots=True)
class _Group:
    """Consecutive messages that are decoded together: three headers are equal, and a tail wrote all of them or none.

    Attributes:
        sequences: stream sequence of each message.
        reply: returns the reply subject of a message by its number, "" for none.
        bodies: returns all bodies.
        text: the bodies as text[begins[i]:ends[i]], or None.
    """

    kind: str | None
    fingerprint: str | None
    statement: str | None
    is_from_tail: bool
    sequences: Numbers
    reply: Callable[[int], str]
    bodies: Callable[[], Sequence[bytes]]
    text: tuple[memoryview, Numbers, Numbers] | None = None

    def __len__(self) -> int:
        return len(self.sequences)


def decode(messages: Sequence[DeliveredMessage], lookups: MessageLookups) -> list[StreamBatch]:
    """The changes, in order; raises WireError with the message's sequence.

    Messages that no tail wrote are ignored; the ack of the changes before them acks them too.
    """
    return _decode(_groups(messages, lookups), lookups)


def decode_block(block: MessageBlock, lookups: MessageLookups) -> list[StreamBatch]:
    """`decode` for delivered messages that are not Python objects."""
    return _decode(_block_groups(block, lookups), lookups)


def _delivered(block: MessageBlock) -> list[DeliveredMessage]:
    """All messages of a block as Python objects."""
    sequences: list[int] = block.column(SEQUENCE).tolist()
    return [
        DeliveredMessage(sequence, message.headers, message.data, message.reply)
        for sequence, message in zip(sequences, block.messages(), strict=True)
    ]


def _groups(messages: Sequence[DeliveredMessage], lookups: MessageLookups) -> Iterator[_Group]:
    for key, group in groupby(messages, _group_key):
        part = list(group)
        sequences = np.array([message.sequence for message in part], np.int64)
        yield _Group(*key, sequences, partial(_reply_of, part), partial(_bodies, part, lookups))


def _block_groups(block: MessageBlock, lookups: MessageLookups) -> Iterator[_Group]:
    unusual = set(block.rows_without(PLAIN))
    spans = pairwise([*block.group_starts(), len(block)])

    def key(span: tuple[int, int]) -> tuple[str, str] | None:
        first = span[0]
        return None if first in unusual else (block.text_of(first, CONTENT), block.text_of(first, FINGERPRINT))

    for names, same in groupby(spans, key):
        parts = list(same)
        part = block.slice(parts[0][0], parts[-1][1])
        if names is None:
            yield from _groups(_delivered(part), lookups)
        else:
            text = (part.text, part.column(BODY), part.column(BODY_END))
            reply = partial(part.text_of, field=REPLY)
            yield _Group(*names, None, True, part.column(SEQUENCE), reply, part.bodies, text)


def _reply_of(messages: Sequence[DeliveredMessage], row: int) -> str:
    return messages[row].reply


def _decode(groups: Iterator[_Group], lookups: MessageLookups) -> list[StreamBatch]:
    done: list[StreamBatch] = []
    reply: str | None = None
    for group in groups:
        if not group.is_from_tail:
            if done and (last := group.reply(len(group) - 1)):
                reply = last
                done[-1] = replace(done[-1], reply=reply)
            continue
        try:
            for batch in _located(*_batches(group, lookups), group, reply):
                done.append(batch)
                reply = batch.reply
        except WireError as error:
            first, last_one = int(group.sequences[0]), int(group.sequences[-1])
            span = f"{first}..{last_one}" if len(group) > 1 else str(first)
            raise WireError(f"stream sequence {span}: {error}") from error
    return done


def _group_key(message: DeliveredMessage) -> tuple[str | None, str | None, str | None, bool]:
    """Messages with an equal key are decoded together."""
    headers = message.headers
    own = is_tail_message(headers, message.sequence)
    return headers.get(CONTENT_TYPE), headers.get(SCHEMA), headers.get(SCHEMA_CHANGE), own


def _bodies(messages: Sequence[DeliveredMessage], lookups: MessageLookups) -> list[bytes]:
    return [_body(message, lookups) for message in messages]


def _body(message: DeliveredMessage, lookups: MessageLookups) -> bytes:
    name = message.headers.get(LARGE_OBJECT)
    if name is None:
        return message.payload
    if not _OBJECT.fullmatch(name):
        raise WireError(f"{LARGE_OBJECT} is {excerpt(name)}, which is not the name of an object written by binlogsync")
    return lookups.large_object(name)


def _batches(group: _Group, lookups: MessageLookups) -> tuple[list[ChangeBatch], Sequence[int] | None]:
    """The batches, and the number of changes in each message; None if each message has one."""
    kind, fingerprint = group.kind, group.fingerprint
    if group.statement is not None:
        return [decode_schema_change(group.statement) for _ in range(len(group))], None
    if kind == ARROW:
        batches = [decode_arrow(body) for body in group.bodies()]
        return batches, [len(batch) for batch in batches]
    if kind not in (JSON, JSON_LINES):
        raise WireError(
            f"content type {excerpt(kind)} is not written by binlogsync; another program publishes to this stream"
        )
    if fingerprint is None:
        raise WireError(f"the message has no {SCHEMA} header; another program publishes to this stream")
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise WireError(f"{SCHEMA} is {excerpt(fingerprint)}, which is not the fingerprint of a table schema")
    schema = lookups.schema(fingerprint)
    found, lines = (parse(group.bodies(), schema), None) if group.text is None else parse_text(*group.text, schema)
    if kind == JSON:
        return found, None
    return found, [count_changes(body, kind) for body in group.bodies()] if lines is None else lines.tolist()


def _located(
    batches: Sequence[ChangeBatch], counts: Sequence[int] | None, group: _Group, reply: str | None
) -> Iterator[StreamBatch]:
    sequences = group.sequences if counts is None else np.repeat(group.sequences, counts)
    ends = None if counts is None else np.cumsum(counts)
    if sum(len(batch) for batch in batches) != len(sequences):
        raise WireError(f"{len(group)} messages have {len(sequences)} lines but {sum(map(len, batches))} changes")
    start = 0
    for batch in batches:
        stop = start + len(batch)
        last_complete = (stop if ends is None else int(np.searchsorted(ends, stop, "right"))) - 1
        reply = (group.reply(last_complete) or None) if last_complete >= 0 else reply
        own = sequences[start:stop]
        yield StreamBatch(batch.with_seqs(own), own, reply)
        start = stop
