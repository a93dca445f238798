"""The options of a `Tail`, checked when they are created."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from binlogsync.bookmarks import BookmarkRetention
from binlogsync.codec.subjects import check_source
from binlogsync.errors import ConfigError
from binlogsync.tail.accumulate import FlushRules
from binlogsync.tail.bookmarks import BookmarkRules
from binlogsync.tail.snapshot_policy import WHOLE_ROWS, SnapshotPolicy

FlushMode = Literal["interval", "eager"]


@dataclass(frozen=True, slots=True)
class TailOptions:
    """What to tail, and how.

    Attributes:
        source: name of the source: letters, digits, _ and -.
        flush: "interval", or "eager": changes are flushed at once while the sinks are idle; those that arrive meanwhile
            are the next flush.
        flush_interval_s, flush_rows, flush_bytes: a flush is due after so many seconds, changes or bytes.
        include, exclude: "database.table" with * and ?; empty `include` means all. Excluded changes are counted.
        start: where to start when neither the sinks nor the store have a checkpoint: now, oldest, file:pos, a GTID set,
            or an ISO time.
        checkpoint_s: how often the position store gets a checkpoint of eager flushes; the sinks have each.
        idle_checkpoint_s: how often a checkpoint that moves without changes is stored.
        retry_s: how long a lost server is retried before `run` raises.
        snapshot: when the tail requests a snapshot of all captured tables itself (snapshot_policy.py).
        snapshot_keyless_rows: snapshots refuse a table without a key with more rows; 0 refuses all (snapshot_whole.py).
        preflight: check the server's settings at the start.
        accept_gap: why the operator accepts the loss of purged changes; with "" a lost checkpoint is an error.
            Applies only to the first start of a tail.
        gap_start: where to resume after the gap: oldest, now, a position, a GTID set or a time.
        stop_s: how long a stop waits for sinks that do not store anything; then `run` raises.
        bookmark_s: seconds between two bookmarks; each rotation and schema change has one in addition.
        bookmark_keep, bookmark_keep_s: how many unpinned bookmarks are retained, and for how long.
    """

    source: str
    flush: FlushMode = "interval"
    flush_interval_s: float = 3.0
    flush_rows: int = 1024
    flush_bytes: int = 64 << 20
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    start: str = "now"
    checkpoint_s: float = 1.0
    idle_checkpoint_s: float = 60.0
    retry_s: float = 60.0
    preflight: bool = True
    snapshot: SnapshotPolicy = "never"
    snapshot_keyless_rows: int = WHOLE_ROWS
    stop_s: float = 30.0
    accept_gap: str = ""
    gap_start: str = "oldest"
    bookmark_s: float = 600.0
    bookmark_keep: int = 1000
    bookmark_keep_s: float = 30 * 86400.0

    def __post_init__(self) -> None:
        check_source(self.source)
        if self.flush not in ("interval", "eager"):
            raise ConfigError(f"flush {self.flush!r} is unknown; use interval or eager")
        if self.snapshot not in get_args(SnapshotPolicy):
            raise ConfigError(f"snapshot {self.snapshot!r} is unknown; use {', '.join(get_args(SnapshotPolicy))}")
        if self.snapshot_keyless_rows < 0:
            raise ConfigError(f"snapshot_keyless_rows ({self.snapshot_keyless_rows}) cannot be below 0")
        if self.checkpoint_s < 0:
            raise ConfigError(f"checkpoint_s ({self.checkpoint_s}) cannot be below 0")
        self.rules()
        self.bookmarks()
        if self.retry_s < 0 or self.stop_s < 0:
            raise ConfigError(
                f"retry_s ({self.retry_s}) and stop_s ({self.stop_s}) cannot be below 0, which gives up at once"
            )

    def bookmarks(self) -> BookmarkRules:
        """The rules of bookmarks among the options; raises ConfigError."""
        return BookmarkRules(self.bookmark_s, BookmarkRetention(self.bookmark_keep, self.bookmark_keep_s))

    @property
    def is_eager(self) -> bool:
        """True when changes are flushed at once while the sinks are idle."""
        return self.flush == "eager"

    def rules(self) -> FlushRules:
        """The flush rules among the options; raises ConfigError."""
        return FlushRules(
            self.flush_rows, self.flush_bytes, self.flush_interval_s, self.idle_checkpoint_s, self.is_eager
        )
