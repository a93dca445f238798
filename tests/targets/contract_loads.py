"""The part of the contract of a `TableStore` about loads: a spare table that is filled, and replaces the mirror's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConsumeError, SourceError
from binlogsync.mirror.apply import apply
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.targets import TableStore
from binlogsync.targets.load_state import LoadState
from tests.duck import SERVER_UUID, make_batch
from tests.targets.contract_mirrors import READ_AT, SCHEMA, SOFT, inserts, row

ReadTable = Callable[[str, str], Sequence[dict[str, Any]]]
LOAD = LoadState(READ_AT, 5, SERVER_UUID, SCHEMA, ("g",), ("id",), 5, stream="2026-01-01")


def rows_read(*rows: dict[str, Any], schema: TableSchema = SCHEMA) -> ChangeBatch:
    """Rows of a snapshot."""
    return make_batch(schema, [("r", None, each) for each in rows])


def load(store: TableStore, *rows: dict[str, Any], schema: TableSchema = SCHEMA, owner: str = "one") -> None:
    """Begin a load, and store these rows in the spare table."""
    with store.begin() as transaction:
        state = transaction.load_mirror("shop", "things")
        transaction.begin_load(state, schema, owner)
        assert transaction.insert_rows(state, schema, [rows_read(*rows, schema=schema)]) == len(rows)


def finish(store: TableStore, schema: TableSchema = SCHEMA, gone_us: int = 7) -> None:
    """Replace the mirror by its spare table."""
    with store.begin() as transaction:
        state = transaction.replace_table(transaction.load_mirror("shop", "things"), schema, gone_us)
        assert transaction.load_mirror("shop", "things").schema == state.schema == schema


def store_owned_row(store: TableStore, owner: str, number: int) -> None:
    """Store a row if the owner owns the spare table."""
    with store.begin() as transaction:
        state = transaction.load_mirror("shop", "things")
        transaction.check_owner(state, owner)
        transaction.insert_rows(state, SCHEMA, [rows_read(row(number))])


def store_failing_chunk(store: TableStore) -> None:
    """Store a chunk whose second batch cannot be read."""

    def read_rows() -> Iterator[ChangeBatch]:
        yield rows_read(row(2))
        raise SourceError("the server is gone")

    with store.begin() as transaction:
        state = transaction.load_mirror("shop", "things")
        transaction.store_load(state, replace(LOAD, rows=2), "one")
        transaction.insert_rows(state, SCHEMA, read_rows())


class LoadContract:
    @pytest.fixture
    def values(self, read: ReadTable) -> Callable[[], list[tuple[int, str]]]:
        return lambda: sorted((each["id"], each["a"]) for each in read("shop", "things"))

    def test_a_rebuild_replaces_the_table_at_once(self, store: TableStore, values: Callable[[], Any]) -> None:
        """Readers see the old rows until the new ones are complete; changes before the snapshot are skipped."""
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1), row(2))])
        load(store, row(2, a="new"))
        for number in (3, 4):
            with store.begin() as transaction:
                state = transaction.load_mirror("shop", "things")
                transaction.insert_rows(state, SCHEMA, [rows_read(row(number, a="new"))])
            assert values() == [(1, "x"), (2, "x")]
        finish(store)
        new = [(2, "new"), (3, "new"), (4, "new")]
        assert values() == new
        with store.begin() as transaction:
            transaction.store_mirror(replace(transaction.load_mirror("shop", "things"), read_at=READ_AT))
        with store.begin() as transaction:
            apply(transaction, [inserts(row(2, a="old"), row(3, a="old"), row(5, a="later"))])
        assert values() == [*new, (5, "later")]

    def test_an_abandoned_load_leaves_nothing(self, store: TableStore, values: Callable[[], Any]) -> None:
        for number in (1, 2):
            load(store, row(number))
        finish(store)
        assert values() == [(2, "x")]
        load(store, row(3))
        for _ in range(2):
            with store.begin() as transaction:
                transaction.drop_load(transaction.load_mirror("shop", "things"))
        load(store, row(4))
        finish(store)
        assert values() == [(4, "x")]

    def test_soft_deletes_survive_a_rebuild(self, store: TableStore, read: ReadTable) -> None:
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1), row(2)), make_batch(SCHEMA, [("d", row(1), None)], 2)], SOFT)
        load(store, row(3))
        finish(store)
        deleted = {each["id"]: each["gone"] is not None for each in read("shop", "things")}
        assert deleted == {1: True, 2: True, 3: False}
        taken = replace(SCHEMA, columns=(replace(SCHEMA.columns[0], name="Gone"),), primary_key=())
        load(store, schema=taken)
        with pytest.raises(ConsumeError, match="already has a column gone"):
            finish(store, taken)

    def test_the_state_of_a_load_is_stored_with_its_rows(
        self, store: TableStore, opener: Callable[[], TableStore], values: Callable[[], Any]
    ) -> None:
        with store.begin() as transaction:
            state = transaction.load_mirror("shop", "things")
            assert transaction.find_load(state) is None
        load(store)
        with store.begin() as transaction:
            assert transaction.find_load(state) is None, "it has begun, but has no state yet"
            transaction.store_load(state, LOAD, "one")
        high = Checkpoint(BinlogPosition("binlog.000001", 9000), SERVER_UUID, None, 0, 5)
        moved = replace(LOAD, last_key=("1", "'it''s'"), rows=1, high=high, applied=9)
        with store.begin() as transaction:
            transaction.insert_rows(state, SCHEMA, [rows_read(row(1))])
            transaction.store_load(state, moved, "one")
        with pytest.raises(SourceError, match="the server is gone"):
            store_failing_chunk(store)
        with opener().begin() as transaction:
            assert transaction.find_load(transaction.load_mirror("shop", "things")) == moved
            assert transaction.find_load(transaction.load_mirror("shop", "other")) is None
        finish(store)
        assert values() == [(1, "x")]
        with store.begin() as transaction:
            assert transaction.find_load(transaction.load_mirror("shop", "things")) is None

    def test_only_the_owner_adds_rows(
        self, store: TableStore, opener: Callable[[], TableStore], values: Callable[[], Any]
    ) -> None:
        load(store, owner="one")
        store_owned_row(store, "one", 1)
        other = opener()
        with other.begin() as transaction:
            transaction.store_load(transaction.load_mirror("shop", "things"), LOAD, "two")
        with pytest.raises(ConsumeError, match="another process"):
            store_owned_row(store, "one", 2)
        store_owned_row(other, "two", 3)
        finish(other)
        assert values() == [(1, "x"), (3, "x")]
        for owner in ("one", "two"):
            with pytest.raises(ConsumeError):
                store_owned_row(store, owner, 4)

    def test_a_load_of_a_missing_table_has_an_owner_too(self, store: TableStore) -> None:
        with store.begin() as transaction:
            state = transaction.load_mirror("shop", "things")
            transaction.begin_load(state, None, "one")
        with store.begin() as transaction:
            transaction.check_owner(state, "one")
            assert transaction.find_load(state) is None
            transaction.drop_load(state)

    def test_changes_are_applied_to_the_rows_of_a_load(self, store: TableStore, values: Callable[[], Any]) -> None:
        """By the unique key that the rows were read by; applied again, they change nothing."""
        keyless = replace(SCHEMA, primary_key=())
        load(store, row(1), row(2), row(3), schema=keyless)
        changes: list[Any] = [
            ("u", row(1), row(1, a="y")),
            ("d", row(2), None),
            ("u", row(3), row(4, a="moved")),
            ("c", None, row(5)),
            ("u", row(5), row(5, a="z")),
        ]
        for _ in range(2):
            with store.begin() as transaction:
                state = transaction.load_mirror("shop", "things")
                parts = [make_batch(SCHEMA, changes[:2]), make_batch(SCHEMA, changes[2:], 2)]
                transaction.apply_to_spare(state, SCHEMA, parts)
        finish(store, keyless)
        assert values() == [(1, "y"), (4, "moved"), (5, "z")]

    def test_a_table_that_was_built_aside_is_copied(self, store: TableStore, values: Callable[[], Any]) -> None:
        load(store, row(9))
        if (scratch := store.scratch()) is None:
            return
        with scratch as built:
            with built.begin() as transaction:
                former = replace(SCHEMA, table="former")
                apply(transaction, [inserts(row(1), row(2, a="y"), schema=former)])
                state = replace(transaction.load_mirror("shop", "former"), left_out=("g",))
                moved = transaction.move_table(state, "shop", "things")
                assert (moved.schema, moved.left_out) == (SCHEMA, ("g",))
                assert transaction.load_mirror("shop", "former").schema is None
            with built.begin() as source:
                for rows in source.read_rows(moved):
                    with store.begin() as transaction:
                        transaction.copy_rows(transaction.load_mirror("shop", "things"), rows)
        finish(store)
        assert values() == [(1, "x"), (2, "y"), (9, "x")]
