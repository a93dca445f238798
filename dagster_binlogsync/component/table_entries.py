"""The tables of the component in YAML: patterns and options of mirrors, and references to handlers."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import dagster as dg
from dagster.components.resolved.context import ResolutionContext

from binlogsync.change import Change
from binlogsync.errors import ConfigError
from binlogsync.table_list import TableList
from binlogsync.targets.mirror_options import (
    DEFAULT_OPTIONS,
    OPTION_NAMES,
    MirrorOptions,
    OnDrop,
    SchemaContract,
)
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.mirror_patterns import MirrorOptionsOfPattern, MirrorPattern, resolve_pattern
from dagster_binlogsync.table_asset import AssetOptions, TableAsset
from dagster_binlogsync.tables import CLIENT_ID, mirror_table, table_consumer
from dagster_binlogsync.translator import BinlogsyncTranslator

if TYPE_CHECKING:
    from binlogsync.snapshot.throttle import LoadLimits


def import_reference(context: ResolutionContext, reference: str) -> Any:
    """The object of "package.module.name". Raises ConfigError if it does not exist."""
    text = context.resolve_value(reference, as_type=str)
    module, _, name = text.replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{text!r} cannot be imported ({error}); write package.module.name of a function, or of what "
            "table_consumer returns"
        ) from error


Reference = Annotated[Any, dg.Resolver(import_reference, model_field_type=str)]


@dataclass(kw_only=True)
class TableEntry(dg.Resolvable):
    """A table, or a pattern of tables, and its consumer: a mirror, or a handler.

    Attributes:
        table: "database.table"; for a mirror also a pattern, "shop.*".
        exclude: patterns of tables to leave out of the pattern.
        handler: "package.module.name" of a handler function, or of what `table_consumer` returns; without it, the
            table is mirrored.
        row_type: "package.module.name" of the model; default: that of the handler's annotation Change[Model].
        deleted_at, history, on_drop, key, target_schema, target_table, metadata, schema_contract: as for `mirror`.
        start: where a handler starts, as for `table_consumer`.
        client_id: the client whose progress is stored.
        group, owners, tags, description, fresh_within_s: of the asset.
    """

    table: str
    exclude: Sequence[str] = ()
    handler: Reference | None = None
    row_type: Reference | None = None
    deleted_at: str | None = None
    history: bool = False
    on_drop: OnDrop = "drop"
    key: Sequence[str] = ()
    target_schema: str = DEFAULT_OPTIONS.target_schema
    target_table: str = DEFAULT_OPTIONS.target_table
    metadata: Sequence[str] = ()
    schema_contract: SchemaContract = "follow"
    start: str = "all"
    client_id: str = CLIENT_ID
    group: str = "tables"
    owners: Sequence[str] = ()
    tags: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    fresh_within_s: float | None = None

    @property
    def is_pattern(self) -> bool:
        """Whether the table is a pattern, which the list of tables resolves."""
        return self.handler is None and "`" not in self.table and any(sign in self.table for sign in "*?[")

    def build_consumer(self, source: str, translator: BinlogsyncTranslator) -> TableAsset:
        """The handler. Raises ConfigError, ModelError."""
        handler: Any = self.handler
        if isinstance(handler, TableAsset):
            self._check_asset(handler, source)
            return handler.translate(translator)
        if given := [name for name in OPTION_NAMES if getattr(self, name) != _OPTIONS[name]]:
            raise ConfigError(f"{self.table} has a handler, so {', '.join(given)} would have no effect; remove it")
        model = self.row_type or find_model(handler)
        found: TableAsset = table_consumer(
            model,
            handler,
            table=self.table,
            source=source,
            client_id=self.client_id,
            start=self.start,
            options=self._options(),
            translator=translator,
        )
        return found

    def _check_asset(self, asset: TableAsset, source: str) -> None:
        """Raise ConfigError if this entry differs from the asset that `handler` names."""
        wanted, found = TableName.parse(self.table, source), asset.name
        if found.source != source:
            raise ConfigError(
                f"the handler of {wanted} is a consumer of source {found.source}, and this component has source "
                f"{source}; write table_consumer(..., source={source!r})"
            )
        if found != wanted:
            raise ConfigError(f"the handler of {wanted} is the consumer of {found}; write table: {found}")
        if given := [name for name, default in _OPTIONS.items() if getattr(self, name) != default]:
            raise ConfigError(
                f"the handler of {wanted} is what table_consumer returns, so {', '.join(given)} of its entry would "
                "have no effect; give them to table_consumer, or name the function itself"
            )

    def build_mirrors(
        self,
        source: str,
        tables: TableList | None,
        exclude: Sequence[str],
        translator: BinlogsyncTranslator,
        limits: "Callable[[], LoadLimits]",
    ) -> MirrorPattern:
        """The mirrors of the tables of the list that match. Raises ConfigError."""
        kept = MirrorOptionsOfPattern(self._keeps(), self.client_id, self._options(), translator, limits)
        return resolve_pattern(tables, source, [self.table], [*self.exclude, *exclude], kept)

    def build_mirror(
        self,
        name: TableName,
        tables: TableList | None,
        translator: BinlogsyncTranslator,
        limits: "Callable[[], LoadLimits]",
    ) -> TableAsset:
        """The mirror of one table, which need not be in the list. Raises ConfigError."""
        return mirror_table(
            name,
            self._keeps(),
            client_id=self.client_id,
            options=self._options(),
            listed=None if tables is None else tables.find(name.database, name.table),
            translator=translator,
            load_limits=limits,
        )

    def _keeps(self) -> MirrorOptions:
        return MirrorOptions.of(**{name: getattr(self, name) for name in OPTION_NAMES})

    def _options(self) -> AssetOptions:
        within = None if self.fresh_within_s is None else timedelta(seconds=self.fresh_within_s)
        return AssetOptions(self.group, within, self.description, tuple(self.tags.items()), owners=tuple(self.owners))


_OPTIONS: dict[str, Any] = {
    each.name: each.default_factory() if each.default_factory is not MISSING else each.default
    for each in fields(TableEntry)
    if each.name not in ("table", "handler")
}
"""The options of an entry, with their defaults."""


def resolve_entries(context: ResolutionContext, values: Sequence[Any]) -> Sequence[TableEntry]:
    """The entries of the YAML: a text is a table, or a pattern of tables, to mirror."""
    return [
        TableEntry(table=context.resolve_value(value, as_type=str))
        if isinstance(value, str)
        else TableEntry.resolve_from_model(context.at_path(number), value)
        for number, value in enumerate(values)
    ]


_ENTRIES: Any = Sequence[str | TableEntry.model()]  # type: ignore[misc]
Entries = Annotated[
    Sequence[TableEntry],
    dg.Resolver(
        resolve_entries,
        model_field_type=_ENTRIES,
        description='"database.table" or a pattern ("shop.*") to mirror, or an entry with options or a handler.',
        examples=[["shop.*", {"table": "crm.accounts", "deleted_at": "deleted_at"}]],
    ),
]


def find_model(handler: Callable[..., object]) -> Any:
    """The model of a handler of Change[Model] or list[Change[Model]]; None for a handler of frames and batches."""
    try:
        hints = [hint for name, hint in get_type_hints(handler).items() if name != "return"]
    except NameError:  # an annotation that cannot be resolved; table_consumer reports it
        return None
    hint = hints[0] if hints else None
    if get_origin(hint) in (list, Sequence):
        [hint] = get_args(hint)
    return get_args(hint)[0] if get_origin(hint) is Change else None
