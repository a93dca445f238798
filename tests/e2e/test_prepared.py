"""A tail that is stopped while an XA transaction is prepared: its changes come once, when they are committed."""

from __future__ import annotations

from pathlib import Path

from binlogsync.sinks.audit import AuditSink
from binlogsync.stores.memory import MemoryPositions
from tests.databases import FreshDatabase
from tests.duck import query
from tests.e2e.tailing import TailThread, config_of, options_of


def test_a_restart_between_prepare_and_commit(mysql: FreshDatabase, tmp_path: Path) -> None:
    source, store, path = f"prepared-{mysql.name}", MemoryPositions(), tmp_path / "audit.duckdb"
    config, options = config_of(mysql.server, source), options_of(source, mysql.name)

    def tail_after(*statements: str) -> None:
        for statement in statements:
            mysql.execute(statement)
        with TailThread(config, [AuditSink(path)], store, options) as tail:
            tail.catch_up()

    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    xa = ("XA START 'x'", "INSERT INTO t VALUES (1), (2)", "XA END 'x'", "XA PREPARE 'x'")
    tail_after("INSERT INTO t VALUES (10)", *xa)
    with mysql.server.connect(database=mysql.name, autocommit=True) as other, other.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (11)")
    tail_after()
    tail_after()
    tail_after("XA COMMIT 'x'", "INSERT INTO t VALUES (12)")
    rows = query(path, "SELECT CAST(after->>'id' AS INT) FROM changes ORDER BY flush, rowid")
    assert rows == [(10,), (11,), (1,), (2,), (12,)]
    saved = store.load(source)
    assert saved is not None
    assert saved.resume is None
