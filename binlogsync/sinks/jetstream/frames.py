"""Messages as the protocol text of NATS: HPUB lines, headers, payloads. Many at once are made in one kernel.

Pure. Each message names its head (a subject and headers that many share) and the address of its payload; what differs
within an atomic batch, its number and the fence of the first, is written between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from nats.js.api import Header
from numba import njit, types

from binlogsync.binlog.memory import copy
from binlogsync.render.fragments import KERNEL, R8, R64, W8, Bytes, Offsets

_CRLF = b"\r\n"
_ID, _SEQUENCE = Header.BATCH_ID.value, Header.BATCH_SEQUENCE.value
_FENCE = Header.EXPECTED_LAST_SEQUENCE.value


class Head(NamedTuple):
    """What messages share; the headers must not be changed."""

    subject: str
    headers: dict[str, str]


class Batch(NamedTuple):
    """Messages of one atomic batch: message i has heads[which[i]] and `sizes[i]` bytes of payload at `addresses[i]`."""

    heads: Sequence[Head]
    which: Offsets
    addresses: Offsets
    sizes: Offsets


@njit("int64(uint8[::1], int64, int64)", **KERNEL)
def _put_number(out, at, number):  # type: ignore[no-untyped-def]
    """Writes a number that is not negative; gives the place behind it."""
    digits, rest = 1, number // 10
    while rest:
        digits += 1
        rest //= 10
    for place in range(digits - 1, -1, -1):
        out[at + place] = 48 + number % 10
        number //= 10
    return at + digits


@njit("int64(uint8[::1], int64)", **KERNEL)
def _end_line(out, at):  # type: ignore[no-untyped-def]
    """Writes a line end; gives the place behind it."""
    out[at] = 13
    out[at + 1] = 10
    return at + 2


@njit(types.int64(W8, types.int64, R8, types.int64, types.int64), **KERNEL)
def _put(out, at, text, start, stop):  # type: ignore[no-untyped-def]
    """Writes text[start:stop]; gives the place behind it."""
    copy(out.ctypes.data + at, text.ctypes.data + start, stop - start)
    return at + stop - start


@njit("int64(int64)", **KERNEL)
def _digits(number):  # type: ignore[no-untyped-def]
    """How many digits a number has."""
    digits = 1
    while number >= 10:
        digits += 1
        number //= 10
    return digits


_ROOM = 64  # two sizes, the number in the batch, blanks and line ends


@njit(types.Tuple((W8, types.int64))(R64, R64, R64, R8, R64, R8, R64, R8, R8), **KERNEL)
def _frame(which, addresses, sizes, subjects, subject_ends, tails, tail_ends, opening, fence):  # type: ignore[no-untyped-def]
    room = np.int64(len(fence))
    for i in range(len(which)):
        k = which[i]
        room += (
            _ROOM + subject_ends[k + 1] - subject_ends[k] + len(opening) + tail_ends[k + 1] - tail_ends[k] + sizes[i]
        )
    out = np.empty(room, np.uint8)
    at = 0
    for i in range(len(which)):
        k = which[i]
        header = len(opening) + _digits(i + 1) + 2 + tail_ends[k + 1] - tail_ends[k]
        if i == 0:
            header += len(fence)
        at = _put(out, at, subjects, subject_ends[k], subject_ends[k + 1])
        at = _put_number(out, at, header)
        out[at] = 32
        at = _put_number(out, at + 1, header + sizes[i])
        at = _end_line(out, at)
        at = _put(out, at, opening, 0, len(opening))
        at = _put_number(out, at, i + 1)
        at = _end_line(out, at)
        if i == 0:
            at = _put(out, at, fence, 0, len(fence))
        at = _put(out, at, tails, tail_ends[k], tail_ends[k + 1])
        copy(out.ctypes.data + at, addresses[i], sizes[i])
        at = _end_line(out, at + sizes[i])
    return out, at


def frame(batch: Batch, write_id: str, expected: int) -> memoryview:
    """The messages, numbered from 1, as text that a connection sends; the first carries the fence `expected`."""
    subjects, subject_ends = _joined([f"HPUB {head.subject} ".encode() for head in batch.heads])
    tails, tail_ends = _joined([_lines(head.headers) + _CRLF for head in batch.heads])
    opening = b"NATS/1.0\r\n" + _lines({_ID: write_id}) + _SEQUENCE.encode() + b": "
    fence = _lines({_FENCE: str(expected)})
    out, size = _frame(
        *(batch.which, batch.addresses, batch.sizes, subjects, subject_ends, tails, tail_ends),
        np.frombuffer(opening, np.uint8),
        np.frombuffer(fence, np.uint8),
    )
    return memoryview(out)[:size]


def opening(head: Head, headers: Mapping[str, str], reply: str, size: int) -> bytes:
    """What comes before the `size` bytes of payload of one message, which a line end follows; the server answers to
    `reply`. Its headers are those of the head, then `headers`.
    """
    lines = b"NATS/1.0\r\n" + _lines(head.headers) + _lines(headers) + _CRLF
    return f"HPUB {head.subject} {reply} {len(lines)} {len(lines) + size}\r\n".encode() + lines


def _lines(headers: Mapping[str, str]) -> bytes:
    """Header lines; raises ValueError for what would end one."""
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError("a header with a line end in it")
    return text.encode()


def _joined(texts: Sequence[bytes]) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """The texts end to end, and where each ends."""
    ends = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=ends[1:])
    return np.frombuffer(b"".join(texts), np.uint8), ends
