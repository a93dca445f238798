"""Counts the rows of a snapshot that are stored in the stream, by table, for the status of its request."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from binlogsync.codec import snapshot_state
from binlogsync.snapshot.requests import SnapshotState, SnapshotTableStatus, cancelled_tables
from binlogsync.tail.snapshot_watch import CurrentSnapshot, SnapshotReport

_REPORT_S = 0.5


class SnapshotCounts:
    """The counts of one request, which continue from its stored status and the progress in the stream."""

    def __init__(self, current: CurrentSnapshot, state: snapshot_state.SnapshotState | None) -> None:
        self._id = current.request.id
        tables = current.status.tables
        self._tables = list(tables) or [SnapshotTableStatus() for _ in current.request.tables]
        self._is_known = current.status.state != "cancelled"  # else the counts are in its stored status alone
        self._error = ""
        self._sent: deque[tuple[int | None, int]] = deque()
        self._has_ended = False
        self._reported_s = 0.0
        if state is not None and state.table < len(self._tables):
            # The stored status may be older than the progress.
            others = sum(table.rows for number, table in enumerate(self._tables) if number != state.table)
            rows = max(0, state.ordinal - current.first_ordinal - state.spent - others)
            self._set(state.table, rows=rows)
            for number in range(state.table):
                if self._tables[number].state != "failed":
                    self._set(number, state="done")

    def _set(self, table: int, **values: object) -> None:
        self._tables[table] = replace(self._tables[table], **values)  # type: ignore[arg-type]

    def begin_table(self, table: int, estimate: int) -> None:
        """Rows of this table follow."""
        self._set(table, state="running", estimate=estimate)

    def begin_whole(self, table: int, rows: int) -> int:
        """All rows of this table follow a reset. Returns how many were published before, which no longer count."""
        before = self._tables[table].rows
        self._set(table, state="running", rows=0, estimate=rows)
        return before

    def published(self, rows: int, table: int | None) -> None:
        """A flush of rows was sent; None for the end of the request."""
        self._sent.append((table, rows))

    def end_table(self, table: int) -> None:
        """All rows of the table are sent."""
        self._set(table, state="done")

    def fail(self, table: int, error: str) -> None:
        """The table is left out."""
        self._set(table, state="failed", error=error)
        self._error = error

    def note_trouble(self, table: int, error: str) -> bool:
        """The table cannot be read at the moment; with "", it can. True when that is new."""
        if self._tables[table].error == error:
            return False
        self._set(table, error=error)
        return self._is_known

    def finish(self) -> None:
        """The end of the request is stored."""
        self._has_ended = True
        for number, table in enumerate(self._tables):
            if table.state != "failed":
                self._set(number, state="done")

    def stored(self) -> None:
        """The oldest flush that was sent is stored."""
        if not self._sent:
            return
        table, rows = self._sent.popleft()
        if table is None:
            self.finish()
        else:
            self._set(table, rows=self._tables[table].rows + rows)

    @property
    def is_done(self) -> bool:
        """True when the end of the request is stored."""
        return self._has_ended

    def has_news(self, now_s: float) -> bool:
        """True about twice a second."""
        if now_s - self._reported_s < _REPORT_S or not self._is_known:
            return False
        self._reported_s = now_s
        return True

    def report(self) -> SnapshotReport:
        """The counts now."""
        failed = [table.error for table in self._tables if table.state == "failed"]
        ended: SnapshotState = "failed" if failed else "done"
        return SnapshotReport(self._id, ended if self._has_ended else "running", tuple(self._tables), "; ".join(failed))

    @property
    def is_waiting(self) -> bool:
        """True while rows were sent that are not stored yet."""
        return bool(self._sent)

    def cancelled(self) -> SnapshotReport:
        """The counts at the end of a request that was cancelled."""
        tables = cancelled_tables(self._tables) if self._is_known else ()
        return SnapshotReport(self._id, "cancelled", tables, self._error)

    def lost(self) -> SnapshotReport:
        """The request cannot continue, because its progress is no longer in the stream."""
        error = (
            "the end of the stream has no progress of this snapshot any more, because a gap was accepted or the stream "
            "was emptied; request it again. Until then, consumers may have only a part of a table without a key"
        )
        return SnapshotReport(self._id, "failed", tuple(self._tables), error)
