"""The component in YAML: connections, tables, handlers, translation and state, loaded by Dagster's own loader."""

import traceback
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster.components.core.component_tree import ComponentTree
from dagster.components.testing.utils import DefsFolderSandbox, create_defs_folder_sandbox

from binlogsync.errors import ConfigError
from binlogsync.settings.model import MySQLSection, NatsSection, RedisSection, Section, StreamSection, TailSection
from binlogsync.table_list import ListedColumn, ListedTable, TableList, save_table_list
from dagster_binlogsync import BinlogSyncComponent, BinlogsyncTranslator, mirror
from dagster_binlogsync.component.connections import (
    MySQLConnection,
    NatsServerOptions,
    PositionStoreOptions,
    StreamOptions,
)
from dagster_binlogsync.component.table_entries import TableEntry, find_model
from dagster_binlogsync.component.tail_options import TailSettings

# Dagster's loader of YAML uses a function that pydantic deprecated, and features of its own in beta or deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars` is deprecated"),
]

TYPE = "dagster_binlogsync.BinlogSyncComponent"
HANDLERS = '''
from dataclasses import dataclass

import pandas

from binlogsync import Change
from dagster_binlogsync import table_consumer


@dataclass(frozen=True)
class Hole:
    id: int


def on_hole(change: Change[Hole]) -> None:
    """Handles holes."""


def on_frames(frame: pandas.DataFrame) -> None: ...


items = table_consumer(Hole, lambda change: None, table="shop.items", source="main")
'''


@pytest.fixture
def sandbox() -> Iterator[DefsFolderSandbox]:
    with create_defs_folder_sandbox() as made:
        yield made


def load(sandbox: DefsFolderSandbox, *instances: dict[str, Any]) -> dg.Definitions:
    for number, attributes in enumerate(instances):
        contents = {"type": TYPE, "attributes": attributes}
        sandbox.scaffold_component(BinlogSyncComponent, f"cdc{number}", defs_yaml_contents=contents)
    with sandbox.build_all_defs() as defs:
        dg.Definitions.validate_loadable(defs)
        return defs


def attributes(**more: Any) -> dict[str, Any]:
    mysql = {"host": "db.example.com", "password": "{{ secret('MYSQL_PASSWORD') }}"}
    return {"source": "main", "mysql": mysql, "tables": ["shop.orders"], **more}


def keys_of(defs: dg.Definitions) -> set[str]:
    keys = defs.resolve_asset_graph().get_all_asset_keys()
    return {key.to_user_string() for key in keys if key.path[0] not in ("mysql", "nats")}


def spec_of(defs: dg.Definitions, key: str) -> dg.AssetSpec:
    return next(spec for spec in defs.resolve_all_asset_specs() if spec.key.to_user_string() == key)


def write_list(folder: Path, read_at: datetime, *names: str) -> None:
    tables = [ListedTable("shop", name, (ListedColumn("id", "int"),)) for name in names]
    save_table_list(folder, TableList("main", read_at, tuple(tables)))


def test_the_definitions_of_a_source_come_from_yaml(sandbox: DefsFolderSandbox) -> None:
    defs = load(sandbox, attributes(sensors="running", tail={"start": "oldest", "shift_s": 60}, exclude=["shop.x"]))
    assert keys_of(defs) == {"tables/main/shop/orders"}
    assert defs.resolve_sensor_def("consume_main").default_status == dg.DefaultSensorStatus.RUNNING
    config = defs.resolve_job_def("tail_main").run_config["ops"]["tail_main_binlog"]["config"]  # type: ignore[index]
    assert (config["start"], config["shift_s"], config["include"], config["exclude"]) == (
        "oldest", 60.0, ["shop.orders"], ["shop.x"],
    )  # fmt: skip
    warehouse = defs.resources["binlogsync_main_warehouse"]  # type: ignore[index]
    assert Path(warehouse.path) == sandbox.project_root / ".binlogsync" / "warehouse.duckdb"
    assert defs.executor is None


def test_secrets_are_stored_as_names(sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PASSWORD", "hunter2")
    monkeypatch.setenv("REDIS", "hunter3")
    positions = {"store": "redis", "host": "r", "password": "{{ secret('REDIS') }}"}
    defs = load(sandbox, attributes(positions=positions, nats={"url": "nats://n:1", "token": "{{ secret('REDIS') }}"}))
    stored = dg.serialize_value(RepositorySnap.from_def(defs.get_repository_def()))
    assert "MYSQL_PASSWORD" in stored
    assert "hunter" not in stored
    resources = {key: defs.resources[f"binlogsync_main_{key}"] for key in ("mysql", "positions", "jetstream")}  # type: ignore[index]
    with dg.build_resources(resources) as made:
        assert made.mysql.config("main").password == "hunter2"
        assert made.positions.backend.password == "hunter3"
        assert made.jetstream.token == "hunter3"


def test_several_instances_are_separate(sandbox: DefsFolderSandbox) -> None:
    defs = load(sandbox, attributes(), attributes(source="eu-west", consume="continuous"))
    assert keys_of(defs) == {
        "tables/main/shop/orders", "tables/eu_west/shop/orders", "tables/eu_west/consumers",
    }  # fmt: skip
    assert defs.resolve_sensor_def("keep_eu_west_consumed").name


def test_tables_have_handlers_and_options(sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(sandbox.project_root)
    (sandbox.project_root / "their_handlers.py").write_text(HANDLERS)
    tables = [
        {"table": "shop.orders", "deleted_at": "gone", "group": "sales", "owners": ["team:sales"], "tags": {"a": "b"}},
        {"table": "shop.holes", "handler": "their_handlers.on_hole", "start": "new"},
        {"table": "shop.frames", "handler": "their_handlers.on_frames"},
        {"table": "shop.items", "handler": "their_handlers.items"},
    ]
    defs = load(sandbox, attributes(tables=tables, replay_assets=True))
    names = ("orders", "holes", "frames", "items")
    assert keys_of(defs) == {f"{kind}/main/shop/{name}" for kind in ("tables", "replay") for name in names}
    orders, holes = (spec_of(defs, f"tables/main/shop/{name}") for name in ("orders", "holes"))
    assert (orders.group_name, list(orders.owners), orders.tags["a"]) == ("sales", ["team:sales"], "b")
    assert (holes.kinds, holes.description) == ({"python"}, "Handles holes.")


def test_mirrors_have_policies(sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = {
        "on_drop": "archive", "key": ["account", "day"], "target_schema": "raw_{database}", "target_table": "{table}",
        "metadata": ["_op", "_gtid"], "schema_contract": "freeze",
    }  # fmt: skip
    defs = load(sandbox, attributes(tables=[{"table": "shop.orders", **policies}]))
    assert spec_of(defs, "tables/main/shop/orders").metadata["dagster/table_name"] == "raw_shop.orders"
    assert defs.resolve_job_def("accept_columns_main").name == "accept_columns_main"
    monkeypatch.syspath_prepend(sandbox.project_root)
    (sandbox.project_root / "their_other_handlers.py").write_text(HANDLERS)
    wrong = {"table": "shop.holes", "handler": "their_other_handlers.on_hole", "on_drop": "keep", "key": ["id"]}
    with pytest.raises(Exception, match=".*") as caught:
        load(sandbox, attributes(tables=[wrong]))
    assert "has a handler, so on_drop, key would have no effect" in "".join(traceback.format_exception(caught.value))


def test_translation_changes_the_specs(sandbox: DefsFolderSandbox) -> None:
    translation = {
        "key": "{{ table.database }}/{{ table.table }}",
        "group_name": "{{ table.source }}",
        "metadata": {"mirror": "{{ props.is_mirror }}"},
    }
    defs = load(sandbox, attributes(translation=translation))
    spec = spec_of(defs, "shop/orders")
    assert spec.group_name == "main"
    assert spec.metadata["mirror"] == dg.MetadataValue.bool(True) or spec.metadata["mirror"] is True
    assert spec.metadata["dagster/table_name"] == "shop.orders"


def test_a_pattern_is_resolved_from_the_list_of_the_tail(sandbox: DefsFolderSandbox) -> None:
    pattern = attributes(tables=["shop.*"], exclude=["shop.tmp_*"])
    assert keys_of(load(sandbox, pattern)) == set()
    write_list(sandbox.project_root / ".binlogsync" / "tables", datetime.now(UTC), "orders", "tmp_1")
    defs = load(sandbox, pattern)
    assert keys_of(defs) == {"tables/main/shop/orders"}
    assert "dagster/column_schema" in spec_of(defs, "tables/main/shop/orders").metadata


def test_the_newer_of_list_and_state_counts(tmp_path: Path) -> None:
    component = BinlogSyncComponent(source="main", mysql=MySQLConnection(), capture=["shop.*"])
    component.folder = tmp_path
    state = tmp_path / "state"
    for day, of_tail, of_state in ((2, 1, 2), (3, 3, 2)):
        write_list(tmp_path / ".binlogsync" / "tables", datetime(2026, 1, of_tail, tzinfo=UTC), f"tail{of_tail}")
        tables = (ListedTable("shop", f"state{of_state}"),)
        state.write_text(TableList("main", datetime(2026, 1, of_state, tzinfo=UTC), tables).to_json())
        found = component.find_lists(state).load("main")
        assert found is not None
        assert found.read_at.day == day


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"table": ["shop.orders"]}, "table"),
        ({"tables": [{"tabel": "shop.orders"}]}, "tabel"),
        ({"tables": [{"table": "shop.orders", "handler": "no.such.function"}]}, "cannot be imported"),
        ({"tables": ["orders"]}, "database.table"),
        ({"source": "Not a name"}, "source"),
        ({"positions": {"store": "paper"}}, "use one of sqlite, redis, nats, or package"),
        ({"nats": {"url": "nats://n1:1,tls://user:hunter2@n2:1"}}, "the address of NATS at n2:1 contains a login"),
        ({"tables": []}, "neither tables nor capture"),
        ({"capture": []}, "neither tables nor capture"),
    ],
)
def test_mistakes_are_errors_that_name_them(sandbox: DefsFolderSandbox, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=".*") as caught:
        load(sandbox, attributes(**wrong))
    shown = "".join(traceback.format_exception(caught.value))
    assert message in shown


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"mysql": {"host": "{{ env.NOT_SET }}"}}, "mysql.host"),
        ({"nats": {"url": "{{ env.NOT_SET }}"}}, "nats.url"),
        ({"nats": {"url": "nats://{{ env.NOT_SET }}:4222"}}, "nats.url"),
        ({"nats": {"url": "{{ 'nats://' ~ env.NOT_SET }}"}}, "nats.url"),
        ({"nats": {"url": "{{ 'nats://%s' % env.NOT_SET }}"}}, "nats.url"),
        ({"positions": {"store": "redis", "host": "{{ env.NOT_SET }}"}}, "positions.host"),
        ({"stream": {"replicas": "{{ env.NOT_SET }}"}}, "stream.replicas"),
        ({"tail": {"start": "{{ env.NOT_SET }}"}}, "tail.start"),
        ({"loads": {"rows_per_second": "{{ env.NOT_SET }}"}}, "loads.rows_per_second"),
        ({"warehouse": "{{ env.NOT_SET }}"}, "warehouse"),
        ({"exclude": ["a.b", "{{ env.NOT_SET }}.*"]}, "exclude[1]"),
        ({"exclude": ["{{ env.NOT_SET }}"]}, "exclude[0]"),
        ({"capture": ["{{ env.NOT_SET }}.*"]}, "capture[0]"),
        ({"tables": ["{{ env.NOT_SET }}.*"]}, "tables[0]"),
        ({"tables": [{"table": "a.b", "group": "{{ env.NOT_SET }}"}]}, "tables[0].group"),
        ({"tables": [{"table": "a.b", "owners": ["team:{{ env.NOT_SET }}"]}]}, "tables[0].owners[0]"),
        ({"tables": [{"table": "a.b", "tags": {"tier": "{{ env.NOT_SET }}"}}]}, "tables[0].tags.tier"),
        ({"translation": {"group_name": "{{ table.database }}_{{ env.NOT_SET }}"}}, "translation.group_name"),
    ],
)
def test_a_template_without_a_value_is_refused(sandbox: DefsFolderSandbox, wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(Exception, match=".*") as caught:
        load(sandbox, attributes(**wrong))
    shown = "".join(traceback.format_exception(caught.value))
    assert f"ConfigError: {path}: " in shown
    assert "has no value, because NOT_SET is not set; set the variable in the environment or in .env" in shown


def test_a_secret_within_other_text_is_refused(sandbox: DefsFolderSandbox) -> None:
    with pytest.raises(Exception, match=".*") as caught:
        load(sandbox, attributes(nats={"url": "nats://{{ secret('NATS_HOST') }}:4222"}))
    shown = "".join(traceback.format_exception(caught.value))
    assert "nats.url: nats://{{ secret('NATS_HOST') }}:4222 has a secret within other text" in shown


def test_templates_may_replace_a_variable_that_is_not_set(
    sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET", "crm")
    exclude = [
        "{{ env.SET }}.*", "{{ env.NOT_SET or 'a' }}.*", "{{ env('NOT_SET', 'b') }}.*",
        "{{ 'c' if env.NOT_SET is none else env.NOT_SET }}.*", "{{ 'd' if env.NOT_SET == None else env.NOT_SET }}.*",
    ]  # fmt: skip
    defs = load(sandbox, attributes(exclude=exclude))
    config = defs.resolve_job_def("tail_main").run_config["ops"]["tail_main_binlog"]["config"]  # type: ignore[index]
    assert config["exclude"] == ["crm.*", "a.*", "b.*", "c.*", "d.*"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"table": "shop.others"}, "the handler of shop.others is the consumer of shop.items; write table: shop.items"),
        ({"start": "new", "group": "g"}, "so start, group of its entry would have no effect"),
    ],
)
def test_an_entry_that_contradicts_its_consumer_is_refused(
    sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], message: str
) -> None:
    monkeypatch.syspath_prepend(sandbox.project_root)
    (sandbox.project_root / "their_handlers.py").write_text(HANDLERS)
    entry = {"table": "shop.items", "handler": "their_handlers.items", **wrong}
    with pytest.raises(Exception, match=".*") as caught:
        load(sandbox, attributes(tables=[entry]))
    assert message in "".join(traceback.format_exception(caught.value))


def test_a_consumer_of_another_source_is_refused() -> None:
    entry = TableEntry(table="shop.items", handler=mirror("shop.items", source="main"))
    with pytest.raises(ConfigError, match=r"consumer of source main, .* source eu; write .*source='eu'"):
        entry.build_consumer("eu", BinlogsyncTranslator())


@pytest.mark.parametrize(
    ("options", "section", "elsewhere"),
    [
        (TailSettings, TailSection, {"include", "exclude"}),
        (PositionStoreOptions, RedisSection, set()),
        (MySQLConnection, MySQLSection, set()),
        (NatsServerOptions, NatsSection, set()),
        (StreamOptions, StreamSection, set()),
    ],
)
def test_all_settings_are_options_of_the_component(options: Any, section: type[Section], elsewhere: set[str]) -> None:
    assert set(section.model_fields) - elsewhere <= {each.name for each in fields(options)}


def test_options_reach_the_tail_and_the_position_store(sandbox: DefsFolderSandbox) -> None:
    positions = {"store": "redis", "host": "r", "user": "u", "tls_ca_file": "ca.pem"}
    defs = load(sandbox, attributes(tail={"snapshot": "initial"}, positions=positions))
    config = defs.resolve_job_def("tail_main").run_config["ops"]["tail_main_binlog"]["config"]  # type: ignore[index]
    assert config["snapshot"] == "initial"
    backend = defs.resources["binlogsync_main_positions"].backend  # type: ignore[index]
    assert (backend.username, backend.tls_ca_file) == ("u", "ca.pem")


def test_the_address_of_nats_is_stored_as_a_name(sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", "nats://user:hunter2@n:1")
    url = "{{ secret('NATS_URL') }}"
    defs = load(sandbox, attributes(nats={"url": url}, positions={"store": "nats"}))
    assert "hunter2" not in dg.serialize_value(RepositorySnap.from_def(defs.get_repository_def()))
    resources = {key: defs.resources[f"binlogsync_main_{key}"] for key in ("jetstream", "positions")}  # type: ignore[index]
    with dg.build_resources(resources) as made:
        assert made.jetstream.url == made.positions.backend.url == "nats://user:hunter2@n:1"


def test_a_subclass_overrides_specs_and_execution() -> None:
    class Own(BinlogSyncComponent):
        """A component of a project."""

        def get_asset_spec(self, props: Any) -> dg.AssetSpec:
            return super().get_asset_spec(props).replace_attributes(group_name="own")

        def execute(self, context: Any, config: Any, consumers: Any, resources: Any) -> Any:
            for consumer in consumers:
                yield dg.MaterializeResult(consumer.asset_key, metadata={"source": resources.mysql.host})

    component = Own(
        source="main", mysql=MySQLConnection(host="db.example.com"), tables=[TableEntry(table="shop.orders")]
    )
    defs = component.build_defs(ComponentTree.for_test().load_context)
    assert spec_of(defs, "tables/main/shop/orders").group_name == "own"
    done = dg.materialize(
        [defs.resolve_assets_def(dg.AssetKey(["tables", "main", "shop", "orders"]))], raise_on_error=False
    )
    [event] = done.get_asset_materialization_events()
    assert event.materialization.metadata["source"].value == "db.example.com"


def test_the_model_of_a_handler_is_that_of_its_annotation() -> None:
    def plain(change): ...  # type: ignore[no-untyped-def]

    assert find_model(plain) is None


def test_errors_are_of_the_library() -> None:
    with pytest.raises(ConfigError):
        BinlogSyncComponent(source="Not a name", mysql=MySQLConnection())


def test_tables_of_the_state_are_loaded_without_a_list_of_the_tail(tmp_path: Path) -> None:
    component = BinlogSyncComponent(
        source="main", mysql=MySQLConnection(host="db"), tables=[TableEntry(table="shop.*")], sensors="running"
    )
    component.folder, state = tmp_path, tmp_path / "state"

    def look(state_path: Path | None) -> dg.AssetCheckEvaluation:
        defs = component.build_defs_from_state(ComponentTree.for_test().load_context, state_path)
        with dg.build_sensor_context() as context:
            [check, _] = defs.resolve_sensor_def("tables_main").evaluate_tick(context).asset_events
        assert isinstance(check, dg.AssetCheckEvaluation)
        return check

    without = look(None)
    assert not without.passed
    assert "dg utils refresh-defs-state" in str(without.description)
    tables = TableList("main", datetime(2026, 1, 2, tzinfo=UTC), (ListedTable("shop", "orders"),))
    state.write_text(tables.to_json())
    found = look(state)
    assert found.passed
    assert found.metadata["tables_matched"].value == 1
    write_list(tmp_path / ".binlogsync" / "tables", datetime(2026, 1, 1, tzinfo=UTC), "older")
    assert look(state).passed
