"""When a flush is due, and that its checkpoints are right for any cut of the decoded ranges and flushes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.binlog.decoded_range import DecodedRange
from binlogsync.change_batch import ChangeBatch, build_batch
from binlogsync.errors import ConfigError
from binlogsync.flush import Flush, TransactionRun
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.position_order import PositionOrder, compare
from binlogsync.schema import Column, TableSchema
from binlogsync.server_version import ServerFlavor
from binlogsync.tail.accumulate import Accumulator, FlushRules
from tests.duck import SERVER_UUID

KEY = "8e2b7f30-1111-2222-3333-444455556666"
SCHEMA = TableSchema("shop", "t", (Column("id", "int", nullable=False),), ("id",))
RULES = FlushRules()
NOW = 1_700_000_000.0
FILE = "binlog.000001"


@dataclass(frozen=True)
class LoggedTransaction:
    """A transaction: its position, its number, and its changes; the tables of the `left_out` ones are not captured."""

    begin: int
    number: int
    size: int
    left_out: frozenset[int] = frozenset()

    @property
    def end(self) -> int:
        return self.begin + 100 + 10 * self.size


def log_of(sizes: list[int], left_out: float = 0.0) -> list[LoggedTransaction]:
    chance, found, at = random.Random(1), [], 200
    for number, size in enumerate(sizes, 1):
        places = frozenset(place for place in range(size) if chance.random() < left_out)
        found.append(LoggedTransaction(at, number, size, places))
        at = found[-1].end
    return found


def start_of(log: list[LoggedTransaction]) -> Checkpoint:
    return Checkpoint(BinlogPosition(FILE, log[0].begin if log else 4), SERVER_UUID, GtidSet(ServerFlavor.MYSQL))


def stretches(log: list[LoggedTransaction], cuts: list[int]) -> Iterator[DecodedRange]:
    """The log as a reader decodes it, cut after this number of changes (of all transactions), perhaps inside one."""
    first_seq = [0]
    for transaction in log:
        first_seq.append(first_seq[-1] + transaction.size)
    bounds = sorted({min(cut, first_seq[-1]) for cut in cuts} | {first_seq[-1]})
    done, begun = 0, 0  # transactions ended; begun and not ended (0 or 1)
    low = 0
    for high in bounds:
        touched, last = [], done
        for index in range(done, len(log)):
            if first_seq[index] >= high and high < first_seq[-1]:
                break
            touched.append(index)
            last = index + 1 if first_seq[index + 1] <= high else index
        ended = [index for index in touched if index < last]
        is_open = len(ended) < len(touched)
        gtids = GtidSet(ServerFlavor.MYSQL).with_run(KEY, 1, last) if last else GtidSet(ServerFlavor.MYSQL)
        at = log[last].begin if is_open else log[last - 1].end if last else log[0].begin
        skip = high - first_seq[last] if is_open else 0
        yield DecodedRange(
            batches=tuple(_batch(log, first_seq, touched, (low, high))),
            runs=(
                TransactionRun(
                    KEY, log[touched[0]].number, FILE, [log[i].begin for i in touched], [first_seq[i] for i in touched]
                ),
            )
            if touched
            else (),
            carried=bool(begun),
            schema_changes=(),
            checkpoint=Checkpoint(
                BinlogPosition(FILE, at),
                SERVER_UUID,
                gtids,
                skip,
                1,
                None,
                f"{KEY}:{log[last].number}" if skip else None,
            ),
            end="more",
            events=1,
            transactions=len(touched) - begun,
            dropped=0,
        )
        done, begun, low = last, int(is_open), high


def _batch(
    log: list[LoggedTransaction], first_seq: list[int], touched: list[int], span: tuple[int, int]
) -> Iterator[ChangeBatch]:
    rows = [
        (index, seq - first_seq[index])
        for index in touched
        for seq in range(max(first_seq[index], span[0]), min(first_seq[index + 1], span[1]))
        if seq - first_seq[index] not in log[index].left_out
    ]
    if rows:
        yield _changes(rows, log, first_seq)


def _changes(rows: list[tuple[int, int]], log: list[LoggedTransaction], first_seq: list[int]) -> ChangeBatch:
    seqs = [first_seq[index] + order for index, order in rows]
    image = pa.array([{"id": seq} for seq in seqs], SCHEMA.image_type())
    source = {
        "ts_us": [1_000_000 + index for index, _ in rows],
        "gtid": [f"{KEY}:{log[index].number}" for index, _ in rows],
        "file": [FILE] * len(rows),
        "pos": [log[index].begin + 50 + 10 * order for index, order in rows],
        "row": [0] * len(rows),
        "txn_pos": [log[index].begin for index, _ in rows],
        "order": [order for _, order in rows],
        "seq": seqs,
    }
    return build_batch(
        SCHEMA, ["c"] * len(rows), (pa.nulls(len(rows), SCHEMA.image_type()), image), source, (SERVER_UUID, 7)
    )


def ids(flush: Flush) -> list[int]:
    return [row["id"] for batch in flush.batches for row in batch.data.column("after").to_pylist()]


def one(size: int) -> DecodedRange:
    """A decoded range of one transaction."""
    return next(stretches(log_of([size]), []))


def accumulator(rules: FlushRules = RULES, at: Checkpoint | None = None) -> Accumulator:
    return Accumulator("main", rules, at or start_of(log_of([1])), NOW)


def test_three_seconds_after_the_first_change() -> None:
    pending = accumulator()
    assert pending.due(NOW + 59) is None
    pending.add(one(5), NOW + 10)
    assert pending.due(NOW + 12.9) is None
    assert pending.wait_s(NOW + 12.5) == pytest.approx(0.5)
    assert pending.due(NOW + 13) == "interval"
    flush = pending.cut("interval", NOW + 13)
    assert flush is not None
    assert (flush.changes, flush.opened_us, flush.closed_us) == (5, int((NOW + 10) * 1e6), int((NOW + 13) * 1e6))
    assert pending.due(NOW + 30) is None


def test_a_start_is_stored_after_the_interval_where_a_sink_is_empty() -> None:
    pending = accumulator()
    pending.store_start(start_of(log_of([1])).position)
    assert pending.due(NOW + 2.9) is None
    assert pending.due(NOW + 3) == "idle"
    flush = pending.cut("idle", NOW + 3)
    assert flush is not None
    assert (flush.changes, flush.checkpoint) == (0, flush.start)
    assert pending.due(NOW + 100) is None


def test_a_start_is_not_stored_before_what_the_binlog_already_had() -> None:
    pending, part = accumulator(), one(5)
    pending.store_start(part.checkpoint.position)
    assert pending.due(NOW + 30) is None
    pending.add(part, NOW + 31)
    flush = pending.cut("interval", NOW + 34)
    assert flush is not None
    assert flush.changes == 5
    assert pending.due(NOW + 40) is None


def test_when_1024_changes_have_accumulated() -> None:
    pending = accumulator()
    log = log_of([1] * 1024)
    parts = list(stretches(log, list(range(1, 1024))))
    for part in parts[:1023]:
        pending.add(part, NOW)
    assert pending.due(NOW) is None
    pending.add(parts[1023], NOW)
    assert pending.due(NOW) == "rows"


def test_when_the_bytes_have_accumulated() -> None:
    pending = accumulator(FlushRules(bytes=one(5).batches[0].nbytes))
    pending.add(one(4), NOW)
    assert pending.due(NOW) is None
    pending = accumulator(FlushRules(bytes=one(5).batches[0].nbytes))
    pending.add(one(5), NOW)
    assert pending.due(NOW) == "bytes"


def test_at_a_rotation_with_changes_and_without() -> None:
    pending = accumulator()
    rotation = Checkpoint(BinlogPosition("binlog.000002", 4), SERVER_UUID, GtidSet(ServerFlavor.MYSQL))
    pending.add(replace(one(1), end="rotation", checkpoint=rotation), NOW)
    assert pending.due(NOW) == "rotation"
    flush = pending.cut("rotation", NOW)
    assert flush is not None
    assert (flush.changes, flush.checkpoint, flush.number) == (1, rotation, 1)
    third = replace(rotation, position=BinlogPosition("binlog.000003", 4))
    nothing = replace(one(1), batches=(), runs=(), transactions=0, end="rotation", checkpoint=third)
    pending.add(nothing, NOW)
    assert pending.due(NOW) == "rotation"
    flush = pending.cut("rotation", NOW)
    assert flush is not None
    assert (flush.changes, flush.start, flush.checkpoint, flush.number) == (0, rotation, third, 2)


def test_files_that_a_gtid_dump_skips_do_not_move_the_checkpoint_back() -> None:
    start = Checkpoint(BinlogPosition("binlog.000005", 800), SERVER_UUID, GtidSet(ServerFlavor.MYSQL))
    pending = accumulator(at=start)
    back = replace(start, position=BinlogPosition("binlog.000003", 4))
    pending.add(replace(one(1), batches=(), runs=(), transactions=0, end="rotation", checkpoint=back), NOW)
    assert pending.cut("rotation", NOW) is None
    assert pending.due(NOW + 100) is None


def test_an_idle_checkpoint_is_stored_seldom() -> None:
    pending = accumulator(FlushRules(idle_s=60))
    moved = replace(one(1), batches=())
    pending.add(moved, NOW + 5)
    assert pending.due(NOW + 59) is None
    assert pending.due(NOW + 60) == "idle"
    flush = pending.cut("idle", NOW + 60)
    assert flush is not None
    assert (flush.changes, flush.checkpoint) == (0, moved.checkpoint)
    assert pending.cut("stop", NOW + 61) is None


def test_a_cut_inside_a_transaction_tells_how_much_of_it_is_stored() -> None:
    log = log_of([10])
    first, second = stretches(log, [4])
    pending = accumulator(at=start_of(log))
    pending.add(first, NOW)
    flush = pending.cut("rows", NOW)
    assert flush is not None
    assert (str(flush.checkpoint), ids(flush)) == (f"{FILE}:200+4", [0, 1, 2, 3])
    pending.add(second, NOW)
    rest = pending.cut("rows", NOW)
    assert rest is not None
    assert (rest.start, ids(rest)) == (flush.checkpoint, [4, 5, 6, 7, 8, 9])
    assert (rest.checkpoint.position.pos, rest.checkpoint.skip) == (log[0].end, 0)
    assert rest.checkpoint_at(6, 6, 1) == replace(flush.checkpoint, skip=7, ts_us=1)


@pytest.mark.parametrize("options", [{"rows": 0}, {"bytes": 0}, {"interval_s": 0}, {"idle_s": -1}])
def test_rules_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FlushRules(**options)


@pytest.mark.slow
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    flushed=st.lists(st.booleans(), min_size=9, max_size=9),
    left_out=st.sampled_from([0.0, 0.5]),
)
def test_however_it_is_cut(sizes: list[int], cuts: list[int], flushed: list[bool], left_out: float) -> None:
    """The flushes contain each change once, each starts where the last ended, and any change can be a restart."""
    log = log_of(sizes, left_out)
    pending = accumulator(at=start_of(log))
    flushes: list[Flush] = []
    for part, is_flushed in zip(stretches(log, cuts), [*flushed, *flushed], strict=False):
        pending.add(part, NOW)
        if is_flushed and (flush := pending.cut("rows", NOW)) is not None:
            flushes.append(flush)
    if (flush := pending.cut("stop", NOW)) is not None:
        flushes.append(flush)

    everything = [
        (transaction, order)
        for transaction in log
        for order in range(transaction.size)
        if order not in transaction.left_out
    ]
    assert sum((ids(flush) for flush in flushes), []) == [i for i, _ in _numbered(log)]
    assert [flush.number for flush in flushes] == list(range(1, len(flushes) + 1))
    for before, after in zip(flushes, flushes[1:], strict=False):
        assert before.checkpoint == after.start
        assert compare(before.checkpoint, after.checkpoint) is PositionOrder.BEFORE
    assert flushes[-1].checkpoint.position.pos == log[-1].end
    assert flushes[-1].checkpoint.gtids == GtidSet(ServerFlavor.MYSQL).with_run(KEY, 1, len(log))
    number = 0
    for flush in flushes:
        for seq in ids(flush):
            transaction, order = everything[number]
            number += 1
            at = flush.checkpoint_at(seq, order, 5)
            assert (at.position.pos, at.skip) == (transaction.begin, order + 1)
            done = transaction.number - 1
            assert at.gtids == (
                GtidSet(ServerFlavor.MYSQL).with_run(KEY, 1, done) if done else GtidSet(ServerFlavor.MYSQL)
            )
            # A sink that holds exactly up to here gets exactly the rest.
            assert ids(flush.without_stored(at)) == [i for i in ids(flush) if i > seq]


def _numbered(log: list[LoggedTransaction]) -> Iterator[tuple[int, LoggedTransaction]]:
    seq = 0
    for transaction in log:
        for order in range(transaction.size):
            if order not in transaction.left_out:
                yield seq, transaction
            seq += 1
