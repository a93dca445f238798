"""A mirror is compared with its table at one binlog position, while both are written to; differences are reported."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from binlogsync.cli.main import main
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror.target import Mirror
from binlogsync.mirror.verify import Verification, Verifier, VerifyOptions
from binlogsync.mysql import TLS
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.targets.duckdb.file import META_SCHEMA
from binlogsync.targets.duckdb.store import DuckStore
from tests.databases import FreshDatabase
from tests.e2e.tailing import TailThread, config_of, options_of, stream_sink
from tests.e2e.writers import TABLES, Writers


class VerifyScenario:
    """A source with writers, mirrors of its tables that a thread updates, and a verifier."""

    def __init__(self, mysql: FreshDatabase, nats: NATSServer, path: Path) -> None:
        self.mysql, self.url, self.path = mysql, nats.url, path
        self.config = config_of(mysql.server, f"verify-{mysql.name}")
        self.writers = Writers(mysql, seed=5, pause_s=0.3)
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._mirror, daemon=True)

    def tail(self) -> TailThread:
        options = options_of(self.config.source, self.mysql.name)
        return TailThread(self.config, [stream_sink(self.url)], MemoryPositionStore(), options)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self.stop.set()
        self._thread.join()

    def verify(self, table: str, timeout_s: float = 240.0) -> Verification:
        options = VerifyOptions(timeout_s=timeout_s, chunk_rows=50, examples=2)
        with StreamReader(NatsOptions(url=self.url), self.config.source) as reader:
            return Verifier(reader, self.config, DuckStore(self.path, error=ConsumeError), options).verify(
                self.mysql.name, table
            )

    def tamper(self, sql: str) -> None:
        with DuckStore(self.path).transaction() as connection:
            connection.execute(f'USE "{self.mysql.name}"')
            connection.execute(sql)

    def _mirror(self) -> None:
        with StreamReader(NatsOptions(url=self.url), self.config.source) as reader:
            while not self.stop.is_set():
                for table in TABLES:
                    target = Mirror(self.path, self.mysql.name, table, self.config)
                    options = ConsumeOptions(idle_s=0.3, max_s=1.0, gather_s=0.1)
                    consume(reader, (self.mysql.name, table), target, options, self.stop)


@pytest.fixture
def scenario(mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path) -> Iterator[VerifyScenario]:
    scenario = VerifyScenario(mysql, nats_server, tmp_path / "mirrors.duckdb")
    yield scenario
    scenario.stop.set()


def test_mirrors_are_verified_under_load(scenario: VerifyScenario) -> None:
    with scenario.writers.running(), scenario.tail() as tail:
        tail.wait_stored(100)
        scenario.start()
        for table in TABLES:
            found = scenario.verify(table)
            assert found.is_equal, found
            assert found.rows is not None
            assert found.rows.there == found.rows.here > 0
        scenario.writers.stop()
        scenario.mysql.execute("INSERT INTO customers (id, name) VALUES (1000001, 'a'), (1000002, 'b'), (1000003, 'c')")
        scenario.mysql.execute("INSERT INTO visits VALUES ('z', 1), ('z', 1)")
        assert scenario.verify("customers").is_equal
        assert scenario.verify("visits").is_equal
        scenario.end()

        scenario.tamper("DELETE FROM customers WHERE id = 1000001")
        scenario.tamper("UPDATE customers SET name = 'B' WHERE id = 1000002")
        scenario.tamper("INSERT INTO customers VALUES (1000009, 'x', NULL)")
        found = scenario.verify("customers")
        assert not found.is_equal
        assert found.rows is not None
        differing = found.rows.differing
        assert [sum(getattr(chunk, name) for chunk in differing) for name in ("missing", "different", "extra")] == [
            1,
            1,
            1,
        ]
        assert "1000001 missing" in str(found)
        assert "1000002 differs" in str(found)

        scenario.tamper("DELETE FROM visits WHERE rowid = (SELECT max(rowid) FROM visits WHERE page = 'z')")
        found = scenario.verify("visits")
        assert not found.is_equal
        assert found.rows is not None
        assert found.rows.there == found.rows.here + 1

        scenario.tamper("ALTER TABLE orders RENAME COLUMN note TO remark")
        scenario.mysql.execute("ALTER TABLE orders ADD COLUMN c INT")
        with pytest.raises(ConsumeError, match="did not reach"):
            scenario.verify("orders", timeout_s=1.0)


def test_rows_and_tables_on_one_side_only(
    scenario: VerifyScenario, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario.mysql.execute("CREATE TABLE quiet (id INT PRIMARY KEY)")
    with scenario.tail() as tail:
        tail.catch_up()
        with pytest.raises(ConfigError, match="has no such table, and .* no mirror of it"):
            scenario.verify("nowhere")
        with StreamReader(NatsOptions(url=scenario.url), scenario.config.source) as reader:
            for source in (None, scenario.config):
                target = Mirror(scenario.path, scenario.mysql.name, "quiet", source)
                consume(reader, (scenario.mysql.name, "quiet"), target, ConsumeOptions(idle_s=0.1), threading.Event())
        assert scenario.verify("quiet").is_equal
        scenario.tamper("DROP TABLE quiet")
        scenario.tamper(f"UPDATE {META_SCHEMA}.mirrors SET schema_json = NULL")
        found = scenario.verify("quiet")
        assert not found.is_equal
        assert "it has no mirror yet" in str(found)
        given = {
            "SOURCE": scenario.config.source,
            "MYSQL_HOST": scenario.config.host,
            "MYSQL_PORT": str(scenario.config.port),
            "MYSQL_USER": scenario.config.user,
            "MYSQL_PASSWORD": scenario.config.password,
            "NATS_URL": scenario.url,
            "WAREHOUSE_PATH": str(scenario.path),
        }
        for name, value in given.items():
            monkeypatch.setenv(f"BINLOGSYNC_{name}", value)
        scenario.mysql.execute("CREATE TABLE late (id INT PRIMARY KEY)")
        scenario.mysql.execute("INSERT INTO late VALUES (1)")
        tail.catch_up()
        tables = [f"{scenario.mysql.name}.{table}" for table in ("late", "nowhere", "quiet")]
        command = ["verify", "--client-id", "binlogsync", "--timeout", "1"]
        assert main([*command, *tables]) == 1
        assert main([*command, tables[0], "typo"]) == 3
        lines = capsys.readouterr().out.splitlines()
        said = ["not compared", "not compared", "differs at", "not compared", "not compared"]
        assert [line.split(": ")[0] for line in lines] == [*tables, tables[0], "typo"]
        assert [what in line for what, line in zip(said, lines, strict=True)] == [True] * 5
        assert "did not reach" in lines[0]
        assert "no mirror of it" in lines[1]
        with StreamReader(NatsOptions(url=scenario.url), scenario.config.source) as reader:
            target = Mirror(scenario.path, scenario.mysql.name, "late", scenario.config)
            consume(reader, (scenario.mysql.name, "late"), target, ConsumeOptions(idle_s=0.5), threading.Event())
        assert main([*command[:3], tables[0]]) == 0


def test_an_idle_stream_reports_the_missing_privilege(
    scenario: VerifyScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, user = scenario.mysql.server, f"few_{scenario.mysql.name}"
    scenario.mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    scenario.mysql.execute("INSERT INTO t VALUES (1)")
    with scenario.tail() as tail:
        tail.wait_stored(1)
    scenario.mysql.execute("INSERT INTO t VALUES (2)")
    scenario.mysql.execute(f"CREATE USER {user} IDENTIFIED BY 'x'")
    scenario.mysql.execute(f"GRANT SELECT, LOCK TABLES, REPLICATION CLIENT ON *.* TO {user}")
    scenario.config = replace(config_of(server, scenario.config.source, TLS()), user=user, password="x")
    monkeypatch.setattr("binlogsync.mirror.verify._CHECK_GRANTS_S", 0.2)
    try:
        with pytest.raises(ConsumeError, match=rf"GRANT REPLICATION SLAVE ON \*\.\* TO '{user}'"):
            scenario.verify("t")
    finally:
        scenario.mysql.execute(f"DROP USER {user}")
