"""The DuckDB file for mirrors and for the output of handlers."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from binlogsync.errors import ConsumeError, TargetBusyError
from binlogsync.targets import Holder

if TYPE_CHECKING:
    from binlogsync.targets.duckdb.store import DuckStore

REPORT_WAIT_S = 2.0


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

    def file(self, timeout_s: float | None = None) -> "DuckStore":
        """The file. `transaction()` opens it for one transaction; `timeout_s` is `lock_timeout_s` by default."""
        from binlogsync.targets.duckdb.store import DuckStore

        limit_s = self.lock_timeout_s if timeout_s is None else timeout_s
        return DuckStore(self.path, limit_s, ConsumeError, self.storage_version)

    def report_file(self) -> "DuckStore":
        """The file, for reads that can be left out: they wait only a moment while another process has it open."""
        file = self.file()
        file.holder_wait_s = REPORT_WAIT_S
        return file

    def find_holder(self, held_s: float) -> Holder | None:
        """Another process that has had the file open for so many seconds, while this process waited for it."""
        holder = self.file().holder
        return holder if holder is not None and holder.held_s >= held_s else None

    def can_read(self) -> bool:
        """Whether the file can be opened within a moment; at once if another process is known to have it open."""
        file = self.report_file()
        if self.find_holder(REPORT_WAIT_S) is not None:
            file.holder_wait_s = 0.0
        try:
            with file.begin():
                return True
        except TargetBusyError:
            return False
