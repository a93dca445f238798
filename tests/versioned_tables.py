"""Tables of MariaDB with hidden columns or versions of rows, one that only looks like it, and changes to each."""

from __future__ import annotations

from datetime import datetime

from tests.databases import FreshDatabase

_PERIOD = (
    "s TIMESTAMP(6) GENERATED ALWAYS AS ROW START{0}, e TIMESTAMP(6) GENERATED ALWAYS AS ROW END{0}, "
    "PERIOD FOR SYSTEM_TIME(s, e)"
)
_NOW = "TIMESTAMP(6) NOT NULL DEFAULT NOW(6)"
TABLES = {
    "hidden": "(id INT PRIMARY KEY, a INT, w INT WITHOUT SYSTEM VERSIONING) WITH SYSTEM VERSIONING",
    "keyless": "(id INT, a INT, w INT) WITH SYSTEM VERSIONING",
    "declared": f"(id INT PRIMARY KEY, a INT, {_PERIOD.format('')}, w INT) WITH SYSTEM VERSIONING",
    "invisible": f"(id INT PRIMARY KEY, a INT, w INT, {_PERIOD.format(' INVISIBLE')}) WITH SYSTEM VERSIONING",
    "hashed": "(id INT PRIMARY KEY, a INT, w INT, b BLOB DEFAULT 'x', t TEXT, UNIQUE (b, id), UNIQUE (t))",
    "hashed_versions": "(id INT PRIMARY KEY, a INT, w INT, b BLOB, UNIQUE (b)) WITH SYSTEM VERSIONING",
    "looks_alike": f"(id INT PRIMARY KEY, a INT, w INT, row_start {_NOW}, row_end {_NOW})",
}
COLUMNS = {
    "hidden": ("id", "a", "w"),
    "keyless": ("id", "a", "w"),
    "declared": ("id", "a", "s", "e", "w"),
    "invisible": ("id", "a", "w", "s", "e"),
    "hashed": ("id", "a", "w", "b", "t"),
    "hashed_versions": ("id", "a", "w", "b"),
    "looks_alike": ("id", "a", "w", "row_start", "row_end"),
}


def change(database: FreshDatabase, table: str, first: int) -> None:
    """INSERT, UPDATE, DELETE, REPLACE and ON DUPLICATE KEY UPDATE of rows with numbers from `first` on."""
    for number in range(first, first + 4):
        database.execute(f"INSERT INTO {table} (id, a, w) VALUES ({number}, 1, 1)")
    database.execute(f"UPDATE {table} SET a = 2, w = 2 WHERE id = {first}")
    database.execute(f"UPDATE {table} SET w = 3")
    database.execute(f"UPDATE {table} SET id = id + 50 WHERE id = {first + 1}")
    database.execute(f"DELETE FROM {table} WHERE id = {first + 2}")
    if table != "keyless":
        database.execute(f"REPLACE INTO {table} (id, a, w) VALUES ({first}, 7, 7)")
        database.execute(f"INSERT INTO {table} (id, a, w) VALUES ({first}, 7, 7) ON DUPLICATE KEY UPDATE a = 8")


def naive(row: tuple[object, ...]) -> tuple[object, ...]:
    """The row with times without zone, as a client in UTC receives them."""
    return tuple(value.replace(tzinfo=None) if isinstance(value, datetime) else value for value in row)
