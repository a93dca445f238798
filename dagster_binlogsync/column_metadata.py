"""Columns of a table as Dagster's column schema, with MySQL's types, keys and comments."""

from collections.abc import Iterable

import dagster as dg

from binlogsync.escaping import markdown, printable
from binlogsync.schema import TableSchema
from binlogsync.table_list import ListedColumn, ListedTable


def listed_columns(table: ListedTable) -> dg.TableSchema:
    """The column schema of a table of the list of tables."""
    return _build_schema(table.columns)


def mirrored_columns(schema: TableSchema, listed: ListedTable | None) -> dg.TableSchema:
    """The column schema of a mirror, from the schema of its last change, with the comments of the list of tables."""
    comments = {column.name: column.comment for column in listed.columns} if listed is not None else {}
    return _build_schema(
        ListedColumn(
            column.name,
            column.declaration,
            column.nullable,
            column.name in schema.primary_key,
            comments.get(column.name, ""),
        )
        for column in schema.columns
    )


def _build_schema(columns: Iterable[ListedColumn]) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                printable(column.name),
                printable(column.type),
                description=markdown(column.comment) if column.comment else None,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, other=["primary key"] if column.in_key else []
                ),
            )
            for column in columns
        ]
    )
