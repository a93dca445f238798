"""The tables that DROP DATABASE drops: those found in the log, and those that the lookup returns."""

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
def test_drop_database_is_classified_in_every_form(sql: str, database: str) -> None:
    statement = read_statement(sql, "elsewhere")
    assert statement == Statement("drop", ((database, ALL_TABLES),))
    assert altered_tables(statement) == ((database, ALL_TABLES),)


@pytest.mark.parametrize(
    ("existing", "dropped"),
    [((), ("made", "new", "rows")), (("made", "before", "rows"), ("before", "made", "new", "rows"))],
)
def test_names_come_from_the_log_and_the_lookup(existing: tuple[str, ...], dropped: tuple[str, ...]) -> None:
    names = KnownTables(lambda database: existing if database == "shop" else ())
    for sql in SHOWN:
        names.resolve_names(read_statement(sql, "shop"))
    names.add("shop", "rows")
    statement = Statement("drop", (("shop", ALL_TABLES),))
    assert names.resolve_names(statement).tables == tuple(("shop", name) for name in dropped)
    assert names.resolve_names(statement).tables == tuple(("shop", name) for name in sorted(existing))
    assert names.resolve_names(Statement("drop", (("other", ALL_TABLES),))).tables == (("other", "made"),)


def test_names_that_look_like_wildcards_are_single_tables() -> None:
    names = KnownTables(lambda database: ("other",))
    for table in ("*", "%", "?", "all"):
        statement = Statement("alter", (("shop", table),))
        assert names.resolve_names(statement) == statement
