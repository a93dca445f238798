"""Mirrors of patterns: resolved from the stored list of tables, and tables that await a Reload."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from binlogsync.cli.project_consumers import _consumers_of
from binlogsync.codec.subjects import parse_table
from binlogsync.errors import ConfigError
from binlogsync.table_list import ListedColumn, ListedTable, TableList, save_table_list
from binlogsync.targets.mirror_options import MirrorOptions
from dagster_binlogsync import BinlogsyncTableProps, BinlogsyncTranslator, mirror, mirrors
from dagster_binlogsync.discovery import collect_definitions
from dagster_binlogsync.keys import binlog_key
from dagster_binlogsync.mirror_patterns import StoredLists, compare_tables
from dagster_binlogsync.sensors.tables import build_tables_check, build_tables_sensor

COLUMNS = (
    ListedColumn("id", "int unsigned", nullable=False, in_key=True, comment="the *key*"),
    ListedColumn("name", "varchar(40)"),
)


class ByDatabase(BinlogsyncTranslator):
    """A translator of a project: its own keys, groups and owners."""

    def get_asset_spec(self, props: BinlogsyncTableProps) -> dg.AssetSpec:
        spec = super().get_asset_spec(props)
        return spec.replace_attributes(
            key=dg.AssetKey([props.name.database, props.name.table]),
            deps=["upstream"],
            group_name=props.name.database,
            owners=["team:data"],
        )


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BINLOGSYNC_TABLE_LISTS", str(tmp_path))
    write_list(tmp_path, "shop.orders", "shop.customers", "shop.tmp_1", "crm.accounts")
    return tmp_path


def write_list(folder: Path, *names: str) -> None:
    tables = [ListedTable(*parse_table(name), COLUMNS, "a | table") for name in names]
    save_table_list(folder, TableList("main", datetime(2026, 1, 1, tzinfo=UTC), tuple(tables)))


def names_of(tables: object) -> list[str]:
    return [str(table.name) for table in tables]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("lists")
def test_a_pattern_becomes_the_tables_of_the_list() -> None:
    assert names_of(mirrors("shop.*", exclude="shop.tmp_*")) == ["shop.orders", "shop.customers"]
    assert names_of(mirrors("shop.*", "crm.*", exclude=["*.tmp_*", "shop.c*"])) == ["shop.orders", "crm.accounts"]
    assert names_of(mirrors("shop.*", source="elsewhere")) == []
    with pytest.raises(ConfigError, match="requires a pattern"):
        mirrors()
    with pytest.raises(ConfigError, match="'shop' is not a table pattern"):
        mirrors("shop")


@pytest.mark.usefixtures("lists")
def test_columns_and_comments_of_mysql_are_in_the_asset() -> None:
    spec = mirror("shop.orders").spec
    schema = spec.metadata["dagster/column_schema"]
    assert [(column.name, column.type) for column in schema.columns] == [
        ("id", "int unsigned"),
        ("name", "varchar(40)"),
    ]
    assert schema.columns[0].description == "the \\*key\\*"
    assert schema.columns[0].constraints == dg.TableColumnConstraints(nullable=False, other=["primary key"])
    assert spec.metadata["dagster/table_name"] == "shop.orders"
    assert str(spec.description).endswith("a \\| table")
    assert spec.kinds == {"duckdb"}


@pytest.mark.usefixtures("lists")
def test_a_table_with_a_consumer_of_its_own_is_left_out_of_patterns() -> None:
    own = mirror("shop.orders", deleted_at="gone")
    found = collect_definitions([mirrors("shop.*"), own, mirrors("*.*", exclude="shop.tmp_1")])
    assert names_of(found.tables) == ["shop.orders", "shop.customers", "shop.tmp_1", "crm.accounts"]
    assert found.tables[0] is own
    assert len(found.patterns) == 2


@pytest.mark.usefixtures("lists")
def test_commands_find_the_mirrors_of_a_pattern() -> None:
    assert names_of(_consumers_of(mirrors("crm.*"))) == ["crm.accounts"]


@pytest.mark.usefixtures("lists")
def test_a_translator_chooses_key_group_and_owners() -> None:
    [orders] = mirrors("shop.orders", translator=ByDatabase())
    assert orders.key == orders.consumer.asset_key == dg.AssetKey(["shop", "orders"])
    assert (orders.spec.group_name, list(orders.spec.owners)) == ("shop", ["team:data"])
    assert [dep.asset_key for dep in orders.spec.deps] == [orders.name.stream_key, dg.AssetKey("upstream")]
    assert {check.asset_key for check in orders.check_specs} == {orders.key}
    assert mirror("shop.orders").translate(ByDatabase()).key == orders.key


@pytest.mark.usefixtures("lists")
def test_mirrors_have_the_names_of_their_patterns() -> None:
    found = collect_definitions([mirrors("*.*", target_schema="raw_{source}", target_table="{database}_{table}")])
    orders = found.tables[0]
    assert orders.spec.metadata["dagster/table_name"] == "raw_main.shop_orders"
    assert orders.consumer.mirror == MirrorOptions(
        target_schema="raw_{source}", target_table="{database}_{table}", location=("raw_main", "shop_orders")
    )
    with pytest.raises(ConfigError, match=r"shop\.orders and shop\.customers would both have the table shop\.all"):
        collect_definitions([mirrors("shop.*", target_table="all")])
    with pytest.raises(ConfigError, match=r"would both have the table crm\.orders in the warehouse"):
        collect_definitions([mirror("crm.accounts", target_table="Orders"), mirror("crm.orders")])
    with pytest.raises(ConfigError, match="orders__history"):
        collect_definitions(
            [mirror("shop.orders", history=True), mirror("crm.a", target_schema="shop", target_table="orders__history")]
        )
    found = collect_definitions([mirror("shop.a"), mirror("crm.a", target_schema="SHOP", target_table="b")])
    assert len(found.tables) == 2


@pytest.mark.usefixtures("lists")
def test_options_are_compared_with_the_listed_columns() -> None:
    assert mirror("shop.orders", key=["NAME"], metadata="_op").consumer.mirror == MirrorOptions(
        key=("NAME",), metadata=("_op",)
    )
    with pytest.raises(ConfigError, match=r"shop\.orders: the table has no column nr, which the `key`"):
        mirrors("shop.*", key="nr")
    with pytest.raises(ConfigError, match="already has a column name; give the mirror's deleted_at another name"):
        mirror("shop.orders", deleted_at="name")
    with pytest.raises(ConfigError, match="on_drop='forget' is unknown"):
        mirror("shop.orders", on_drop="forget")  # type: ignore[arg-type]
    assert mirror("shop.unlisted", key="nr").consumer.mirror == MirrorOptions(key=("nr",))


def test_tables_that_are_created_later_await_a_reload(lists: Path) -> None:
    pattern = mirrors("shop.*", exclude="shop.tmp_*")
    sensor = build_tables_sensor("main", [pattern], pattern.tables, StoredLists(lists))

    def tick(cursor: str | None) -> tuple[dg.SensorResult, str | None]:
        with dg.build_sensor_context(cursor=cursor) as context:
            result = sensor.evaluate_tick(context)
        return result, result.cursor  # type: ignore[return-value]

    first, cursor = tick(None)
    [check, observation] = first.asset_events
    assert isinstance(check, dg.AssetCheckEvaluation)
    assert check.passed
    assert isinstance(observation, dg.AssetObservation)
    assert observation.asset_key == binlog_key("main")
    assert tick(cursor)[0].asset_events == []
    write_list(lists, "shop.orders", "shop.customers", "shop.items", "shop.tmp_2")
    later, cursor = tick(cursor)
    check, observation = later.asset_events
    assert isinstance(check, dg.AssetCheckEvaluation)
    assert not check.passed
    assert check.metadata["tables_awaiting_reload"].value == 1
    assert "shop.items" in str(check.description)
    assert compare_tables(StoredLists(lists), "main", [pattern], mirrors("shop.*")) is not None
    assert build_tables_check("main", [pattern], pattern.tables, StoredLists(lists)).check_keys == {
        check.asset_check_key
    }


def test_without_a_list_the_check_says_who_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINLOGSYNC_TABLE_LISTS", str(tmp_path))
    pattern = mirrors("shop.*")
    assert pattern.tables == ()
    assert compare_tables(StoredLists(tmp_path), "main", [pattern], ()) is None
