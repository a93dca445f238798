"""Encodes messages as NATS protocol text: HPUB lines, headers, payloads. One kernel encodes many messages. Pure.

Each message refers to its head (a subject and headers shared by many messages) and to the address of its payload. What
differs within an atomic batch (the number of the message, and the fence of the first) is written in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from nats.js.api import Header

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.kernel_types import int64, intp, uint8, uint16, uint64
from binlogsync.binlog.memory import address, copy, load_i64, store_u8, store_u16
from binlogsync.codec.json_kernels import OVERRUN, put_number
from binlogsync.codec.json_texts import Bytes, Offsets
from binlogsync.codec.lookup_tables import TABLES

_CRLF = b"\r\n"
_ID, _SEQUENCE = Header.BATCH_ID.value, Header.BATCH_SEQUENCE.value


class SubjectAndHeaders(NamedTuple):
    """Subject and headers shared by many messages; the headers must not be modified."""

    subject: str
    headers: dict[str, str]


class MessageBatch(NamedTuple):
    """Messages to publish: message i has heads[which[i]] and `sizes[i]` bytes of payload at `addresses[i]`."""

    heads: Sequence[SubjectAndHeaders]
    which: Offsets
    addresses: Offsets
    sizes: Offsets


_ROOM = 64  # two sizes, the number in the batch, blanks and line ends
_CR_LF = uint16(int.from_bytes(_CRLF, "little"))


@inner
def _put(at: intp, texts: intp, start: int64, stop: int64) -> intp:
    """Write texts[start:stop]; returns the address after it."""
    copy(at, texts + start, stop - start)
    return at + stop - start


@inner
def _end_line(at: intp) -> intp:
    """Write a line end; returns the address after it."""
    store_u16(at, _CR_LF)
    return at + 2


@inner
def _digits(number: int64) -> int64:
    """Number of decimal digits."""
    digits = 1
    while number >= 10:
        digits += 1
        number //= 10
    return digits


@kernel
def _frame(
    count: int64,
    which: intp,
    addresses: intp,
    sizes: intp,
    subjects: intp,
    subject_ends: intp,
    tails: intp,
    tail_ends: intp,
    opening: intp,
    opened: int64,
    fence: intp,
    fenced: int64,
    out: intp,
    tables: intp,
) -> int64:
    """Write `count` messages at `out`; returns the number of bytes."""
    at = out
    for i in range(count):
        k = 8 * load_i64(which + 8 * i)
        size = load_i64(sizes + 8 * i)
        tail, tail_end = load_i64(tail_ends + k), load_i64(tail_ends + k + 8)
        header = opened + _digits(i + 1) + 2 + tail_end - tail
        if i == 0:
            header += fenced
        at = _put(at, subjects, load_i64(subject_ends + k), load_i64(subject_ends + k + 8))
        at = put_number(at, uint64(header), tables)
        store_u8(at, uint8(32))
        at = put_number(at + 1, uint64(header + size), tables)
        at = _end_line(at)
        at = _put(at, opening, 0, opened)
        at = put_number(at, uint64(i + 1), tables)
        at = _end_line(at)
        if i == 0:
            at = _put(at, fence, 0, fenced)
        at = _put(at, tails, tail, tail_end)
        copy(at, load_i64(addresses + 8 * i), size)
        at = _end_line(at + size)
    return at - out


def encode_batch(batch: MessageBatch, write_id: str, fences: Mapping[str, str]) -> memoryview:
    """The messages as protocol text, numbered from 1; the first has the headers `fences`."""
    subjects, subject_ends = _joined([f"HPUB {head.subject} ".encode() for head in batch.heads])
    tails, tail_ends = _joined([_lines(head.headers) + _CRLF for head in batch.heads])
    opening = b"NATS/1.0\r\n" + _lines({_ID: write_id}) + _SEQUENCE.encode() + b": "
    fence = _lines(fences)
    heads = np.diff(subject_ends) + np.diff(tail_ends)
    room = int(heads[batch.which].sum() + batch.sizes.sum()) + (_ROOM + len(opening)) * len(batch.which) + len(fence)
    out = np.empty(room + OVERRUN, np.uint8)
    numbers = [np.ascontiguousarray(part, np.int64) for part in (batch.which, batch.addresses, batch.sizes)]
    arrays: list[npt.NDArray[Any]] = [*numbers, subjects, subject_ends, tails, tail_ends]
    texts = [_at(opening), len(opening), _at(fence), len(fence)]
    size = _frame(*[len(batch.which), *map(address, arrays), *texts, address(out), address(TABLES)])
    return out.data[:size]


def encode_header(head: SubjectAndHeaders, headers: Mapping[str, str], reply: str, size: int) -> bytes:
    """The protocol text before the `size` bytes of payload of one message; a line end must follow the payload. The
    headers are those of the head, then `headers`; the server replies to `reply`, and not at all if that is "".
    """
    lines = b"NATS/1.0\r\n" + _lines(head.headers) + _lines(headers) + _CRLF
    subjects = f"{head.subject} {reply}" if reply else head.subject
    return f"HPUB {subjects} {len(lines)} {len(lines) + size}\r\n".encode() + lines


def _lines(headers: Mapping[str, str]) -> bytes:
    """Header lines; raises ValueError for a header that contains a line end."""
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError("a header with a line end in it")
    return text.encode()


def _at(text: bytes) -> int:
    return address(np.frombuffer(text, np.uint8))


def _joined(texts: Sequence[bytes]) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """The concatenated texts, and the offset after each."""
    ends = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=ends[1:])
    return np.frombuffer(b"".join(texts), np.uint8), ends
