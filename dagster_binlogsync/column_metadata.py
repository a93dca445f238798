"""Columns of a table as Dagster's column schema, with MySQL's types, keys and comments."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import dagster as dg

from binlogsync.escaping import markdown, printable
from binlogsync.schema import TableSchema
from binlogsync.table_list import ListedColumn, ListedTable


def listed_columns(table: ListedTable) -> dg.TableSchema:
    """The column schema of a table of the list of tables."""
    return _build_schema(table.columns)


_ADDED = {
    "_op": ListedColumn(
        "_op", "varchar", comment="Operation of the last change: c, u, d, or r for a row that was read."
    ),
    "_commit_ts": ListedColumn("_commit_ts", "timestamp", comment="Commit time of the last change."),
    "_gtid": ListedColumn("_gtid", "varchar", comment="GTID of the last change."),
}


def mirrored_columns(schema: TableSchema, listed: ListedTable | None, added: Sequence[str] = ()) -> dg.TableSchema:
    """The column schema of a mirror, from the schema of its last change, with the comments of the list of tables.

    `added` are the columns that the mirror has in addition.
    """
    comments = {column.name: column.comment for column in listed.columns} if listed is not None else {}
    own = [
        ListedColumn(
            column.name,
            column.declaration,
            column.nullable,
            column.name in schema.primary_key,
            comments.get(column.name, ""),
        )
        for column in schema.columns
    ]
    deleted = "Commit time of the delete; empty for a live row."
    return _build_schema(
        [*own, *(_ADDED.get(name, ListedColumn(name, "timestamp", comment=deleted)) for name in added)]
    )


def _build_schema(columns: Iterable[ListedColumn]) -> dg.TableSchema:
    return dg.TableSchema([_build_column(column) for column in columns])


@lru_cache(maxsize=10_000)  # tables have many columns in common
def _build_column(column: ListedColumn) -> dg.TableColumn:
    return dg.TableColumn(
        printable(column.name),
        printable(column.type),
        description=markdown(column.comment) if column.comment else None,
        constraints=_CONSTRAINTS[column.nullable, column.in_key],
    )


_CONSTRAINTS = {
    (nullable, in_key): dg.TableColumnConstraints(nullable=nullable, other=["primary key"] if in_key else [])
    for nullable in (False, True)
    for in_key in (False, True)
}
