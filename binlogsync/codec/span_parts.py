"""Kernels that find spans within values: items of arrays, members of geometries, and runs of equal values.

For spans see field_layout.py; `valid` gets a byte for each row, 0 for NULL.
"""

from __future__ import annotations

from binlogsync.binlog.compiling import kernel
from binlogsync.binlog.kernel_types import int32, int64, intp
from binlogsync.binlog.memory import load_i32, load_u8, same, store_i32
from binlogsync.codec.field_layout import mark_null
from binlogsync.codec.json_scan import LENGTH, number_end, string_end


@kernel
def find_items(
    data: intp, starts: intp, sizes: intp, rows: int64, offsets: intp, items: intp, item_sizes: intp, valid: intp
) -> int64:
    """Spans of the items of arrays of strings, or of numbers; returns their number, or -1 for other values."""
    count = int64(0)
    store_i32(offsets, int32(0))
    for row in range(rows):
        if not mark_null(starts, row, valid):
            at = data + load_i32(starts + 4 * row)
            stop = at + (load_i32(sizes + 4 * row) & LENGTH) - 1
            if load_u8(at) != 91:
                return -1
            at += 1
            while at < stop:
                begin, size = at, int64(0)
                if load_u8(at) == 34:
                    at, flags = string_end(at + 1, stop)
                    if at < 0:
                        return -1
                    begin += 1
                    size = (at - begin) | flags
                    at += 1
                else:
                    at = number_end(at, stop)
                    if at < 0:
                        return -1
                    size = at - begin
                store_i32(items + 4 * count, int32(begin - data))
                store_i32(item_sizes + 4 * count, int32(size))
                count += 1
                if at < stop:
                    if load_u8(at) != 44 or at + 1 == stop:
                        return -1
                    at += 1
        store_i32(offsets + 4 * row + 4, int32(count))
    return count


@kernel
def find_geometries(data: intp, starts: intp, sizes: intp, rows: int64, names: intp, spans: intp, valid: intp) -> int64:
    """Spans of the SRID (starts, then sizes), and of the base64 text of each geometry; `names` is `{"srid":,"wkb":"`.
    Returns how many values are none.
    """
    wrong = int64(0)
    for row in range(rows):
        srid, srid_size, wkb, wkb_size = int64(-1), int64(0), int64(-1), int64(0)
        if not mark_null(starts, row, valid):
            begin = data + load_i32(starts + 4 * row)
            stop = begin + (load_i32(sizes + 4 * row) & LENGTH)
            at = begin + 8
            while at < stop and 48 <= load_u8(at) <= 57:
                at += 1
            if at + 10 <= stop and same(begin, names, 8) and same(at, names + 8, 8) and load_u8(stop - 2) == 34:
                srid, srid_size, wkb, wkb_size = begin + 8 - data, at - begin - 8, at + 8 - data, stop - at - 10
            else:
                wrong += 1
        store_i32(spans + 4 * row, int32(srid))
        store_i32(spans + 4 * (rows + row), int32(srid_size))
        store_i32(spans + 4 * (2 * rows + row), int32(wkb))
        store_i32(spans + 4 * (3 * rows + row), int32(wkb_size))
    return wrong


@kernel
def find_runs(data: intp, starts: intp, sizes: intp, rows: int64, firsts: intp) -> int64:
    """The first row of each run of equal values, as int32; returns the number of runs."""
    count, last, last_size = int64(0), int64(0), int64(0)
    for row in range(rows):
        start, size = int64(load_i32(starts + 4 * row)), int64(load_i32(sizes + 4 * row))
        is_same = count > 0 and size == last_size and (start < 0) == (last < 0)
        if is_same and start >= 0:
            is_same = same(data + start, data + last, size & LENGTH)
        if not is_same:
            store_i32(firsts + 4 * count, int32(row))
            count += 1
        last, last_size = start, size
    return count
