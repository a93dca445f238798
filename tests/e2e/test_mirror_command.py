"""`binlogsync mirror` as a process beside a tail: its mirrors equal SELECT after stops, kills and failures."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from binlogsync.consume.engine import ConsumeOptions
from binlogsync.errors import WireError
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.settings import Settings
from binlogsync.targets.duckdb.file import DuckFile, quote
from dagster_binlogsync import tables as dagster_tables
from tests.cli_deployment import TIMEOUT_S, Deployment, RunningCommand
from tests.databases import FreshDatabase, fresh_database
from tests.duck import mirror_rows, query
from tests.e2e.oracle import table_rows
from tests.e2e.tailing import drain
from tests.nats_commands import delete_stream
from tests.waiting import wait_until

FILE = "warehouse.duckdb"


class MirrorScenario:
    """Two tables that are older than the tail, one without changes, a running tail, and the file of the mirrors."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.mysql = deployment.mysql
        self.database = deployment.mysql.name
        self.path = deployment.folder / FILE
        self.arguments = ("mirror", f"{self.database}.*", "--to", FILE)

    def live(self, *options: str) -> Any:
        """Run until a signal, in the background."""
        return self.deployment.running(*self.arguments, *options)

    def catch_up(self, *options: str) -> str:
        """Run until caught up; returns stderr."""
        done = self.deployment.run(*self.arguments, "--until-caught-up", *options)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def is_equal(self, *names: str) -> bool:
        """Whether the mirrors have the rows of the tables; usable while the command is running."""
        return all(self._rows(name) == table_rows(self.mysql.server, self.database, name) for name in names)

    def catch_up_to_tail(self, *names: str) -> None:
        """Catch up until the mirrors are equal: the tail may still be storing the last changes."""

        def is_equal() -> bool:
            self.catch_up()
            return self.is_equal(*names)

        wait_until(is_equal, TIMEOUT_S, f"mirrors of {names} equal to their tables")

    def wait_for_more_rows(self, name: str) -> None:
        """Wait until the mirror has more rows than now."""
        before = len(self._rows(name) or ())
        wait_until(lambda: len(self._rows(name) or ()) > before, TIMEOUT_S, "more rows in the mirror")

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
    with deployment.running("tail") as tail:
        tail.wait_for_message("stop with Ctrl-C")
        for name in ("one", "two"):
            mysql.execute(f"INSERT INTO {name} (v) VALUES ('a'), ('b')")
        wait_until(lambda: stored_tables(deployment) >= {"one", "two"}, TIMEOUT_S, "both tables in the stream")
        yield MirrorScenario(deployment)
    delete_stream(nats_server.url, deployment.stream)


def stored_tables(deployment: Deployment) -> set[str]:
    """Names of the tables in the stream; none while there is no stream."""
    try:
        with StreamReader(NatsOptions(url=deployment.nats.url), deployment.source) as reader:
            return {table for _, table in reader.tables()}
    except WireError:
        return set()


def stop(command: RunningCommand, number: signal.Signals) -> None:
    """End the command with a signal, and wait for its end."""
    command.process.send_signal(number)
    command.process.wait(TIMEOUT_S)


def test_a_live_mirror_has_each_table_and_ends_with_a_signal(scenario: MirrorScenario) -> None:
    mysql = scenario.mysql
    with scenario.live() as live:
        wait_until(lambda: scenario.is_equal("one", "two"), TIMEOUT_S, "mirrors equal to their tables")
        mysql.execute("CREATE TABLE three (id INT PRIMARY KEY)")
        mysql.execute("INSERT INTO three VALUES (7)")
        mysql.execute("DELETE FROM one WHERE id = 1")
        wait_until(lambda: scenario.is_equal("one", "two", "three"), TIMEOUT_S, "the mirror of a later table")
        second = scenario.deployment.run(*scenario.arguments)
        assert second.returncode == 1
        assert "client id 'mirror' of source" in second.stderr
        assert "is already running" in second.stderr
        scenario.deployment.settings["WAREHOUSE_PATH"] = FILE
        verified = scenario.deployment.run("verify", f"{scenario.database}.one", "--client-id", "mirror")
        assert verified.returncode == 0, verified.stdout
        output = live.interrupt(signal.SIGTERM)
    assert f"{scenario.database}.three: " in output
    mysql.execute("UPDATE two SET v = 'while no mirror runs'")
    mysql.execute("DROP TABLE three")
    scenario.catch_up_to_tail("one", "two")
    tables = query(scenario.path, f"SELECT table_name FROM duckdb_tables() WHERE schema_name = '{scenario.database}'")
    assert {name for (name,) in tables} >= {"one", "two"}


def test_killed_mirrors_equal_their_tables(scenario: MirrorScenario) -> None:
    end = threading.Event()

    def write() -> None:
        with scenario.mysql.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"USE {scenario.database}")
            while not end.wait(0.05):
                cursor.execute("INSERT INTO one (v) VALUES ('new'), ('new'), ('new')")
                cursor.execute("UPDATE one SET v = concat(left(v, 9), 'x') ORDER BY id DESC LIMIT 2")
                cursor.execute("INSERT INTO two (v) SELECT v FROM one ORDER BY id DESC LIMIT 1")
                cursor.execute("DELETE FROM two ORDER BY id LIMIT 1")
                connection.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            with scenario.live() as live:
                scenario.wait_for_more_rows("one")
                stop(live, signal.SIGKILL)
    finally:
        end.set()
        writer.join()
    scenario.catch_up_to_tail("one", "two")


@pytest.mark.exhaustive
def test_a_blocked_table_does_not_stop_the_others(scenario: MirrorScenario) -> None:
    with duckdb.connect(str(scenario.path)) as connection:
        connection.execute(f"CREATE SCHEMA {scenario.database}")
        connection.execute(f"CREATE TABLE {scenario.database}.one (mine INT)")
    done = scenario.deployment.run(*scenario.arguments, "--until-caught-up")
    assert done.returncode == 1
    assert f"{scenario.database}.one is blocked: {scenario.database}.one: the file has a table" in done.stderr
    assert scenario.is_equal("two")
    query(scenario.path, f"DROP TABLE {scenario.database}.one")
    scenario.catch_up()
    assert scenario.is_equal("one", "two")


@pytest.mark.exhaustive
def test_mirrors_have_the_names_and_columns_of_the_options(scenario: MirrorScenario) -> None:
    options = ("--target-schema", "raw_{source}", "--metadata", "_op", "--on-drop", "keep", "--until-caught-up")
    done = scenario.deployment.run(*scenario.arguments, *options, "--target-table", "all")
    assert done.returncode == 1
    assert f"would both become the table raw_{scenario.deployment.source}.all; write --target-schema" in done.stderr
    scenario.path.unlink()
    done = scenario.deployment.run(*scenario.arguments, *options, "--target-table", "{database}_{table}")
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

    def is_deleted() -> bool:
        scenario.catch_up(*options)
        found = query(scenario.path, f"SELECT id FROM {scenario.database}.one WHERE gone_at IS NOT NULL")
        return found == [(2,)]

    wait_until(is_deleted, TIMEOUT_S, "the deleted row with its time")
    tables = query(scenario.path, f"SELECT table_name FROM duckdb_tables() WHERE schema_name = '{scenario.database}'")
    assert {name for (name,) in tables} == {"one", "one__history", "two", "two__history"}


def test_a_later_table_joins_a_group(scenario: MirrorScenario) -> None:
    with scenario.live("--together") as live:
        wait_until(lambda: scenario.is_equal("one", "two"), TIMEOUT_S, "mirrors equal to their tables")
        scenario.mysql.execute("CREATE TABLE three (id INT PRIMARY KEY)")
        scenario.mysql.execute("INSERT INTO three VALUES (7)")
        scenario.mysql.execute("DELETE FROM two WHERE id = 1")
        wait_until(lambda: scenario.is_equal("one", "two", "three"), TIMEOUT_S, "the mirror of a later table")
        live.interrupt(signal.SIGTERM)


def test_names_tables_that_are_not_in_the_stream(scenario: MirrorScenario) -> None:
    scenario.mysql.execute("CREATE VIEW no_table AS SELECT 1")
    with fresh_database(scenario.mysql.server) as other:
        other.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        patterns = (f"{scenario.database}.*", f"{other.name}.*", "nowhere.*")
        done = scenario.deployment.run("mirror", *patterns, "--to", FILE, "--until-caught-up")
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
    refused = scenario.deployment.run(*scenario.arguments, "--until-caught-up", "--client", "other")
    assert refused.returncode == 1
    assert "client 'dagster' of source" in refused.stderr
