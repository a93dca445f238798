"""Progress of a tail: `TailProgress` holds the numbers, `ProgressCounter` counts them.

A change counts as stored when every sink has stored it, and is counted once, even if it was read several times.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from binlogsync.flush import Flush
from binlogsync.position import Checkpoint

TailPhase = Literal["connecting", "opening", "reading"]
"""What a tail is doing: it connects to the source, opens its sinks, or reads the binlog."""
_KEPT_RECOVERIES = 100


@dataclass(frozen=True, slots=True)
class TailProgress:
    """Progress of a tail since `run` began.

    Attributes:
        changes, transactions, flushes: stored in every sink.
        bytes_read: from the server's socket.
        dropped: changes of tables that the filter excludes.
        seconds: since `run` began.
        checkpoint: the last one saved, or where the tail started.
        lag_s: age of the last transaction read, 0 when the backlog is stored.
        last_flush_changes, last_flush_reason: of the last flush stored.
        tables: (database, table) -> changes stored for all consumers.
        schema_changes: DDL statements on captured tables.
        recoveries: one sentence for each recovered error.
        phase: what the tail is doing.
    """

    changes: int = 0
    transactions: int = 0
    flushes: int = 0
    bytes_read: int = 0
    dropped: int = 0
    seconds: float = 0.0
    checkpoint: Checkpoint | None = None
    lag_s: float = 0.0
    last_flush_changes: int = 0
    last_flush_reason: str | None = None
    tables: Mapping[tuple[str, str], int] = field(default_factory=dict)
    schema_changes: int = 0
    recoveries: tuple[str, ...] = ()
    phase: TailPhase = "connecting"


class ProgressCounter:
    """Counts the progress of one `run`; used only by its thread."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()
        self._progress = TailProgress()
        self._tables: Counter[tuple[str, str]] = Counter()
        self._last_ts_us = 0
        self._bytes_read = 0

    @property
    def phase(self) -> TailPhase:
        """What the tail is doing."""
        return self._progress.phase

    def enters(self, phase: TailPhase) -> None:
        """The tail does this now."""
        self._progress = replace(self._progress, phase=phase)

    def begins(self, start: Checkpoint) -> None:
        """Reading starts at `start`; the sinks have all changes before it."""
        self._progress = replace(self._progress, checkpoint=start, phase="reading")

    def read(self, count: int) -> None:
        """Count bytes received from the server."""
        self._bytes_read += count

    def seen(self, ts_us: int) -> None:
        """A transaction committed at that time (microseconds since 1970) was read."""
        self._last_ts_us = ts_us

    def stored(self, flushes: Sequence[tuple[Flush, Checkpoint]]) -> None:
        """Count flushes that every sink has stored, each with the checkpoint saved after it."""
        for flush, checkpoint in flushes:
            for batch in flush.batches:
                if batch.ddl is None and flush.rows_subject is None:
                    self._tables[batch.schema.database, batch.schema.table] += len(batch)
            done = self._progress
            self._progress = replace(
                done,
                changes=done.changes + flush.changes,
                transactions=done.transactions + _finished_transactions(flush),
                flushes=done.flushes + 1,
                dropped=done.dropped + flush.dropped,
                checkpoint=checkpoint,
                last_flush_changes=flush.changes,
                last_flush_reason=flush.reason,
                schema_changes=done.schema_changes + len(flush.schema_changes),
            )

    def recovered(self, sentence: str) -> None:
        """Record a recovered error."""
        kept = (*self._progress.recoveries, sentence)[-_KEPT_RECOVERIES:]
        self._progress = replace(self._progress, recoveries=kept)

    def snapshot(self, *, idle: bool) -> TailProgress:
        """The current progress; `idle` when the backlog is stored."""
        lag_s = 0.0 if idle or not self._last_ts_us else max(0.0, time.time() - self._last_ts_us / 1e6)
        seconds = time.monotonic() - self._begun_s
        tables = MappingProxyType(dict(self._tables))
        return replace(self._progress, bytes_read=self._bytes_read, seconds=seconds, lag_s=lag_s, tables=tables)


def _finished_transactions(flush: Flush) -> int:
    """Transactions that end in the flush: all except one that its checkpoint is inside of."""
    if not flush.runs:
        return 0
    last, position = flush.runs[-1], flush.checkpoint.position
    is_open = (last.file, int(last.begin[-1])) == (position.file, position.pos)
    return sum(len(run.begin) for run in flush.runs) - is_open
