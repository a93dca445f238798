"""dagster_binlogsync as a library on real servers: patterns from the tail's list, and assets that a project writes."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from binlogsync.settings import Settings
from binlogsync.table_list import load_table_list
from dagster_binlogsync import (
    BinlogsyncResource,
    ConsumeConfig,
    ResourceKeys,
    TailConfig,
    binlogsync_assets,
    build_definitions,
    build_tail,
    mirror,
    mirrors,
)
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.tail.table_list_writer import TableListWriter
from tests.e2e.asset_job import asset_job
from tests.e2e.dagster_project import DagsterProject
from tests.waiting import wait_until

QUICK = ConsumeConfig(idle_s=0.5, max_s=150.0)


def tail_of(project: DagsterProject, settings: Settings) -> TailConfig:
    return TailConfig(
        shift_s=3.0, flush_interval_s=0.2, include=[f"{project.source}.*"], start=settings.values.tail.start,
        table_lists=str(settings.table_lists()),
    )  # fmt: skip


def metadata_of(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dict[str, Any]:
    [found] = [event.materialization for event in result.get_asset_materialization_events() if event.asset_key == key][
        -1:
    ]
    return dict(found.metadata)


def test_a_pattern_is_resolved_from_the_list_that_the_tail_writes(project: DagsterProject) -> None:
    project.mysql.execute("ALTER TABLE notes MODIFY text VARCHAR(80) COMMENT 'what was said'")
    project.mysql.execute("INSERT INTO notes VALUES (1, 'a')")
    settings = Settings.read(project.folder)
    pattern = mirrors(f"{project.source}.*")
    assert pattern.tables == ()
    first = build_definitions(settings, [pattern], tail=tail_of(project, settings))
    assert project.tail(first).success
    pattern = mirrors(f"{project.source}.*", exclude="*.orders")
    assert [str(table.name) for table in pattern] == [f"{project.source}.notes"]
    built = build_definitions(settings, [pattern], tail=tail_of(project, settings))
    [notes] = pattern
    done = project.consume(built, notes)
    assert done.success
    project.assert_mirrored("notes")
    shown = metadata_of(done, notes.key)
    columns = shown["dagster/column_schema"].value.columns
    assert [(column.name, column.type, column.description) for column in columns] == [
        ("id", "int", None),
        ("text", "varchar(80)", "what was said"),
    ]
    assert shown["dagster/row_count"].value == 1
    assert shown["dagster/uri"].value == (project.folder / "warehouse.duckdb").as_uri()


def test_the_list_has_new_tables_soon_and_keeps_dropped_ones(project: DagsterProject) -> None:
    folder = project.folder / "lists"
    mysql = Settings.read(project.folder).mysql()

    def listed() -> set[str]:
        found = load_table_list(folder, project.source)
        return set() if found is None else {table.table for table in found.tables if table.database == project.source}

    with TableListWriter(mysql, project.source, folder) as writer:
        wait_until(lambda: listed() == {"orders", "notes"}, 30, "the first list")
        project.mysql.execute("DROP TABLE orders")
        project.mysql.execute("CREATE TABLE items (id INT PRIMARY KEY)")
        writer.note_tables([(project.source, "items")])
        wait_until(lambda: listed() == {"orders", "notes", "items"}, 30, "the new table")


# Dagster reads an attribute that it deprecated, for every resource within a resource.
@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated:DeprecationWarning")
def test_assets_of_a_project_consume_and_describe_their_tables(project: DagsterProject) -> None:
    settings = Settings.read(project.folder)
    binlogsync = BinlogsyncResource.from_settings(settings)

    @binlogsync_assets(source=project.source, tables=[f"{project.source}.orders", f"{project.source}.notes"])
    def shop(context: dg.AssetExecutionContext, binlogsync: BinlogsyncResource) -> Any:
        yield from binlogsync.consume(context, QUICK).fetch_row_count().fetch_column_metadata()

    tail = build_tail(binlogsync, tail_of(project, settings))
    built = dg.Definitions.merge(tail, dg.Definitions([shop], resources={"binlogsync": binlogsync}))
    project.mysql.execute("INSERT INTO orders VALUES (1, 'Ada', 1.50, '2026-01-01 00:00:00')")
    assert project.tail(built).success
    orders = dg.AssetKey(["tables", project.source, project.source, "orders"])
    job = built.resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(instance=project.instance, asset_selection=[orders])
    assert done.success
    project.assert_mirrored("orders")
    shown = metadata_of(done, orders)
    assert shown["dagster/row_count"].value == 1
    types = [column.type for column in shown["dagster/column_schema"].value.columns]
    assert types == ["int", "varchar(40)", "decimal(10,2)", "datetime(3)"]
    results = {check.check_name: check.passed for check in done.get_asset_check_evaluations()}
    assert results == {"handled": True, "backlog": True, "no_gap": True}
    fresh = dg.AssetCheckKey(orders, "fresh")
    latest = project.instance.event_log_storage.get_latest_asset_check_execution_by_key([fresh])
    evaluation = latest[fresh].evaluation
    assert evaluation is not None
    assert evaluation.passed


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_executor_of_the_project_runs_the_assets(project: DagsterProject) -> None:
    """Each step of Dagster's default executor is a process of its own."""
    project.mysql.execute("INSERT INTO notes VALUES (1, 'a')")
    settings = Settings.read(project.folder)
    assert project.tail(build_definitions(settings, tail=tail_of(project, settings))).success
    keys = [TableName(project.source, project.source, table).consumer_key for table in ("notes", "orders")]
    with dg.execute_job(
        dg.reconstructable(asset_job),
        instance=project.instance,
        run_config=dg.RunConfig(ops={f"consumers_{project.source}": QUICK}).to_config_dict(),  # type: ignore[no-untyped-call]
    ) as done:
        assert done.success
        assert {event.asset_key for event in done.get_asset_materialization_events()} == {
            *keys,
            dg.AssetKey("unrelated"),
        }
    project.assert_mirrored("notes")


def test_assets_downstream_of_a_mirror_run_when_it_changed(project: DagsterProject) -> None:
    """By the condition of docs/own-project.md: the materialization of the mirror makes an asset due, once."""
    notes = mirror(f"{project.source}.notes")
    when = dg.AutomationCondition
    changed: Any = when.any_deps_updated().since(when.newly_requested())

    @dg.asset(deps=[notes.key], automation_condition=changed & ~when.any_deps_missing() & ~when.in_progress())
    def report(warehouse: dg.ResourceParam[Any]) -> dg.MaterializeResult[Any]:
        with warehouse.file().transaction() as connection:
            [[rows]] = connection.execute(f'SELECT count(*) FROM "{project.source}".notes').fetchall()
        return dg.MaterializeResult(metadata={"rows": rows})

    settings = Settings.read(project.folder)
    built = build_definitions(settings, [notes, report], tail=tail_of(project, settings))
    warehouse = built.resources[ResourceKeys.of_source(project.source).warehouse]  # type: ignore[index]
    built = dg.Definitions.merge(built, dg.Definitions(resources={"warehouse": warehouse}))
    cursor: Any = None

    def is_due() -> bool:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(
            built,
            instance=project.instance,
            asset_selection=dg.AssetSelection.assets(report),
            cursor=cursor,
        )
        cursor = result.cursor
        return result.total_requested == 1

    assert not is_due()
    project.mysql.execute("INSERT INTO notes VALUES (1, 'a')")
    assert project.tail(built).success
    assert not is_due()
    assert project.consume(built, notes).success
    assert is_due()
    job = built.resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(instance=project.instance, asset_selection=[report.key])
    assert metadata_of(done, report.key)["rows"].value == 1
    assert not is_due()


def test_the_resource_reads_the_same_files_as_the_settings(project: DagsterProject) -> None:
    resource = BinlogsyncResource.from_settings(Settings.read(project.folder))
    assert (resource.source, Path(resource.warehouse.path)) == (project.source, project.folder / "warehouse.duckdb")
