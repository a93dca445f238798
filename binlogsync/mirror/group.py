"""Several mirrors in one DuckDB file that show a transaction of the source wholly or not at all.

    group = MirrorGroup(reader, [Mirror(path, "shop", "orders"), Mirror(path, "shop", "order_items")], options)
    group.drain(stop)

Each table has its own durable and progress, as it has alone. A round fetches of each what there is, finds a place in
the binlog between two transactions up to which all of it is there, and applies the changes of all tables up to that
place in one DuckDB transaction; what lies behind it waits for the next round. Such a place is the checkpoint at the
stream's end, or, where a table has more than a round takes, the begin of the last transaction that was fetched of it.
A transaction has to fit into memory. A table that must be read again from the server is ahead of the others until they
have reached the place it was read at.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import duckdb

from binlogsync.consume.engine import GATHERED_BYTES, ConsumeOptions, ConsumeResult, report_gap
from binlogsync.consume.progress import NO_PROGRESS, ConsumerProgress, ProgressKey, Tracker
from binlogsync.consume.seek import DeliveryStart, drop_processed, find_start, holds_progress
from binlogsync.duckfile import DuckFile
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
from binlogsync.mirror.state import ensure_meta, load_state
from binlogsync.mirror.target import Mirror, record_gaps
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.stream.reader import StreamBatch, StreamReader
from binlogsync.wire.subjects import durable_name

log = logging.getLogger(__name__)
_FETCH_S = 0.2
_LOOK_S = 0.1
_VERIFY_EVERY_S = 1.0


@dataclass(slots=True)
class _GroupTable:
    """One table of the group: `held` is fetched and not applied yet."""

    mirror: Mirror
    durable: str
    tracker: Tracker
    held: list[StreamBatch] = field(default_factory=list)
    seek: DeliveryStart = field(default_factory=lambda: DeliveryStart(1))
    newest: int = 0
    skipped: int = 0
    gap: str | None = None

    @property
    def table(self) -> tuple[str, str]:
        return self.mirror.database, self.mirror.table

    def begin(self, reader: StreamReader, on_gap: Literal["warn", "fail"]) -> None:
        """Follow the stream from where progress stands."""
        key, progress = self.tracker.key, self.tracker.progress
        seen = int(self.held[0].sequences[0].as_py()) - 1 if self.held else self.newest
        self.held = []
        self.seek = find_start(reader, key, replace(progress, seen=max(progress.seen, seen)), is_mirror=True)
        if self.seek.gap is not None:
            self.gap = self.seek.gap.detail
            report_gap(self.mirror.store, key, self.seek.gap, on_gap)
        self.mirror.repair(key, progress)
        self.newest = self.seek.sequence - 1
        reader.ensure_durable(self.durable, *self.table, self.seek.sequence)

    def fetch(self, reader: StreamReader, limit: int, end: int, stop: threading.Event) -> bool:
        """Fetch up to stream sequence `end`; False when there may be more, beyond `limit` or GATHERED_BYTES, or because
        of the stop.

        Raises _StreamRecreatedError where sequences begin anew.
        """
        while self.newest < end and not stop.is_set():
            fetched = list(reader.fetch(self.durable, limit, _FETCH_S))
            if not fetched:
                if self._has_all(reader):
                    self.newest = end
                    return True
                continue
            first = int(fetched[0].sequences[0].as_py())
            if first <= self.newest or self.seek.is_unproven:
                raise _StreamRecreatedError
            if first > self.newest + 1 and reader.first_sequence() > self.newest + 1:
                raise _StreamRecreatedError  # dropped meanwhile, and may have been of this table
            self.newest = fetched[-1].last_sequence
            if self.seek.drops_done:
                fetched, self.seek, dropped = drop_processed(fetched, self.seek, self.tracker)
                self.skipped += dropped
            self.held += fetched
            if count_changes(self.held) >= limit or sum(item.batch.nbytes for item in self.held) >= GATHERED_BYTES:
                break
        return self.newest >= end

    def _has_all(self, reader: StreamReader) -> bool:
        """True when the server has nothing that was not handed out; an empty fetch may only have been slow."""
        left = reader.pending(self.durable)
        return left is not None and not left.num_pending and left.last_delivered_stream_seq <= self.newest

    def last_transaction(self) -> Checkpoint:
        """The begin of the transaction that was fetched last, and may be there in part only."""
        last = self.held[-1].batch
        file, pos = (last.data.column(name)[-1].as_py() for name in ("file", "txn_pos"))
        return Checkpoint(BinlogPosition(file, pos), last.server_uuid)


class _StreamRecreatedError(Exception):
    """The stream was recreated while it was read, or has dropped messages that were not."""


class MirrorGroup:
    """See the module. Raises ConfigError unless all mirrors are in one file, each table once."""

    def __init__(self, reader: StreamReader, mirrors: Sequence[Mirror], options: ConsumeOptions) -> None:
        paths = {one.file.path for one in mirrors}
        tables = {(one.database, one.table) for one in mirrors}
        if len(paths) != 1 or len(tables) != len(mirrors):
            raise ConfigError("mirrors that change together are in one file, and each of another table")
        self._reader = reader
        self._options = options
        self._file = DuckFile(paths.pop(), error=ConsumeError)
        self._mirrors = mirrors
        self._members: list[_GroupTable] = []
        self._rounds = 0
        self._looked_at = 0.0

    def drain(
        self, stop: threading.Event, pulse: Callable[[bool], None] = lambda is_busy: None
    ) -> Mapping[tuple[str, str], ConsumeResult]:
        """Apply until nothing came for idle_s, max_s is over, or `stop` is set; what was done, by table.

        `pulse` is told True when something came, False when nothing waits.

        Raises ConsumeError and SinkError as `consume` does.
        """
        started = last_change = time.monotonic()
        ends_at = started + self._options.max_s if self._options.max_s is not None else float("inf")
        is_drained = False
        try:
            self._begin()
            while not is_drained and not stop.is_set() and time.monotonic() < ends_at:
                has_come = self._round(stop)
                pulse(has_come)
                if has_come:
                    last_change = time.monotonic()
                    continue
                self._file.release()
                is_drained = time.monotonic() - last_change >= self._options.idle_s
                stop.wait(min(_LOOK_S, max(self._options.idle_s, 0.02)))
            for member in self._members:
                if not member.held:
                    member.tracker.see(member.mirror.store, member.newest)
        finally:
            self._file.release()
        return {member.table: self._consumed(member, started, is_drained) for member in self._members}

    def _begin(self) -> None:
        """Load the progress of all, and follow the stream from there."""
        if not self._members:
            with self._file.transaction() as connection:
                for one in self._mirrors:
                    one.stream = self._reader
                    key = ProgressKey(self._options.client_id, self._reader.source, one.database, one.table)
                    durable = durable_name(self._options.client_id, one.database, one.table)
                    self._members.append(_GroupTable(one, durable, Tracker(key, key.load(connection))))
        for member in self._members:
            member.begin(self._reader, self._options.on_gap)

    def _round(self, stop: threading.Event) -> bool:
        """Fetch, and apply up to a boundary; False when nothing came."""
        end = self._reader.last_sequence()
        at_end = self._reader.checkpoint_at(end)
        if at_end is None or not self._is_same_stream():
            return False
        boundary, held = at_end.at_boundary(), self._held()
        try:
            for member in self._members:
                if not member.fetch(self._reader, self._options.max_changes, end, stop):
                    if stop.is_set():
                        return False
                    boundary = _earlier(boundary, member.last_transaction())
        except _StreamRecreatedError:
            log.warning(
                "%s was recreated or has dropped messages while it was read; seeking again", self._reader.stream
            )
            self._begin()
            return False
        if not any(changes_up_to(member.held, boundary) for member in self._members):
            return self._held() > held  # of a large transaction, there is more to come
        return self._apply(boundary, stop)

    def _held(self) -> int:
        """Changes that were fetched and are not applied."""
        return sum(count_changes(member.held) for member in self._members)

    def _is_same_stream(self) -> bool:
        """False when the stream was filled anew: then delivery begins again."""
        now = time.monotonic()
        if now - self._looked_at < _VERIFY_EVERY_S:
            return True
        self._looked_at = now
        first = self._reader.first_sequence()
        for member in self._members:
            progress = member.tracker.progress
            is_held = progress != NO_PROGRESS and first <= progress.sequence
            if is_held and not holds_progress(self._reader, member.tracker.key, progress):
                log.warning("%s: the stream was filled anew while it was read; seeking again", member.tracker.key)
                self._begin()
                return False
        return True

    def _apply(self, boundary: Checkpoint, stop: threading.Event) -> bool:
        """Everything up to the boundary in one transaction, and acks behind it."""
        moved: list[tuple[_GroupTable, list[StreamBatch], ConsumerProgress]] = []
        halted: tuple[_GroupTable, mirror.RebuildReason] | None = None
        with_gap: list[_GroupTable] = []
        with self._file.transaction(keep_open=True) as connection:
            boundary, asked = self._with_requests(connection, boundary)
            for member in self._members:
                part = changes_up_to(member.held, boundary)
                ensure_meta(connection)
                read_at = load_state(connection, *member.table).read_at
                halt = self._apply_one(connection, member, part)
                done = part if halt is None else part[: halt.done]
                if halt is not None:
                    halted = (member, halt)
                if record_gaps(connection, member.tracker.key, done, read_at):
                    with_gap.append(member)
                if done:
                    pairs = [(item.batch, item.last_sequence) for item in done]
                    moved.append((member, done, member.tracker.move(connection, pairs)))
            for member, request in asked if halted is None else ():
                write_fingerprint(connection, load_state(connection, *member.table), request)
        for member, done, progress in moved:
            member.tracker.confirm(progress, [item.batch for item in done])
            member.held = drop_first(member.held, count_changes(done))
            replies = [item for item in done if item.reply is not None]
            if replies:
                self._reader.ack(replies[-1])
        self._rounds += bool(moved)
        if halted is not None:
            self._file.release()
            if not halted[0].mirror.wait_to_rebuild(halted[1], stop):
                return bool(moved)
            halted[0].mirror.rebuild_before(halted[1], halted[0].held[0].batch, halted[0].tracker.key)
        for member in with_gap:
            member.mirror.repair(member.tracker.key, member.tracker.progress)
        return bool(moved) or halted is not None

    def _apply_one(
        self, connection: duckdb.DuckDBPyConnection, member: _GroupTable, part: Sequence[StreamBatch]
    ) -> mirror.RebuildReason | None:
        one = member.mirror
        return mirror.apply(connection, [item.batch for item in part], one.options, can_read=one.source is not None)

    def _with_requests(
        self, connection: duckdb.DuckDBPyConnection, boundary: Checkpoint
    ) -> tuple[Checkpoint, list[tuple[_GroupTable, FingerprintRequest]]]:
        """The boundary, moved to the first place before it at which a fingerprint is wanted, and of which members."""
        ensure_requests(connection)
        found = [(m, request) for m in self._members for request in load_requests(connection, *m.table)]
        found = [
            (m, request)
            for m, request in found
            if count_changes(changes_up_to(m.held, request.at)) < count_changes(m.held)
        ]
        for _, request in found:
            boundary = _earlier(boundary, request.at)
        return boundary, [(m, request) for m, request in found if request.at.position == boundary.position]

    def _consumed(self, member: _GroupTable, started: float, is_drained: bool) -> ConsumeResult:
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
    """The one that lies before the other; of two servers the second, which was read from the stream before its end."""
    if one.server_uuid != other.server_uuid:
        return other
    return other if other.position < one.position else one
