"""Mirrors of tables that are renamed: their rows come from the stream, without a reread from the server."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from binlogsync.mirror import renamed_tables
from binlogsync.nats.complete_reading import read_sequences
from binlogsync.nats.reader import StreamBatch, StreamReader
from binlogsync.servers import MariaDBServer, NATSServer
from tests.databases import FreshDatabase
from tests.e2e.mirrored_tables import mirrored_tables, server_rows
from tests.nats_commands import ask

FILL = "INSERT INTO {} (id, note, d) VALUES (1, 'é', 1.5), (2, NULL, -7.25), (3, 'x', NULL)"
COLUMNS = "(id INT PRIMARY KEY, note VARCHAR(20), d DECIMAL(6,2), t TIME(3) DEFAULT '-12:30:15.25', j JSON, b BIT(1))"
CHANGES = {
    "pt-online-schema-change": [
        f"CREATE TABLE _t_new {COLUMNS}",
        "ALTER TABLE _t_new ADD COLUMN n INT DEFAULT 7",
        "INSERT LOW_PRIORITY IGNORE INTO _t_new (id, note, d, t, j, b) SELECT id, note, d, t, j, b FROM t",
        "UPDATE _t_new SET note = 'later', j = '[1, {\"a\": null}]', b = 1 WHERE id = 2",
        "RENAME TABLE t TO _t_old, _t_new TO t",
        "DROP TABLE IF EXISTS _t_old",
        "INSERT INTO t (id) VALUES (9)",
    ],
    "gh-ost": [
        "CREATE /* gh-ost */ TABLE _t_gho LIKE t",
        "ALTER /* gh-ost */ TABLE _t_gho ADD COLUMN n INT",
        "INSERT /* gh-ost */ IGNORE INTO _t_gho (id, note) SELECT id, note FROM t",
        "RENAME /* gh-ost */ TABLE t TO _t_del, _t_gho TO t",
        "DELETE FROM t WHERE id = 1",
    ],
    "there and back": [
        "RENAME TABLE t TO u",
        "UPDATE u SET note = 'as u' WHERE id = 3",
        "ALTER TABLE u RENAME TO t",
        "INSERT INTO t (id) VALUES (9)",
    ],
    "there and back twice": [
        "RENAME TABLE t TO u",
        "RENAME TABLE u TO v",
        "DELETE FROM v LIMIT 1",
        "RENAME TABLE v TO t",
    ],
    "swapped": [
        f"CREATE TABLE u {COLUMNS}",
        "INSERT INTO u (id) VALUES (50)",
        "RENAME TABLE t TO tmp, u TO t, tmp TO u",
        "DELETE FROM t WHERE id = 50",
    ],
}
MARIADB_CHANGES = ("gh-ost", "swapped")
"""What shows how a server logs renames; what a mirror makes of them does not depend on the server."""


@pytest.mark.parametrize("server", ["mysql", "mariadb"])
def test_renames_read_nothing_from_the_server(
    server: str, request: pytest.FixtureRequest, nats_server: NATSServer, tmp_path: Path
) -> None:
    database: FreshDatabase = request.getfixturevalue(server)
    mariadb = isinstance(database.server, MariaDBServer)
    names = MARIADB_CHANGES if mariadb else tuple(CHANGES)
    # A database for each, because the mirror of a renamed table applies all changes of its former names again.
    databases = [f"{database.name}_{number}" for number in range(len(names))]
    try:
        with mirrored_tables(database, nats_server.url, tmp_path, (f"{database.name}_*.*",)) as mirrors:
            for name, its_database in zip(names, databases, strict=True):
                database.execute(f"CREATE DATABASE {its_database}")
                database.execute(f"USE {its_database}")
                database.execute(f"CREATE TABLE t {COLUMNS}")
                database.execute(FILL.format("t"))
                table = (its_database, "t")
                mirrors.drain([table])
                for sql in CHANGES[name]:
                    database.execute(sql)
                mirrors.drain([table])
                assert mirrors.rows(table) == server_rows(database.connection, table, mariadb=mariadb), name
                assert mirrors.take_reads() == {}, name
    finally:
        for its_database in databases:
            database.execute(f"DROP DATABASE IF EXISTS {its_database}")


def test_older_changes_of_other_tables_may_be_dropped_meanwhile(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(reader: StreamReader, table: tuple[str, str], *arguments: Any) -> Generator[Sequence[StreamBatch]]:
        first = reader.changes_from(*table, 1)[0].last_sequence
        ask(nats_server.url, lambda js: js.purge_stream(reader.stream, seq=first))
        return read_sequences(reader, table, *arguments)

    monkeypatch.setattr(renamed_tables, "read_sequences", read)
    mysql.execute(f"CREATE TABLE t {COLUMNS}")
    with mirrored_tables(mysql, nats_server.url, tmp_path) as mirrors:
        table = (mysql.name, "t")
        mysql.execute(FILL.format("t"))
        mirrors.drain([table])
        mirrors.take_reads()
        for sql in CHANGES["pt-online-schema-change"]:
            mysql.execute(sql)
        mirrors.drain([table])
        assert mirrors.take_reads() == {}
        assert mirrors.rows(table) == server_rows(mysql.connection, table, mariadb=False)


def test_rows_that_are_not_in_the_stream_are_read(
    mysql: FreshDatabase, nats_server: NATSServer, tmp_path: Path
) -> None:
    mysql.execute(f"CREATE TABLE old {COLUMNS}")
    mysql.execute(FILL.format("old"))
    mysql.execute(f"CREATE TABLE t {COLUMNS}")
    with mirrored_tables(mysql, nats_server.url, tmp_path) as mirrors:
        table = (mysql.name, "t")
        mysql.execute("INSERT INTO t (id) VALUES (1)")
        mysql.execute("UPDATE old SET note = 'y'")
        mirrors.drain([table])
        mirrors.take_reads()
        mysql.execute("RENAME TABLE t TO gone, old TO t")
        mirrors.drain([table])
        assert list(mirrors.take_reads()) == [table]
        mysql.execute(f"CREATE TABLE next {COLUMNS}")
        mysql.execute(FILL.format("next"))
        mysql.execute("DROP TABLE t")
        mysql.execute("ALTER TABLE next ADD x INT DEFAULT 4, RENAME TO t")
        mirrors.drain([table])
        assert list(mirrors.take_reads()) == [table]
        assert mirrors.rows(table) == server_rows(mysql.connection, table, mariadb=False)
