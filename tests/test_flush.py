"""Flush: the changes after any cut are those that a restart there, or a sink with that checkpoint, requires."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogsync.change_batch import build_batch
from binlogsync.errors import PositionError
from binlogsync.flush import Flush, SchemaChange, TransactionRun
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.position_order import PositionOrder, compare
from binlogsync.schema import Column, TableSchema
from binlogsync.server_version import ServerFlavor
from tests.examples import examples
from tests.samples import SERVER_UUID, SampleOptions, SampleSource, SampleTransaction, sample_flush

TABLES = tuple(TableSchema("shop", name, (Column("id", "bigint", unsigned=True),), ("id",)) for name in "abc")
OTHER_UUID = "00000000-0000-0000-0000-000000000001"
KEYS: dict[ServerFlavor | None, tuple[str, ...]] = {
    ServerFlavor.MYSQL: (SERVER_UUID, OTHER_UUID, f"{SERVER_UUID}:blue"),
    ServerFlavor.MARIADB: ("0-7", "0-8", "1-7"),
    None: ("",),
}

Key = tuple[int, int, int]
"""(file number, start of the transaction, order): the coordinates that the module compares."""


@st.composite
def sources(draw: st.DrawFn) -> tuple[SampleOptions, list[SampleTransaction]]:
    """Transactions of no, one and many changes, over three tables and a filtered one, files and GTID keys."""
    flavor = draw(st.sampled_from(list(KEYS)))
    transactions, file = [], 1
    for tables in draw(st.lists(st.lists(st.sampled_from((0, 1, 2, None)), max_size=5), min_size=1, max_size=12)):
        file += draw(st.sampled_from((0, 0, 0, 1)))
        key = draw(st.sampled_from(KEYS[flavor])) or None
        transactions.append(SampleTransaction(tuple(tables), file, key))
    options = SampleOptions(
        tables=TABLES,
        flavor=flavor,
        rows_per_event=draw(st.integers(1, 3)),
        rows_per_batch=draw(st.none() | st.integers(1, 4)),
    )
    return options, transactions


def keys(flush: Flush) -> list[tuple[int, Key, int]]:
    """(seq, key, commit time) of the changes in binlog order."""
    found = []
    for batch in flush.batches:
        columns = {name: batch.data.column(name) for name in ("seq", "file", "txn_pos", "order")}
        times = batch.data.column("ts_us").cast(pa.int64()).to_pylist()
        for seq, file, txn_pos, order, ts_us in zip(*(c.to_pylist() for c in columns.values()), times, strict=True):
            found.append((seq, (BinlogPosition(file, 0).file_number, txn_pos, order), ts_us))
    return sorted(found)


def executed(flush: Flush, seq: int) -> GtidSet | None:
    """All transactions before the one of the change `seq`, one at a time."""
    gtids = flush.start.gtids
    for run in flush.runs:
        for i in range(len(run.begin)):
            is_last = not any(
                s <= seq for s in [*run.first_seq[i + 1 :]] + [r.first_seq[0] for r in _behind(flush, run)]
            )
            if run.first_seq[i] <= seq and is_last:
                return gtids
            if gtids is not None and run.key is not None:
                gtids = gtids.with_run(run.key, run.first + i, run.first + i)
    raise AssertionError(f"change {seq} is in no transaction")


def _behind(flush: Flush, run: TransactionRun) -> list[TransactionRun]:
    return list(flush.runs[next(i for i, each in enumerate(flush.runs) if each is run) + 1 :])


@pytest.mark.slow
@pytest.mark.generated
@settings(max_examples=examples(25), deadline=None)
@given(sources())
def test_after_any_cut_are_the_changes_that_were_not_stored(
    source: tuple[SampleOptions, list[SampleTransaction]],
) -> None:
    flush = sample_flush(source[1], source[0])
    changes = keys(flush)
    assert [key for _, key, _ in changes] == sorted({key for _, key, _ in changes})
    assert flush.changes == len(changes)
    for number, (seq, key, ts_us) in enumerate(changes, 1):
        cut = flush.checkpoint_at(seq, key[2], ts_us)
        assert (cut.position.file_number, cut.position.pos, cut.skip) == (*key[:2], key[2] + 1)
        assert (cut.ts_us, cut.server_uuid, cut.gtids) == (ts_us, flush.start.server_uuid, executed(flush, seq))
        assert keys(flush.without_stored(cut)) == changes[number:]
        if cut.gtids is not None:
            elsewhere = replace(cut, position=BinlogPosition("binlog.000077", 999_999), server_uuid=OTHER_UUID)
            assert keys(flush.without_stored(elsewhere)) == changes[number:]
        assert compare(flush.start, cut) is PositionOrder.BEFORE
        assert compare(cut, flush.checkpoint) is PositionOrder.BEFORE


@pytest.mark.generated
@settings(max_examples=examples(50), deadline=None)
@given(sources(), st.data())
def test_a_sink_with_any_checkpoint_receives_each_change_once(
    source: tuple[SampleOptions, list[SampleTransaction]], data: st.DataObject
) -> None:
    options, transactions = source
    flush = sample_flush(transactions, options)
    stored, seen = flush.start, []
    while compare(stored, flush.checkpoint) is PositionOrder.BEFORE:
        part = keys(flush.without_stored(stored))
        if not part:
            break
        taken = part[: data.draw(st.integers(1, len(part)))]
        seen += taken
        stored = flush.checkpoint_at(taken[-1][0], taken[-1][1][2], taken[-1][2])
    assert seen == keys(flush)
    assert keys(flush.without_stored(flush.checkpoint)) == []


@pytest.mark.slow
@pytest.mark.generated
@settings(max_examples=examples(40), deadline=None)
@given(sources(), st.integers(1, 4))
def test_flushes_cut_inside_a_transaction_continue_after_the_cut(
    source: tuple[SampleOptions, list[SampleTransaction]], take: int
) -> None:
    options, transactions = source
    whole = sample_flush(transactions, options)
    writer, parts = SampleSource(options), []
    for transaction in transactions:
        cut = replace(transaction, take=take) if len(transaction.tables) > take else transaction
        parts.append(writer.flush([cut]))
    parts.append(writer.flush([]))
    assert [change for part in parts for change in keys(part)] == keys(whole)
    assert parts[-1].checkpoint == whole.checkpoint
    for earlier, later in zip(parts, parts[1:], strict=False):
        assert later.start == earlier.checkpoint
        assert later.without_stored(earlier.checkpoint).changes == later.changes
        assert not keys(later.without_stored(later.checkpoint))
        for seq, key, ts_us in keys(later):
            at = later.checkpoint_at(seq, key[2], ts_us)
            assert at == whole.checkpoint_at(seq, key[2], ts_us)
            assert [c for c in keys(whole.without_stored(at)) if c in keys(later)] == keys(later.without_stored(at))


def test_a_flush_is_unchanged_for_a_sink_without_its_changes() -> None:
    source = SampleSource()
    first, second = source.flush(3), source.flush(3)
    assert second.without_stored(None) is second
    assert second.without_stored(first.start) is second
    assert second.without_stored(first.checkpoint) == second


def test_a_stored_flush_is_empty_except_for_its_checkpoint() -> None:
    source = SampleSource()
    first, second = source.flush(3), source.flush(3)
    left = first.without_stored(second.checkpoint)
    assert (left.batches, left.changes, left.tables, left.checkpoint) == ((), 0, (), first.checkpoint)


def test_tables_and_sizes_are_those_of_the_batches() -> None:
    flush = sample_flush(4)
    assert flush.tables == (("shop", "notes"), ("shop", "samples"))
    assert flush.changes == sum(len(batch) for batch in flush.batches) == 7
    assert flush.nbytes == sum(batch.nbytes for batch in flush.batches) > 0


def test_batches_that_are_wholly_stored_are_dropped_and_the_others_are_not_copied() -> None:
    flush = sample_flush([SampleTransaction((0, 0)), SampleTransaction((1, 1))], SampleOptions(tables=TABLES))
    seq, key, ts_us = keys(flush)[1]
    left = flush.without_stored(flush.checkpoint_at(seq, key[2], ts_us))
    assert left.tables == (("shop", "b"),)
    assert left.batches[0] is flush.batches[1]


def test_an_empty_batch_is_accepted() -> None:
    flush = sample_flush(2)
    names = ("ts_us", "gtid", "file", "pos", "row", "txn_pos", "order", "seq")
    image = pa.array([], TABLES[0].image_type())
    empty = build_batch(TABLES[0], [], (image, image), {name: [] for name in names}, (SERVER_UUID, 7))
    with_empty = replace(flush, batches=(*flush.batches, empty))
    assert keys(with_empty.without_stored(flush.start)) == keys(flush)


# DDL between the changes


def truncated(flush: Flush) -> SchemaChange:
    """A statement directly after the flush."""
    end = replace(flush.checkpoint.position, pos=flush.checkpoint.position.pos + 90)
    seq = keys(flush)[-1][0] + 1
    return SchemaChange("truncate", (("shop", "a"),), "TRUNCATE a", seq, end, f"{SERVER_UUID}:900", 5)


@pytest.mark.parametrize("has_changes", [True, False])
def test_a_statement_is_delivered_to_a_sink_once(has_changes: bool) -> None:
    flush = sample_flush(2)
    statement = truncated(flush)
    behind = replace(flush.checkpoint, position=statement.position)
    flush = replace(flush, schema_changes=(statement,), checkpoint=behind, batches=flush.batches if has_changes else ())
    assert flush.without_stored(flush.start).schema_changes == (statement,)
    assert flush.without_stored(replace(behind, position=BinlogPosition("binlog.000001", 400))).schema_changes
    assert flush.without_stored(behind).schema_changes == ()
    assert flush.without_stored(behind).changes == 0


# another server


def elsewhere(flush: Flush, gtids: GtidSet | None) -> Checkpoint:
    """A checkpoint of another server with those transactions."""
    return Checkpoint(BinlogPosition("binlog.000077", 999_999), OTHER_UUID, gtids)


def test_after_a_failover_transactions_that_are_stored_are_dropped_by_gtid() -> None:
    flush = sample_flush([SampleTransaction((0,)), SampleTransaction((0, 1)), SampleTransaction((1,))])
    statement = truncated(flush)
    flush = replace(flush, schema_changes=(statement,))
    stored = elsewhere(flush, GtidSet.parse(f"{SERVER_UUID}:1-2:900"))
    left = flush.without_stored(stored)
    assert [key[2] for _, key, _ in keys(left)] == [0]
    assert keys(left) == keys(flush)[3:]
    assert left.schema_changes == ()
    assert flush.without_stored(elsewhere(flush, GtidSet())).changes == flush.changes


def events_of(ops: str, *, has_key: bool, flavor: ServerFlavor = ServerFlavor.MYSQL) -> Flush:
    """One transaction of one event with a change for each letter."""
    schema = TableSchema("shop", "t", (Column("id", "int"),), ("id",) if has_key else ())
    options = SampleOptions(tables=(schema,), rows_per_event=9, flavor=flavor)
    flush = sample_flush([SampleTransaction((0,) * len(ops))], options)
    op = pa.array(list(ops)).cast(flush.batches[0].data.schema.field("op").type)
    batch = flush.batches[0]
    return replace(flush, batches=(replace(batch, data=batch.data.set_column(0, "op", op)),))


@pytest.mark.parametrize(
    ("flush", "is_refused"),
    [
        (events_of("uuuu", has_key=False), True),
        (events_of("dddd", has_key=False), True),
        (events_of("cccc", has_key=False), False),
        (events_of("uuuu", has_key=True), False),
        (events_of("uuuu", has_key=False, flavor=ServerFlavor.MARIADB), False),
    ],
    ids=["update", "delete", "insert", "with a key", "MariaDB"],
)
def test_rows_that_a_replica_may_log_in_another_order_are_not_cut_apart(flush: Flush, is_refused: bool) -> None:
    cuts = [flush.checkpoint_at(seq, key[2], ts_us) for seq, key, ts_us in keys(flush)]
    for cut in cuts:
        there = replace(cut, server_uuid=OTHER_UUID)
        if is_refused and cut is not cuts[-1]:
            with pytest.raises(PositionError, match="shop.t, which has no primary key"):
                flush.without_stored(there)
        else:
            assert keys(flush.without_stored(there)) == keys(flush)[cut.skip :]


def test_the_first_flush_of_another_server_has_its_identity() -> None:
    flush = sample_flush(2)
    moved = replace(flush, start=replace(elsewhere(flush, GtidSet()), ts_us=1))
    seq, key, ts_us = keys(moved)[-1]
    assert moved.checkpoint_at(seq, key[2], ts_us) == flush.checkpoint_at(seq, key[2], ts_us)
    statement = truncated(flush)
    assert replace(moved, schema_changes=(statement,)).without_stored(moved.start).schema_changes == (statement,)


def test_a_failover_without_gtids_is_refused() -> None:
    flush = sample_flush(2, SampleOptions(flavor=None))
    with pytest.raises(PositionError, match="cannot be compared"):
        flush.without_stored(elsewhere(flush, None))
