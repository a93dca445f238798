"""XA transactions prepared while no tail runs, or before its first start: delivered once, after XA COMMIT."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from binlogsync import servers
from binlogsync.errors import DecodeError
from binlogsync.mysql import inspect_server, resolve_start
from binlogsync.replay.from_binlog import BinlogRangeReader
from binlogsync.replay.ranges import ReplayRange
from binlogsync.sinks.audit import AuditSink
from binlogsync.stores.memory import MemoryPositionStore
from tests.databases import FreshDatabase, fresh_database
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, options_of

_XA = ("XA START 'x'", "INSERT INTO t VALUES (1), (2)", "XA END 'x'", "XA PREPARE 'x'")
_IDS = "SELECT CAST(after->>'id' AS INT) FROM changes ORDER BY flush, rowid"


def _execute_in_new_session(database: FreshDatabase, *statements: str) -> None:
    """Execute in a session without a prepared transaction."""
    with database.server.connect(database=database.name) as other, other.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _end(database: FreshDatabase) -> str:
    """Options for a start at the end of the log."""
    return str(resolve_start(config_of(database.server, "end")).position)


def test_a_restart_between_prepare_and_commit(mysql: FreshDatabase, tmp_path: Path) -> None:
    source, store, path = f"prepared-{mysql.name}", MemoryPositionStore(), tmp_path / "audit.duckdb"
    config, options = config_of(mysql.server, source), options_of(source, mysql.name)

    def tail_after(*statements: str) -> None:
        for statement in statements:
            mysql.execute(statement)
        with TailThread(config, [AuditSink(path)], store, options) as tail:
            tail.catch_up()

    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    tail_after("INSERT INTO t VALUES (10)", *_XA)
    _execute_in_new_session(mysql, "INSERT INTO t VALUES (11)")
    tail_after()
    tail_after()
    tail_after("XA COMMIT 'x'", "INSERT INTO t VALUES (12)")
    assert query(path, _IDS) == [(10,), (11,), (1,), (2,), (12,)]
    saved = store.checkpoints.load(source)
    assert saved is not None
    assert saved.resume is None


@pytest.fixture(params=["mysql", "mariadb"])
def database(request: pytest.FixtureRequest) -> FreshDatabase:
    found: FreshDatabase = request.getfixturevalue(request.param)
    return found


def is_mariadb(database: FreshDatabase) -> bool:
    return isinstance(database.server, servers.MariaDBServer)


@pytest.mark.server
@pytest.mark.parametrize("before", [(), ("INSERT INTO t VALUES (12)",)], ids=["at-once", "after-others"])
def test_a_first_start_between_prepare_and_commit(
    database: FreshDatabase, tmp_path: Path, before: tuple[str, ...]
) -> None:
    """Changes committed before the start are read but not delivered; each restart is correct."""
    source, store, path = f"prepared-{database.name}", MemoryPositionStore(), tmp_path / "audit.duckdb"
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    compressed = ("SET SESSION binlog_transaction_compression = ON",) if before and not is_mariadb(database) else ()
    for statement in ("INSERT INTO t VALUES (10)", *compressed, *_XA):
        database.execute(statement)
    _execute_in_new_session(database, "FLUSH BINARY LOGS", "INSERT INTO t VALUES (11)")
    start = _end(database)
    _execute_in_new_session(database, *before)
    database.execute("XA COMMIT 'x'")
    _execute_in_new_session(database, "INSERT INTO t VALUES (13)")
    options = options_of(source, database.name, start=start)
    for _ in range(2):
        with TailThread(config_of(database.server, source), [AuditSink(path)], store, options) as tail:
            tail.catch_up()
    assert query(path, _IDS) == [*((12,) for _ in before), (1,), (2,), (13,)]


@pytest.mark.server
@pytest.mark.parametrize("include", ["{}.*", "{}.other"], ids=["captured", "excluded"])
def test_a_restart_reads_back_past_the_commit_of_another_transaction(
    database: FreshDatabase, tmp_path: Path, include: str
) -> None:
    """Reading resumes before the second XA PREPARE, and meets the commit of the first, which is stored already."""
    source, store, path = f"past-{database.name}", MemoryPositionStore(), tmp_path / "audit.duckdb"
    config = config_of(database.server, source)
    start = _end(database)
    options = options_of(source, database.name, start=start, include=(include.format(database.name),))
    second = [text.replace("1), (2", "3), (4") for text in _XA]
    for statement in ("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE other (id INT PRIMARY KEY)", *_XA):
        database.execute(statement)
    _execute_in_new_session(database, "FLUSH BINARY LOGS")
    for statement in ("XA COMMIT 'x'", *second):
        database.execute(statement)
    _execute_in_new_session(database, "FLUSH BINARY LOGS")
    prepared = None
    for statements in ((), ("XA COMMIT 'x'",), ()):
        for statement in statements:
            database.execute(statement)
        with TailThread(config, [AuditSink(path)], store, options) as tail:
            tail.catch_up()
        prepared = prepared or store.checkpoints.load(source)
    assert query(path, _IDS) == ([] if "other" in include else [(1,), (2,), (3,), (4,)])
    assert prepared is not None
    assert prepared.resume is not None
    range_ = ReplayRange("all", prepared, resolve_start(config))
    steps = BinlogRangeReader(config, database.name, "t").read(range_, threading.Event())
    batches = [item.batch for step in steps for item in step.items]
    assert [change.after for batch in batches for change in batch.changes()] == [{"id": 3}, {"id": 4}]


@pytest.mark.server
def test_a_start_now_with_a_prepared_transaction(mysql: FreshDatabase, tmp_path: Path) -> None:
    """The prepared transaction is committed after the start and before the first flush: "now" stays the first start."""
    source, store, path = f"prepared-{mysql.name}", MemoryPositionStore(), tmp_path / "audit.duckdb"
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    for statement in _XA:
        mysql.execute(statement)
    options = options_of(source, mysql.name, start="now", idle_checkpoint_s=60)
    with TailThread(config_of(mysql.server, source), [AuditSink(path)], store, options) as tail:
        tail.wait_begun()
        _execute_in_new_session(mysql, "XA COMMIT 'x'", "INSERT INTO t VALUES (13)")
        tail.wait_stored(3)
    assert query(path, _IDS) == [(1,), (2,), (13,)]


@pytest.mark.server
def test_a_purged_prepared_transaction_stops_the_tail(tmp_path: Path) -> None:
    path = tmp_path / "audit.duckdb"
    with servers.mysql() as server, fresh_database(server) as database:
        database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        for statement in _XA:
            database.execute(statement)
        file = inspect_server(config_of(server, "gone")).end().file
        _execute_in_new_session(database, "FLUSH BINARY LOGS", "INSERT INTO t VALUES (3)", "FLUSH BINARY LOGS")
        kept = inspect_server(config_of(server, "gone")).files[-2].name
        _execute_in_new_session(database, f"PURGE BINARY LOGS TO '{kept}'", "XA COMMIT 'x'", "INSERT INTO t VALUES (4)")
        options = options_of("gone", database.name)
        with TailThread(config_of(server, "gone"), [AuditSink(path)], MemoryPositionStore(), options) as tail:
            error = tail.end()
    assert isinstance(error, DecodeError)
    assert "XA COMMIT X'78',X'',1" in str(error)
    assert f"reach back to {kept}" in str(error)
    assert file != kept
    assert query(path, _IDS) == [(3,)]


@pytest.mark.server
def test_a_replay_of_a_range_with_the_commit_of_an_earlier_prepared_transaction(
    database: FreshDatabase,
) -> None:
    config = config_of(database.server, "range")
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    for statement in ("INSERT INTO t VALUES (10)", *_XA):
        database.execute(statement)
    _execute_in_new_session(database, "INSERT INTO t VALUES (11)")
    start = resolve_start(config)
    _execute_in_new_session(database, "INSERT INTO t VALUES (12)")
    database.execute("XA COMMIT 'x'")
    _execute_in_new_session(database, "INSERT INTO t VALUES (13)")
    until = resolve_start(config)
    _execute_in_new_session(database, "INSERT INTO t VALUES (14)")
    steps = BinlogRangeReader(config, database.name, "t").read(ReplayRange("all", start, until), threading.Event())
    batches = [item.batch for step in steps for item in step.items]
    assert [change.after for batch in batches for change in batch.changes()] == [{"id": i} for i in (12, 1, 2, 13)]
