"""Rewinds a consumer: back, so that the changes after a position are delivered again; or forward, past changes that it
then never gets.

A rewind sets progress to the last change before the position, as if that change had been applied last. The update is
conditional like any other: the next transaction of a running consumer fails and stores nothing, and the next run starts
at the new position. Who rewound which consumer, to which position and why is recorded with progress (in DuckDB in the
table `binlogsync.rewinds`, in the same transaction), and in the audit log if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from binlogsync.consume.progress import (
    NO_PROGRESS,
    ConsumerProgress,
    ProgressKey,
    ProgressStore,
    progress_at,
)
from binlogsync.errors import ConfigError, ConsumeError, PositionError
from binlogsync.mirror.target import Mirror
from binlogsync.position import Checkpoint
from binlogsync.position_order import PositionOrder, compare
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.sources import ChangeSources
from binlogsync.schema import remove_columns
from binlogsync.sinks.audit_records import record_rewind
from binlogsync.targets import TableTransaction
from binlogsync.targets.mirror_options import with_key
from binlogsync.targets.mirror_state import MirrorState
from binlogsync.targets.records import RewindRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindRequest:
    """A requested rewind.

    Attributes:
        key: the consumer.
        to: the position, in the notation of the end of a range (range_bounds.py).
        reason: the reason; required for a rewind forward without `rebuild`, which omits changes.
        who: recorded: a user, or the id of a run.
        is_mirror: whether the consumer is a mirror; None finds out from the file.
        rebuild: for a mirror: read the table from the source into a new one, and replace the mirror by it in the
            transaction of the rewind. The rows then do not depend on the position.
    """

    key: ProgressKey
    to: str
    reason: str = ""
    who: str = ""
    is_mirror: bool | None = None
    rebuild: bool = False


@dataclass(frozen=True, slots=True)
class RewindResult:
    """The result of a rewind.

    Attributes:
        direction: "back", "forward", or "nowhere" when progress was already at the position.
        messages: number of stream messages that are delivered again, or never.
        before, after: the progress.
    """

    direction: Literal["back", "forward", "nowhere"]
    messages: int
    before: ConsumerProgress
    after: ConsumerProgress

    def __str__(self) -> str:
        if self.direction == "nowhere":
            return f"already at that position, after {self.before}"
        meaning = "will be delivered again" if self.direction == "back" else "will never be delivered"
        return f"set {self.direction} to after {self.after}; {self.messages:,} message(s) of the stream {meaning}"


def rewind(
    sources: ChangeSources, store: ProgressStore, move: RewindRequest, audit: Path | None = None
) -> RewindResult:
    """Set a consumer's progress and record it; `audit` is the file of the audit log, if there is one.

    Raises ConfigError for a missing reason or a rebuild of a handler, PositionError for a position that the stream does
    not contain, ConsumeError if a mirror would become wrong, if it has no table to rebuild, or if the consumer updated
    its progress at the same time, SourceError if the table of a mirror to rebuild cannot be read. Nothing is changed
    then.
    """
    stream = sources.stream
    if stream is None:
        raise PositionError(f"{move.key}: there is no stream to consume from; start the tail of {move.key.source}")
    if move.rebuild:
        _check_rebuild(store, move)
    position = sources.resolve(move.to)
    _check_reachable(sources, stream, move, position)
    kept = store.load(move.key)
    wanted = replace(
        _progress_before(stream, position),
        changes=kept.changes,
        epoch=kept.epoch,
        stream=stream.reader.created_at(),
    )
    first, last = sorted((kept.sequence, wanted.sequence))
    direction = _direction(kept, wanted)
    if direction == "forward" and not move.rebuild and not move.reason.strip():
        raise ConfigError(f"{move.key}: moving forward to {move.to} omits changes permanently; give a `reason`")
    messages = stream.count_messages(first + 1, last) if direction != "nowhere" else 0
    moved = RewindResult(direction, messages, kept, wanted)
    if direction == "nowhere" and not move.rebuild:
        return moved
    moved = replace(moved, after=_store(sources, store, move, moved))
    if audit is not None:
        record_rewind(audit, _record(move, moved))
    return moved


def _check_reachable(
    sources: ChangeSources, stream: StreamRangeReader, move: RewindRequest, position: Checkpoint
) -> None:
    if not stream.holds_from(position):
        raise PositionError(
            f"{move.key}: the stream may have dropped changes after {move.to} ({position}), so it cannot deliver them "
            f"again; {sources.describe_available()}; use a backfill, which reads the binlogs too"
        )
    if not stream.reaches(position):
        raise PositionError(f"{move.key}: the stream has not reached {move.to} ({position}) yet; wait for the tail")


def _check_rebuild(store: ProgressStore, move: RewindRequest) -> None:
    """Raise ConfigError if the consumer has no mirror, ConsumeError if that has no table yet."""
    key = move.key
    if (tables := store.tables) is None or move.is_mirror is False:
        raise ConfigError(f"{key}: the consumer is not a mirror, so there is nothing to rebuild; omit rebuild")
    with tables.begin() as transaction:
        has_table = transaction.load_mirror(key.database, key.table).schema is not None
    if not has_table:
        raise ConsumeError(
            f"{key}: {tables.address} has no table of its mirror, so there is nothing to rebuild: its consumer loads "
            "it. If that failed because of the `key`, correct the rows in MySQL; the load is tried again"
        )


def _progress_before(stream: StreamRangeReader, position: Checkpoint) -> ConsumerProgress:
    """Progress of a consumer that has applied all changes before the position, and none after it."""
    found = stream.last_before(position)
    if found is not None:
        item, row = found
        sequence = int(item.sequences[row])
        return progress_at(item.batch, row, sequence, sequence)
    first = stream.bounds()[0]
    begin = stream.oldest()
    if begin is None:
        return replace(NO_PROGRESS, sequence=first - 1, seen=first - 1)
    here, _ = begin
    # The stream has no change of the table before the position: treat all before its first transaction as applied.
    return replace(
        NO_PROGRESS,
        server_uuid=here.server_uuid,
        file=here.position.file,
        pos=here.position.pos,
        sequence=first - 1,
        seen=first - 1,
    )


def _direction(kept: ConsumerProgress, wanted: ConsumerProgress) -> Literal["back", "forward", "nowhere"]:
    if (kept.sequence, kept.coordinates) == (wanted.sequence, wanted.coordinates):
        return "nowhere"
    if kept.server_uuid == wanted.server_uuid:
        return "back" if compare(wanted.at, kept.at) is PositionOrder.BEFORE else "forward"
    return "back" if wanted.sequence < kept.sequence else "forward"


def _store(sources: ChangeSources, store: ProgressStore, move: RewindRequest, moved: RewindResult) -> ConsumerProgress:
    """Store the new progress; in a target with tables together with the record, and with the rebuilt mirror."""
    if (tables := store.tables) is None:
        after = store.move(move.key, moved.before, moved.after)
        store.record_move(move.key, f"{datetime.now(UTC).isoformat()} {move.who}: {moved}; {move.reason}")
        return after
    stored: list[ConsumerProgress] = []

    def save(transaction: TableTransaction) -> None:
        stored.append(transaction.move_progress(move.key, moved.before, moved.after))
        transaction.insert_rewind(_record(move, moved))

    with tables.begin() as transaction:
        state = transaction.load_mirror(move.key.database, move.key.table)
        is_mirror = move.is_mirror is not False and state.schema is not None
        if not (is_mirror and move.rebuild):
            if is_mirror:
                _check_mirror(state, sources, move, moved)
                if moved.direction == "back" and state.policies.key:
                    transaction.store_mirror(_expect_repeats(state, moved.before))
            save(transaction)
    if not stored:
        rebuilt = Mirror(tables, move.key.database, move.key.table, sources.config, state.options)
        rebuilt.rebuild(move.key, moved.before, save)
    return stored[0]


def _check_mirror(state: MirrorState, sources: ChangeSources, move: RewindRequest, moved: RewindResult) -> None:
    """Raise ConsumeError unless the mirror can replay older changes: it needs a key and an unchanged set of columns."""
    key, schema, stream = move.key, state.schema, sources.stream
    assert schema is not None
    assert stream is not None
    advice = "rewind it with rebuild, which replaces the mirror by a new read of the table"
    if moved.direction == "back" and not schema.primary_key:
        raise ConsumeError(f"{key}: the mirror has no key, so redelivered rows would be duplicated; {advice}")
    then = stream.schema(moved.after.sequence + 1) if moved.direction == "back" else schema
    if then is not None:
        then = with_key(remove_columns(then, state.left_out or ()), state.policies.key)
    if then is None or then.fingerprint != schema.fingerprint:
        raise ConsumeError(f"{key}: the table's columns have changed since {move.to}; {advice}")


def _expect_repeats(state: MirrorState, before: ConsumerProgress) -> MirrorState:
    """The state of a mirror with a `key` that gets changes up to this progress again: they are no violations of it."""
    until = Checkpoint(before.at.position, before.server_uuid)
    return replace(state, policies=replace(state.policies, repeats_until=until.to_text()))


def _record(move: RewindRequest, moved: RewindResult) -> RewindRecord:
    return RewindRecord(
        key=move.key,
        direction=moved.direction,
        place=move.to,
        reason=move.reason,
        who=move.who,
        messages=moved.messages,
        before=str(moved.before),
        after=str(moved.after),
        is_rebuilt=move.rebuild,
    )
