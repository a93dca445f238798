"""Gives a mirror the options of its definition, also one that exists with others."""

from __future__ import annotations

from dataclasses import replace

from binlogsync.errors import ConsumeError
from binlogsync.targets import TableTransaction
from binlogsync.targets.mirror_options import MirrorOptions
from binlogsync.targets.mirror_state import MirrorState


def load_configured(transaction: TableTransaction, name: tuple[str, str], options: MirrorOptions) -> MirrorState:
    """The state of the mirror of (database, table) with these options (see `configure`)."""
    return configure(transaction, transaction.load_mirror(*name), options)


def configure(transaction: TableTransaction, state: MirrorState, options: MirrorOptions) -> MirrorState:
    """Give the mirror of this state, which was loaded in the transaction, these options; returns its new state.

    Columns that they add are added to its table. Its key stays until the table is loaded again (`has_other_key`).
    Raises ConsumeError for an option that an existing mirror cannot change.
    """
    if options.location is not None:
        state = transaction.place_mirror(state, options.location)
    elif state.policies.is_placed:
        raise ConsumeError(
            f"{state.name}: the mirror is the table {'.'.join(state.location[1:])}, as target_schema and target_table "
            "named it, and they are not set now; set them again, or remove the mirror (binlogsync remove --drop), so "
            "that it is loaded under its name in MySQL"
        )
    state = transaction.ensure_deleted_at(state, options.deleted_at)
    state = transaction.ensure_metadata(state, options.metadata)
    policies = replace(state.policies, on_drop=options.on_drop, is_placed=options.location is not None)
    if state.schema is None:
        policies = replace(policies, key=options.key)
    if options.schema_contract == "follow":
        policies = replace(policies, contract=None, accepted=())
    elif state.schema is not None and policies.contract is None:
        policies = replace(policies, contract=state.schema.to_json())
    if policies == state.policies:
        return state
    state = replace(state, policies=policies)
    return transaction.store_mirror(state) if state.is_known else state


def has_other_key(state: MirrorState, options: MirrorOptions) -> bool:
    """Whether the mirror's table has another key than the options name, and must be loaded again."""
    return state.schema is not None and state.policies.key != options.key
