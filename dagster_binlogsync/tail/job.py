"""The tail of one source as a job of one op, which runs for hours and ends when a flag is set.

After `shift_s` the run ends with SUCCESS, and the tail sensor starts the next one. Terminate lets the tail flush; the
run is CANCELED, and the sensor starts no new run. A signal alone (Ctrl-C of `dagster dev`, a shutdown) also lets the
tail flush, but the run is SUCCESS, and the sensor starts a new run at its next tick. An error that a retry cannot fix
is a Failure with its position and what to do. There is no RetryPolicy: with one, Terminate would restart the op inside
the run that is being cancelled.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from binlogsync.codec.subjects import check_source
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
from binlogsync.filters import TableFilter
from binlogsync.settings.model import DagsterSection, TailSection
from binlogsync.tail.run import Tail, TailOptions, TailProgress
from binlogsync.tail.snapshot_policy import SnapshotPolicy
from dagster_binlogsync.failures import Advice, build_failure, error_metadata
from dagster_binlogsync.keys import safe_part, tail_job_name
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.run_status import TERMINATED, find_run_end
from dagster_binlogsync.setting_field import setting_field
from dagster_binlogsync.stop_flag import StopFlag, stop_on_signals
from dagster_binlogsync.tags import SOURCE_TAG
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


class TailConfig(dg.Config):
    """Options of one shift of the tail."""

    shift_s: float = setting_field(DagsterSection, "shift_s", gt=0)
    report_s: float = setting_field(DagsterSection, "report_s", gt=0)
    flush: Literal["interval", "eager"] = setting_field(TailSection, "flush")
    flush_interval_s: float = setting_field(TailSection, "flush_interval_s", gt=0)
    flush_rows: int = setting_field(TailSection, "flush_rows", gt=0)
    flush_bytes: int = Field(default=64 << 20, gt=0, description="Bytes of changes that trigger a flush.")
    include: list[str] = setting_field(TailSection, "include", default=[])
    exclude: list[str] = setting_field(TailSection, "exclude", default=[])
    start: str = setting_field(TailSection, "start")
    idle_checkpoint_s: float = Field(
        default=60.0, gt=0, description="Seconds between checkpoints while there are no changes."
    )
    retry_s: float = Field(
        default=60.0, gt=0, description="Seconds to retry a lost connection to MySQL before the run fails."
    )
    accept_gap: str = Field(
        default="",
        description="Only for a single run from the Launchpad: the reason for accepting the loss of purged changes.",
    )
    gap_start: str = Field(
        default="oldest", description="Where to start after the accepted gap, in the form of `start`."
    )
    table_lists: str = setting_field(DagsterSection, "table_lists")
    snapshot: SnapshotPolicy = setting_field(TailSection, "snapshot")
    snapshot_keyless_rows: int = setting_field(TailSection, "snapshot_keyless_rows", ge=0)
    bookmark_minutes: float = setting_field(TailSection, "bookmark_minutes", gt=0)
    bookmark_keep: int = setting_field(TailSection, "bookmark_keep", gt=0)
    bookmark_keep_days: float = setting_field(TailSection, "bookmark_keep_days", gt=0)

    def build_filter(self) -> Callable[[str, str], bool]:
        """Whether the tail captures a (database, table), on a server that compares names exactly or in lower case."""
        tables = TableFilter(tuple(self.include), tuple(self.exclude))
        lower = tables.folded(str.lower)
        return lambda database, table: (
            tables.captures(database, table) or lower.captures(database.lower(), table.lower())
        )

    def options(self, source: str) -> TailOptions:
        """The options as the library takes them."""
        return TailOptions(
            source=source,
            flush=self.flush,
            flush_interval_s=self.flush_interval_s,
            flush_rows=self.flush_rows,
            flush_bytes=self.flush_bytes,
            include=tuple(self.include),
            exclude=tuple(self.exclude),
            start=self.start,
            snapshot=self.snapshot,
            snapshot_keyless_rows=self.snapshot_keyless_rows,
            idle_checkpoint_s=self.idle_checkpoint_s,
            retry_s=self.retry_s,
            accept_gap=self.accept_gap,
            gap_start=self.gap_start,
            bookmark_s=self.bookmark_minutes * 60,
            bookmark_keep=self.bookmark_keep,
            bookmark_keep_s=self.bookmark_keep_days * 86400,
        )


def build_tail_job(source: str, config: TailConfig | None = None, keys: ResourceKeys | None = None) -> dg.JobDefinition:
    """The job `tail_<source>`. Requires the resources mysql, jetstream, audit and positions of `keys`."""
    check_source(source)
    keys = keys or ResourceKeys()

    @dg.op(
        name=f"tail_{safe_part(source)}_binlog",
        required_resource_keys=keys.require(("mysql", "jetstream", "audit", "positions")),
    )
    def _tail(context: dg.OpExecutionContext, config: TailConfig) -> None:
        resources = keys.find(context)
        mysql = resources.mysql.config(source)
        with (
            stop_on_signals() as stop,
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

    return build_job(
        _tail,
        tail_job_name(source),
        f"Tails the binary log of {source} and publishes its changes to JetStream and the audit log.",
        tags={SOURCE_TAG: source},
        config=dg.RunConfig(ops={_tail.name: config or TailConfig()}),
    )


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
