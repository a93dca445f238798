"""The mirror target: applies changes, and rebuilds the table where they do not suffice (rebuild.py).

Several mirrors in one target can be joined: each transaction of the source then becomes visible at once in all of them.
A table that is rebuilt from the server is ahead of the others until they reach its snapshot.

A gap (consume/gaps.py) is recorded in the transaction of the message that reports it, and resolved in the transaction
of the next rebuild.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from binlogsync.change_batch import ChangeBatch
from binlogsync.consume.boundaries import changes_up_to, count_changes, drop_first, earlier
from binlogsync.consume.gaps import gap_from_batch
from binlogsync.consume.progress import ConsumerProgress, ProgressKey
from binlogsync.consume.targets import ApplyAloneError, TableChanges, Target
from binlogsync.errors import ConfigError, ConsumeError, RefusedChangeError
from binlogsync.mirror import apply as mirror
from binlogsync.mirror.rebuild import RebuildableMirror
from binlogsync.mirror.side_by_side import load_side_by_side
from binlogsync.nats.messages import StreamBatch
from binlogsync.nats.reader import StreamReader
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.position_masks import changes_after
from binlogsync.position_order import compare
from binlogsync.snapshot.watermarks import ReadStoppedError
from binlogsync.targets import TableTransaction
from binlogsync.targets.fingerprints import FingerprintRequest
from binlogsync.targets.mirror_state import MirrorState

_FEW_CHANGES = 10_000


class Mirror(RebuildableMirror):
    """A table `database.table` in `tables` that stays equal to the table of the source (see apply.py).

    `tables` is a TableStore, or the path of a DuckDB file.

    With `source` the mirror starts with a snapshot if the stream does not contain the table from its creation, and is
    rebuilt if the effect of a schema change is not provable. Without `source` the mirror starts empty, and such a
    schema change raises ConsumeError.
    """

    @property
    def names(self) -> tuple[str, str]:
        """(database, table)."""
        return self.database, self.table

    def take(self, work: Sequence[TableChanges], stop: threading.Event) -> None:
        """Apply the changes in one transaction, or in several if the mirror is rebuilt in between."""
        _apply_together([(self, changes) for changes in work], stop)

    @property
    def join_scope(self) -> str:
        """The target."""
        return self.tables.address

    def join(self, others: Sequence[Target], *, may_load: bool = True) -> Target:
        """Mirrors that are applied in one transaction. Raises ConfigError unless all are mirrors in one target."""
        mirrors = [each for each in (self, *others) if isinstance(each, Mirror)]
        if len(mirrors) <= len(others):
            return super().join(others)
        return _JoinedMirrors(mirrors, may_load=may_load)


class _JoinedMirrors(Target):
    """Several mirrors in one target, applied in one transaction."""

    def __init__(self, mirrors: Sequence[Mirror], *, may_load: bool) -> None:
        self._may_load = may_load
        self._mirrors = {one.names: one for one in mirrors}
        tables, self.store = mirrors[0].tables, mirrors[0].store
        if len(self._mirrors) != len(mirrors) or any(one.tables.address != tables.address for one in mirrors):
            raise ConfigError("mirrors that change together must be in one file, and each of a different table")
        for one in mirrors:
            if one.tables is not tables:
                one.tables.release()  # it may have kept the file open alone before
            one.tables, one.store = tables, self.store  # so that the target is released once for all

    @property
    def repairs_gaps(self) -> bool:
        """True, as for one mirror."""
        return True

    def use_streams(self, reader: StreamReader, keys: Sequence[ProgressKey], stop: threading.Event) -> None:
        """See Target: load the new mirrors side by side."""
        mirrors = [(self._mirrors[key.database, key.table], key) for key in keys]
        new = [(one, key) for one, key in mirrors if one.begin_stream(reader, key, stop)]
        load_side_by_side([(one, partial(one.load_first, key)) for one, key in new])

    def repair(self, key: ProgressKey, progress: ConsumerProgress) -> None:
        """Rebuild the mirror of this table if it has an open gap."""
        self._mirrors[key.database, key.table].repair(key, progress)

    def take(self, work: Sequence[TableChanges], stop: threading.Event) -> None:
        """See Target."""
        keys = (changes.tracker.key for changes in work)
        mirrors = [self._mirrors[key.database, key.table] for key in keys]
        _apply_together(list(zip(mirrors, work, strict=True)), stop, may_load=self._may_load)


class _RefusedError(Exception):
    """The item `items[done]` of the mirror with that index is refused."""

    def __init__(self, error: ConsumeError, index: int, items: Sequence[StreamBatch], done: int) -> None:
        self.error, self.index, self.before, self.item = error, index, items[:done], items[done]
        super().__init__(str(error))

    def cut(self, todo: Sequence[TableChanges]) -> list[TableChanges]:
        """The changes before the transaction of the refused item.

        The mirror itself goes no further than the items before it: rows that a snapshot has published may have the
        position of that transaction's start.
        """
        batch = self.item.batch
        file, pos = (batch.data.column(name)[0].as_py() for name in ("file", "txn_pos"))
        at, sequence = Checkpoint(BinlogPosition(file, pos), batch.server_uuid), int(self.item.sequences[0])
        parts = [self.before if index == self.index else each.batches for index, each in enumerate(todo)]
        return [
            replace(each, batches=changes_up_to(items, at, before_sequence=sequence))
            for each, items in zip(todo, parts, strict=True)
        ]


def _apply_together(
    work: Sequence[tuple[Mirror, TableChanges]], stop: threading.Event, *, may_load: bool = True
) -> None:
    """Apply the changes of all mirrors in one transaction, or in several if mirrors are rebuilt in between.

    Mirrors that have to be rebuilt are rebuilt side by side. A transaction also ends at the position of a requested
    fingerprint. If a mirror refuses a change, all changes before that transaction are applied before the error is
    raised. See Target.join for `may_load`.
    """
    for one, changes in work:
        _check_table(one, changes)
    mirrors, todo = [one for one, _ in work], [changes for _, changes in work]
    refused: _RefusedError | None = None
    while True:
        try:
            _apply_all(mirrors, todo, stop, may_load=may_load)
        except _RefusedError as found:
            refused, todo = found, found.cut(todo)
        else:
            if refused is not None and not stop.is_set():
                raise refused.error
            return


def _apply_all(mirrors: Sequence[Mirror], todo: list[TableChanges], stop: threading.Event, *, may_load: bool) -> None:
    """Apply the changes, which are removed from `todo` when they are stored."""
    tables, with_gap = mirrors[0].tables, set[int]()
    while any(each.batches for each in todo) and not stop.is_set():
        done: list[tuple[TableChanges, ConsumerProgress]] = []
        left = list(todo)
        rebuilds: list[tuple[int, mirror.RebuildReason]] = []
        is_small = sum(count_changes(each.batches) for each in todo) <= _FEW_CHANGES
        with tables.begin(keep_open=True, is_small=is_small) as transaction:
            parts, requests = _changes_to_request(transaction, mirrors, todo)
            states = _load_states(transaction, mirrors, parts)
            for index, (one, each, items) in enumerate(zip(mirrors, todo, parts, strict=True)):
                state = states.get(one.names) or transaction.load_mirror(*one.names)
                batches = [item.batch for item in items]
                try:
                    reason = mirror.apply(
                        transaction, batches, one.options, can_read=one.source is not None, loaded=state
                    )
                except RefusedChangeError as error:
                    raise _RefusedError(error, index, items, error.done) from None
                if reason is not None:
                    rebuilds.append((index, reason))
                    items = items[: reason.done]
                if _record_gaps(transaction, each.tracker.key, items, state.read_at):
                    with_gap.add(index)
                if items:
                    pairs = [(item.batch, item.last_sequence) for item in items]
                    done.append((replace(each, batches=items), each.tracker.after(pairs)))
                left[index] = replace(each, batches=drop_first(each.batches, count_changes(items)))
            if not may_load and (loads := with_gap.union(index for index, _ in rebuilds)):
                raise ApplyAloneError({mirrors[index].names for index in loads})
            for one, request in requests if not rebuilds else ():
                transaction.write_fingerprint(transaction.load_mirror(*one.names), request)
            moved = transaction.move_all_progress(
                [(each.tracker.key, each.tracker.progress, progress) for each, progress in done]
            )
        todo[:] = left
        for (each, _), progress in zip(done, moved, strict=True):
            each.tracker.confirm(progress, [item.batch for item in each.batches])
        if rebuilds:
            tables.release()
            if not all(mirrors[index].wait_to_rebuild(reason, stop) for index, reason in rebuilds):
                break  # the remaining changes are delivered again
            load_side_by_side(
                [(mirrors[index], partial(_rebuild, mirrors[index], reason, todo[index])) for index, reason in rebuilds]
            )
    for index in sorted(with_gap) if not stop.is_set() else ():
        mirrors[index].repair(todo[index].tracker.key, todo[index].tracker.progress)


def _rebuild(one: Mirror, reason: mirror.RebuildReason, left: TableChanges) -> None:
    """Rebuild the mirror before the next of the changes that are left; returns early on a stop."""
    with suppress(ReadStoppedError):
        one.rebuild_before(reason, left.batches[0].batch, left.tracker.key)


def _check_table(one: Mirror, changes: TableChanges) -> None:
    for item in changes.batches:
        if (item.batch.schema.database, item.batch.schema.table) != one.names:
            raise ConfigError(f"the mirror of {'.'.join(one.names)} received changes of {item.batch.schema.name}")


def _changes_to_request(
    transaction: TableTransaction, mirrors: Sequence[Mirror], todo: Sequence[TableChanges]
) -> tuple[list[Sequence[StreamBatch]], list[tuple[Mirror, FingerprintRequest]]]:
    """The changes before the first requested fingerprint, with the requests for that position; all if there is none."""
    requests = transaction.load_requests()
    found = [
        (one, request)
        for one, each in zip(mirrors, todo, strict=True)
        for request in requests.get(one.names, ())
        if count_changes(changes_up_to(each.batches, request.at)) < count_changes(each.batches)
    ]
    if not found:
        return [each.batches for each in todo], []
    at = found[0][1].at
    for _, request in found:
        at = earlier(at, request.at)
    return [changes_up_to(each.batches, at) for each in todo], [
        one for one in found if one[1].at.position == at.position
    ]


def _load_states(
    transaction: TableTransaction, mirrors: Sequence[Mirror], parts: Sequence[Sequence[StreamBatch]]
) -> Mapping[tuple[str, str], MirrorState]:
    """The stored states of the mirrors; none if a statement among the changes may change that of another mirror."""
    if any(item.batch.ddl is not None for items in parts for item in items):
        return {}
    return transaction.load_stored_mirrors([one.names for one in mirrors])


def _record_gaps(
    transaction: TableTransaction,
    key: ProgressKey,
    done: Sequence[StreamBatch],
    read_at: Checkpoint | None,
) -> bool:
    """Record the gaps that these messages report, in the open transaction; True if there is one.

    Changes before `read_at` are in the mirror already.
    """
    gaps = [(gap_from_batch(item.batch, is_mirror=True), item.batch) for item in done if item.batch.ddl is not None]
    wanted = [gap for gap, batch in gaps if gap and (read_at is None or not _is_read(batch, read_at))]
    for gap in wanted:
        transaction.insert_gap(key, gap)
    return bool(wanted)


def _is_read(message: ChangeBatch, read_at: Checkpoint) -> bool:
    """True when every change that the message reports as missing precedes the snapshot."""
    until = None if message.ddl is None else message.ddl.until
    if until is not None:
        return message.server_uuid == read_at.server_uuid and compare(until, read_at.position).is_at_or_before
    return not len(changes_after(message, read_at))
