"""Where a consumer that is new begins: with all that the stream holds, with what is new, or somewhere in between.

Times and bookmarks are found by bisection over the messages of the table, whose own words count: a sequence that was
true once may stand for another change in a stream that was filled anew. What a person may write is what an end of a
range may be (replay/bounds.py), so that a consumer, a backfill and a rewind are told a place in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from binlogsync.bookmarks import Bookmark, get_bookmark
from binlogsync.change import ChangeBatch
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.flush import changes_after
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.stream.reader import StreamReader

if TYPE_CHECKING:
    from binlogsync.replay.bounds import BookmarkName

Start = str | int | datetime | Bookmark
"""A sequence of the stream; the first change committed then or later (an aware datetime); the first change behind a
bookmark. As text: "all" (or "oldest") that the stream holds; "new" (or "head") for what comes from now on; or a
bookmark's name or key, a time, a GTID set, binlog.000042:1187 or seq:12345.
"""

Bookmarks = Callable[[], Sequence[Bookmark]]
"""Gives the bookmarks of the source; called when a name is to be found."""

_WORDS = {"all": "oldest", "new": "head"}


def check_start(start: Start) -> Start:
    """The start itself when it can be one, whatever bookmarks there are; raises ConfigError."""
    if isinstance(start, datetime) and start.tzinfo is None:
        raise ConfigError(f"start {start} says no time zone; write datetime(..., tzinfo=UTC)")
    if isinstance(start, bool) or (isinstance(start, int) and start < 1):
        raise ConfigError(f"start {start!r} is no sequence of a stream; they count from 1")
    if not isinstance(start, str | int | datetime | Bookmark):
        raise ConfigError(
            f"start {start!r}: it is 'all', 'new', a bookmark or its name, an aware datetime or a stream sequence"
        )
    if isinstance(start, str) and start not in _WORDS:
        _parse(start)
    return start


def resolve_bookmark(start: Start, source: str, bookmarks: Bookmarks | None) -> Start:
    """The bookmark, where the start is the name of one; else the start as it is.

    Raises ConfigError that tells the known names when there is no such bookmark, StoreError when they cannot be read.
    """
    if not isinstance(start, str) or start in _WORDS:
        return start
    from binlogsync.replay.bounds import BookmarkName

    end = _parse(start)
    if not isinstance(end, BookmarkName):
        return start
    if bookmarks is None:
        raise ConfigError(f"start {start!r} names a bookmark, and nobody said where bookmarks are kept; give positions")
    return get_bookmark(bookmarks(), end.text, source)


def first_sequence(
    reader: StreamReader, table: tuple[str, str], start: Start, bookmarks: Bookmarks | None = None
) -> int:
    """Of the first message that is wanted; one behind the last when the stream holds none yet.

    Raises as `resolve_bookmark` does, and ConsumeError for a place of another server that no GTID tells here.
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
        return _bisect(reader, table, lambda batch: _committed(batch) >= end)
    if isinstance(end, Bookmark):
        return _bisect(reader, table, _behind(end.checkpoint, f"the bookmark {end.key}"))
    place = _place(reader, end)
    return beyond if place is None else _bisect(reader, table, _behind(place, str(end)))


def _place(reader: StreamReader, end: object) -> Checkpoint | None:
    """Of a GTID set, or of a position on the server that the stream is of now; None while the stream is empty."""
    if isinstance(end, GtidSet):
        from binlogsync.replay.bounds import checkpoint_after_gtids

        return checkpoint_after_gtids(end)
    newest = reader.checkpoint_at(reader.last_sequence())
    return Checkpoint(end, newest.server_uuid) if isinstance(end, BinlogPosition) and newest is not None else None


def _parse(text: str) -> datetime | int | str | GtidSet | BinlogPosition | BookmarkName:
    """What a text says: "oldest", "head", a sequence as a number, or what `parse_bound` makes of it."""
    if text in _WORDS:
        return _WORDS[text]
    # Reading it takes the client of MySQL; a program that says "all" or "new" does without.
    from binlogsync.replay.bounds import StreamSequence, parse_bound

    end = parse_bound(text)
    return end.number if isinstance(end, StreamSequence) else end


def _bisect(reader: StreamReader, table: tuple[str, str], is_wanted: Callable[[ChangeBatch], bool]) -> int:
    """The first message of the table whose changes are wanted, where those that are come behind those that are not."""
    low, high = reader.first_sequence(), reader.last_sequence() + 1
    while low < high:
        middle = (low + high) // 2
        found = reader.changes_from(*table, middle)
        if not found or found[-1].last_sequence >= high or is_wanted(found[-1].batch):
            high = middle
        else:
            low = found[-1].last_sequence + 1
    return low


def _behind(place: Checkpoint, name: str) -> Callable[[ChangeBatch], bool]:
    """Whether a message holds a change behind the place: by where it is on one server, else by its GTID."""

    def is_behind(batch: ChangeBatch) -> bool:
        if batch.server_uuid != place.server_uuid and (place.gtids is None or batch.data.column("gtid").null_count):
            raise ConsumeError(
                f"{batch.schema.name}: {name} is of server {place.server_uuid}, the stream is of server "
                f"{batch.server_uuid}, and no GTID says which changes lie behind it; start at a time"
            )
        return len(changes_after(batch, place)) > 0

    return is_behind


def _committed(batch: ChangeBatch) -> datetime:
    """When the last change of the batch was."""
    moment: datetime = batch.data.column("ts_us")[len(batch) - 1].as_py()
    return moment
