"""The schema contract of a mirror: with "freeze", its columns change only after an operator has accepted the new ones.

The names, types and order of the columns of the mirror's table are frozen when its first table is complete, or when the
option is set. A statement, row or load that would change them is refused, with an error that has an id of the new
columns; `accept_columns` stores that id, and the next attempt applies them. Statements that leave the columns as they
are (an index, a comment, a longer VARCHAR) are applied.

Accepted ids stay stored until the columns change: a statement may need a load, and the table on the server have the
columns of a later statement by then, so that both ids have to be accepted before either is applied.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from binlogsync.change import SchemaChange
from binlogsync.errors import ConfigError, RefusedChangeError
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.targets import TableStore, TableTransaction
from binlogsync.targets.mirror_options import MirrorOptions
from binlogsync.targets.mirror_state import MirrorState

_MOST_SQL = 500


class FrozenColumnsError(RefusedChangeError):
    """A change of columns that the schema contract of the mirror does not allow; nothing of it was applied.

    Attributes:
        columns_id: what `accept_columns` takes.
    """

    def __init__(self, message: str, columns_id: str) -> None:
        super().__init__(message)
        self.columns_id = columns_id


def check_contract(transaction: TableTransaction, state: MirrorState, schema: TableSchema, cause: str) -> MirrorState:
    """The state after the columns became those of `schema`, which is not stored; `cause` describes what changes them.

    Raises FrozenColumnsError if they are frozen and were not accepted.
    """
    frozen = state.policies.frozen_schema
    if frozen is None or transaction.converter.has_same_shape(frozen, schema):
        return state
    columns_id = identify_columns(schema)
    if columns_id not in state.policies.accepted:
        raise FrozenColumnsError(
            f"{state.name}: its columns are frozen (schema_contract), and {cause} changes them: "
            f"{describe_difference(frozen, schema)}. The mirror stays as it was before. To accept the new columns: "
            f"binlogsync accept {state.name} {columns_id} (with --progress FILE for a mirror of binlogsync mirror), or "
            "in Dagster the job accept_columns_<source>; or set schema_contract to follow",
            columns_id,
        )
    return replace(state, policies=replace(state.policies, contract=schema.to_json(), accepted=()))


def freeze_columns(transaction: TableTransaction, state: MirrorState, options: MirrorOptions) -> MirrorState:
    """Freeze the columns of a mirror whose table was created, if its options require it; returns the stored state."""
    if options.schema_contract == "follow" or state.schema is None or state.policies.contract is not None:
        return state
    policies = replace(state.policies, contract=state.schema.to_json())
    return transaction.store_mirror(replace(state, policies=policies))


def accept_columns(tables: TableStore, name: tuple[str, str], columns_id: str) -> None:
    """Accept the columns of this id in place of the frozen ones: the next attempt of the consumer applies them.

    Raises ConfigError if there is no mirror with frozen columns.
    """
    with tables.begin() as transaction:
        state = transaction.load_mirror(*name)
        if state.policies.contract is None:
            raise ConfigError(
                f"{'.'.join(name)}: {tables.address} has no mirror of it with frozen columns (schema_contract: "
                "freeze), so there is nothing to accept"
            )
        accepted = tuple(dict.fromkeys((*state.policies.accepted, columns_id)))
        transaction.store_mirror(replace(state, policies=replace(state.policies, accepted=accepted)))


def identify_columns(schema: TableSchema) -> str:
    """12 hexadecimal digits that change with the names, types and order of the columns."""
    text = "\0".join(f"{column.name}\0{column.declaration}" for column in schema.columns)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def describe_statement(ddl: SchemaChange) -> str:
    """The statement, with its position."""
    return f"the statement at {ddl.position} ({ddl.sql[:_MOST_SQL]})"


def describe_load(at: Checkpoint) -> str:
    """The table as it was read from the server."""
    return f"the table as the server has it at {at}"


def describe_difference(before: TableSchema, after: TableSchema) -> str:
    """The columns that are added, dropped or changed, or that they have another order."""
    old, new = ({column.name: column.declaration for column in schema.columns} for schema in (before, after))
    parts = [f"{name} {kind} is new" for name, kind in new.items() if name not in old]
    parts += [f"{name} {kind} is missing" for name, kind in old.items() if name not in new]
    parts += [f"{name} {old[name]} becomes {kind}" for name, kind in new.items() if old.get(name, kind) != kind]
    return ", ".join(parts) or f"the order becomes {', '.join(new)}"
