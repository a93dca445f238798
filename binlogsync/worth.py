"""What the positions of a source are worth: who needs which, whether the server still has it, and for how long.

The tail needs its checkpoint; bookmarks want theirs, so that a backfill can begin there; a consumer needs the binlog
only when the stream has dropped messages that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from binlogsync.bookmarks import Bookmark
from binlogsync.consume.progress import ConsumerProgress
from binlogsync.duckfile import META_SCHEMA, DuckFile
from binlogsync.errors import PositionError
from binlogsync.mysql import ServerInfo
from binlogsync.mysql.retention import Left, Retention
from binlogsync.position import BinlogPosition, Checkpoint

SOON_S = 12 * 3600.0
"""A position that may be gone sooner is worth a warning."""
CLOCK_S = 5.0
"""Clocks that differ by more are worth one too."""


@dataclass(frozen=True, slots=True)
class Need:
    """Somebody needs a position: `who` for people; `is_essential` when changes are lost for good without it."""

    who: str
    checkpoint: Checkpoint
    is_essential: bool = False


@dataclass(frozen=True, slots=True)
class Worth:
    """What one position is worth.

    Attributes:
        need: whose it is.
        left: how long the server has it; None when it is gone.
        wrong: why it is gone, else "".
        moved: it is of another server, and is gone on with by GTID.
    """

    need: Need
    left: Left | None
    wrong: str = ""
    moved: bool = False

    @property
    def hours(self) -> float | None:
        """Until it may be purged; None for a position that is kept for ever."""
        if self.left is None:
            return 0.0
        return None if self.left.seconds is None else self.left.seconds / 3600

    @property
    def is_short(self) -> bool:
        """True when it may be gone soon, or is."""
        return self.hours is not None and self.hours * 3600 < SOON_S

    def __str__(self) -> str:
        place = self.need.checkpoint
        name = f"{self.need.who} at {place}{f' of server {place.server_uuid}' if self.moved else ''}"
        if self.left is None:
            return f"{name}: GONE: {self.wrong}"
        kept = "as long as nobody purges it" if self.hours is None else f"for {self.hours:.1f} hours at least"
        return f"{name}: kept {kept} ({self.left.bytes_behind / 1e6:,.1f} MB from {self.left.file} on)"


def tail_need(checkpoints: Iterable[Checkpoint | None]) -> list[Need]:
    """Of the tail: the oldest of what its sinks and its store say."""
    oldest: Checkpoint | None = None
    for checkpoint in checkpoints:
        if checkpoint is not None and (oldest is None or checkpoint.precedes(oldest)):
            oldest = checkpoint
    return [] if oldest is None else [Need("the tail", oldest, is_essential=True)]


def bookmark_needs(bookmarks: Iterable[Bookmark]) -> list[Need]:
    """Of those that a person has made or pinned: nobody waits for the others."""
    wanted = [each for each in bookmarks if each.pinned or each.name]
    return [Need(f"bookmark {each.name or each.key}", each.checkpoint) for each in wanted]


def consumer_needs(file: DuckFile, source: str, first_sequence: int) -> list[Need]:
    """Of consumers with progress in this DuckDB file whose next messages the stream has dropped."""
    table = f"{META_SCHEMA}.progress"
    with file.transaction() as connection:
        known = connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE schema_name || '.' || table_name = ?", [table]
        ).fetchall()
        if not known[0][0]:
            return []
        rows = connection.execute(
            f"SELECT client, database, table_name, server_uuid, file, pos FROM {table} "
            "WHERE source = ? AND seen + 1 < ? AND server_uuid <> '' ORDER BY ALL",
            [source, first_sequence],
        ).fetchall()
    return [
        Need(f"consumer {client} of {database}.{name}", Checkpoint(BinlogPosition(log, pos), server))
        for client, database, name, server, log, pos in rows
    ]


def nats_consumer_needs(kept: Mapping[str, ConsumerProgress], first_sequence: int) -> list[Need]:
    """Of consumers with progress in NATS (consume/progress_nats.py), by what they are called, of whom that is true."""
    return [
        Need(f"consumer {name}", Checkpoint(BinlogPosition(each.file, each.pos), each.server_uuid))
        for name, each in sorted(kept.items())
        if each.seen + 1 < first_sequence and not each.is_new
    ]


def assess(retention: Retention, info: ServerInfo, needs: Sequence[Need]) -> list[Worth]:
    """Each of them, the one that is gone first in front. Raises SourceError when the server cannot be asked."""
    found = [_worth(retention, info, need) for need in needs]
    return sorted(found, key=lambda each: float("inf") if each.hours is None else each.hours)


def _worth(retention: Retention, info: ServerInfo, need: Need) -> Worth:
    moved = need.checkpoint.server_uuid != info.server_uuid
    try:
        return Worth(need, retention.left(need.checkpoint), moved=moved)
    except PositionError as error:
        return Worth(need, None, str(error), moved)


def rate_text(retention: Retention) -> str:
    """What the server keeps and writes, for people."""
    return ", ".join(_rate_parts(retention))


def _rate_parts(retention: Retention) -> Iterator[str]:
    keeps, limit, rate = retention.keeps_s, retention.limit_bytes, retention.bytes_per_s()
    kept = "until somebody purges them" if keeps is None else f"for {keeps / 3600:.1f} hours"
    yield f"binlogs are kept {kept}"
    if limit is not None:
        yield f"{limit / 1e6:,.0f} MB of them"
    yield (
        "they are too young to tell how fast they grow"
        if rate is None
        else f"{rate / 1e3:,.1f} kB are written a second"
    )
