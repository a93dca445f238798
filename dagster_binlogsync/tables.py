"""Asset factories: `mirror` requires no code, `table_consumer` a model and a handler.

Both return a `TableAsset`: the asset of the consumer with its checks, and the table and its stream as upstream assets
for the lineage. All tables of a source are assets of one multi-asset (`consumers_asset`); a run consumes any subset. A
run processes the backlog and then waits for new changes (`idle_s`, `max_s`), because starting a run takes seconds.
Progress is stored in the DuckDB file in the same transaction as the rows, so a run may be killed at any time.

The DuckDB file deliberately has no Dagster pool: a run holds its slot until it ends, so runs of other tables would wait
for up to an hour. Instead, runs open the file for one short transaction at a time (binlogsync/targets/duckdb/file.py).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, overload

import dagster as dg

from binlogsync.consume.handler import Handler, Retry
from binlogsync.consume.handler_signature import HandlerFunction
from binlogsync.consume.start_position import Start, check_start
from binlogsync.consume.targets import Target
from binlogsync.errors import ConfigError
from binlogsync.mirror.target import Mirror
from binlogsync.models.model import table_name
from binlogsync.mysql.config import MySQLConfig
from binlogsync.settings import Settings
from binlogsync.targets.duckdb.state import MirrorOptions
from dagster_binlogsync.consume.run import ConsumeConfig, ConsumerEvent, ConsumerSpec, run_consumers
from dagster_binlogsync.consume.run_coordination import tag_code
from dagster_binlogsync.keys import TableName, binlog_key, safe_part

CLIENT_ID = "dagster"
CHECKS = (
    ("handled", "No change is blocked by a failing handler or a model that does not match the table."),
    ("backlog", "At most 1,000 messages are waiting in the stream after the run."),
    ("no_gap", "No open gap: neither the stream nor the binlog dropped changes before they were consumed."),
)
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class TableAsset:
    """A table of a source and its consumer in Dagster.

    Attributes:
        consumer: the table and the target of its changes.
        options: presentation of the asset.
        is_mirror: whether the target is a mirror, not a handler.
    """

    consumer: ConsumerSpec
    options: "AssetOptions"
    is_mirror: bool

    @property
    def name(self) -> TableName:
        """Name of the table."""
        return self.consumer.name

    @property
    def key(self) -> dg.AssetKey:
        """Asset key of the consumer, for `deps` of downstream assets."""
        return self.name.consumer_key

    @property
    def durable(self) -> str:
        """Name of the durable consumer in JetStream."""
        return self.consumer.durable

    @property
    def spec(self) -> dg.AssetSpec:
        """Asset spec of the consumer."""
        name, options = self.name, self.options
        within = options.fresh_within
        return dg.AssetSpec(
            name.consumer_key,
            deps=[name.stream_key],
            group_name=options.group,
            kinds={"duckdb"},
            description=options.description,
            metadata=_name_metadata(name),
            tags=dict(options.tags),
            freshness_policy=None if within is None else dg.FreshnessPolicy.time_window(fail_window=within),
        )

    @property
    def check_specs(self) -> list[dg.AssetCheckSpec]:
        """The checks that the consumer run itself reports."""
        return [dg.AssetCheckSpec(name, asset=self.key, description=text) for name, text in CHECKS]

    @property
    def upstream(self) -> tuple[dg.AssetSpec, dg.AssetSpec]:
        """The table in MySQL, and its subject in JetStream."""
        name = self.name
        metadata = _name_metadata(name)
        return (
            dg.AssetSpec(
                name.mysql_key,
                group_name="mysql",
                kinds={"mysql"},
                description=f"The table {name.markdown} in MySQL. Its changes are in the binary log.",
                metadata=metadata,
            ),
            dg.AssetSpec(
                name.stream_key,
                deps=[name.mysql_key, binlog_key(name.source)],
                group_name="stream",
                kinds={"nats"},
                description=f"The changes of {name.markdown} in JetStream, in order, published by the tail.",
                metadata=metadata,
            ),
        )


@dataclass(frozen=True, slots=True)
class AssetOptions:
    """Presentation of the asset in Dagster.

    Attributes:
        group: asset group.
        fresh_within: time without a consumed change after which the asset is stale; None for no freshness policy.
        description: description of the asset.
        tags: tags of the asset.
        shows: (schema, table) of the warehouse whose row count and first rows a run reports; None for none.
    """

    group: str = "tables"
    fresh_within: timedelta | None = None
    description: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    shows: tuple[str, str] | None = None


def mirror(
    table: str,
    *,
    deleted_at: str | None = None,
    history: bool = False,
    together: str | None = None,
    source: str | None = None,
    client_id: str = CLIENT_ID,
    options: AssetOptions | None = None,
) -> TableAsset:
    """A DuckDB table of the warehouse that stays equal to the MySQL table `table` ("shop.orders").

    Args:
        deleted_at: name of an additional column with the commit time of the delete; deleted rows are kept.
        history: True keeps every version of every row, with its commit times, in the table `<table>__history`.
        together: name of a group of mirrors. A MySQL transaction that changes several of them becomes visible in all of
        them at once. A run has to consume all mirrors of the group.
        source: name of the source, by default the first one.
        client_id: the client whose progress is stored.
        options: presentation of the asset.

    Raises ConfigError.
    """
    name = TableName.parse(table, source or default_source())
    description = f"Mirror of {name.markdown}: a DuckDB table that stays equal to the MySQL table."
    options = options or AssetOptions(description=description)
    keeps = MirrorOptions(deleted_at, history)
    consumer = ConsumerSpec(
        name,
        client_id,
        lambda path, mysql: Mirror(path, name.database, name.table, mysql, keeps),
        (name.database, name.table),
        together,
    )
    return TableAsset(consumer, options, is_mirror=True)


@overload
def table_consumer(
    model: type[M],
    handler: HandlerFunction[M],
    *,
    table: str | None = ...,
    source: str | None = ...,
    client_id: str = ...,
    retry: Retry | None = ...,
    start: Start = ...,
    options: AssetOptions | None = ...,
) -> TableAsset: ...
@overload
def table_consumer(
    model: type[M],
    *,
    table: str | None = ...,
    source: str | None = ...,
    client_id: str = ...,
    retry: Retry | None = ...,
    start: Start = ...,
    options: AssetOptions | None = ...,
) -> Callable[[HandlerFunction[M]], TableAsset]: ...
@overload
def table_consumer(
    model: None,
    handler: Callable[..., object],
    *,
    table: str,
    source: str | None = ...,
    client_id: str = ...,
    retry: Retry | None = ...,
    start: Start = ...,
    options: AssetOptions | None = ...,
) -> TableAsset: ...


def table_consumer(
    model: type | None,
    handler: Callable[..., object] | None = None,
    *,
    table: str | None = None,
    source: str | None = None,
    client_id: str = CLIENT_ID,
    retry: Retry | None = None,
    start: Start = "all",
    options: AssetOptions | None = None,
) -> TableAsset | Callable[[Callable[..., object]], TableAsset]:
    """An asset that calls `handler` with the changes of the table, in order.

        @table_consumer(Hole, table="treehole.holes")
        def holes(change: Change[Hole]) -> None: ...

    The annotation of the first parameter selects single changes or batches (binlogsync/consume/handler_signature.py). A
    second parameter receives the DuckDB connection of the warehouse, in the transaction that stores the progress: what
    the handler writes there is written exactly once. Other effects happen at least once, with the same `change.id`.

    Args:
        model: a dataclass, msgspec.Struct or pydantic model. It is compared with the table before any change is
        handled. None for a handler of data frames or record batches with all columns.
        handler: called for each change or batch. If it raises, it is called again with the same change, and the table
        is blocked meanwhile; after the last attempt the run fails. Without a handler, the function is a decorator.
        table: "database.table", by default `__tablename__` of the model.
        source: name of the source, by default the first one.
        client_id: the client whose progress is stored. Two consumers of one table require two client ids.
        retry: number of attempts and pauses for one change.
        start: where to start if there is no progress yet: "all" (the oldest message of the stream), "new", the name or
        key of a bookmark, a GTID set, "binlog.000042:1187", an ISO time, an aware datetime or a stream sequence.
        options: presentation of the asset.

    Raises ConfigError, and ModelError for a class that is not a model.
    """

    def make(handler: Callable[..., object]) -> TableAsset:
        if table is None and model is None:
            raise ConfigError('without a model, table="database.table" is required')
        name = TableName.parse(table or table_name(model), source or default_source())  # type: ignore[arg-type]
        shown = options or AssetOptions(description=(handler.__doc__ or "").strip() or None)
        Handler(model, handler, "unused")  # reports an invalid model or handler now, not in the first run

        def target(path: str, mysql: MySQLConfig) -> Target:
            return Handler(model, handler, path, retry)

        consumer = ConsumerSpec(name, client_id, target, shown.shows, start=check_start(start))
        return TableAsset(consumer, shown, is_mirror=False)

    return make if handler is None else make(handler)


def build_consumers_asset(
    source: str, mysql_key: str, tables: Sequence[TableAsset], code: str = ""
) -> dg.AssetsDefinition:
    """The multi-asset that consumes any subset of the tables of a source, in up to `max_workers` threads.

    `code` is the version of the handlers' code. Only mirrors connect to the server, resource `mysql_key`, to read their
    tables.
    """
    by_key = {table.key: table.consumer for table in tables}
    bookmark_resources = {"positions"} if any(table.consumer.start != "all" for table in tables) else set()

    @dg.multi_asset(
        name=f"consumers_{safe_part(source)}",
        specs=[table.spec for table in tables],
        check_specs=[check for table in tables for check in table.check_specs],
        can_subset=True,
        required_resource_keys={"jetstream", "warehouse", mysql_key, *bookmark_resources},
    )
    def _consume(context: dg.AssetExecutionContext, config: ConsumeConfig) -> Iterator[ConsumerEvent]:
        tag_code(context, code)
        asked = [by_key[key] for key in by_key if key in context.selected_asset_keys]
        _check_groups(asked, by_key.values())
        yield from run_consumers(context, config, asked, getattr(context.resources, mysql_key).config(source))

    return _consume


def default_source() -> str:
    """The source of a consumer without an explicit source: the first one of the settings. Raises ConfigError."""
    return Settings(os.environ).source()


def _check_groups(asked: Sequence[ConsumerSpec], known: Iterable[ConsumerSpec]) -> None:
    """Raise dg.Failure if a group of mirrors is selected only in part."""
    groups = {one.together for one in asked if one.together is not None}
    missing = [str(one.name) for one in known if one.together in groups and one not in asked]
    if missing:
        raise dg.Failure(
            description=f"Mirrors of the group {', '.join(sorted(map(str, groups)))} must be consumed together: also "
            f"select {', '.join(missing)}, or run the job of all tables.",
            allow_retries=False,
        )


def _name_metadata(name: TableName) -> dict[str, str]:
    """The original MySQL names, for asset keys with replaced characters."""
    return {"mysql/database": name.database, "mysql/table": name.table, "binlogsync/source": name.source}
