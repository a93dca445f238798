"""The state of a mirror, which its target stores with the rows."""

from __future__ import annotations

from dataclasses import dataclass

from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.targets.mirror_options import NO_POLICIES, ROW_ID, MirrorOptions, MirrorPolicies

__all__ = ["REPLAY_MARK", "ROW_ID", "ChangePosition", "MirrorOptions", "MirrorState"]

REPLAY_MARK = " "
"""Suffix of the database name of a replayed table in the stored states; a name in MySQL cannot end in a space."""


@dataclass(frozen=True, slots=True)
class MirrorState:
    """The state of one mirror.

    Attributes:
        database, table: its name in MySQL.
        location: (catalog, schema, table) in the target.
        history_table: name of its history table; None if it has none.
        schema: of the target's table; None if there is no table.
        read_at: changes before this checkpoint are in the table, even if progress is earlier; None without a snapshot.
        is_known: False if the file has no state of the mirror.
        deleted_at: the column of soft deletes, None for none.
        left_out: columns of the source that the mirror does not have (mirror/image_columns.py); None if not known yet.
        is_rewritten: True if rows changed by other means than row changes; not stored.
        policies: the options that are stored with the state.
    """

    database: str
    table: str
    location: tuple[str, str, str]
    schema: TableSchema | None = None
    read_at: Checkpoint | None = None
    is_known: bool = False
    history_table: str | None = None
    deleted_at: str | None = None
    left_out: tuple[str, ...] | None = None
    is_rewritten: bool = False
    policies: MirrorPolicies = NO_POLICIES

    @property
    def options(self) -> MirrorOptions:
        """The options that the mirror has now, for work on it outside of its consumer; its location stays."""
        policies = self.policies
        return MirrorOptions(
            self.deleted_at,
            history=self.history_table is not None,
            on_drop=policies.on_drop,
            key=policies.key,
            metadata=policies.metadata,
            schema_contract="follow" if policies.contract is None else "freeze",
            location=self.location[1:] if policies.is_placed else None,
        )

    @property
    def added_columns(self) -> tuple[str, ...]:
        """Names of the columns that the source does not have: metadata, and that of soft deletes."""
        return (*self.policies.metadata, *(() if self.deleted_at is None else (self.deleted_at,)))

    @property
    def name(self) -> str:
        """ "database.table"."""
        return f"{self.database.removesuffix(REPLAY_MARK)}.{self.table}"


@dataclass(frozen=True, slots=True)
class ChangePosition:
    """Time (microseconds since 1970 UTC) and binlog coordinates of a change."""

    ts_us: int
    file: str
    pos: int
    row: int = 0
