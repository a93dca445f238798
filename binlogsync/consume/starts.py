"""Where a consumer that is new begins: with all that the stream holds, with what is new, or somewhere in between.

Times and bookmarks are found by bisection over the messages of the table, whose own words count: a sequence that was
true once may stand for another change in a stream that was filled anew.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from binlogsync.bookmarks import Bookmark
from binlogsync.change import ChangeBatch
from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.flush import changes_after
from binlogsync.stream.reader import StreamReader

Start = Literal["all", "new"] | int | datetime | Bookmark
"""All that the stream holds; what comes from now on; a sequence of the stream; the first change committed then or later
(an aware datetime); the first change behind a bookmark.
"""


def check_start(start: Start) -> Start:
    """The start itself when it can be one; raises ConfigError."""
    if isinstance(start, datetime) and start.tzinfo is None:
        raise ConfigError(f"start {start} says no time zone; write datetime(..., tzinfo=UTC)")
    if isinstance(start, bool) or (isinstance(start, int) and start < 1):
        raise ConfigError(f"start {start!r} is no sequence of a stream; they count from 1")
    if not isinstance(start, int | datetime | Bookmark) and start not in ("all", "new"):
        raise ConfigError(f"start {start!r}: it is 'all', 'new', a stream sequence, an aware datetime or a Bookmark")
    return start


def first_sequence(reader: StreamReader, table: tuple[str, str], start: Start) -> int:
    """Of the first message that is wanted; one behind the last when the stream holds none yet."""
    if start == "new":
        return reader.last_sequence() + 1
    if isinstance(start, int):
        return min(start, reader.last_sequence() + 1)
    if isinstance(start, datetime):
        return _bisect(reader, table, lambda batch: _committed(batch) >= start)
    if isinstance(start, Bookmark):
        return _bisect(reader, table, _behind(start))
    return reader.first_sequence()


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


def _behind(bookmark: Bookmark) -> Callable[[ChangeBatch], bool]:
    """Whether a message holds a change behind the bookmark: by its place on one server, else by its GTID."""
    place = bookmark.checkpoint

    def is_behind(batch: ChangeBatch) -> bool:
        if batch.server_uuid != place.server_uuid and (place.gtids is None or batch.data.column("gtid").null_count):
            raise ConsumeError(
                f"{batch.schema.name}: the bookmark {bookmark.key} was made on server {place.server_uuid}, the stream "
                f"is of server {batch.server_uuid}, and no GTID says which changes lie behind it; start at a time"
            )
        return len(changes_after(batch, place)) > 0

    return is_behind


def _committed(batch: ChangeBatch) -> datetime:
    """When the last change of the batch was."""
    moment: datetime = batch.data.column("ts_us")[len(batch) - 1].as_py()
    return moment
