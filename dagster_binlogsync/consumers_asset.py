"""The multi-asset of all consumers of a source, and the jobs that materialize it.

A run consumes any subset of the tables: it processes the backlog and then waits for new changes (`idle_s`, `max_s`),
because starting a run takes seconds. Progress is stored in the DuckDB file in the same transaction as the rows, so a
run may be killed at any time.

The DuckDB file deliberately has no Dagster pool: a run holds its slot until it ends, so runs of other tables would wait
for up to an hour. Instead, runs open the file for one short transaction at a time (binlogsync/targets/duckdb/file.py).
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import dagster as dg

from binlogsync.collection import without_collection
from dagster_binlogsync.consume.config import ConsumeConfig, ContinuousConfig
from dagster_binlogsync.consume.execution import ConsumerEvent, RunConsumers, run_consumers
from dagster_binlogsync.consume.run_coordination import tag_code
from dagster_binlogsync.consume.selection import check_groups, warn_uncaptured
from dagster_binlogsync.keys import consume_job_name, consumers_key, continuous_job_name, safe_part
from dagster_binlogsync.one_op_job import build_job
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.stop_flag import stop_on_signals
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.table_step import build_table_step
from dagster_binlogsync.tags import CONSUMER_TAG, CONTINUOUS_TAG


def build_consumers_asset(
    source: str,
    keys: ResourceKeys,
    tables: Sequence[TableAsset],
    code: str = "",
    uncaptured: Collection[dg.AssetKey] = (),
    execute: RunConsumers = run_consumers,
) -> dg.AssetsDefinition:
    """The multi-asset that consumes any subset of the tables of a source, in up to `max_workers` threads.

    `code` is the version of the handlers' code. Only mirrors connect to the server, to read their tables. A run logs a
    warning for each mirror of `uncaptured`, whose tables the tail does not capture. `execute` consumes the
    selected tables.
    """
    by_key = {table.key: table.consumer for table in tables}
    bookmark_resources = {"positions"} if any(table.consumer.start != "all" for table in tables) else set()

    def _consume(context: dg.AssetExecutionContext, config: ConsumeConfig) -> Iterator[ConsumerEvent]:
        tag_code(context, code)
        selected = [by_key[key] for key in by_key if key in context.selected_asset_keys]
        check_groups(selected, by_key.values())
        warn_uncaptured(context, selected, uncaptured)
        yield from execute(context, config, selected, keys.find(context))

    return build_table_step(
        _consume,
        f"consumers_{safe_part(source)}",
        tables,
        required_resource_keys=keys.require(("jetstream", "warehouse", "mysql", *bookmark_resources)),
    )


def build_consume_job(source: str, tables: Sequence[TableAsset]) -> Any:
    """The job `consume_<source>`: any tables of the source. The backlog sensor requests its runs."""
    return dg.define_asset_job(
        consume_job_name(source),
        selection=select_step(tables),
        executor_def=dg.in_process_executor,
        description=f"Consumes the tables of source {source}: processes the backlog, then waits for new changes.",
    )


def build_continuous_job(
    source: str, keys: ResourceKeys, tables: Sequence[TableAsset], config: ContinuousConfig | None = None
) -> dg.JobDefinition:
    """The job `consume_<source>_continuously`: one long run that keeps all consumers live."""

    @dg.op(
        name=f"consume_{safe_part(source)}_live",
        required_resource_keys=keys.require(("jetstream", "warehouse", "positions", "mysql")),
    )
    def _consume(context: dg.OpExecutionContext, config: ContinuousConfig) -> None:
        with stop_on_signals() as stop:  # a signal during the import ends the run as later signals do
            with without_collection():
                from dagster_binlogsync.consume.continuous_run import run_continuously

            run_continuously(context, config, [table.consumer for table in tables], keys.find(context), stop)

    return build_job(
        _consume,
        continuous_job_name(source),
        f"Keeps the consumers of {source} live: handlers and mirrors get changes as they arrive.",
        tags={CONTINUOUS_TAG: source, CONSUMER_TAG: source},
        config=dg.RunConfig(ops={_consume.name: config or ContinuousConfig()}),
    )


def build_consumers_spec(source: str, tables: Sequence[TableAsset]) -> dg.AssetSpec:
    """The asset of all consumers of the source, which the continuous run observes."""
    return dg.AssetSpec(
        consumers_key(source),
        deps=[table.key for table in tables],
        group_name="tables",
        kinds={"duckdb"},
        description=f"All consumers of {source}. Its continuous run observes it: the lag of each table is in the "
        "latest observation; open Plots for the longest one.",
        metadata={"binlogsync/source": source},
    )


def select_step(tables: Sequence[TableAsset]) -> dg.AssetSelection:
    """The assets of the consumers with the checks of the same step; expensive checks have separate jobs."""
    keys = [table.key for table in tables]
    own = [check.key for table in tables for check in table.check_specs]
    return dg.AssetSelection.assets(*keys).without_checks() | dg.AssetSelection.checks(*own)
