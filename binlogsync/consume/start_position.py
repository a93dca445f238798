"""Where a new consumer starts: at the oldest message of the stream, at the next new one, or at a position in between.

Times and bookmarks are found by bisection over the messages of the table and the positions in these, because in a
recreated stream a sequence may refer to another change. The notation is that of the end of a range (range_bounds.py):
consumers, backfills and rewinds accept the same positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from binlogsync.bookmarks import Bookmark, get_bookmark
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.range_bounds import BookmarkName, StreamSequence, checkpoint_after_gtids, parse_bound

if TYPE_CHECKING:
    from binlogsync.change_batch import ChangeBatch
    from binlogsync.nats.reader import StreamReader

Start = str | int | datetime | Bookmark
"""A stream sequence; an aware datetime (the first change committed then or later); a Bookmark (the first change after
it). As text: "all" (or "oldest") for all changes in the stream; "new" (or "head") for changes from now on; or the name
or key of a bookmark, a time, a GTID set, binlog.000042:1187 or seq:12345.
"""

Bookmarks = Callable[[], Sequence[Bookmark]]
"""Returns the bookmarks of the source; called to find a bookmark by name."""

_WORDS = {"all": "oldest", "new": "head"}


def check_start(start: Start) -> Start:
    """Return the start if it is valid, without looking up bookmarks; raises ConfigError."""
    if isinstance(start, datetime) and start.tzinfo is None:
        raise ConfigError(f"start {start} has no time zone; write datetime(..., tzinfo=UTC)")
    if isinstance(start, bool) or (isinstance(start, int) and start < 1):
        raise ConfigError(f"start {start!r} is not a stream sequence; sequences count from 1")
    if not isinstance(start, str | int | datetime | Bookmark):
        raise ConfigError(
            f"start {start!r} is invalid: use 'all', 'new', a bookmark or its name, an aware datetime or a stream "
            "sequence"
        )
    if isinstance(start, str) and start not in _WORDS:
        _parse(start)
    return start


def resolve_bookmark(start: Start, source: str, bookmarks: Bookmarks | None) -> Start:
    """The bookmark that the start names, or the start itself if it is not a name.

    Raises ConfigError with the existing names when there is no such bookmark, StoreError when they cannot be read.
    """
    if not isinstance(start, str) or start in _WORDS:
        return start
    end = _parse(start)
    if not isinstance(end, BookmarkName):
        return start
    if bookmarks is None:
        raise ConfigError(f"start {start!r} names a bookmark, but no position store is configured; give `positions`")
    return get_bookmark(bookmarks(), end.text, source)


def first_sequence(
    reader: StreamReader, table: tuple[str, str], start: Start, bookmarks: Bookmarks | None = None
) -> int:
    """Sequence of the first message to deliver; the last sequence plus one when the stream does not have it yet.

    Raises as `resolve_bookmark` does, and ConsumeError for a position of another server that no GTID resolves.
    """
    start = resolve_bookmark(start, reader.source, bookmarks)
    end = _parse(start) if isinstance(start, str) else start
    if end == "oldest":
        return reader.first_sequence()
    beyond = reader.last_sequence() + 1
    if end == "head":
        return beyond
    if isinstance(end, int):
        return min(end, beyond)
    if isinstance(end, datetime):
        is_wanted = _is_committed_since(end)
    elif isinstance(end, Bookmark):
        is_wanted = _is_after(end.checkpoint, f"the bookmark {end.key}")
    elif (checkpoint := _to_checkpoint(reader, end)) is None:
        return beyond
    else:
        is_wanted = _is_after(checkpoint, str(end))
    return reader.find_first(*table, is_wanted, (reader.first_sequence(), beyond)) or beyond


def _to_checkpoint(reader: StreamReader, end: object) -> Checkpoint | None:
    """Checkpoint of a GTID set, or of a position on the server of the newest message; None for an empty stream."""
    if isinstance(end, GtidSet):
        return checkpoint_after_gtids(end)
    newest = reader.checkpoint_at(reader.last_sequence())
    return Checkpoint(end, newest.server_uuid) if isinstance(end, BinlogPosition) and newest is not None else None


def _parse(text: str) -> datetime | int | str | GtidSet | BinlogPosition | BookmarkName:
    """The parsed text: "oldest", "head", a sequence as a number, or the result of `parse_bound`."""
    if text in _WORDS:
        return _WORDS[text]
    end = parse_bound(text)
    return end.number if isinstance(end, StreamSequence) else end


def _is_after(checkpoint: Checkpoint, name: str) -> Callable[[ChangeBatch], bool]:
    """A test whether a batch has changes after the checkpoint: by position on one server, else by GTID."""

    def has_changes_after(batch: ChangeBatch) -> bool:
        from binlogsync.position_masks import changes_after, gtid_is_missing

        is_same_server = batch.server_uuid == checkpoint.server_uuid
        if not is_same_server and (checkpoint.gtids is None or gtid_is_missing(batch)):
            raise ConsumeError(
                f"{batch.schema.name}: {name} is of server {checkpoint.server_uuid}, the stream is of server "
                f"{batch.server_uuid}, and no GTID identifies the changes after it; start at a time"
            )
        return len(changes_after(batch, checkpoint)) > 0

    return has_changes_after


def _is_committed_since(moment: datetime) -> Callable[[ChangeBatch], bool]:
    """A test whether the last change of a batch was committed at that time or later."""
    return lambda batch: bool(batch.data.column("ts_us")[len(batch) - 1].as_py() >= moment)
