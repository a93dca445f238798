"""The consumer of one table: the table, and the target that its changes are applied to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from binlogsync.codec.subjects import durable_name
from binlogsync.consume.progress import ProgressKey
from binlogsync.consume.start_position import Start
from binlogsync.table_list import ListedTable
from binlogsync.targets import TableStore
from binlogsync.targets.mirror_options import MirrorOptions
from dagster_binlogsync.keys import TableName

if TYPE_CHECKING:
    from binlogsync.consume.targets import Target
    from binlogsync.mysql.config import MySQLConfig


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A table, and the target that its changes are applied to.

    Attributes:
        name: the table.
        client_id: the client whose progress is stored.
        target: builds the target, given the warehouse or its path, and the connection settings of the source.
        shows: (schema, table) of the warehouse to count and preview; None for no preview.
        together: name of the group of mirrors that are updated in one transaction; None for no group.
        start: where a handler starts if it has no progress yet.
        key: asset key, if it is not the default one of the table.
        listed: columns and comments of the table; None if they are not known.
        mirror: options of the mirror; None for a handler.
    """

    name: TableName
    client_id: str
    target: "Callable[[TableStore | str, MySQLConfig], Target]"
    shows: tuple[str, str] | None
    together: str | None = None
    start: Start = "all"
    key: dg.AssetKey | None = None
    listed: ListedTable | None = field(default=None, compare=False)
    mirror: MirrorOptions | None = None

    @property
    def location(self) -> tuple[str, str] | None:
        """(schema, table) in the warehouse, as far as definitions know it; None for a handler that names none."""
        return self.shows if self.mirror is None else self.mirror.location or self.shows

    @property
    def asset_key(self) -> dg.AssetKey:
        """Key of the asset that the consumer materializes."""
        return self.key or self.name.consumer_key

    @property
    def table(self) -> tuple[str, str]:
        """(database, table)."""
        return self.name.database, self.name.table

    @property
    def durable(self) -> str:
        """Name of the durable consumer in JetStream."""
        return durable_name(self.client_id, *self.table)

    @property
    def progress_key(self) -> ProgressKey:
        """Key of the progress in the warehouse."""
        return ProgressKey(self.client_id, self.name.source, *self.table)
