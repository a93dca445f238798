"""The key by which a table is read in chunks, and the SQL of the boundaries of chunks.

A chunk begins after the last key of the one before. Keys are compared by the server only, in the order of its index, so
that collations need not be known here. `a > x OR (a = x AND b > y)` reads as many rows as it returns; a comparison of
row values, `(a, b) > (x, y)`, reads the index from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from binlogsync.change_batch import ChangeBatch
from binlogsync.mysql.config import MySQLConfig, fetch
from binlogsync.mysql.session import Connection
from binlogsync.schema import INTEGER_BITS, Column, TableSchema
from binlogsync.sql_identifiers import quote_mysql

_INDEXES = (
    "SELECT INDEX_NAME AS index_name, COLUMN_NAME AS name, SUB_PART AS prefix, NULLABLE AS nullable "
    "FROM INFORMATION_SCHEMA.STATISTICS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND NON_UNIQUE = 0 "
    "ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
)
_TEMPORAL = frozenset({"date", "time", "datetime", "timestamp"})
KEY_TYPES = _TEMPORAL | {*INTEGER_BITS, "decimal", "float", "double", "year", "bit"}
KEY_TYPES |= {"char", "varchar", "binary", "varbinary"}
"""Types whose values can be written as SQL that compares as the column does. ENUM and SET are ordered by number, and a
label is compared as text, so they are missing; so are MariaDB's own types."""


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """A unique key without NULL.

    Attributes:
        index: its name.
        columns: its columns, in the order of the index.
    """

    index: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its columns."""
        return tuple(column.name for column in self.columns)

    def clauses(self, after: Sequence[str] | None, limit: int, offset: int = 0) -> str:
        """SQL after SELECT ... FROM <table> of `limit` rows from the key `after` of `last_key` on, without the first
        `offset` of them.
        """
        conditions = [] if after is None else [_condition(self.names, after, ">")]
        return f"{self._ordered(conditions)} LIMIT {limit}" + (f" OFFSET {offset}" if offset else "")

    def range_clauses(self, after: Sequence[str] | None, to: Sequence[str] | None, condition: str) -> str:
        """The same of the rows after one key and up to another that meet the SQL condition; None for no bound."""
        conditions = [] if after is None else [_condition(self.names, after, ">")]
        conditions += [] if to is None else [_condition(self.names, to, "<=")]
        return self._ordered([*conditions, f"({condition}\n)"])  # the condition may end in a comment

    def _ordered(self, conditions: Sequence[str]) -> str:
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        # An index that is not the primary one may be invisible, and cannot be forced then.
        index = "FORCE INDEX (PRIMARY) " if self.index == "PRIMARY" else ""
        return f"{index}{where}ORDER BY {', '.join(map(quote_mysql, self.names))}"

    def last_key(self, batch: ChangeBatch) -> tuple[str, ...]:
        """The key of the last row of the batch, as SQL literals."""
        row = batch.data.column("after")[len(batch) - 1]
        found = []
        for column in self.columns:
            texts = batch.impossible.get(("after", column.name))
            text = None if texts is None else texts[len(batch) - 1].as_py()
            found.append(to_literal(column, row[column.name].as_py() if text is None else text))
        return tuple(found)


def find_chunk_key(config: MySQLConfig, connection: Connection, schema: TableSchema) -> ChunkKey | None:
    """The primary key, or the first unique key without NULL, if chunks by it are safe; else None. Raises SourceError.

    Of a table with a primary key only that one counts: the changes of the table are applied by it. A unique key that is
    not the primary key may have no dates, because a mirror stores the text of a zero date only in a primary key.
    """
    columns = {column.name: column for column in schema.columns}
    indexes: dict[str, list[dict[str, Any]]] = {}
    for row in fetch(config, connection, _INDEXES, (schema.database, schema.table)):
        indexes.setdefault(str(row["index_name"]), []).append(row)
    for index, rows in indexes.items():
        key = ChunkKey(index, tuple(columns[str(row["name"])] for row in rows if str(row["name"]) in columns))
        is_whole = len(key.columns) == len(rows) and all(
            row["prefix"] is None and str(row["nullable"] or "").upper() != "YES" for row in rows
        )
        is_primary = key.names == schema.primary_key
        types = {column.type for column in key.columns}
        if is_whole and types <= KEY_TYPES and (is_primary or not (schema.primary_key or types & _TEMPORAL)):
            return key
    return None


def _condition(names: Sequence[str], key: Sequence[str], sign: Literal[">", "<="]) -> str:
    """The rows after a key (">"), or up to it ("<=")."""
    quoted, parts = [quote_mysql(name) for name in names], []
    for number, (name, value) in enumerate(zip(quoted, key, strict=True), 1):
        same = [f"{n} = {v}" for n, v in zip(quoted[: number - 1], key, strict=False)]
        parts.append("(" + " AND ".join([*same, f"{name} {sign if number == len(names) else sign[0]} {value}"]) + ")")
    return "(" + " OR ".join(parts) + ")"


def to_literal(column: Column, value: Any) -> str:
    """SQL of a key's value, which compares with the column as the value itself."""
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, float):
        text = repr(value)  # of a FLOAT too: the server compares it as a double
        return text if "e" in text else f"{text}e0"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, datetime):
        return f"'{value.replace(tzinfo=None).isoformat(' ')}'"
    if isinstance(value, date):
        return f"'{value.isoformat()}'"
    if isinstance(value, timedelta):
        return f"'{_time_text(value)}'"
    # A literal has the weaker collation, so that the column's decides.
    text = str(value).replace("T", " ").removesuffix("Z") if column.type in _TEMPORAL else str(value)
    return f"_utf8mb4 x'{text.encode().hex()}'"


def _time_text(value: timedelta) -> str:
    micros = value // timedelta(microseconds=1)
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:06d}"
