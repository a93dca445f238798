"""The resource of one source for assets that a project writes itself with `@binlogsync_assets`.

@binlogsync_assets(source="main", tables=["shop.*"])
def shop(context: dg.AssetExecutionContext, binlogsync: BinlogsyncResource):
    yield from binlogsync.consume(context).fetch_column_metadata()
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from binlogsync.modules import code_version
from binlogsync.settings import Settings
from binlogsync.settings.model import TailSection
from dagster_binlogsync.asset_tables import tables_of_context
from dagster_binlogsync.consume.config import ConsumeConfig
from dagster_binlogsync.consume.events import BinlogsyncEventIterator
from dagster_binlogsync.consume.execution import run_consumers
from dagster_binlogsync.consume.run_coordination import tag_code
from dagster_binlogsync.consume.selection import check_groups, warn_uncaptured
from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.discovery import find_uncaptured
from dagster_binlogsync.options import build_tail_config
from dagster_binlogsync.resource_keys import ResourceKeys, SourceResources
from dagster_binlogsync.resources.audit import AuditLog
from dagster_binlogsync.resources.from_settings import build_resources
from dagster_binlogsync.resources.jetstream import JetStream
from dagster_binlogsync.resources.mysql import MySQLSource
from dagster_binlogsync.resources.positions import Positions
from dagster_binlogsync.resources.warehouse import Warehouse
from dagster_binlogsync.setting_field import setting_field
from dagster_binlogsync.tail.job import TailConfig


class BinlogsyncResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One source, and all that its consumers connect to. `from_settings` makes it from the settings."""

    source: str = Field(default="main", description="Name of the source.")
    mysql: MySQLSource = Field(description="The server; mirrors read existing rows from it.")
    jetstream: JetStream = Field(description="The stream of the changes.")
    positions: Positions = Field(description="The position store, with the bookmarks.")
    audit: AuditLog = Field(description="The audit log.")
    warehouse: Warehouse = Field(description="The DuckDB file of the mirrors.")
    include: list[str] = setting_field(TailSection, "include", default=[])
    exclude: list[str] = setting_field(TailSection, "exclude", default=[])
    _tail_config: TailConfig = PrivateAttr(default_factory=TailConfig)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, source: str | None = None) -> "BinlogsyncResource":
        """The resource of a source of the settings; None reads the settings, and takes the first source."""
        settings = settings or Settings.read()
        name = settings.source(source)
        config = build_tail_config(settings)
        resources = build_resources(settings, {name: ResourceKeys()})
        made = cls(source=name, include=config.include, exclude=config.exclude, **resources)
        made._tail_config = config
        return made

    @property
    def tail_config(self) -> TailConfig:
        """Defaults of the options of a tail of this source: those of the settings, if it was made from settings.

        In a run only `include` and `exclude` are, because Dagster makes the resource again from its fields.
        """
        return self._tail_config.model_copy(update={"include": self.include, "exclude": self.exclude})

    def parts(self, keys: ResourceKeys) -> dict[str, Any]:
        """The connections as separate resources, by key."""
        return {getattr(keys, kind.name): getattr(self, kind.name) for kind in fields(ResourceKeys)}

    def consume(
        self, context: dg.AssetExecutionContext, config: ConsumeConfig | None = None
    ) -> BinlogsyncEventIterator:
        """Consume the selected tables of the asset until no more changes arrive.

        Returns an iterator of a MaterializeResult per table, with its check results; a table that is blocked only has
        check results, and the iterator raises dg.Failure at the end.

        Raises dg.Failure for a part of a group of mirrors.
        """
        every = tables_of_context(context)
        consumers = [table.consumer for table in every if table.key in context.selected_asset_keys]
        check_groups(consumers, [table.consumer for table in every])
        warn_uncaptured(context, consumers, find_uncaptured(every, self.tail_config))
        return BinlogsyncEventIterator(self._run(context, config or ConsumeConfig(), consumers), consumers, self)

    def _run(
        self, context: dg.AssetExecutionContext, config: ConsumeConfig, consumers: Sequence[ConsumerSpec]
    ) -> Iterator[Any]:
        tag_code(context, code_version())  # by this tag, other runs know that this one consumes its assets
        yield from run_consumers(context, config, consumers, SourceResources(self, ResourceKeys()))
