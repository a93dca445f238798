"""Starts the incremental snapshots of one session of a tail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from binlogsync.binlog.known_tables import fold_tables
from binlogsync.codec.snapshot_state import SnapshotState
from binlogsync.errors import WireError
from binlogsync.filters import TableFilter
from binlogsync.mysql import MySQLConfig
from binlogsync.mysql.information_schema import list_tables
from binlogsync.position import Checkpoint
from binlogsync.sinks import Sink
from binlogsync.snapshot.requests import SnapshotRequests
from binlogsync.table_names import Fold
from binlogsync.tail.incremental_snapshot import IncrementalSnapshot
from binlogsync.tail.options import TailOptions
from binlogsync.tail.snapshot_pace import SnapshotPace
from binlogsync.tail.snapshot_reader import SnapshotReader
from binlogsync.tail.snapshot_watch import SnapshotWatch

log = logging.getLogger(__name__)


def start_snapshots(
    config: MySQLConfig,
    options: TailOptions,
    requests: SnapshotRequests | None,
    sinks: Mapping[Sink, Checkpoint | None],
    captured: tuple[TableFilter, Fold],
    wake: Callable[[], None],
) -> IncrementalSnapshot | None:
    """The snapshots of this session; None without requests, or without a sink that takes their rows.

    Args:
        config: the server.
        options: those of the tail: the name of the source, its flushes, and the largest table without a key.
        requests: of the source.
        sinks: each with its checkpoint.
        captured: the folded filter of the source, and how names are folded.
        wake: called in any thread when there may be rows to publish.
    """
    source = options.source
    taking = [sink for sink in sinks if sink.takes_snapshots]
    if requests is None or not taking:
        return None
    if len(taking) > 1:
        names = ", ".join(sink.name for sink in taking)
        log.warning("%s: no snapshots are published, because several sinks take them: %s", source, names)
        return None
    [sink] = taking
    state = _parse(source, sink.stored_snapshot)
    is_captured, fold = captured

    def find_tables(patterns: Sequence[str]) -> Sequence[tuple[str, str]]:
        wanted = TableFilter(tuple(patterns)).folded(fold)
        names = fold_tables(tuple(list_tables(config)), fold)
        return sorted(name for name in set(names) if is_captured.captures(*name) and wanted.captures(*name))

    watch = SnapshotWatch(source, requests, find_tables, None if state is None else state.id, wake, sink)
    reader = SnapshotReader(config, wake, options.snapshot_keyless_rows)
    pace = SnapshotPace(options.flush_interval_s, is_eager=options.is_eager)
    return IncrementalSnapshot(watch, reader, pace, state, sinks[sink])


def _parse(source: str, text: str | None) -> SnapshotState | None:
    try:
        return None if text is None else SnapshotState.from_text(text)
    except WireError as error:
        log.warning("%s: the progress of a snapshot in the stream is not valid: %s", source, error)
        return None
