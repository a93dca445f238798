"""Finds the consumer of a table among modules of the user's, as Dagster does: by looking at what is at their top."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from binlogsync.backfill.opening import Asked
from binlogsync.consume.targets import Target
from binlogsync.errors import ConfigError
from binlogsync.modules import import_within, objects_of
from binlogsync.mysql import MySQLConfig


class Consumption(Protocol):
    """What is consumed, and into what."""

    client_id: str
    target: Callable[[str, MySQLConfig], Target]
    """Makes it, given the path of the warehouse, and how to reach the source."""


class Found(Protocol):
    """What `mirror` and `table_consumer` of a Dagster project give, as far as it is of use here."""

    consumption: Consumption
    is_mirror: bool


def find_consumer(package: str, asked: Asked) -> Found:
    """The table's consumer in the package. Raises ConfigError where there is none, or no such package."""
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
    for value in values:
        if hasattr(value, "consumption") and _name(value) == (asked.source, asked.database, asked.table):
            found: Found = value
            return found
    raise ConfigError(
        f"{package} has no consumer of {asked.database}.{asked.table} of source {asked.source}; add one there, or "
        "choose another target"
    )


def _name(value: Any) -> tuple[Any, ...]:
    name = getattr(value, "name", None)
    return tuple(getattr(name, part, None) for part in ("source", "database", "table"))
