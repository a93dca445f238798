"""The readers that bench/table_reading.py compares: each reads bench.orders once, and returns the number of rows."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymysql

_COLUMNS = "id, a, amount, at, day, opens, v, note, f, b, state, token"
_BATCH = 20_000


@dataclass(frozen=True, slots=True)
class Login:
    """Where the server is, and an empty folder for files."""

    host: str
    port: int
    user: str
    password: str
    folder: str


def prepare(login: Login, name: str) -> None:
    """Import what a variant uses, and compile the kernels."""
    if "scanner" in name:
        importlib.import_module("duckdb")
    elif name == "connectorx":
        importlib.import_module("connectorx")
    else:
        importlib.import_module("binlogsync.mysql.result_set")
        importlib.import_module("binlogsync.codec.column_parser")
        importlib.import_module("binlogsync.targets.duckdb.streamed_rows")
        importlib.import_module("binlogsync.targets.duckdb.mirror_tables")
        importlib.import_module("binlogsync.snapshot.view")
        importlib.import_module("duckdb")


def _connect(login: Login) -> tuple[Any, Any, Any]:
    from binlogsync.mysql import TLS, MySQLConfig
    from binlogsync.mysql.config import connect
    from binlogsync.mysql.information_schema import describe_table

    config = MySQLConfig(login.host, login.port, login.user, login.password, tls=TLS("disabled"))
    connection = connect(config)
    return config, connection, describe_table(config, connection, "bench", "orders")


def drain(login: Login) -> int:
    """Receive the bytes that read_ours receives, and drop them."""
    from binlogsync.mysql.result_set.columns import RowLayout
    from binlogsync.mysql.result_set.statement import PreparedStatement

    _, connection, schema = _connect(login)
    expressions = ", ".join(column.expression for column in RowLayout.of(schema, mariadb=False).columns)
    statement = PreparedStatement(connection, f"SELECT {expressions} FROM bench.orders")
    statement.execute()
    buffer = bytearray(1 << 20)
    view, tail = memoryview(buffer), bytes(connection.take_buffered())
    while not (tail[:1] == b"\x05" and tail[4:5] == b"\xfe"):
        count = connection.readinto(view)
        tail = (tail + bytes(view[max(0, count - 9) : count]))[-9:]
    statement.mark_read()
    statement.finish()
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM bench.orders")
        return int(cursor.fetchone()[0])


def read_ours(login: Login) -> int:
    """All rows into Arrow."""
    from binlogsync.mysql.result_set import read_rows

    return sum(len(rows) for rows in read_rows(*_connect(login)))


def read_with_pymysql(login: Login) -> int:
    """The reader that read_rows replaced: rows of text from pymysql, then Arrow, column by column."""
    from binlogsync.codec.column_parser import read_column
    from binlogsync.codec.span_fields import TEMPORAL_TYPES
    from binlogsync.schema import BINARY_TYPES, INTEGER_BITS, arrow_type

    _, connection, schema = _connect(login)
    connection.decoders, count = {}, 0
    with connection.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(f"SELECT {_COLUMNS.replace(' b,', ' b + 0,')} FROM bench.orders")
        rows: Iterator[Any] = iter(cursor)
        while batch := list(islice(rows, _BATCH)):
            arrays = []
            for column, values in zip(schema.columns, zip(*batch, strict=True), strict=True):
                kind = column.type
                if kind in TEMPORAL_TYPES:
                    texts = [None if value is None else value.replace(" ", "T") for value in values]
                    arrays.append(read_column(column, texts)[0])
                elif kind in BINARY_TYPES:
                    arrays.append(pa.array(values, pa.binary()))
                elif kind in INTEGER_BITS or kind in ("double", "decimal", "bit"):
                    arrays.append(pa.array(values, pa.string()).cast(arrow_type(column)))
                else:
                    arrays.append(read_column(column, values)[0])
            count += len(arrays[0])
    return count


def read_with_connectorx(login: Login) -> int:
    """connectorx, binary protocol, into Arrow."""
    connectorx: Any = importlib.import_module("connectorx")
    url = f"mysql://{login.user}:{login.password}@{login.host}:{login.port}/bench"
    columns = _COLUMNS.replace(" b,", " CAST(b AS UNSIGNED) AS b,")
    return int(
        connectorx.read_sql(url, f"SELECT {columns} FROM orders", return_type="arrow", protocol="binary").num_rows
    )


def load_ours(login: Login) -> int:
    """All rows into a new DuckDB file, as a direct load of a mirror."""
    import duckdb

    from binlogsync.snapshot.view import read_table
    from binlogsync.targets.duckdb.mirror_tables import column_list
    from binlogsync.targets.duckdb.streamed_rows import insert_batches

    config, connection, _ = _connect(login)
    connection.close()
    with (
        duckdb.connect(str(Path(login.folder) / "loaded.duckdb")) as target,
        read_table(config, "bench", "orders") as snapshot,
    ):
        assert snapshot.schema is not None
        target.execute(f"CREATE TABLE orders ({column_list(snapshot.schema)})")
        with target.cursor() as inserting:
            return insert_batches(inserting, "orders", snapshot.schema, snapshot.batches())


def load_with_scanner(login: Login) -> int:
    """DuckDB's MySQL scanner into a new DuckDB file."""
    duckdb: Any = importlib.import_module("duckdb")
    package: Any = importlib.import_module("duckdb_extension_mysql_scanner")
    (extension,) = Path(package.__file__).parent.rglob("*.duckdb_extension")
    with duckdb.connect(str(Path(login.folder) / "scanned.duckdb")) as connection:
        connection.execute(f"LOAD '{extension}'")
        connection.execute(
            f"ATTACH 'host={login.host} port={login.port} user={login.user} password={login.password} database=bench' "
            "AS source (TYPE mysql, READ_ONLY)"
        )
        connection.execute("CREATE TABLE orders AS SELECT * FROM source.bench.orders")
        return int(connection.execute("SELECT COUNT(*) FROM orders").fetchone()[0])
