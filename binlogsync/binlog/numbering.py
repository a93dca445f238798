"""Numbers the changes of a range: `seq`, order in the transaction, and row at a position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.compiling import kernel
from binlogsync.binlog.kernel_types import int64, intp
from binlogsync.binlog.memory import address, load_i64, store_i64
from binlogsync.binlog.scan_state import RowEvents

Longs = npt.NDArray[np.int64]


@kernel
def _number(
    events: int64, transactions: int64, seq: int64, at_pos: int64, pos: int64, given: intp, seqs: intp, rows: intp,
    first_seqs: intp,
) -> tuple[int64, int64]:  # fmt: skip
    """Returns (next seq, changes at the last position). `at_pos` changes before these have the position `pos`; `given`
    has the addresses of counts, transactions and positions of the events.
    """
    counts, owners, positions = load_i64(given), load_i64(given + 8), load_i64(given + 16)
    e = int64(0)
    for t in range(transactions):
        store_i64(first_seqs + 8 * t, seq)
        while e < events and load_i64(owners + 8 * e) == t:
            if load_i64(positions + 8 * e) != pos:
                pos, at_pos = load_i64(positions + 8 * e), int64(0)
            store_i64(seqs + 8 * e, seq)
            store_i64(rows + 8 * e, at_pos)
            seq += load_i64(counts + 8 * e)
            at_pos += load_i64(counts + 8 * e)
            e += 1
    return seq, at_pos


@dataclass(frozen=True, slots=True)
class ChangeNumbers:
    """Numbers of a range.

    Attributes:
        counts: number of changes of each row event.
        seqs: `seq` of the first change of each row event.
        first_row: row number of the first change of each row event. Rows are counted per offset: all events of a
            TRANSACTION_PAYLOAD have the same one.
        first_seq: `seq` of the first change of each transaction, or of the next change if it has none.
        next_seq: of the next range.
        last_position: offset of the last row event, and the number of changes that have it.
    """

    counts: Longs
    seqs: Longs
    first_row: Longs
    first_seq: Longs
    next_seq: int
    last_position: tuple[int, int]


def number_changes(
    rows: RowEvents, counts: Longs, transactions: int, seq: int, last_position: tuple[int, int]
) -> ChangeNumbers:
    """Number the changes of the first row events, of so many transactions, from `seq` on.

    `counts` has the number of changes of each event; `last_position` is that of the preceding range.
    """
    events = len(counts)
    made = np.empty(2 * events + transactions, np.int64)
    seqs, first_row, first_seq = made[:events], made[events : 2 * events], made[2 * events :]
    start = address(made)
    given = np.array([address(counts), *rows.addresses[3:5].tolist()], np.int64)
    next_seq, at_pos = _number(
        events, transactions, seq, last_position[1], last_position[0], address(given), start, start + 8 * events,
        start + 16 * events,
    )  # fmt: skip
    last = (int(rows.pos[events - 1]), at_pos) if events else last_position
    return ChangeNumbers(counts, seqs, first_row, first_seq, next_seq, last)
