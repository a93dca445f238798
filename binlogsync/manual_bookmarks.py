"""Bookmarks that a person adds: at any place that MySQL or the stream can show, not only those that the tail passes."""

from __future__ import annotations

import time

from binlogsync.bookmarks import Bookmark
from binlogsync.errors import ConfigError, PositionError, SourceError
from binlogsync.mysql import BinlogDump, MySQLConfig, resolve_start
from binlogsync.mysql.scan import BEGINS_TRANSACTION, scan
from binlogsync.position import Checkpoint, GtidSet
from binlogsync.replay.bounds import StreamSequence, parse_bound
from binlogsync.replay.factory import SourceTable, open_sources
from binlogsync.replay.ranges import checkpoint_before
from binlogsync.replay.sources import ChangeSources
from binlogsync.stores import PositionStore
from binlogsync.stream.client import NatsOptions


def add_bookmark(
    servers: tuple[MySQLConfig, NatsOptions], store: PositionStore, source: str, wanted: tuple[str, str]
) -> Bookmark:
    """Keep a bookmark with this (name, place), pinned, and return it; the place is written as an end of a range is.

    "head" is where MySQL's binlog ends now. Raises ConfigError for a place that is none, and PositionError for one that
    nobody holds.
    """
    name, at = wanted[0].strip(), wanted[1]
    if not name:
        raise ConfigError("a bookmark that a person adds has a name; give one")
    with open_sources(SourceTable(source, "", ""), *servers, store) as sources:
        place = _place(sources, at)
        if place.skip:
            raise ConfigError(f"{at} ({place}) lies inside a transaction, and a bookmark lies between two")
        made_us = int(time.time() * 1e6)
        at_us = place.ts_us or _committed_behind(servers[0], place) or made_us
        bookmark = Bookmark(place, "person", at_us, made_us, name, _sequence(sources, place), pinned=True)
    store.put_bookmark(source, bookmark)
    return bookmark


def _place(sources: ChangeSources, at: str) -> Checkpoint:
    end = parse_bound(at)
    if isinstance(end, GtidSet):
        return resolve_start(sources.config, end)  # a bookmark says its file and position too
    if not isinstance(end, StreamSequence) or sources.stream is None:
        return sources.resolve(at)
    reader = sources.stream.reader
    checkpoint = reader.checkpoint_at(end.number - 1)
    batch = None if checkpoint is not None else reader.change_at(end.number)
    if checkpoint is None and batch is None:
        raise PositionError(f"{at}: the stream does not hold it; {sources.describe_available()}")
    return checkpoint or checkpoint_before(batch, 0)  # type: ignore[arg-type]


def _committed_behind(config: MySQLConfig, place: Checkpoint) -> int | None:
    """Commit time of the first transaction behind the place; None for the end of the log, or where nobody knows."""
    try:
        with BinlogDump(config, place, blocking=False) as dump:
            for event in scan(dump):
                if event.kind in BEGINS_TRANSACTION:
                    return event.committed_us
    except SourceError:
        return None
    return None


def _sequence(sources: ChangeSources, place: Checkpoint) -> int | None:
    """Stream sequence of the last message, where the stream ends at that very place."""
    end = sources.stream.end() if sources.stream is not None else None
    if sources.stream is None or end is None or end.position != place.position:
        return None
    return sources.stream.bounds()[1] - 1
