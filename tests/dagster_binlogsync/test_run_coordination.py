"""Which tables other runs consume, with a real (ephemeral) instance: also runs without an asset selection."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from binlogsync.settings import Settings
from dagster_binlogsync import BinlogsyncResource, TableAsset, binlogsync_assets, mirror
from dagster_binlogsync.consume.run_coordination import exclude_active_tables, find_waiting_runs
from dagster_binlogsync.consumers_asset import build_consume_job, build_consumers_asset
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.tags import CODE_TAG

A = [mirror(f"shop.{name}", source="a") for name in ("orders", "items")]
B = [mirror(f"shop.{name}", source="b") for name in ("orders", "items")]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def consume_job(source: str, tables: Sequence[TableAsset], *selected: TableAsset) -> dg.JobDefinition:
    """The job of the source, or a job of the project with some of its tables."""
    asset = build_consumers_asset(source, ResourceKeys(), tables)
    job = build_consume_job(source, tables)
    own = dg.define_asset_job("own", dg.AssetSelection.assets(*(table.key for table in selected)).without_checks())
    names = ("jetstream", "warehouse", "mysql", "positions")
    defs = dg.Definitions([asset], jobs=[own if selected else job], resources=dict.fromkeys(names, "none"))
    return defs.resolve_job_def("own" if selected else f"consume_{source}")


def start(instance: dg.DagsterInstance, job: dg.JobDefinition) -> str:
    run = instance.create_run_for_job(job, tags={CODE_TAG: ""}, status=dg.DagsterRunStatus.STARTING)
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name)
    instance.report_dagster_event(event, run.run_id)
    return run.run_id


def keys(tables: Sequence[TableAsset]) -> dict[tuple[str, str], dg.AssetKey]:
    return {table.consumer.table: table.key for table in tables}


def test_an_unselected_run_consumes_only_the_tables_of_its_own_source(instance: dg.DagsterInstance) -> None:
    run_id = start(instance, consume_job("a", A))
    assert find_waiting_runs(instance, "none", keys(B)) == ({}, [])
    assert find_waiting_runs(instance, "none", keys(A)) == ({run_id: frozenset(keys(A))}, [])


def test_an_unselected_run_of_a_job_consumes_only_the_tables_of_the_job(instance: dg.DagsterInstance) -> None:
    run_id = start(instance, consume_job("a", A, A[1]))
    assert find_waiting_runs(instance, "none", keys(A)) == ({run_id: frozenset({("shop", "items")})}, [])


def test_a_run_keeps_its_tables_while_another_source_is_consumed(instance: dg.DagsterInstance) -> None:
    found: list[Sequence[Any]] = []

    @dg.asset
    def probe(context: dg.AssetExecutionContext) -> None:
        found.extend(exclude_active_tables(context, [table.consumer for table in tables]) for tables in (A, B))

    start(instance, consume_job("a", A))
    assert dg.materialize([probe], instance=instance).success
    assert found == [[], [table.consumer for table in B]]


@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")  # Dagster calls it itself
def test_the_run_of_an_asset_of_the_project_is_tagged_as_a_consumer(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @binlogsync_assets(source="a", tables=A)
    def shop(context: dg.AssetExecutionContext, binlogsync: BinlogsyncResource) -> Any:
        yield from binlogsync.consume(context)

    tags: list[bool] = []

    def consume(context: dg.AssetExecutionContext, *others: Any) -> Any:
        run = instance.get_run_by_id(context.run.run_id)
        tags.append(run is not None and CODE_TAG in run.tags)
        consuming, _ = find_waiting_runs(instance, "none", keys(A))
        tags.append(consuming == {context.run.run_id: frozenset(keys(A))})
        yield from (dg.MaterializeResult(table.key) for table in A)

    monkeypatch.setattr("dagster_binlogsync.binlogsync_resource.run_consumers", consume)
    resource = BinlogsyncResource.from_settings(Settings.read(tmp_path, {}))
    done = dg.materialize([shop], instance=instance, resources={"binlogsync": resource}, raise_on_error=False)
    assert tags == [True, True]
    assert done.get_asset_materialization_events()
