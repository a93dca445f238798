"""One row changed once, as a row view (`Change`) with its source (`SourceInfo`), and the DDL of a schema change.

change_batch.py has many changes in columns. This module needs no Arrow, so definitions of Dagster can name a `Change`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from binlogsync.position import BinlogPosition

Op = Literal["c", "u", "d", "r", "t"]
ImageName = Literal["before", "after"]
OPS: tuple[Op, ...] = ("c", "u", "d", "r", "t")


class SourceValues(NamedTuple):
    """The source columns (SOURCE_FIELDS) of one change; `ts_us` as microseconds since 1970 UTC."""

    ts_us: int
    gtid: str | None
    file: str
    pos: int
    row: int
    txn_pos: int
    order: int
    seq: int


Row = dict[str, Any]
Image = TypeVar("Image")

SCHEMA_OP = "s"
"""Op of the one row of a batch that is a schema change; no `Change` has it."""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A DDL statement that affects a captured table.

    Attributes:
        kind: "create", "alter", "rename", "drop", "truncate" or "other"; "gap" and "foreign_key" are not statements:
            changes of the table may be missing before this position, and `sql` is a sentence that describes them.
        tables: (database, table) affected; for a rename, old and new names alternate.
        sql: the statement as logged; "" if it was too long to store. U+FFFD replaces bytes that are not valid text in
            the character set of its client: the exact statement is then unknown.
        seq: `seq` of the next change after it.
        position: the position after it.
        gtid: its GTID, or None.
        ts_us: when it was executed, microseconds since 1970 UTC.
        database: the default database for names in `sql`.
        sql_mode: of the session that executed it, as the server's number; None if unknown.
        until: of a "foreign_key", the position up to which rows of the table may have changed; None for `position`.
        recodes_literals: True when the server may have read non-ASCII strings in it as other text, because the session
            converted them to another character set first.
    """

    kind: Literal["create", "alter", "rename", "drop", "truncate", "other", "gap", "foreign_key"]
    tables: tuple[tuple[str, str], ...]
    sql: str
    seq: int
    position: BinlogPosition
    gtid: str | None
    ts_us: int
    database: str = ""
    sql_mode: int | None = None
    until: BinlogPosition | None = None
    recodes_literals: bool = False

    @property
    def has_exact_text(self) -> bool:
        """True when `sql` is the complete statement and all its bytes were valid text."""
        return self.sql != "" and "\ufffd" not in self.sql


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Source metadata of one change; `coordinates` orders the changes of one server.

    `snapshot` is True for a row that a snapshot has read, and for the reset before the rows of a whole table; `gtid`
    then names the snapshot, not a transaction.
    """

    server_uuid: str
    server_id: int
    database: str
    table: str
    ts: datetime
    gtid: str | None
    file: str
    pos: int
    row: int
    order: int
    snapshot: bool = False

    @property
    def position(self) -> BinlogPosition:
        """The position after the event that contains the change."""
        return BinlogPosition(self.file, self.pos)

    @property
    def coordinates(self) -> tuple[int, int, int]:
        """(file number, pos, row): ordered as the changes of one server are."""
        return (self.position.file_number, self.pos, self.row)


@dataclass(frozen=True, slots=True)
class Change(Generic[Image]):
    """One row changed once. `before` is None for c and r, `after` is None for d, both for t.

    `Change[Hole]` has images that are instances of the model Hole; a `RowChange` has dicts of all columns, in which
    None means NULL and a column absent from a partial image is an absent key.

    Attributes:
        op: c create, u update, d delete, r read by snapshot, t truncate.
        before, after: the row on either side of the change.
        source: the source metadata.
        raw: the same change with dicts of all columns, if the images are model instances; else None.
    """

    op: Op
    before: Image | None
    after: Image | None
    source: SourceInfo
    raw: Change[Row] | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """Stable id of this change, the same at every delivery: the transaction or snapshot, and the row in it.

        A handler with external effects uses it for deduplication.
        """
        source = self.source
        if source.gtid is not None:
            return f"{source.gtid}:{source.order}"
        return f"{source.server_uuid}:{source.file}:{source.pos}:{source.row}"

    @property
    def rows(self) -> tuple[Row | None, Row | None]:
        """The images before and after as dicts of all columns."""
        rows: Change[Any] = self.raw or self
        return rows.before, rows.after

    def changed(self) -> tuple[str, ...]:
        """Names of the columns whose value differs between the images; for c, r and d all columns of the one image."""
        before, after = self.rows
        if before is None or after is None:
            return tuple(after or before or ())
        missing = object()
        return tuple(name for name, value in after.items() if before.get(name, missing) != value)


RowChange: TypeAlias = Change[Row]
"""A change whose images are dicts of all columns."""
