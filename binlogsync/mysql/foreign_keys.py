"""Foreign keys by which the server changes rows of other tables without logging it.

InnoDB itself carries out ON DELETE and ON UPDATE actions, and its changes of the child rows are not in the binlog: of
MariaDB always, of MySQL before 9.6, and later with `innodb_native_foreign_keys=ON`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from binlogsync.mysql.config import MySQLConfig, connect, fetch
from binlogsync.mysql.session import Connection

Table = tuple[str, str]

_NATIVE = "SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'"
_KEYS = (
    "SELECT r.CONSTRAINT_SCHEMA AS child_database, r.TABLE_NAME AS child, r.CONSTRAINT_NAME AS name, "
    "r.DELETE_RULE AS on_delete, r.UPDATE_RULE AS on_update, k.REFERENCED_TABLE_SCHEMA AS parent_database, "
    "k.REFERENCED_TABLE_NAME AS parent, k.REFERENCED_COLUMN_NAME AS referenced "
    "FROM INFORMATION_SCHEMA.REFERENTIAL_CONSTRAINTS r JOIN INFORMATION_SCHEMA.KEY_COLUMN_USAGE k "
    "ON k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME "
    "AND k.TABLE_NAME = r.TABLE_NAME "
    "WHERE k.REFERENCED_TABLE_NAME IS NOT NULL ORDER BY 1, 2, 3, k.ORDINAL_POSITION"
)
_NO_ACTION = frozenset({"NO ACTION", "RESTRICT"})


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key whose actions are not logged.

    Attributes:
        name: of the constraint.
        child, parent: (database, table).
        referenced: columns of the parent.
        on_delete, on_update: what happens to child rows, "" for nothing.
    """

    name: str
    child: Table
    parent: Table
    referenced: tuple[str, ...]
    on_delete: str
    on_update: str

    def __str__(self) -> str:
        actions = [f"{when} {what}" for when, what in (("ON DELETE", self.on_delete), ("ON UPDATE", self.on_update))]
        text = " ".join(action for action in actions if not action.endswith(" "))
        return f"{'.'.join(self.child)} ({self.name} to {'.'.join(self.parent)} {text})"


def unlogged_keys(config: MySQLConfig, connection: Connection | None = None) -> list[ForeignKey] | None:
    """The foreign keys with actions, where the server does not log what these do; None where it does.

    Raises SourceError. Keys of tables that the account may not see are missing.
    """
    own = connection or connect(config)
    try:
        native = fetch(config, own, _NATIVE)
        if native and str(native[0]["Value"]).upper() in ("OFF", "0"):
            return None
        return list(_keys(fetch(config, own, _KEYS)))
    finally:
        if connection is None:
            own.close()


def _keys(rows: Sequence[dict[str, object]]) -> Iterator[ForeignKey]:
    found: dict[tuple[str, str, str], ForeignKey] = {}
    for row in rows:
        text = {name: _text(value) for name, value in row.items()}
        child, column = (text["child_database"], text["child"]), text["referenced"]
        at = (*child, text["name"])
        if at in found:
            found[at] = replace(found[at], referenced=(*found[at].referenced, column))
            continue
        on_delete, on_update = ("" if text[rule] in _NO_ACTION else text[rule] for rule in ("on_delete", "on_update"))
        parent = (text["parent_database"], text["parent"])
        found[at] = ForeignKey(text["name"], child, parent, (column,), on_delete, on_update)
    return (key for key in found.values() if key.on_delete or key.on_update)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def descendants(keys: Iterable[ForeignKey], first: Iterable[Table]) -> set[Table]:
    """These tables, and all that a change of them may change in turn, by keys with actions."""
    by_parent: dict[Table, set[Table]] = {}
    for key in keys:
        by_parent.setdefault(key.parent, set()).add(key.child)
    found, waiting = set[Table](), list(first)
    while waiting:
        table = waiting.pop()
        if table not in found:
            found.add(table)
            waiting += by_parent.get(table, ())
    return found
