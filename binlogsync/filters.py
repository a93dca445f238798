"""Which tables are captured: patterns as configured, with * and ?; a name in backquotes is taken as it is."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from binlogsync.errors import ConfigError
from binlogsync.sql_identifiers import MYSQL_QUOTED, unquote_mysql
from binlogsync.table_names import Fold, keep_case

# Schemas in which a server keeps its own affairs; captured only when a pattern names them.
SYSTEM_DATABASES = frozenset({"mysql", "sys", "information_schema", "performance_schema"})

_IN_BACKQUOTES = re.compile(rf"({MYSQL_QUOTED}|[^.`][^.]*)\.({MYSQL_QUOTED}|[^`].*)\Z", re.DOTALL)
_LISTED = re.compile(rf"(?:{MYSQL_QUOTED}|[^,])+")


def split_patterns(text: str) -> tuple[str, ...]:
    """Patterns with commas between them; one within backquotes is a part of a name."""
    return tuple(part.strip() for part in _LISTED.findall(text) if part.strip())


class TableFilter:
    """Included and not excluded; all tables but the server's own when nothing is included by name."""

    def __init__(self, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> None:
        """Patterns "database.table"; raises ConfigError for one without a dot."""
        for pattern in (*include, *exclude):
            if "." not in pattern or ("`" in pattern and _IN_BACKQUOTES.match(pattern) is None):
                raise ConfigError(
                    f"{pattern!r} is not a table pattern; write database.table, such as shop.* or shop.orders, with "
                    "backquotes around a name that has a dot, a comma, * or ? in it"
                )
        self._include = include
        self._exclude = exclude
        self._known: dict[tuple[str, str], bool] = {}

    def folded(self, fold: Fold) -> TableFilter:
        """The same filter for a server that compares names folded."""
        if fold is keep_case:
            return self
        return TableFilter(*(tuple(map(fold, patterns)) for patterns in (self._include, self._exclude)))

    def captures(self, database: str, table: str) -> bool:
        """True when changes of the table are wanted."""
        key = (database, table)
        if key not in self._known:
            self._known[key] = self._decide(database, table)
        return self._known[key]

    def _decide(self, database: str, table: str) -> bool:
        if any(_matches(pattern, database, table) for pattern in self._exclude):
            return False
        if not self._include:
            return database not in SYSTEM_DATABASES
        return any(_matches(pattern, database, table) for pattern in self._include)


def _matches(pattern: str, database: str, table: str) -> bool:
    parts = _IN_BACKQUOTES.match(pattern) if "`" in pattern else None
    if parts is None:
        return fnmatchcase(f"{database}.{table}", pattern)
    return _part_matches(parts[1], database) and _part_matches(parts[2], table)


def _part_matches(pattern: str, name: str) -> bool:
    if pattern.startswith("`"):
        return unquote_mysql(pattern) == name
    return fnmatchcase(name, pattern)
