"""Tokens of logged statements, by server and SQL mode, and the tables that a statement affects."""

from __future__ import annotations

import pytest

from binlogsync.binlog.ddl import ALL_TABLES, Statement, read_statement
from binlogsync.binlog.sql import SqlDialect, tokenize

MYSQL, MARIADB = SqlDialect(), SqlDialect(mariadb=True)
ANSI, NO_ESCAPES = SqlDialect(sql_mode=1 << 2), SqlDialect(sql_mode=1 << 20)
T, U = ("shop", "t"), ("shop", "u")


def texts(sql: str, dialect: SqlDialect = MYSQL) -> list[str]:
    """The tokens as text: names as `x`, strings as 'x'."""
    marks = {"name": "`{}`", "string": "'{}'", "broken": "?{}"}
    return [token.charset + marks.get(token.kind, "{}").format(token.text) for token in tokenize(sql, dialect)]


@pytest.mark.parametrize(
    ("sql", "dialect", "wanted"),
    [
        ("a/* x */b/**/c-- d\ne --\n#f\ng--h", MYSQL, ["a", "b", "c", "e", "g", "-", "-", "h"]),
        ("a --", MYSQL, ["a"]),
        ("/*!40000 a */ /*! b */ /*!500001c */", MYSQL, ["a", "b", "c"]),
        ("/*! a /* x */ b */ c", MYSQL, ["a", "b", "c"]),
        ("/*M! a */ /*M!100100 b */ c", MYSQL, ["c"]),
        ("/*M! a */ /*M!100100 b */ c", MARIADB, ["a", "b", "c"]),
        ("/* 99999 a */ b", MYSQL, ["b"]),
        ("a */", MYSQL, ["a", "?*/"]),
        ("a /* b", MYSQL, ["a", "?/*"]),
        ("/*! a", MYSQL, ["a", "?/*!"]),
        ("'a /* b */ -- c'", MYSQL, ["'a /* b */ -- c'"]),
        ("`a``b` \"c\"\"d\" 'e''f'", MYSQL, ["`a`b`", "'c\"de'f'"]),
        ("`a``b` \"c\"\"d\" 'e''f'", ANSI, ["`a`b`", '`c"d`', "'e'f'"]),
        (r"'a\'b\\\n\%\q' c", MYSQL, ["'a'b\\\n\\%q'", "c"]),
        (r"'a\' c", NO_ESCAPES, ["'a\\'", "c"]),
        (r"'a\' c", MYSQL, ["?'"]),
        ("'a' 'b'\n'c'", MYSQL, ["'abc'"]),
        ("'a' _latin1'b' 'c' _d _e", MYSQL, ["'a'", "_latin1'bc'", "_d", "_e"]),
        (
            "N'a' n'b' _utf8mb4 'c' x'00' b'1' _id e",
            MYSQL,
            ["N'a'", "n'b'", "_utf8mb4'c'", "x'00'", "b'1'", "_id", "e"],
        ),
        ("größe.日本 1.5", MYSQL, ["größe", ".", "日本", "1", ".", "5"]),
        ("\ta\x0b\x00b\r\n", MYSQL, ["a", "b"]),
    ],
)
def test_tokens(sql: str, dialect: SqlDialect, wanted: list[str]) -> None:
    assert texts(sql, dialect) == wanted


@pytest.mark.parametrize("text", ["/*", "'a\\'", "'x' ", "''", "-- x\n", "/*! ", "`", "\\"])
def test_time_is_linear_in_the_length_of_the_text(text: str) -> None:
    for _ in tokenize("CREATE TABLE t " + text * 20_000, MYSQL):
        pass


COMMENTS = ["/* it's */", "/* 99999x*/", "-- `\n", '# "\n', "/**/", "/*!*/"]


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("CREATE TABLE IF NOT EXISTS t (id INT)", Statement("create", (T,))),
        ("create or replace table `shop` . t like u", Statement("create", (T,))),
        ("ALTER TABLE t ADD c INT", Statement("alter", (T,))),
        ("ALTER TABLE t ADD c INT , RENAME TO u", Statement("rename", (T, U))),
        ("ALTER TABLE t RENAME COLUMN a TO b", Statement("alter", (T,))),
        ("ALTER TABLE t WAIT 5 ADD c INT", Statement("alter", (T,))),
        ("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u WITHOUT VALIDATION", Statement("alter", (T, U))),
        ("ALTER TABLE t CONVERT PARTITION p TO TABLE u", Statement("alter", (T, U))),
        ("ALTER TABLE t CONVERT TABLE u TO PARTITION p VALUES LESS THAN (3)", Statement("alter", (T, U))),
        ("ALTER SEQUENCE IF EXISTS t RESTART 5", Statement("alter", (T,))),
        ("RENAME TABLES t TO x , u WAIT 3 TO t", Statement("rename", (T, ("shop", "x"), U, T))),
        ("DROP TABLES IF EXISTS t , u RESTRICT", Statement("drop", (T, U))),
        ("DROP SEQUENCE t", Statement("drop", (T,))),
        ("TRUNCATE t NOWAIT", Statement("truncate", (T,))),
        ("CREATE OR REPLACE DATABASE shop", Statement("drop", (("shop", ALL_TABLES),))),
        ("DROP TEMPORARY TABLE t", Statement("drop")),
        ("REPAIR NO_WRITE_TO_BINLOG TABLE t , u QUICK", Statement("other", (T, U))),
        ("SET STATEMENT max_statement_time = 1 FOR DROP TABLE t", Statement("drop", (T,))),
        ("CREATE ALGORITHM = UNDEFINED DEFINER = `a`@`%` SQL SECURITY DEFINER VIEW t AS SELECT 1", Statement("other")),
        ("CREATE UNIQUE INDEX i ON t (a)", Statement("other")),
        ("RENAME USER t TO u", Statement("other")),
        ("SET PASSWORD FOR t = 'x'", Statement("other")),
        ("OPTIMIZE TABLE t", Statement("other")),
        ("INSERT INTO t VALUES (1)", Statement("rows", (T,))),
    ],
)
def test_statements_with_comments_wherever_white_space_may_stand(sql: str, wanted: Statement) -> None:
    assert read_statement(sql, "shop", MARIADB) == wanted
    for comment in COMMENTS:
        commented = f"{comment}{comment} " + sql.replace(" ", f" {comment} ") + f" {comment}"
        assert read_statement(commented, "shop", MARIADB) == wanted, comment


@pytest.mark.parametrize(
    "sql",
    [
        "FROBNICATE TABLE t",
        "CREATE EXTERNAL TABLE t (role INT)",
        "DROP TABLE t WITHOUT REMORSE",
        "RENAME TABLE t AS u",
        "ALTER TABLE t EXCHANGE PARTITION p FOR TABLE u",
        "SET STATEMENT sql_mode = 'ANSI_QUOTES' FOR DROP TABLE \"t\"",
        "DROP TABLE gr\ufffd",
        "TRUNCATE 'a string'",
        "c */ DROP TABLE t",
        "IMPORT TABLE FROM 't.sdi'",
    ],
)
def test_an_unknown_statement_may_affect_every_table(sql: str) -> None:
    assert read_statement(sql, "shop") == Statement("other", (("shop", ALL_TABLES),))
    assert read_statement(f"{sql} other.`x`", "shop").tables == (("shop", ALL_TABLES), ("other", "x"))


def test_quotes_depend_on_the_sql_mode() -> None:
    assert read_statement('DROP TABLE "t""x"', "shop", ANSI) == Statement("drop", (("shop", 't"x'),))
    assert read_statement('DROP TABLE "t"', "shop").kind == "other"
    text = r"""ALTER TABLE t COMMENT 'a\', RENAME u"""
    assert read_statement(text, "shop", NO_ESCAPES) == Statement("rename", (T, U))
