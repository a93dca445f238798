"""The kernel that converts the values of all fields of a table, given as spans of a text, to buffers of Arrow arrays.

It goes from block to block of rows, and reads each field of a block: the text of a block stays in the cache.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import kernel
from binlogsync.binlog.kernel_types import int64, intp
from binlogsync.binlog.memory import load_i32, load_i64, store_i32, store_i64
from binlogsync.codec.field_layout import FIELD_BYTES, FLAGS, KIND, OFFSETS, SLOT, USED, WRONG
from binlogsync.codec.json_scan import LENGTH
from binlogsync.codec.number_kernels import read_booleans, read_decimals, read_integers, read_labels, read_times
from binlogsync.codec.text_kernels import read_base64, read_strings

INTEGERS, BOOLEANS, DECIMALS, LABELS, TIMES, STRINGS, BASE64 = range(7)
"""Kinds of fields."""
_BLOCK_ROWS = 16


@kernel
def measure_texts(sizes: intp, stride: int64, rows: int64, fields: intp, count: int64) -> None:
    """Store in USED of each field the bytes of its values in the text."""
    for k in range(count):
        field = fields + FIELD_BYTES * k
        own, total = sizes + 4 * stride * load_i64(field + SLOT), int64(0)
        if load_i64(field + KIND) >= STRINGS:
            for row in range(rows):
                total += load_i32(own + 4 * row) & LENGTH
        store_i64(field + USED, total)


@kernel
def read_fields(data: intp, starts: intp, sizes: intp, stride: int64, rows: int64, fields: intp, count: int64) -> None:
    """Convert the values of all fields; `stride` is the number of spans from one slot to the next."""
    for k in range(count):
        field = fields + FIELD_BYTES * k
        store_i64(field + USED, 0)
        store_i64(field + FLAGS, 0)
        store_i64(field + WRONG, 0)
        if load_i64(field + KIND) >= STRINGS:
            store_i32(load_i64(field + OFFSETS), 0)
    for begin in range(0, rows, _BLOCK_ROWS):
        end = min(begin + _BLOCK_ROWS, rows)
        for k in range(count):
            field = fields + FIELD_BYTES * k
            kind, slot = load_i64(field + KIND), load_i64(field + SLOT)
            own, own_sizes = starts + 4 * stride * slot, sizes + 4 * stride * slot
            if kind == INTEGERS:
                read_integers(data, own, own_sizes, begin, end, field)
            elif kind == STRINGS:
                read_strings(data, own, own_sizes, begin, end, field)
            elif kind == TIMES:
                read_times(data, own, own_sizes, begin, end, field)
            elif kind == DECIMALS:
                read_decimals(data, own, own_sizes, begin, end, field)
            elif kind == LABELS:
                read_labels(data, own, own_sizes, begin, end, field)
            elif kind == BASE64:
                read_base64(data, own, own_sizes, begin, end, field)
            elif kind == BOOLEANS:
                read_booleans(data, own, begin, end, field)
