"""The tables of the asset that runs, for `BinlogsyncResource.consume`, which gets only the context.

`@binlogsync_assets` binds them to the context when Dagster calls the decorated function.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import dagster as dg

from dagster_binlogsync.table_asset import TableAsset

_TABLES: WeakKeyDictionary[Any, Sequence[TableAsset]] = WeakKeyDictionary()


def bind_tables(context: Any, tables: Sequence[TableAsset]) -> None:
    """Bind the tables of an asset to the context of its run."""
    _TABLES[context] = tables


def tables_of_context(context: dg.AssetExecutionContext) -> Sequence[TableAsset]:
    """The tables of the asset of the context. Raises dg.DagsterInvariantViolationError for an asset that has none."""
    tables = _TABLES.get(context)
    if tables is None:
        raise dg.DagsterInvariantViolationError(
            "consume(context) requires an asset that @binlogsync_assets decorates, and the context of its first "
            "parameter"
        )
    return tables
