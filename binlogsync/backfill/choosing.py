"""Where a range is read from: the stream while it holds all of it, else MySQL's binlogs, else an error."""

from __future__ import annotations

import logging
from typing import Literal

from binlogsync.backfill.from_binlog import BinlogRange
from binlogsync.backfill.holes import find_hole
from binlogsync.backfill.places import Holders
from binlogsync.backfill.ranges import Plan, Span
from binlogsync.backfill.reading import Reading
from binlogsync.errors import BinlogSyncError, PositionError
from binlogsync.mysql import validate

log = logging.getLogger(__name__)

Origin = Literal["auto", "stream", "binlog"]
CATCH_UP_S = 15.0
"""How long a tail may take to bring the end of a range into the stream, before the binlogs are read instead."""


def choose(holders: Holders, plan: Plan, span: Span, origin: Origin = "auto") -> Reading:
    """The reading of one range; with `origin` a person has chosen.

    Raises PositionError, saying from when on data exists, when neither the stream nor MySQL holds the whole range.
    """
    why_not = ""
    if origin != "binlog":
        why_not, hole = _why_not_stream(holders, span)
        if hole and not why_not and origin == "stream":
            log.warning("%s: range %s goes over a hole that was accepted: %s", plan.name, span.label, hole)
        elif hole:
            why_not = why_not or f"the stream has a hole in it, which a person accepted {hole}"
        if holders.stream is not None and not why_not:
            return holders.stream
        log.info("%s: range %s is not read from the stream: %s", plan.name, span.label, why_not)
        if origin == "stream":
            raise PositionError(f"{plan.name}: range {span.label}: {why_not}; {holders.data_exists()}")
    try:
        if not span.is_empty:
            validate(holders.config, span.start)
    except PositionError as error:
        also = f"{why_not}; and " if why_not else ""
        raise PositionError(
            f"{plan.name}: nobody holds the whole range {span.label} any more: {also}{error}; {holders.data_exists()}; "
            "begin there, for instance with 'oldest'"
        ) from error
    return BinlogRange(holders.config, plan.database, plan.table)


def _why_not_stream(holders: Holders, span: Span) -> tuple[str, str]:
    """(why the stream does not hold the range, "" when it does; the hole that it has in it, "" for none)."""
    stream = holders.stream
    if stream is None:
        return f"source {holders.source} has no stream with changes of this table", ""
    try:
        if not stream.holds_from(span.start):
            return f"the stream may have dropped what lies behind {span.start}", ""
        if not stream.reaches(span.until, CATCH_UP_S):
            return f"the stream has not come to {span.until} yet; is its tail at work?", ""
        return "", find_hole(stream.reader, span)
    except BinlogSyncError as error:
        return f"the stream cannot be read: {error}", ""
