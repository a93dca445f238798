"""`@binlogsync_assets`: the assets of tables of one source, with a function of the project that consumes them."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

import dagster as dg

from binlogsync.errors import ConfigError
from dagster_binlogsync.asset_tables import bind_tables
from dagster_binlogsync.keys import safe_part
from dagster_binlogsync.mirror_patterns import MirrorPattern, flatten_tables, mirrors
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.table_step import build_table_step
from dagster_binlogsync.tables import mirror
from dagster_binlogsync.translator import BinlogsyncTranslator

AssetFunction = Callable[..., Iterator[Any]]


def binlogsync_assets(
    *,
    source: str,
    tables: Iterable[TableAsset | MirrorPattern | str],
    name: str | None = None,
    translator: BinlogsyncTranslator | None = None,
    pool: str | None = None,
    op_tags: Mapping[str, Any] | None = None,
) -> Callable[[AssetFunction], dg.AssetsDefinition]:
    """Make a multi-asset of tables; the decorated function consumes the selected ones.

        @binlogsync_assets(source="main", tables=["shop.*"])
        def shop(context: dg.AssetExecutionContext, binlogsync: BinlogsyncResource):
            yield from binlogsync.consume(context)

    Args:
        source: name of the source.
        tables: what `mirror`, `mirrors` and `table_consumer` return; a text is a mirror, or a pattern of mirrors.
        name: name of the op; default: that of the function, after the source.
        translator: makes the asset specs of tables.
        pool, op_tags: of the op.

    Raises ConfigError, also for a table of another source.
    """
    found = flatten_tables([_make_table(table, source) for table in tables])
    for table in found:
        if table.name.source != source:
            raise ConfigError(f"{table.name} is a table of source {table.name.source}, not of {source}")
    if translator is not None:
        found = tuple(table.translate(translator) for table in found)

    def decorate(function: AssetFunction) -> dg.AssetsDefinition:
        if not inspect.isgeneratorfunction(function):
            raise ConfigError(f"{function.__name__} must be a generator: yield from binlogsync.consume(context)")

        @wraps(function)
        def run(context: Any, *arguments: Any, **named: Any) -> Iterator[Any]:
            bind_tables(context, found)
            yield from function(context, *arguments, **named)

        return build_table_step(
            run, name or f"{safe_part(source)}_{function.__name__}", found, pool=pool, op_tags=op_tags
        )

    return decorate


def _make_table(table: TableAsset | MirrorPattern | str, source: str) -> TableAsset | MirrorPattern:
    if not isinstance(table, str):
        return table
    has_wildcard = "`" not in table and any(sign in table for sign in "*?[")
    return mirrors(table, source=source) if has_wildcard else mirror(table, source=source)
