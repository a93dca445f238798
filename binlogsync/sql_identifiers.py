"""Quotes in SQL: names with backquotes for MySQL and MariaDB, with double quotes for DuckDB and PostgreSQL; texts."""

from __future__ import annotations

MYSQL_QUOTED = r"`(?:[^`]|``)+`"
"""Pattern of a name in backquotes."""


def quote_mysql(*names: str) -> str:
    """An identifier of MySQL, or several joined by dots."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def unquote_mysql(text: str) -> str:
    """The name that stands in backquotes."""
    return text[1:-1].replace("``", "`")


def quote_ansi(*names: str) -> str:
    """An identifier of standard SQL, or several joined by dots."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    """A string literal of standard SQL, without escapes."""
    return "'" + text.replace("'", "''") + "'"
