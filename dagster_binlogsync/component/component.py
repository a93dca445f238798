"""`dagster_binlogsync.BinlogSyncComponent`: the tail and the consumers of one source, from YAML.

    type: dagster_binlogsync.BinlogSyncComponent
    attributes:
      source: main
      mysql: {host: db.example.com, user: binlogsync, password: "{{ secret('MYSQL_PASSWORD') }}"}
      nats: {url: "nats://127.0.0.1:4222"}
      tables: ["shop.*"]

It connects to nothing when it is loaded. Patterns are resolved from the list of tables that the tail stores, or from
the state that `dg utils refresh-defs-state` stores, whichever is newer; without patterns there is no state.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.component.state_backed_component import StateBackedComponent
from dagster.components.resolved.context import ResolutionContext
from dagster.components.utils.defs_state import DefsStateConfig, DefsStateConfigArgs, ResolvedDefsStateConfig
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from dagster_shared.serdes.objects.models.defs_state_info import DefsStateManagementType
from pydantic import BaseModel

from binlogsync.codec.subjects import check_source
from binlogsync.collection import without_collection
from binlogsync.errors import ConfigError
from binlogsync.table_list import TableList, parse_table_list, save_table_list
from dagster_binlogsync.checks.hourly import build_check_schedule
from dagster_binlogsync.component.connections import (
    MySQLConnection,
    NatsServerOptions,
    PositionStoreOptions,
    StreamOptions,
)
from dagster_binlogsync.component.scaffolder import BinlogSyncScaffolder
from dagster_binlogsync.component.table_entries import Entries, TableEntry
from dagster_binlogsync.component.tail_options import LoadOptions, TailSettings
from dagster_binlogsync.component.template_check import check_templates
from dagster_binlogsync.consume.config import ConsumeConfig, ContinuousConfig
from dagster_binlogsync.consume.execution import ConsumerEvent, run_consumers
from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.definitions import assemble_definitions, build_source_sensors
from dagster_binlogsync.discovery import collect_definitions
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.mirror_patterns import MirrorPattern, StoredLists
from dagster_binlogsync.resource_keys import ResourceKeys, SourceResources
from dagster_binlogsync.resources.audit import AuditLog
from dagster_binlogsync.resources.warehouse import Warehouse
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.tail.job import TailConfig
from dagster_binlogsync.translator import BinlogsyncTableProps, BinlogsyncTranslator

Translation = Annotated[
    TranslationFn[BinlogsyncTableProps],
    TranslationFnResolver[BinlogsyncTableProps](
        template_vars_for_translation_fn=lambda props: {"table": props.name, "props": props}
    ),
]


REFRESH = "dg utils refresh-defs-state"


@dg.scaffold_with(BinlogSyncScaffolder)
@dataclass(kw_only=True)
class BinlogSyncComponent(StateBackedComponent, dg.Resolvable):
    """Change data capture of one MySQL or MariaDB server: its tail, its mirrors and its handlers.

    Attributes:
        source: name of the source; it is in the names of all definitions.
        mysql, nats, stream, positions: the connections.
        warehouse, audit: the DuckDB files; audit is "off" by default. Relative paths are below the project.
        storage_version: storage format of a new warehouse, as a version of DuckDB like v1.4.0.
        tables: "database.table" or a pattern, for mirrors, or an entry with options or a handler.
        exclude: patterns of tables to leave out of all patterns, and of the tail.
        capture: tables that the tail captures; default: those of `tables`.
        tail: options of the tail, such as `start` and the length of its runs, `shift_s`.
        loads: limits of loads of mirrors.
        consume: "on_backlog" or "continuous", as BINLOGSYNC_CONSUME.
        sensors: "running" or "stopped": whether sensors and the hourly checks are on by default.
        replay_assets: whether each table has a replay asset, partitioned by bookmarks, for backfills.
        show_values: whether Dagster shows row values.
        translation: changes of the asset specs; `table` and `props` are in scope.
        table_lists: folder of the list of tables that the tail stores.
        defs_state: where `dg utils refresh-defs-state` stores the list of tables.
    """

    source: str
    mysql: MySQLConnection
    nats: NatsServerOptions = field(default_factory=NatsServerOptions)
    stream: StreamOptions = field(default_factory=StreamOptions)
    positions: PositionStoreOptions = field(default_factory=PositionStoreOptions)
    warehouse: str = ".binlogsync/warehouse.duckdb"
    audit: str = "off"
    storage_version: str | None = None
    tables: Entries = ()
    exclude: Sequence[str] = ()
    capture: Sequence[str] | None = None
    tail: TailSettings = field(default_factory=TailSettings)
    loads: LoadOptions = field(default_factory=LoadOptions)
    consume: Literal["on_backlog", "continuous"] = "on_backlog"
    sensors: Literal["running", "stopped"] = "stopped"
    replay_assets: bool = False
    show_values: bool = False
    translation: Translation | None = None
    table_lists: str = ".binlogsync/tables"
    defs_state: ResolvedDefsStateConfig = field(
        default_factory=lambda: DefsStateConfigArgs(
            management_type=DefsStateManagementType.LOCAL_FILESYSTEM, refresh_if_dev=False
        )
    )

    def __post_init__(self) -> None:
        """Raises ConfigError for a name that is no source, and if nothing is captured."""
        check_source(self.source)
        if not (self.tables if self.capture is None else self.capture):
            raise ConfigError(
                f"the component of source {self.source} has neither tables nor capture, so its tail would capture all "
                'databases of the server; list tables, or write capture: ["*.*"] if that is what you want'
            )
        self.tables = [TableEntry(table=each) if isinstance(each, str) else each for each in self.tables]
        self.folder = Path()

    @classmethod
    def get_additional_scope(cls) -> Mapping[str, Any]:
        """`secret('NAME')` in YAML is the variable of that name, whose value Dagster reads when a run starts."""
        return {"secret": dg.EnvVar}

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> "BinlogSyncComponent":
        """The component, which has state only if a pattern has to be resolved. Raises ConfigError."""
        component = super(StateBackedComponent, cls).load(attributes, context)
        if component.has_patterns:
            component = super().load(attributes, context)  # which registers the state
        component.folder = context.project_root
        return component

    @classmethod
    def resolve_from_model(cls, context: ResolutionContext, model: BaseModel) -> Any:
        """The component with its templates resolved. Raises ConfigError for an expression that has no value."""
        check_templates(model, context.scope)
        return super().resolve_from_model(context, model)

    @property
    def defs_state_config(self) -> DefsStateConfig:
        """Where the state is stored."""
        return DefsStateConfig.from_args(self.defs_state, default_key=f"BinlogSyncComponent[{self.source}]")

    @property
    def has_patterns(self) -> bool:
        """Whether a table is a pattern."""
        return any(entry.is_pattern for entry in self.tables)

    @property
    def keys(self) -> ResourceKeys:
        """The keys of the resources."""
        return ResourceKeys.of_source(self.source)

    def get_asset_spec(self, props: BinlogsyncTableProps) -> dg.AssetSpec:
        """The asset spec of a table, with the changes of `translation`. A subclass may override it."""
        spec = BinlogsyncTranslator().get_asset_spec(props)
        return spec if self.translation is None else self.translation(spec, props)

    def execute(
        self,
        context: dg.AssetExecutionContext,
        config: ConsumeConfig,
        consumers: Sequence[ConsumerSpec],
        resources: SourceResources,
    ) -> Iterator[ConsumerEvent]:
        """Consume tables in a run, yielding their materializations and check results. A subclass may override it."""
        yield from run_consumers(context, config, consumers, resources)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions; see StateBackedComponent."""
        self.folder = context.project_root
        return super().build_defs(context) if self.has_patterns else self.build_defs_from_state(context, None)

    @without_collection()
    def build_defs_from_state(self, context: dg.ComponentLoadContext, state_path: Path | None) -> dg.Definitions:
        """The definitions with the tables of the newer of the two lists. Raises ConfigError."""
        options, running = self._tail_config(), self.sensors == "running"
        lists = self.find_lists(state_path)
        consumers = collect_definitions(self._consumers(lists.load(self.source)))
        continuous = ContinuousConfig(shift_s=options.shift_s) if self.consume == "continuous" else None
        return assemble_definitions(
            {self.source: self.keys},
            consumers,
            options,
            resources=self.build_resources(),
            continuous=continuous,
            sensors=build_source_sensors(
                self.source, consumers, options, self.keys, continuous, running=running, lists=lists
            ),
            schedules=[build_check_schedule(self.source, running=running)],
            replay_assets=self.replay_assets,
            execute=self.execute,
            lists=lists,
        )

    def write_state_to_path(self, state_path: Path) -> None:
        """Read the list of tables from the server, for `dg utils refresh-defs-state`. Raises SourceError."""
        from binlogsync.mysql.table_list import read_table_list

        with self.mysql.build().process_config_and_initialize_cm() as mysql:
            tables = read_table_list(mysql.config(self.source), self.source)
        save_table_list(self._lists(), tables)
        state_path.parent.mkdir(parents=True, exist_ok=True)
        state_path.write_text(tables.to_json(), encoding="utf-8")

    def build_resources(self) -> dict[str, Any]:
        """The resources by key. Raises ConfigError."""
        keys, audit = self.keys, self.audit if self.audit in ("", "off") else str(self.folder / self.audit)
        return {
            keys.mysql: self.mysql.build(),
            keys.jetstream: self.stream.build(self.nats),
            keys.positions: self.positions.build(self.nats, self.folder),
            keys.audit: AuditLog(path=audit),
            keys.warehouse: Warehouse(
                path=str(self.folder / self.warehouse),
                show_values=self.show_values,
                storage_version=self.storage_version,
            ),
        }

    def _consumers(self, tables: TableList | None) -> Iterator[TableAsset | MirrorPattern]:
        translator, limits = _ComponentTranslator(self), self.loads.limits
        for entry in self.tables:
            if entry.handler is not None:
                yield entry.build_consumer(self.source, translator)
            elif entry.is_pattern:
                yield entry.build_mirrors(self.source, tables, self.exclude, translator, limits)
            else:
                yield entry.build_mirror(TableName.parse(entry.table, self.source), tables, translator, limits)

    def find_lists(self, state_path: Path | None) -> StoredLists:
        """The list of tables of the tail, and that of the state. Raises ConfigError."""
        if state_path is None:
            return StoredLists(self._lists(), refresh=REFRESH)
        state = parse_table_list(state_path.read_text(encoding="utf-8"), f"the state of {self.source}")
        return StoredLists(self._lists(), state, REFRESH)

    def _lists(self) -> Path:
        return self.folder / self.table_lists

    def _tail_config(self) -> TailConfig:
        captured = [entry.table for entry in self.tables] if self.capture is None else list(self.capture)
        return self.tail.build(captured, self.exclude, str(self._lists()))


class _ComponentTranslator(BinlogsyncTranslator):
    """The translator that calls the component, so that a subclass can override `get_asset_spec` of either."""

    def __init__(self, component: BinlogSyncComponent) -> None:
        self._component = component

    def get_asset_spec(self, props: BinlogsyncTableProps) -> dg.AssetSpec:
        return self._component.get_asset_spec(props)
