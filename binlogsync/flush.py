"""A flush: the batches and schema changes that the tail publishes at once, and the checkpoint after them.

A `Flush` can be cut anywhere: `checkpoint_at` returns the checkpoint at which only its first changes are stored, and
`without_stored` leaves out the changes that a sink already has. Both follow one rule: a change is stored if its (file
number, txn_pos, order) is lower than (file number, pos, skip) of the checkpoint. After a failover, when the checkpoint
is of another server, the GTIDs decide instead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from binlogsync.change import SchemaChange
from binlogsync.change_batch import ChangeBatch
from binlogsync.log_identity import EventMark, LogIdentity
from binlogsync.position import BinlogPosition, Checkpoint, EventPosition, GtidSet, ResumePosition
from binlogsync.position_masks import changes_after
from binlogsync.position_order import PositionOrder, compare, compare_or_raise

__all__ = ["Flush", "FlushReason", "SnapshotProgress", "TransactionRun", "SchemaChange"]

_UUID_LENGTH = 36

FlushReason = Literal["interval", "rows", "bytes", "eager", "rotation", "schema", "idle", "stop", "gap", "snapshot"]


@dataclass(frozen=True, slots=True)
class TransactionRun:
    """Transactions with consecutive GTIDs, so that a flush of 100,000 commits needs few of these objects.

    Attributes:
        key: "uuid", "uuid:tag" or MariaDB's "domain-server_id"; None where the server has no GTIDs.
        first: sequence number of the first transaction; 0 without GTIDs.
        begin: position where each transaction begins.
        first_seq: `seq` of the first change of each transaction, or of the next change if it has none.
        file: file of them all.
        log: identity of that file, None if unknown.
        before: offset of the event before each transaction, -1 if unknown; empty if all are unknown.
        mark: time and checksum of that event, in the form of EventMark.packed.
    """

    key: str | None
    first: int
    file: str
    begin: Sequence[int]
    first_seq: Sequence[int]
    log: LogIdentity | None = None
    before: Sequence[int] = ()
    mark: Sequence[int] = ()

    def log_before(self, index: int) -> LogIdentity | None:
        """Identity of the log at the start of one of the transactions."""
        if self.log is None or len(self.before) <= index or self.before[index] < 0:
            return self.log
        return self.log.with_event(EventMark.unpacked(int(self.before[index]), int(self.mark[index])))

    def gtid(self, index: int) -> str | None:
        """GTID of one of the transactions, as the server writes it."""
        if self.key is None:
            return None
        is_mysql = len(self.key) >= _UUID_LENGTH
        return f"{self.key}{':' if is_mysql else '-'}{self.first + index}"


@dataclass(frozen=True, slots=True)
class SnapshotProgress:
    """Progress of an incremental snapshot, which a stream stores with the changes (codec/snapshot_state.py).

    Attributes:
        text: after the whole flush.
        after: returns the text after the first n rows of the flush, for a flush with rows of the snapshot; else None.
        subject: the first tokens of the subjects of these rows, if they are for one consumer alone; else None.
    """

    text: str
    after: Callable[[int], str] | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Flush:
    """Changes in binlog order (merge the batches by `seq`) and the checkpoint after the last of them.

    Attributes:
        source: name of the source.
        number: number of this flush since its tail started, from 1.
        reason: the rule that triggered it.
        batches: of every table, each in binlog order, schema changes included; empty when only the checkpoint moved.
        start: checkpoint before the first change.
        checkpoint: where a restart resumes when the whole flush is stored.
        runs: the transactions of the changes, in order.
        schema_changes: DDL statements between the changes, each once even if it affects several tables.
        dropped: changes left out by the table filter since the last flush.
        resume: a position before all XA transactions that were prepared and uncommitted at some point of the flush.
        opened_us: when the first change arrived, microseconds since 1970 UTC.
        closed_us: when the flush was cut.
        note: a JSON document that describes the gap if the reason is "gap", else "".
        snapshot: progress of the incremental snapshot that is not finished, else None. A flush has either changes, or
            rows of the snapshot (then the reason is "snapshot", and all rows are at the checkpoint).
        tables: (database, table) of the batches, sorted.
        changes: number of row changes.
        nbytes: bytes of their values.
    """

    source: str
    number: int
    reason: FlushReason
    batches: tuple[ChangeBatch, ...]
    start: Checkpoint
    checkpoint: Checkpoint
    runs: tuple[TransactionRun, ...] = ()
    schema_changes: tuple[SchemaChange, ...] = ()
    dropped: int = 0
    opened_us: int = 0
    closed_us: int = 0
    resume: ResumePosition | None = None
    note: str = ""
    snapshot: SnapshotProgress | None = None
    tables: tuple[tuple[str, str], ...] = field(init=False, default=())
    changes: int = field(init=False, default=0)
    nbytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        names = sorted({(b.schema.database, b.schema.table) for b in self.batches})
        object.__setattr__(self, "tables", tuple(names))
        object.__setattr__(self, "changes", sum(len(batch) for batch in self.batches if batch.ddl is None))
        object.__setattr__(self, "nbytes", sum(batch.nbytes for batch in self.batches))

    @property
    def has_snapshot_rows(self) -> bool:
        """True for rows, or the end, of an incremental snapshot: not for sinks that store changes alone."""
        return self.reason == "snapshot"

    @property
    def rows_subject(self) -> str | None:
        """The first tokens of the subjects of its rows, if they are for one consumer alone; else None."""
        return self.snapshot.subject if self.has_snapshot_rows and self.snapshot is not None else None

    def without_snapshot_rows(self) -> Flush:
        """The checkpoint alone, of a flush with rows of a snapshot; any other flush as it is."""
        return replace(self, batches=(), snapshot=None, reason="idle") if self.has_snapshot_rows else self

    def snapshot_text(self, count: int | None = None) -> str:
        """Progress of the snapshot after the first `count` rows of the flush, or after all; "" without a snapshot."""
        if self.snapshot is None:
            return ""
        return self.snapshot.text if count is None or self.snapshot.after is None else self.snapshot.after(count)

    def checkpoint_at(self, seq: int, order: int, ts_us: int) -> Checkpoint:
        """The checkpoint when the change with this `seq`, `order` and commit time is the last one stored."""
        gtids = self.start.gtids
        for number, run in enumerate(self.runs, 1):
            if number == len(self.runs) or self.runs[number].first_seq[0] > seq:
                index = bisect_right(run.first_seq, seq) - 1
                position = BinlogPosition(run.file, int(run.begin[index]))
                before, inside = _with(gtids, run, index), run.gtid(index)
                resume = self._resume_before(ResumePosition(position, before))
                # The start may be of the server before a failover; what was read is of one server.
                server = self.checkpoint.server_uuid
                return Checkpoint(position, server, before, order + 1, ts_us, resume, inside, run.log_before(index))
            gtids = _with(gtids, run, len(run.begin))
        raise AssertionError(f"change {seq} belongs to no transaction of flush {self.number}")

    def _resume_before(self, boundary: ResumePosition) -> ResumePosition | None:
        """The resume position, if a checkpoint at the boundary needs it: not if it is unknown whether it is before."""
        if self.resume is None:
            return None
        order = compare(self.resume, boundary)
        # With equal GTIDs it may still be before: transactions without a GTID may be between the two.
        by_gtid = self.resume.gtids is not None and boundary.gtids is not None
        return self.resume if order is PositionOrder.BEFORE or (by_gtid and order is PositionOrder.SAME) else None

    def without_stored(self, stored: Checkpoint | None) -> Flush:
        """This flush without the changes that a sink with that checkpoint has; itself if the sink has none of them, or
        if the GTID sets diverge.

        Raises PositionError when the checkpoint is of another server and there are no GTIDs.
        """
        if stored is None or compare_or_raise(stored, self.start).may_be_before:
            return self
        kept = tuple(part for batch in self.batches if len(part := changes_after(batch, stored)))
        statements = tuple(each for each in self.schema_changes if not self._is_stored(each, stored))
        return replace(self, batches=kept, schema_changes=statements)

    def _is_stored(self, statement: SchemaChange, stored: Checkpoint) -> bool:
        """True when the checkpoint is known to be at or after the statement."""
        at = EventPosition(statement.position, self.checkpoint.server_uuid, statement.gtid)
        return compare(at, stored).is_at_or_before


def merge_flushes(flushes: Sequence[Flush], reason: FlushReason) -> Flush:
    """Consecutive flushes as one, with the number of the first. Flushes with a note are not merged."""
    first, last = flushes[0], flushes[-1]
    if len(flushes) == 1:
        return first
    runs: list[TransactionRun] = []
    for flush in flushes:
        added = flush.runs
        if runs and added and (runs[-1].file, runs[-1].begin[-1]) == (added[0].file, added[0].begin[0]):
            added = without_first_transaction(added)  # the flush before was cut inside this transaction
        runs += added
    return replace(
        first,
        reason=reason,
        batches=tuple(batch for flush in flushes for batch in flush.batches),
        checkpoint=last.checkpoint,
        runs=tuple(runs),
        schema_changes=tuple(each for flush in flushes for each in flush.schema_changes),
        dropped=sum(flush.dropped for flush in flushes),
        closed_us=last.closed_us,
        resume=next((flush.resume for flush in flushes if flush.resume is not None), None),
        snapshot=last.snapshot,
    )


def without_first_transaction(runs: Sequence[TransactionRun]) -> tuple[TransactionRun, ...]:
    """The runs without their first transaction."""
    first, *rest = runs
    if len(first.begin) == 1:
        return tuple(rest)
    kept = {name: getattr(first, name)[1:] for name in ("begin", "first_seq", "before", "mark")}
    return (replace(first, first=first.first + 1, **kept), *rest)


def _with(gtids: GtidSet | None, run: TransactionRun, count: int) -> GtidSet | None:
    """The set and the first `count` transactions of the run."""
    if gtids is None or run.key is None or not count:
        return gtids
    return gtids.with_run(run.key, run.first, run.first + count - 1)
