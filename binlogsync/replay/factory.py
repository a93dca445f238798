"""Builds the parts of a replay from what a user configured: its sources, its plan and its target."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from binlogsync.consume.targets import Target
from binlogsync.errors import ConfigError, SinkError, WireError
from binlogsync.filters import TableFilter
from binlogsync.mysql import MySQLConfig
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.ranges import ReplayPlan, ReplayRange, remove_overlaps
from binlogsync.replay.sources import ChangeSources
from binlogsync.replay.target_forms import TARGET_FORMS
from binlogsync.replay.targets import ReplayTarget
from binlogsync.replay.to_parquet import ParquetTarget
from binlogsync.replay.to_stream import SubjectTarget
from binlogsync.replay.to_tables import HandlerTarget, TableTarget
from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.stores import PositionStore
from binlogsync.targets import TableStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceTable:
    """The table `database.table` of a source."""

    source: str
    database: str
    table: str


@contextmanager
def open_sources(
    replayed: SourceTable,
    config: MySQLConfig,
    nats: NatsOptions,
    store: PositionStore,
    captured: TableFilter | None = None,
) -> Iterator[ChangeSources]:
    """Open the sources that may have the table's past, and close them when the block ends.

    Only the binlogs are used when the stream does not exist, is unreachable, or does not capture the table.
    """
    if captured is not None and not captured.captures(replayed.database, replayed.table):
        log.warning("the tail of %s excludes %s.%s, so only the binlogs have its changes", *_names(replayed))
        yield ChangeSources(replayed.source, config, None, store)
        return
    reader = StreamReader(nats, replayed.source)
    try:
        reader.open()
    except (SinkError, WireError) as error:
        log.warning("cannot open the stream, so only the binlogs are used: %s", error)
        yield ChangeSources(replayed.source, config, None, store)
        return
    with reader:
        reader.check_spelling(replayed.database, replayed.table)
        stream = StreamRangeReader(reader, replayed.database, replayed.table)
        yield ChangeSources(replayed.source, config, stream, store)


def make_plan(replayed: SourceTable, request: str, ranges: Sequence[ReplayRange]) -> ReplayPlan:
    """The plan of a new replay, with its ranges in binlog order and without overlaps."""
    return ReplayPlan(*_names(replayed), request, remove_overlaps(ranges), secrets.token_hex(6))


def _names(replayed: SourceTable) -> tuple[str, str, str]:
    return replayed.source, replayed.database, replayed.table


@dataclass(frozen=True, slots=True)
class TargetLocations:
    """Where targets are stored, and how to reach them.

    Attributes:
        warehouse: the store of the replayed tables and of the tables that handlers write.
        stream: how to reach NATS, and how to create the stream of a replay.
        handler: returns the Target of the table's handler; raises ConfigError if the table has none.
    """

    warehouse: TableStore
    stream: JetStreamOptions
    handler: Callable[[], Target]


def make_target(text: str, replayed: SourceTable, locations: TargetLocations) -> ReplayTarget:
    """The target of "table", "handler", "parquet:FOLDER" or "subject:NAME". Raises ConfigError."""
    kind, _, location = text.strip().partition(":")
    if kind == "table" and not location:
        return TableTarget(locations.warehouse, replayed.database, replayed.table)
    if kind == "handler" and not location:
        return HandlerTarget(locations.handler)
    if kind == "parquet" and location:
        return ParquetTarget(location)
    if kind == "subject" and location:
        return SubjectTarget(locations.stream, location)
    raise ConfigError(f"{text!r} is not a replay target; write {TARGET_FORMS}")
