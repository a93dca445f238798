"""The mirror compared with a model in Python: random changes, every type, and changes that are rejected."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogsync.errors import ConsumeError
from binlogsync.mirror import apply as mirror
from binlogsync.schema import Column, TableSchema
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.transaction import DuckTransaction
from tests.duck import Change, make_batch, mirror_rows, query
from tests.examples import examples
from tests.samples import sample_batch, sample_schema

COLUMNS = (
    Column("id", "int", nullable=False),
    Column('we"ird name', "varchar", length=20, charset="utf8mb4"),
    Column("f", "double"),
    Column("s", "set", labels=("a", "b"), charset="utf8mb4"),
    Column("t", "time", fsp=6),
)
KEYED = TableSchema("shop", "things", COLUMNS, ("id",))
TWO_KEYS = TableSchema("shop", "things", COLUMNS, ('we"ird name', "id"))
KEYLESS = TableSchema("shop", "things", COLUMNS)

Row = dict[str, Any]
ROW: Row = {"id": 1, 'we"ird name': "a", "f": None, "s": [], "t": None}


def rows() -> st.SearchStrategy[Row]:
    """Rows of few values, so that keys and whole rows repeat often."""
    return st.fixed_dictionaries(
        {
            "id": st.integers(0, 5),
            'we"ird name': st.sampled_from(["a", "A", "a ", "", "ü"]),
            "f": st.sampled_from([0.0, -0.0, 0.1, None]),
            "s": st.sampled_from([[], ["a"], ["a", "b"], None]),
            "t": st.sampled_from([timedelta(hours=-838), timedelta(0), None]),
        }
    )


class SimulatedTable:
    """Simulates a table in MySQL: rows by key, or as a multiset."""

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self.rows: list[Row] = []

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.schema.primary_key)

    def _is_free(self, row: Row, but: Row | None = None) -> bool:
        return not self.schema.primary_key or all(
            self._key(row) != self._key(other) for other in self.rows if other is not but
        )

    def change(self, op: str, pick: int, row: Row) -> Change | None:
        """Apply an operation if the server would allow it; returns the change."""
        if op == "t":
            self.rows = []
            return ("t", None, None)
        if op in ("c", "r"):
            if not self._is_free(row):
                return None
            self.rows.append(row)
            return ("c" if op == "c" else "r", None, row)
        if not self.rows:
            return None
        old = self.rows[pick % len(self.rows)]
        if op == "u" and not self._is_free(row, old):
            return None
        position = next(i for i, other in enumerate(self.rows) if other is old)
        if op == "d":
            del self.rows[position]
            return ("d", old, None)
        self.rows[position] = row
        return ("u", old, row)

    def values(self) -> list[tuple[Any, ...]]:
        return sorted((tuple(row[column.name] for column in COLUMNS) for row in self.rows), key=repr)


STEPS = st.lists(
    st.tuples(st.sampled_from("cccuuuddr" + "t"), st.integers(0, 50), rows(), st.sampled_from([False, False, True])),
    max_size=40,
)


@pytest.mark.slow
@pytest.mark.generated
@pytest.mark.parametrize("schema", [KEYED, TWO_KEYS, KEYLESS], ids=["key", "two-keys", "no-key"])
@given(steps=STEPS)
@settings(max_examples=examples(25), deadline=None)
def test_random_changes_result_in_the_rows_of_the_server(
    schema: TableSchema, steps: list[tuple[str, int, Row, bool]]
) -> None:
    table, changes, batches = SimulatedTable(schema), list[Change](), []
    for op, pick, row, cut in steps:
        change = table.change(op, pick, dict(row))
        if change is not None:
            changes.append(change)
        if cut and changes:
            batches.append(make_batch(schema, changes))
            changes = []
    if changes:
        batches.append(make_batch(schema, changes))
    half = len(batches) // 2
    with duckdb.connect() as connection:
        for part in (batches[:half], batches[half:]):
            mirror.apply(DuckTransaction(connection), part)
        if not batches:
            return
        # A table of which nothing but a TRUNCATE was heard, or nothing after it, is not made.
        tables = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop'")
        found = connection.execute("FROM shop.things").fetchall() if tables.fetchall() else []
    assert repr(sorted(found, key=repr)) == repr(table.values())


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DuckFile]:
    file = DuckFile(tmp_path / "folder" / "mirror.duckdb", error=ConsumeError)
    yield file
    file.release()


def put(file: DuckFile, schema: TableSchema, *changes: Change) -> None:
    with file.transaction() as connection:
        mirror.apply(DuckTransaction(connection), [make_batch(schema, changes)])


@pytest.mark.parametrize("primary_key", [("id",), ()], ids=["key", "no-key"])
def test_values_of_every_type_are_equal(file: DuckFile, primary_key: tuple[str, ...]) -> None:
    schema = sample_schema(primary_key=primary_key)
    with file.transaction() as connection:
        mirror.apply(DuckTransaction(connection), [sample_batch(22, schema)])
    batch = sample_batch(22, schema)
    alive: dict[int, Row] = {}
    for change in batch.changes():
        if change.after is None:
            del alive[(change.before or {})["id"]]
        else:
            alive[change.after["id"]] = change.after
    expected = []
    for row in alive.values():
        values = dict(row)
        wide = values["c_wide_decimal"]
        values["c_wide_decimal"] = None if wide is None else f"{wide:f}"
        expected.append(tuple(values.values()))
    assert mirror_rows(file.path, "shop", "samples") == sorted(expected, key=repr)


def test_vectors_that_differ_in_the_sign_of_zero_are_different_rows_without_a_key(file: DuckFile) -> None:
    schema = TableSchema("shop", "vectors", (Column("v", "vector", length=2), Column("p", "point")))
    point = {"srid": 4326, "wkb": b"\x01"}
    images: list[Row] = [{"v": [0.0, 1.0], "p": point}, {"v": [-0.0, 1.0], "p": point}, {"v": [-0.0, 1.0], "p": None}]
    put(file, schema, ("c", None, images[0]), ("c", None, images[1]), ("c", None, images[2]), ("d", images[1], None))
    put(file, schema, ("d", images[2], None))
    [row] = mirror_rows(file.path, "shop", "vectors")
    assert repr(row) == repr(([0.0, 1.0], point))


def test_json_keeps_its_text(file: DuckFile) -> None:
    schema = TableSchema("shop", "j", (Column("id", "int"), Column("j", "json")), ("id",))
    text = '{"b": 1, "a": 18446744073709551615, "c": 1.0}'
    put(file, schema, ("c", None, {"id": 1, "j": text}))
    assert query(file.path, "SELECT j, typeof(j) FROM shop.j") == [(text, "JSON")]


def test_zero_dates_are_null_and_counted(file: DuckFile, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), file.transaction() as connection:
        mirror.apply(DuckTransaction(connection), [sample_batch(40, impossible=True)])
    assert "shop.samples.c_date" in caplog.text
    assert query(file.path, "SELECT c_date FROM shop.samples WHERE id = 5") == [(None,)]


def test_deletes_of_missing_rows_are_counted(file: DuckFile, caplog: pytest.LogCaptureFixture) -> None:
    put(file, KEYLESS, ("c", None, ROW), ("c", None, ROW))
    with caplog.at_level(logging.WARNING):
        put(file, KEYLESS, ("d", ROW, None), ("d", ROW, None), ("d", ROW, None))
    assert "1 rows to delete were not in the mirror" in caplog.text
    assert mirror_rows(file.path, "shop", "things") == []


def test_partial_row_images_are_rejected(file: DuckFile) -> None:
    batch = make_batch(KEYED, [("c", None, {"id": 1})])
    narrow = make_batch(replace(KEYED, columns=COLUMNS[:2]), [("c", None, {"id": 1})])
    with pytest.raises(ConsumeError, match="full row images"), file.transaction() as connection:
        mirror.apply(DuckTransaction(connection), [replace(batch, data=narrow.data)])


def test_a_table_that_is_not_a_mirror_is_not_changed(file: DuckFile) -> None:
    with file.transaction() as connection:
        connection.execute("CREATE SCHEMA shop; CREATE TABLE shop.things (a INT)")
    with pytest.raises(ConsumeError, match="not a mirror"):
        put(file, KEYED, ("c", None, ROW))
