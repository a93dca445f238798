"""The part of the contract of a `TableStore` about rows that a snapshot has published into the stream (op "r")."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.mirror.apply import DEFAULT_OPTIONS, apply
from binlogsync.position import FIRST_ORDINAL, BinlogPosition, Checkpoint
from binlogsync.schema import Column, TableSchema
from binlogsync.targets import TableStore
from binlogsync.targets.mirror_state import MirrorOptions
from tests.duck import SERVER_UUID, make_batch
from tests.published_rows import PublishedAt, publish_rows
from tests.targets.contract_mirrors import SCHEMA, SOFT, inserts, row

ReadTable = Callable[[str, str], Sequence[dict[str, Any]]]
HISTORY = MirrorOptions(history=True)
KEYLESS = replace(SCHEMA, primary_key=())
FLOATS = TableSchema("shop", "things", (Column("id", "int"), Column("x", "double")))
OTHER_SERVER = "00000000-0000-0000-0000-000000000001"


def published(*rows: dict[str, Any], after: int, first: int = 0, schema: TableSchema = SCHEMA) -> ChangeBatch:
    """The rows as published at the end of the transaction of change `after` (see make_batch)."""
    return publish_rows(schema, rows, PublishedAt("s1", FIRST_ORDINAL + first, 1040 + 100 * after, ts_us=9))


class PublishedContract:
    def test_a_row_is_inserted_or_replaced(self, store: TableStore, read: ReadTable) -> None:
        wanted = [(1, "y"), (2, "x"), (3, "new")]
        for options in (DEFAULT_OPTIONS, SOFT, HISTORY):
            with store.begin() as transaction:
                transaction.forget_mirror("shop", "things")
                apply(transaction, [inserts(row(1), row(2))], options)
                batches = [published(row(1, a="y"), row(2), after=1), published(row(3, a="new"), after=1, first=2)]
                assert apply(transaction, batches, options) is None
            assert sorted((each["id"], each["a"]) for each in read("shop", "things")) == wanted

    def test_a_mirror_begins_with_published_rows(self, store: TableStore, read: ReadTable) -> None:
        changes: list[Any] = [("u", row(2), row(2, a="y")), ("d", row(3), None), ("c", None, row(4))]
        with store.begin() as transaction:
            apply(transaction, [published(row(1), row(2), row(3), after=0), make_batch(SCHEMA, changes, 1)])
        assert sorted((each["id"], each["a"]) for each in read("shop", "things")) == [(1, "x"), (2, "y"), (4, "x")]

    def test_a_deleted_row_returns(self, store: TableStore, read: ReadTable) -> None:
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1)), make_batch(SCHEMA, [("d", row(1), None)], 1)], SOFT)
            apply(transaction, [published(row(1, a="back"), after=1)], SOFT)
        [found] = read("shop", "things")
        assert (found["a"], found["gone"]) == ("back", None)

    def test_a_row_that_the_mirror_has_starts_no_version(self, store: TableStore, read: ReadTable) -> None:
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1), row(2))], HISTORY)
            apply(transaction, [published(row(1), row(2, a="other"), row(3), after=1)], HISTORY)
            apply(transaction, [published(row(1), row(2, a="other"), row(3), after=1, first=3)], HISTORY)
            apply(transaction, [make_batch(SCHEMA, [("d", row(3), None)], 2)], HISTORY)
        versions = [
            (each["id"], each["a"], each["from_pos"], each["to_pos"]) for each in read("shop", "things__history")
        ]
        assert sorted(versions, key=repr) == [
            (1, "x", 1000, None),
            (2, "other", 1140, None),
            (2, "x", 1100, 1140),
            (3, "x", 1140, 1200),
        ]

    def test_a_change_of_a_row_that_the_mirror_lacks_starts_a_version(self, store: TableStore, read: ReadTable) -> None:
        changes: list[Any] = [("u", row(n), row(n, a="y")) for n in range(3000)]
        with store.begin() as transaction:
            apply(transaction, [inserts(row(5)), make_batch(SCHEMA, changes, 1)], HISTORY)
            apply(transaction, [make_batch(SCHEMA, [("d", row(7000), None), ("c", None, row(7000))], 5000)], HISTORY)
        current = [each["id"] for each in read("shop", "things__history") if each["valid_to"] is None]
        assert sorted(current) == [*range(3000), 7000]

    @pytest.mark.parametrize("options", [DEFAULT_OPTIONS, SOFT, HISTORY], ids=["plain", "soft", "history"])
    def test_without_a_key_a_row_that_the_mirror_has_stays_one_row(
        self, store: TableStore, read: ReadTable, options: MirrorOptions
    ) -> None:
        with store.begin() as transaction:
            apply(transaction, [make_batch(KEYLESS, [("c", None, row(1)), ("c", None, row(2, a=None))])], options)
            batch = published(row(1), row(2, a=None), row(3), after=1, schema=KEYLESS)
            assert apply(transaction, [batch, batch], options) is None
            apply(transaction, [make_batch(KEYLESS, [("u", row(3), row(3, a="y"))], 2)], options)
        found = sorted(((each["id"], each["a"]) for each in read("shop", "things")), key=repr)
        assert found == [(1, "x"), (2, None), (3, "y")]

    @pytest.mark.parametrize("schema", [KEYLESS, SCHEMA], ids=["keyless", "keyed"])
    @pytest.mark.parametrize("options", [DEFAULT_OPTIONS, SOFT, HISTORY], ids=["plain", "soft", "history"])
    def test_a_whole_table_replaces_all_rows(
        self, store: TableStore, read: ReadTable, options: MirrorOptions, schema: TableSchema
    ) -> None:
        same = [row(1), row(1)] if schema is KEYLESS else [row(1)]
        whole = [None, *same, row(3)]
        stages = ["first", *["true"] * len(same), "last"]
        with store.begin() as transaction:
            before: list[Any] = [("c", None, each) for each in [*same, row(2)]]
            apply(transaction, [make_batch(schema, before)], options)
            for first in (0, len(whole)):  # a crash among the rows, and all of them again
                at = PublishedAt("s1", FIRST_ORDINAL + first, 1540, ts_us=9)
                batch = publish_rows(schema, whole, at, stages=stages)
                parts = [batch.slice(0, 2)] if not first else [batch.slice(0, 2), batch.slice(2, len(whole))]
                assert apply(transaction, parts, options) is None
            apply(transaction, [make_batch(schema, [("d", row(1), None)], 6)], options)
        rows = read("shop", "things")
        live = [each["id"] for each in rows if options is not SOFT or each["gone"] is None]
        assert sorted(live) == [*[1] * (len(same) - 1), 3]
        if options is SOFT:
            assert 2 in [each["id"] for each in rows if each["gone"] is not None]
        if options is HISTORY:
            versions = [(each["id"], each["to_pos"]) for each in read("shop", "things__history")]
            assert sorted(each for each, end in versions if end is None) == sorted(live)
            assert (2, 1540) in versions

    def test_zeros_of_different_sign_are_different_rows(self, store: TableStore, read: ReadTable) -> None:
        with store.begin() as transaction:
            apply(transaction, [make_batch(FLOATS, [("c", None, {"id": 1, "x": 0.0})])])
            apply(transaction, [published({"id": 1, "x": -0.0}, {"id": 1, "x": 0.0}, after=0, schema=FLOATS)])
        assert sorted(str(each["x"]) for each in read("shop", "things")) == ["-0.0", "0.0"]

    @pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 12), marks=pytest.mark.exhaustive)])
    def test_rows_among_changes_in_one_batch_apply_in_order(
        self, store: TableStore, read: ReadTable, seeds: range
    ) -> None:
        for schema, options in ((SCHEMA, DEFAULT_OPTIONS), (SCHEMA, HISTORY), (KEYLESS, DEFAULT_OPTIONS)):
            for seed in seeds:
                _check_random_stream(store, read, schema, options, seed)

    def test_a_loaded_mirror_skips_rows_published_before_it_was_read(self, store: TableStore, read: ReadTable) -> None:
        read_at = Checkpoint(BinlogPosition("binlog.000001", 1240), SERVER_UUID)
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1, a="loaded"))])
            transaction.store_mirror(replace(transaction.load_mirror("shop", "things"), read_at=read_at))
            apply(transaction, [published(row(1, a="older"), after=1), published(row(2), after=2, first=1)])
        assert sorted((each["id"], each["a"]) for each in read("shop", "things")) == [(1, "loaded"), (2, "x")]

    def test_a_loaded_mirror_skips_rows_of_another_server(self, store: TableStore, read: ReadTable) -> None:
        read_at = Checkpoint(BinlogPosition("other.000001", 4), OTHER_SERVER)
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1, a="loaded"))])
            transaction.store_mirror(replace(transaction.load_mirror("shop", "things"), read_at=read_at))
            apply(transaction, [published(row(1, a="older"), after=1)])
            assert transaction.load_mirror("shop", "things").read_at == read_at
        assert [each["a"] for each in read("shop", "things")] == ["loaded"]


def _check_random_stream(
    store: TableStore, read: ReadTable, schema: TableSchema, options: MirrorOptions, seed: int
) -> None:
    """A mirror that begins in the middle equals the table once all its rows were published, among changes."""
    pick = random.Random(seed)  # noqa: S311
    table = {number: row(number) for number in range(12)}
    unread = sorted(table)
    batches, number, ordinal = list[ChangeBatch](), 0, 0
    while unread or number < 25:
        at = pick.randrange(16)
        before = table.pop(at, None)
        if pick.random() < 0.6:
            table[at] = row(at, a=str(number))
        after = table.get(at)
        if before or after:
            op: Any = "d" if after is None else "c" if before is None else "u"
            batches.append(make_batch(schema, [(op, before, after)], number))
            number += 1
        if number and pick.random() < 0.4:
            chunk, unread = unread[:3], unread[3:]
            rows = [table[key] for key in chunk if key in table]
            batches.append(published(*rows, after=number - 1, first=ordinal, schema=schema))
            ordinal += len(rows)
    with store.begin() as transaction:
        transaction.forget_mirror("shop", "things")
    for start in range(0, len(batches), 5):
        with store.begin() as transaction:
            apply(transaction, batches[start : start + 5], options)
    found = sorted((each["id"], each["a"]) for each in read("shop", "things"))
    assert found == sorted((each["id"], each["a"]) for each in table.values()), seed
    if options.history:
        current = [each for each in read("shop", "things__history") if each["valid_to"] is None]
        assert sorted((each["id"], each["a"]) for each in current) == found, seed
        with store.begin() as transaction:
            transaction.connection.execute("DROP TABLE shop.things__history")
