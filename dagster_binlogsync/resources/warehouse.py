"""The DuckDB file for mirrors and for the output of handlers."""

import dagster as dg
from pydantic import Field

from binlogsync.errors import ConsumeError
from binlogsync.targets.duckdb.store import DuckStore


class Warehouse(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A DuckDB file. It is opened only for short transactions, so that several runs and users can share it."""

    path: str = Field(
        default=".binlogsync/warehouse.duckdb", description="Path of the file, which is created if missing."
    )
    show_values: bool = Field(
        default=False,
        description="Whether Dagster shows row values: first rows of a table, key of a failed change. They are then "
        "stored in Dagster's event log.",
    )
    storage_version: str | None = Field(
        default=None,
        description="Storage format of a new file, as a version of DuckDB like v1.4.0. Default: the newest.",
    )
    lock_timeout_s: float = Field(default=60.0, gt=0, description="Seconds to wait for a lock held by another process.")

    def file(self, timeout_s: float | None = None) -> DuckStore:
        """The file. `transaction()` opens it for one transaction; `timeout_s` is `lock_timeout_s` by default."""
        limit_s = self.lock_timeout_s if timeout_s is None else timeout_s
        return DuckStore(self.path, limit_s, ConsumeError, self.storage_version)
