"""Builds a table that was renamed to a mirror's name from the stream, instead of reading it from the server.

Online schema changes (gh-ost, pt-online-schema-change) fill a table under another name and rename it at the end; a
migration may rename a table back and forth. The stream has the rows under the former name. They are applied in a
temporary store, from the statement that created the table to the one that renames it. If the stream no longer has the
first statement, or the effect of a later one is not provable, the result is None and the table is read from the server.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import closing, suppress

import pyarrow as pa

from binlogsync.binlog.sql import SqlDialect
from binlogsync.change import SchemaChange
from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.gaps import gap_from_batch
from binlogsync.errors import ConsumeError
from binlogsync.mirror.apply import apply
from binlogsync.mirror.clauses import is_conditional, only_renames
from binlogsync.mirror.ddl import NO_TABLE, former_name
from binlogsync.nats.complete_reading import StreamRecreatedError, read_sequences
from binlogsync.nats.reader import StreamReader
from binlogsync.server_version import ServerFlavor, flavor_of
from binlogsync.targets import TableStore
from binlogsync.targets.mirror_options import MirrorOptions
from binlogsync.targets.mirror_state import MirrorState

log = logging.getLogger(__name__)
Table = tuple[str, str]
_MOST_RENAMES = 5


def find_former_name(statement: ChangeBatch) -> Table | None:
    """The former name of the table that a statement renames to the batch's table; None if it is not a plain rename."""
    ddl, own = statement.ddl, (statement.schema.database, statement.schema.table)
    if ddl is None or ddl.kind != "rename" or not only_renames(ddl.sql, _dialect(statement, ddl)):
        return None
    former = former_name(ddl.tables, own)
    return None if former in (NO_TABLE, own) else former


class StreamTableBuilder:
    """Builds tables as they were before a statement in the stream, in an empty store."""

    def __init__(self, reader: StreamReader, scratch: TableStore, options: MirrorOptions) -> None:
        self._options = options
        self._reader = reader
        self._tables = scratch

    def build(self, table: Table, statement: ChangeBatch, renames: int = _MOST_RENAMES) -> MirrorState | None:
        """The table as it was before the statement; None if its rows cannot be proven from the stream."""
        is_proven = False
        self._forget(table)
        # From its own first message: older ones of other tables may be dropped at any time.
        if not (first := self._reader.changes_from(*table, self._reader.first_sequence())):
            return None
        retained = int(first[0].sequences[0]), self._reader.last_sequence()
        with suppress(StreamRecreatedError), closing(read_sequences(self._reader, table, retained, "past")) as changes:
            for item in (item for items in changes for item in items):
                if _is_same(item.batch, statement):
                    return self._state(table) if is_proven else None
                is_proven = self._take(table, item.batch, is_proven, renames)
        return None

    def rows(self, state: MirrorState) -> Generator[pa.Table, None, None]:
        """The rows of a table that was built, in batches; its transaction ends when the generator is closed."""
        with self._tables.begin() as transaction:
            yield from transaction.read_rows(state)

    def _take(self, table: Table, batch: ChangeBatch, is_proven: bool, renames: int) -> bool:
        """Apply a change if all earlier rows are proven; True when the rows after it are proven."""
        ddl = batch.ddl
        if gap_from_batch(batch, is_mirror=True) is not None:
            return False
        if ddl is not None and _begins_empty(ddl, _dialect(batch, ddl)):
            self._forget(table)
            is_proven = True
        elif (former := find_former_name(batch)) is not None:
            return renames > 0 and self._rename(former, table, batch, renames - 1)
        if not is_proven:
            return False
        try:
            with self._tables.begin(keep_open=True) as transaction:
                return apply(transaction, [batch], self._options) is None
        except ConsumeError as error:
            log.info("%s cannot be built from the stream: %s", batch.schema.name, error)
            return False

    def _rename(self, former: Table, table: Table, statement: ChangeBatch, renames: int) -> bool:
        """Replace the table by the one that was renamed to its name; False if that one cannot be built."""
        state = self.build(former, statement, renames)
        self._forget(table)
        if state is None or state.schema is None:
            return False
        with self._tables.begin() as transaction:
            transaction.move_table(state, *table)
        return True

    def _state(self, table: Table) -> MirrorState:
        with self._tables.begin() as transaction:
            return transaction.load_mirror(*table)

    def _forget(self, table: Table) -> None:
        with self._tables.begin() as transaction:
            transaction.forget_mirror(*table)


def _dialect(batch: ChangeBatch, ddl: SchemaChange) -> SqlDialect:
    return SqlDialect(flavor_of(batch.server_uuid) == ServerFlavor.MARIADB, ddl.sql_mode or 0)


def _begins_empty(ddl: SchemaChange, dialect: SqlDialect) -> bool:
    """Whether the table has no rows after the statement in any case."""
    return ddl.kind == "drop" or (ddl.kind == "create" and ddl.has_exact_text and not is_conditional(ddl.sql, dialect))


def _is_same(batch: ChangeBatch, statement: ChangeBatch) -> bool:
    """Whether both batches are the same statement."""
    one, other = batch.ddl, statement.ddl
    return (
        one is not None
        and other is not None
        and (one.position, batch.server_uuid)
        == (
            other.position,
            statement.server_uuid,
        )
    )
