"""Names in Dagster: replaced characters, original names in metadata, and no name for two tables."""

import re

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.errors import ConfigError
from dagster_binlogsync.consumers_asset import build_consumers_asset
from dagster_binlogsync.keys import TableName, binlog_key, check_collisions
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.tables import mirror
from tests.e2e.unusual_names import DATABASES, TABLES

DAGSTER_NAME = re.compile(r"^[A-Za-z0-9_]+$")


@pytest.mark.parametrize(
    ("text", "source", "parts"),
    [
        ("shop.orders", "main", ("main", "shop", "orders")),
        ("shop.order-items", "main", ("main", "shop", "order_items_89455f5c")),
        ("shop.a.b", "main", ("main", "shop", "a_b_2e7336dc")),
        ("café.naïve$", "eu-west", ("eu_west", "caf__850f7dc4", "na_ve__fafb7ff4")),
    ],
)
def test_parts_contain_only_allowed_characters(text: str, source: str, parts: tuple[str, str, str]) -> None:
    name = TableName.parse(text, source)
    assert name.parts == parts
    assert str(name) == text
    assert name.consumer_key.path == ["tables", *parts]
    assert name.stream_key.path == ["nats", *parts]
    assert name.mysql_key.path == ["mysql", *parts]


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_mysql_name_becomes_a_valid_dagster_name(database: str, table: str) -> None:
    name = TableName("main", database, table)
    assert DAGSTER_NAME.match(name.job_name)
    assert all(DAGSTER_NAME.match(part) for part in name.consumer_key.path)


@pytest.mark.parametrize("text", ["orders", ".orders", "shop.", ""])
def test_a_name_without_database_or_table_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape('write "database.table"')):
        TableName.parse(text, "main")


@pytest.mark.parametrize(
    ("first", "second"),
    [("shop.order-items", "shop.order_items"), ("a__b.c", "a.b__c"), ("shop.é", "shop.ü"), ("a_.b", "a._b")],
)
def test_similar_names_have_distinct_keys(first: str, second: str) -> None:
    check_collisions([TableName.parse(first, "main"), TableName.parse(second, "main")])


def test_two_consumers_of_one_table_are_refused() -> None:
    with pytest.raises(ConfigError, match="two consumers"):
        check_collisions([TableName.parse("shop.orders", "main"), TableName.parse("shop.orders", "main")])


def test_different_tables_do_not_collide() -> None:
    names = [TableName.parse(t, s) for s in ("main", "other") for t in ("shop.orders", "shop.Orders", "shop_orders.x")]
    check_collisions(names)


def test_the_binlog_key_is_not_a_table_key() -> None:
    assert binlog_key("eu-west").path == ["mysql", "eu_west", "binlog"]


def test_tables_of_any_name_load_as_assets() -> None:
    names = [(database, table) for database in DATABASES[::3] for table in TABLES]
    made = [mirror(".".join("`" + part.replace("`", "``") + "`" for part in name), source="main") for name in names]
    assert [(one.name.database, one.name.table) for one in made] == names
    check_collisions([one.name for one in made])
    assets = build_consumers_asset("main", ResourceKeys(), made)
    assert len(assets.keys) == len(names)
    upstream = [spec for one in made for spec in one.upstream]
    dg.Definitions.validate_loadable(
        dg.Definitions(
            [assets, *upstream],
            resources=dict.fromkeys(("jetstream", "warehouse", "mysql"), dg.ResourceDefinition.none_resource()),
        )
    )
