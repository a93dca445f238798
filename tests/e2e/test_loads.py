"""A mirror is loaded in chunks while its table is written to: it equals the table, after stops and kills too."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogsync.codec.subjects import stream_name
from binlogsync.consume.progress import ProgressKey
from binlogsync.errors import ConsumeError
from binlogsync.mirror import load as mirror_load
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.servers import NATSServer
from binlogsync.snapshot import chunks
from binlogsync.targets.duckdb.file import META_SCHEMA, DuckFile
from binlogsync.targets.factory import open_store
from dagster_binlogsync.consume.stored_progress import StoredProgress
from tests.binlog.exact.type_sample import MARIADB, MYSQL
from tests.databases import MARIADB_TOO, FreshDatabase
from tests.e2e.held_loads import finish, held_loads
from tests.e2e.loads import (
    OPTIONS,
    ROWS,
    Loads,
    TableWriters,
    check_equal,
    rows_read,
    table_loads,
)
from tests.e2e.mirrored_tables import mirror_table_rows
from tests.nats_commands import purge_stream
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("small_chunks")]


@pytest.fixture(params=[MYSQL, MARIADB_TOO])
def scenario(request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path) -> Iterator[Loads]:
    database: FreshDatabase = request.getfixturevalue(request.param)
    with table_loads(database, nats_server.url, tmp_path) as running:
        yield running


def is_unloaded(scenario: Loads, table: str) -> bool:
    """Whether Dagster's sensor requests a run that loads the mirror."""
    key = ProgressKey(OPTIONS.client_id, scenario.config.source, scenario.database.name, table)
    stored = StoredProgress()
    stored.read(open_store(scenario.path))
    return bool(stored.find_unloaded([key]))


def all_rows_are_read(scenario: Loads) -> bool:
    """Whether the load has the rows of all chunks."""
    if not rows_read(scenario):
        return False
    with DuckFile(scenario.path).transaction() as connection:
        return connection.execute(f"SELECT high IS NOT NULL FROM {META_SCHEMA}.loads").fetchone() == (True,)


@pytest.mark.parametrize(("scenario", "is_killed"), [(MYSQL, True), (MARIADB, False)], indirect=["scenario"])
def test_a_load_under_writes_is_resumed_after_a_stop_and_a_kill(
    scenario: Loads, is_killed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=mirror_load.__name__)
    with TableWriters(scenario.database, seed=7, pause_s=0.1):
        stop = threading.Event()
        slow = threading.Thread(target=scenario.consume, args=(scenario.mirror("t"), stop))
        with held_loads() as held:
            slow.start()
            try:
                held.wait(slow)
            finally:
                stop.set()
                finish(slow)
        before = rows_read(scenario)
        assert 0 < before < ROWS
        if is_killed:
            arguments = [sys.executable, "-m", "tests.e2e.loads", scenario.arguments("t")]
            with subprocess.Popen(arguments) as process:
                wait_until(lambda: rows_read(scenario) > before or process.poll() is not None, 60, "another chunk")
                process.kill()
            assert rows_read(scenario) > before
        scenario.consume_until(lambda: not rows_read(scenario), scenario.mirror("t"))
        assert f"{scenario.database.name}.t: the load resumes after" in caplog.text
        assert "the load begins again" not in caplog.text
    check_equal(scenario)


@pytest.mark.parametrize(
    ("scenario", "statement"),
    [
        (MYSQL, "TRUNCATE TABLE t"),
        (MYSQL, "ALTER TABLE t ADD COLUMN extra INT DEFAULT 7"),
        (MYSQL, "RENAME TABLE t TO u, u TO t"),
        pytest.param(MARIADB, "RENAME TABLE t TO u, u TO t", marks=pytest.mark.exhaustive),
    ],
    indirect=["scenario"],
)
def test_a_statement_during_a_load_begins_it_again(
    scenario: Loads, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    slow = threading.Thread(target=scenario.consume, args=(scenario.mirror("t"),), daemon=True)
    caplog.set_level(logging.INFO, logger=mirror_load.__name__)
    with held_loads() as held:
        slow.start()
        held.wait(slow)
        scenario.database.execute(statement)
        held.release(slow)
    assert "the load begins again" in caplog.text
    check_equal(scenario)


@pytest.mark.parametrize("scenario", [MYSQL], indirect=True)
def test_a_stream_that_drops_messages_during_a_load_begins_it_again(
    scenario: Loads, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=mirror_load.__name__)
    slow = threading.Thread(target=scenario.consume, args=(scenario.mirror("t"),), daemon=True)
    with held_loads() as held:
        slow.start()
        held.wait(slow)
        for n in range(3):
            scenario.database.execute(f"INSERT INTO other VALUES ({n})")
            scenario.tail.catch_up()
        purge_stream(scenario.nats_url, stream_name(scenario.config.source), 1)
        held.release(slow)
    assert "dropped sequences" in caplog.text
    check_equal(scenario)


@pytest.mark.parametrize("scenario", [MYSQL], indirect=True)
def test_a_load_ends_when_another_process_rebuilds_the_mirror(
    scenario: Loads, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=mirror_load.__name__)
    errors: list[ConsumeError] = []

    def load() -> None:
        try:
            scenario.consume(scenario.mirror("t"))
        except ConsumeError as error:
            errors.append(error)

    slow = threading.Thread(target=load, daemon=True)
    with held_loads() as held:
        slow.start()
        held.wait(slow)
        scenario.mirror("t").rebuild(ProgressKey("another", scenario.config.source, scenario.database.name, "t"))
        held.release(slow)
    assert "another process has begun to load or rewind this mirror" in str(errors)
    check_equal(scenario)


def test_a_load_whose_rows_were_all_read_is_resumed(scenario: Loads, caplog: pytest.LogCaptureFixture) -> None:
    """The stream does not reach the last rows, because no tail is running."""
    caplog.set_level(logging.INFO, logger=mirror_load.__name__)
    scenario.tail.stop()
    scenario.database.execute("UPDATE t SET v = v + 1 WHERE a < 10")
    stop = threading.Event()
    waiting = threading.Thread(target=scenario.consume, args=(scenario.mirror("t"), stop), daemon=True)
    waiting.start()
    wait_until(lambda: all_rows_are_read(scenario), 30, "all rows to be read")
    stop.set()
    finish(waiting)
    assert mirror_table_rows(scenario.path, (scenario.database.name, "t")) is None
    scenario.database.execute("UPDATE t SET a = a + 1000 WHERE a < 5")
    scenario.restart_tail()
    scenario.catch_up()
    scenario.consume(scenario.mirror("t"))
    assert f"the load resumes after {ROWS} rows" in caplog.text
    check_equal(scenario)


@pytest.mark.parametrize(
    ("columns", "engine"),
    [("page INT, v INT", "InnoDB"), ("page INT, v INT", "MyISAM"), ("page INT NOT NULL UNIQUE, v INT", "InnoDB")],
    ids=["no key", "MyISAM", "unique key"],
)
def test_a_table_without_a_primary_key_equals_its_mirror(scenario: Loads, columns: str, engine: str) -> None:
    database, end = scenario.database, threading.Event()
    database.execute(f"CREATE TABLE pages ({columns}) ENGINE={engine}")
    database.execute("INSERT INTO pages VALUES " + ", ".join(f"({n}, 0)" for n in range(300)))
    database.execute("CREATE TABLE IF NOT EXISTS pages (page INT)")  # its effect depends on the rows before

    def write() -> None:
        with database.server.connect(database=database.name, autocommit=True) as connection:
            for n in range(300, 100_000):
                connection.query(f"INSERT INTO pages VALUES ({n}, 1)")
                connection.query(f"UPDATE pages SET v = v + 1 WHERE page BETWEEN {n % 300} AND {n % 300 + 3}")
                connection.query(f"DELETE FROM pages WHERE page = {n - 250}")
                if end.wait(0.02):
                    return

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    mirror = scenario.mirror("pages")
    try:
        with StreamReader(NatsOptions(url=scenario.nats_url), scenario.config.source) as reader:
            mirror.use_stream(reader, ProgressKey("loads", reader.source, *mirror.names), threading.Event())
            mirror.rebuild(ProgressKey("loads", reader.source, *mirror.names))
    finally:
        end.set()
        finish(writer)
    check_equal(scenario, "pages")


def test_tables_that_nobody_changes_are_loaded(scenario: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "SMALL_ROWS", 20_000)
    for name, rows in (("quiet", "(1), (2)"), ("unused", "")):
        scenario.database.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY)")
        scenario.database.execute(f"INSERT INTO {name} VALUES {rows}" if rows else "DO 1")
    scenario.tail.catch_up()
    with StreamReader(NatsOptions(url=scenario.nats_url), scenario.config.source) as reader:
        purge_stream(scenario.nats_url, reader.stream, 1)
        assert is_unloaded(scenario, "quiet"), "the sensor requests its first run"
    for name in ("quiet", "unused"):
        scenario.consume(scenario.mirror(name))
        assert mirror_table_rows(scenario.path, (scenario.database.name, name)) == scenario.server_rows(name)
        assert not is_unloaded(scenario, name)
    scenario.database.execute("INSERT INTO unused VALUES (7)")
    check_equal(scenario, "unused")
