"""Steps for a check of many tables; each runs it for any subset of its tables.

A step per table and check would make loading slow: 1,500 mirrors would be 4,500 steps. So would one step for all of
them, because Dagster compares each of its tables with each of its checks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from binlogsync.errors import BinlogSyncError, TargetBusyError
from binlogsync.escaping import markdown
from dagster_binlogsync.failures import build_failure
from dagster_binlogsync.keys import TableName, safe_part
from dagster_binlogsync.resource_keys import ResourceKeys, SourceResources
from dagster_binlogsync.table_asset import TableAsset

Evaluate = Callable[[dg.AssetCheckExecutionContext, SourceResources, TableAsset], dg.AssetCheckResult]


TABLES_OF_STEP = 100


def build_check_steps(
    name: str,
    source: str,
    tables: Sequence[TableAsset],
    describe: Callable[[TableName], str],
    evaluate: Evaluate,
    required: set[str],
    keys: ResourceKeys,
    config_schema: Mapping[str, Any] | None = None,
) -> list[dg.AssetChecksDefinition]:
    """The check `name` of these tables, as steps `<source>_<name>`, `<source>_<name>_2` and so on.

    A table whose check raises a BinlogSyncError has no result, and the step fails after its other tables. While another
    process has the warehouse open, the results are warnings.
    """
    parts = [tables[start : start + TABLES_OF_STEP] for start in range(0, len(tables), TABLES_OF_STEP)]
    return [
        _build_step(
            name if number == 1 else f"{name}_{number}", name, source, part, describe, evaluate, required, keys,
            config_schema,
        )
        for number, part in enumerate(parts, start=1)
    ]  # fmt: skip


def _build_step(
    step: str,
    name: str,
    source: str,
    tables: Sequence[TableAsset],
    describe: Callable[[TableName], str],
    evaluate: Evaluate,
    required: set[str],
    keys: ResourceKeys,
    config_schema: Mapping[str, Any] | None,
) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"{safe_part(source)}_{step}",
        specs=[dg.AssetCheckSpec(name, asset=table.key, description=describe(table.name)) for table in tables],
        can_subset=True,
        required_resource_keys=required,
        config_schema=dict(config_schema) if config_schema else None,
    )
    def _check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        resources, errors = keys.find(context), dict[TableName, BinlogSyncError]()
        busy: TargetBusyError | None = None  # the other tables need not wait for the same file
        for table in tables:
            key = dg.AssetCheckKey(table.key, name)
            if key not in context.selected_asset_check_keys:
                continue
            try:
                result = evaluate(context, resources, table) if busy is None else _not_checked(busy)
            except TargetBusyError as error:
                busy = error
                result = _not_checked(busy)
            except BinlogSyncError as error:
                context.log.error(f"{table.name}: {error}")
                errors[table.name] = error
                continue
            yield result._replace(asset_key=key.asset_key, check_name=name)
        if errors:
            raise _build_check_failure(errors)

    return _check


def _not_checked(error: TargetBusyError) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=False, severity=dg.AssetCheckSeverity.WARN, description=f"Not checked: {markdown(str(error))}"
    )


def mirrors_of(tables: Iterable[TableAsset]) -> list[TableAsset]:
    """Those of the tables that are mirrors."""
    return [table for table in tables if table.is_mirror]


def _build_check_failure(errors: Mapping[TableName, BinlogSyncError]) -> dg.Failure:
    if len(errors) == 1:
        return build_failure(next(iter(errors.values())), {})
    lines = [f"{name}: {type(error).__name__}: {error}" for name, error in errors.items()]
    return dg.Failure("\n".join(lines), allow_retries=False)
