"""A stream of batches arrives in DuckDB as single batches do; an error in it is raised as it was."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from binlogsync.change_batch import ChangeBatch, build_batch
from binlogsync.errors import SourceError
from binlogsync.schema import Column, TableSchema
from binlogsync.targets.duckdb.mirror_tables import column_list
from binlogsync.targets.duckdb.row_images import insert_rows
from binlogsync.targets.duckdb.streamed_rows import insert_batches

_SCHEMA = TableSchema(
    "shop",
    "orders",
    (
        Column("id", "int"),
        Column("day", "date"),
        Column("amount", "decimal", precision=65, scale=2),
        Column("state", "enum", labels=("new", "paid"), charset="utf8mb4"),
        Column("opens", "time"),
        Column("a \"b'", "set", labels=("p", "q"), charset="utf8mb4"),
    ),
    ("id", "day"),
)


def batch(first: int, count: int = 3) -> ChangeBatch:
    """Rows of a snapshot; the second has an impossible date in its key."""
    kind = _SCHEMA.image_type()
    values = [
        pa.array(range(first, first + count), pa.int32()),
        pa.array([None if k == 1 else 19_000 + k for k in range(count)], pa.int32()).cast(pa.date32()),
        pa.array([Decimal(10) ** 62 if k % 2 else None for k in range(count)], kind.field(2).type),
        pa.DictionaryArray.from_arrays(pa.array([k % 2 for k in range(count)], pa.int16()), ["new", "paid"]),
        pa.array([-(10**12) * k for k in range(count)], pa.duration("us")),
        pa.array([["p", "q"][: k % 3] for k in range(count)], kind.field(5).type),
    ]
    numbers = pa.array(np.arange(count))
    source = dict.fromkeys(("ts_us", "pos", "row", "txn_pos", "order", "seq"), numbers)
    names = {name: pa.array([None] * count, pa.string()) for name in ("gtid", "file")}
    texts = pa.array([None, "2024-02-31", *[None] * (count - 2)], pa.string())
    images = (pa.nulls(count, kind), pa.StructArray.from_arrays(values, fields=list(kind)))
    return build_batch(_SCHEMA, ["r"] * count, images, {**source, **names}, ("u", 1), {("after", "day"): texts})


def test_a_stream_of_batches_equals_single_batches(tmp_path: Path) -> None:
    batches = [batch(first, 3 if first < 30 else 500) for first in range(0, 36, 3)]
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        for name in ("one", "many"):
            connection.execute(f"CREATE TABLE {name} ({column_list(_SCHEMA)})")
        assert insert_batches(connection, "one", _SCHEMA, iter(batches)) == sum(map(len, batches))
        for each in batches:
            insert_rows(connection, "many", each)
        rows = connection.execute("SELECT * FROM one").fetchall()
        assert rows == connection.execute("SELECT * FROM many").fetchall()
        assert insert_batches(connection, "one", _SCHEMA, iter(())) == 0
        assert connection.execute("SELECT count(*) FROM one").fetchall() == [(len(rows),)]


def test_an_error_in_the_stream_is_raised_and_nothing_stored(tmp_path: Path) -> None:
    def failing() -> Iterator[ChangeBatch]:
        yield batch(0)
        raise SourceError("the server closed the connection")

    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute(f"CREATE TABLE t ({column_list(_SCHEMA)})")
        connection.begin()
        with pytest.raises(SourceError, match="closed the connection"):
            insert_batches(connection, "t", _SCHEMA, failing())
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
        with pytest.raises(duckdb.Error, match="no_such_table"):
            insert_batches(connection, "no_such_table", _SCHEMA, iter([batch(0)]))
