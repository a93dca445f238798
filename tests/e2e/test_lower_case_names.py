"""Servers with lower_case_table_names=1: rows are logged under lower-case names, statements as they were typed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.binlog.ddl import read_statement
from binlogsync.binlog.known_tables import KnownTables
from binlogsync.cli.table_argument import read_table
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.errors import ConfigError
from binlogsync.filters import TableFilter
from binlogsync.mirror.target import Mirror
from binlogsync.mysql import inspect_server
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.server_facts import ServerFacts
from binlogsync.servers import NATSServer
from binlogsync.servers.database import DatabaseServer
from binlogsync.settings import Settings
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.table_names import check_spelling, fold_case, fold_of, keep_case
from tests.databases import FreshDatabase, fresh_database
from tests.duck import mirror_rows, query
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink

OPTIONS = {"lower_case_table_names": "1", "binlog_row_metadata": "MINIMAL"}
SERVERS: dict[str, Callable[[], AbstractContextManager[DatabaseServer]]] = {
    "mysql": lambda: servers.mysql(options=OPTIONS),
    "mariadb": lambda: servers.mariadb(options=OPTIONS),
}
LETTERS = "ÀÞĀİŹƁǄǅǶȠΆΣЁԱḀẞᾺΩKÅⅠⒶＡЀӀԀⰀꙀ"


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.server) for name in SERVERS])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    with SERVERS[request.param]() as server:
        yield server


@pytest.fixture
def database(server: DatabaseServer) -> Iterator[FreshDatabase]:
    with fresh_database(server) as database:
        yield database


def test_names_are_folded_like_on_the_server(database: FreshDatabase) -> None:
    letters = [chr(code) for code in range(0x80, 0x10000) if not 0xD800 <= code < 0xE000]
    for at in range(0, len(letters), 4000):
        part = letters[at : at + 4000]
        form = "LOWER(CONVERT(_utf8mb4 x'{}' USING utf8mb3) COLLATE utf8mb3_general_ci)"
        forms = (form.format(one.encode().hex()) for one in part)
        [lower] = database.execute(f"SELECT {', '.join(forms)}")
        assert [fold_case(one) for one in part] == list(lower)
    for number, letter in enumerate(LETTERS):
        database.execute(f"CREATE TABLE `T{number}x{letter}` (id INT)")
    found = {name for (name,) in database.execute("SHOW TABLES")}
    assert found == {fold_case(f"T{number}x{letter}") for number, letter in enumerate(LETTERS)}


def test_every_statement_reaches_the_mirror(database: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> None:
    typed, large = f"{database.name}_Größe".upper(), "ORDERS_ÄÖ"
    config = config_of(database.server, f"case-{database.name}")
    options = options_of(config.source, "unused", include=(f"{typed[:-3]}*.*",), exclude=("*.Left_OUT",), start="now")
    path, names = tmp_path / "m.duckdb", (fold_case(typed), fold_case(large))

    def drain(*name: str) -> None:
        with StreamReader(NatsOptions(url=nats_server.url), config.source) as reader:
            target = Mirror(path, name[0], name[1], config)
            consume(reader, (name[0], name[1]), target, ConsumeOptions(idle_s=0.5, gather_s=0.1), threading.Event())

    store = MemoryPositionStore()
    with TailThread(config, [stream_sink(nats_server.url)], store, options) as tail:
        tail.wait_begun()
        database.execute(f"CREATE DATABASE `{typed}`")
        database.execute(f"CREATE TABLE `{typed}`.`{large}` (id INT PRIMARY KEY, a INT, b INT)")
        database.execute(f"CREATE TABLE `{typed}`.left_out (id INT PRIMARY KEY)")
        database.execute(f"INSERT INTO `{typed}`.Left_Out VALUES (1)")
        database.execute(f"USE `{typed}`")
        database.execute(f"INSERT INTO `{large.lower()}` VALUES (1, 10, 100), (2, 20, 200)")
        tail.catch_up()
        drain(*names)
        assert mirror_rows(path, *names) == [(1, 10, 100), (2, 20, 200)]
        database.execute(f"TRUNCATE TABLE `{large}`")
        database.execute(f"INSERT INTO `{typed}`.`{large}` VALUES (3, 30, 300)")
        tail.catch_up()
        drain(*names)
        assert mirror_rows(path, *names) == [(3, 30, 300)]
        database.execute(f"ALTER TABLE `{large}` MODIFY b INT AFTER id")
        database.execute(f"UPDATE `{large}` SET a = 31")
        tail.catch_up()  # without names in the binlog, the server is asked while it has the table
        database.execute(f"RENAME TABLE `{large}` TO `Orders_2`")
        database.execute("INSERT INTO Orders_2 VALUES (4, 400, 40)")
        tail.catch_up()
        drain(names[0], "orders_2")
        assert mirror_rows(path, names[0], "orders_2") == [(3, 300, 31), (4, 400, 40)]
        database.execute(f"DROP DATABASE `{typed}`")
        tail.catch_up()
        drain(names[0], "orders_2")
        assert query(path, "SELECT table_name FROM duckdb_tables() WHERE table_name = 'orders_2'") == []
        with pytest.raises(ConfigError, match=f"write {names[0]}.orders_2"):
            drain(names[0], "Orders_2")
        with StreamReader(NatsOptions(url=nats_server.url), config.source) as reader:
            assert {table for _, table in reader.tables()} <= {names[1], "orders_2"}
    facts = ServerFacts.from_text(store.checkpoints.load_facts(config.source))
    assert facts is not None
    assert facts.settings["lower_case_table_names"] == "1"


def test_names_on_the_command_line_are_spelled_as_the_server_stores_them(
    monkeypatch: pytest.MonkeyPatch, server: DatabaseServer
) -> None:
    store = MemoryPositionStore()
    monkeypatch.setattr(Settings, "positions", lambda self: store)
    assert read_table(Settings(), "main", "Shop.Orders") == ("Shop", "Orders"), "nothing is known of its server"
    store.checkpoints.save_facts("main", ServerFacts.of(inspect_server(config_of(server, "main")), 0).to_text())
    assert read_table(Settings(), "main", "Shop.ÄRGER") == ("shop", "ärger")


@pytest.mark.parametrize(("value", "is_folded"), [("0", False), ("1", True), ("2", True), (None, False)])
def test_values_of_lower_case_table_names(value: str | None, is_folded: bool) -> None:
    fold = fold_of(value)
    names = KnownTables(fold=fold)
    [table] = names.resolve_names(read_statement("TRUNCATE `Shop`.Orders", "x")).tables
    assert table == (("shop", "orders") if is_folded else ("Shop", "Orders"))
    assert TableFilter(("Shop.*",)).folded(fold).captures("shop", "orders") == is_folded
    assert (fold is keep_case) is not is_folded
    check_spelling(fold, "shop", "orders", "main")
