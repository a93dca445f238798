"""Which runs keep the job that removes a source from starting, with a real (ephemeral) instance."""

from collections.abc import Iterator

import dagster as dg
import pytest

from binlogsync.errors import ConfigError
from binlogsync.settings import Settings
from dagster_binlogsync import ResourceKeys, TailConfig, build_definitions, mirror
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.operations.removal import check_idle, check_table_idle
from dagster_binlogsync.replay.source import ReplaySource

ORDERS = TableName("main", "shop", "orders")
WITHOUT = ReplaySource("main", ResourceKeys(), (), TailConfig())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    """One for all tests, which only read it."""
    settings = Settings.read(
        tmp_path_factory.mktemp("settings"), {"BINLOGSYNC_SOURCE": "main,other", "BINLOGSYNC_OTHER_MYSQL_HOST": "h"}
    )
    own = dg.define_asset_job("own", dg.AssetSelection.assets(ORDERS.consumer_key).without_checks())
    backfill = dg.define_asset_job("backfill", dg.AssetSelection.assets(ORDERS.replay_key))
    consumers = [mirror("shop.orders", source=source) for source in ("main", "other")]
    return dg.Definitions.merge(build_definitions(settings, consumers), dg.Definitions(jobs=[own, backfill]))


def create_run(
    instance: dg.DagsterInstance, defs: dg.Definitions, name: str, status: dg.DagsterRunStatus
) -> dg.DagsterRun:
    job = defs.resolve_job_def(name)
    replayed = {f"{name}_range": {"config": {"table": "shop.orders", "from": "oldest"}}}
    config = {"ops": replayed} if name.startswith("replay_") else {}
    return instance.create_run_for_job(job, status=status, tags=job.tags, run_config=config)


@pytest.mark.parametrize(
    "status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
)
@pytest.mark.parametrize("job", ["tail_main", "consume_main", "replay_main", "own", "backfill"])
def test_a_source_that_runs_are_working_on_is_not_removed(
    instance: dg.DagsterInstance, defs: dg.Definitions, job: str, status: dg.DagsterRunStatus
) -> None:
    run = create_run(instance, defs, job, status)
    with pytest.raises(ConfigError, match=f"run {run.run_id} of {job} is active"):
        check_idle(instance, WITHOUT)
    instance.delete_run(run.run_id)
    check_idle(instance, WITHOUT)


def test_runs_of_other_sources_and_ended_runs_do_not_matter(instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
    for job in ("tail_other", "consume_other", "replay_other", "remove_main"):
        create_run(instance, defs, job, dg.DagsterRunStatus.STARTED)
    create_run(instance, defs, "consume_main", dg.DagsterRunStatus.SUCCESS)
    check_idle(instance, WITHOUT)
    check_table_idle(instance, ORDERS)


def test_a_table_that_a_run_consumes_is_not_removed(instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
    run = create_run(instance, defs, "consume_main", dg.DagsterRunStatus.STARTED)
    with pytest.raises(ConfigError, match=f"run {run.run_id} of consume_main is active"):
        check_table_idle(instance, ORDERS)
    check_table_idle(instance, TableName("main", "shop", "items"))
