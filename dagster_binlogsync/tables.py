"""Asset factories: `mirror` requires no code, `table_consumer` a model and a handler. Both return a `TableAsset`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, Unpack, overload

from binlogsync.consume.handler_signature import HandlerFunction, read_signature
from binlogsync.consume.progress import TableProgress
from binlogsync.consume.retry import Retry
from binlogsync.consume.start_position import Start, check_start
from binlogsync.errors import ConfigError
from binlogsync.models.model import Model, table_name
from binlogsync.settings import Settings
from binlogsync.table_list import ListedTable, load_table_list
from binlogsync.targets import TableStore
from binlogsync.targets.mirror_options import MirrorKeywords, MirrorOptions
from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.table_asset import AssetOptions, TableAsset
from dagster_binlogsync.translator import BinlogsyncTranslator

if TYPE_CHECKING:
    from binlogsync.consume.targets import Target
    from binlogsync.mysql.config import MySQLConfig
    from binlogsync.snapshot.throttle import LoadLimits

__all__ = ["AssetOptions", "TableAsset", "mirror", "table_consumer"]

CLIENT_ID = "dagster"
M = TypeVar("M")


def mirror(
    table: str,
    *,
    together: str | None = None,
    source: str | None = None,
    client_id: str = CLIENT_ID,
    options: AssetOptions | None = None,
    translator: BinlogsyncTranslator | None = None,
    **keeps: Unpack[MirrorKeywords],
) -> TableAsset:
    """A DuckDB table of the warehouse that stays equal to the MySQL table `table` ("shop.orders").

    Args:
        together: name of a group of mirrors. A MySQL transaction that changes several of them becomes visible in all of
        them at once. A run has to consume all mirrors of the group.
        source: name of the source, by default the first one.
        client_id: the client whose progress is stored.
        options: presentation of the asset.
        translator: makes the asset spec.
        keeps: what the mirror keeps, and how (binlogsync/targets/mirror_options.py describes them):
            deleted_at: name of an additional column with the commit time of the delete; deleted rows are kept.
            history: True keeps every version of every row, with its commit times, in the table `<table>__history`.
            on_drop: "drop", "keep" or "archive" the table when the source drops its own.
            key: columns that identify a row, for a table without a primary key, or instead of it.
            target_schema, target_table: names in the warehouse, with {source}, {database} and {table}.
            metadata: additional columns about the last change of each row: "_op", "_commit_ts", "_gtid".
            schema_contract: "follow" the DDL of the source, or "freeze" the columns.

    Raises ConfigError, also for columns that the listed table does not have.
    """
    settings = Settings.read()
    name = TableName.parse(table, source or settings.source())
    return mirror_table(
        name,
        MirrorOptions.of(**keeps),
        together=together,
        client_id=client_id,
        options=options,
        listed=find_listed(name, settings),
        translator=translator,
    )


def mirror_table(
    name: TableName,
    keeps: MirrorOptions,
    *,
    together: str | None = None,
    client_id: str = CLIENT_ID,
    options: AssetOptions | None = None,
    listed: ListedTable | None = None,
    translator: BinlogsyncTranslator | None = None,
    load_limits: "Callable[[], LoadLimits] | None" = None,
) -> TableAsset:
    """The mirror of a table; `mirror` describes the arguments.

    `load_limits` returns the limits of loads when a run starts; None for those of the settings.
    """
    limits = load_limits or (lambda: Settings.read().load_limits())
    keeps = keeps.for_table(name.source, name.database, name.table)
    if listed is not None and listed.columns:
        keeps.check_columns(str(name), [column.name for column in listed.columns])

    def target(store: TableStore | str, mysql: "MySQLConfig") -> "Target":
        from binlogsync.mirror.target import Mirror

        return Mirror(store, name.database, name.table, mysql, keeps, limits())

    consumer = ConsumerSpec(name, client_id, target, (name.database, name.table), together, mirror=keeps)
    return TableAsset.build(consumer, options or AssetOptions(), is_mirror=True, listed=listed, translator=translator)


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
    translator: BinlogsyncTranslator | None = ...,
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
    translator: BinlogsyncTranslator | None = ...,
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
    translator: BinlogsyncTranslator | None = ...,
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
    translator: BinlogsyncTranslator | None = None,
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
        translator: makes the asset spec.

    Raises ConfigError, and ModelError for a class that is not a model.
    """

    def make(handler: Callable[..., object]) -> TableAsset:
        if table is None and model is None:
            raise ConfigError('without a model, table="database.table" is required')
        settings = Settings.read()
        name = TableName.parse(table or table_name(model), source or settings.source())  # type: ignore[arg-type]
        shown = options or AssetOptions()
        # Both report an invalid handler or model now, not in the first run.
        read_signature(handler, model)
        if model is not None:
            Model(model)

        def target(store: TableStore | str, mysql: "MySQLConfig") -> "Target":
            from binlogsync.consume.handler import Handler
            from binlogsync.targets.factory import open_store

            return Handler(model, handler, TableProgress(open_store(store)), retry)

        consumer = ConsumerSpec(name, client_id, target, shown.shows, start=check_start(start))
        description = (handler.__doc__ or "").strip() or None
        return TableAsset.build(
            consumer,
            shown,
            is_mirror=False,
            listed=find_listed(name, settings),
            description=description,
            translator=translator,
        )

    return make if handler is None else make(handler)


def find_listed(name: TableName, settings: Settings) -> ListedTable | None:
    """Columns and comments of the table from the list that the tail of its source stored; None if it is not there."""
    tables = load_table_list(settings.table_lists(), name.source)
    return None if tables is None else tables.find(name.database, name.table)
