"""Classifies a logged statement and lists the tables it affects. (mirror/clauses parses the changes of columns.)

A statement that changes rows is an error for the reader, because the binlog does not contain its row changes. A
statement that affects no table has kind "other" and no tables; only statements known here are classified so. Any
unknown statement has kind "other" and the tables that it may affect: those it names with a database, and all tables of
the current database.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from binlogsync.binlog.sql import SqlDialect, TokenCursor

DDL = Literal["create", "alter", "rename", "drop", "truncate", "other"]
"""Kinds of statements that change tables, as in SchemaChange."""
Kind = DDL | Literal["rows", "rollback", "partial rollback", "xa", "transaction"]
Tables = tuple[tuple[str, str], ...]
ALL_TABLES = "\0"
"""Used as a table name, means every table of the database. MySQL allows no name with this character."""

_MODIFIERS = (
    *("OR", "REPLACE", "TEMPORARY", "ONLINE", "OFFLINE", "IGNORE", "IF", "NOT", "EXISTS"),
    *("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "QUICK", "INTO"),
)
_NO_NEW_NAME = frozenset(["COLUMN", "INDEX", "KEY", "CONSTRAINT"])
_CHANGES_ROWS = frozenset(["INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "WITH"])
_TOUCHES_NO_TABLE = frozenset(
    ["ANALYZE", "BEGIN", "CACHE", "CALL", "CHANGE", "CHECK", "CHECKSUM", "COMMIT", "DEALLOCATE", "DO", "END"]
    + ["EXECUTE", "FLUSH", "GRANT", "INSTALL", "KILL", "LOCK", "OPTIMIZE", "PREPARE", "PURGE", "RESET", "REVOKE"]
    + ["SELECT", "SET", "SHOW", "SHUTDOWN", "START", "STOP", "UNINSTALL", "UNLOCK", "USE"]
)
_OTHER_OBJECTS = frozenset(
    ["EVENT", "FUNCTION", "INDEX", "INSTANCE", "LIBRARY", "LOGFILE", "PACKAGE", "PREPARE", "PROCEDURE", "REFERENCE"]
    + ["RESOURCE", "ROLE", "SERVER", "TABLESPACE", "TRIGGER", "USER", "VIEW"]
)
_HEAD = 200  # tokens of a statement that changes rows, which can be long
_OBJECT_WITHIN = 30  # tokens: ALGORITHM = ..., DEFINER = `user`@`host`, SQL SECURITY ... come before VIEW
_SQLGLOT_LIMIT = 100_000  # characters; it is slow, and a longer statement is an error anyway
_DEFAULT = SqlDialect()

# sqlglot warns about every statement that it cannot parse in detail; here that is expected.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Statement:
    """The kind of a statement and the tables, (database, table), that it affects.

    A rename lists pairs of old and new name. The table name ALL_TABLES means every table of the database. Kind "rows"
    without tables: the tables are unknown. Kind "other" with tables: the effect on them is unknown.
    """

    kind: Kind
    tables: Tables = ()


class _UnreadableError(Exception):
    """The statement is not one of those that are known here."""


class _StatementParser:
    """Parses one statement."""

    def __init__(self, words: TokenCursor, database: str) -> None:
        self.words = words
        self.database = database

    def table(self) -> tuple[str, str]:
        """Read the name of a table; raises _UnreadableError."""
        first = self.identifier()
        if not self.words.take("."):
            return self.database, first
        return first, self.identifier()

    def identifier(self) -> str:
        """Read a name of one part; raises _UnreadableError."""
        name = self.words.name()
        if not name or "\ufffd" in name:
            raise _UnreadableError
        return name

    def skip_modifiers(self) -> set[str]:
        """Skip all modifiers, and return them."""
        skipped = set()
        while self.words.word in _MODIFIERS:
            skipped.add(self.words.next().text.upper())
        return skipped

    def skip_wait(self) -> None:
        """Skip MariaDB's WAIT n and NOWAIT."""
        if self.words.take("WAIT"):
            self.words.next()
        self.words.take("NOWAIT")

    def tables(self) -> Tables:
        """Read a comma-separated list of table names."""
        found = [self.table()]
        while self.words.take(","):
            found.append(self.table())
        return tuple(found)

    def expect(self, *words: str) -> None:
        """Read these words; raises _UnreadableError when other words follow."""
        if not self.words.take(*words):
            raise _UnreadableError

    def end(self) -> None:
        """Raises _UnreadableError unless the statement ends here."""
        self.skip_wait()
        self.words.take_any("RESTRICT", "CASCADE")
        self.words.take_any("DROP", "REUSE")
        self.words.take("STORAGE")
        self.words.take(";")
        if self.words.is_left:
            raise _UnreadableError


def read_statement(sql: str, database: str, dialect: SqlDialect = _DEFAULT) -> Statement:
    """Classify a logged statement; names without a database belong to `database`."""
    words = TokenCursor.of(sql, dialect, _HEAD)
    has_variables = words.take("SET", "STATEMENT")
    if has_variables:
        words.take_until("FOR")
        words.next()
    verb = words.word
    if verb in ("SAVEPOINT", "RELEASE"):
        return Statement("transaction")
    if verb == "ROLLBACK":
        words.next()
        words.take("WORK")
        return Statement("partial rollback" if words.word == "TO" else "rollback")
    if verb == "XA":
        return Statement("xa")
    try:
        if verb in _CHANGES_ROWS:
            return Statement("rows", _changed_rows(sql, _StatementParser(words, database)))
        words = TokenCursor.of(sql, dialect)
        if has_variables:
            if any(token.text.lower() == "sql_mode" for token in words.take_until("FOR").rest):
                raise _UnreadableError  # the server parsed it in another SQL mode than the one that the event contains
            words.next()
        return _table_statement(_StatementParser(words, database))
    except _UnreadableError:
        return Statement("other", _concerned(TokenCursor.of(sql, dialect), database))


def altered_tables(statement: Statement) -> Tables:
    """The tables whose columns a statement may change; ALL_TABLES stands for every table of a database."""
    return statement.tables if statement.kind in ("alter", "rename", "drop", "other") else ()


def _table_statement(reading: _StatementParser) -> Statement:
    """Classify CREATE, ALTER, DROP, TRUNCATE, RENAME and REPAIR of tables, and statements on databases.

    Other known statements have kind "other". Raises _UnreadableError for an unknown statement.
    """
    words = reading.words
    verb = words.word
    if not words.is_left or verb in _TOUCHES_NO_TABLE:
        return Statement("other")
    words.next()
    if verb == "TRUNCATE":
        words.take("TABLE")
        table = reading.table()
        reading.end()
        return Statement("truncate", (table,))
    if verb == "REPAIR":
        words.take_any("NO_WRITE_TO_BINLOG", "LOCAL")
        return Statement("other", reading.tables() if words.take_any("TABLE", "TABLES") else ())
    if verb not in ("CREATE", "ALTER", "DROP", "RENAME"):
        raise _UnreadableError
    modifiers = reading.skip_modifiers()
    if words.take_any("DATABASE", "SCHEMA"):
        return _database_statement(verb, modifiers, reading)
    if not words.take_any("TABLE", "TABLES", "SEQUENCE"):
        if _names_other_object(words):
            return Statement("other")
        raise _UnreadableError
    if "TEMPORARY" in modifiers:  # visible to one session only, so no table that can be captured
        return Statement("drop" if verb == "DROP" else "create")
    reading.skip_modifiers()
    if verb == "CREATE":
        return Statement("create", (reading.table(),))
    if verb == "ALTER":
        return _alter(reading)
    if verb == "DROP":
        tables = reading.tables()
        reading.end()
        return Statement("drop", tables)
    return Statement("rename", tuple(_renamed(reading)))


def _names_other_object(words: TokenCursor) -> bool:
    """True when CREATE, ALTER, DROP or RENAME names a view, a user, an index or the like, after any other words."""
    for token in words.rest[:_OBJECT_WITHIN]:
        word = token.text.upper() if token.kind == "word" else ""
        if word in _OTHER_OBJECTS or word == "TABLE":
            return word != "TABLE"
    return False


def _database_statement(verb: str, modifiers: set[str], reading: _StatementParser) -> Statement:
    """CREATE affects no table unless it replaces a database. ALTER ... UPGRADE moves the tables on MariaDB."""
    modifiers |= reading.skip_modifiers()
    if verb == "DROP" or (verb == "CREATE" and "REPLACE" in modifiers):
        return Statement("drop", ((reading.identifier(), ALL_TABLES),))
    if any(token.text.upper() == "UPGRADE" for token in reading.words.rest):
        raise _UnreadableError
    return Statement("other")


def _alter(reading: _StatementParser) -> Statement:
    """ALTER TABLE: a rename, or a change of this table and of tables that exchange or convert partitions with it."""
    old = reading.table()
    reading.skip_wait()
    renamed: tuple[str, str] | None = None
    others: list[tuple[str, str]] = []
    for words in reading.words.split():
        clause = _StatementParser(words, reading.database)
        if words.take("RENAME"):
            if words.word not in _NO_NEW_NAME:
                words.take_any("TO", "AS", "=")
                renamed = clause.table()
        elif words.take("EXCHANGE", "PARTITION"):
            clause.identifier()
            clause.expect("WITH", "TABLE")
            others.append(clause.table())
        elif words.take("CONVERT", "TABLE"):
            others.append(clause.table())
        elif words.take("CONVERT", "PARTITION"):
            clause.identifier()
            clause.expect("TO", "TABLE")
            others.append(clause.table())
    if renamed is not None:
        return Statement("rename", (old, renamed))
    return Statement("alter", (old, *others))


def _renamed(reading: _StatementParser) -> Iterator[tuple[str, str]]:
    """The old and the new name of each renamed table, alternating."""
    while True:
        yield reading.table()
        reading.skip_wait()
        reading.expect("TO")
        yield reading.table()
        if not reading.words.take(","):
            reading.end()
            return


def _changed_rows(sql: str, reading: _StatementParser) -> Tables:
    """The tables that a statement changes or reads; none when they cannot be determined. Raises _UnreadableError."""
    words = reading.words
    if words.take_any("INSERT", "REPLACE"):
        reading.skip_modifiers()
        return (reading.table(),)
    if words.take("LOAD"):
        words.take_until("INTO")
        words.next()
        words.take("TABLE")
        return (reading.table(),) if words.is_left else ()
    if len(sql) > _SQLGLOT_LIMIT:
        return ()
    # Imported here because few binlogs have such a statement: it takes 30 MB and a tenth of a second.
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        tree = sqlglot.parse_one(sql, dialect="mysql")
        found = ((table.db or reading.database, table.name) for table in tree.find_all(exp.Table) if table.name)
        return tuple(dict.fromkeys(islice(found, 1000)))
    except (SqlglotError, RecursionError):
        return ()


def _concerned(words: TokenCursor, database: str) -> Tables:
    """The tables that an unknown statement may affect."""
    found = {(database, ALL_TABLES): None} if database else {}
    tokens = words.rest
    for first, dot, second in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if (dot.kind, dot.text) == ("sign", ".") and first.kind in ("word", "name") and second.kind in ("word", "name"):
            found[first.text, second.text] = None
    return tuple(found)
