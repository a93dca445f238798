"""The part of the contract of a `TableStore` about the policies of mirrors: drops, names, metadata columns, keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from binlogsync.errors import ConsumeError
from binlogsync.mirror.apply import apply
from binlogsync.targets import TableStore, TableTransaction
from binlogsync.targets.mirror_options import MirrorOptions
from binlogsync.targets.mirror_state import ChangePosition, MirrorState
from tests.duck import SERVER_UUID, Change, make_batch
from tests.published_rows import PublishedAt, publish_rows
from tests.targets.contract_mirrors import SCHEMA, SOFT, ReadTable, inserts, row

LOOSE = replace(SCHEMA, primary_key=())
METADATA = ("_op", "_commit_ts", "_gtid")
_FIRST = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def commit(number: int) -> tuple[datetime, str]:
    """Commit time and GTID of the change of that number, as `make_batch` makes them."""
    return _FIRST + timedelta(microseconds=number), f"{SERVER_UUID}:{number + 1}"


def created(transaction: TableTransaction, options: MirrorOptions, *numbers: int) -> MirrorState:
    """The mirror shop.things with rows of these ids."""
    assert apply(transaction, [inserts(*map(row, numbers))], options) is None
    return transaction.load_mirror("shop", "things")


def metadata_of(rows: Sequence[dict[str, Any]]) -> dict[Any, tuple[Any, ...]]:
    return {(each["id"], each["a"]): tuple(each[name] for name in METADATA) for each in rows}


class PolicyContract:
    @pytest.mark.parametrize("on_drop", ["keep", "archive"])
    def test_the_rows_of_a_dropped_table_stay(self, store: TableStore, read: ReadTable, on_drop: Any) -> None:
        options = MirrorOptions(on_drop=on_drop)
        with store.begin() as transaction:
            state = transaction.drop_or_keep_table(created(transaction, options, 1), 77)
            assert (state.schema, state.policies.kept_us) == (None, 77 if on_drop == "keep" else None)
        for number, name in enumerate(("things__dropped_77", "things__dropped_77__2")):
            with store.begin() as transaction:  # a second table of the name, dropped at the same time
                created(transaction, options, number + 2)
            assert [each["id"] for each in read("shop", name)] == [number + 1]
            with store.begin() as transaction:
                transaction.drop_or_keep_table(transaction.load_mirror("shop", "things"), 77)
        with store.begin() as transaction:
            created(transaction, options, 9)
            state = transaction.load_mirror("shop", "things")
        assert [each["id"] for each in read("shop", "things")] == [9]
        assert (state.policies.on_drop, state.policies.kept_us) == (on_drop, None)

    def test_a_kept_table_stays_in_place_until_a_load_replaces_it(self, store: TableStore, read: ReadTable) -> None:
        with store.begin() as transaction:
            state = created(transaction, replace(SOFT, on_drop="keep"), 1)
            state = transaction.drop_or_keep_table(state, 77)
            transaction.drop_or_keep_table(state, 99)
        assert [(each["id"], each["gone"]) for each in read("shop", "things")] == [
            (1, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=77))
        ]
        with store.begin() as transaction:
            state = transaction.load_mirror("shop", "things")
            transaction.begin_load(state, SCHEMA, "one")
            transaction.insert_rows(state, SCHEMA, [make_batch(SCHEMA, [("r", None, row(5))])])
            state = transaction.replace_table(state, SCHEMA, 100)
            assert state.policies.kept_us is None
        assert [each["id"] for each in read("shop", "things")] == [5]
        assert [each["id"] for each in read("shop", "things__dropped_77")] == [1]

    def test_a_kept_table_is_forgotten_with_its_mirror(self, store: TableStore) -> None:
        with store.begin() as transaction:
            transaction.drop_or_keep_table(created(transaction, MirrorOptions(on_drop="keep"), 1), 77)
            assert transaction.count_rows("shop", "things") == 1
            transaction.forget_mirror("shop", "things")
            assert transaction.count_rows("shop", "things") is None

    def test_a_mirror_has_the_names_of_its_options(self, store: TableStore, read: ReadTable) -> None:
        options = MirrorOptions(target_schema="raw_{source}", target_table="{database}_{table}", history=True)
        named = options.for_table("main", "shop", "things")
        with store.begin() as transaction:
            state = created(transaction, named, 1)
            assert state.location[1:] == ("raw_main", "shop_things")
            assert apply(transaction, [inserts(row(2), first=5)], state.options) is None
            assert transaction.count_rows("shop", "things") == 2
        assert [each["id"] for each in read("raw_main", "shop_things")] == [1, 2]
        assert [each["id"] for each in read("raw_main", "shop_things__history")] == [1, 2]
        with pytest.raises(ConsumeError, match="keep the former name"), store.begin() as transaction:
            apply(transaction, [inserts(row(3), first=9)], options.for_table("other", "shop", "things"))
        with pytest.raises(ConsumeError, match="are not set now"), store.begin() as transaction:
            apply(transaction, [inserts(row(3), first=9)], MirrorOptions(history=True))
        for location in (("RAW_main", "shop_Things"), ("raw_main", "shop_things__history")):
            with pytest.raises(ConsumeError, match="another mirror"), store.begin() as transaction:
                transaction.place_mirror(transaction.load_mirror("shop", "other"), location)

    def test_metadata_columns_have_the_last_change_of_each_row(self, store: TableStore, read: ReadTable) -> None:
        options = MirrorOptions(metadata=METADATA)
        with store.begin() as transaction:
            created(transaction, MirrorOptions(), 1, 2)
            changes: list[Change] = [
                ("u", row(2), row(2, a="new")), ("c", None, row(3)), ("r", None, row(4)), ("d", row(3), None),
            ]  # fmt: skip
            assert apply(transaction, [make_batch(SCHEMA, changes, 10)], options) is None
            state = transaction.load_mirror("shop", "things")
            assert (state.policies.metadata, state.schema) == (METADATA, SCHEMA)
            assert transaction.ensure_metadata(state, METADATA) == state
        assert metadata_of(read("shop", "things")) == {
            (1, "x"): (None, None, None),
            (2, "new"): ("u", *commit(10)),
            (4, "x"): ("r", commit(12)[0], None),
        }
        with pytest.raises(ConsumeError, match="metadata column _commit_ts"), store.begin() as transaction:
            apply(transaction, [inserts(row(7), first=20)], MirrorOptions(metadata=("_op",)))

    def test_metadata_of_rows_that_are_deleted_or_read(self, store: TableStore, read: ReadTable) -> None:
        options = replace(SOFT, metadata=METADATA)
        with store.begin() as transaction:
            created(transaction, options, 1, 2)
            assert apply(transaction, [make_batch(SCHEMA, [("d", row(1), None)], 10)], options) is None
            state = transaction.load_mirror("shop", "things")
            transaction.begin_load(state, SCHEMA, "one")
            transaction.insert_rows(state, SCHEMA, [make_batch(SCHEMA, [("r", None, row(5)), ("r", None, row(6))], 30)])
            transaction.apply_to_spare(state, SCHEMA, [make_batch(SCHEMA, [("u", row(6), row(6, a="new"))], 40)])
            transaction.replace_table(state, SCHEMA, 50)
        at = datetime(1970, 1, 1, tzinfo=UTC)
        assert metadata_of(read("shop", "things")) == {
            (1, "x"): ("d", *commit(10)),
            (2, "x"): ("d", at + timedelta(microseconds=50), None),
            (5, "x"): ("r", commit(30)[0], None),
            (6, "new"): ("u", *commit(40)),
        }
        with store.begin() as transaction:
            transaction.delete_rows(transaction.load_mirror("shop", "things"), 60)
        truncated = metadata_of(read("shop", "things"))
        assert truncated[5, "x"] == ("d", at + timedelta(microseconds=60), None)
        assert truncated[1, "x"] == ("d", *commit(10))

    @pytest.mark.parametrize("name", METADATA)
    @pytest.mark.parametrize("is_new", [True, False])
    def test_deletes_are_marked_in_a_column_named_like_metadata(
        self, store: TableStore, read: ReadTable, name: str, is_new: bool
    ) -> None:
        options = MirrorOptions(name)
        with store.begin() as transaction:
            state = created(transaction, options if is_new else MirrorOptions(), 1, 2)
            assert apply(transaction, [make_batch(SCHEMA, [("d", row(1), None)], 10)], options) is None
            state = transaction.load_mirror("shop", "things")
        found = sorted((each["id"], each[name]) for each in read("shop", "things"))
        assert found == [(1, commit(10)[0]), (2, None)]
        with store.begin() as transaction:
            transaction.drop_or_keep_table(state, 77)

    def test_metadata_of_equal_rows_and_of_published_ones(self, store: TableStore, read: ReadTable) -> None:
        options = MirrorOptions(metadata=METADATA)
        changes: list[Change] = [("c", None, row(1)), ("c", None, row(2)), ("u", row(2), row(1))]
        with store.begin() as transaction:
            assert apply(transaction, [make_batch(LOOSE, changes)], options) is None
            state = transaction.load_mirror("shop", "things")
            published = make_batch(LOOSE, [("r", None, row(1)), ("r", None, row(9))], 20)
            transaction.apply_published(state, [published], ChangePosition(70, "binlog.000001", 9), has_history=False)
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=70)
        found = sorted((each["id"], each["_op"], each["_commit_ts"], each["_gtid"]) for each in read("shop", "things"))
        assert found == [(1, "u", *commit(2)), (1, "u", *commit(2)), (9, "r", at, None)]

    def test_a_column_of_the_source_is_not_overwritten_by_metadata(self, store: TableStore) -> None:
        other = replace(SCHEMA, columns=(*SCHEMA.columns, replace(SCHEMA.columns[1], name="_OP")))
        batch = make_batch(other, [("c", None, {**row(1), "_OP": "mine"})])
        with pytest.raises(ConsumeError, match="already has a column _op; remove _op from `metadata`"):
            self.apply_in(store, batch, MirrorOptions(metadata=("_op",)))
        self.apply_in(store, batch, MirrorOptions())
        with pytest.raises(ConsumeError, match="already has a column _op"):
            self.apply_in(store, batch, MirrorOptions(metadata=("_gtid", "_op")))

    @staticmethod
    def apply_in(store: TableStore, batch: Any, options: MirrorOptions) -> None:
        with store.begin() as transaction:
            apply(transaction, [batch], options)

    @pytest.mark.parametrize(
        "changes",
        [
            [("c", None, row(7)), ("c", None, row(7, a="y"))],
            [("c", None, row(1, a="y"))],
            [("u", row(2), row(1))],
            [("d", row(1), None), ("c", None, row(1)), ("u", row(2), row(1))],
            [("c", None, row(3, id=None))],
            [("r", None, row(5)), ("r", None, row(6)), ("r", None, row(5, a="y"))],
            [("u", row(1), row(1, id=None))],
        ],
    )
    def test_a_key_that_identifies_no_row_is_refused(
        self, store: TableStore, read: ReadTable, changes: list[Change]
    ) -> None:
        options = MirrorOptions(key=("ID",))
        with store.begin() as transaction:
            assert apply(transaction, [make_batch(LOOSE, [("c", None, row(1)), ("c", None, row(2))])], options) is None
        with pytest.raises(
            ConsumeError, match=r"shop\.things: the key \(id\) of the mirror does not identify a row: id"
        ):
            self.apply_in(store, make_batch(LOOSE, changes, 10), options)
        assert [each["id"] for each in read("shop", "things")] == [1, 2]

    def test_rows_are_identified_by_the_key_of_the_options(self, store: TableStore, read: ReadTable) -> None:
        changes: list[Change] = [
            ("u", row(1), row(1, a="y")), ("d", row(2), None), ("c", None, row(2, a="z")), ("u", row(2, a="z"), row(4)),
            ("c", None, row(2, a="last")), ("t", None, None), ("c", None, row(1, a="after")),
        ]  # fmt: skip
        for options in (MirrorOptions(key=("id",)), replace(SOFT, key=("id",), history=True)):
            with store.begin() as transaction:
                transaction.forget_mirror("shop", "things")
                assert apply(transaction, [make_batch(LOOSE, [("c", None, row(n)) for n in (1, 2)])], options) is None
                assert apply(transaction, [make_batch(LOOSE, changes[:5], 10)], options) is None
                state = transaction.load_mirror("shop", "things")
                assert state.schema == replace(LOOSE, primary_key=("id",))
            live = [each for each in read("shop", "things") if each.get("gone") is None]
            assert sorted((each["id"], each["a"]) for each in live) == [(1, "y"), (2, "last"), (4, "x")]
            with store.begin() as transaction:
                assert apply(transaction, [make_batch(LOOSE, changes[5:], 20)], options) is None
            live = [each for each in read("shop", "things") if each.get("gone") is None]
            assert [(each["id"], each["a"]) for each in live] == [(1, "after")]

    @pytest.mark.parametrize("history", [False, True])
    @pytest.mark.parametrize("rows", [[row(5), row(6), row(5, a="y")], [row(5), row(6, id=None)]])
    def test_rows_of_a_snapshot_with_one_key_are_refused(
        self, store: TableStore, rows: list[Any], history: bool
    ) -> None:
        options = MirrorOptions(key=("id",), history=history)
        self.apply_in(store, make_batch(LOOSE, [("c", None, row(1))]), options)
        with pytest.raises(ConsumeError, match="does not identify a row: id"):
            self.apply_in(store, publish_rows(LOOSE, rows, PublishedAt("s1", 10, 9000)), options)
        self.apply_in(store, publish_rows(LOOSE, [row(1, a="y"), row(2)], PublishedAt("s1", 10, 9000)), options)
        with store.begin() as transaction:
            assert transaction.count_rows("shop", "things") == 2

    @pytest.mark.parametrize("history", [False, True])
    def test_rows_of_a_whole_table_have_a_key_each(self, store: TableStore, read: ReadTable, history: bool) -> None:
        options = MirrorOptions(key=("id",), history=history)

        def publish(first: int, *rows: Any) -> Any:
            stages = ["first", *["true"] * (len(rows) - 1), "last"]
            return publish_rows(LOOSE, [None, *rows], PublishedAt("s1", first, 9000), stages=stages)

        with store.begin() as transaction:
            assert apply(transaction, [make_batch(LOOSE, [("c", None, row(1))])], options) is None
        for first in (10, 20):  # the second one after a crash of the tail
            self.apply_in(store, publish(first, row(1, a="y"), row(2)), options)
        assert sorted((each["id"], each["a"]) for each in read("shop", "things")) == [(1, "y"), (2, "x")]
        parts = publish(30, row(3), row(4), row(3))
        with pytest.raises(ConsumeError, match="id = 3 is that of"):
            self.apply_in(store, parts, options)
        self.apply_in(store, parts.slice(0, 3), options)
        with pytest.raises(ConsumeError, match="id = 3 is that of"):
            self.apply_in(store, parts.slice(3, 4), options)

    @pytest.mark.parametrize(
        ("rows", "what"),
        [([row(1), row(1)], "id = 1 is that of 2 rows"), ([row(2), row(1, id=None)], "id = NULL has a NULL")],
    )
    def test_a_load_with_a_key_that_identifies_no_row_is_refused(
        self, store: TableStore, rows: list[Any], what: str
    ) -> None:
        with pytest.raises(ConsumeError, match=what):
            self.load(store, make_batch(LOOSE, [("r", None, each) for each in rows]))

    @staticmethod
    def load(store: TableStore, batch: Any) -> None:
        with store.begin() as transaction:
            state = transaction.load_mirror("shop", "things")
            state = replace(state, policies=replace(state.policies, key=("id",)))
            transaction.begin_load(state, LOOSE, "one")
            transaction.insert_rows(state, LOOSE, [batch])
            transaction.replace_table(state, replace(LOOSE, primary_key=("id",)), 5)
