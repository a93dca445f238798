"""Where each change of a stretch comes from: transactions and row counts -> the source columns of ChangeBatches, and
Runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit, types

from binlogsync.binlog.memory import KERNEL, copy
from binlogsync.binlog.plan import RowEvents, Transactions
from binlogsync.change import TIME_TYPE
from binlogsync.flush import Run

Longs = npt.NDArray[np.int64]
_MOST_DIGITS = 20


@njit(
    "void(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], "
    "int64[::1], int64[::1], int32[::1], int64[::1], int32[::1], int64[::1], int64[::1], int64[::1])",
    **KERNEL,
)
def _spread(  # type: ignore[no-untyped-def]
    events, counts, first_row, transaction, event_pos, first_seq, seqs, begin, ts_us,
    o_ts, o_gtid, o_pos, o_row, o_begin, o_order, o_seq,
):  # fmt: skip
    """One line a change out of one line an event."""
    at = types.uint64(0)  # unsigned, so that no index can mean one from the end
    for k in range(len(events)):
        e = types.uint64(events[k])
        t = types.uint64(transaction[e])
        count = types.uint64(counts[e])
        ts, pos, begins, seq, first = ts_us[t], event_pos[e], begin[t], seqs[e], first_row[e]
        order = seq - first_seq[t]
        for row in range(count):
            o_ts[at + row] = ts
            o_gtid[at + row] = t
        for row in range(count):
            o_pos[at + row] = pos
            o_begin[at + row] = begins
        for row in range(count):
            o_row[at + row] = first + types.int64(row)
            o_order[at + row] = order + types.int64(row)
            o_seq[at + row] = seq + types.int64(row)
        at += count


@njit(
    types.void(
        types.int32[::1],
        types.int64[::1],
        types.Array(types.uint8, 1, "C", readonly=True),
        types.int64[::1],
        types.int64[::1],
        types.int32[::1],
        types.uint8[::1],
    ),
    **KERNEL,
)
def _write_gtids(keys, numbers, prefixes, begins, sizes, ends, data):  # type: ignore[no-untyped-def]
    """Each key's prefix and the number; nothing where the key is below 0."""
    at = types.int64(0)
    for t in range(len(keys)):
        key = keys[t]
        if key >= 0:
            copy(data.ctypes.data + at, prefixes.ctypes.data + begins[key], sizes[key])
            at += sizes[key]
            left = numbers[t]
            digits = 1
            while left >= 10:
                left //= 10
                digits += 1
            left = numbers[t]
            for d in range(at + digits - 1, at - 1, -1):
                data[d] = 48 + left % 10
                left //= 10
            at += digits
        ends[t + 1] = at


@dataclass(frozen=True, slots=True)
class Sources:
    """The transactions of a stretch, in one file.

    Attributes:
        file: binlog file of them all.
        transactions: of them the first `count` are in use; the first may go on from the stretch before.
        first_seq: `seq` of the first change of each.
        counts: changes of each row event.
        first_row: number of the first of them among the changes that have the event's offset.
        seqs: `seq` of the first change of each row event.
        names: GTID keys as GtidSet writes them, by key number.
        mariadb: how a GTID is put together.
    """

    file: str
    transactions: Transactions
    count: int
    first_seq: Longs
    counts: Longs
    first_row: Longs
    seqs: Longs
    names: Sequence[str]
    mariadb: bool

    def columns(self, rows: RowEvents, events: Longs, gtids: pa.Array) -> dict[str, pa.Array]:
        """The source columns of the changes of these events, as change.SOURCE_FIELDS names them; `gtids` from
        gtid_texts.
        """
        total = int(self.counts[events].sum())
        wide = [np.empty(total, np.int64) for _ in range(5)]
        gtid, row = np.empty(total, np.int32), np.empty(total, np.int32)
        ts_us, pos, begin, order, seq = wide
        chosen = self.transactions
        _spread(
            events, self.counts, self.first_row, rows.transaction, rows.pos, self.first_seq, self.seqs, chosen.begin,
            chosen.ts_us, ts_us, gtid, pos, row, begin, order, seq,
        )  # fmt: skip
        files = pa.DictionaryArray.from_arrays(pa.array(np.zeros(total, np.int32)), pa.array([self.file]), safe=False)
        return {
            "ts_us": _fixed(ts_us, TIME_TYPE),
            "gtid": pa.DictionaryArray.from_arrays(_fixed(gtid, pa.int32()), gtids, safe=False),
            "file": files,
            "pos": _fixed(pos, pa.uint64()),
            "row": _fixed(row, pa.uint32()),
            "txn_pos": _fixed(begin, pa.uint64()),
            "order": _fixed(order, pa.uint64()),
            "seq": _fixed(seq, pa.int64()),
        }

    def gtid_texts(self) -> pa.Array:
        """The GTID of each transaction as the server writes it; NULL for one that has none."""
        keys, numbers = self.transactions.key[: self.count], self.transactions.number[: self.count]
        encoded = [f"{name}{'-' if self.mariadb else ':'}".encode() for name in self.names]
        sizes = np.array([len(prefix) for prefix in encoded], np.int64)
        prefixes = np.frombuffer(b"".join(encoded) + bytes(8), np.uint8)
        data = np.empty(self.count * (int(sizes.max(initial=0)) + _MOST_DIGITS), np.uint8)
        ends = np.zeros(self.count + 1, np.int32)
        _write_gtids(keys, numbers, prefixes, np.cumsum(sizes) - sizes, sizes, ends, data)
        missing = int((keys < 0).sum())
        validity = pa.py_buffer(np.packbits(keys >= 0, bitorder="little")) if missing else None
        return pa.StringArray.from_buffers(self.count, pa.py_buffer(ends), pa.py_buffer(data), validity, missing)

    def runs(self) -> tuple[Run, ...]:
        """The transactions in runs of consecutive GTIDs."""
        if not self.count:
            return ()
        key, number = self.transactions.key[: self.count], self.transactions.number[: self.count]
        breaks = np.flatnonzero((np.diff(key) != 0) | ((np.diff(number) != 1) & (key[1:] >= 0))) + 1
        runs = []
        for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), self.count], strict=True):
            name = self.names[key[first]] if key[first] >= 0 else None
            begin: Sequence[int] = self.transactions.begin[first:last].copy()  # type: ignore[assignment]
            first_seq: Sequence[int] = self.first_seq[first:last]  # type: ignore[assignment]
            run = Run(name, int(number[first]), self.file, begin, first_seq)
            runs.append(run)
        return tuple(runs)


def _fixed(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)], 0)
