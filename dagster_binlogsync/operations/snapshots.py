"""The job `snapshot_<source>`: has the tail publish the existing rows of tables into the stream, and controls that.

The request is stored in NATS, and the tail carries it out. A run that requests a snapshot follows it: its progress is
in the log of the run, and on the page of each table's subject, as the progress of loads is.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import dagster as dg
from pydantic import Field

from binlogsync.codec.subjects import snapshot_prefix
from binlogsync.errors import BinlogSyncError, ConfigError
from binlogsync.snapshot import control
from binlogsync.snapshot.consumer_tables import check_consumer
from binlogsync.snapshot.requests import SnapshotRequests, StoredSnapshot, new_request
from binlogsync.waiting import Interval
from dagster_binlogsync.consume.load_reporter import progress_metadata
from dagster_binlogsync.failures import Advice, build_failure, error_metadata
from dagster_binlogsync.keys import TableName, binlog_key, safe_part
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.jetstream import JetStream
from dagster_binlogsync.run_status import TERMINATED, find_run_end
from dagster_binlogsync.stop_flag import StopFlag, stop_on_signals

ADVICE: Advice = (
    (ConfigError, "Correct the option named in the message."),
    (BinlogSyncError, "Check that NATS is up and that the tail has run once, then launch the run again."),
)
_REPORT_S = 10.0
_CHECK_S = 5.0


class SnapshotConfig(dg.Config):
    """Which tables to publish, or which snapshot to control."""

    action: Literal["request", "status", "pause", "resume", "cancel"] = Field(
        default="request", description="request publishes the `tables`; the others are about the `snapshot`."
    )
    tables: list[str] = Field(default=[], description='request: "database.table" with * and ?.')
    where: str = Field(default="", description="request: an SQL condition for the rows, for one table.")
    consumer: str = Field(
        default="", description="request: client id of the only consumer that gets the rows; for all if empty."
    )
    rows_per_second: float = Field(default=0.0, ge=0, description="request: limit of the rate; 0 for no limit.")
    wait: bool = Field(
        default=True, description="request: follow the snapshot until it has ended, and fail if it fails."
    )
    snapshot: str = Field(
        default="", description="Id of the snapshot. Without one: all for status, else the only one that has not ended."
    )


def build_snapshot_job(source: str, keys: ResourceKeys) -> dg.JobDefinition:
    """The job `snapshot_<source>`. Requires the resource jetstream of `keys`."""
    name = safe_part(source)

    @dg.op(name=f"snapshot_{name}_now", required_resource_keys=keys.require(("jetstream",)))
    def _snapshot(context: dg.OpExecutionContext, config: SnapshotConfig) -> None:
        try:
            stream: JetStream = keys.find(context).jetstream
            with stream.snapshots(source) as requests:
                if config.action == "request":
                    _request(context, source, requests, config, stream)
                else:
                    _control(context, requests, config)
        except BinlogSyncError as error:
            raise build_failure(error, error_metadata(error, ADVICE)) from None

    return build_job(
        _snapshot, f"snapshot_{name}", f"Has the tail of {source} publish the existing rows of tables into the stream."
    )


def _control(context: dg.OpExecutionContext, requests: SnapshotRequests, config: SnapshotConfig) -> None:
    if config.action == "status" and not config.snapshot:
        for each in requests.list():
            context.log.info(control.describe(each))
        return
    found = control.find_snapshot(requests, config.snapshot or None)
    if config.action in control.ACTIONS:
        found = control.ACTIONS[config.action](requests, found.request.id)
    context.log.info("\n".join([control.describe(found), *control.describe_tables(found)]))


def _request(
    context: dg.OpExecutionContext,
    source: str,
    requests: SnapshotRequests,
    config: SnapshotConfig,
    stream: JetStream,
) -> None:
    from binlogsync.nats.snapshot_readers import list_readers

    subject = None
    if config.consumer:
        check_consumer(config.consumer, list_readers(stream.options(), source))
        subject = snapshot_prefix(source, config.consumer)
    request = new_request(config.tables, config.where or None, subject, config.rows_per_second or None)
    requests.create(request)
    context.log.info(f"snapshot {request.id} of {', '.join(request.patterns)} requested from the tail of {source}")
    if not config.wait:
        return
    reporter = _SnapshotReporter(context, source)
    with _stop_of_run(context) as stop:
        for stored in control.follow(requests, request.id, stop):
            reporter.report(stored)
    if not stored.status.has_ended:
        message = f"stopped ({stop.reason}); the tail continues the snapshot {request.id}: cancel it to end it"
        context.log.info(message)
        if stop.reason == TERMINATED:
            raise dg.DagsterExecutionInterruptedError(message)
        return
    if control.has_failed(stored):
        text = "; ".join([control.describe(stored), *control.failed_tables(stored)])
        raise dg.Failure(f"snapshot {text}", allow_retries=False)


class _SnapshotReporter:
    """Reports a snapshot that makes progress: a log line and an observation of each table's subject, by time."""

    def __init__(self, context: dg.OpExecutionContext, source: str) -> None:
        self._context = context
        self._source = source
        self._due = Interval(_REPORT_S)
        self._ended: set[str] = set()
        self._state = ""

    def report(self, stored: StoredSnapshot) -> None:
        """Report a change of the state, tables that have ended, and the progress of the others if it is due."""
        if stored.status.state != self._state:
            self._state = stored.status.state
            self._context.log.info(f"snapshot {control.describe(stored)}")
            shown = {"snapshot": stored.request.id, "snapshot_state": stored.status.state}
            self._context.log_event(dg.AssetObservation(binlog_key(self._source), metadata=shown))
        reader = stored.request.consumer
        consumer = {} if reader is None else {"snapshot_consumer": dg.MetadataValue.text(reader)}
        is_due = stored.status.state == "running" and self._due.is_due()
        for (database, table), status in zip(stored.request.tables, stored.status.tables, strict=False):
            name = TableName(self._source, database, table)
            is_new_end = status.state in ("done", "failed", "cancelled") and str(name) not in self._ended
            if not is_new_end and not (is_due and status.state == "running"):
                continue
            progress = control.table_progress(stored, status)
            error = f": {status.error}" if status.error else ""
            self._context.log.info(f"{name}: {status.state}, {progress}{error}")
            shown_table = {
                "snapshot": dg.MetadataValue.text(stored.request.id),
                "snapshot_state": dg.MetadataValue.text(f"{status.state}{error}"),
                **consumer,
                **progress_metadata(progress, "published"),
            }
            self._context.log_event(dg.AssetObservation(name.stream_key, metadata=shown_table))
            if is_new_end:
                self._ended.add(str(name))


@contextmanager
def _stop_of_run(context: dg.OpExecutionContext) -> Iterator[StopFlag]:
    """A flag that signals set, and the end of the run in Dagster's storage."""
    with stop_on_signals() as stop:
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(_CHECK_S):
                if (reason := find_run_end(context.instance, context.run_id)) is not None:
                    stop.request(reason)
                    return

        thread = threading.Thread(target=look, name="end of the run", daemon=True)
        thread.start()
        try:
            yield stop
        finally:
            is_over.set()
            thread.join()
