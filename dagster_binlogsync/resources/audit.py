"""The audit log: a DuckDB file with every change and every flush."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from binlogsync.settings.model import AuditSection
from dagster_binlogsync.setting_field import setting_field

if TYPE_CHECKING:
    from binlogsync.sinks.audit import AuditSink


class AuditLog(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A second sink of the tail. Off by default, because it stores every change a second time."""

    path: str = setting_field(AuditSection, "path")

    def file(self) -> Path | None:
        """Path of the file. None if the audit log is off."""
        return None if self.path in ("", "off") else Path(self.path)

    @contextmanager
    def sinks(self) -> "Iterator[Sequence[AuditSink]]":
        """The sink, for the tail to open, or none if the audit log is off. It is closed at the end of the block."""
        from binlogsync.sinks.audit import AuditSink

        path = self.file()
        if path is None:
            yield ()
            return
        with closing(AuditSink(path)) as sink:
            yield (sink,)
