"""The shape of a table's envelopes as steps, and the kernel that follows them: it finds the values of many envelopes.

envelope.py writes an envelope as constant text and values in a fixed order. A step is a constant that must be there,
and what follows it. The kernel stores where each value begins and its size; an envelope of another shape ends it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.kernel_types import int32, int64, intp
from binlogsync.binlog.memory import address, load_i64, load_u8, same, store_i32, store_i64
from binlogsync.codec.json_scan import LENGTH, is_null_text, scalar_end, string_end, value_end
from binlogsync.codec.json_texts import Bytes
from binlogsync.schema import GEOMETRY_TYPES, INTEGER_BITS, Column, TableSchema

# What follows the constant of a step: nothing; a string or null; a number, true, false or null; any value; the same,
# with null as a value; a string or a number that is not needed; null instead of an image; a member that may be absent.
NOTHING, STRING, SCALAR, ANY, DOCUMENT, UNUSED, IMAGE, OPTIONAL = range(8)
_LARGEST = (1 << 31) - 1
_LEAST_ROWS, _MOST_ROWS, _PLACES = 512, 2048, 1 << 19
"""Rows found in one call, fewer in wide tables, so that the places of their values stay in the cache."""
_MOST_KEPT = 8 << 20
Numbers = npt.NDArray[np.int64]


@dataclass(slots=True)
class EnvelopeProgram:
    """The steps for the envelopes of one table with full images.

    Attributes:
        slots: number of values of an envelope; `images` and `names` have their slots: first of each image (its own
            slot, then one for each column), and of the other values by name.
        least: minimum size of an envelope.
        steps: for each step what follows, offset and size of the constant, slot, and for an image the number of the
            step after it, and its number of slots.
    """

    slots: int = 0
    images: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    least: int = 0
    steps: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 6), np.int64))
    constants: Bytes = field(default_factory=lambda: np.empty(0, np.uint8))


@dataclass(frozen=True, slots=True)
class EnvelopeValues:
    """Where the values of envelopes are in `data`.

    Attributes:
        starts, sizes: int32 arrays by slot and row. The start is -1 for NULL; the size has the flags of json_scan.py.
        lines: number of envelopes in each message; fewer than there are messages if there was no room for all.
    """

    program: EnvelopeProgram
    data: Bytes
    starts: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    lines: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.starts.shape[1])


@lru_cache(maxsize=512)
def envelope_program(schema: TableSchema) -> EnvelopeProgram:
    """The program of a table."""
    program, rows, texts = EnvelopeProgram(), list[list[int]](), list[bytes]()

    def step(kind: int, constant: bytes) -> None:
        rows.append([kind, sum(map(len, texts)), len(constant), program.slots, 0, 0])
        texts.append(constant)
        program.slots += kind not in (NOTHING, UNUSED)

    def member(name: str, kind: int, opening: bytes = b",") -> None:
        program.names[name] = program.slots
        step(kind, opening + b'"' + name.encode() + b'":')

    for opening in (b'{"before":', b',"after":'):
        image = len(rows)
        program.images.append(program.slots)
        step(IMAGE, opening)
        for number, column in enumerate(schema.columns):
            step(_kind(column), (b"," if number else b"{") + msgspec.json.encode(column.name) + b":")
        step(NOTHING, b"}")
        rows[image][4:] = [len(rows), len(schema.columns) + 1]
        program.least += len(opening) + len(b"null")
    first = len(rows)
    step(UNUSED, b',"source":{"version":')
    for name in ("connector", "name", "ts_ms"):
        step(UNUSED, f',"{name}":'.encode())
    member("ts_us", SCALAR)
    for name in ("snapshot", "db", "table"):
        step(UNUSED, f',"{name}":'.encode())
    for name in ("server_id", "server_uuid", "gtid", "file", "pos", "row", "txn_pos"):
        member(name, STRING if name in ("server_uuid", "gtid", "file") else SCALAR)
    member("json_null", OPTIONAL)
    member("op", STRING, b"},")
    for opening in (b',"ts_ms":', b',"ts_us":'):
        step(UNUSED, opening)
    member("id", STRING, b',"transaction":{')
    member("total_order", SCALAR)
    step(NOTHING, b"}}")
    program.least += sum(row[2] for row in rows[first:] if row[0] != OPTIONAL)
    program.steps = np.array(rows, np.int64)
    program.constants = np.frombuffer(b"".join(texts), np.uint8)
    return program


def _kind(column: Column) -> int:
    if column.type == "json":
        return DOCUMENT
    if column.type in GEOMETRY_TYPES or column.type in ("set", "vector"):
        return ANY
    is_number = column.type in INTEGER_BITS or column.type in ("year", "bit", "float", "double")
    return SCALAR if is_number else STRING


@inner
def _store(starts: intp, sizes: intp, place: int64, start: int64, size: int64) -> None:
    store_i32(starts + 4 * place, int32(start))
    store_i32(sizes + 4 * place, int32(size))


@inner(apart=True)
def _value(kind: int64, data: intp, at: intp, stop: intp) -> tuple[intp, int64, int64]:
    """(address after the value at `at`, or -1 if it is not of that kind; its start in `data`, -1 for NULL; its size
    with flags).
    """
    byte = load_u8(at)
    if byte == 34 and kind in (STRING, UNUSED):
        end, flags = string_end(at + 1, stop)
        if end < 0 or end - at > LENGTH:
            return -1, -1, 0
        return end + 1, at + 1 - data, (end - at - 1) | flags
    if kind in (ANY, DOCUMENT):
        end, flags = value_end(at, stop)
    else:
        end, flags = scalar_end(at, stop), int64(0)
        if kind == STRING and (end < 0 or byte != 110):
            return -1, -1, 0
    if end < 0 or end - at > LENGTH:
        return -1, -1, 0
    if byte == 110 and kind != DOCUMENT:
        return end, -1, 0
    return end, at - data, (end - at) | flags


@kernel
def _scan(
    data: intp,
    begins: intp,
    ends: intp,
    messages: int64,
    steps: intp,
    count: int64,
    constants: intp,
    starts: intp,
    sizes: intp,
    stride: int64,
    lines: intp,
) -> tuple[int64, int64]:
    """Store the values of all envelopes of the messages, and the number of envelopes in each; returns the numbers of
    rows and messages for which there is room, or -1 if an envelope has another shape.
    """
    row = int64(0)
    for message in range(messages):
        at, stop = data + load_i64(begins + 8 * message), data + load_i64(ends + 8 * message)
        first = row
        while True:
            k = int64(0)
            if row >= stride:
                return first, message
            while k < count:
                step = steps + 48 * k
                k += 1
                kind, size, slot = load_i64(step), load_i64(step + 16), load_i64(step + 24)
                is_there = at + size <= stop and same(at, constants + load_i64(step + 8), size)
                place = slot * stride + row
                if kind == OPTIONAL and not is_there:
                    _store(starts, sizes, place, -1, 0)
                    continue
                if not is_there:
                    return -1, 0
                at += size
                if kind == NOTHING:
                    continue
                if at >= stop:
                    return -1, 0
                if kind == IMAGE:
                    is_null = at + 4 <= stop and is_null_text(at)
                    _store(starts, sizes, place, -1 if is_null else at - data, 0)
                    if is_null:
                        at += 4
                        k = load_i64(step + 32)
                        for other in range(1, load_i64(step + 40)):
                            _store(starts, sizes, place + other * stride, -1, 0)
                    continue
                at, start, length = _value(ANY if kind == OPTIONAL else kind, data, at, stop)
                if at < 0:
                    return -1, 0
                if kind != UNUSED:
                    _store(starts, sizes, place, start, length)
            row += 1
            if at < stop and load_u8(at) == 10:
                at += 1
                if at < stop:
                    continue
            if at != stop:
                return -1, 0
            break
        store_i64(lines + 8 * message, row - first)
    return row, messages


class _Memory(threading.local):
    """Memory of a thread for the places of values, used again: new memory costs more time than finding the values."""

    def __init__(self) -> None:
        self._places = np.empty(0, np.int32)

    def places(self, size: int) -> npt.NDArray[np.int32]:
        """Memory for so many numbers."""
        if size > _MOST_KEPT:
            return np.empty(size, np.int32)
        if size > len(self._places):
            self._places = np.empty(size, np.int32)
        return self._places[:size]


_MEMORY = _Memory()


def find_values(data: Bytes, begins: Numbers, ends: Numbers, schema: TableSchema) -> EnvelopeValues | None:
    """The values of the first of the messages data[begins[i]:ends[i]], each of one envelope or several, one on each
    line; None if one has another shape. They are valid until the next call in the same thread.
    """
    if not schema.columns or len(data) > _LARGEST:
        return None
    program = envelope_program(schema)
    most = int((ends - begins).sum()) // program.least + 1
    capacity = min(most, max(_LEAST_ROWS, min(_MOST_ROWS, _PLACES // program.slots)))
    found = _find(program, data, begins, ends, capacity)
    if found is not None and not len(found.lines):  # a message with more lines
        lines = np.count_nonzero(data[begins[0] : ends[0]] == ord("\n")) + 1
        found = _find(program, data, begins[:1], ends[:1], int(lines))
    return found if found is not None and len(found.lines) else None


def _find(
    program: EnvelopeProgram, data: Bytes, begins: Numbers, ends: Numbers, capacity: int
) -> EnvelopeValues | None:
    stride = capacity | 33  # values of a row are not all at the same place of a cache
    starts, sizes = _MEMORY.places(2 * program.slots * stride).reshape(2, program.slots, stride)
    lines = np.empty(len(begins), np.int64)
    rows, messages = _scan(
        address(data), address(begins), address(ends), len(begins), address(program.steps), len(program.steps),
        address(program.constants), address(starts), address(sizes), stride, address(lines),
    )  # fmt: skip
    return None if rows < 0 else EnvelopeValues(program, data, starts[:, :rows], sizes[:, :rows], lines[:messages])
