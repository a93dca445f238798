"""An end of a range, as a person writes it. Pure.

oldest                        the oldest change that the stream or MySQL's binlogs still hold
head                          where MySQL's binlog ends when the backfill begins
2026-01-31T12:00:00Z          before the first transaction, in the order of the log, committed then or later
binlog.000042:1187            before the transaction that begins there
uuid:1-5                      behind these transactions
seq:12345                     before the message of the stream with that sequence
anything else                 a bookmark, by its key or its name; `bookmark:NAME` where a name looks like the above
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal

from binlogsync.errors import ConfigError
from binlogsync.mysql import AtBookmark, parse_start
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet

FORMS = "a bookmark, oldest, head, a time such as 2026-01-31T12:00:00Z, a GTID set, binlog.000042:1187 or seq:12345"
_SEQUENCE = re.compile(r"seq:([0-9]{1,19})\Z")
_KEY = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z_")


@dataclass(frozen=True, slots=True)
class Sequence:
    """A message of the stream."""

    number: int


@dataclass(frozen=True, slots=True)
class Named:
    """A bookmark, by key or name."""

    text: str


End = Literal["oldest", "head"] | datetime | GtidSet | BinlogPosition | Sequence | Named


def parse_end(text: str) -> End:
    """Read one of the forms of this module. Raises ConfigError for an empty text, or a time without its zone."""
    word = text.strip()
    if not word:
        raise ConfigError(f"an end of a range is empty; write {FORMS}")
    if _KEY.match(word):
        return Named(word)
    if word.lower() in ("oldest", "head", "now"):
        return "oldest" if word.lower() == "oldest" else "head"
    if (match := _SEQUENCE.match(word)) is not None:
        return Sequence(int(match[1]))
    try:
        start = parse_start(word)
    except ConfigError as error:
        if "time zone" in str(error):
            raise
        return Named(word)
    if isinstance(start, AtBookmark):
        return Named(start.name)
    return "oldest" if start == "oldest" else "head" if start == "now" else start


def behind_gtids(gtids: GtidSet) -> Checkpoint:
    """The place behind these transactions on whatever server, so that only GTIDs are ever compared."""
    nowhere = f"none:{sha256(str(gtids).encode()).hexdigest()[:16]}"
    return Checkpoint(BinlogPosition("binlog.0", 0), nowhere, gtids)
