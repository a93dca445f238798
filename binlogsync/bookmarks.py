"""Bookmarks: checkpoints that are kept, so that a backfill or a rewind can name them. Pure values and rules.

The tail records them as it goes (see tail/bookmarks.py), a person adds more; the position store keeps them. `key` names
one among those of its source, and is what a partition in Dagster is called: it sorts by time, and it never changes.
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

BookmarkReason = Literal["start", "interval", "rotation", "schema", "person", "import"]

_REASONS = get_args(BookmarkReason)
_UNFIT = re.compile(r"[^\w.-]+|\.{2,}")
_LONGEST_NAME = 60
_MOST_TOLD = 20
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A transaction boundary that is kept.

    Attributes:
        checkpoint: the place; nothing of the transaction behind it is before it, so `skip` is 0.
        reason: why it was made: by the tail at its first start, after an interval, at a rotation or a schema change;
            by a person; or imported from another tool.
        at_us: time of the place, microseconds since 1970 UTC: the commit of the last change before it, or where that
            is not known, when the bookmark was made.
        made_us: when it was made.
        name: given by a person, "" without.
        sequence: stream sequence of the last message before the place; None where nobody knows.
        pinned: kept until a person deletes it.
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
            raise PositionError(f"{self.checkpoint} lies inside a transaction, and a bookmark lies between two")

    @property
    def key(self) -> str:
        """As "20261123T160000.000Z_binlog.000012@4567", and "_name" behind it; sorts by time."""
        place = self.checkpoint.position
        moment = datetime.fromtimestamp(self.at_us // 1000 / 1000, UTC)
        stamp = f"{moment:%Y%m%dT%H%M%S}.{self.at_us // 1000 % 1000:03d}Z"
        return f"{stamp}_{key_part(place.file)}@{place.pos}{f'_{key_part(self.name)}' if self.name else ''}"

    @property
    def at(self) -> datetime:
        """Time of the place."""
        return datetime.fromtimestamp(self.at_us / 1e6, UTC)

    def to_text(self) -> str:
        """One line of JSON, the form kept in stores."""
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
    """The name as a part of a key: letters, digits, _ - and single dots."""
    return _UNFIT.sub("-", name)[:_LONGEST_NAME]


@dataclass(frozen=True, slots=True)
class BookmarkRetention:
    """Which bookmarks a tail keeps of those that are not pinned: the newest `count`, none made over `age_s` ago; and
    the newest `schema_count` of schema changes, so that a migration of many tables does not push out the others.
    """

    count: int = 1000
    age_s: float = 30 * 86400.0
    schema_count: int = 200

    def __post_init__(self) -> None:
        if self.count < 1 or self.age_s <= 0 or self.schema_count < 1:
            raise ConfigError(f"at least 1 bookmark is kept, for more than 0 s; not {self.count}, for {self.age_s} s")

    def expired(self, bookmarks: Sequence[Bookmark], now_us: int) -> list[Bookmark]:
        """Those to delete."""
        loose = sorted((each for each in bookmarks if not each.pinned), key=lambda each: (each.made_us, each.key))
        of_schema = [each for each in loose if each.reason == "schema"]
        others = [each for each in loose if each.reason != "schema"]
        newest = [*others[-self.count :], *of_schema[-self.schema_count :]]
        kept = {each.key for each in newest if now_us - each.made_us <= self.age_s * 1e6}
        return [each for each in loose if each.key not in kept]


def find_bookmark(bookmarks: Iterable[Bookmark], text: str) -> Bookmark | None:
    """The one with that key, else the newest with that name; None without."""
    found = None
    for each in sorted(bookmarks, key=lambda each: (each.made_us, each.key)):
        if each.key == text:
            return each
        found = each if each.name and each.name == text else found
    return found


def get_bookmark(bookmarks: Iterable[Bookmark], text: str, source: str) -> Bookmark:
    """The same; raises ConfigError that tells those that are kept when there is none."""
    kept = list(bookmarks)
    found = find_bookmark(kept, text)
    if found is None:
        raise ConfigError(f"{text!r} is no bookmark of source {source}; {_kept_text(kept)}")
    return found


def _kept_text(kept: Sequence[Bookmark]) -> str:
    """Which are kept, the newest names first, for errors."""
    newest = sorted(kept, key=lambda each: (each.made_us, each.key), reverse=True)
    names = list(dict.fromkeys(each.name for each in newest if each.name))
    if not newest:
        return "none is kept; the tail keeps one every few minutes, and binlogsync bookmarks add NAME one by hand"
    if not names:
        said = "none has a name"
    else:
        more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
        said = f"names are {', '.join(map(repr, names[:_MOST_TOLD]))}{more}"
    nameless = sum(not each.name for each in newest)
    tail = f", and {nameless} go by their keys, as {newest[0].key}" if nameless else ""
    return f"{said}{tail}; binlogsync bookmarks list shows them all"


def next_bookmark(bookmarks: Iterable[Bookmark], bookmark: Bookmark) -> Bookmark | None:
    """The bookmark at the first place behind this one; None when it is the last."""
    kept = list(bookmarks)
    place = next_checkpoint((other.checkpoint for other in kept), bookmark.checkpoint)
    return next((other for other in kept if other.checkpoint is place), None)


def next_checkpoint(places: Iterable[Checkpoint], place: Checkpoint) -> Checkpoint | None:
    """The nearest behind this one; None when there is none. Places that cannot be compared with it are none."""
    following: Checkpoint | None = None
    for other in places:
        if _is_before(place, other) and (following is None or _is_before(other, following)):
            following = other
    return following


def _is_before(left: Checkpoint, right: Checkpoint) -> bool:
    """True when the left place is before the right one and not the other way round."""
    try:
        return left.precedes(right) and not right.precedes(left)
    except PositionError:
        return False
