"""What the kernels get of a field (span_fields.py): a row of numbers in memory, and what they all do with a value.

A value is a span of a text: an int32 start, -1 for NULL, and an int32 size with the flags of json_scan.py.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import inner
from binlogsync.binlog.kernel_types import boolean, int64, intp, uint8
from binlogsync.binlog.memory import load_i32, load_i64, store_i64, store_u8

KIND, SLOT, WIDTH, PARAMETER, VALUES, OFFSETS, VALID, TABLE, ENDS, USED, FLAGS, WRONG = range(0, 96, 8)
"""Offsets of the numbers of a field: which kernel reads it; the slot of its spans; bytes of a value; a number for that
kernel; addresses of values, offsets (int32) and validity (a byte for each value), and of two tables for that kernel.
Results: bytes of texts, the flags of all sizes, and how many values have another format than the tail writes.
"""
FIELD_BYTES = 96


@inner
def mark_null(starts: intp, row: int64, valid: intp) -> boolean:
    """Whether the row is NULL, which is stored in `valid`."""
    is_null = load_i32(starts + 4 * row) < 0
    store_u8(valid + row, uint8(0 if is_null else 1))
    return is_null


@inner
def add_to(address: intp, number: int64) -> None:
    """Add to the number at an address."""
    store_i64(address, load_i64(address) + number)
