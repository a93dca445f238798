"""Builds the source columns of ChangeBatches, and the Runs of a range, from its transactions and row events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog.compiling import kernel
from binlogsync.binlog.kernel_types import int32, int64, intp, uint8, uint64
from binlogsync.binlog.memory import (
    address,
    addresses,
    copy,
    load_i32,
    load_i64,
    load_u64,
    store_i32,
    store_i64,
    store_u8,
)
from binlogsync.binlog.numbering import ChangeNumbers
from binlogsync.binlog.scan_state import RowEvents, Transactions
from binlogsync.change import SourceValues
from binlogsync.change_batch import TIME_TYPE
from binlogsync.flush import TransactionRun
from binlogsync.log_identity import LogIdentity

Longs = npt.NDArray[np.int64]
_MOST_DIGITS = 20
_UNSIGNED = (1 << 64) - 1
_TEN, _ZERO = uint64(10), uint64(48)


@kernel
def _spread(events: intp, count: int64, given: intp, columns: intp) -> None:
    """Expand one row per event to one row per change. `given` and `columns` hold the addresses of the input and output
    arrays, in the order in which `SourceColumns.columns` lists them.
    """
    counts, first_row, seqs = load_i64(given), load_i64(given + 8), load_i64(given + 16)
    transaction, event_pos = load_i64(given + 24), load_i64(given + 32)
    first_seq, begin, ts_us = load_i64(given + 40), load_i64(given + 48), load_i64(given + 56)
    o_ts, o_pos, o_begin, o_order = (
        load_i64(columns),
        load_i64(columns + 8),
        load_i64(columns + 16),
        load_i64(columns + 24),
    )
    o_seq, o_gtid, o_row = load_i64(columns + 32), load_i64(columns + 40), load_i64(columns + 48)
    for k in range(count):
        e = 8 * load_i64(events + 8 * k)
        t = load_i64(transaction + e)
        rows, pos, first, seq = (
            load_i64(counts + e),
            load_i64(event_pos + e),
            load_i64(first_row + e),
            load_i64(seqs + e),
        )
        ts, begins = load_i64(ts_us + 8 * t), load_i64(begin + 8 * t)
        order = seq - load_i64(first_seq + 8 * t)
        for row in range(rows):
            store_i64(o_ts + 8 * row, ts)
            store_i32(o_gtid + 4 * row, int32(t))
        for row in range(rows):
            store_i64(o_pos + 8 * row, pos)
            store_i64(o_begin + 8 * row, begins)
        for row in range(rows):
            store_i32(o_row + 4 * row, int32(first + row))
            store_i64(o_order + 8 * row, order + row)
            store_i64(o_seq + 8 * row, seq + row)
        o_ts, o_pos, o_begin, o_order = o_ts + 8 * rows, o_pos + 8 * rows, o_begin + 8 * rows, o_order + 8 * rows
        o_seq, o_gtid, o_row = o_seq + 8 * rows, o_gtid + 4 * rows, o_row + 4 * rows


@kernel
def _write_gtids(
    count: int64, keys: intp, numbers: intp, prefixes: intp, begins: intp, sizes: intp, ends: intp, data: intp
) -> None:
    """Write the text of each GTID: prefix of the key and number; the empty string for a key below 0."""
    at = int64(0)
    for t in range(count):
        key = int64(load_i32(keys + 4 * t))
        if key >= 0:
            size = load_i64(sizes + 8 * key)
            copy(data + at, prefixes + load_i64(begins + 8 * key), size)
            at += size
            number = load_u64(numbers + 8 * t)
            left, digits = number, 1
            while left >= _TEN:
                left //= _TEN
                digits += 1
            for d in range(digits - 1, -1, -1):
                rest = number // _TEN
                store_u8(data + at + d, uint8(number - rest * _TEN + _ZERO))
                number = rest
            at += digits
        store_i32(ends + 4 * (t + 1), int32(at))


@dataclass(frozen=True, slots=True)
class SourceColumns:
    """The transactions and row events of a range, which is within one file.

    Attributes:
        file: the binlog file.
        transactions: the first `count` are in use; the first of them may have begun in an earlier range.
        numbers: of the changes.
        names: GTID keys as in the text of a GtidSet, by key number.
        mariadb: True for the GTID format of MariaDB.
        log: head of the file.
    """

    file: str
    transactions: Transactions
    count: int
    numbers: ChangeNumbers
    names: Sequence[str]
    mariadb: bool
    log: LogIdentity | None

    def columns(self, rows: RowEvents, events: Longs, gtids: pa.Array) -> dict[str, pa.Array]:
        """The source columns (change.SOURCE_FIELDS) for the changes of these row events; `gtids` is from gtid_texts."""
        numbers = self.numbers
        total = int(numbers.counts[events].sum())
        wide = [np.empty(total, np.int64) for _ in range(5)]
        gtid, row = np.empty(total, np.int32), np.empty(total, np.int32)
        ts_us, pos, begin, order, seq = wide
        chosen = self.transactions
        given = addresses(
            numbers.counts,
            numbers.first_row,
            numbers.seqs,
            rows.transaction,
            rows.pos,
            numbers.first_seq,
            chosen.begin,
            chosen.ts_us,
        )
        made = addresses(ts_us, pos, begin, order, seq, gtid, row)
        _spread(address(events), len(events), address(given), address(made))
        files = pa.DictionaryArray.from_arrays(pa.array(np.zeros(total, np.int32)), pa.array([self.file]), safe=False)
        return {
            "ts_us": _fixed(ts_us, TIME_TYPE),
            "gtid": _named(gtid, gtids),
            "file": files,
            "pos": _fixed(pos, pa.uint64()),
            "row": _fixed(row, pa.uint32()),
            "txn_pos": _fixed(begin, pa.uint64()),
            "order": _fixed(order, pa.uint64()),
            "seq": _fixed(seq, pa.int64()),
        }

    def values(self, rows: RowEvents, events: Sequence[int]) -> list[SourceValues]:
        """The same for the changes of few row events, one by one."""
        made, chosen, numbers = [], self.transactions, self.numbers
        for event in events:
            t, first, seq = int(rows.transaction[event]), int(numbers.first_row[event]), int(numbers.seqs[event])
            ts_us, begin, pos = int(chosen.ts_us[t]), int(chosen.begin[t]), int(rows.pos[event])
            gtid, order = self._gtid(t), seq - int(numbers.first_seq[t])
            made += [
                SourceValues(ts_us, gtid, self.file, pos, first + row, begin, order + row, seq + row)
                for row in range(int(numbers.counts[event]))
            ]
        return made

    def _gtid(self, t: int) -> str | None:
        key = int(self.transactions.key[t])
        if key < 0:
            return None
        number = int(self.transactions.number[t]) & _UNSIGNED
        return f"{self.names[key]}{'-' if self.mariadb else ':'}{number}"

    def gtid_texts(self) -> pa.Array:
        """The GTID of each transaction in the notation of the server; NULL for a transaction without GTID."""
        keys, numbers = self.transactions.key[: self.count], self.transactions.number[: self.count]
        encoded = [f"{name}{'-' if self.mariadb else ':'}".encode() for name in self.names]
        sizes = np.array([len(prefix) for prefix in encoded], np.int64)
        prefixes = np.frombuffer(b"".join(encoded) + bytes(8), np.uint8)
        data = np.empty(self.count * (int(sizes.max(initial=0)) + _MOST_DIGITS), np.uint8)
        ends = np.zeros(self.count + 1, np.int32)
        begins = np.cumsum(sizes) - sizes
        _write_gtids(self.count, *(address(array) for array in (keys, numbers, prefixes, begins, sizes, ends, data)))
        missing = int((keys < 0).sum())
        validity = pa.py_buffer(np.packbits(keys >= 0, bitorder="little")) if missing else None
        return pa.StringArray.from_buffers(self.count, pa.py_buffer(ends), pa.py_buffer(data), validity, missing)

    def runs(self) -> tuple[TransactionRun, ...]:
        """The transactions, grouped into runs of consecutive GTIDs."""
        if not self.count:
            return ()
        key, number = self.transactions.key[: self.count], self.transactions.number[: self.count]
        breaks: list[int] = []
        if self.count > 1:
            starts = (np.diff(key) != 0) | ((np.diff(number) != 1) & (key[1:] >= 0))
            breaks = (np.flatnonzero(starts) + 1).tolist()
        runs = []
        for first, last in zip([0, *breaks], [*breaks, self.count], strict=True):
            name = self.names[key[first]] if key[first] >= 0 else None
            begin: Sequence[int] = self.transactions.begin[first:last].copy()  # type: ignore[assignment]
            first_seq: Sequence[int] = self.numbers.first_seq[first:last]  # type: ignore[assignment]
            before: Sequence[int] = self.transactions.before[first:last].copy()  # type: ignore[assignment]
            mark: Sequence[int] = self.transactions.mark[first:last].copy()  # type: ignore[assignment]
            runs.append(TransactionRun(name, int(number[first]), self.file, begin, first_seq, self.log, before, mark))
        return tuple(runs)


def _named(numbers: npt.NDArray[np.int32], names: pa.StringArray) -> pa.DictionaryArray:
    """A dictionary array of texts. NULLs are in the indices: Arrow cannot concatenate dictionaries with a NULL."""
    if not names.null_count:
        return pa.DictionaryArray.from_arrays(_fixed(numbers, pa.int32()), names, safe=False)
    missing = names.is_null().to_numpy(zero_copy_only=False)[numbers]
    return pa.DictionaryArray.from_arrays(pa.array(numbers, mask=missing), names.fill_null(""), safe=False)


def _fixed(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)], 0)
