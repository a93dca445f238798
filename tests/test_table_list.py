"""The list of tables: its file, what a tail keeps in it, and the command that prints it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from binlogsync.cli.main import main
from binlogsync.errors import ConfigError
from binlogsync.mysql import MySQLConfig
from binlogsync.mysql.table_list import read_table_list
from binlogsync.table_list import (
    ListedColumn,
    ListedTable,
    TableList,
    load_table_list,
    save_table_list,
    table_list_path,
)
from tests.databases import FreshDatabase

ORDERS = ListedTable("shop", "orders", (ListedColumn("id", "int unsigned", False, True, "a key"),), "all orders")
NOTES = ListedTable("shop", "notes", (ListedColumn("text", "varchar(10)"),))
LISTED = TableList("main", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), (NOTES, ORDERS))


def test_a_stored_list_is_loaded_as_it_was_and_again_after_a_change(tmp_path: Path) -> None:
    assert load_table_list(tmp_path, "main") is None
    save_table_list(tmp_path / "lists", LISTED)
    assert load_table_list(tmp_path / "lists", "main") == LISTED
    changed = replace(LISTED, tables=(ORDERS,))
    save_table_list(tmp_path / "lists", changed)
    assert load_table_list(tmp_path / "lists", "main") == changed
    assert [file.name for file in (tmp_path / "lists").iterdir()] == ["main.json"]


def test_a_tail_keeps_tables_that_the_server_no_longer_has() -> None:
    now = replace(LISTED, tables=(replace(ORDERS, comment="orders"),))
    assert now.keep_missing(LISTED).tables == (NOTES, replace(ORDERS, comment="orders"))
    assert now.keep_missing(None) == now


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', LISTED.to_json().replace('"shop"', "7")])
def test_a_damaged_list_is_an_error_with_the_next_step(text: str, tmp_path: Path) -> None:
    table_list_path(tmp_path, "main").write_text(text)
    with pytest.raises(ConfigError, match=r"main\.json is not a list of tables .* binlogsync tables --refresh"):
        load_table_list(tmp_path, "main")


def test_the_command_prints_the_stored_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BINLOGSYNC_TABLE_LISTS", "lists")
    assert main(["tables"]) == 1
    assert "binlogsync tables --refresh" in capsys.readouterr().err
    save_table_list(tmp_path / "lists", LISTED)
    assert main(["tables", "*.o*"]) == 0
    assert capsys.readouterr().out == "shop.orders  1 column(s), id\n"


@pytest.mark.server
def test_the_command_reads_the_server(
    mysql: FreshDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mysql.execute(
        "CREATE TABLE orders (id INT UNSIGNED PRIMARY KEY COMMENT 'a key', total DECIMAL(10,2)) COMMENT 'all orders'"
    )
    mysql.execute("CREATE VIEW seen AS SELECT id FROM orders")
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOST": mysql.server.host,
        "PORT": str(mysql.server.port),
        "USER": mysql.server.cdc_user,
        "PASSWORD": mysql.server.cdc_password,
    }.items():
        monkeypatch.setenv(f"BINLOGSYNC_MYSQL_{name}", value)
    assert main(["tables", f"{mysql.name}.*", "--refresh"]) == 0
    assert capsys.readouterr().out == f"{mysql.name}.orders  2 column(s), id\n"
    stored = load_table_list(tmp_path / ".binlogsync" / "tables", "main")
    assert stored is not None
    assert stored.find(mysql.name, "orders") == ListedTable(
        mysql.name,
        "orders",
        (ListedColumn("id", "int unsigned", False, True, "a key"), ListedColumn("total", "decimal(10,2)")),
        "all orders",
    )


@pytest.mark.server
def test_mariadb_lists_the_same(mariadb: FreshDatabase) -> None:
    mariadb.execute("CREATE TABLE orders (id INT UNSIGNED PRIMARY KEY COMMENT 'a key') COMMENT 'all orders'")
    server = mariadb.server
    config = MySQLConfig(host=server.host, port=server.port, user=server.cdc_user, password=server.cdc_password)
    found = read_table_list(config, "main").find(mariadb.name, "orders")
    assert found is not None
    assert (found.comment, [column.comment for column in found.columns]) == ("all orders", ["a key"])
