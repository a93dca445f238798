"""Parses a bound of a range, as a user writes it. Pure.

oldest                        the oldest change that the stream or MySQL's binlogs still have
head                          the end of MySQL's binlog when the replay starts
2026-01-31T12:00:00Z          before the first transaction, in binlog order, that committed at or after this time
binlog.000042:1187            before the transaction that begins there
uuid:1-5                      after these transactions
seq:12345                     before the message with that sequence in the stream
anything else                 a bookmark, by its key or its name; `bookmark:NAME` for names that look like a form above
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal

from binlogsync.errors import ConfigError, MissingTimeZoneError
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.start_notation import BookmarkStart, parse_start

FORMS = "a bookmark, oldest, head, a time such as 2026-01-31T12:00:00Z, a GTID set, binlog.000042:1187 or seq:12345"
_SEQUENCE = re.compile(r"seq:([0-9]{1,19})\Z")
_KEY = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z_")


@dataclass(frozen=True, slots=True)
class StreamSequence:
    """The sequence of a message in the stream."""

    number: int


@dataclass(frozen=True, slots=True)
class BookmarkName:
    """The key or the name of a bookmark."""

    text: str


Bound = Literal["oldest", "head"] | datetime | GtidSet | BinlogPosition | StreamSequence | BookmarkName


def parse_bound(text: str) -> Bound:
    """Parse one of the forms above. Raises ConfigError for an empty text or a time without a time zone."""
    word = text.strip()
    if not word:
        raise ConfigError(f"a bound of the range is empty; write {FORMS}")
    if _KEY.match(word):
        return BookmarkName(word)
    if word.lower() in ("oldest", "head", "now"):
        return "oldest" if word.lower() == "oldest" else "head"
    if (match := _SEQUENCE.match(word)) is not None:
        return StreamSequence(int(match[1]))
    try:
        start = parse_start(word)
    except MissingTimeZoneError:
        raise
    except ConfigError:
        return BookmarkName(word)
    if isinstance(start, BookmarkStart):
        return BookmarkName(start.name)
    return "oldest" if start == "oldest" else "head" if start == "now" else start


def checkpoint_after_gtids(gtids: GtidSet) -> Checkpoint:
    """The checkpoint after these transactions on any server: its server and file match none, so only GTIDs compare."""
    no_server = f"none:{sha256(str(gtids).encode()).hexdigest()[:16]}"
    return Checkpoint(BinlogPosition("binlog.0", 0), no_server, gtids)
