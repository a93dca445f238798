"""The DuckDB file of the mirrors and of what handlers write."""

import dagster as dg
from pydantic import Field

from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConsumeError
from resources import environment


class Warehouse(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A DuckDB file. It is open only for each short transaction, so that many runs, and people, can share it."""

    path: str = Field(default=".binlogsync/warehouse.duckdb", description="The file; made when missing.")
    show_values: bool = Field(
        default=False,
        description="Whether pages show row values: first rows of a table, the key of a change that failed. They are "
        "then kept in Dagster's event log.",
    )
    lock_timeout_s: float = Field(
        default=60.0, gt=0, description="How long a lock held by another process is waited for."
    )

    def file(self) -> DuckFile:
        """The file; `transaction()` of it is one transaction. Nothing is opened before that."""
        return DuckFile(self.path, self.lock_timeout_s, ConsumeError)

    @classmethod
    def from_environment(cls) -> "Warehouse":
        """BINLOGSYNC_WAREHOUSE_PATH and BINLOGSYNC_SHOW_VALUES."""
        return cls(
            path=environment.text("BINLOGSYNC_WAREHOUSE_PATH", ".binlogsync/warehouse.duckdb"),
            show_values=environment.switch("BINLOGSYNC_SHOW_VALUES", False),
        )
