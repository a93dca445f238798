"""Finds messages in a block that no tail wrote, or whose body is in the object store. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from binlogsync.codec.envelope import LARGE_OBJECT, LARGE_OBJECT_SIZE
from binlogsync.codec.tail_messages import is_tail_message
from binlogsync.nats.frame_kernel import PLAIN, SEQUENCE
from binlogsync.nats.message_block import MessageBlock

_LARGE_BYTES = 64 << 20
_DIGITS = 19


def count_decodable(block: MessageBlock) -> int:
    """Number of messages that may be decoded together, limited by the size of their bodies in the object store. At
    least one, unless there are none.
    """
    return count_within((row, block.headers(row)) for row in block.rows_without(PLAIN)) or len(block)


def count_within(messages: Iterable[tuple[int, Mapping[str, str]]]) -> int:
    """Number of messages before the size exceeds the limit; 0 if it does not. Given are numbers and headers."""
    size = 0
    for number, headers in messages:
        if LARGE_OBJECT not in headers:
            continue
        text = headers.get(LARGE_OBJECT_SIZE, "")
        size += int(text) if text.isdecimal() and len(text) < _DIGITS else _LARGE_BYTES
        if number and size > _LARGE_BYTES:
            return number
    return 0


def foreign_sequences(block: MessageBlock) -> list[int]:
    """Stream sequences of the messages that no tail wrote."""
    unusual = [(row, int(block.frames[row, SEQUENCE])) for row in block.rows_without(PLAIN)]
    return [sequence for row, sequence in unusual if not is_tail_message(block.headers(row), sequence)]
