"""Merges the existing rows of tables into the stream: an incremental snapshot, one table after another, in chunks.

    observe(decoded)          each range of changes, before it is flushed
    has_rows(reached, now_s)  at a transaction boundary with everything observed: whether rows are due there
    take_rows(reached, now_s) these rows, after earlier changes were flushed
    progress_at(position)     progress, which each flush stores
    stored(flush, now_s)      the rows of such a flush are in the stream

For each chunk a window is open (snapshot_window.py). Its rows may be published once the stream has reached the position
that the server reported after it had read them. They are published in slices, so that changes never wait for more than
one; the rest of the chunk stays subject to the changes that arrive meanwhile. A statement that alters the table
discards what was read and not published. A table without a key for chunks is published as a whole (snapshot_whole.py):

    holds(decoded, ...)       whether these changes have to wait until the rows of such a table are published
    is_holding                whether nothing may be read from the binlog now
    split_at                  where a range of changes has to end

Used by the thread of the tail alone; never waits. Reading is done by `SnapshotReader`, requests are followed by
`SnapshotWatch`.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from binlogsync.binlog.decoded_range import DecodedRange
from binlogsync.codec.snapshot_state import FIRST_ORDINAL, LAST_ORDINAL, SnapshotState
from binlogsync.flush import Flush, SnapshotProgress
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_order import PositionOrder, compare
from binlogsync.tail.snapshot_counts import SnapshotCounts
from binlogsync.tail.snapshot_pace import SnapshotPace
from binlogsync.tail.snapshot_reader import WHOLE, SnapshotReader
from binlogsync.tail.snapshot_resume import PARTLY_PUBLISHED, is_before, request_of_rest
from binlogsync.tail.snapshot_rows import NO_NUMBERS, PublishedRows, publish, publish_reset, publish_whole
from binlogsync.tail.snapshot_table import TableChunks
from binlogsync.tail.snapshot_watch import CurrentSnapshot, SnapshotReport, SnapshotWatch
from binlogsync.tail.snapshot_whole import WholeTable

log = logging.getLogger(__name__)

_REPLACED = frozenset({"create", "drop", "rename"})
"""Kinds of statements after which a name means another table, whose rows are read from the first one on."""


class IncrementalSnapshot:
    """See the module."""

    def __init__(
        self,
        watch: SnapshotWatch,
        reader: SnapshotReader,
        pace: SnapshotPace,
        state: SnapshotState | None,
        held: Checkpoint | None,
    ) -> None:
        """`state` is the progress in the stream, and `held` the checkpoint with it."""
        self._watch = watch
        self._reader = reader
        self._pace = pace
        self._state = state
        self._held = held
        self._ended_at = held if state is not None and state.done else None
        self._current: CurrentSnapshot | None = None
        self._over: str | None = None  # id of the last request that was reported as over
        self._counts: SnapshotCounts | None = None  # of the current request
        self._ending: SnapshotCounts | None = None  # of a cancelled request, until its last rows are stored
        self._chunks: TableChunks | WholeTable | None = None  # of the current table
        self._allow_next()

    def close(self) -> None:
        """End the threads."""
        self._reader.close()
        self._watch.close()

    @property
    def is_active(self) -> bool:
        """True while rows are read or published."""
        return self._counts is not None

    def wait_s(self, now_s: float) -> float:
        """Seconds until rows may be due although nothing happens."""
        if self._chunks is None:
            return math.inf
        return max(0.0, max(self._chunks.retry_s, self._pace.next_s) - now_s) or math.inf

    @property
    def _whole(self) -> WholeTable | None:
        """The current table, if it is published as a whole."""
        return self._chunks if isinstance(self._chunks, WholeTable) else None

    @property
    def is_holding(self) -> bool:
        """True while the stream waits for the position of a table, or for all its rows."""
        return self._whole is not None and self._whole.is_holding

    @property
    def split_at(self) -> BinlogPosition | None:
        """Binlog position at which a range of changes has to end; None if any end will do."""
        return None if self._whole is None else self._whole.split_at

    def holds(self, decoded: DecodedRange, reached: Checkpoint, now_s: float) -> bool:
        """Whether these changes, after `reached`, have to wait for rows; call has_rows(may_order=False) meanwhile."""
        return self._whole is not None and self._whole.holds(decoded, reached, now_s)

    # Changes

    def observe(self, decoded: DecodedRange) -> None:
        """Changes that are flushed next."""
        state = self._state
        if state is None or state.done:
            return
        for statement in decoded.schema_changes:
            if state.name in statement.tables and not is_before(statement, decoded.checkpoint, self._held):
                self._alter(statement.kind)
        if self._chunks is None or not self._chunks.is_watching:
            return
        for batch in decoded.batches:
            if (batch.schema.database, batch.schema.table) == state.name and batch.ddl is None:
                self._chunks.touch(batch)

    def _alter(self, kind: str) -> None:
        if self._chunks is not None:
            self._chunks.alter()
        if self._whole is not None and not self._whole.has_begun:
            self._open_chunks()
        if kind in _REPLACED and self._state is not None:
            is_reset = self._state.is_reset and kind != "drop"
            self._state = replace(self._state, key=(), order="", is_reset=is_reset)

    def observe_flush(self, flush: Flush) -> None:
        """A flush, with its messages about rows that foreign keys may have changed without a change in the binlog."""
        if self._chunks is None or not self._chunks.is_watching:
            return
        for batch in flush.batches:
            if batch.ddl is not None and (batch.schema.database, batch.schema.table) == self._chunks.name:
                self._chunks.discard("a foreign key may have changed rows without a change in the binlog")

    # Progress

    def progress_at(self, at: Checkpoint) -> SnapshotProgress | None:
        """What a flush up to this checkpoint stores; None if there is nothing to store."""
        if self._state is None:
            return None
        if self._state.done and self._has_left_end(at) and self._is_reported:
            self._state = self._ended_at = None
            self._allow_next()
            return None
        return SnapshotProgress(self._state.to_text())

    def _has_left_end(self, at: Checkpoint) -> bool:
        """True after the position of the last rows: only there may ordinals begin again."""
        ended_at = self._ended_at
        return ended_at is None or compare(at.at_boundary(), ended_at.at_boundary()) is PositionOrder.AFTER

    @property
    def _is_reported(self) -> bool:
        """True when the store shows that the request is over."""
        current = self._watch.current
        return self._watch.is_known and (current is None or self._state is None or current.request.id != self._state.id)

    def _allow_next(self) -> None:
        """Tell which ordinal the next request begins with, unless one is carried out, or the stream has passed here."""
        state = self._state
        if self._held is not None or self._ending is not None:
            self._watch.next_ordinal = None
        elif state is None:
            self._watch.next_ordinal = FIRST_ORDINAL
        else:
            self._watch.next_ordinal = state.ordinal if state.done else None

    def stored(self, flush: Flush, now_s: float) -> None:
        """The stream has stored this flush of rows."""
        self._pace.stored(flush.changes, now_s)
        if self._ending is not None:
            self._ending.stored()
            self._end_cancelled()
            return
        if self._counts is None:
            return
        self._counts.stored()
        if self._counts.is_done:
            self._report_end(self._counts.report())
        elif self._counts.has_news(now_s):
            self._watch.report(self._counts.report())

    def _end_cancelled(self) -> None:
        """Send the last report of a cancelled request, once its rows are stored."""
        if self._ending is not None and not self._ending.is_waiting:
            self._watch.report(self._ending.cancelled())
            self._ending = None
            self._allow_next()

    def _report_end(self, report: SnapshotReport) -> None:
        self._over, self._current, self._counts, self._chunks = report.id, None, None, None
        self._watch.report(report)

    # Rows

    def has_rows(self, reached: Checkpoint, now_s: float, *, may_order: bool = True) -> bool:
        """Whether rows are due at this transaction boundary, at which everything was observed. Orders further ones,
        unless later changes were decoded already (`may_order`).
        """
        has_passed = self._has_passed(reached)
        if self._whole is not None and self._whole.has_begun and not self._whole.is_read:
            return self._pace.may_publish(now_s)
        self._follow_requests(reached)
        if self._counts is None or self._is_stopped() or not has_passed:
            return False
        assert self._state is not None
        if self._chunks is not None:
            self._read_on(self._chunks, reached, now_s, may_order=may_order)
            if self._is_stopped():
                return False
        if self._chunks is None:
            return not self._state.done
        return self._chunks.is_ready(reached) and self._pace.may_publish(now_s)

    def _is_stopped(self) -> bool:
        """True when the request is paused, or cancelled; a table that was reset is published to its end first."""
        state, current = self._state, self._current
        if current is None or state is None:
            return True
        return not state.is_reset and (current.is_paused or current.status.has_ended)

    def take_rows(self, reached: Checkpoint, now_s: float) -> PublishedRows | None:
        """The rows that are due; None if all of them were overtaken, or an earlier change has discarded them."""
        rows = self._take(reached, now_s)
        subject = None if self._current is None else self._current.request.subject
        return rows if rows is None else replace(rows, progress=replace(rows.progress, subject=subject))

    def _take(self, reached: Checkpoint, now_s: float) -> PublishedRows | None:
        state, counts = self._state, self._counts
        assert state is not None
        assert counts is not None
        if self._chunks is None:
            counts.published(0, None)
            self._mark_done(reached)
            return PublishedRows(None, SnapshotProgress(replace(state, done=True).to_text()))
        if not self._chunks.is_ready(reached):
            return None
        if isinstance(self._chunks, WholeTable):
            return self._take_whole(self._chunks, reached, now_s)
        rows, kept, chunk = self._chunks.take(self._pace.rows, self._pace.bytes)
        self._state = replace(state, key=chunk.last_key_of(rows), ordinal=state.ordinal + len(kept))
        if self._state.ordinal > LAST_ORDINAL:
            self._state = state
            self._leave_out(self._chunks, NO_NUMBERS)
            return None
        if not len(kept):
            return None
        counts.published(len(kept), state.table)
        self._pace.publish(len(kept), now_s)
        return publish(kept, state, self._state, chunk.last_key_of, reached, chunk.high.ts_us)

    def _take_whole(self, table: WholeTable, reached: Checkpoint, now_s: float) -> PublishedRows | None:
        """The reset of a table, or its next rows."""
        state, counts = self._state, self._counts
        assert state is not None
        assert counts is not None
        assert table.schema is not None
        if table.has_begun:
            rows = table.take(self._pace.rows, self._pace.bytes)
            found, count = publish_whole(rows, state, reached, table.read_us, is_end=table.is_read), len(rows)
            self._state = replace(state, ordinal=state.ordinal + count, is_reset=not table.is_read)
        else:
            if state.ordinal + table.count > LAST_ORDINAL:
                self._leave_out(table, NO_NUMBERS)
                return None
            self._pace.begin_whole()
            spent = state.spent + 1 + counts.begin_whole(state.table, table.count)
            table.begin()
            assert self._current is not None
            after = replace(state, spent=spent, is_reset=not table.is_read, subject=self._current.request.subject)
            self._state = after = replace(after, ordinal=state.ordinal + 1)
            of_table = (table.schema, table.server[1])
            found, count = publish_reset(of_table, state, after, reached, table.read_us, is_end=table.is_read), 0
        counts.published(count, state.table)
        self._pace.publish(max(1, count), now_s)
        return found

    def _has_passed(self, reached: Checkpoint) -> bool:
        """False while the stream has changes after the position that is read."""
        if self._held is not None and compare(reached, self._held).is_at_or_after:
            self._held = None
            self._allow_next()
        return self._held is None

    def _read_on(self, chunks: TableChunks | WholeTable, reached: Checkpoint, now_s: float, *, may_order: bool) -> None:
        """Take what was read, order more, and continue with the next table after the last row."""
        assert self._state is not None
        assert self._counts is not None
        was_open = chunks.opened is not None
        chunks.take_results()
        if chunks.failure is not None:
            self._leave_out(chunks, chunks.failure)
            return
        if self._counts.note_trouble(self._state.table, chunks.trouble):
            self._watch.report(self._counts.report())
        if chunks.opened is not None and not was_open:
            self._counts.begin_table(self._state.table, chunks.opened.estimate)
            if self._state.order != chunks.opened.order:
                self._state = replace(self._state, key=(), order=chunks.opened.order)
            if chunks.opened.order == WHOLE:
                self._chunks = chunks = WholeTable(self._reader, chunks.name, chunks.opened)
        is_read = chunks.is_read
        if chunks.passed:
            # Rows that do not meet a condition, or were overtaken, need not be read again.
            self._state, chunks.passed = replace(self._state, key=chunks.passed), None
        if is_read:
            self._counts.end_table(self._state.table)
            if isinstance(chunks, WholeTable) and self._current is not None:
                self._pace.begin(self._current.request.rows_per_s)
            self._go_to(self._state.table + 1)
        elif may_order:
            chunks.give_order(reached, self._state.key, now_s)

    def _leave_out(self, chunks: TableChunks | WholeTable, error: str) -> None:
        assert self._state is not None
        assert self._counts is not None
        if self._state.is_reset:
            error = f"{error}. {PARTLY_PUBLISHED}"
        log.warning("snapshot %s leaves out %s: %s", self._state.id, ".".join(chunks.name), error)
        self._counts.fail(self._state.table, error)
        self._go_to(self._state.table + 1)

    def _go_to(self, table: int) -> None:
        """Go on with another table, or with the end after the last one."""
        assert self._state is not None
        assert self._current is not None
        tables = self._current.request.tables
        name = tables[table] if table < len(tables) else ("", "")
        self._state = replace(self._state, table=table, name=name, key=(), order="", is_reset=False)
        self._open_chunks()

    def _open_chunks(self) -> None:
        assert self._state is not None
        assert self._current is not None
        request, is_over = self._current.request, self._state.table >= len(self._current.request.tables)
        self._chunks = None if is_over else TableChunks(self._reader, self._state.name, request.where)

    # Requests

    def _follow_requests(self, reached: Checkpoint) -> None:
        """Begin the current request, continue it, or end it."""
        if not self._watch.is_known:
            return
        current, state = self._watch.current, self._state
        if state is not None and not state.done and (current is None or current.request.id != state.id):
            if state.is_reset:
                if self._current is None:
                    rest = request_of_rest(state)
                    self._carry_out(rest, SnapshotCounts(rest, state))
                return
            log.info("snapshot %s was cancelled", state.id)
            self._ending, self._counts, self._chunks = self._counts, None, None
            self._mark_done(reached)
            if self._ending is None:
                self._watch.report(SnapshotReport(state.id, "cancelled", ()))
            self._end_cancelled()
        if current is None or current.request.id == self._over:
            self._current = None
        elif self._current is not None and self._current.request.id == current.request.id:
            self._current = current
            if self._is_stopped() and self._chunks is not None:
                self._chunks.discard()
        else:
            self._begin(current)

    def _begin(self, current: CurrentSnapshot) -> None:
        """Begin a request, or continue one whose progress is in the stream."""
        state, request = self._state, current.request
        if state is not None and state.id == request.id:
            counts = SnapshotCounts(current, state)
            if state.done:  # the report was lost
                counts.finish()
                self._report_end(counts.report())
                return
        elif current.status.rows:
            self._report_end(SnapshotCounts(current, None).lost())
            return
        else:
            state = SnapshotState(request.id, name=request.tables[0], ordinal=current.first_ordinal)
            self._state, self._ended_at = state, None
            self._allow_next()
            counts = SnapshotCounts(current, state)
        self._carry_out(current, counts)

    def _carry_out(self, current: CurrentSnapshot, counts: SnapshotCounts) -> None:
        self._current, self._counts = current, counts
        self._pace.begin(current.request.rows_per_s)
        self._open_chunks()

    def _mark_done(self, reached: Checkpoint) -> None:
        """No row follows."""
        assert self._state is not None
        self._state, self._ended_at = replace(self._state, done=True), self._held or reached
        self._allow_next()
