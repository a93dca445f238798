"""Finds the consumer of a table in the user's project, as Dagster does: among the top-level objects of its modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from binlogsync.consume.targets import Target
from binlogsync.errors import ConfigError
from binlogsync.modules import import_within, objects_of
from binlogsync.mysql import MySQLConfig
from binlogsync.replay.factory import SourceTable
from binlogsync.targets import TableStore


class ConsumerLike(Protocol):
    """The table that is consumed, and its target."""

    client_id: str
    target: Callable[[TableStore | str, MySQLConfig], Target]
    """Creates the target, from the path of the warehouse and the connection settings of the source."""


class ProjectConsumer(Protocol):
    """The attributes used here of what `mirror` and `table_consumer` of a Dagster project return."""

    consumer: ConsumerLike
    is_mirror: bool


def find_consumer(package: str, table: SourceTable) -> ProjectConsumer:
    """The table's consumer in the package. Raises ConfigError if the package or the consumer does not exist."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        values = list(objects_of(import_within(package)))
    except ImportError as error:
        raise ConfigError(
            f"the consumers of this project cannot be imported from {package} ({error}); run this in the project's "
            "folder, or name their package in BINLOGSYNC_CONSUMERS"
        ) from error
    for value in (consumer for each in values for consumer in _consumers_of(each)):
        if hasattr(value, "consumer") and _table_name(value) == (table.source, table.database, table.table):
            found: ProjectConsumer = value
            return found
    raise ConfigError(
        f"{package} has no consumer of {table.database}.{table.table} of source {table.source}; add one there, or "
        "choose another target"
    )


def _consumers_of(value: Any) -> Sequence[Any]:
    """The value itself; of a pattern of mirrors, its mirrors."""
    return value.tables if hasattr(value, "find_matching") else (value,)


def _table_name(value: Any) -> tuple[Any, ...]:
    name = getattr(value, "name", None)
    return tuple(getattr(name, part, None) for part in ("source", "database", "table"))
