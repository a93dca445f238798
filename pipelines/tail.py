"""The tail of one source as a job of one op: hours of work in a single step, ended by a flag.

A shift ends with SUCCESS after `shift_s`, and the keeper starts the next. Terminate lets the tail flush, then the run
is CANCELED and the keeper holds. So does a signal alone (Ctrl-C of `dagster dev`, a shutdown), but that run is SUCCESS:
nothing failed, and the keeper goes on as soon as it ticks again. What cannot be mended by trying again is a Failure
that says where it happened and what to do. There is no RetryPolicy: with one, Terminate would start the op anew inside
a run that is being cancelled.
"""

import dagster as dg
from pydantic import Field

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
from binlogsync.tail.run import Tail, TailOptions, TailProgress
from binlogsync.wire.subjects import check_source
from pipelines.consumer_metadata import traceback_metadata
from pipelines.jobs import build_job
from pipelines.keys import safe_part
from pipelines.stop_flag import StopFlag, stop_on_signals
from pipelines.tail_reporter import DEV_ENDED, TailReporter, binlog_metadata

ADVICE: tuple[tuple[type[BinlogSyncError], str], ...] = (
    (FencedError, "Another writer has written to the stream. Find the second tail of this source and stop it."),
    (
        LeaseLostError,
        "Another tail holds the lease now; it goes on where this one ended. Nothing to do if it is the keeper's.",
    ),
    (
        PositionError,
        "The position is gone or belongs to another server. Choose where to begin: see `start` of this op.",
    ),
    (PreflightError, "Run the SQL in the message on the MySQL server; the keeper then starts the tail again."),
    (SourceError, "Check that MySQL is up and that the account may replicate; the keeper tries again."),
    (
        DecodeError,
        "Look at the event with the command in the message, and report it; or leave the table out with `exclude`.",
    ),
    (SinkError, "Check that the broker, or the disk of the audit log, is up and has room; the keeper tries again."),
    (StoreError, "Check that the position store is up; the keeper tries again."),
    (ConfigError, "Correct the option that the message names."),
)


class TailConfig(dg.Config):
    """Options of one shift of the tail."""

    shift_s: float = Field(
        default=6 * 3600.0, gt=0, description="Seconds until this run ends and the next one takes over."
    )
    report_s: float = Field(default=30.0, gt=0, description="Seconds between two observations.")
    flush_interval_s: float = Field(default=3.0, gt=0, description="Changes wait at most this long, in seconds.")
    flush_rows: int = Field(default=1024, gt=0, description="Changes that are flushed at once without waiting.")
    flush_bytes: int = Field(default=64 << 20, gt=0, description="Bytes of changes that are flushed without waiting.")
    include: list[str] = Field(default=[], description='Tables to capture, as "db.table" with * wildcards; none = all.')
    exclude: list[str] = Field(default=[], description="Tables to leave out, written the same way.")
    start: str = Field(
        default="now",
        description=(
            "Where to begin when neither sinks nor position store know: "
            "now, oldest, binlog.000042:1187, a GTID set, or an ISO time."
        ),
    )
    idle_checkpoint_s: float = Field(
        default=60.0, gt=0, description="Seconds between checkpoints while nothing changes."
    )
    retry_s: float = Field(default=60.0, gt=0, description="How long a lost MySQL is tried again before the run fails.")
    accept_gap: str = Field(
        default="",
        description="For one run from the Launchpad: why it is accepted that what the server no longer has is missing.",
    )
    gap_start: str = Field(default="oldest", description="Where to begin behind that gap; as `start`.")
    bookmark_minutes: float = Field(
        default=10.0, gt=0, description="Minutes between two bookmarks; rotations and schema changes have one besides."
    )
    bookmark_keep: int = Field(default=1000, gt=0, description="Bookmarks that are kept, pinned ones not counted.")
    bookmark_keep_days: float = Field(default=30.0, gt=0, description="Days that a bookmark is kept.")

    def options(self, source: str) -> TailOptions:
        """The same for the library."""
        return TailOptions(
            source=source,
            flush_interval_s=self.flush_interval_s,
            flush_rows=self.flush_rows,
            flush_bytes=self.flush_bytes,
            include=tuple(self.include),
            exclude=tuple(self.exclude),
            start=self.start,
            idle_checkpoint_s=self.idle_checkpoint_s,
            retry_s=self.retry_s,
            accept_gap=self.accept_gap,
            gap_start=self.gap_start,
            bookmark_s=self.bookmark_minutes * 60,
            bookmark_keep=self.bookmark_keep,
            bookmark_keep_s=self.bookmark_keep_days * 86400,
        )


def tail_job_name(source: str) -> str:
    """Of the job that tails the source."""
    return f"tail_{safe_part(source)}"


def tail_job(source: str, config: TailConfig | None = None, mysql_key: str = "mysql") -> dg.JobDefinition:
    """The job `tail_<source>`; needs the resources `mysql_key`, "jetstream", "audit" and "positions"."""
    check_source(source)

    @dg.op(
        name=f"tail_{safe_part(source)}_binlog", required_resource_keys={mysql_key, "jetstream", "audit", "positions"}
    )
    def _tail(context: dg.OpExecutionContext, config: TailConfig) -> None:
        resources = context.resources
        with (
            stop_on_signals() as stop,
            resources.positions.store() as store,
            resources.jetstream.sink() as stream,
            resources.audit.sinks() as audits,
        ):
            mysql = getattr(resources, mysql_key).config(source)
            tail = Tail(mysql, [stream, *audits], store, config.options(source), owner=context.run_id, take_over=True)
            run_shift(
                context,
                tail,
                stop,
                TailReporter(context, source, stop, report_s=config.report_s, shift_s=config.shift_s),
            )

    return build_job(
        _tail,
        tail_job_name(source),
        f"Reads the binary log of {source} and flushes its changes to JetStream and the audit log.",
        tags={"binlogsync/source": source},
        config=dg.RunConfig(ops={_tail.name: config or TailConfig()}),
    )


def run_shift(context: dg.OpExecutionContext, tail: Tail, stop: StopFlag, reporter: TailReporter) -> TailProgress:
    """Run the tail until it is stopped, and turn its end into what Dagster should show for the run."""
    try:
        progress = tail.run(stop, reporter)
    except BinlogSyncError as error:
        if not _is_stop(stop):
            raise build_failure(error, reporter.last) from None
        said = f"stopped ({stop.reason}); the last flush was not stored, the next run reads its changes again: {error}"
        context.log.warning(said)
        if _is_ended_by_user(context):
            raise dg.DagsterExecutionInterruptedError(said) from None
        return reporter.last or TailProgress()
    reporter.report(progress)
    if _is_stop(stop):
        said = f"stopped ({stop.reason}) after the last flush, at {progress.checkpoint}"
        context.log.info(said)
        if _is_ended_by_user(context):
            raise dg.DagsterExecutionInterruptedError(said)
        return progress
    if stop.reason != "shift":
        raise dg.Failure(
            f"The tail left because {stop.reason}, at {progress.checkpoint}; everything up to there is stored.",
            metadata=binlog_metadata(progress),
            allow_retries=False,
        )
    context.log.info(f"end of the shift at {progress.checkpoint}")
    return progress


def build_failure(error: BinlogSyncError, progress: TailProgress | None) -> dg.Failure:
    """The Failure that the run page shows: what, where and what to do."""
    advice = next((text for kind, text in ADVICE if isinstance(error, kind)), "See the message.")
    metadata: dict[str, dg.MetadataValue] = {
        "error": dg.MetadataValue.text(type(error).__name__),
        "what_to_do": dg.MetadataValue.text(advice),
        **traceback_metadata(error),
    }
    if progress is not None:
        metadata |= binlog_metadata(progress)
    return dg.Failure(description=f"{type(error).__name__}: {error}", metadata=metadata, allow_retries=False)


def _is_stop(stop: StopFlag) -> bool:
    """True for a signal, also one that did not come through, and where nobody is left to watch the run."""
    return stop.reason in {"SIGINT", "SIGTERM", DEV_ENDED, "the run is CANCELING", "the run is CANCELED"}


def _is_ended_by_user(context: dg.OpExecutionContext) -> bool:
    """True for Terminate, which Dagster notes before it sends a signal; False for a signal alone (Ctrl-C)."""
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status in {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED}
