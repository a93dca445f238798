"""Reports a replay to Dagster: progress, results and failures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from binlogsync.errors import BinlogSyncError, HandlerError, PositionError, SinkError, SourceError
from binlogsync.waiting import Interval
from dagster_binlogsync.failures import Advice, build_failure, error_metadata
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.operation_counts import count_metadata
from dagster_binlogsync.run_status import find_run_end
from dagster_binlogsync.stop_flag import StopFlag

if TYPE_CHECKING:
    from binlogsync.replay.run import RangeResult, ReplayProgress, ReplayResult

ADVICE: Advice = (
    (
        HandlerError,
        "Fix the handler or its dependencies, then re-execute this run: it resumes at this change.",
    ),
    (
        PositionError,
        "Choose a range that the stream or the binlogs still contain; the message names the earliest time.",
    ),
    (SourceError, "Check that MySQL is up and that the account may replicate, then re-execute this run: it resumes."),
    (SinkError, "Check that NATS is up and that the disk has free space, then re-execute this run: it resumes."),
)


class ReplayReporter:
    """Called about twice a second. Reports an observation every `report_s`, and stops if the run was terminated."""

    def __init__(self, context: Any, key: dg.AssetKey, stop: StopFlag, report_s: float) -> None:
        self._context, self._key, self._stop = context, key, stop
        self._interval = Interval(report_s, is_due_at_once=False)

    def __call__(self, progress: "ReplayProgress") -> None:
        """Report the progress if `report_s` is over."""
        if not self._interval.is_due():
            return
        self._context.log.info(str(progress))
        shown: dict[str, Any] = {
            "progress_percent": round(100 * progress.share, 1),
            "changes_so_far": progress.changes,
            "changes_per_s": round(progress.rate, 1),
        }
        if progress.total is not None:
            shown["changes_expected" if progress.is_exact else "changes_expected_about"] = progress.total
        if progress.left_s is not None:
            shown["seconds_left"] = round(progress.left_s, 1)
        self._context.log_event(dg.AssetObservation(self._key, metadata=shown))
        if (reason := find_run_end(self._context.instance, self._context.run.run_id)) is not None:
            self._stop.request(reason)


def replay_metadata(done: "ReplayResult", span: "RangeResult | None" = None) -> Mapping[str, dg.MetadataValue]:
    """Metadata of one range, or, without `span`, of the whole replay with its totals."""
    spans = done.ranges if span is None else (span,)
    counts = done.counts if span is None else span.counts
    shown = count_metadata(counts)
    if spans:
        shown["from"] = dg.MetadataValue.text(str(spans[0].range.start))
        shown["until"] = dg.MetadataValue.text(str(spans[-1].range.until))
        shown["read_from"] = dg.MetadataValue.text(", ".join(dict.fromkeys(each.origin for each in spans)))
    if span is None:
        shown["run_ranges"] = dg.MetadataValue.int(len(spans))
        shown["run_changes"] = dg.MetadataValue.int(done.changes)
        shown["run_done_before"] = dg.MetadataValue.int(done.before)
        if done.is_resumed:
            shown["run_went_on"] = dg.MetadataValue.text("resumed an unfinished run")
        shown["run_seconds"] = dg.MetadataValue.float(round(done.seconds, 1))
        shown["run_changes_per_s"] = dg.MetadataValue.float(round(done.rate, 1))
    return shown


def build_replay_failure(error: BinlogSyncError, name: TableName) -> dg.Failure:
    """The Failure of a replay, or of a job on bookmarks, of the table."""
    return build_failure(error, {"table": dg.MetadataValue.text(str(name)), **error_metadata(error, ADVICE)})
