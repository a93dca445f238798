"""The audit log: every change and every flush in a DuckDB file, beside the stream."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
from pydantic import Field

from binlogsync.sinks.audit import AuditSink
from resources import environment


class AuditLog(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A second sink of the tail; off unless a path is given, because it stores every change once more."""

    path: str = Field(default="off", description='The DuckDB file; made when missing. "off" keeps no audit log.')

    def file(self) -> Path | None:
        """Where it is; None when it is off."""
        return None if self.path in ("", "off") else Path(self.path)

    @contextmanager
    def sinks(self) -> Iterator[Sequence[AuditSink]]:
        """The sink, which the tail opens; none when it is off. Closed with the block."""
        path = self.file()
        if path is None:
            yield ()
            return
        with closing(AuditSink(path)) as sink:
            yield (sink,)

    @classmethod
    def from_environment(cls) -> "AuditLog":
        """BINLOGSYNC_AUDIT_PATH."""
        return cls(path=environment.text("BINLOGSYNC_AUDIT_PATH", "off"))
