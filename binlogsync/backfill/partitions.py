"""Chosen bookmarks to ranges: each from its place to that of the bookmark behind it."""

from __future__ import annotations

from collections.abc import Sequence

from binlogsync.backfill.places import Holders
from binlogsync.backfill.ranges import Span
from binlogsync.bookmarks import next_place
from binlogsync.errors import ConfigError


def partition_spans(holders: Holders, keys: Sequence[str], until: str = "next") -> list[Span]:
    """A range for each key, in the order of the binlog; a key is a bookmark's, or any other end of a range.

    Each ends where the next bookmark is, the newest one at the end of MySQL's binlog; with `until` "head" the last of
    them reaches there whatever lies behind. Raises ConfigError, PositionError.
    """
    if until not in ("next", "head"):
        raise ConfigError(f"until is next or head, not {until!r}")
    if not keys:
        raise ConfigError("no bookmark is chosen")
    known = [bookmark.checkpoint for bookmark in holders.store.bookmarks(holders.source)]
    starts = [(key, holders.place(key)) for key in keys]
    head = holders.place("head")
    spans: list[Span] = []
    for key, place in starts:
        is_last = all(other is place or not place.precedes(other) for _, other in starts)
        following = head if until == "head" and is_last else next_place(known, place) or head
        spans.append(holders.span_of(place, following, key))
    return spans
