"""The schema in a TABLE_MAP of a server besides types: keys, hidden and generated columns."""

from __future__ import annotations

from tests.binlog.dump import end_of_log, record
from tests.databases import FreshDatabase


def test_keys_hidden_and_generated_columns_are_in_the_schema(mysql: FreshDatabase) -> None:
    start = end_of_log(mysql.server)
    mysql.execute(
        "CREATE TABLE k (a INT, b VARCHAR(300), c INT INVISIBLE, g INT AS (a + 1), s INT AS (a + 2) STORED,"
        " j JSON, PRIMARY KEY (s, b(10)), INDEX ((a + 3)), INDEX ((CAST(j->'$.x' AS UNSIGNED ARRAY))))"
    )
    mysql.execute("INSERT INTO k (a, b, c, j) VALUES (1, 'x', 5, '{\"x\": [1, 2]}')")
    ranges = record(mysql.server, start, lambda database, table: database == mysql.name).decoded().ranges
    [batch] = [batch for decoded_range in ranges for batch in decoded_range.batches if batch.schema.columns]
    schema = batch.schema
    assert schema.primary_key == ("s", "b")
    assert [(column.name, column.visible) for column in schema.columns] == [
        ("a", True), ("b", True), ("c", False), ("g", True), ("s", True), ("j", True),
    ]  # fmt: skip
    [change] = batch.changes()
    assert change.after == {"a": 1, "b": "x", "c": 5, "g": 2, "s": 3, "j": '{"x": [1, 2]}'}
