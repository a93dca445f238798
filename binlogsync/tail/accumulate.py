"""Stretches of changes -> flushes, by the rules: so many changes, so many bytes, so many seconds, a rotation, a DDL.

Pure: the clock is an argument. A flush is cut as soon as a rule applies, even inside a transaction; its checkpoint
records how many changes of that transaction it contains.
"""

from __future__ import annotations

from dataclasses import dataclass

from binlogsync.binlog.reader import DecodedRange
from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConfigError
from binlogsync.flush import (
    Flush,
    FlushReason,
    SchemaChange,
    SnapshotProgress,
    TransactionRun,
    without_first_transaction,
)
from binlogsync.position import BinlogPosition, Checkpoint, ResumePosition
from binlogsync.position_order import compare


@dataclass(frozen=True, slots=True)
class FlushRules:
    """When a flush is due.

    Attributes:
        rows: changes that have accumulated.
        bytes: of their values.
        interval_s: seconds since the first of them arrived.
        idle_s: seconds after which a checkpoint that moved without changes is stored.
        is_eager: changes are flushed at once while the sinks are idle. The other rules apply while they are not.
    """

    rows: int = 1024
    bytes: int = 64 << 20
    interval_s: float = 3.0
    idle_s: float = 60.0
    is_eager: bool = False

    def __post_init__(self) -> None:
        if self.rows < 1 or self.bytes < 1:
            raise ConfigError(f"a flush needs at least one change and one byte, not {self.rows} and {self.bytes}")
        if self.interval_s <= 0 or self.idle_s <= 0:
            raise ConfigError(f"flush intervals are above 0 seconds, not {self.interval_s} and {self.idle_s}")


class Accumulator:
    """Collects decoded ranges of one source until a flush is due."""

    def __init__(self, source: str, rules: FlushRules, start: Checkpoint, now_s: float, first_number: int = 1) -> None:
        self._source = source
        self._rules = rules
        self._number = first_number
        self._start = start.at_boundary()
        self._reached = self._start
        self._batches: list[ChangeBatch] = []
        self._runs: list[TransactionRun] = []
        self._schema_changes: list[SchemaChange] = []
        self._resume: ResumePosition | None = None
        self._dropped = 0
        self._rows = self._bytes = 0
        self._opened_s: float | None = None
        self._last_cut_s = now_s
        self._forced: FlushReason | None = None
        self._start_end: BinlogPosition | None = None

    @property
    def rows(self) -> int:
        """Changes that have accumulated since the last flush."""
        return self._rows

    @property
    def is_empty(self) -> bool:
        """True when neither changes nor statements have accumulated."""
        return not self._batches and not self._schema_changes

    @property
    def next_number(self) -> int:
        """Number of the next flush."""
        return self._number

    @property
    def reached(self) -> Checkpoint:
        """The checkpoint after everything added so far."""
        return self._reached

    def identify(self, start: Checkpoint) -> None:
        """Set the log identity of the start; a start that was stored without it is stored again."""
        if self._reached == start.at_boundary():
            self._reached = start.at_boundary()

    def store_start(self, end: BinlogPosition) -> None:
        """Store a checkpoint without changes once the binlog was read to `end`, its end when the tail started.

        A sink is empty, and tables are loaded from a checkpoint on. Changes before `end` are stored with theirs.
        """
        self._start_end = end

    def add(self, decoded: DecodedRange, now_s: float) -> None:
        """Add a decoded range that arrived at `now_s` (seconds since 1970)."""
        runs = decoded.runs
        if decoded.carried and self._runs:
            runs = without_first_transaction(runs)
        self._runs += runs
        self._batches += decoded.batches
        self._schema_changes += decoded.schema_changes
        self._dropped += decoded.dropped
        self._resume = self._resume or decoded.resume
        self._rows += sum(len(batch) for batch in decoded.batches)
        self._bytes += sum(batch.nbytes for batch in decoded.batches)
        if decoded.transactions or self._is_further(decoded.checkpoint):
            self._reached = decoded.checkpoint
        if self._opened_s is None and (self._batches or self._schema_changes):
            self._opened_s = now_s
        if decoded.end == "rotation":
            self._forced = "rotation"
        elif decoded.end == "schema":
            self._forced = self._forced or "schema"

    @property
    def _stores_start(self) -> bool:
        """Whether a checkpoint without changes is due after `interval_s`."""
        end = self._start_end
        return end is not None and compare(self._reached.position, end).is_at_or_after

    @property
    def _has_moved(self) -> bool:
        """Whether the checkpoint has changed, or its log identity has become known."""
        is_identified = self._start.log is None and self._reached.log is not None
        return self._reached != self._start or is_identified or self._stores_start

    def _is_further(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint without new transactions may replace the current one.

        A dump by GTID begins with files that it skips, whose positions are before the current checkpoint. On another
        server, such positions cannot be recognized until its first transaction is read.
        """
        is_same_server = checkpoint.server_uuid == self._reached.server_uuid
        return is_same_server and compare(checkpoint, self._reached).is_at_or_after

    def due(self, now_s: float, is_idle: bool = False) -> FlushReason | None:
        """The rule by which a flush is due now, or None; `is_idle` when the sinks have stored the earlier flushes."""
        if self._forced is not None:
            return self._forced
        if self._rows >= self._rules.rows:
            return "rows"
        if self._bytes >= self._rules.bytes:
            return "bytes"
        if is_idle and self._opened_s is not None and self._rules.is_eager:
            return "eager"
        if self._opened_s is not None and now_s - self._opened_s >= self._rules.interval_s:
            return "interval"
        idle_s = self._rules.interval_s if self._stores_start else self._rules.idle_s
        if self._has_moved and now_s - self._last_cut_s >= idle_s:
            return "idle"
        return None

    def wait_s(self, now_s: float) -> float:
        """Seconds until the interval rule applies; the whole interval when nothing has accumulated."""
        if self._opened_s is None:
            return self._rules.interval_s
        return max(0.0, self._opened_s + self._rules.interval_s - now_s)

    def cut(self, reason: FlushReason, now_s: float) -> Flush | None:
        """Everything added so far as a flush; None when neither changes nor the checkpoint are new."""
        if not self._batches and not self._schema_changes and not self._has_moved:
            self._forced = None
            return None
        opened_s = self._opened_s if self._opened_s is not None else now_s
        flush = Flush(
            source=self._source,
            number=self._number,
            reason=reason,
            batches=tuple(self._batches),
            start=self._start,
            checkpoint=self._reached,
            runs=tuple(self._runs),
            schema_changes=tuple(self._schema_changes),
            dropped=self._dropped,
            opened_us=int(opened_s * 1e6),
            closed_us=int(now_s * 1e6),
            resume=self._resume,
        )
        self._begin_next(now_s)
        return flush

    def cut_rows(self, batch: ChangeBatch | None, progress: SnapshotProgress, now_s: float) -> Flush:
        """Rows of a snapshot at the current checkpoint, or its end, as a flush of their own; `is_empty` is true."""
        assert self.is_empty
        flush = Flush(
            source=self._source,
            number=self._number,
            reason="snapshot",
            batches=() if batch is None else (batch,),
            start=self._start,
            checkpoint=self._reached,
            runs=tuple(self._runs),
            dropped=self._dropped,
            opened_us=int(now_s * 1e6),
            closed_us=int(now_s * 1e6),
            resume=self._resume,
            snapshot=progress,
        )
        self._begin_next(now_s)
        return flush

    def _begin_next(self, now_s: float) -> None:
        """The next flush begins where this one ends."""
        self._number += 1
        self._start = self._reached
        self._batches, self._runs, self._schema_changes = [], [], []
        self._resume, self._dropped = None, 0
        self._rows = self._bytes = 0
        self._opened_s, self._forced, self._last_cut_s = None, None, now_s
        self._start_end = None
