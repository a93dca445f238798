"""Which tables are captured: patterns as configured, with * and ?."""

from __future__ import annotations

from fnmatch import fnmatchcase

from binlogsync.errors import ConfigError
from binlogsync.table_names import Fold, keep_case

# Schemas in which a server keeps its own affairs; captured only when a pattern names them.
SYSTEM_DATABASES = frozenset({"mysql", "sys", "information_schema", "performance_schema"})


class TableFilter:
    """Included and not excluded; all tables but the server's own when nothing is included by name."""

    def __init__(self, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> None:
        """Patterns "database.table"; raises ConfigError for one without a dot."""
        for pattern in (*include, *exclude):
            if "." not in pattern:
                raise ConfigError(
                    f"{pattern!r} is not a table pattern; write database.table, such as shop.* or shop.orders"
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
            self._known[key] = self._decide(database, f"{database}.{table}")
        return self._known[key]

    def _decide(self, database: str, name: str) -> bool:
        if any(fnmatchcase(name, pattern) for pattern in self._exclude):
            return False
        if not self._include:
            return database not in SYSTEM_DATABASES
        return any(fnmatchcase(name, pattern) for pattern in self._include)
