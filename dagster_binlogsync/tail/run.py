"""Runs one shift of the tail in its op, for hours, until a flag is set.

After `shift_s` the run ends with SUCCESS, and the tail sensor starts the next one. Terminate lets the tail flush; the
run is CANCELED, and the sensor starts no new run. A signal alone (Ctrl-C of `dagster dev`, a shutdown) also lets the
tail flush, but the run is SUCCESS, and the sensor starts a new run at its next tick. An error that a retry cannot fix
is a Failure with its position and what to do.
"""

from pathlib import Path

import dagster as dg

from binlogsync.errors import (
    BinlogSyncError,
    ConfigError,
    DecodeError,
    FencedError,
    LeaseLostError,
    PositionError,
    PreflightError,
    SinkError,
    SourceError,
    StoreError,
)
from binlogsync.tail.run import Tail, TailProgress
from dagster_binlogsync.failures import Advice, build_failure, error_metadata
from dagster_binlogsync.resource_keys import SourceResources
from dagster_binlogsync.run_status import TERMINATED, find_run_end
from dagster_binlogsync.stop_flag import StopFlag
from dagster_binlogsync.tail.job import TailConfig
from dagster_binlogsync.tail.reporter import DEV_ENDED, TailReporter, binlog_metadata
from dagster_binlogsync.tail.table_list_writer import TableListWriter

ADVICE: Advice = (
    (FencedError, "Another process has published to the stream. Find the second tail of this source and stop it."),
    (
        LeaseLostError,
        "Another tail now holds the lease and continues from the checkpoint of this one. If the sensor started it, no "
        "action is required.",
    ),
    (
        PositionError,
        "The position was purged or belongs to another server. Choose a start position: see `start` of this op.",
    ),
    (PreflightError, "Run the SQL in the message on the MySQL server; the sensor then starts the tail again."),
    (SourceError, "Check that MySQL is up and that the account may replicate; the sensor starts the tail again."),
    (
        DecodeError,
        "Inspect the event with the command in the message, and report it; or exclude the table with `exclude`.",
    ),
    (
        SinkError,
        "Check that NATS is up and that the disks of NATS and of the audit log have free space; the sensor starts the "
        "tail again.",
    ),
    (StoreError, "Check that the position store is up; the sensor starts the tail again."),
    (ConfigError, "Correct the option named in the message."),
)


def run_tail(
    context: dg.OpExecutionContext, config: TailConfig, source: str, resources: SourceResources, stop: StopFlag
) -> None:
    """Tail the source until the end of the shift, or until `stop` is set.

    Raises dg.Failure, and DagsterExecutionInterruptedError if a user terminated the run.
    """
    mysql = resources.mysql.config(source)
    with (
        resources.positions.store() as store,
        resources.jetstream.sink() as stream,
        resources.jetstream.snapshots(source) as snapshots,
        resources.audit.sinks() as audits,
        TableListWriter(mysql, source, Path(config.table_lists) if config.table_lists else None) as tables,
    ):
        tail = Tail(
            mysql, [stream, *audits], store, config.options(source), owner=context.run_id, take_over=True,
            snapshots=snapshots,
        )  # fmt: skip
        reporter = TailReporter(
            context, source, stop, report_s=config.report_s, shift_s=config.shift_s, note_tables=tables.note_tables
        )
        run_shift(context, tail, stop, reporter)


def run_shift(context: dg.OpExecutionContext, tail: Tail, stop: StopFlag, reporter: TailReporter) -> TailProgress:
    """Run the tail until it is stopped, and map its end to the status of the Dagster run."""
    try:
        progress = tail.run(stop, reporter)
    except BinlogSyncError as error:
        if not _is_stop(stop):
            raise build_tail_failure(error, reporter.last) from None
        message = (
            f"stopped ({stop.reason}); the last flush was not stored, the next run reads its changes again: {error}"
        )
        context.log.warning(message)
        if _is_terminated_by_user(context):
            raise dg.DagsterExecutionInterruptedError(message) from None
        return reporter.last or TailProgress()
    reporter.report(progress)
    if _is_stop(stop):
        message = f"stopped ({stop.reason}) after the last flush, at {progress.checkpoint}"
        context.log.info(message)
        if _is_terminated_by_user(context):
            raise dg.DagsterExecutionInterruptedError(message)
        return progress
    if stop.reason != "shift":
        raise dg.Failure(
            f"The tail stopped because {stop.reason}, at {progress.checkpoint}; all changes before it are stored.",
            metadata=binlog_metadata(progress),
            allow_retries=False,
        )
    context.log.info(f"end of the shift at {progress.checkpoint}")
    return progress


def build_tail_failure(error: BinlogSyncError, progress: TailProgress | None) -> dg.Failure:
    """The Failure of the run: the error, what to do, and the position."""
    position = {} if progress is None else binlog_metadata(progress)
    return build_failure(error, error_metadata(error, ADVICE) | position)


def _is_stop(stop: StopFlag) -> bool:
    """Whether the run was stopped: by a signal, by Terminate without a signal, or because `dagster dev` has ended."""
    return stop.reason in {"SIGINT", "SIGTERM", DEV_ENDED, TERMINATED}


def _is_terminated_by_user(context: dg.OpExecutionContext) -> bool:
    """True for Terminate, False for a signal alone (Ctrl-C)."""
    return find_run_end(context.instance, context.run_id) == TERMINATED
