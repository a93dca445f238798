"""Where the progress of a client is: in the file that was named, in the warehouse for Dagster's consumers, else in
NATS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binlogsync.consume.progress import DuckProgress, ProgressKey
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.duckfile import DuckFile
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.settings import Settings
from binlogsync.stream.client import NatsConnection

DAGSTER = "dagster"
PATIENCE_S = 10.0


@contextmanager
def open_progress(settings: Settings, key: ProgressKey, file: Path | None) -> Iterator[DuckProgress | NatsProgress]:
    """The store, for as long as the block lasts. Raises ConfigError for a file that is not there."""
    path = file or (settings.warehouse_path() if key.client == DAGSTER else None)
    if path is None:
        with NatsConnection(settings.nats(PATIENCE_S), f"binlogsync {key.client}") as connection:
            yield NatsProgress(connection, key.source)
        return
    if not path.exists():
        raise ConfigError(f"{path} does not exist, so it holds no progress; name the file with --progress")
    yield DuckProgress(DuckFile(path, error=ConsumeError))
