"""Example of a consumer with a model and a handler: it writes the history of `treehole.holes`.

`on_hole` is called with every change of the table, in order. `before` (None for an insert) and `after` (None for a
delete) are instances of `HoleColumns`. The second parameter is the DuckDB connection of the warehouse: rows and
progress are committed in one transaction, so each change is written exactly once.
"""

from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from binlogsync.change import Change
from dagster_binlogsync.tables import AssetOptions, table_consumer


@dataclass(frozen=True, slots=True)
class HoleColumns:
    """The columns that the handler reads; other columns of the table are ignored."""

    id: int
    content: str | None


def on_hole(change: Change[HoleColumns], connection: DuckDBPyConnection) -> None:
    """Append the content before and after the change to `treehole.hole_history`."""
    hole = change.after or change.before
    connection.execute("CREATE SCHEMA IF NOT EXISTS treehole")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS treehole.hole_history "
        "(change_id VARCHAR, op VARCHAR, committed_at TIMESTAMPTZ, hole_id BIGINT, before VARCHAR, after VARCHAR)"
    )
    connection.execute(
        "INSERT INTO treehole.hole_history VALUES (?, ?, ?, ?, ?, ?)",
        [
            change.id,
            change.op,
            change.source.ts,
            hole.id if hole else None,
            change.before.content if change.before else None,
            change.after.content if change.after else None,
        ],
    )


holes = table_consumer(
    HoleColumns,
    on_hole,
    table="treehole.holes",
    options=AssetOptions(
        description="The history of every hole, written exactly once by a handler.", shows=("treehole", "hole_history")
    ),
)
