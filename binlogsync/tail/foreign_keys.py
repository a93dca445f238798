"""Notifies consumers of child tables when a foreign key may have changed rows without logging them.

If the server does not log the actions of foreign keys (mysql/foreign_keys.py), each flush with a change of a parent
table that may have triggered one starts with a message for each child table, a schema change of the kind "foreign_key":
a mirror then reads its table again, a handler records a gap. Parent tables that are not captured are read only for
this. Keys are looked up when a session starts and after a statement that may have changed them. A statement that drops
a key or renames a table causes the child tables to be read again, because earlier actions may have been missed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import SchemaChange
from binlogsync.change_batch import ChangeBatch, build_schema_batch
from binlogsync.errors import SourceError
from binlogsync.filters import TableFilter
from binlogsync.flush import Flush
from binlogsync.mysql import MySQLConfig
from binlogsync.mysql.foreign_keys import ForeignKey, Table, descendants, unlogged_keys
from binlogsync.position import BinlogPosition
from binlogsync.table_names import Fold

log = logging.getLogger(__name__)
_LAST_ROW = 2**32 - 1
_MAY_CHANGE_KEYS = re.compile(r"\b(?:REFERENCES|FOREIGN|CONSTRAINT)\b", re.IGNORECASE)
_DROPS_KEY = re.compile(r"\bDROP\b.*\b(?:FOREIGN|CONSTRAINT)\b", re.IGNORECASE | re.DOTALL)


class ForeignKeyWatch:
    """The foreign keys of one source during one session of its tail. The constructor raises SourceError."""

    def __init__(self, config: MySQLConfig, captured: TableFilter, fold: Fold) -> None:
        """`captured` is folded."""
        self._config = config
        self._fold = fold
        self._filter = captured
        self._added: frozenset[Table] | None = None
        self._load()
        if self._keys:
            log.warning(
                "%s: the server does not log the actions of foreign keys on rows of %s; mirrors of these tables are "
                "read again after each such action, and handlers do not receive the changes",
                config.source,
                "; ".join(map(str, self._keys)),
            )

    def captures(self, database: str, table: str) -> bool:
        """Whether changes of the table have to be read."""
        return self._filter.captures(database, table) or (database, table) in (self._added or ())

    def add_to(self, flush: Flush) -> Flush:
        """The flush with a message for each child table that may have changed, without tables that are not captured.

        Raises SourceError if the session has to restart, because another table has to be read from now on.
        """
        if self._is_logged:
            return flush
        messages = self._find_changed_keys(flush.schema_changes)
        for batch in flush.batches:
            for key in self._keys:
                if key.parent == (batch.schema.database, batch.schema.table) and _acts(key, batch):
                    for table in self._children([key.child]):
                        messages.setdefault(
                            table, f"rows of {batch.schema.name} were deleted or changed, and {key} acted"
                        )
        if messages:
            markers = [_marker(table, text, flush.batches) for table, text in sorted(messages.items())]
            flush = replace(flush, batches=(*markers, *flush.batches))
        return self._without_added(flush) if self._added else flush

    def _find_changed_keys(self, statements: Iterable[SchemaChange]) -> dict[Table, str]:
        """Child tables whose keys changed, each with a sentence; reloads the keys."""
        messages: dict[Table, str] = {}
        for statement in statements:
            is_rename = statement.kind == "rename"
            if not is_rename and not _MAY_CHANGE_KEYS.search(statement.sql) and statement.sql:
                continue
            before = self._keys
            self._load()
            if is_rename or _DROPS_KEY.search(statement.sql):
                keys = [key for key in (*before, *self._keys) if {key.child, key.parent} & set(statement.tables)]
                touched = [key.child for key in keys] if is_rename else statement.tables
                text = f"foreign keys changed ({statement.sql[:100]}); their earlier actions may be missing"
                messages |= {table: text for table in self._children(touched)}
        return messages

    def _children(self, tables: Iterable[Table]) -> list[Table]:
        return [table for table in descendants(self._keys, tables) if self._filter.captures(*table)]

    def _load(self) -> None:
        """Load the keys. Raises SourceError if the session does not read a table that is required from now on."""
        keys = unlogged_keys(self._config)
        self._is_logged = keys is None
        keys = [self._folded(key) for key in keys or ()]
        self._keys: Sequence[ForeignKey] = [
            key for key in keys if any(self._filter.captures(*t) for t in descendants(keys, [key.child]))
        ]
        added = frozenset(key.parent for key in self._keys if not self._filter.captures(*key.parent))
        if self._added is not None and not added <= self._added:
            names = ", ".join(".".join(table) for table in sorted(added - self._added))
            raise SourceError(f"{names}: is read from now on, because its foreign keys have actions on other tables")
        self._added = added

    def _folded(self, key: ForeignKey) -> ForeignKey:
        child, parent = ((self._fold(database), self._fold(table)) for database, table in (key.child, key.parent))
        return replace(key, child=child, parent=parent)

    def _without_added(self, flush: Flush) -> Flush:
        kept = tuple(b for b in flush.batches if self._filter.captures(b.schema.database, b.schema.table))
        left_out = flush.changes - sum(len(batch) for batch in kept if batch.ddl is None)
        statements = tuple(
            each for each in flush.schema_changes if any(self._filter.captures(*table) for table in each.tables)
        )
        return replace(flush, batches=kept, schema_changes=statements, dropped=flush.dropped + left_out)


def _acts(key: ForeignKey, batch: ChangeBatch) -> bool:
    """Whether a change of the parent table in the batch may have triggered the key's action."""
    if batch.ddl is not None:
        return False
    ops = batch.data.column("op").cast(pa.string())
    if key.on_delete and pc.any(pc.equal(ops, "d")).as_py():
        return True
    if not key.on_update:
        return False
    updates = batch.data.filter(pc.equal(ops, "u"))
    return bool(updates.num_rows) and any(_differs(updates, name) for name in key.referenced)


def _differs(updates: pa.RecordBatch, column: str) -> bool:
    """Whether an update changes the column; a column missing from the image before counts as changed."""
    images = []
    for image in ("before", "after"):
        struct = updates.column(image)
        names = [struct.type.field(i).name for i in range(struct.type.num_fields)]
        at = next((i for i, name in enumerate(names) if name.lower() == column.lower()), None)
        images.append(None if at is None else struct.field(at))
    before, after = images
    if after is None:
        return False
    if before is None:
        return True
    same = [a.as_py() == b.as_py() for a, b in zip(before, after, strict=True)]
    return not all(same)


def _marker(table: Table, text: str, batches: Sequence[ChangeBatch]) -> ChangeBatch:
    """The message for one table, with a position directly before the first change of the flush."""
    first = min(batches, key=lambda batch: batch.data.column("seq")[0].as_py())
    last = max(batches, key=lambda batch: batch.data.column("seq")[-1].as_py())
    file, pos, row, txn_pos, order, seq = (
        first.data.column(name)[0].as_py() for name in ("file", "pos", "row", "txn_pos", "order", "seq")
    )
    pos, row = (pos, row - 1) if row else (max(0, pos - 1), _LAST_ROW)
    ts_us = int(first.data.column("ts_us")[0].value)
    until = BinlogPosition(*(last.data.column(name)[-1].as_py() for name in ("file", "pos")))
    ddl = SchemaChange(
        "foreign_key", (table,), text, seq - 1, BinlogPosition(file, pos), None, ts_us, table[0], until=until
    )
    source = {"file": file, "pos": pos, "row": row, "txn_pos": txn_pos, "order": order, "seq": seq - 1}
    server = (first.server_uuid, first.server_id)
    return build_schema_batch(ddl, table, {**source, "gtid": None, "ts_us": ts_us}, server)
