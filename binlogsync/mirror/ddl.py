"""Applies DDL statements to a mirror if their text determines their effect; otherwise the mirror must be rebuilt.

A rebuild reads the table from the server again. It is required if a statement cannot be parsed, or if only the server
knows the effect on existing rows (a computed default, a lossy conversion, a table renamed to the name of the mirror).
The result is also compared with the schema of the first rows after the statement; if the two differ, the mirror is
rebuilt.

Functions with an argument `can_read` ask for a rebuild also where the mirror could start empty: it is True if the table
can be read from the server.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace

from binlogsync.binlog.ddl import Tables
from binlogsync.binlog.sql import SqlDialect
from binlogsync.change import SchemaChange
from binlogsync.change_batch import ChangeBatch
from binlogsync.mirror.alter import AlteredSchema, AlterRules, apply_alter
from binlogsync.mirror.clauses import (
    AddColumn,
    ChangeColumn,
    Clause,
    DropColumn,
    RemoveRows,
    RenameColumn,
    is_conditional,
    parse_alter,
    parse_create,
)
from binlogsync.mirror.contract import check_contract, describe_statement
from binlogsync.mirror.image_columns import ADVICE, contains_name
from binlogsync.position import BinlogPosition
from binlogsync.schema import TableSchema, date_keys, remove_columns
from binlogsync.server_version import ServerFlavor, flavor_of
from binlogsync.targets import TableTransaction
from binlogsync.targets.mirror_options import with_key
from binlogsync.targets.mirror_state import MirrorState

log = logging.getLogger(__name__)
NO_TABLE = ("", "")
"""The result of `former_name` if no table has the name after the rename."""
_DEPENDS_ON_MODE = re.compile(r"[\"\\]")
"""Characters whose meaning depends on the SQL mode (ANSI_QUOTES, NO_BACKSLASH_ESCAPES)."""


class RebuildRequiredError(Exception):
    """The mirror must be rebuilt from the server. The attributes are those of RebuildReason (apply.py)."""

    def __init__(self, reason: str, *, is_required: bool = True, may_repeat: bool = False) -> None:
        self.reason = reason
        self.is_required = is_required
        self.may_repeat = may_repeat
        super().__init__(reason)


def apply_statement(
    transaction: TableTransaction, state: MirrorState, batch: ChangeBatch, *, can_read: bool
) -> MirrorState:
    """Apply the statement of `batch`; returns the new state. Raises RebuildRequiredError before it changes anything."""
    ddl = batch.ddl
    assert ddl is not None
    dialect = SqlDialect(flavor_of(batch.server_uuid) == ServerFlavor.MARIADB, ddl.sql_mode or 0, ddl.recodes_literals)
    if ddl.sql_mode is None and _DEPENDS_ON_MODE.search(ddl.sql):
        ddl = replace(ddl, sql="")  # written by an older version, which did not store the SQL mode
    if ddl.kind == "other":
        raise RebuildRequiredError(f"a statement of an unknown kind may have changed it: {ddl.sql[:200]}")
    if ddl.kind == "create":
        return _create(transaction, state, ddl, dialect, can_read=can_read)
    if ddl.kind == "drop":
        return transaction.drop_or_keep_table(state, ddl.ts_us)
    if ddl.kind == "rename":
        return _rename(transaction, state, ddl)
    if ddl.kind == "alter" and (state.database, state.table) != ddl.tables[0]:
        raise RebuildRequiredError(f"a statement moved rows between it and {'.'.join(ddl.tables[0])}: {ddl.sql[:200]}")
    if ddl.kind == "alter" and state.schema is not None:
        return _alter(transaction, state, ddl, dialect)
    return state


def adopt_schema(
    transaction: TableTransaction, state: MirrorState, batch: ChangeBatch, *, can_read: bool
) -> MirrorState:
    """Prepare the mirror for these changes, which have another schema than its table, and return its new state.

    Raises RebuildRequiredError if the mirror has rows that do not fit the schema, or if rows may be missing in it,
    FrozenColumnsError if it may not have the columns.
    """
    schema = batch.schema
    if state.schema is None and can_read:
        raise RebuildRequiredError("the rows that it had before are not known", is_required=False)
    at = BinlogPosition(batch.data.column("file")[0].as_py(), batch.data.column("pos")[0].as_py())
    state = check_contract(transaction, state, schema, f"a row change at {at}")
    if state.schema is None:
        return transaction.create_table(state, schema)
    if transaction.converter.has_same_shape(state.schema, schema):
        changed = transaction.converter.key_date_condition(date_keys(state.schema) ^ date_keys(schema))
        if changed and transaction.has_row(state, changed):
            raise RebuildRequiredError("the primary key changed, and rows have zero or invalid dates in it")
        return transaction.store_mirror(replace(state, schema=schema))
    if not transaction.has_row(state):
        return transaction.create_table(transaction.drop_table(state), schema)
    raise RebuildRequiredError(
        f"its columns differ from those that result from the schema changes in the stream: "
        f"{_columns(state.schema)} became {_columns(schema)}"
    )


def _columns(schema: TableSchema) -> str:
    return ", ".join(f"{column.name} {column.declaration}" for column in schema.columns)


def _create(
    transaction: TableTransaction, state: MirrorState, ddl: SchemaChange, dialect: SqlDialect, *, can_read: bool
) -> MirrorState:
    if not ddl.sql and state.schema is not None:
        raise RebuildRequiredError("it may have been recreated: the text of the statement is not known")
    if is_conditional(ddl.sql, dialect):
        if state.schema is not None:
            return state  # the table exists: the server logs the statement although it had no effect
        if not state.is_known and can_read:
            raise RebuildRequiredError("it may have existed before CREATE TABLE IF NOT EXISTS", is_required=False)
    created = parse_create(ddl.sql, dialect) if ddl.has_exact_text else None
    if created is None and can_read:
        raise RebuildRequiredError("the statement that created it does not list its columns", is_required=False)
    if created is None:
        state = transaction.drop_or_keep_table(state, ddl.ts_us)
        return replace(state, left_out=None)  # the columns are those of the first rows
    left_out = created.generated if dialect.mariadb else ()
    schema = TableSchema(state.database, state.table, created.columns, created.primary_key)
    schema = with_key(remove_columns(schema, left_out), state.policies.key)
    state = check_contract(transaction, state, schema, describe_statement(ddl))
    if left_out:
        log.warning("%s: column(s) %s are left out: %s", state.name, ", ".join(left_out), ADVICE)
    state = transaction.drop_or_keep_table(state, ddl.ts_us)
    return transaction.create_table(replace(state, left_out=left_out), schema)


def former_name(tables: Tables, own: tuple[str, str]) -> tuple[str, str]:
    """The name that the table named `own` had before a rename; NO_TABLE if no table has the name after it.

    `tables` are (old, new, old, new, ...), as in RENAME TABLE.
    """
    content = {name: name for name in (own, *tables)}
    for old, new in zip(tables[::2], tables[1::2], strict=True):
        if old != new:
            content[new], content[old] = content[old], NO_TABLE
    return content[own]


def _rename(transaction: TableTransaction, state: MirrorState, ddl: SchemaChange) -> MirrorState:
    """Apply a rename. After it, the name of the mirror belongs to the same table, to no table, or to another one."""
    former = former_name(ddl.tables, (state.database, state.table))
    if former == NO_TABLE:
        return transaction.drop_or_keep_table(state, ddl.ts_us)
    if former == (state.database, state.table) and len(ddl.tables) > 2:
        return state
    raise RebuildRequiredError(f"{'.'.join(former)} was renamed to its name: {ddl.sql[:200]}")


def _alter(transaction: TableTransaction, state: MirrorState, ddl: SchemaChange, dialect: SqlDialect) -> MirrorState:
    clauses = parse_alter(ddl.sql, dialect) if ddl.has_exact_text else None
    if clauses == [RemoveRows()]:
        return transaction.delete_rows(state, ddl.ts_us)
    if dialect.mariadb and clauses:
        clauses, left_out = _without_generated(clauses, state.left_out or ())
        if left_out != (state.left_out or ()):
            state = replace(state, left_out=left_out)
            if clauses == []:
                return transaction.store_mirror(state)
    if clauses == [] or state.schema is None:
        return state
    evolution = (
        None
        if clauses is None
        else apply_alter(state.schema, clauses, AlterRules(dialect, transaction.converter, state.policies.key))
    )
    if evolution is None:
        raise RebuildRequiredError(f"the effect of a statement is not known: {ddl.sql[:200]}")
    before, state = state.schema, check_contract(transaction, state, evolution.schema, describe_statement(ddl))
    if not transaction.has_row(state):
        return transaction.create_table(transaction.drop_table(state), evolution.schema)
    unproven = _describe_unproven(transaction, state, evolution)
    if unproven:
        raise RebuildRequiredError(f"only the server knows the effect of a statement on {unproven}: {ddl.sql[:200]}")
    keeps_values = all(
        one.values is not None and one.values.value == transaction.converter.keep(one.column.name)
        for one in evolution.columns
    )
    if keeps_values and transaction.converter.has_same_shape(before, evolution.schema):
        return transaction.store_mirror(replace(state, schema=evolution.schema))
    values = [one.values.value for one in evolution.columns if one.values is not None]
    log.info("%s: applied %s", state.name, ddl.sql[:200])
    return transaction.rewrite_table(state, evolution.schema, values)


def _without_generated(clauses: list[Clause], left_out: tuple[str, ...]) -> tuple[list[Clause] | None, tuple[str, ...]]:
    """(clauses that concern columns of the mirror; generated columns that it leaves out, after the statement).

    The clauses are None if only the server knows the effect.
    """
    kept: list[Clause] = []
    for clause in clauses:
        definition = clause.definition if isinstance(clause, AddColumn | ChangeColumn) else None
        old = clause.old if isinstance(clause, ChangeColumn | RenameColumn) else ""
        if isinstance(clause, AddColumn) and clause.definition.is_generated:
            left_out = (*left_out, clause.definition.column.name)
        elif isinstance(clause, DropColumn) and contains_name(left_out, clause.name):
            left_out = tuple(name for name in left_out if name.lower() != clause.name.lower())
        elif contains_name(left_out, old) or (definition is not None and definition.is_generated):
            return None, left_out
        else:
            kept.append(clause)
    return kept, left_out


def _describe_unproven(transaction: TableTransaction, state: MirrorState, evolution: AlteredSchema) -> str:
    """The columns or values of existing rows on which the effect is not known; "" if it is known for all."""
    if evolution.unknown:
        return f"column {', '.join(evolution.unknown)}"
    if not evolution.guards:
        return ""
    return "values that it converts" if transaction.has_row(state, *evolution.guards) else ""
