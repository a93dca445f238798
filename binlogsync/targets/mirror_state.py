"""The state of a mirror, which its target stores with the rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.sql_identifiers import quote_ansi
from binlogsync.targets.mirror_options import NO_POLICIES, ROW_ID, MirrorOptions, MirrorPolicies

__all__ = ["REPLAY_MARK", "ROW_ID", "ChangePosition", "MirrorOptions", "MirrorState", "spare_name"]

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
    def live_condition(self) -> str:
        """SQL that is true for rows that are not deleted."""
        return "true" if self.deleted_at is None else f"{quote_ansi(self.deleted_at)} IS NULL"

    @property
    def name(self) -> str:
        """ "database.table"."""
        return f"{self.database.removesuffix(REPLAY_MARK)}.{self.table}"

    @property
    def target(self) -> str:
        """The table, as SQL, with its catalog, because a schema may have the name of a catalog."""
        return quote_ansi(*self.location)

    def beside(self, table: str) -> str:
        """Another table in its schema, as SQL."""
        return quote_ansi(*self.location[:2], table)

    def spare(self, purpose: str) -> str:
        """Name of a helper table that replaces the mirror's table later."""
        own = (self.database, self.table) if self.policies.is_placed else ()  # another mirror may want the location
        return spare_name(purpose, "\0".join((self.location[2], *own)))


@dataclass(frozen=True, slots=True)
class ChangePosition:
    """Time (microseconds since 1970 UTC) and binlog coordinates of a change."""

    ts_us: int
    file: str
    pos: int
    row: int = 0


def spare_name(purpose: str, table: str) -> str:
    """A name for a helper table beside the mirror, the same for the same table and purpose."""
    return f"binlogsync_{purpose}_{hashlib.sha256(table.encode()).hexdigest()}"
