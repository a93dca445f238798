"""The tables `gaps`, `skips`, `rewinds` and `backfills` of META_SCHEMA, written with the progress of consumers."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import duckdb

from binlogsync.targets.duckdb.file import META_SCHEMA
from binlogsync.targets.duckdb.names import has_relation
from binlogsync.targets.duckdb.progress import KEY_CONDITION, REPLAYS, key_values
from binlogsync.targets.progress import ProgressKey
from binlogsync.targets.records import ConsumerGap, ReplayRecord, RewindRecord, Skip
from binlogsync.text_format import time_of_us

_GAPS, _SKIPS = f"{META_SCHEMA}.gaps", f"{META_SCHEMA}.skips"
_REPLAY_FIELDS = "number, source, database, table_name, words, target, plan"
SKIP_COLUMNS = (
    "(client VARCHAR, source VARCHAR, database VARCHAR, table_name VARCHAR, change_id VARCHAR, op VARCHAR, "
    "position VARCHAR, change JSON, reason VARCHAR, skipped_by VARCHAR, skipped_at TIMESTAMPTZ)"
)
_REWIND_COLUMNS = (
    "(moved_at TIMESTAMPTZ, client VARCHAR, source VARCHAR, database VARCHAR, table_name VARCHAR, direction VARCHAR, "
    "place VARCHAR, reason VARCHAR, who VARCHAR, messages BIGINT, before VARCHAR, after VARCHAR, rebuilt BOOLEAN)"
)


def insert_gap(connection: duckdb.DuckDBPyConnection, key: ProgressKey, gap: ConsumerGap) -> None:
    """Store the gap in the open transaction, unless the same gap is already open."""
    _make_gaps(connection)
    what = (gap.kind, gap.detail, gap.is_mirror)
    connection.execute(
        f"INSERT INTO {_GAPS} SELECT ?, ?, ?, ?, ?, ?, ?, ?, '', '', NULL WHERE NOT EXISTS (SELECT 1 FROM {_GAPS} "
        f"WHERE {KEY_CONDITION} AND kind = ? AND detail = ? AND is_mirror = ? AND resolution = '')",
        [*key_values(key), *what, gap.found_at, *key_values(key), *what],
    )


def load_gaps(connection: duckdb.DuckDBPyConnection, key: ProgressKey) -> list[ConsumerGap]:
    """All gaps of a consumer, in order."""
    _make_gaps(connection)
    rows = connection.execute(
        "SELECT kind, detail, is_mirror, epoch_us(found_at), resolution, resolved_by "
        f"FROM {_GAPS} WHERE {KEY_CONDITION} ORDER BY found_at, detail",
        key_values(key),
    ).fetchall()
    return [
        ConsumerGap(kind, detail, is_mirror, time_of_us(found_us), resolution, by)
        for kind, detail, is_mirror, found_us, resolution, by in rows
    ]


def resolve_gaps(
    connection: duckdb.DuckDBPyConnection, key: ProgressKey, resolution: str, by: str, until: datetime | None = None
) -> None:
    """Resolve all open gaps in the open transaction; those found after `until` stay open."""
    _make_gaps(connection)
    connection.execute(
        f"UPDATE {_GAPS} SET resolution = ?, resolved_by = ?, resolved_at = now() WHERE {KEY_CONDITION} "
        "AND resolution = '' AND found_at <= coalesce(?, found_at)",
        [resolution, by, *key_values(key), until],
    )


def insert_skip(connection: duckdb.DuckDBPyConnection, skip: Skip) -> None:
    """Store the skip in the open transaction."""
    _make_skips(connection)
    values = list(asdict(skip).values())
    connection.execute(f"INSERT INTO {_SKIPS} VALUES ({', '.join('?' * len(values))})", values)


def load_skips(connection: duckdb.DuckDBPyConnection, key: ProgressKey) -> list[Skip]:
    """The skips of a consumer, in order."""
    _make_skips(connection)
    rows = connection.execute(
        "SELECT client, source, database, table_name, change_id, op, position, change, reason, skipped_by, "
        f"epoch_us(skipped_at) FROM {_SKIPS} WHERE {KEY_CONDITION} ORDER BY skipped_at",
        key_values(key),
    ).fetchall()
    return [Skip(*[*row[:-1], time_of_us(row[-1])]) for row in rows]


def insert_rewind(
    connection: duckdb.DuckDBPyConnection, record: RewindRecord, table: str = f"{META_SCHEMA}.rewinds"
) -> None:
    """Store the record of a rewind in the open transaction, in the table, given as SQL."""
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} {_REWIND_COLUMNS}")
    values = [record.direction, record.place, record.reason, record.who]
    effect = [record.messages, record.before, record.after, record.is_rebuilt]
    connection.execute(
        f"INSERT INTO {table} VALUES (now(), {', '.join('?' * 12)})", [*key_values(record.key), *values, *effect]
    )


def load_replays(connection: duckdb.DuckDBPyConnection) -> list[ReplayRecord]:
    """All replays, in the order in which they began. Changes nothing in a file without replays."""
    if not has_relation(connection, META_SCHEMA, "backfills"):
        return []
    rows = connection.execute(
        f"SELECT {_REPLAY_FIELDS}, finished_at IS NOT NULL FROM {REPLAYS} ORDER BY begun_at, rowid"
    ).fetchall()
    return [ReplayRecord(*row) for row in rows]


def insert_replay(connection: duckdb.DuckDBPyConnection, replay: ReplayRecord) -> None:
    """Store that a replay has begun."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {REPLAYS} (number VARCHAR, source VARCHAR, database VARCHAR, table_name VARCHAR, "
        "words VARCHAR, target VARCHAR, plan JSON, begun_at TIMESTAMPTZ, finished_at TIMESTAMPTZ)"
    )
    connection.execute(
        f"INSERT INTO {REPLAYS} ({_REPLAY_FIELDS}, begun_at) VALUES (?, ?, ?, ?, ?, ?, ?, now())",
        [replay.number, replay.source, replay.database, replay.table, replay.request, replay.target, replay.plan],
    )


def finish_replay(connection: duckdb.DuckDBPyConnection, number: str) -> None:
    """Store that a replay is finished."""
    connection.execute(f"UPDATE {REPLAYS} SET finished_at = now() WHERE number = ?", [number])


def delete_replay(connection: duckdb.DuckDBPyConnection, number: str) -> None:
    """Delete the record of a replay."""
    connection.execute(f"DELETE FROM {REPLAYS} WHERE number = ?", [number])


def _make_gaps(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_GAPS} (client VARCHAR, source VARCHAR, database VARCHAR, table_name VARCHAR, "
        "kind VARCHAR, detail VARCHAR, is_mirror BOOLEAN, found_at TIMESTAMPTZ, resolution VARCHAR, "
        "resolved_by VARCHAR, resolved_at TIMESTAMPTZ)"
    )


def _make_skips(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {META_SCHEMA}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_SKIPS} {SKIP_COLUMNS}")
