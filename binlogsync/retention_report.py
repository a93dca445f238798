"""For each position in use (tail, bookmarks, consumers): whether the server still has it, and until when.

The tail requires the binlog from its checkpoint, and bookmarks from theirs, so that a backfill can start there. A
consumer requires the binlog only when the stream has dropped messages that it has not processed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from binlogsync.bookmarks import Bookmark
from binlogsync.consume.progress import ConsumerProgress
from binlogsync.errors import PositionError
from binlogsync.mysql import ServerInfo
from binlogsync.mysql.retention import BinlogRetention, PositionRetention
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_order import compare_or_raise
from binlogsync.targets import TableStore
from binlogsync.text_format import format_hours, format_megabytes

SOON_S = 12 * 3600.0
"""A position that may be purged sooner than this is reported as a warning."""
CLOCK_S = 5.0
"""A difference between the clocks that is larger than this is reported as a warning."""


@dataclass(frozen=True, slots=True)
class RequiredPosition:
    """A position in use: `user` names its user in reports; `is_essential` when changes are lost without it."""

    user: str
    checkpoint: Checkpoint
    is_essential: bool = False


@dataclass(frozen=True, slots=True)
class RetentionStatus:
    """Whether the server still has a required position, and for how long.

    Attributes:
        position: the required position.
        retained: how long the server retains it; None when it is lost.
        reason_lost: why it is lost, else "".
        is_other_server: the position belongs to another server; a reader resumes from it by GTID.
    """

    position: RequiredPosition
    retained: PositionRetention | None
    reason_lost: str = ""
    is_other_server: bool = False

    @property
    def hours(self) -> float | None:
        """Hours until it may be purged, 0 when it is lost; None when the server never purges it by itself."""
        if self.retained is None:
            return 0.0
        return None if self.retained.seconds is None else self.retained.seconds / 3600

    @property
    def is_short(self) -> bool:
        """True when it is lost or may be purged soon."""
        return self.hours is not None and self.hours * 3600 < SOON_S

    def __str__(self) -> str:
        checkpoint = self.position.checkpoint
        server = f" of server {checkpoint.server_uuid}" if self.is_other_server else ""
        name = f"{self.position.user} at {checkpoint}{server}"
        if self.retained is None:
            return f"{name}: LOST: {self.reason_lost}"
        period = "until purged manually" if self.hours is None else f"for at least {format_hours(self.hours * 3600)}"
        size = f"{format_megabytes(self.retained.bytes_after)} from {self.retained.file} on"
        return f"{name}: retained {period} ({size})"


def required_by_tail(checkpoints: Iterable[Checkpoint | None]) -> list[RequiredPosition]:
    """The position that the tail requires: the oldest checkpoint of its sinks and its position store."""
    oldest: Checkpoint | None = None
    for checkpoint in checkpoints:
        if checkpoint is not None and (oldest is None or compare_or_raise(checkpoint, oldest).may_be_before):
            oldest = checkpoint
    return [] if oldest is None else [RequiredPosition("the tail", oldest, is_essential=True)]


def required_by_bookmarks(bookmarks: Iterable[Bookmark]) -> list[RequiredPosition]:
    """The positions of bookmarks that a user named or pinned; the tail's own bookmarks are not required."""
    wanted = [each for each in bookmarks if each.pinned or each.name]
    return [RequiredPosition(f"bookmark {each.name or each.key}", each.checkpoint) for each in wanted]


def required_by_consumers(tables: TableStore, source: str, first_sequence: int) -> list[RequiredPosition]:
    """The positions of consumers with progress in this store whose next messages the stream has dropped.

    An unfinished replay has progress as well, and needs its position to be resumed.
    """
    with tables.begin() as transaction:
        stored = transaction.load_all_progress()
        replays = {each.key: each for each in transaction.load_replays()}
    return [
        RequiredPosition(
            f"unfinished replay {replays[key].request!r} of {key.database}.{key.table}"
            if key in replays
            else f"consumer {key.client} of {key.database}.{key.table}",
            Checkpoint(BinlogPosition(each.file, each.pos), each.server_uuid),
        )
        for key, each in sorted(stored.items(), key=lambda item: (item[0].client, item[0].database, item[0].table))
        if key.source == source and each.seen + 1 < first_sequence and not each.is_new
    ]


def required_by_nats_consumers(kept: Mapping[str, ConsumerProgress], first_sequence: int) -> list[RequiredPosition]:
    """The same for consumers with progress in NATS (consume/progress_nats.py); the keys of `kept` are their names."""
    return [
        RequiredPosition(f"consumer {name}", Checkpoint(BinlogPosition(each.file, each.pos), each.server_uuid))
        for name, each in sorted(kept.items())
        if each.seen + 1 < first_sequence and not each.is_new
    ]


def check_retention(
    retention: BinlogRetention, info: ServerInfo, positions: Sequence[RequiredPosition]
) -> list[RetentionStatus]:
    """Status of each position, soonest to expire first. Raises SourceError when the server cannot be queried."""
    found = [_check(retention, info, position) for position in positions]
    return sorted(found, key=lambda each: float("inf") if each.hours is None else each.hours)


def _check(retention: BinlogRetention, info: ServerInfo, position: RequiredPosition) -> RetentionStatus:
    is_other_server = position.checkpoint.server_uuid != info.server_uuid
    try:
        return RetentionStatus(position, retention.assess(position.checkpoint), is_other_server=is_other_server)
    except PositionError as error:
        return RetentionStatus(position, None, str(error), is_other_server)


def describe_retention(retention: BinlogRetention) -> str:
    """The server's retention settings and write rate, for reports."""
    return ", ".join(_describe_parts(retention))


def _describe_parts(retention: BinlogRetention) -> Iterator[str]:
    keeps, limit, rate = retention.keeps_s, retention.limit_bytes, retention.bytes_per_s()
    period = "until purged manually" if keeps is None else f"for {format_hours(keeps)}"
    yield f"binlogs are retained {period}"
    if limit is not None:
        yield f"at most {format_megabytes(limit)} of them"
    yield (
        "growth rate unknown: binlogs cover less than a minute"
        if rate is None
        else f"growing by {rate / 1e3:,.1f} kB/s"
    )
