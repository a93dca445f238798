"""Setting a consumer back, so that exactly the changes from a place on come again; or forward, over changes that it
then never gets.

Its progress is moved to the last change before the place, as if that were the one done last, so everything that seeks
by progress is right afterwards too. The move is conditional like any other: a consumer that is at work finds its next
transaction refused, with nothing of it stored, and the one that comes after it begins at the new place. Who moved what,
where to and why is kept beside the progress (in DuckDB as `binlogsync.rewinds`, in the transaction of the move), and in
the audit log where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import duckdb

from binlogsync.consume.progress import (
    NO_PROGRESS,
    ConsumerProgress,
    DuckProgress,
    ProgressKey,
    ProgressStore,
    progress_at,
)
from binlogsync.duckfile import META_SCHEMA, DuckFile
from binlogsync.errors import ConfigError, ConsumeError, PositionError, SinkError
from binlogsync.mirror.image_columns import remove_columns
from binlogsync.mirror.state import MirrorOptions, MirrorState, ensure_meta, load_state
from binlogsync.mirror.target import Mirror
from binlogsync.position import Checkpoint
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.sources import ChangeSources

_COLUMNS = (
    "(moved_at TIMESTAMPTZ, client VARCHAR, source VARCHAR, database VARCHAR, table_name VARCHAR, direction VARCHAR, "
    "place VARCHAR, reason VARCHAR, who VARCHAR, messages BIGINT, before VARCHAR, after VARCHAR, rebuilt BOOLEAN)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindRequest:
    """What a person wants.

    Attributes:
        key: whose progress.
        to: a bound of a range, as the user writes it (replay/bounds.py).
        reason: why; needed to go forward.
        who: for the record: a user, or the id of a run.
        is_mirror: whether the consumer keeps a mirror; None looks whether the file has one of the table.
        rebuild: of a mirror: read its table from the source beside it, and put that in its place in the transaction of
            the move. What the place is does not matter to its rows then.
    """

    key: ProgressKey
    to: str
    reason: str = ""
    who: str = ""
    is_mirror: bool | None = None
    rebuild: bool = False


@dataclass(frozen=True, slots=True)
class RewindResult:
    """What was done.

    Attributes:
        direction: "back", "forward", or "nowhere" when it stood there already.
        messages: of the stream that come again, or that never come.
        before, after: its progress.
    """

    direction: Literal["back", "forward", "nowhere"]
    messages: int
    before: ConsumerProgress
    after: ConsumerProgress

    def __str__(self) -> str:
        if self.direction == "nowhere":
            return f"it stands there already, behind {self.before}"
        meaning = "come again" if self.direction == "back" else "are left out for good"
        return f"set {self.direction} to behind {self.after}; {self.messages:,} message(s) of the stream {meaning}"


@runtime_checkable
class RewindLog(Protocol):
    """A ProgressStore that keeps a line on each move that a person has made."""

    def record_move(self, key: ProgressKey, line: str) -> None:
        """Keep it."""


def rewind(
    sources: ChangeSources, store: ProgressStore, move: RewindRequest, audit: Path | None = None
) -> RewindResult:
    """Move a consumer's progress, and record it; `audit` is the audit log's file, if there is one.

    Raises ConfigError for a move that lacks its reason, PositionError for a place that the stream does not hold,
    ConsumeError where a mirror would come out wrong, or the consumer moved at the same moment, SourceError where a
    mirror that is to be rebuilt cannot be read; nothing is changed then.
    """
    stream = sources.stream
    if stream is None:
        raise PositionError(f"{move.key}: there is no stream to consume from; start the tail of {move.key.source}")
    place = sources.resolve(move.to)
    _check_held(sources, stream, move, place)
    kept = store.load(move.key)
    wanted = replace(_progress_before(stream, place), changes=kept.changes, epoch=kept.epoch)
    first, last = sorted((kept.sequence, wanted.sequence))
    direction = _direction(kept, wanted)
    if direction == "forward" and not move.reason.strip():
        raise ConfigError(f"{move.key}: to go forward to {move.to} leaves changes out for good; say why, as `reason`")
    messages = stream.count_messages(first + 1, last) if direction != "nowhere" else 0
    moved = RewindResult(direction, messages, kept, wanted)
    if direction == "nowhere" and not move.rebuild:
        return moved
    moved = replace(moved, after=_store(sources, store, move, moved))
    if audit is not None:
        with DuckFile(audit, error=SinkError).transaction() as connection:
            _record(connection, "rewinds", move, moved)
    return moved


def _check_held(sources: ChangeSources, stream: StreamRangeReader, move: RewindRequest, place: Checkpoint) -> None:
    if not stream.holds_from(place):
        raise PositionError(
            f"{move.key}: the stream may have dropped what lies behind {move.to} ({place}), so a consumer cannot "
            f"get it again; {sources.describe_available()}; use a backfill, which reads the binlogs too"
        )
    if not stream.reaches(place):
        raise PositionError(f"{move.key}: the stream has not come to {move.to} ({place}) yet; wait for the tail")


def _progress_before(stream: StreamRangeReader, place: Checkpoint) -> ConsumerProgress:
    """Progress of a consumer that has done everything before the place and nothing behind it."""
    found = stream.last_before(place)
    if found is not None:
        item, row = found
        sequence = int(item.sequences[row].as_py())
        return progress_at(item.batch, row, sequence, sequence)
    first = stream.bounds()[0]
    begin = stream.oldest()
    if begin is None:
        return replace(NO_PROGRESS, sequence=first - 1, seen=first - 1)
    here, _ = begin
    # Nothing of the table is left before its first message: as if all in front of that transaction were done.
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
        return "back" if wanted.coordinates < kept.coordinates else "forward"
    return "back" if wanted.sequence < kept.sequence else "forward"


def _store(sources: ChangeSources, store: ProgressStore, move: RewindRequest, moved: RewindResult) -> ConsumerProgress:
    """Move it; in a DuckDB file with its record, and with the mirror that is rebuilt."""
    if not isinstance(store, DuckProgress):
        after = store.move(move.key, moved.before, moved.after)
        if isinstance(store, RewindLog):
            store.record_move(move.key, f"{datetime.now(UTC).isoformat()} {move.who}: {moved}; {move.reason}")
        return after
    stored: list[ConsumerProgress] = []

    def save(connection: duckdb.DuckDBPyConnection) -> None:
        stored.append(move.key.move(connection, moved.before, moved.after))
        _record(connection, f"{META_SCHEMA}.rewinds", move, moved)

    with store.file.transaction() as connection:
        ensure_meta(connection)
        state = load_state(connection, move.key.database, move.key.table)
        is_mirror = move.is_mirror is not False and state.schema is not None
        if not (is_mirror and move.rebuild):
            if is_mirror:
                _check_mirror(state, sources, move, moved)
            save(connection)
    if not stored:
        options = MirrorOptions(state.deleted_at, history=state.history_table is not None)
        rebuilt = Mirror(store.file.path, move.key.database, move.key.table, sources.config, options)
        rebuilt.rebuild(move.key, moved.before, save)
    return stored[0]


def _check_mirror(state: MirrorState, sources: ChangeSources, move: RewindRequest, moved: RewindResult) -> None:
    """A mirror can go back through older images to newer ones where it has a key and its columns were the same."""
    key, schema, stream = move.key, state.schema, sources.stream
    assert schema is not None
    assert stream is not None
    advice = "rewind it with rebuild, which reads the table again and puts that in its place"
    if moved.direction == "back" and not schema.primary_key:
        raise ConsumeError(f"{key}: the mirror has no key, so rows that come again would be there twice; {advice}")
    then = stream.schema(moved.after.sequence + 1) if moved.direction == "back" else schema
    if then is None or remove_columns(then, state.left_out or ()).fingerprint != schema.fingerprint:
        raise ConsumeError(f"{key}: the table's columns have changed since {move.to}; {advice}")


def _record(connection: duckdb.DuckDBPyConnection, table: str, move: RewindRequest, moved: RewindResult) -> None:
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} {_COLUMNS}")
    key = move.key
    values = [key.client, key.source, key.database, key.table, moved.direction, move.to, move.reason, move.who]
    places = [moved.messages, str(moved.before), str(moved.after), move.rebuild]
    connection.execute(f"INSERT INTO {table} VALUES (now(), {', '.join('?' * 12)})", [*values, *places])
