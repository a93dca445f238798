"""Parses the start position of a tail, as a user writes it. Pure; mysql/start.py finds the position on a server."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from binlogsync.errors import ConfigError, MissingTimeZoneError, PositionError
from binlogsync.position import BinlogPosition, GtidSet

_FORMS = "'now', 'oldest', bookmark:NAME, binlog.000042:1187, a GTID set, or a time such as 2026-01-31T12:00:00Z"
_BOOKMARK = "bookmark:"


@dataclass(frozen=True, slots=True)
class BookmarkStart:
    """A bookmark, by its key or name; the position store contains its checkpoint."""

    name: str


StartAt = Literal["now", "oldest"] | BinlogPosition | GtidSet | datetime | BookmarkStart


def parse_start(text: str) -> StartAt:
    """Read "now", "oldest", "bookmark:NAME", "binlog.000042:1187", a GTID set, or an ISO time with its zone.

    Raises ConfigError; its subclass MissingTimeZoneError for a time without one.
    """
    word = text.strip()
    if word.startswith(_BOOKMARK) and word != _BOOKMARK:
        return BookmarkStart(word.removeprefix(_BOOKMARK))
    if word.lower() in ("now", "oldest"):
        return "now" if word.lower() == "now" else "oldest"
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        moment = None
    if moment is not None:
        if moment.tzinfo is None:
            raise MissingTimeZoneError(
                f"start {text!r} has no time zone; append Z or +02:00, such as {moment.isoformat()}Z"
            )
        return moment
    with suppress(PositionError):
        gtids = GtidSet.parse(word)
        if gtids:
            return gtids
    with suppress(PositionError):
        if re.fullmatch(r"\S+\.\d+:\d+", word):
            return BinlogPosition.parse(word)
    raise ConfigError(f"start {text!r} is not understood; write {_FORMS}")
