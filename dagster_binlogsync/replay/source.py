"""A source as replay, bookmark and rewind jobs need it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from binlogsync.filters import TableFilter
from dagster_binlogsync.keys import TableName
from dagster_binlogsync.resource_keys import ResourceKeys, SourceResources
from dagster_binlogsync.table_asset import TableAsset
from dagster_binlogsync.tail.job import TailConfig

if TYPE_CHECKING:
    from binlogsync.replay.sources import ChangeSources

RESOURCES = ("mysql", "positions", "jetstream", "warehouse")


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """A source with its consumers.

    Attributes:
        name: name of the source.
        keys: keys of its resources.
        tables: its consumers.
        options: options of its tail, which select the captured tables.
    """

    name: str
    keys: ResourceKeys
    tables: Sequence[TableAsset]
    options: TailConfig

    def find(self, text: str) -> tuple[TableName, TableAsset | None]:
        """Parse "database.table" and find its consumer, if there is one. Raises ConfigError."""
        name = TableName.parse(text, self.name)
        return name, next((table for table in self.tables if str(table.name) == str(name)), None)

    @contextmanager
    def sources(self, resources: SourceResources, name: TableName) -> "Iterator[ChangeSources]":
        """Open everything that may contain past changes of the table: stream, binlogs and bookmarks."""
        from binlogsync.replay.factory import SourceTable, open_sources

        table = SourceTable(self.name, name.database, name.table)
        captured = TableFilter(tuple(self.options.include), tuple(self.options.exclude))
        config = resources.mysql.config(self.name)
        with (
            resources.positions.store() as store,
            open_sources(table, config, resources.jetstream.options(), store, captured) as sources,
        ):
            yield sources
