"""Assets made from tables: `mirror` needs no code, `table_consumer` a model and a handler.

Each is a `TableAsset`: the consumer's asset with its checks, and the table and its stream as upstream assets, so that
the lineage is complete. All tables of a source are assets of one step (`consumers_asset`), any of which a run may ask
for. A run drains what waits and stays while changes come (`idle_s`, `max_s`), because a run costs seconds to start.
Progress lies in the DuckDB file beside the rows, so a run may be killed at any moment.

The DuckDB file has no Dagster pool, on purpose: a slot is held for as long as a run is at work, and runs of several
tables that stay for an hour would shut each other out. They share the file by holding it for one short transaction at
a time instead, and by waiting for each other there (binlogsync/duckfile.py).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, overload

import dagster as dg

from binlogsync.consume.handler import Handler, Retry
from binlogsync.consume.handler_signature import HandlerFunction
from binlogsync.consume.start_position import Start, check_start
from binlogsync.consume.targets import Mirror, Target
from binlogsync.errors import ConfigError
from binlogsync.mirror.state import MirrorOptions
from binlogsync.models.model import table_name
from binlogsync.mysql.config import MySQLConfig
from pipelines.consumer_run import ConsumeConfig, ConsumerSpec, Made, run_consumers
from pipelines.keys import TableName, binlog_key, safe_part
from pipelines.run_coordination import tag_code
from pipelines.sources import default_source

CLIENT_ID = "dagster"
CHECKS = (
    ("handled", "No change is held up by a handler that fails or a model that does not fit."),
    ("backlog", "Little or nothing waits in the stream after the run."),
    ("no_gap", "Nothing is missing that was not made good: the stream and the binlog dropped nothing unread."),
)
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class TableAsset:
    """A table of a source and its consumer in Dagster.

    Attributes:
        consumption: what is consumed, and into what.
        options: how the asset looks.
        is_mirror: True when it keeps a DuckDB table equal to MySQL's.
    """

    consumption: ConsumerSpec
    options: "AssetOptions"
    is_mirror: bool

    @property
    def name(self) -> TableName:
        """Of the table."""
        return self.consumption.name

    @property
    def key(self) -> dg.AssetKey:
        """Of the consumer; what an asset that is computed from it names in `deps`."""
        return self.name.consumer_key

    @property
    def durable(self) -> str:
        """Of the consumer in JetStream."""
        return self.consumption.durable

    @property
    def spec(self) -> dg.AssetSpec:
        """The consumer's asset."""
        name, options = self.name, self.options
        within = options.fresh_within
        return dg.AssetSpec(
            name.consumer_key,
            deps=[name.stream_key],
            group_name=options.group,
            kinds={"duckdb"},
            description=options.description,
            metadata=_names(name),
            tags=dict(options.tags),
            freshness_policy=None if within is None else dg.FreshnessPolicy.time_window(fail_window=within),
        )

    @property
    def check_specs(self) -> list[dg.AssetCheckSpec]:
        """The checks that are made in the consumer's own step."""
        return [dg.AssetCheckSpec(name, asset=self.key, description=text) for name, text in CHECKS]

    @property
    def upstream(self) -> tuple[dg.AssetSpec, dg.AssetSpec]:
        """The table in MySQL, and its subject in JetStream."""
        name = self.name
        metadata = _names(name)
        return (
            dg.AssetSpec(
                name.mysql_key,
                group_name="mysql",
                kinds={"mysql"},
                description=f"The table {name.markdown} in MySQL itself; its changes are in the binary log.",
                metadata=metadata,
            ),
            dg.AssetSpec(
                name.stream_key,
                deps=[name.mysql_key, binlog_key(name.source)],
                group_name="stream",
                kinds={"nats"},
                description=f"The changes of {name.markdown} in JetStream, in order, as the tail stores them.",
                metadata=metadata,
            ),
        )


@dataclass(frozen=True, slots=True)
class AssetOptions:
    """How the asset looks in Dagster.

    Attributes:
        group: its group. fresh_within: without a change handled for that long the asset counts as stale; None for
        tables that may be quiet. description: on its page. tags: of the asset. shows: (schema, table) in the
        warehouse, of which the run shows row count and first rows; None shows nothing.
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
    """A table of the warehouse that stays equal to `table` ("shop.orders") of MySQL.

    Args:
        deleted_at: name of a further column; rows that MySQL deletes stay, with the time of the commit in it.
        history: True keeps every version of every row, from commit to commit, in the table `<table>__history`.
        together: name of a group of mirrors: a transaction of MySQL that touches several of them is seen in all of them
        or in none. A run has to consume them all. source: name of the source; by default the first. client_id: whose
        progress. options: how the asset looks.

    Raises ConfigError.
    """
    name = TableName.parse(table, source or default_source())
    said = f"Mirror of {name.markdown}: a DuckDB table that stays equal to MySQL's."
    options = options or AssetOptions(description=said)
    keeps = MirrorOptions(deleted_at, history)
    consumption = ConsumerSpec(
        name,
        client_id,
        lambda path, mysql: Mirror(path, name.database, name.table, mysql, keeps),
        (name.database, name.table),
        together,
    )
    return TableAsset(consumption, options, is_mirror=True)


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
    """Calls `handler` for the changes of the table, in order: one by one, or a batch at a time, as its signature says.

        @table_consumer(Hole, table="treehole.holes")
        def holes(change: Change[Hole]) -> None: ...

    The shapes of a handler are in binlogsync/consume/handler_signature.py. One with a second parameter gets the DuckDB
    connection of the warehouse, in the transaction that stores progress: what it writes there happens exactly once.
    Everything else it does happens at least once, under the same `change.id`.

    Args:
        model: a dataclass, msgspec.Struct or pydantic model; what does not fit the table fails before any row is
        handled. None for a handler of frames or record batches with all columns. handler: what it raises is tried
        again, then fails the run, and nothing later of this table is handled meanwhile; left out, this is a decorator.
        table: "database.table"; by default what the model says in `__tablename__`. source: name of the source; by
        default the first. client_id: whose progress; two consumers of one table need two names. retry: how often a
        failing handler is called for one change. start: where it begins the first time: "all" that the stream holds,
        "new", a bookmark by its name or key, a GTID set, "binlog.000042:1187", an ISO time, an aware datetime or a
        sequence of the stream. options: how the asset looks.

    Raises ConfigError, and ModelError for a class that is no model.
    """

    def make(handler: Callable[..., object]) -> TableAsset:
        if table is None and model is None:
            raise ConfigError('without a model the table has to be given: table="database.table"')
        name = TableName.parse(table or table_name(model), source or default_source())  # type: ignore[arg-type]
        shown = options or AssetOptions(description=(handler.__doc__ or "").strip() or None)
        Handler(model, handler, "unused")  # a model or handler that cannot work is an error now, not in the first run

        def target(path: str, mysql: MySQLConfig) -> Target:
            return Handler(model, handler, path, retry)

        consumption = ConsumerSpec(name, client_id, target, shown.shows, start=check_start(start))
        return TableAsset(consumption, shown, is_mirror=False)

    return make if handler is None else make(handler)


def consumers_asset(source: str, mysql_key: str, tables: Sequence[TableAsset], code: str = "") -> dg.AssetsDefinition:
    """The step that consumes tables of a source: any of them, each in a thread of its own, up to `max_workers`.

    `code` names the code of its handlers. A mirror may read its table from the server, whose resource is `mysql_key`;
    nothing else here connects to it.
    """
    by_key = {table.key: table.consumption for table in tables}
    begins = {"positions"} if any(table.consumption.start != "all" for table in tables) else set()

    @dg.multi_asset(
        name=f"consumers_{safe_part(source)}",
        specs=[table.spec for table in tables],
        check_specs=[check for table in tables for check in table.check_specs],
        can_subset=True,
        required_resource_keys={"jetstream", "warehouse", mysql_key, *begins},
    )
    def _consume(context: dg.AssetExecutionContext, config: ConsumeConfig) -> Iterator[Made]:
        tag_code(context, code)
        asked = [by_key[key] for key in by_key if key in context.selected_asset_keys]
        _refuse_parts(asked, by_key.values())
        yield from run_consumers(context, config, asked, getattr(context.resources, mysql_key).config(source))

    return _consume


def _refuse_parts(asked: Sequence[ConsumerSpec], known: Iterable[ConsumerSpec]) -> None:
    """Mirrors that change together are consumed together; raises dg.Failure."""
    groups = {one.together for one in asked if one.together is not None}
    missing = [str(one.name) for one in known if one.together in groups and one not in asked]
    if missing:
        raise dg.Failure(
            description=f"Mirrors of the group {', '.join(sorted(map(str, groups)))} change together: select "
            f"{', '.join(missing)} too, or run the job of all tables.",
            allow_retries=False,
        )


def _names(name: TableName) -> dict[str, str]:
    """Real names, which the key may have lost."""
    return {"mysql/database": name.database, "mysql/table": name.table, "binlogsync/source": name.source}
