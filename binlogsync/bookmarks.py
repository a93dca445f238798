"""Bookmarks: stored checkpoints with a time or a name, which a replay or a rewind can refer to. Pure values and rules.

The tail records bookmarks while it runs (tail/bookmarks.py), and users add their own; the position store stores them.
`key` identifies a bookmark within its source and is the partition key in Dagster: it sorts by time and never changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from binlogsync.errors import ConfigError, PositionError
from binlogsync.position import Checkpoint
from binlogsync.position_order import PositionOrder, compare
from binlogsync.text_format import time_of_us

BookmarkReason = Literal["start", "interval", "rotation", "schema", "person", "import"]

_REASONS = get_args(BookmarkReason)
_UNFIT = re.compile(r"[^\w.-]+|\.{2,}")
_LONGEST_NAME = 60
_MAX_LISTED = 20
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A stored checkpoint at a transaction boundary.

    Attributes:
        checkpoint: always between two transactions, so its `skip` is 0.
        reason: why it was created: by the tail at its first start, after an interval, at a rotation or a schema change;
            by a user ("person"); or by an import from another tool.
        at_us: time of the checkpoint, microseconds since 1970 UTC: the commit of the last change before it, or the
            creation time of the bookmark if that commit time is unknown.
        made_us: when the bookmark was created.
        name: given by a user, else "".
        sequence: stream sequence of the last message before the checkpoint; None if unknown.
        pinned: retained until a user deletes it.
    """

    checkpoint: Checkpoint
    reason: BookmarkReason
    at_us: int
    made_us: int
    name: str = ""
    sequence: int | None = None
    pinned: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint.skip:
            raise PositionError(
                f"{self.checkpoint} is inside a transaction; a bookmark must be between two transactions"
            )

    @property
    def key(self) -> str:
        """Such as "20261123T160000.000Z_binlog.000012@4567", with "_name" appended if it has a name; sorts by time."""
        position = self.checkpoint.position
        moment = datetime.fromtimestamp(self.at_us // 1000 / 1000, UTC)
        stamp = f"{moment:%Y%m%dT%H%M%S}.{self.at_us // 1000 % 1000:03d}Z"
        return f"{stamp}_{key_part(position.file)}@{position.pos}{f'_{key_part(self.name)}' if self.name else ''}"

    @property
    def at(self) -> datetime:
        """Time of the checkpoint."""
        return time_of_us(self.at_us)

    def to_text(self) -> str:
        """One line of JSON, as stores keep it."""
        record = {
            "checkpoint": json.loads(self.checkpoint.to_text()),
            "reason": self.reason,
            "at_us": self.at_us,
            "made_us": self.made_us,
            "name": self.name,
            "sequence": self.sequence,
            "pinned": self.pinned,
        }
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | bytes) -> Bookmark:
        """Read what to_text wrote; raises PositionError."""
        try:
            record = json.loads(text)
            if record["reason"] not in _REASONS:
                raise ValueError(f"reason {record['reason']!r}")
            sequence = record["sequence"]
            return cls(
                Checkpoint.from_text(json.dumps(record["checkpoint"])),
                record["reason"],
                int(record["at_us"]),
                int(record["made_us"]),
                str(record["name"]),
                None if sequence is None else int(sequence),
                bool(record["pinned"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise PositionError(f"not a bookmark: {text!r} ({error!r})") from error

    def __str__(self) -> str:
        return f"{self.name or self.key} ({self.checkpoint})"


def key_part(name: str) -> str:
    """The name as part of a key, reduced to letters, digits, _ - and single dots."""
    return _UNFIT.sub("-", name)[:_LONGEST_NAME]


@dataclass(frozen=True, slots=True)
class BookmarkRetention:
    """How many unpinned bookmarks a tail retains: the newest `count`, none older than `age_s` seconds. Bookmarks of
    schema changes have a separate limit, `schema_count`, so that a migration of many tables does not expire the others.
    """

    count: int = 1000
    age_s: float = 30 * 86400.0
    schema_count: int = 200

    def __post_init__(self) -> None:
        if self.count < 1 or self.age_s <= 0 or self.schema_count < 1:
            raise ConfigError(f"at least 1 bookmark is kept, for more than 0 s; not {self.count}, for {self.age_s} s")

    def expired(self, bookmarks: Sequence[Bookmark], now_us: int) -> list[Bookmark]:
        """The bookmarks to delete."""
        loose = sorted((each for each in bookmarks if not each.pinned), key=lambda each: (each.made_us, each.key))
        of_schema = [each for each in loose if each.reason == "schema"]
        others = [each for each in loose if each.reason != "schema"]
        newest = [*others[-self.count :], *of_schema[-self.schema_count :]]
        kept = {each.key for each in newest if now_us - each.made_us <= self.age_s * 1e6}
        return [each for each in loose if each.key not in kept]


def find_bookmark(bookmarks: Iterable[Bookmark], text: str) -> Bookmark | None:
    """The bookmark with that key, else the newest with that name, else None."""
    found = None
    for each in sorted(bookmarks, key=lambda each: (each.made_us, each.key)):
        if each.key == text:
            return each
        found = each if each.name and each.name == text else found
    return found


def get_bookmark(bookmarks: Iterable[Bookmark], text: str, source: str) -> Bookmark:
    """The same, but raises ConfigError, listing the existing names, if there is no such bookmark."""
    kept = list(bookmarks)
    found = find_bookmark(kept, text)
    if found is None:
        raise ConfigError(f"{text!r} is not a bookmark of source {source}; {_describe_existing(kept)}")
    return found


def _describe_existing(kept: Sequence[Bookmark]) -> str:
    """The existing bookmarks, newest names first, for error messages."""
    newest = sorted(kept, key=lambda each: (each.made_us, each.key), reverse=True)
    names = list(dict.fromkeys(each.name for each in newest if each.name))
    if not newest:
        return (
            "there are none yet; the tail records one every few minutes, and `binlogsync bookmarks add NAME` adds one"
        )
    if not names:
        listed = "none has a name"
    else:
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        listed = f"names are {', '.join(map(repr, names[:_MAX_LISTED]))}{more}"
    nameless = sum(not each.name for each in newest)
    unnamed = f", and {nameless} have only a key, such as {newest[0].key}" if nameless else ""
    return f"{listed}{unnamed}; `binlogsync bookmarks list` shows all of them"


def next_bookmark(bookmarks: Iterable[Bookmark], bookmark: Bookmark) -> Bookmark | None:
    """The next bookmark in binlog order; None for the last one."""
    kept = list(bookmarks)
    following = next_checkpoint((other.checkpoint for other in kept), bookmark.checkpoint)
    return next((other for other in kept if other.checkpoint is following), None)


def next_checkpoint(checkpoints: Iterable[Checkpoint], checkpoint: Checkpoint) -> Checkpoint | None:
    """The first checkpoint after this one, else None. Checkpoints whose order is unknown are ignored."""
    following: Checkpoint | None = None
    for other in checkpoints:
        if compare(other, checkpoint) is not PositionOrder.AFTER:
            continue
        if following is None or compare(other, following) is PositionOrder.BEFORE:
            following = other
    return following
