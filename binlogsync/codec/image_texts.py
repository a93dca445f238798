"""Renders the images of a few row events as JSON: plans for the kernel of image_kernel.py, and values apart from it.

The plan of a table is made once for each layout of its rows. FLOAT, DOUBLE and JSON are written here, because their
text needs Arrow or Python. Tables with a column of one of these types have no plan, and become columns: GEOMETRY and
its subtypes, VECTOR, UUID, INET4, INET6, the temporal types before MySQL 5.6, COMPRESSED columns, and text in a
character set with several bytes a character other than UTF-8. So do tables with hidden columns or history rows, and
events with an impossible date or the JSON value null.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from ctypes import string_at

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog import rows
from binlogsync.binlog.layout import ImageLayout, Layout
from binlogsync.binlog.memory import address, addresses
from binlogsync.binlog.rendered import ImageTexts
from binlogsync.binlog.scan_state import RowEvents
from binlogsync.binlog.types.jsonb import json_text
from binlogsync.binlog.types.temporal import MONTHS
from binlogsync.binlog.types.text import RECODING_TABLES
from binlogsync.binlog.value_pointers import ZEROS
from binlogsync.codec import image_kernel as kernel
from binlogsync.codec.lookup_tables import TABLES
from binlogsync.schema import BINARY_TYPES, INTEGER_BITS, TEXT_TYPES, Column

_EVENTS_OF_TABLE = 32  # on average; with more, columns are faster
_MOST_EVENTS = 512
_MOST_ROWS = 1024
_MOST_BYTES = 128 << 10
_OUTPUT_BYTES = 1 << 20
_LAYOUTS = 1 << 12  # layouts after these have no plan

_Method = tuple[int, int, int, int]


def _float(data: bytes) -> bytes:
    value = struct.unpack("<f" if len(data) == 4 else "<d", data)[0]
    text: str = pa.array([value], pa.float32() if len(data) == 4 else pa.float64()).cast(pa.string())[0].as_py()
    return text.encode()


def _document(text: str) -> bytes:
    if text.strip() == "null":
        raise ValueError("the envelope lists the columns with the JSON value null")
    return text.encode().replace(b"\n", b" ").replace(b"\r", b" ")


_APART: tuple[Callable[[bytes], bytes], ...] = (
    _float,
    lambda data: _document(json_text(data)),
    lambda data: _document(data.decode()),
)
"""Functions that write a value, by the number in its column; they raise ValueError."""
_FLOAT, _BINARY_JSON, _TEXT_JSON = range(3)


class ImageTextWriter:
    """An ImageRenderer. Not for use by several threads at once."""

    def __init__(self) -> None:
        self._plans = np.zeros(_LAYOUTS, np.int64)
        self._planned = 0
        self._owners: list[object] = []
        self._out = np.empty(_OUTPUT_BYTES, np.uint8)
        self._counts = np.zeros(_MOST_EVENTS, np.int64)
        self._rows = np.zeros((_MOST_ROWS, 2), np.int64)
        self._apart = np.zeros(1 + kernel.MOST_APART * kernel.APART_FIELDS, np.int64)
        self._scratch = np.zeros(kernel.SCRATCH_BYTES, np.uint8)
        self._shared = addresses(ZEROS, MONTHS, TABLES, self._scratch, self._apart)
        out = address(self._out)
        self._arguments = (
            address(self._plans), out, out + _OUTPUT_BYTES, address(self._counts), address(self._rows), _MOST_ROWS,
            address(self._shared),
        )  # fmt: skip

    def render(self, events: RowEvents, count: int, layouts: Sequence[Layout]) -> list[list[ImageTexts] | None] | None:
        """See ImageRenderer."""
        if count > _MOST_EVENTS or int((events.end[:count] - events.at[:count]).sum()) > _MOST_BYTES:
            return None
        if count > _EVENTS_OF_TABLE and count > _EVENTS_OF_TABLE * len(set(events.layout[:count].tolist())):
            return None
        while self._planned < min(len(layouts), _LAYOUTS):
            self._plans[self._planned] = self._plan(layouts[self._planned])
            self._planned += 1
        if len(layouts) > _LAYOUTS:
            return None
        at, end, layout, _, _, op = events.addresses.tolist()
        total, used = kernel.write_images(*[count, at, end, layout, op, *self._arguments])
        ends = self._rows[:total].tolist()
        text = self._out[:used].tobytes()
        bad: set[int] = set()
        if self._apart[0]:
            text, ends = self._filled(text, ends, bad)
        return _by_event(self._counts[:count].tolist(), ends, text, bad)

    def _filled(self, text: bytes, ends: list[list[int]], bad: set[int]) -> tuple[bytes, list[list[int]]]:
        """The text with the values that the kernel left out; adds the rows that cannot be rendered to `bad`."""
        listed = int(self._apart[0])
        values = self._apart[1 : 1 + listed * kernel.APART_FIELDS].reshape(-1, kernel.APART_FIELDS).tolist()
        pieces, added, at = [], [0], 0
        for offset, source, size, number in values:
            try:
                value = _APART[number](string_at(source, size))
            except ValueError:
                bad.add(bisect_right(ends, offset, key=_end))
                value = b""
            pieces += [text[at:offset], value]
            added.append(added[-1] + len(value))
            at = offset
        offsets = [value[0] for value in values]
        moved = [[end + added[bisect_left(offsets, end)] for end in row] for row in ends]
        return b"".join([*pieces, text[at:]]), moved

    def _plan(self, layout: Layout) -> int:
        """The address of the plan of a layout; 0 if it has none."""
        if layout.visible_table is not None:
            return 0
        plan: list[int] = []
        for image in layout.images:
            table = self._columns(image)
            if table is None:
                return 0
            self._owners.append(table)
            plan += [len(table), address(table) if len(table) else 0]
        self._owners.append(made := np.array(plan, np.int64))
        return address(made)

    def _columns(self, image: ImageLayout) -> npt.NDArray[np.int64] | None:
        """The columns of an image for the kernel; None if one has a type that it does not know."""
        table = np.zeros((len(image.columns), kernel.FIELDS), np.int64)
        for number, (column, method) in enumerate(zip(image.columns, image.methods.tolist(), strict=True)):
            known = _known_type(column, method)
            if known is None:
                return None
            table[number, : kernel.SIZE + 1] = *known, method[rows.SIZE]
            name = np.frombuffer((b"," if number else b"{") + msgspec.json.encode(column.name) + b":", np.uint8)
            labels = [label.encode() for label in column.labels]
            ends = np.cumsum([0, *map(len, labels)])
            texts = np.frombuffer(b"".join(labels) + bytes(8), np.uint8)
            self._owners += [name, ends, texts]
            table[number, kernel.NAME :] = address(name), len(name), len(labels), address(ends), address(texts)
        return table


def _end(row: list[int]) -> int:
    return row[1]


def _by_event(counts: list[int], ends: list[list[int]], text: bytes, bad: set[int]) -> list[list[ImageTexts] | None]:
    """The texts of the rows of each event; None for events with bad rows, and with a count below 0."""
    found: list[list[ImageTexts] | None] = []
    at, row = 0, 0
    for count in counts:
        texts = []
        for before, after in ends[row : row + max(count, 0)]:
            texts.append((text[at:before], text[before:after]))
            at = after
        is_known = count >= 0 and bad.isdisjoint(range(row, row + count))
        row += max(count, 0)
        found.append(texts if is_known else None)
    return found


def _known_type(column: Column, method: _Method) -> tuple[int, int, int] | None:
    """Code, A and B of a column; None for a type that the kernel does not know."""
    code, a, b, _ = method
    kind, is_text = column.type, column.type in TEXT_TYPES
    simple = {
        rows.YEAR: kernel.YEAR, rows.BIT: kernel.BOOLEAN if column.length == 1 else kernel.BIT, rows.ENUM: kernel.ENUM,
        rows.SET: kernel.SET, rows.DECIMAL: kernel.DECIMAL, rows.DATE: kernel.DATE, rows.TIME: kernel.TIME,
        rows.DATETIME: kernel.DATETIME, rows.TIMESTAMP: kernel.TIMESTAMP, rows.SKIP: kernel.SKIP,
        rows.SKIP_BYTES: kernel.SKIP_BYTES,
    }  # fmt: skip
    if code in simple:
        return simple[code], a, b
    if kind in INTEGER_BITS:
        return kernel.INTEGER, int(column.unsigned), 0
    if kind in ("float", "double"):
        return kernel.APART, _FLOAT, 0
    if kind == "json" and code == rows.BYTES and not a and column.charset is None:
        return kernel.APART_BYTES, _BINARY_JSON, 0
    if kind == "json" and code == rows.TEXT:
        return kernel.APART_BYTES, _TEXT_JSON, 0
    if is_text and code == rows.TEXT:
        return kernel.TEXT, 0, 0
    if is_text and code == rows.RECODED:
        return kernel.RECODED, address(RECODING_TABLES) + 1024 * b, 0
    if kind in BINARY_TYPES and code == rows.BYTES and not a:
        return kernel.BINARY, 0, 0
    if kind == "binary" and code == rows.PADDED:
        return kernel.PADDED, 0, b
    return None
