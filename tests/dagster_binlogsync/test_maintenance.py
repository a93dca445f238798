"""Pruning deletes old runs with their files, and keeps the runs that the UI and the tail sensor need."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dagster_binlogsync.operations.maintenance import PruneConfig, delete_run, prune_job, runs_to_prune


@dg.job(executor_def=dg.in_process_executor)
def other() -> None:
    """An empty job."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def ids(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_only_old_ended_runs_are_deleted_and_the_newest_are_kept(instance: dg.DagsterInstance) -> None:
    made = [
        instance.create_run_for_job(
            other, status=dg.DagsterRunStatus.SUCCESS, tags={"binlogsync/source": source}
        ).run_id
        for source in ("a", "b")
        for _ in range(4)
    ]
    instance.create_run_for_job(other, status=dg.DagsterRunStatus.STARTED)
    week_later = time.time() + 8 * 86400
    assert runs_to_prune(instance, PruneConfig(keep_last=1), time.time()) == []
    assert set(runs_to_prune(instance, PruneConfig(keep_last=1), week_later)) == {*made[:3], *made[4:7]}
    assert runs_to_prune(instance, PruneConfig(keep_last=4), week_later) == []
    assert runs_to_prune(instance, PruneConfig(keep_last=1, at_most=2), week_later) == [made[1], made[0]]


def test_deleting_a_run_deletes_its_files(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    run_id = other.execute_in_process(instance=instance).run_id
    shard = next(tmp_path.rglob(f"{run_id}.db"))
    assert delete_run(instance, run_id) > 0
    assert not shard.exists()
    assert run_id not in ids(instance)


@pytest.mark.slow
def test_the_job_deletes_old_runs(instance: dg.DagsterInstance) -> None:
    old = [other.execute_in_process(instance=instance).run_id for _ in range(2)]
    config = dg.RunConfig(ops={"delete_old_runs": PruneConfig(keep_days=0, keep_last=1)})
    done = prune_job.execute_in_process(instance=instance, run_config=config)
    assert done.success
    assert ids(instance) == {old[1], done.run_id}
