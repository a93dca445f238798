"""A backfill from what a person wrote: opens who may hold the range, makes the target."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from binlogsync.backfill.from_stream import StreamRange
from binlogsync.backfill.places import Holders
from binlogsync.backfill.ranges import Plan, Span, join_spans
from binlogsync.backfill.targets import BackfillTarget
from binlogsync.backfill.to_duckdb import HandlerTarget, TableTarget
from binlogsync.backfill.to_parquet import ParquetTarget
from binlogsync.backfill.to_stream import SubjectTarget
from binlogsync.consume.targets import Target
from binlogsync.errors import ConfigError, SinkError, WireError
from binlogsync.filters import TableFilter
from binlogsync.mysql import MySQLConfig
from binlogsync.sinks.jetstream import JetStreamOptions
from binlogsync.stores import PositionStore
from binlogsync.stream.client import NatsOptions
from binlogsync.stream.reader import StreamReader

log = logging.getLogger(__name__)

TARGETS = "table, handler, parquet:FOLDER or subject:NAME"


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose changes: the table `database.table` of a source."""

    source: str
    database: str
    table: str


@contextmanager
def open_holders(
    asked: Asked, config: MySQLConfig, nats: NatsOptions, store: PositionStore, captured: TableFilter | None = None
) -> Iterator[Holders]:
    """Who may hold the table's past, for as long as the block lasts.

    Without a stream, or with one that cannot be reached or does not capture the table, the binlogs alone count.
    """
    if captured is not None and not captured.captures(asked.database, asked.table):
        log.warning("the tail of %s leaves %s.%s out, so only the binlogs hold it", *_names(asked))
        yield Holders(asked.source, config, None, store)
        return
    reader = StreamReader(nats, asked.source)
    try:
        reader.open()
    except (SinkError, WireError) as error:
        log.warning("only the binlogs count: %s", error)
        yield Holders(asked.source, config, None, store)
        return
    with reader:
        reader.check_spelling(asked.database, asked.table)
        yield Holders(asked.source, config, StreamRange(reader, asked.database, asked.table), store)


def make_plan(asked: Asked, words: str, spans: Sequence[Span]) -> Plan:
    """The plan of a new backfill; its ranges come in the order of the binlog, and none reaches into the next."""
    return Plan(*_names(asked), words, join_spans(spans), secrets.token_hex(6))


def _names(asked: Asked) -> tuple[str, str, str]:
    return asked.source, asked.database, asked.table


@dataclass(frozen=True, slots=True)
class Ways:
    """Where targets lie.

    Attributes:
        warehouse: the DuckDB file of tables and of what handlers write.
        stream: how to reach NATS, and how a replay's stream is made.
        handler: makes the table's own Target; raises ConfigError where it has none.
    """

    warehouse: Path
    stream: JetStreamOptions
    handler: Callable[[], Target]


def make_target(text: str, asked: Asked, ways: Ways) -> BackfillTarget:
    """The target of "table", "handler", "parquet:FOLDER" or "subject:NAME". Raises ConfigError."""
    kind, _, where = text.strip().partition(":")
    if kind == "table" and not where:
        return TableTarget(ways.warehouse, asked.database, asked.table)
    if kind == "handler" and not where:
        return HandlerTarget(ways.handler)
    if kind == "parquet" and where:
        return ParquetTarget(where)
    if kind == "subject" and where:
        return SubjectTarget(ways.stream, where)
    raise ConfigError(f"{text!r} is no target of a backfill; write {TARGETS}")
