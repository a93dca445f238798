"""Old runs, removed with everything that belongs to them.

Dagster keeps each run for ever, and with its default SQLite storage a file of 140 kB for each. `prune_runs` deletes
ended runs of this project that are older than `keep_days`: the run, its events, its shard file and its compute logs.
The newest runs of each tail and consumer stay, whatever their age: they hold the last position and materialization
that the UI shows, and the keeper's evidence.
"""

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from pydantic import Field

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
PAGE = 200


class PruneConfig(dg.Config):
    """Which runs go."""

    keep_days: float = Field(default=7.0, ge=0, description="Days that an ended run is kept.")
    keep_last: int = Field(
        default=10, ge=1, description="Newest runs of each tail and consumer, kept whatever their age."
    )
    at_most: int = Field(default=2000, ge=1, description="Runs deleted by one run of this job.")


@dg.op(name="delete_old_runs")
def prune_op(context: dg.OpExecutionContext, config: PruneConfig) -> None:
    """Delete old runs; says how many, and what they freed."""
    runs = runs_to_prune(context.instance, config, time.time())
    freed = sum(delete_run(context.instance, run_id) for run_id in runs)
    context.log.info(f"{len(runs)} run(s) deleted, {freed / 1e6:.1f} MB of event files with them")


@dg.job(name="prune_runs", executor_def=dg.in_process_executor, description="Deletes old runs with their files.")
def prune_job() -> None:
    """Delete runs older than a week."""
    prune_op()


def prune_schedule(*, running: bool = False) -> dg.ScheduleDefinition:
    """Once a night."""
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name="prune_runs_nightly",
        job=prune_job,
        cron_schedule="23 3 * * *",
        default_status=status,
        description="Every night, deletes the runs that ended more than a week ago, save the newest of each job.",
    )


def runs_to_prune(instance: dg.DagsterInstance, config: PruneConfig, now: float) -> list[str]:
    """Ids of the ended runs that may go, oldest last."""
    before = now - config.keep_days * 86400
    kept: Counter[tuple[str, ...]] = Counter()
    found: list[str] = []
    cursor = None
    while page := instance.get_run_records(dg.RunsFilter(statuses=ENDED), limit=PAGE, cursor=cursor):
        for record in page:
            run = record.dagster_run
            group = (run.tags.get("binlogsync/source", ""), run.tags.get("binlogsync/consumer", ""), run.job_name)
            kept[group] += 1
            created = record.create_timestamp.replace(tzinfo=record.create_timestamp.tzinfo or UTC)
            if kept[group] > config.keep_last and created < datetime.fromtimestamp(before, tz=UTC):
                found.append(run.run_id)
        cursor = page[-1].dagster_run.run_id
    return found[-config.at_most :]


def delete_run(instance: dg.DagsterInstance, run_id: str) -> int:
    """Delete a run, its event file and its compute logs; the bytes of the event file are returned."""
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
