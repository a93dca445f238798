"""Unsupported events of real servers stop the reader with an error that names the event and the remedy.

Everything before is delivered, and a table that the filter excludes causes no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from binlogsync.errors import DecodeError
from binlogsync.position import GtidSet
from tests.binlog.dump import DecodedDump, end_of_log, record
from tests.databases import FreshDatabase

_FIRST = ("CREATE TABLE first (id INT PRIMARY KEY)", "INSERT INTO first VALUES (1)")


def _run(database: FreshDatabase, statements: Sequence[str], *, left_out: str = "") -> DecodedDump:
    """Execute the statements in a new session, and decode their log without the table `left_out`."""
    start = end_of_log(database.server)
    connection = database.server.connect(database=database.name)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()
    return record(database.server, start, lambda name, table: name == database.name and table != left_out).decoded()


def _error(done: DecodedDump) -> DecodeError:
    """The error, which has to have a position; the one row before it is delivered."""
    assert done.error is not None
    assert done.error.file.startswith("binlog.")
    assert done.error.pos > 4
    assert [(change.source.table, change.after) for change in done.changes] == [("first", {"id": 1})]
    # A restart does not skip the event that was refused.
    assert done.ranges[-1].checkpoint.position.pos <= done.error.pos
    return done.error


_TYPES = {
    "mysql": [
        ("VECTOR(2)", "TO_VECTOR('[1,2]')"),
        ("GEOMETRY", "POINT(1,2)"),
    ],
    "mariadb": [
        ("GEOMETRY", "POINT(1,2)"),
        ("VARCHAR(50) COMPRESSED", "'x'"),
        ("TEXT COMPRESSED", "repeat('x', 500)"),
    ],
}
_CASES = [(flavor, *case) for flavor, cases in _TYPES.items() for case in cases]


@pytest.fixture
def database(request: pytest.FixtureRequest, flavor: str) -> FreshDatabase:
    found: FreshDatabase = request.getfixturevalue(flavor)
    return found


@pytest.mark.server
@pytest.mark.parametrize(("flavor", "ddl", "value"), _CASES)
def test_an_excluded_table_of_rare_types_causes_no_error(database: FreshDatabase, ddl: str, value: str) -> None:
    statements = (
        *_FIRST,
        f"CREATE TABLE odd (t TEXT CHARACTER SET latin1, v {ddl}, e ENUM('a') CHARACTER SET cp1251, n INT)",
        "BEGIN",
        f"INSERT INTO odd VALUES ('x', {value}, 'a', 1), (NULL, NULL, NULL, NULL)",
        "INSERT INTO first VALUES (2)",
        "COMMIT",
        "DELETE FROM odd",
    )
    done = _run(database, statements, left_out="odd")
    assert done.error is None
    assert [change.after for change in done.changes] == [{"id": 1}, {"id": 2}]
    assert done.changes[-1].source.order == 2
    assert sum(decoded_range.dropped for decoded_range in done.ranges) == 4


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["SET binlog_row_image = MINIMAL", "CREATE TABLE n (a INT)", "INSERT INTO n VALUES ()"], "binlog_row_image"),
    ],
)
def test_events_of_mysql_that_are_not_supported(mysql: FreshDatabase, statements: list[str], words: str) -> None:
    assert words in str(_error(_run(mysql, (*_FIRST, *statements))))


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["SET binlog_format = STATEMENT", "INSERT INTO first VALUES (2)"], "binlog_format"),
        (
            [
                "CREATE FUNCTION f() RETURNS INT DETERMINISTIC BEGIN INSERT INTO first VALUES (9); RETURN 1; END",
                "SET binlog_format = STATEMENT",
                "DO f()",
            ],
            "binlog_format",
        ),
        (
            [
                "CREATE TABLE m (id INT) ENGINE = MyISAM",
                "BEGIN",
                "INSERT INTO first VALUES (2)",
                "SAVEPOINT s",
                "INSERT INTO first VALUES (3)",
                "CREATE TEMPORARY TABLE x (id INT) ENGINE = MyISAM",
                "INSERT INTO m VALUES (1)",
                "ROLLBACK TO s",
                "COMMIT",
            ],
            "rolled back",
        ),
    ],
)
def test_events_of_mariadb_that_are_not_supported(mariadb: FreshDatabase, statements: list[str], words: str) -> None:
    done = _run(mariadb, (*_FIRST, *statements), left_out="m")
    assert words in str(_error(done))


_STATEMENT_FORMAT = "SET binlog_format = STATEMENT"


def test_statements_on_an_excluded_table_are_counted(mariadb: FreshDatabase, tmp_path: Path) -> None:
    statements = (
        "CREATE TABLE out_ (id INT)",
        _STATEMENT_FORMAT,
        "INSERT INTO out_ VALUES (1)",
        "SET @n = 5",
        "INSERT INTO out_ VALUES (LAST_INSERT_ID()), (@n), (RAND())",
        "UPDATE out_ SET id = 2",
        _load(tmp_path, "out_"),
        "SET binlog_format = ROW",
        "INSERT INTO first VALUES (2)",
    )
    done = _run(mariadb, (*_FIRST, *statements), left_out="out_")
    assert done.error is None
    assert [change.after for change in done.changes] == [{"id": 1}, {"id": 2}]
    assert sum(decoded_range.dropped for decoded_range in done.ranges) == 4


def _load(folder: Path, table: str) -> str:
    """LOAD DATA statement for a small file on the server's host."""
    file = folder / "rows.txt"
    file.write_text("5\n6\n")
    for path in (file, folder, *folder.parents[:3]):
        path.chmod(path.stat().st_mode | (0o044 if path == file else 0o055))
    return f"LOAD DATA INFILE '{file}' INTO TABLE {table} (id)"


def test_a_file_loaded_as_a_statement_names_its_table(mariadb: FreshDatabase, tmp_path: Path) -> None:
    error = _error(_run(mariadb, (*_FIRST, _STATEMENT_FORMAT, _load(tmp_path, "first"))))
    assert error.table == f"{mariadb.name}.first"
    assert "binlog_format" in str(error)


def test_rolled_back_changes_of_excluded_tables_cause_no_error(mariadb: FreshDatabase) -> None:
    statements = (
        "CREATE TABLE m (id INT) ENGINE = MyISAM",
        "BEGIN",
        "SAVEPOINT s",
        "CREATE TEMPORARY TABLE x (id INT) ENGINE = MyISAM",
        "INSERT INTO m VALUES (1)",
        "ROLLBACK TO s",
        "COMMIT",
        "INSERT INTO first VALUES (2)",
    )
    done = _run(mariadb, (*_FIRST, *statements), left_out="m")
    assert done.error is None
    assert [change.after for change in done.changes] == [{"id": 1}, {"id": 2}]


def test_rows_without_columns_of_an_excluded_table_cause_no_error(mysql: FreshDatabase) -> None:
    statements = ("SET binlog_row_image = MINIMAL", "CREATE TABLE n (a INT)", "INSERT INTO n VALUES ()")
    done = _run(mysql, (*_FIRST, *statements, "INSERT INTO first VALUES (2)"), left_out="n")
    assert done.error is None
    assert [change.after for change in done.changes] == [{"id": 1}, {"id": 2}]
    assert sum(decoded_range.dropped for decoded_range in done.ranges) == 1


def test_tagged_gtids_are_read(mysql_server: object, mysql: FreshDatabase) -> None:
    del mysql_server
    statements = (
        *_FIRST,
        "SET gtid_next = 'AUTOMATIC:a_tag'",
        "INSERT INTO first VALUES (2)",
        "INSERT INTO first VALUES (3)",
        "SET gtid_next = 'AUTOMATIC:other'",
        "TRUNCATE TABLE first",
        "SET gtid_next = 'AUTOMATIC'",
        "INSERT INTO first VALUES (4)",
    )
    done = _run(mysql, statements)
    assert done.error is None
    tags = [(change.source.gtid or "").split(":")[1:-1] for change in done.changes[-4:]]
    assert tags == [["a_tag"], ["a_tag"], ["other"], []]
    executed = mysql.execute("SELECT @@GLOBAL.gtid_executed")[0][0]
    last = done.ranges[-1].checkpoint.gtids
    assert last is not None
    assert last.contains(GtidSet.parse(executed))


def test_changes_of_checksums_between_files(mysql: FreshDatabase) -> None:
    statements = (
        *_FIRST,
        "SET GLOBAL binlog_checksum = 'NONE'",
        "INSERT INTO first VALUES (2)",
        "FLUSH BINARY LOGS",
        "INSERT INTO first VALUES (3)",
        "SET GLOBAL binlog_checksum = 'CRC32'",
        "INSERT INTO first VALUES (4)",
    )
    done = _run(mysql, statements)
    assert done.error is None
    assert [change.after for change in done.changes] == [{"id": n} for n in (1, 2, 3, 4)]
