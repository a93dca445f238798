"""The job `prune_runs` and its nightly schedule: deletes old runs with their events and logs.

Dagster never deletes runs, and its default SQLite storage keeps a file of 140 kB for each. `prune_runs` deletes ended
runs that are older than `keep_days`: the run, its events, its event file and its compute logs. The newest runs of each
tail and consumer are kept regardless of their age: the UI shows their last position and materialization, and the tail
sensor decides by them. It deletes runs of all jobs of the Dagster instance, so `build_definitions` leaves it out.
"""

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from pydantic import Field

from binlogsync.text_format import format_megabytes
from dagster_binlogsync.run_status import ENDED
from dagster_binlogsync.tags import CONSUMER_TAG, SOURCE_TAG

PAGE = 200


class PruneConfig(dg.Config):
    """Which runs to delete."""

    keep_days: float = Field(default=7.0, ge=0, description="Days to keep an ended run.")
    keep_last: int = Field(
        default=10, ge=1, description="Number of newest runs of each tail and consumer to keep regardless of their age."
    )
    at_most: int = Field(default=2000, ge=1, description="Maximum number of runs to delete in one run of this job.")


@dg.op(name="delete_old_runs")
def prune_op(context: dg.OpExecutionContext, config: PruneConfig) -> None:
    """Delete old runs, and log their number and the size of their event files."""
    runs = runs_to_prune(context.instance, config, time.time())
    freed = sum(delete_run(context.instance, run_id) for run_id in runs)
    context.log.info(f"deleted {len(runs)} run(s) and {format_megabytes(freed)} of event files")


@dg.job(
    name="prune_runs", executor_def=dg.in_process_executor, description="Deletes old runs with their events and logs."
)
def prune_job() -> None:
    """Delete runs older than a week."""
    prune_op()


def build_prune_schedule(*, running: bool = False) -> dg.ScheduleDefinition:
    """The schedule `prune_runs_nightly`."""
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name="prune_runs_nightly",
        job=prune_job,
        cron_schedule="23 3 * * *",
        default_status=status,
        description="Every night, deletes runs older than a week, except for the newest runs of each job.",
    )


def runs_to_prune(instance: dg.DagsterInstance, config: PruneConfig, now: float) -> list[str]:
    """Ids of the runs to delete, newest first."""
    before = now - config.keep_days * 86400
    kept: Counter[tuple[str, ...]] = Counter()
    found: list[str] = []
    cursor = None
    while page := instance.get_run_records(dg.RunsFilter(statuses=ENDED), limit=PAGE, cursor=cursor):
        for record in page:
            run = record.dagster_run
            group = (run.tags.get(SOURCE_TAG, ""), run.tags.get(CONSUMER_TAG, ""), run.job_name)
            kept[group] += 1
            created = record.create_timestamp.replace(tzinfo=record.create_timestamp.tzinfo or UTC)
            if kept[group] > config.keep_last and created < datetime.fromtimestamp(before, tz=UTC):
                found.append(run.run_id)
        cursor = page[-1].dagster_run.run_id
    return found[-config.at_most :]


def delete_run(instance: dg.DagsterInstance, run_id: str) -> int:
    """Delete a run, its event file and its compute logs. Returns the size of the event file in bytes."""
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    shard = getattr(instance.event_log_storage, "path_for_shard", None)
    if shard is None:
        return 0
    freed = 0
    for path in (Path(shard(run_id) + suffix) for suffix in ("", "-wal", "-shm")):
        if path.exists():
            freed += path.stat().st_size
            path.unlink()
    return freed
