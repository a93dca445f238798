"""What DROP DATABASE drops: the tables that the log has shown, and those that somebody else knows."""

from __future__ import annotations

import pytest

from binlogsync.binlog.ddl import ALL_TABLES, Statement, altered_tables, read_statement
from binlogsync.binlog.known_tables import KnownTables

SHOWN = ["CREATE TABLE IF NOT EXISTS made (id INT)", "RENAME TABLE old TO new", "CREATE TABLE other.made (id INT)"]


@pytest.mark.parametrize(
    ("sql", "database"),
    [
        ("DROP DATABASE shop", "shop"),
        ("drop schema if exists `sh``op`", "sh`op"),
        ("/* why */ DROP /*!40000 DATABASE */ IF EXISTS shop -- all of it", "shop"),
        ("SET STATEMENT max_statement_time=1 FOR DROP DATABASE shop", "shop"),
    ],
)
def test_the_statement_is_known_in_every_form(sql: str, database: str) -> None:
    statement = read_statement(sql, "elsewhere")
    assert statement == Statement("drop", ((database, ALL_TABLES),))
    assert altered_tables(statement) == ((database, ALL_TABLES),)


@pytest.mark.parametrize(
    ("existing", "told"),
    [((), ("made", "new", "rows")), (("made", "before", "rows"), ("before", "made", "new", "rows"))],
)
def test_names_come_from_the_log_and_from_who_else_knows(existing: tuple[str, ...], told: tuple[str, ...]) -> None:
    names = KnownTables(lambda database: existing if database == "shop" else ())
    for sql in SHOWN:
        names.spelled_out(read_statement(sql, "shop"))
    names.saw("shop", "rows")
    dropped = Statement("drop", (("shop", ALL_TABLES),))
    assert names.spelled_out(dropped).tables == tuple(("shop", name) for name in told)
    assert names.spelled_out(dropped).tables == tuple(("shop", name) for name in sorted(existing))
    assert names.spelled_out(Statement("drop", (("other", ALL_TABLES),))).tables == (("other", "made"),)


def test_a_table_may_be_called_as_all_tables_are_written() -> None:
    names = KnownTables(lambda database: ("other",))
    for table in ("*", "%", "?", "all"):
        statement = Statement("alter", (("shop", table),))
        assert names.spelled_out(statement) == statement
