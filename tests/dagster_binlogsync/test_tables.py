"""Asset factories: names, lineage, checks, and errors at definition time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import dagster as dg
import pandas as pd
import pytest

from binlogsync.change import Change
from binlogsync.cli.project_consumers import find_consumer
from binlogsync.consume.progress import ProgressKey
from binlogsync.errors import ConfigError, ConsumeError, HandlerError, ModelError
from binlogsync.replay.factory import SourceTable
from binlogsync.targets.duckdb.store import DuckStore
from dagster_binlogsync.consume.metadata import ConsumerTotals, TablePreview, build_metadata, build_run_failure
from dagster_binlogsync.consume.preview import first_rows
from dagster_binlogsync.consumers_asset import build_consumers_asset
from dagster_binlogsync.discovery import find_definitions
from dagster_binlogsync.keys import TableName, binlog_key
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.warehouse import Warehouse
from dagster_binlogsync.table_step import build_table_step
from dagster_binlogsync.tables import mirror, table_consumer

ROOT = Path(__file__).parents[2]
KEY = ProgressKey("dagster", "main", "main", "t")


@dataclass
class HolesModel:
    """A model with a table name."""

    __tablename__ = "treehole.holes"
    id: int
    content: str | None


@dataclass
class UnnamedModel:
    """A model without a table name."""

    id: int


def on_hole(change: Change[HolesModel]) -> None:
    """A handler of single changes."""


def on_frame(frame: pd.DataFrame) -> None:
    """A handler of batches."""


def test_the_lineage_is_table_stream_consumer() -> None:
    made = mirror("shop.order-items", source="main")
    spec = made.spec
    table, stream = made.upstream
    assert spec.key == made.key == dg.AssetKey(["tables", "main", "shop", "order_items_89455f5c"])
    assert [dep.asset_key for dep in spec.deps] == [stream.key]
    assert {dep.asset_key for dep in stream.deps} == {table.key, binlog_key("main")}
    assert (spec.metadata["mysql/database"], spec.metadata["mysql/table"]) == ("shop", "order-items")
    assert made.durable == "dagster=shop=order-items"


def test_every_consumer_has_its_checks() -> None:
    names = {spec.name for spec in mirror("shop.orders", source="main").check_specs}
    assert names == {"handled", "backlog", "no_gap"}


def test_the_table_comes_from_the_model_or_is_given() -> None:
    assert table_consumer(HolesModel, on_hole, source="main").name == TableName("main", "treehole", "holes")
    assert table_consumer(HolesModel, on_hole, table="other.t", source="main").name == TableName("main", "other", "t")


def test_table_consumer_is_a_decorator_too() -> None:
    @table_consumer(HolesModel, source="main")
    def holes(change: Change[HolesModel]) -> None:
        """A handler of single changes."""

    assert holes.name == TableName("main", "treehole", "holes")
    assert holes.spec.description == "A handler of single changes."


def test_a_handler_of_frames_needs_no_model() -> None:
    assert str(table_consumer(None, on_frame, table="shop.orders", source="main").name) == "shop.orders"


def test_the_description_comes_from_the_handler() -> None:
    made = table_consumer(HolesModel, on_hole, source="main")
    assert made.spec.description == "A handler of single changes."


def test_invalid_consumers_are_refused_at_definition_time() -> None:
    with pytest.raises(ModelError, match="not a model"):
        table_consumer(int, print, table="a.b", source="main")
    with pytest.raises(ConfigError, match="arguments"):
        table_consumer(HolesModel, lambda: None, source="main")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"takes Change\[HolesModel\], but the model given is UnnamedModel"):
        table_consumer(UnnamedModel, on_hole, table="a.b", source="main")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is required"):
        table_consumer(None, on_frame)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match=r'write "database\.table"'):
        mirror("orders", source="main")


def test_the_tables_of_a_source_are_one_step_without_a_retry_policy_or_a_pool() -> None:
    tables = [mirror("shop.orders", source="main"), table_consumer(HolesModel, on_hole, source="main")]
    made = build_consumers_asset("main", ResourceKeys(), tables)
    assert made.keys == {table.key for table in tables}
    assert made.can_subset
    assert getattr(made.op, "retry_policy", None) is None
    assert getattr(made.op, "pool", None) is None


def test_a_table_may_have_the_name_of_another_with_that_of_a_check() -> None:
    tables = [mirror(f"shop.{name}", source="main") for name in ("orders", "orders_backlog")]

    def consume(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        for table in tables:
            checks = [
                dg.AssetCheckResult(passed=True, check_name=spec.name, asset_key=table.key)
                for spec in table.check_specs
            ]
            yield dg.MaterializeResult(asset_key=table.key, check_results=checks)

    made = dg.materialize([build_table_step(consume, "consume", tables)])
    assert made.success
    assert {event.asset_key for event in made.get_asset_materialization_events()} == {table.key for table in tables}
    evaluated = {(each.asset_key, each.check_name) for each in made.get_asset_check_evaluations()}
    assert evaluated == {(spec.asset_key, spec.name) for table in tables for spec in table.check_specs}


def handler_error(table: str) -> HandlerError:
    error = HandlerError(f"{table}: it failed", table=table, change_id="g:7", position="b.1:4", tries=5)
    error.__cause__ = ValueError("no such customer")
    return error


def test_a_failing_handler_shows_its_change_and_the_traceback() -> None:
    made = build_run_failure({TableName("main", "shop", "orders"): (handler_error("shop.orders"), 15)})
    assert made.allow_retries is False
    assert made.metadata["change_id"].value == "g:7"
    assert made.metadata["tries"].value == 15
    assert "no such customer" in str(made.metadata["traceback"].value)


def test_the_text_of_an_exception_is_escaped() -> None:
    error = HandlerError("shop.orders: it failed: \x1b[2J", table="shop.orders", change_id="g:7", position="b.1:4")
    error.__cause__ = ValueError("```\n![i](http://x/y)\x1b[2J")
    made = build_run_failure({TableName("main", "shop", "orders"): (error, 1)})
    shown = str(made.metadata["traceback"].value)
    assert shown.startswith("````\n")
    assert shown.endswith("\n````")
    assert "\x1b" not in f"{shown}{made.description}{made.metadata['message'].value}"


def test_names_are_escaped_in_descriptions() -> None:
    made = mirror("shop.![i](http://x/y)|`", source="main")
    for spec in (made.spec, *made.upstream):
        assert "![i]" not in (spec.description or "")
        assert "\\!\\[i\\]" in (spec.description or "")


def test_the_first_rows_are_a_table_of_escaped_texts(tmp_path: Path) -> None:
    file = DuckStore(tmp_path / "w.duckdb", error=ConsumeError)
    with file.transaction() as connection:
        connection.execute('CREATE TABLE t ("a|b" VARCHAR, "![i](http://x)" UBIGINT, c BLOB)')
        connection.execute("INSERT INTO t VALUES (?, 18446744073709551615, NULL)", ["| ![i](http://x)\n\x1b[2J"])
    shown = first_rows(file, "main", "t", 5)
    assert [column.name for column in shown.schema.columns] == ["a|b", "![i](http://x)", "c"]
    assert [dict(record.data) for record in shown.records] == [
        {"a|b": "| ![i](http://x) \\x1b[2J", "![i](http://x)": "18446744073709551615", "c": "NULL"}
    ]


def test_row_values_are_shown_only_if_allowed(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with DuckStore(path, error=ConsumeError).transaction() as connection:
        connection.execute("CREATE TABLE t AS SELECT 'secret' AS a")
    shown = {
        allowed: build_metadata(
            ConsumerTotals(), KEY, TablePreview(("main", "t"), 5), Warehouse(path=str(path), show_values=allowed)
        )
        for allowed in (False, True)
    }
    assert "preview" not in shown[False]
    assert "preview" in shown[True]
    assert shown[False]["dagster/row_count"].value == 1
    assert Warehouse().show_values is False


def test_the_failing_row_is_identified_by_its_key_with_values_only_if_allowed() -> None:
    error = HandlerError("no", table="shop.items", change_id="g:7", key={"order": 7, "sku\x1b": "a\x1b"})
    name = TableName("main", "shop", "items")
    hidden = build_run_failure({name: (error, 1)}).metadata["key"].value
    assert str(hidden).startswith("order, sku\\x1b (")
    assert "7" not in str(hidden)
    assert build_run_failure({name: (error, 1)}, show_values=True).metadata["key"].value == {
        "order": "7",
        "sku\\x1b": "a\\x1b",
    }


def test_several_failing_tables_have_separate_metadata() -> None:
    names = [TableName("main", "shop", table) for table in ("orders", "items")]
    made = build_run_failure({name: (handler_error(str(name)), 5) for name in names})
    assert made.metadata["tables"].value == "shop.orders, shop.items"
    assert made.metadata["shop.items: change_id"].value == "g:7"
    assert "shop.orders: HandlerError: shop.orders: it failed" in str(made.description)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """An empty package of consumers."""
    folder = tmp_path / "their_consumers"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("their_consumers")
    for name in [name for name in sys.modules if name.startswith("their_consumers")]:
        del sys.modules[name]


def test_modules_of_a_package_are_found(package: ModuleType) -> None:
    folder = Path(package.__path__[0])
    (folder / "a.py").write_text(
        "import dagster as dg\nfrom dagster_binlogsync.tables import mirror\n"
        "orders = mirror('shop.orders', source='main')\n"
        "@dg.asset(deps=[orders.key])\ndef report(): ...\n"
        "@dg.asset_check(asset=report)\ndef good(): ...\n"
    )
    (folder / "b.py").write_text("from their_consumers.a import orders\nagain = orders\n")
    found = find_definitions(package)
    assert [str(table.name) for table in found.tables] == ["shop.orders"]
    assert len(found.assets) == len(found.checks) == 1


def test_tables_in_lists_tuples_and_dicts_are_found_by_dagster_and_by_commands(package: ModuleType) -> None:
    (Path(package.__path__[0]) / "a.py").write_text(
        "from dagster_binlogsync.tables import mirror\n"
        "tables = [mirror('shop.a', source='main'), (mirror('shop.b', source='main'),)]\n"
        "by_name = {'c': mirror('shop.c', source='main'), 'again': tables[0]}\n"
        "sets = {mirror('shop.d', source='main')}\n"
        "made = tuple(mirror(f'shop.e{n}', source='main') for n in range(2))\n"
    )
    names = [str(table.name) for table in find_definitions(package).tables]
    assert names == ["shop.a", "shop.b", "shop.c", "shop.d", "shop.e0", "shop.e1"]
    assert find_consumer(package.__name__, SourceTable("main", "shop", "e1")).is_mirror


@pytest.mark.slow
def test_a_module_that_blocks_is_an_error_with_its_name(package: ModuleType) -> None:
    """In a subprocess, because pytest uses the alarm signal in this one."""
    folder = Path(package.__path__[0])
    (folder / "waits.py").write_text("import threading\n\nthreading.Event().wait()\n")
    program = "import their_consumers; from binlogsync.modules import objects_of; list(objects_of(their_consumers, 5))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder.parent}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert f"their_consumers.waits was not imported within 5 s: it is still at {folder / 'waits.py'}:3" in done.stderr


def test_two_consumers_of_one_name_are_refused(package: ModuleType) -> None:
    for module, table in (("a", "shop.order-items"), ("b", "`shop`.`order-items`")):
        text = f"from dagster_binlogsync.tables import mirror\nx = mirror({table!r}, source='main')\n"
        (Path(package.__path__[0]) / f"{module}.py").write_text(text)
    with pytest.raises(ConfigError, match=r"shop\.order-items of source main has two consumers"):
        find_definitions(package)


def test_start_takes_the_same_values_as_a_client() -> None:
    begins = table_consumer(HolesModel, on_hole, table="treehole.holes", start="before the sale")
    assert begins.consumer.start == "before the sale"
    assert "positions" in build_consumers_asset("main", ResourceKeys(), [begins]).required_resource_keys
    with pytest.raises(ConfigError, match="time zone"):
        table_consumer(HolesModel, on_hole, table="treehole.holes", start="2026-01-01T00:00:00")
