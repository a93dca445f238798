"""The part of the contract of a `TableStore` about the tables of mirrors: names, history, repairs, fingerprints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from binlogsync.errors import ConsumeError
from binlogsync.mirror.apply import apply
from binlogsync.mirror.verify_text import hash_texts, server_texts
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.schema import Column, TableSchema
from binlogsync.targets import TableStore
from binlogsync.targets.fingerprints import FingerprintRequest
from binlogsync.targets.mirror_state import ChangePosition, MirrorOptions
from binlogsync.targets.progress import ProgressKey
from binlogsync.targets.records import RepairRecord
from tests.duck import SERVER_UUID, make_batch

SCHEMA = TableSchema(
    "shop",
    "things",
    (
        Column("id", "int", nullable=False),
        Column("a", "varchar", length=20, charset="utf8mb4"),
        Column("n", "bigint", unsigned=True),
    ),
    ("id",),
)
ROW: dict[str, Any] = {"id": 1, "a": "x", "n": 2**64 - 1}
READ_AT = Checkpoint(BinlogPosition("binlog.000001", 1150), SERVER_UUID, None, 0, 5)
SOFT = MirrorOptions(deleted_at="gone")
ReadTable = Callable[[str, str], Sequence[dict[str, Any]]]


def row(number: int, **changed: Any) -> dict[str, Any]:
    return {**ROW, "id": number, **changed}


def inserts(*rows: dict[str, Any], schema: TableSchema = SCHEMA, first: int = 0) -> Any:
    return make_batch(schema, [("c", None, each) for each in rows], first)


class MirrorContract:
    def test_the_state_of_a_mirror_is_stored(self, store: TableStore, opener: Callable[[], TableStore]) -> None:
        with store.begin() as transaction:
            state = transaction.load_mirror("shop", "things")
            assert (state.is_known, state.schema, state.read_at) == (False, None, None)
            state = transaction.create_table(state, SCHEMA)
            state = transaction.store_mirror(replace(state, read_at=READ_AT, left_out=("g",)))
        with opener().begin() as transaction:
            assert transaction.load_mirror("shop", "things") == state
            assert not transaction.has_row(state)
            transaction.drop_table(state)
        with store.begin() as transaction:
            gone = transaction.load_mirror("shop", "things")
        assert (gone.is_known, gone.schema, gone.location) == (True, None, state.location)

    def test_a_mirror_is_forgotten(self, store: TableStore, read: ReadTable) -> None:
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1))])
        with store.begin() as transaction:
            transaction.forget_mirror("shop", "things")
            assert not transaction.load_mirror("shop", "things").is_known
            apply(transaction, [inserts(row(2))])
        assert [each["id"] for each in read("shop", "things")] == [2]

    def test_a_row_is_found_by_any_of_several_conditions(self, store: TableStore) -> None:
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1, n=None))])
            state, is_null = transaction.load_mirror("shop", "things"), transaction.converter.is_null
            assert transaction.has_row(state)
            assert transaction.has_row(state, is_null("a"), is_null("n"))
            assert not transaction.has_row(state, is_null("a"), is_null("id"))

    @pytest.mark.parametrize(
        "names", [("shop", "Things"), ("SHOP", "things"), ("shop", 'a "b".c'), ("sh.op", "t"), ("shop", "things__2")]
    )
    def test_each_table_has_a_mirror_of_its_own(
        self, store: TableStore, read: ReadTable, names: tuple[str, str]
    ) -> None:
        """MySQL on Linux has tables whose names differ in case only; the second mirror gets another name."""
        other = replace(SCHEMA, database=names[0], table=names[1])
        with store.begin() as transaction:
            for schema, number in ((SCHEMA, 1), (other, 2)):
                assert apply(transaction, [inserts(row(number), schema=schema)]) is None
            states = [transaction.load_mirror(schema.database, schema.table) for schema in (SCHEMA, other)]
        assert [state.name for state in states] == ["shop.things", ".".join(names)]
        found = [[each["id"] for each in read(*state.location[1:])] for state in states]
        assert found == [[1], [2]]

    def test_a_table_of_somebody_else_is_not_overwritten(self, store: TableStore) -> None:
        with store.begin() as transaction:
            state = transaction.load_mirror("shop", "things")
            transaction.create_table(state, SCHEMA)
        with pytest.raises(ConsumeError, match="not a mirror"), store.begin() as transaction:
            transaction.create_table(replace(state, schema=None), SCHEMA)

    def test_every_version_of_a_row_is_kept(self, store: TableStore, read: ReadTable) -> None:
        history = MirrorOptions(history=True)
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1)), make_batch(SCHEMA, [("u", row(1), row(1, a="y"))], 1)], history)
            state = transaction.load_mirror("shop", "things")
            transaction.close_versions(state, ChangePosition(9, "binlog.000001", 2000))
            state = transaction.open_versions(state, ChangePosition(9, "binlog.000001", 2000))
        assert state.history_table is not None
        versions = read(state.location[1], state.history_table)
        found = sorted((each["from_pos"], each["to_pos"] or 0, each["a"]) for each in versions)
        assert found == [(1000, 1100, "x"), (1100, 2000, "y"), (2000, 0, "y")]

    @pytest.mark.parametrize("options", [MirrorOptions(), MirrorOptions(deleted_at="gone", history=True)])
    def test_a_repair_replaces_rows_at_its_position(
        self, store: TableStore, read: ReadTable, options: MirrorOptions
    ) -> None:
        key = ProgressKey("dagster", "main", "shop", "things")
        request = FingerprintRequest("r1", READ_AT)
        wanted = RepairRecord(key, "ann", str(READ_AT), "1", "9", 5)
        rows = make_batch(SCHEMA, [("r", None, row(1)), ("r", None, row(2, a="new")), ("r", None, row(5, a="added"))])
        keys = pa.table({"k0": ["1", "2", "3", "5", "9"]})
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1), row(2), row(3), row(4))], options)
            state = transaction.load_mirror("shop", "things")
            # A server may find a row for several keys.
            transaction.insert_repair(state, request, wanted, (SCHEMA, keys, [rows, rows.slice(0, 2)]))
        with store.begin() as transaction:
            assert transaction.load_requests() == {("shop", "things"): [request]}
            assert transaction.take_repair(request) is None
            assert list(transaction.load_repairs(key)) == []
        assert {each["a"] for each in read("shop", "things")} == {"x"}
        for _ in range(2):  # the mirror's consumer and the repair may both apply it
            with store.begin() as transaction:
                transaction.write_fingerprint(transaction.load_mirror("shop", "things"), request)
        live = [each for each in read("shop", "things") if each.get("gone") is None]
        assert sorted((each["id"], each["a"]) for each in live) == [(1, "x"), (2, "new"), (4, "x"), (5, "added")]
        expected = replace(wanted, rows_read=3, inserted=1, updated=1, deleted=1)
        with store.begin() as transaction:
            assert transaction.take_repair(request) == expected
            with pytest.raises(LookupError):
                transaction.take_repair(request)
            transaction.delete_request(request)
            assert list(transaction.load_repairs(key)) == [expected]
            state = transaction.load_mirror("shop", "things")
        if options.history:
            assert {each["id"]: each["gone"] for each in read("shop", "things") if each["gone"]}.keys() == {3}
            assert state.history_table is not None
            versions = read(state.location[1], state.history_table)
            found = sorted((each["id"], each["from_pos"], each["to_pos"] or 0, each["a"]) for each in versions)
            assert found == [
                (1, 1000, 0, "x"),
                (2, 1100, 1150, "x"),
                (2, 1150, 0, "new"),
                (3, 1200, 1150, "x"),
                (4, 1300, 0, "x"),
                (5, 1150, 0, "added"),
            ]

    def test_a_repair_of_other_columns_or_before_a_rebuild_is_not_applied(
        self, store: TableStore, read: ReadTable
    ) -> None:
        other = replace(SCHEMA, columns=SCHEMA.columns[:2])
        batch = make_batch(other, [("r", None, {"id": 1, "a": "new"})])
        key = ProgressKey("dagster", "main", "shop", "things")
        later = Checkpoint(BinlogPosition("binlog.000001", 9000), SERVER_UUID, None, 0, 5)
        for number, (schema, read_at) in enumerate(((other, None), (SCHEMA, later))):
            request = FingerprintRequest(f"r{number}", READ_AT)
            rows = batch if schema is other else make_batch(SCHEMA, [("r", None, row(1, a="new"))])
            with store.begin() as transaction:
                apply(transaction, [inserts(row(1), first=10 * number)])
                state = transaction.store_mirror(replace(transaction.load_mirror("shop", "things"), read_at=read_at))
                record = RepairRecord(key, "ann", str(READ_AT), "1", "1", 1)
                transaction.insert_repair(state, request, record, (schema, pa.table({"k0": ["1"]}), [rows]))
                transaction.write_fingerprint(state, request)
                with pytest.raises(LookupError):
                    transaction.take_repair(request)
                assert list(transaction.load_repairs(key)) == []
            assert {each["a"] for each in read("shop", "things")} == {"x"}

    def test_a_fingerprint_equals_that_of_the_servers_text(self, store: TableStore) -> None:
        request = FingerprintRequest("r1", READ_AT)
        with store.begin() as transaction:
            apply(transaction, [inserts(row(1, a="ü"), row(-2, a=None, n=None))])
            state = transaction.load_mirror("shop", "things")
            transaction.insert_request(state, request)
        with store.begin() as transaction:
            assert transaction.load_requests() == {("shop", "things"): [request]}
            assert transaction.take_fingerprint(request) is None
            transaction.write_fingerprint(state, request)
        with store.begin() as transaction:  # the mirror's consumer and the verification may both write it
            transaction.write_fingerprint(state, request)
        with store.begin() as transaction:
            found = transaction.take_fingerprint(request)
            assert transaction.load_requests() == {}
            with pytest.raises(LookupError):
                transaction.take_fingerprint(request)
            transaction.insert_request(state, request)
            transaction.delete_request(request)
            assert transaction.load_requests() == {}
        assert found is not None
        assert found.schema == SCHEMA
        texts = server_texts(SCHEMA, [("1", "ü", str(2**64 - 1)), ("-2", None, None)], mariadb=False)
        expected = dict(zip(("1", "-2"), hash_texts(texts), strict=True))
        assert dict(zip(found.rows["k0"].to_pylist(), found.rows["h"].to_pylist(), strict=True)) == expected
