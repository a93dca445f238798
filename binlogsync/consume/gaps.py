"""Gaps: changes that a consumer may have missed. A gap is stored with progress before progress moves past it.

A gap stays open until it is resolved: for a mirror by rereading its table, or by a verification that finds mirror and
table equal; for a handler by the operator, with a reason. Until then the consumer's check `no_gap` fails. A DuckDB file
stores gaps in the table `gaps` of META_SCHEMA, other progress stores as they choose (ProgressStore.gaps).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from binlogsync.change import ChangeBatch
from binlogsync.consume.progress import ProgressKey, ProgressStore
from binlogsync.errors import ConfigError
from binlogsync.targets.duckdb.file import META_SCHEMA
from binlogsync.text_format import time_of_us

if TYPE_CHECKING:
    import duckdb

GapKind = Literal["retention", "recreated", "accepted", "foreign_key"]
_TABLE = f"{META_SCHEMA}.gaps"
_KEY = "client = ? AND source = ? AND database = ? AND table_name = ?"


@dataclass(frozen=True, slots=True)
class ConsumerGap:
    """Changes that one consumer may have missed.

    Attributes:
        kind: "retention" (the stream dropped messages), "recreated" (the stream begins after the progress),
            "accepted" (the binlog was purged, and the operator let the tail resume after it), "foreign_key" (the server
            changed rows of the table by a foreign key action, which it does not log).
        detail: describes what is missing; equal for the same gap.
        is_mirror: True when the consumer is a mirror, which rereading its table repairs.
        found_at: when it was first recorded, UTC.
        resolution: how it was resolved, "" while it is open.
        resolved_by: the user or program that resolved it.
    """

    kind: GapKind
    detail: str
    is_mirror: bool
    found_at: datetime
    resolution: str = ""
    resolved_by: str = ""

    def to_json(self) -> str:
        """One line; from_json reads it back."""
        return json.dumps({**asdict(self), "found_at": self.found_at.isoformat()}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ConsumerGap:
        """Read what to_json wrote."""
        record: dict[str, Any] = json.loads(text)
        return cls(**{**record, "found_at": datetime.fromisoformat(record["found_at"])})

    def __str__(self) -> str:
        text = f"{self.detail} (noted {self.found_at:%Y-%m-%d %H:%M:%SZ})"
        return f"{text}; resolved by {self.resolved_by}: {self.resolution}" if self.resolution else text


def new_gap(kind: GapKind, detail: str, *, is_mirror: bool) -> ConsumerGap:
    """A new gap, found now."""
    return ConsumerGap(kind, detail, is_mirror, datetime.now(UTC))


def gap_from_batch(batch: ChangeBatch, *, is_mirror: bool) -> ConsumerGap | None:
    """The gap that a message of the table reports; None for any other change."""
    ddl = batch.ddl
    if ddl is None or ddl.kind not in ("gap", "foreign_key"):
        return None
    return new_gap("accepted" if ddl.kind == "gap" else "foreign_key", ddl.sql, is_mirror=is_mirror)


def insert_gap(connection: duckdb.DuckDBPyConnection, key: ProgressKey, gap: ConsumerGap) -> None:
    """Store the gap in the open transaction, unless the same gap is already open."""
    _make_table(connection)
    what = (gap.kind, gap.detail, gap.is_mirror)
    connection.execute(
        f"INSERT INTO {_TABLE} SELECT ?, ?, ?, ?, ?, ?, ?, ?, '', '', NULL WHERE NOT EXISTS (SELECT 1 FROM {_TABLE} "
        f"WHERE {_KEY} AND kind = ? AND detail = ? AND is_mirror = ? AND resolution = '')",
        [*_values(key), *what, gap.found_at, *_values(key), *what],
    )


def load_gaps(connection: duckdb.DuckDBPyConnection, key: ProgressKey) -> list[ConsumerGap]:
    """All gaps of a consumer, in order."""
    _make_table(connection)
    rows = connection.execute(
        "SELECT kind, detail, is_mirror, epoch_us(found_at), resolution, resolved_by "
        f"FROM {_TABLE} WHERE {_KEY} ORDER BY found_at, detail",
        _values(key),
    ).fetchall()
    return [
        ConsumerGap(kind, detail, is_mirror, time_of_us(found_us), resolution, by)
        for kind, detail, is_mirror, found_us, resolution, by in rows
    ]


def resolve_gaps(
    connection: duckdb.DuckDBPyConnection, key: ProgressKey, resolution: str, by: str, until: datetime | None = None
) -> None:
    """Resolve all open gaps in the open transaction; those found after `until` stay open."""
    _make_table(connection)
    connection.execute(
        f"UPDATE {_TABLE} SET resolution = ?, resolved_by = ?, resolved_at = now() WHERE {_KEY} AND resolution = '' "
        "AND found_at <= coalesce(?, found_at)",
        [resolution, by, *_values(key), until],
    )


def record_gap(store: ProgressStore, key: ProgressKey, gap: ConsumerGap) -> None:
    """Store the gap in the progress store, of any kind."""
    if (file := store.duck_file) is not None:
        with file.transaction() as connection:
            insert_gap(connection, key, gap)
        return
    known = store.gaps(key)
    if not any((each.kind, each.detail, each.resolution) == (gap.kind, gap.detail, "") for each in known):
        store.put_gaps(key, [*known, gap])


def gaps_of(store: ProgressStore, key: ProgressKey) -> Sequence[ConsumerGap]:
    """All gaps of a consumer, resolved ones too, in order."""
    if (file := store.duck_file) is not None:
        with file.transaction() as connection:
            return load_gaps(connection, key)
    return store.gaps(key)


def open_gaps(store: ProgressStore, key: ProgressKey) -> list[ConsumerGap]:
    """The gaps that are not resolved."""
    return [gap for gap in gaps_of(store, key) if not gap.resolution]


def acknowledge_gaps(store: ProgressStore, key: ProgressKey, reason: str, by: str) -> list[ConsumerGap]:
    """Mark the open gaps of a handler as accepted by the operator; returns them.

    Raises ConfigError without a reason, without an open gap, and for a mirror, which must equal its table.
    """
    if not reason.strip():
        raise ConfigError(f"{key}: to acknowledge a gap, give the reason")
    known = gaps_of(store, key)
    opened = [gap for gap in known if not gap.resolution]
    if not opened:
        raise ConfigError(f"{key} has no open gap")
    if any(gap.is_mirror for gap in opened):
        raise ConfigError(
            f"{key} is a mirror: its gap is closed by rereading the table, which each run of the mirror tries, or by a "
            "verification that finds both equal: binlogsync verify, or binlogsync rewind --rebuild"
        )
    if (file := store.duck_file) is not None:
        with file.transaction() as connection:
            resolve_gaps(connection, key, reason.strip(), by, max(gap.found_at for gap in opened))
    else:
        done = [gap if gap.resolution else replace(gap, resolution=reason.strip(), resolved_by=by) for gap in known]
        store.put_gaps(key, done)
    return opened


def _values(key: ProgressKey) -> list[str]:
    return [key.client, key.source, key.database, key.table]


def _make_table(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_TABLE} (client VARCHAR, source VARCHAR, database VARCHAR, table_name VARCHAR, "
        "kind VARCHAR, detail VARCHAR, is_mirror BOOLEAN, found_at TIMESTAMPTZ, resolution VARCHAR, "
        "resolved_by VARCHAR, resolved_at TIMESTAMPTZ)"
    )
