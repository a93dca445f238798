"""Turns chosen bookmarks into ranges: each from its bookmark to the next bookmark."""

from __future__ import annotations

from collections.abc import Sequence

from binlogsync.bookmarks import next_checkpoint
from binlogsync.errors import ConfigError
from binlogsync.position_order import compare_or_raise
from binlogsync.replay.ranges import ReplayRange
from binlogsync.replay.sources import ChangeSources


def partition_ranges(sources: ChangeSources, keys: Sequence[str], until: str = "next") -> list[ReplayRange]:
    """A range for each key, in the order of the keys; a key is the key of a bookmark, or any other bound.

    Each range ends at the next bookmark, or at the end of MySQL's binlog if there is none. With `until` "head" the last
    of the ranges always ends at the end of the binlog. Raises ConfigError, PositionError.
    """
    if until not in ("next", "head"):
        raise ConfigError(f"until must be next or head, not {until!r}")
    if not keys:
        raise ConfigError("no bookmark is chosen")
    bookmarks = [bookmark.checkpoint for bookmark in sources.store.bookmarks.load(sources.source)]
    starts = [(key, sources.resolve(key)) for key in keys]
    head = sources.resolve("head")
    ranges: list[ReplayRange] = []
    for key, start in starts:
        is_last = all(other is start or compare_or_raise(start, other).is_at_or_after for _, other in starts)
        end = head if until == "head" and is_last else next_checkpoint(bookmarks, start) or head
        ranges.append(sources.make_range(start, end, key))
    return ranges
