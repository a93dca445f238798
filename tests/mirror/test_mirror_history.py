"""Soft deletes, and the history, from which the rows at every earlier time can be restored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConsumeError
from binlogsync.mirror import apply as mirror
from binlogsync.schema import Column, TableSchema
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.transaction import DuckTransaction
from binlogsync.targets.mirror_state import MirrorOptions
from tests.duck import Change, make_batch, query
from tests.examples import examples
from tests.mirror.test_mirror import KEYED, KEYLESS, STEPS, TWO_KEYS, Row, SimulatedTable
from tests.mirror.test_mirror_ddl import SCHEMA, ddl

pytestmark = pytest.mark.slow

SOFT, HISTORY = MirrorOptions(deleted_at="deleted_at"), MirrorOptions(history=True)
NAMES = TableSchema(
    "shop", "things", (Column("id", "int"), Column("name", "varchar", length=9, charset="utf8mb4")), ("id",)
)
LOOSE = replace(NAMES, primary_key=())
AT = datetime(2023, 11, 14, 22, 13, 20)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DuckFile]:
    file = DuckFile(tmp_path / "mirror.duckdb", error=ConsumeError)
    yield file
    file.release()


def apply(file: DuckFile, options: MirrorOptions, *batches: ChangeBatch) -> None:
    with file.transaction() as connection:
        assert mirror.apply(DuckTransaction(connection), batches, options) is None


def row(number: int, name: str) -> Row:
    return {"id": number, "name": name}


def kept(file: DuckFile) -> list[tuple[Any, ...]]:
    """id, name, and the number of the change that deleted it."""
    return query(file.path, "SELECT id, name, epoch_us(deleted_at) - 1700000000000000 FROM shop.things ORDER BY ALL")


def test_a_deleted_row_stays_with_the_commit_time_of_the_delete(file: DuckFile) -> None:
    changes: list[Change] = [
        *(("c", None, row(n, "a")) for n in range(4)),
        ("u", row(0, "a"), row(0, "b")),
        ("d", row(0, "b"), None),
        ("d", row(1, "a"), None),
        ("c", None, row(1, "again")),
        ("u", row(2, "a"), row(9, "moved")),
    ]
    wanted = [(0, "b", 5), (1, "again", None), (2, "a", 8), (3, "a", None), (9, "moved", None)]
    for size in (1, 3, 20):
        for at in range(0, len(changes), size):
            apply(file, SOFT, make_batch(NAMES, changes[at : at + size], at))
        assert kept(file) == wanted
        apply(file, SOFT, make_batch(NAMES, [("t", None, None)], 30))
        assert kept(file) == [(n, name, 30 if gone is None else gone) for n, name, gone in wanted]
        with file.transaction() as connection:
            connection.execute("DELETE FROM shop.things")


def test_a_delete_marks_one_of_several_equal_rows(file: DuckFile) -> None:
    apply(file, SOFT, make_batch(LOOSE, [("c", None, row(1, "a"))] * 3))
    apply(
        file, SOFT, make_batch(LOOSE, [("d", row(1, "a"), None), ("c", None, row(2, "b")), ("d", row(2, "b"), None)], 5)
    )
    assert kept(file) == [(1, "a", 5), (1, "a", None), (1, "a", None), (2, "b", 7)]
    apply(file, SOFT, make_batch(LOOSE, [("d", row(1, "a"), None), ("u", row(1, "a"), row(1, "c"))], 8))
    assert kept(file) == [(1, "a", 5), (1, "a", 8), (1, "c", None), (2, "b", 7)]


def test_deleted_rows_survive_ddl(file: DuckFile) -> None:
    apply(file, SOFT, make_batch(NAMES, [("c", None, row(1, "a")), ("c", None, row(2, "b")), ("d", row(1, "a"), None)]))
    apply(file, SOFT, ddl("ALTER TABLE things ADD n INT NOT NULL DEFAULT 4 FIRST"))
    assert query(file.path, "SELECT * EXCLUDE deleted_at, deleted_at IS NULL FROM shop.things ORDER BY id") == [
        (4, 1, "a", False),
        (4, 2, "b", True),
    ]
    apply(file, SOFT, ddl("DROP TABLE things", "drop"), ddl("CREATE TABLE things (x INT)", "create", pos=6000))
    assert query(file.path, "SELECT * FROM shop.things") == []
    assert query(file.path, "SELECT id, epoch_us(deleted_at) FROM shop.things__dropped_5 ORDER BY id") == [
        (1, 1_700_000_000_000_002),
        (2, 5),
    ]


def test_deleted_at_must_be_a_free_name_and_cannot_change(file: DuckFile) -> None:
    with pytest.raises(ConsumeError, match="already has a column Name"):
        apply(file, MirrorOptions(deleted_at="Name"), make_batch(NAMES, [("c", None, row(1, "a"))]))
    apply(file, mirror.DEFAULT_OPTIONS, make_batch(NAMES, [("c", None, row(1, "a"))]))
    apply(file, SOFT, make_batch(NAMES, [("d", row(1, "a"), None)], 3))
    assert kept(file) == [(1, "a", 3)]
    with pytest.raises(ConsumeError, match="marks deleted rows in column deleted_at"):
        apply(file, mirror.DEFAULT_OPTIONS, make_batch(NAMES, [("c", None, row(2, "a"))], 4))


@pytest.mark.generated
@pytest.mark.parametrize("schema", [KEYED, TWO_KEYS, KEYLESS], ids=["key", "two-keys", "no-key"])
@given(steps=STEPS)
@settings(max_examples=examples(5), deadline=None)
def test_the_rows_at_every_earlier_time_can_be_restored(
    schema: TableSchema, steps: list[tuple[str, int, Row, bool]]
) -> None:
    table, connection = SimulatedTable(schema), duckdb.connect()
    moments: list[list[tuple[Any, ...]]] = []
    waiting: list[Change] = []
    for number, (op, pick, given_row, cut) in enumerate([*steps, ("c", 0, {}, True)]):
        change = table.change(op, pick, dict(given_row)) if number < len(steps) else None
        if change is not None:
            waiting.append(change)
            moments.append(table.values())
        if cut and waiting:
            batch = make_batch(schema, waiting, len(moments) - len(waiting))
            assert mirror.apply(DuckTransaction(connection), [batch], HISTORY) is None
            waiting = []
    if any(moments):
        versions = connection.execute("FROM shop.things__history").fetchall()
        width = len(schema.columns)
        for number, wanted in enumerate(moments):
            pos = 1000 + 100 * number
            there = [v for v in versions if v[width + 2] <= pos and (v[width + 6] is None or v[width + 6] > pos)]
            assert repr(sorted((v[:width] for v in there), key=repr)) == repr(wanted), number
        for version in versions:
            assert version[width] == AT.replace(tzinfo=UTC) + timedelta(microseconds=(version[width + 2] - 1000) // 100)
            assert (version[width + 4] is None) == (version[width + 6] is None)
    connection.close()


def test_versions_of_one_transaction_have_binlog_coordinates(file: DuckFile) -> None:
    batch = make_batch(
        NAMES, [("c", None, row(1, "a")), ("u", row(1, "a"), row(1, "b")), ("u", row(1, "b"), row(1, "c"))]
    )
    data = batch.data
    for name, value in (("ts_us", data.column("ts_us")[:1]), ("pos", data.column("pos")[:1])):
        index = data.schema.get_field_index(name)
        data = data.set_column(index, data.schema.field(index), value.take([0, 0, 0]))
    index = data.schema.get_field_index("row")
    data = data.set_column(index, data.schema.field(index), data.column("seq").cast("uint32"))
    apply(file, HISTORY, replace(batch, data=data))
    found = query(
        file.path,
        "SELECT name, valid_from = valid_to, from_row, to_row FROM shop.things__history ORDER BY from_pos, from_row",
    )
    assert found == [("a", True, 0, 1), ("b", True, 1, 2), ("c", None, 2, None)]


def test_a_history_continues_after_ddl(file: DuckFile) -> None:
    values = {"id": 1, "a": "x", "b": Decimal("1.50"), "t": AT + timedelta(milliseconds=5)}
    apply(file, HISTORY, make_batch(SCHEMA, [("c", None, values)]))
    apply(file, HISTORY, ddl("ALTER TABLE things ADD n INT DEFAULT 7, DROP t, MODIFY b DECIMAL(8,2)", pos=2000))
    apply(file, HISTORY, ddl("ALTER TABLE things COMMENT 'no row changes'", pos=3000))
    apply(file, HISTORY, ddl("DROP TABLE things", "drop", pos=4000))
    apply(file, HISTORY, ddl("CREATE TABLE things (id INT)", "create", pos=5000))
    found = query(
        file.path, "SELECT id, a, b__1, b, n, t IS NULL, from_pos, to_pos FROM shop.things__history ORDER BY from_pos"
    )
    assert found == [
        (1, "x", Decimal("1.50"), None, None, False, 1000, 2000),
        (1, "x", None, Decimal("1.50"), 7, True, 2000, 4000),
    ]
