"""The definitions load with an empty environment, and contain what the README documents."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from binlogsync.errors import ConfigError
from binlogsync.settings import Settings
from dagster_binlogsync import tables
from dagster_binlogsync.discovery import ConsumerDefinitions
from dagster_binlogsync.tables import mirror
from dagster_binlogsync.tail.job import TailConfig
from pipelines import tables as former
from pipelines.definitions import build_deployment, defs

ROOT = Path(__file__).parents[2]
NOTHING = ConsumerDefinitions((), (), ())


def test_the_definitions_are_valid() -> None:
    dg.Definitions.validate_loadable(defs)


def test_the_demo_tables_have_their_consumers() -> None:
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    for table in ("shop/customers", "shop/orders", "shop/order_items", "treehole/holes"):
        assert {f"{kind}/main/{table}" for kind in ("mysql", "nats", "tables")} <= keys
    assert "mysql/main/binlog" in keys


def test_a_source_has_a_tail_and_two_sensors_which_are_off() -> None:
    assert defs.resolve_job_def("tail_main").tags["binlogsync/source"] == "main"
    for name in ("keep_main_tailed", "consume_main"):
        assert defs.resolve_sensor_def(name).default_status == dg.DefaultSensorStatus.STOPPED


def test_the_sensors_are_on_if_requested() -> None:
    found = ConsumerDefinitions((mirror("shop.orders", source="main"),), (), ())
    built = build_deployment(Settings(), found, TailConfig(), running=True)
    for name in ("keep_main_tailed", "consume_main"):
        assert built.resolve_sensor_def(name).default_status == dg.DefaultSensorStatus.RUNNING


def test_several_sources_have_separate_definitions(tmp_path: Path) -> None:
    settings = Settings.read(tmp_path, {"BINLOGSYNC_SOURCE": "main,eu-west"})
    tables = (mirror("shop.orders", source="main"), mirror("shop.orders", source="eu-west"))
    built = build_deployment(settings, ConsumerDefinitions(tables, (), ()), TailConfig(), running=False)
    dg.Definitions.validate_loadable(built)
    assert built.resolve_job_def("tail_eu_west").tags["binlogsync/source"] == "eu-west"


def test_a_source_without_tables_has_no_backlog_sensor() -> None:
    built = build_deployment(Settings(), NOTHING, TailConfig(), running=False)
    assert [sensor.name for sensor in built.sensors or []] == ["keep_main_tailed", "bookmarks_main"]


def test_a_table_of_an_unknown_source_is_refused() -> None:
    found = ConsumerDefinitions((mirror("shop.orders", source="elsewhere"),), (), ())
    with pytest.raises(ConfigError, match="'elsewhere', which is not in BINLOGSYNC_SOURCE"):
        build_deployment(Settings(), found, TailConfig(), running=False)


@pytest.mark.slow
def test_the_definitions_load_with_an_empty_environment(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("BINLOGSYNC_", "DAGSTER_"))
    }
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "--workspace", str(ROOT / "workspace.yaml")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**environment, "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_of_consumers_may_import_from_the_former_module() -> None:
    assert [getattr(former, name) for name in former.__all__] == [getattr(tables, name) for name in former.__all__]
