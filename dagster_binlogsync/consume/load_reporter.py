"""Reports the loads of a mirror to Dagster: log lines and observations by time, and totals when a load has ended."""

import time

import dagster as dg

from binlogsync.snapshot.progress import ReadProgress
from binlogsync.waiting import Interval
from dagster_binlogsync.keys import TableName

EVERY_S = 10.0


class LoadReporter:
    """Reports the loads of one mirror in one run. `report` is called several times per second."""

    def __init__(self, name: TableName, key: dg.AssetKey) -> None:
        self._name, self._key = name, key
        self._last: ReadProgress | None = None
        self._done: ReadProgress | None = None
        self._seen_at = 0.0
        self._interval = Interval(EVERY_S)

    @property
    def is_loading(self) -> bool:
        """Whether a load has begun and has not ended."""
        return self._last is not None and not self._last.is_done

    def has_progress(self, within_s: float) -> bool:
        """Whether the load has made progress in the last seconds."""
        return self.is_loading and time.monotonic() - self._seen_at <= within_s

    def report(self, context: dg.AssetExecutionContext | dg.OpExecutionContext, progress: ReadProgress | None) -> bool:
        """Report what is due. True when a load has ended since the last call."""
        if progress is None or progress is self._last:
            return False
        if not self.is_loading:  # small tables, whose size is not estimated, report only their end
            self._interval = Interval(EVERY_S, is_due_at_once=progress.estimate > 0)
        self._last, self._seen_at = progress, time.monotonic()
        if progress.is_done:
            self._done = progress
            context.log.info(f"{self._name}: loaded {progress.rows:,} existing row(s) in {progress.seconds:.1f} s")
        elif self._interval.is_due():
            context.log.info(f"{self._name}: loading existing rows: {progress}")
            context.log_event(dg.AssetObservation(self._key, metadata=progress_metadata(progress)))
        return progress.is_done

    def metadata(self) -> dict[str, dg.MetadataValue]:
        """Metadata of the last load that has ended in this run; empty if there is none."""
        if self._done is None:
            return {}
        shown = _rows_metadata(self._done)
        shown["load_seconds"] = dg.MetadataValue.float(round(self._done.seconds, 1))
        return shown


def progress_metadata(progress: ReadProgress, what: str = "loaded") -> dict[str, dg.MetadataValue]:
    """Metadata of a running load, or of rows that are published: numbers, which Dagster plots."""
    shown = _rows_metadata(progress, what)
    if progress.estimate:
        estimate = max(progress.estimate, progress.rows)
        shown["rows_expected_about"] = dg.MetadataValue.int(estimate)
        shown["progress_percent"] = dg.MetadataValue.float(round(100 * progress.rows / estimate, 1))
    if progress.left_s is not None:
        shown["seconds_left"] = dg.MetadataValue.float(round(progress.left_s, 1))
    return shown


def _rows_metadata(progress: ReadProgress, what: str = "loaded") -> dict[str, dg.MetadataValue]:
    shown: dict[str, dg.MetadataValue] = {f"{what}_rows": dg.MetadataValue.int(progress.rows)}
    if progress.rate:
        shown["load_rows_per_s" if what == "loaded" else f"{what}_rows_per_s"] = dg.MetadataValue.float(
            round(progress.rate, 1)
        )
    return shown
