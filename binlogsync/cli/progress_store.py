"""Opens the progress of a client: in the given file, in the warehouse for Dagster's consumers, else in NATS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binlogsync.consume.progress import ProgressKey, TableProgress
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.errors import ConfigError
from binlogsync.nats.client import NatsConnection
from binlogsync.settings import Settings
from binlogsync.targets.factory import open_store

DAGSTER = "dagster"
NATS_TIMEOUT_S = 10.0


@contextmanager
def open_progress(settings: Settings, key: ProgressKey, file: Path | None) -> Iterator[TableProgress | NatsProgress]:
    """The progress store, open for the duration of the block. Raises ConfigError if the file does not exist."""
    path = file or (settings.warehouse_path() if key.client == DAGSTER else None)
    if path is None:
        with NatsConnection(settings.nats(NATS_TIMEOUT_S), f"binlogsync {key.client}") as connection:
            yield NatsProgress(connection, key.source)
        return
    if not path.exists():
        raise ConfigError(f"{path} does not exist, so it contains no progress; give the file with --progress")
    yield TableProgress(open_store(path))
