"""Bookmarks added by users: at any position that MySQL or the stream still has, also before the tail's checkpoint."""

from __future__ import annotations

import time

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import ConfigError, PositionError, SourceError
from binlogsync.mysql import BinlogDump, MySQLConfig, resolve_start
from binlogsync.mysql.scan import BEGINS_TRANSACTION, scan
from binlogsync.nats.client import NatsOptions
from binlogsync.position import Checkpoint, GtidSet
from binlogsync.range_bounds import StreamSequence, parse_bound
from binlogsync.replay.factory import SourceTable, open_sources
from binlogsync.replay.ranges import checkpoint_before
from binlogsync.replay.sources import ChangeSources
from binlogsync.stores import PositionStore


def add_bookmark(
    servers: tuple[MySQLConfig, NatsOptions], store: PositionStore, source: str, wanted: tuple[str, str]
) -> Bookmark:
    """Store a pinned bookmark with this (name, position) and return it; the position has the syntax of a range bound.

    "head" is the current end of MySQL's binlog. Raises ConfigError for an invalid position, and PositionError for one
    that neither MySQL nor the stream has.
    """
    name, at = wanted[0].strip(), wanted[1]
    if not name:
        raise ConfigError("a bookmark needs a name; give one")
    with open_sources(SourceTable(source, "", ""), *servers, store) as sources:
        checkpoint = _resolve(sources, at)
        if checkpoint.skip:
            raise ConfigError(
                f"{at} ({checkpoint}) is inside a transaction; a bookmark must be between two transactions"
            )
        made_us = int(time.time() * 1e6)
        at_us = checkpoint.ts_us or _commit_time_after(servers[0], checkpoint) or made_us
        bookmark = Bookmark(checkpoint, "person", at_us, made_us, name, _sequence(sources, checkpoint), pinned=True)
    store.bookmarks.put(source, bookmark)
    return bookmark


def _resolve(sources: ChangeSources, at: str) -> Checkpoint:
    end = parse_bound(at)
    if isinstance(end, GtidSet):
        return resolve_start(sources.config, end)  # a bookmark has a file and a position too
    if not isinstance(end, StreamSequence) or sources.stream is None:
        return sources.resolve(at)
    reader = sources.stream.reader
    checkpoint = reader.checkpoint_at(end.number - 1)
    batch = None if checkpoint is not None else reader.change_at(end.number)
    if checkpoint is None and batch is None:
        raise PositionError(f"{at}: the stream does not have it; {sources.describe_available()}")
    return checkpoint or checkpoint_before(batch, 0)  # type: ignore[arg-type]


def _commit_time_after(config: MySQLConfig, checkpoint: Checkpoint) -> int | None:
    """Commit time of the first transaction after the checkpoint; None at the end of the log, or if unknown."""
    try:
        with BinlogDump(config, checkpoint, blocking=False) as dump:
            for event in scan(dump):
                if event.kind in BEGINS_TRANSACTION:
                    return event.committed_us
    except SourceError:
        return None
    return None


def _sequence(sources: ChangeSources, checkpoint: Checkpoint) -> int | None:
    """Stream sequence of the last message, if the stream ends at exactly this checkpoint."""
    end = sources.stream.end() if sources.stream is not None else None
    if sources.stream is None or end is None or end.position != checkpoint.position:
        return None
    return sources.stream.bounds()[1] - 1
