"""The tables that `binlogsync mirror` consumes, with their totals, and its lines: counts, lag, and blocked tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from binlogsync.cli.output import write_message
from binlogsync.consume.pool import TableReport
from binlogsync.errors import BinlogSyncError
from binlogsync.text_format import format_counts

Table = tuple[str, str]
_OPERATIONS = {"c": "created", "u": "updated", "d": "deleted", "t": "truncated", "r": "read"}


@dataclass(slots=True)
class MirroredTable:
    """One table.

    Attributes:
        name: "database.table".
        changes: number of changes applied by this process.
        unreported: number of changes by op since the last line.
        lag_s: seconds between the commit of the last change at the source and its commit here.
        sequence: stream sequence of the last change that was applied.
        error: the error that blocks the table; None if it is not blocked.
        failures: number of failed rounds in a row.
        is_read: True after the first round.
        is_caught_up: True after all messages of the stream were applied.
        due_s: time of the next line.
    """

    name: str
    changes: int = 0
    unreported: Counter[str] = field(default_factory=Counter)
    lag_s: float | None = None
    sequence: int = 0
    error: BinlogSyncError | None = None
    failures: int = 0
    is_read: bool = False
    is_caught_up: bool = False
    due_s: float = 0.0


class MirrorLines:
    """Adds up the reports of the workers, and writes a line for each table with changes, at most every `every_s`."""

    def __init__(self, every_s: float) -> None:
        self.tables: dict[Table, MirroredTable] = {}
        self._every_s = every_s

    @property
    def changes(self) -> int:
        """Number of changes applied by this process."""
        return sum(table.changes for table in self.tables.values())

    def add(self, table: Table) -> None:
        """Register a table."""
        self.tables[table] = MirroredTable(".".join(table))

    def block(self, table: Table, error: BinlogSyncError, failures: int) -> None:
        """Record that the table is blocked."""
        self.tables[table].error, self.tables[table].failures = error, failures

    def record(self, reports: Iterable[TableReport]) -> None:
        """Add the reports, and write the lines that are due."""
        for report in reports:
            table = self.tables[report.table]
            if report.error is not None:
                self.block(report.table, report.error, report.failures)
                continue
            assert report.done is not None
            if table.error is not None:
                write_message(f"{table.name} is no longer blocked")
                table.error, table.failures = None, 0
            table.changes += report.done.changes
            table.unreported.update(report.done.counts)
            table.lag_s = table.lag_s if report.done.lag_s is None else report.done.lag_s
            table.sequence = report.done.progress.sequence
            if not table.is_read:
                table.is_read = True
                self._write(table)
        self.write_due()

    def write_due(self, *, is_end: bool = False) -> None:
        """Write the lines that are due; at the end, those of all tables with changes."""
        for table in self.tables.values():
            if table.unreported and (is_end or time.monotonic() >= table.due_s):
                self._write(table)

    def write_blocked(self) -> bool:
        """Write a line for each blocked table; True if there is one."""
        blocked = [table for table in self.tables.values() if table.error is not None]
        for table in blocked:
            write_message(f"{table.name} is blocked: {table.error}")
        return bool(blocked)

    def _write(self, table: MirroredTable) -> None:
        counts = {_OPERATIONS.get(op, op): count for op, count in table.unreported.items()}
        done = f"{table.unreported.total():,} changes ({format_counts(counts)})" if counts else "no new changes"
        lag = f", lag {table.lag_s:.1f} s" if counts and table.lag_s is not None else ""
        total = f", {table.changes:,} in all" if table.changes > table.unreported.total() else ""
        write_message(f"{table.name}: {done}{lag}{total}")
        table.unreported = Counter()
        table.due_s = time.monotonic() + self._every_s
