"""`binlogsync mirror` beside a tail: its mirrors equal SELECT after stops, kills and failures."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from binlogsync.consume.engine import ConsumeOptions
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.settings import Settings
from binlogsync.targets.duckdb.file import DuckFile, quote
from dagster_binlogsync import tables as dagster_tables
from tests.cli_deployment import TIMEOUT_S, Deployment, RunningCommand
from tests.cli_here import run_here, tailing_here
from tests.databases import FreshDatabase, fresh_database
from tests.duck import mirror_rows, query
from tests.e2e.oracle import table_rows
from tests.e2e.tailing import TailThread, drain
from tests.nats_commands import delete_stream
from tests.waiting import paced, wait_until

FILE = "warehouse.duckdb"


class MirrorScenario:
    """Two tables that are older than the tail, one without changes, a running tail, and the file of the mirrors."""

    def __init__(self, deployment: Deployment, tail: TailThread) -> None:
        self.deployment = deployment
        self.tail = tail
        self.mysql = deployment.mysql
        self.database = deployment.mysql.name
        self.path = deployment.folder / FILE
        self.arguments = ("mirror", f"{self.database}.*", "--to", FILE)

    def live(self, *options: str) -> Any:
        """Run until a signal, in the background."""
        return self.deployment.running(*self.arguments, *options)

    def catch_up(self, *options: str) -> str:
        """Run until caught up; returns stderr."""
        done = run_here(self.deployment, *self.arguments, "--until-caught-up", *options)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def wait_loaded(self, live: RunningCommand) -> None:
        """Wait until the live mirrors of the older tables are equal; to look for messages first is cheap."""
        for name in ("one", "two"):
            live.wait_for_message(f"{self.database}.{name}: loaded with ")
        wait_until(lambda: self.is_equal("one", "two"), TIMEOUT_S, "mirrors equal to their tables")

    def is_equal(self, *names: str) -> bool:
        """Whether the mirrors have the rows of the tables; usable while the command is running."""
        return all(self._rows(name) == table_rows(self.mysql.server, self.database, name) for name in names)

    def catch_up_to_server(self, *options: str) -> None:
        """Catch up with everything that the server has logged."""
        self.tail.catch_up()
        self.catch_up(*options)

    def wait_for_more_rows(self, name: str) -> None:
        """Wait until the mirror has more rows than now."""
        before = self._count(name)
        wait_until(lambda: self._count(name) > before, TIMEOUT_S, "more rows in the mirror")

    def _count(self, name: str) -> int:
        """The number of rows, of which only the number is read; 0 without the mirror."""
        if not self.path.exists():
            return 0
        with DuckFile(self.path).transaction() as connection:
            try:
                (count,) = connection.execute(f"SELECT count(*) FROM {quote(self.database, name)}").fetchone() or (0,)
            except duckdb.CatalogException:
                return 0
        return int(count)

    def _rows(self, name: str) -> list[tuple[Any, ...]] | None:
        if not self.path.exists():
            return None
        with DuckFile(self.path).transaction() as connection:
            try:
                found = connection.execute(f"SELECT * FROM {quote(self.database, name)}").fetchall()
            except duckdb.CatalogException:
                return None
        return sorted(found, key=repr)


@pytest.fixture
def scenario(tmp_path: Path, mysql: FreshDatabase, nats_server: NATSServer) -> Iterator[MirrorScenario]:
    for name in ("one", "two", "thin"):
        mysql.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(20))")
        mysql.execute(f"INSERT INTO {name} (v) VALUES ('before the tail')")
    deployment = Deployment(tmp_path, mysql, nats_server)
    with tailing_here(deployment) as tail:
        for name in ("one", "two"):
            mysql.execute(f"INSERT INTO {name} (v) VALUES ('a'), ('b')")
        tail.wait_stored(4)
        yield MirrorScenario(deployment, tail)
    delete_stream(nats_server.url, deployment.stream)


def test_a_live_mirror_has_each_table_and_ends_with_a_signal(scenario: MirrorScenario) -> None:
    mysql = scenario.mysql
    with scenario.live() as live:
        scenario.wait_loaded(live)
        mysql.execute("CREATE TABLE three (id INT PRIMARY KEY)")
        mysql.execute("INSERT INTO three VALUES (7)")
        mysql.execute("DELETE FROM one WHERE id = 1")
        wait_until(lambda: scenario.is_equal("three", "two", "one"), TIMEOUT_S, "the mirror of a later table")
        second = run_here(scenario.deployment, *scenario.arguments)
        assert second.returncode == 1
        assert "client id 'mirror' of source" in second.stderr
        assert "is already running" in second.stderr
        scenario.deployment.settings["WAREHOUSE_PATH"] = FILE
        verified = run_here(scenario.deployment, "verify", f"{scenario.database}.one", "--client-id", "mirror")
        assert verified.returncode == 0, verified.stdout
        output = live.interrupt(signal.SIGTERM)
    assert f"{scenario.database}.three: " in output
    mysql.execute("UPDATE two SET v = 'while no mirror runs'")
    mysql.execute("DROP TABLE three")
    scenario.catch_up_to_server()
    assert scenario.is_equal("one", "two")
    tables = query(scenario.path, f"SELECT table_name FROM duckdb_tables() WHERE schema_name = '{scenario.database}'")
    assert {name for (name,) in tables} >= {"one", "two"}


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_killed_mirrors_equal_their_tables(scenario: MirrorScenario, kills: int) -> None:
    end, chance = threading.Event(), random.Random(2)

    def write() -> None:
        with scenario.mysql.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"USE {scenario.database}")
            for _ in paced(end, random.Random(1), 0.1):
                cursor.execute("INSERT INTO one (v) VALUES ('new'), ('new'), ('new')")
                cursor.execute("UPDATE one SET v = concat(left(v, 9), 'x') ORDER BY id DESC LIMIT 2")
                cursor.execute("INSERT INTO two (v) SELECT v FROM one ORDER BY id DESC LIMIT 1")
                cursor.execute("DELETE FROM two ORDER BY id LIMIT 1")
                connection.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(kills):
            with scenario.live() as live:
                for _ in ("loaded, or after the last kill", "applied from the stream"):
                    scenario.wait_for_more_rows("one")
                time.sleep(chance.random() * 0.3)  # the count came between two transactions of the mirror
                live.process.kill()
                live.process.wait(TIMEOUT_S)
    finally:
        end.set()
        writer.join()
    scenario.catch_up_to_server()
    assert scenario.is_equal("one", "two")


@pytest.mark.exhaustive
def test_a_blocked_table_does_not_stop_the_others(scenario: MirrorScenario) -> None:
    with duckdb.connect(str(scenario.path)) as connection:
        connection.execute(f"CREATE SCHEMA {scenario.database}")
        connection.execute(f"CREATE TABLE {scenario.database}.one (mine INT)")
    done = run_here(scenario.deployment, *scenario.arguments, "--until-caught-up")
    assert done.returncode == 1
    assert f"{scenario.database}.one is blocked: {scenario.database}.one: the file has a table" in done.stderr
    assert scenario.is_equal("two")
    query(scenario.path, f"DROP TABLE {scenario.database}.one")
    scenario.catch_up()
    assert scenario.is_equal("one", "two")


@pytest.mark.exhaustive
def test_mirrors_have_the_names_and_columns_of_the_options(scenario: MirrorScenario) -> None:
    options = ("--target-schema", "raw_{source}", "--metadata", "_op", "--on-drop", "keep", "--until-caught-up")
    done = run_here(scenario.deployment, *scenario.arguments, *options, "--target-table", "all")
    assert done.returncode == 1
    assert f"would both become the table raw_{scenario.deployment.source}.all; write --target-schema" in done.stderr
    scenario.path.unlink()
    done = run_here(scenario.deployment, *scenario.arguments, *options, "--target-table", "{database}_{table}")
    assert done.returncode == 0, done.stderr
    path = quote(f"raw_{scenario.deployment.source}", f"{scenario.database}_one")
    assert query(scenario.path, f"SELECT v, _op FROM {path} WHERE id = 1") == [("before the tail", "r")]
    done = scenario.deployment.run(*scenario.arguments, "--until-caught-up", "--metadata", "_op")
    assert done.returncode == 1
    assert "target_schema and target_table named it, and they are not set now" in done.stderr


def test_options(scenario: MirrorScenario) -> None:
    options = ("--together", "--history", "--deleted-at", "gone_at", "--exclude", "*.th*")
    scenario.mysql.execute("CREATE TABLE three (id INT PRIMARY KEY)")
    scenario.catch_up(*options)  # soft deletes and history begin with the first read of the table
    assert query(scenario.path, f"SELECT count(*) FROM {scenario.database}.one") == [(3,)]
    scenario.mysql.execute("DELETE FROM one WHERE id = 2")
    scenario.catch_up_to_server(*options)
    assert query(scenario.path, f"SELECT id FROM {scenario.database}.one WHERE gone_at IS NOT NULL") == [(2,)]
    tables = query(scenario.path, f"SELECT table_name FROM duckdb_tables() WHERE schema_name = '{scenario.database}'")
    assert {name for (name,) in tables} == {"one", "one__history", "two", "two__history"}


def test_a_later_table_joins_a_group(scenario: MirrorScenario) -> None:
    with scenario.live("--together") as live:
        scenario.wait_loaded(live)
        scenario.mysql.execute("CREATE TABLE three (id INT PRIMARY KEY)")
        scenario.mysql.execute("INSERT INTO three VALUES (7)")
        scenario.mysql.execute("DELETE FROM two WHERE id = 1")
        wait_until(lambda: scenario.is_equal("three", "two", "one"), TIMEOUT_S, "the mirror of a later table")
        live.interrupt(signal.SIGTERM)


def test_names_tables_that_are_not_in_the_stream(scenario: MirrorScenario) -> None:
    scenario.mysql.execute("CREATE VIEW no_table AS SELECT 1")
    with fresh_database(scenario.mysql.server) as other:
        other.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        patterns = (f"{scenario.database}.*", f"{other.name}.*", "nowhere.*")
        done = run_here(scenario.deployment, "mirror", *patterns, "--to", FILE, "--until-caught-up")
    assert done.returncode == 0, done.stderr
    assert f"not tailed: {other.name}.t; change BINLOGSYNC_INCLUDE" in done.stderr
    assert "no table matches nowhere.* yet" in done.stderr
    assert "no_table" not in done.stderr
    assert f"{scenario.database}.thin: loaded with 1 rows" in done.stderr, "nobody changes it"
    assert scenario.is_equal("one", "two", "thin")


def test_dagster_and_the_command_resume_each_other(scenario: MirrorScenario) -> None:
    client = ("--client", "dagster")
    scenario.catch_up(*client)
    assert scenario.is_equal("one")
    settings = Settings.read(scenario.deployment.folder, {})
    consumer = dagster_tables.mirror(f"{scenario.database}.one", source=scenario.deployment.source).consumer
    target = consumer.target(str(scenario.path), settings.mysql())
    options = ConsumeOptions(client_id=consumer.client_id, idle_s=0.1)
    scenario.mysql.execute("INSERT INTO one (v) VALUES ('for Dagster')")
    with StreamReader(NatsOptions(url=scenario.deployment.nats.url), scenario.deployment.source) as reader:

        def is_consumed() -> bool:
            return any(result.changes == 1 for result in drain(reader, consumer.table, target, options))

        wait_until(is_consumed, TIMEOUT_S, "one change, applied as by a run of Dagster")
    assert mirror_rows(scenario.path, *consumer.table) == table_rows(scenario.mysql.server, *consumer.table)
    assert f"{scenario.database}.one: no new changes" in scenario.catch_up(*client)
    refused = run_here(scenario.deployment, *scenario.arguments, "--until-caught-up", "--client", "other")
    assert refused.returncode == 1
    assert "client 'dagster' of source" in refused.stderr
