"""The tree hole: a model and a handler, which is all that a table needs.

`on_hole` gets every change of `treehole.holes`, in order, with `before` (None for an insert) and `after` (None for a
delete) as instances of `HoleRow`. It asks for the warehouse's connection as well, so what it writes there happens
exactly once: rows and progress are committed together. Here it keeps the history of every hole.
"""

from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from binlogsync.change import Change
from pipelines.tables import AssetOptions, table_consumer


@dataclass(frozen=True, slots=True)
class HoleRow:
    """The columns that the handler wants; others of the table are left alone."""

    id: int
    content: str | None


def on_hole(change: Change[HoleRow], connection: DuckDBPyConnection) -> None:
    """The history of every hole: what it said before and after each change, exactly once."""
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
    HoleRow,
    on_hole,
    table="treehole.holes",
    options=AssetOptions(
        description="The history of every hole, written by a handler exactly once.", shows=("treehole", "hole_history")
    ),
)
