"""dagster_binlogsync in a project of somebody else: one call for everything, and definitions that merge with others."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import dagster_binlogsync
from binlogsync.errors import ConfigError
from binlogsync.settings import Settings
from binlogsync.table_list import ListedTable, TableList, save_table_list
from dagster_binlogsync import (
    BinlogsyncResource,
    ResourceKeys,
    TailConfig,
    binlogsync_assets,
    build_definitions,
    build_tail,
    mirror,
    mirrors,
)


def settings_of(folder: Path, source: str, **more: str) -> Settings:
    return Settings.read(folder, {"BINLOGSYNC_SOURCE": source, **more})


def names(defs: dg.Definitions) -> dict[str, set[str]]:
    repository = defs.get_repository_def()
    return {
        "jobs": {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
        "assets": {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()},
    }


def test_the_public_names_exist() -> None:
    assert all(hasattr(dagster_binlogsync, name) for name in dagster_binlogsync.__all__)


def test_one_call_makes_everything(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "main", BINLOGSYNC_SENSORS="running")
    defs = build_definitions(settings, [mirror("shop.orders", source="main")])
    dg.Definitions.validate_loadable(defs)
    found = names(defs)
    assert found["jobs"] == {
        "tail_main", "consume_main", "verify_main", "replay_main", "bookmark_main", "snapshot_main", "rewind_main",
        "skip_change_main", "acknowledge_gap_main", "remove_main", "check_main",
    }  # fmt: skip
    assert found["sensors"] == {"keep_main_tailed", "consume_main", "bookmarks_main"}
    assert {"mysql/main/binlog", "tables/main/shop/orders", "nats/main/shop/orders"} <= found["assets"]
    assert {sensor.default_status for sensor in defs.get_repository_def().sensor_defs} == {
        dg.DefaultSensorStatus.RUNNING
    }


def test_cheap_checks_run_every_hour(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "main", BINLOGSYNC_SENSORS="running")
    defs = build_definitions(settings, [mirror("shop.orders", source="main")])
    assert defs.resolve_schedule_def("check_main_hourly").default_status == dg.DefaultScheduleStatus.RUNNING
    steps = {node.name for node in defs.resolve_job_def("check_main").nodes}
    assert "main_fresh" in steps
    assert any("stream_intact" in step for step in steps)
    assert not steps & {"main_equals_source", "main_row_count"}


def test_definitions_of_sources_and_of_other_projects_merge(tmp_path: Path) -> None:
    """The other project has an executor of its own, and resources with the usual names."""

    @dg.multi_asset(specs=[dg.AssetSpec("dlt_github_issues", deps=[mirror("shop.orders", source="main").key])])
    def github(warehouse: dg.ResourceParam[str]) -> Any: ...

    other = dg.Definitions(
        assets=[github],
        jobs=[dg.define_asset_job("consume", dg.AssetSelection.assets(github))],
        resources={"warehouse": "theirs", "mysql": "theirs"},
        executor=dg.multiprocess_executor,
    )
    parts = [
        build_definitions(settings_of(tmp_path, source), [mirror("shop.orders", source=source)])
        for source in ("main", "eu-west")
    ]
    merged = dg.Definitions.merge(*parts, other)
    dg.Definitions.validate_loadable(merged)
    assert merged.executor is dg.multiprocess_executor
    found = names(merged)
    for source in ("main", "eu_west"):
        assert {f"tail_{source}", f"consume_{source}", f"skip_change_{source}"} <= found["jobs"]
    own = [job for job in merged.get_repository_def().get_all_jobs() if job.name.startswith(("tail_", "consume_"))]
    assert {job.executor_def.name for job in own} == {"in_process"}


def test_without_replay_assets_a_job_of_all_assets_has_no_partitions(tmp_path: Path) -> None:
    parts = [
        build_definitions(settings_of(tmp_path, name), [mirror("shop.orders", source=name)], replay_assets=False)
        for name in ("main", "eu")
    ]
    merged = dg.Definitions.merge(*parts, dg.Definitions(jobs=[dg.define_asset_job("all")]))
    dg.Definitions.validate_loadable(merged)
    assert merged.resolve_job_def("all").partitions_def is None
    assert "replay_main" in names(merged)["jobs"]


def test_consumers_of_a_package_and_patterns_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_TABLE_LISTS", str(tmp_path / "lists"))
    tables = (ListedTable("shop", "orders"), ListedTable("shop", "customers"))
    save_table_list(tmp_path / "lists", TableList("main", datetime(2026, 1, 1, tzinfo=UTC), tables))
    defs = build_definitions(Settings.read(tmp_path), [mirrors("shop.*")])
    assert "tables_main" in names(defs)["sensors"]
    assert {"tables/main/shop/orders", "tables/main/shop/customers"} <= names(defs)["assets"]
    with pytest.raises(ConfigError, match="'elsewhere', which is not in BINLOGSYNC_SOURCE"):
        build_definitions(Settings.read(tmp_path), [mirror("shop.orders", source="elsewhere")])


def test_assets_of_a_project_consume_tables_by_a_resource() -> None:
    @binlogsync_assets(source="main", tables=["shop.orders", mirror("shop.customers", source="main")], pool="warehouse")
    def shop(context: dg.AssetExecutionContext, binlogsync: BinlogsyncResource) -> Any:
        yield from binlogsync.consume(context)

    assert shop.can_subset
    assert shop.op.name == "main_shop"
    assert shop.op.pool == "warehouse"
    assert {key.to_user_string() for key in shop.keys} == {"tables/main/shop/orders", "tables/main/shop/customers"}
    assert {key.name for key in shop.check_keys} == {"handled", "backlog", "no_gap"}
    binlogsync = BinlogsyncResource.from_settings(Settings())
    defs = dg.Definitions.merge(
        build_tail(binlogsync), dg.Definitions([shop], resources={"binlogsync": binlogsync, "jetstream": "theirs"})
    )
    dg.Definitions.validate_loadable(defs)
    assert names(defs)["jobs"] == {"check_main", "tail_main", "bookmark_main", "snapshot_main"}


def test_assets_of_a_project_are_checked_when_they_are_defined() -> None:
    with pytest.raises(ConfigError, match=r"shop\.orders is a table of source other, not of main"):
        binlogsync_assets(source="main", tables=[mirror("shop.orders", source="other")])
    with pytest.raises(ConfigError, match="must be a generator"):

        @binlogsync_assets(source="main", tables=["shop.orders"])
        def shop(context: dg.AssetExecutionContext) -> Any:
            return None


def test_a_resource_is_found_by_the_key_of_its_source() -> None:
    keys = ResourceKeys.of_source("eu-west")
    assert keys.warehouse == "binlogsync_eu_west_warehouse"
    assert keys.require(("mysql", "audit")) == {"binlogsync_eu_west_mysql", "binlogsync_eu_west_audit"}


def test_consume_requires_an_asset_of_the_decorator() -> None:
    @dg.asset
    def alone(context: dg.AssetExecutionContext) -> None:
        with pytest.raises(dg.DagsterInvariantViolationError, match="@binlogsync_assets"):
            BinlogsyncResource.from_settings(Settings()).consume(context)

    assert dg.materialize([alone]).success


# Dagster itself uses this property for resources within resources.
@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
def test_a_run_warns_about_mirrors_that_the_tail_does_not_capture(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "main", BINLOGSYNC_INCLUDE="shop.*,crm.*", BINLOGSYNC_EXCLUDE="crm.*")

    @binlogsync_assets(source="main", tables=["shop.orders", "crm.accounts"])
    def tables(context: dg.AssetExecutionContext, binlogsync: BinlogsyncResource) -> Any:
        binlogsync.consume(context)
        yield from (dg.MaterializeResult(key) for key in context.selected_asset_keys)

    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"binlogsync": BinlogsyncResource.from_settings(settings)}
        done = dg.materialize([tables], resources=resources, instance=instance, raise_on_error=False)
        warnings = [entry.user_message for entry in instance.all_logs(done.run_id) if entry.level == logging.WARNING]
    assert len(warnings) == 1
    assert "crm.accounts is not captured by the tail of main" in warnings[0]


def test_the_options_of_a_tail_are_those_of_the_settings(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "main", BINLOGSYNC_INCLUDE="shop.*", BINLOGSYNC_START="oldest")
    binlogsync = BinlogsyncResource.from_settings(settings)
    config = tail_options(build_tail(binlogsync))
    assert (config["include"], config["start"]) == (["shop.*"], "oldest")
    assert config["table_lists"] == settings.values.dagster.table_lists
    assert tail_options(build_tail(binlogsync, TailConfig(start="now")))["start"] == "now"


def tail_options(defs: dg.Definitions) -> dict[str, Any]:
    config: Any = defs.resolve_job_def("tail_main").run_config
    found: dict[str, Any] = config["ops"]["tail_main_binlog"]["config"]
    return found
