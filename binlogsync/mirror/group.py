"""Several mirrors in one DuckDB file that apply each transaction of the source atomically.

    group = MirrorGroup(reader, [Mirror(path, "shop", "orders"), Mirror(path, "shop", "order_items")], options)
    group.drain(stop)

Each table has its own durable and progress. A round fetches the pending changes of each table, finds the last
transaction boundary up to which all changes have been fetched, and applies the changes of all tables up to it in one
DuckDB transaction; later changes wait for the next round. The boundary is the checkpoint at the end of the
stream, or, if a table has more changes than a round fetches, the start of its last fetched transaction. A transaction
must fit into memory. A table that is rebuilt from the server is ahead of the others until they reach its snapshot.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import duckdb

from binlogsync.codec.subjects import durable_name
from binlogsync.consume.engine import GATHERED_BYTES, ConsumeOptions, ConsumeResult, report_gap
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, Tracker
from binlogsync.consume.seek import DeliveryStart, drop_processed, find_start, holds_progress
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.mirror import apply as mirror
from binlogsync.mirror.fingerprints import (
    FingerprintRequest,
    changes_up_to,
    count_changes,
    drop_first,
    ensure_requests,
    load_requests,
    write_fingerprint,
)
from binlogsync.mirror.target import Mirror, record_gaps
from binlogsync.nats.reader import StreamBatch, StreamReader
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_order import PositionOrder, compare
from binlogsync.targets.duckdb.file import DuckFile
from binlogsync.targets.duckdb.state import ensure_meta, load_state

log = logging.getLogger(__name__)
_FETCH_S = 0.2
_LOOK_S = 0.1
_VERIFY_EVERY_S = 1.0


@dataclass(slots=True)
class _GroupTable:
    """One table of the group; `fetched` are its changes that are not applied yet."""

    mirror: Mirror
    durable: str
    tracker: Tracker
    fetched: list[StreamBatch] = field(default_factory=list)
    seek: DeliveryStart = field(default_factory=lambda: DeliveryStart(1))
    newest: int = 0
    skipped: int = 0
    gap: str | None = None

    @property
    def table(self) -> tuple[str, str]:
        return self.mirror.database, self.mirror.table

    def begin(self, reader: StreamReader, on_gap: Literal["warn", "fail"]) -> None:
        """Start delivery after the table's progress."""
        key, progress = self.tracker.key, self.tracker.progress
        seen = int(self.fetched[0].sequences[0].as_py()) - 1 if self.fetched else self.newest
        self.fetched = []
        self.seek = find_start(reader, key, replace(progress, seen=max(progress.seen, seen)), is_mirror=True)
        if self.seek.gap is not None:
            self.gap = self.seek.gap.detail
            report_gap(self.mirror.store, key, self.seek.gap, on_gap)
        self.mirror.repair(key, progress)
        self.newest = self.seek.sequence - 1
        reader.ensure_durable(self.durable, *self.table, self.seek.sequence)

    def fetch(self, reader: StreamReader, limit: int, end: int, stop: threading.Event) -> bool:
        """Fetch up to stream sequence `end`; False if `limit` or GATHERED_BYTES was reached, or after a stop.

        Raises _StreamRecreatedError if the stream was recreated or dropped messages.
        """
        while self.newest < end and not stop.is_set():
            items = list(reader.fetch(self.durable, limit, _FETCH_S))
            if not items:
                if self._has_all(reader):
                    self.newest = end
                    return True
                continue
            first = int(items[0].sequences[0].as_py())
            if first <= self.newest or self.seek.is_unproven:
                raise _StreamRecreatedError
            if first > self.newest + 1 and reader.first_sequence() > self.newest + 1:
                raise _StreamRecreatedError  # messages were dropped, possibly of this table
            self.newest = items[-1].last_sequence
            if self.seek.drops_done:
                items, self.seek, dropped = drop_processed(items, self.seek, self.tracker)
                self.skipped += dropped
            self.fetched += items
            if (
                count_changes(self.fetched) >= limit
                or sum(item.batch.nbytes for item in self.fetched) >= GATHERED_BYTES
            ):
                break
        return self.newest >= end

    def _has_all(self, reader: StreamReader) -> bool:
        """True when the server has delivered all messages; an empty fetch may also be a slow one."""
        pending = reader.pending(self.durable)
        return pending is not None and not pending.num_pending and pending.last_delivered_stream_seq <= self.newest

    def last_transaction(self) -> Checkpoint:
        """The start of the last fetched transaction, which may be incomplete."""
        last = self.fetched[-1].batch
        file, pos = (last.data.column(name)[-1].as_py() for name in ("file", "txn_pos"))
        return Checkpoint(BinlogPosition(file, pos), last.server_uuid)


class _StreamRecreatedError(Exception):
    """The stream was recreated, or dropped messages that had not been read."""


class MirrorGroup:
    """See the module docstring. Raises ConfigError unless all mirrors are in one file, each table once."""

    def __init__(self, reader: StreamReader, mirrors: Sequence[Mirror], options: ConsumeOptions) -> None:
        paths = {one.file.path for one in mirrors}
        tables = {(one.database, one.table) for one in mirrors}
        if len(paths) != 1 or len(tables) != len(mirrors):
            raise ConfigError("mirrors that change together must be in one file, and each of a different table")
        self._reader = reader
        self._options = options
        self._file = DuckFile(paths.pop(), error=ConsumeError)
        self._mirrors = mirrors
        self._members: list[_GroupTable] = []
        self._rounds = 0
        self._checked_at = 0.0

    def drain(
        self, stop: threading.Event, pulse: Callable[[bool], None] = lambda is_busy: None
    ) -> Mapping[tuple[str, str], ConsumeResult]:
        """Apply changes until there are none for idle_s, max_s has passed, or `stop` is set; returns results by table.

        `pulse` is called with True after a round with changes, and with False after one without.

        Raises ConsumeError and SinkError as `consume` does.
        """
        started = last_change = time.monotonic()
        ends_at = started + self._options.max_s if self._options.max_s is not None else float("inf")
        is_drained = False
        try:
            self._begin(stop)
            while not is_drained and not stop.is_set() and time.monotonic() < ends_at:
                had_changes = self._round(stop)
                pulse(had_changes)
                if had_changes:
                    last_change = time.monotonic()
                    continue
                self._file.release()
                is_drained = time.monotonic() - last_change >= self._options.idle_s
                stop.wait(min(_LOOK_S, max(self._options.idle_s, 0.02)))
            for member in self._members:
                if not member.fetched:
                    member.tracker.see(member.mirror.store, member.newest)
        finally:
            self._file.release()
        return {member.table: self._build_result(member, started, is_drained) for member in self._members}

    def _begin(self, stop: threading.Event) -> None:
        """Load the progress of all tables, and start delivery after it."""
        if not self._members:
            keys = [
                ProgressKey(self._options.client_id, self._reader.source, one.database, one.table)
                for one in self._mirrors
            ]
            for one, key in zip(self._mirrors, keys, strict=True):
                one.use_stream(self._reader, key, stop)
            with self._file.transaction() as connection:
                for one, key in zip(self._mirrors, keys, strict=True):
                    durable = durable_name(self._options.client_id, one.database, one.table)
                    self._members.append(_GroupTable(one, durable, Tracker(key, key.load(connection))))
        for member in self._members:
            member.begin(self._reader, self._options.on_gap)

    def _round(self, stop: threading.Event) -> bool:
        """Fetch changes and apply them up to a boundary; False if there were none."""
        end = self._reader.last_sequence()
        at_end = self._reader.checkpoint_at(end)
        if at_end is None or not self._is_same_stream(stop):
            return False
        boundary, pending = at_end.at_boundary(), self._count_fetched()
        try:
            for member in self._members:
                if not member.fetch(self._reader, self._options.max_changes, end, stop):
                    if stop.is_set():
                        return False
                    boundary = _earlier(boundary, member.last_transaction())
        except _StreamRecreatedError:
            log.warning("stream %s was recreated or dropped messages; seeking again", self._reader.stream)
            self._begin(stop)
            return False
        if not any(changes_up_to(member.fetched, boundary) for member in self._members):
            return self._count_fetched() > pending  # a large transaction is not complete yet
        return self._apply(boundary, stop)

    def _count_fetched(self) -> int:
        """Number of changes that are fetched and not applied."""
        return sum(count_changes(member.fetched) for member in self._members)

    def _is_same_stream(self, stop: threading.Event) -> bool:
        """False when the stream was recreated: then delivery starts again."""
        now = time.monotonic()
        if now - self._checked_at < _VERIFY_EVERY_S:
            return True
        self._checked_at = now
        first = self._reader.first_sequence()
        for member in self._members:
            progress = member.tracker.progress
            is_in_stream = progress != NO_PROGRESS and first <= progress.sequence
            if is_in_stream and not holds_progress(self._reader, member.tracker.key, progress):
                log.warning("%s: the stream was recreated; seeking again", member.tracker.key)
                self._begin(stop)
                return False
        return True

    def _apply(self, boundary: Checkpoint, stop: threading.Event) -> bool:
        """Apply the changes up to the boundary in one transaction, then ack them."""
        moved: list[tuple[_GroupTable, list[StreamBatch], ConsumerProgress]] = []
        to_rebuild: tuple[_GroupTable, mirror.RebuildReason] | None = None
        with_gap: list[_GroupTable] = []
        with self._file.transaction(keep_open=True) as connection:
            boundary, requests = self._apply_requests(connection, boundary)
            for member in self._members:
                items = changes_up_to(member.fetched, boundary)
                ensure_meta(connection)
                read_at = load_state(connection, *member.table).read_at
                rebuild = self._apply_one(connection, member, items)
                done = items if rebuild is None else items[: rebuild.done]
                if rebuild is not None:
                    to_rebuild = (member, rebuild)
                if record_gaps(connection, member.tracker.key, done, read_at):
                    with_gap.append(member)
                if done:
                    pairs = [(item.batch, item.last_sequence) for item in done]
                    moved.append((member, done, member.tracker.move(connection, pairs)))
            for member, request in requests if to_rebuild is None else ():
                write_fingerprint(connection, load_state(connection, *member.table), request)
        for member, done, progress in moved:
            member.tracker.confirm(progress, [item.batch for item in done])
            member.fetched = drop_first(member.fetched, count_changes(done))
            replies = [item for item in done if item.reply is not None]
            if replies:
                self._reader.ack(replies[-1])
        self._rounds += bool(moved)
        if to_rebuild is not None:
            self._file.release()
            if not to_rebuild[0].mirror.wait_to_rebuild(to_rebuild[1], stop):
                return bool(moved)
            to_rebuild[0].mirror.rebuild_before(
                to_rebuild[1], to_rebuild[0].fetched[0].batch, to_rebuild[0].tracker.key
            )
        for member in with_gap:
            member.mirror.repair(member.tracker.key, member.tracker.progress)
        return bool(moved) or to_rebuild is not None

    def _apply_one(
        self, connection: duckdb.DuckDBPyConnection, member: _GroupTable, items: Sequence[StreamBatch]
    ) -> mirror.RebuildReason | None:
        one = member.mirror
        return mirror.apply(connection, [item.batch for item in items], one.options, can_read=one.source is not None)

    def _apply_requests(
        self, connection: duckdb.DuckDBPyConnection, boundary: Checkpoint
    ) -> tuple[Checkpoint, list[tuple[_GroupTable, FingerprintRequest]]]:
        """The boundary, moved back to the first requested fingerprint, and the requests at that boundary."""
        ensure_requests(connection)
        found = [(m, request) for m in self._members for request in load_requests(connection, *m.table)]
        found = [
            (m, request)
            for m, request in found
            if count_changes(changes_up_to(m.fetched, request.at)) < count_changes(m.fetched)
        ]
        for _, request in found:
            boundary = _earlier(boundary, request.at)
        return boundary, [(m, request) for m, request in found if request.at.position == boundary.position]

    def _build_result(self, member: _GroupTable, started: float, is_drained: bool) -> ConsumeResult:
        tracker = member.tracker
        return ConsumeResult(
            counts=dict(tracker.counts),
            first=tracker.first,
            last=tracker.progress if tracker.first else None,
            progress=tracker.progress,
            lag_s=tracker.lag_s,
            seconds=time.monotonic() - started,
            batches=self._rounds,
            skipped=member.skipped,
            gap=member.gap,
            is_drained=is_drained,
        )


def _earlier(one: Checkpoint, other: Checkpoint) -> Checkpoint:
    """The earlier checkpoint; `other` if the servers differ, because it was read before the end of the stream."""
    if one.server_uuid != other.server_uuid:
        return other
    return other if compare(other.position, one.position) is PositionOrder.BEFORE else one
