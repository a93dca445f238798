"""binlog_row_metadata other than FULL: names, signs, charsets, labels and keys from the server, or an error.

MySQL 5.7 logs the same as MariaDB with NO_LOG: no optional metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from binlogsync.binlog.reader import BinlogReader
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from tests.binlog.dump import DecodedDump, DumpRecording, changes_of, end_of_log, options_of, raw_dump, record
from tests.binlog.exact.compare import SETTINGS
from tests.binlog.exact.type_samples import TYPE_SAMPLES
from tests.databases import FreshDatabase

# Labels that INFORMATION_SCHEMA cannot represent, and columns that fill a whole row.
_ELSEWHERE = re.compile(r"[\U00010000-\U0010ffff]|\([1-9]\d{4}\)")
_LEVELS = [("mysql", "MINIMAL"), ("mariadb", "MINIMAL"), ("mariadb", "NO_LOG")]


@pytest.fixture(params=_LEVELS, ids=lambda pair: "-".join(pair))
def database(request: pytest.FixtureRequest) -> Iterator[FreshDatabase]:
    """A database on a server with reduced metadata."""
    name, level = request.param
    found: FreshDatabase = request.getfixturevalue(name)
    found.execute(f"SET GLOBAL binlog_row_metadata = {level}")
    yield found
    found.execute("SET GLOBAL binlog_row_metadata = FULL")


def _record(database: FreshDatabase, start: Checkpoint) -> DumpRecording:
    return record(database.server, start, lambda name, table: name == database.name and table != "left_out")


def _run(database: FreshDatabase, *statements: str) -> DecodedDump:
    """Execute all statements, then decode their log."""
    start = end_of_log(database.server)
    for statement in statements:
        database.execute(statement)
    return _record(database, start).decoded()


@pytest.mark.server
def test_every_type_is_named_as_with_full_metadata(database: FreshDatabase, request: pytest.FixtureRequest) -> None:
    flavor = "mysql" if "mysql" in request.node.name else "mariadb"
    samples = [sample for sample in TYPE_SAMPLES if flavor in sample.servers and not _ELSEWHERE.search(sample.ddl)]
    for setting in SETTINGS:
        database.execute(setting)
    tables = []
    for at in range(0, len(samples), 10):
        chosen = samples[at : at + 10]
        columns = ", ".join(f"`c {k}` {s.ddl} NULL" for k, s in enumerate(chosen))
        database.execute(f"CREATE TABLE t{at} (b INT, a INT UNSIGNED, {columns}, PRIMARY KEY (a, b))")
        tables.append(f"INSERT INTO t{at} VALUES (1, {{}}, {', '.join(s.literals[0] for s in chosen)})")
    outcomes: list[dict[str, tuple[TableSchema, object]]] = []
    for number, level in enumerate((None, "FULL")):
        if level is not None:
            database.execute(f"SET GLOBAL binlog_row_metadata = {level}")
        done = _run(database, *(statement.replace("{}", str(number)) for statement in tables))
        assert done.error is None
        assert len(done.changes) == len(tables)
        batches = [batch for decoded_range in done.ranges for batch in decoded_range.batches]
        rows = {change.source.table: dict(change.after or {}) for change in done.changes}
        for row in rows.values():
            del row["a"]
        outcomes.append({batch.schema.table: (batch.schema, rows[batch.schema.table]) for batch in batches})
    for name, (schema, _) in outcomes[0].items():
        pairs = zip(schema.columns, outcomes[1][name][0].columns, strict=True)
        assert [(declared, logged) for declared, logged in pairs if declared != logged] == []
    assert outcomes[0] == outcomes[1]
    schema, _ = outcomes[0]["t0"]
    assert schema.primary_key == ("a", "b")


@pytest.mark.server
def test_labels_that_the_server_cannot_show_stop_the_reader(database: FreshDatabase) -> None:
    done = _run(database, "CREATE TABLE t (e ENUM('\U0001f600') CHARACTER SET utf8mb4)", "INSERT INTO t VALUES (1)")
    assert done.error is not None
    assert "labels of e" in str(done.error)


_TABLE = "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9), e ENUM('x', 'y'))"
_ROW = "INSERT INTO t VALUES (1, 'a', 'b', 'y')"


@pytest.mark.server
@pytest.mark.parametrize(
    ("statements", "word"),
    [
        (["ALTER TABLE t RENAME COLUMN a TO c"], "altered before"),
        (["ALTER TABLE t MODIFY e ENUM('y', 'x')"], "altered before"),
        (["ALTER TABLE t ADD n INT"], "altered before"),
        (["DROP TABLE t"], "no longer exists"),
        (["RENAME TABLE t TO u", "CREATE TABLE t LIKE u"], "altered before"),
        (["FLUSH BINARY LOGS", "ALTER TABLE t DROP a"], "altered before"),
        (["SET sql_log_bin = 0", "ALTER TABLE t DROP a", "SET sql_log_bin = 1"], "other columns"),
        (["SET sql_log_bin = 0", "ALTER TABLE t MODIFY a VARCHAR(10)", "SET sql_log_bin = 1"], "other columns"),
    ],
)
def test_rows_of_a_table_that_was_altered_since_stop_the_reader(
    database: FreshDatabase, statements: list[str], word: str
) -> None:
    done = _run(database, "CREATE TABLE first (id INT)", "INSERT INTO first VALUES (7)", _TABLE, _ROW, *statements)
    assert done.error is not None
    assert done.error.table == f"{database.name}.t"
    assert word in str(done.error)
    assert "binlog_row_metadata" in str(done.error)
    assert [change.after for change in done.changes] == [{"id": 7}]


@pytest.mark.server
@pytest.mark.parametrize(
    "statements", [["TRUNCATE TABLE t"], ["CREATE TABLE IF NOT EXISTS t (id INT)"], ["CREATE TABLE u AS SELECT 1 AS t"]]
)
def test_statements_that_keep_the_columns_cause_no_error(database: FreshDatabase, statements: list[str]) -> None:
    done = _run(database, _TABLE, _ROW, *statements, _ROW.replace("1", "2"))
    assert done.error is None
    after = [change.after for change in done.changes if change.source.table == "t" and change.op == "c"]
    assert after == [{"id": n, "a": "a", "b": "b", "e": "y"} for n in (1, 2)]


@pytest.mark.server
def test_column_names_that_change_while_reading(database: FreshDatabase) -> None:
    """The TABLE_MAPs before and after differ in their table id only."""
    database.execute(_TABLE)
    start = end_of_log(database.server)
    reader = BinlogReader(options_of(database.server, lambda name, table: name == database.name), start)
    names, seen = [], 0
    for number, statement in enumerate(("DO 1", "ALTER TABLE t RENAME COLUMN a TO c, RENAME COLUMN b TO a", "DO 1")):
        database.execute(statement)
        database.execute(f"INSERT INTO t VALUES ({number}, 'first', 'second', 'x')")
        raw = raw_dump(database.server, start)[:-9]  # without the EOF packet
        piece = np.frombuffer(bytearray(raw[seen:]), np.uint8)
        seen = len(raw)
        names += [[*(change.after or {})] for change in changes_of(reader.feed(piece, 0, len(piece)))]
    assert names == [["id", "a", "b", "e"], ["id", "c", "a", "e"], ["id", "c", "a", "e"]]


@pytest.mark.server
def test_no_declaration_of_an_excluded_table_is_requested(database: FreshDatabase) -> None:
    done = _run(
        database,
        "CREATE TABLE left_out (id INT, g GEOMETRY)",
        "INSERT INTO left_out VALUES (1, NULL)",
        "DROP TABLE left_out",
        _TABLE,
        _ROW,
    )
    assert done.error is None
    assert [change.source.table for change in done.changes] == ["t"]
    assert sum(decoded_range.dropped for decoded_range in done.ranges) == 1
