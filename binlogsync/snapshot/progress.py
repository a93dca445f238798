"""Progress of reading one table, as log lines by time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from binlogsync.waiting import Interval


@dataclass(frozen=True, slots=True)
class ReadProgress:
    """How far a table has been read.

    Attributes:
        rows: number of rows read, those of earlier runs included.
        estimate: number of rows of the table, estimated by the server; 0 if unknown.
        rate: rows per second of this run; 0 before the first row.
        seconds: time since the load began, or was resumed.
        is_done: whether the rows are in the table of the mirror.
    """

    rows: int
    estimate: int
    rate: float
    seconds: float = 0.0
    is_done: bool = False

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until the end; None if it cannot be estimated."""
        return max(0, self.estimate - self.rows) / self.rate if self.rate and self.estimate else None

    def __str__(self) -> str:
        text = f"{self.rows:,} rows"
        if self.estimate:
            text += f" of about {max(self.estimate, self.rows):,}"
        if self.rate:
            text += f", {self.rate:,.0f} rows/s"
        if self.left_s is not None:
            text += f", about {self.left_s:,.0f} s left"
        return text


class ProgressMeter:
    """Counts the rows of one table; `due` is True every `every_s` seconds, when a line should be written."""

    def __init__(self, rows: int, estimate: int, every_s: float = 10.0) -> None:
        self._first = self._rows = rows
        self._estimate = estimate
        self._begun_s = time.monotonic()
        self._report = Interval(every_s, is_due_at_once=False)

    def add(self, rows: int) -> None:
        """Count rows."""
        self._rows += rows

    @property
    def progress(self) -> ReadProgress:
        """The progress now."""
        seconds = time.monotonic() - self._begun_s
        rate = (self._rows - self._first) / seconds if seconds else 0.0
        return ReadProgress(self._rows, self._estimate, rate, seconds)

    def due(self) -> bool:
        """True once in `every_s` seconds."""
        return self._report.is_due()
