"""Statements that read rows of Arrow."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from binlogsync.errors import SinkError
from binlogsync.targets.duckdb.arrow_statement import ROWS, execute_on
from binlogsync.targets.duckdb.file import DuckFile
from tests.duck import query

NUMBERS = pa.table({"n": pa.array([1, 2, 3])})


def test_a_statement_reads_rows_and_values(tmp_path: Path) -> None:
    with DuckFile(tmp_path / "w.duckdb").transaction() as connection:
        connection.execute("CREATE TABLE numbers (n INTEGER)")
        execute_on(connection, f"INSERT INTO numbers FROM {ROWS} WHERE n > ?", NUMBERS, [1])
        found = execute_on(connection, f"SELECT sum(n) FROM {ROWS}", NUMBERS).fetchall()
    assert found == [(6,)]
    assert query(tmp_path / "w.duckdb", "FROM numbers") == [(2,), (3,)]


def test_a_statement_reads_each_batch_of_a_reader(tmp_path: Path) -> None:
    reader = pa.RecordBatchReader.from_batches(NUMBERS.schema, NUMBERS.to_batches(max_chunksize=1))
    with DuckFile(tmp_path / "w.duckdb").transaction() as connection:
        assert execute_on(connection, f"SELECT n FROM {ROWS} ORDER BY n", reader).fetchall() == [(1,), (2,), (3,)]


def test_no_reference_to_the_rows_remains(tmp_path: Path) -> None:
    rows, file = pa.table({"n": pa.array([1, 2, 3])}), DuckFile(tmp_path / "w.duckdb")
    references = sys.getrefcount(rows)
    with file.transaction() as connection:
        execute_on(connection, f"CREATE TABLE numbers AS FROM {ROWS}", rows)
        assert sys.getrefcount(rows) == references
    with pytest.raises(SinkError), file.transaction() as connection:
        execute_on(connection, f"INSERT INTO missing FROM {ROWS}", rows)
    assert sys.getrefcount(rows) == references


def test_no_table_of_mysql_has_the_name() -> None:
    assert len(ROWS) > 64
