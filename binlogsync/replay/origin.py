"""Chooses where a range is read: from the stream if it has the whole range, otherwise from MySQL's binlogs."""

from __future__ import annotations

import logging
from typing import Literal

from binlogsync.errors import BinlogSyncError, PositionError
from binlogsync.mysql import validate
from binlogsync.replay.from_binlog import BinlogRangeReader
from binlogsync.replay.gaps import find_gap
from binlogsync.replay.range_reader import RangeReader
from binlogsync.replay.ranges import ReplayPlan, ReplayRange
from binlogsync.replay.sources import ChangeSources

log = logging.getLogger(__name__)

Origin = Literal["auto", "stream", "binlog"]
CATCH_UP_S = 15.0
"""How long to wait for the tail to publish the end of a range before the binlogs are read instead."""


def choose_reader(
    sources: ChangeSources, plan: ReplayPlan, range_: ReplayRange, origin: Origin = "auto"
) -> RangeReader:
    """The reader of one range; an `origin` other than "auto" restricts the choice.

    Raises PositionError, which names the oldest data available, when neither the stream nor MySQL has the whole range.
    """
    reason = ""
    if origin != "binlog":
        reason, gap = _check_stream(sources, range_)
        if gap and not reason and origin == "stream":
            log.warning("%s: range %s contains an accepted gap: %s", plan.name, range_.label, gap)
        elif gap:
            reason = reason or f"the stream has an accepted gap {gap}"
        if sources.stream is not None and not reason:
            return sources.stream
        log.info("%s: cannot read range %s from the stream: %s", plan.name, range_.label, reason)
        if origin == "stream":
            raise PositionError(f"{plan.name}: range {range_.label}: {reason}; {sources.describe_available()}")
    try:
        if not range_.is_empty:
            validate(sources.config, range_.start)
    except PositionError as error:
        stream = f"{reason}; and " if reason else ""
        raise PositionError(
            f"{plan.name}: the whole range {range_.label} is no longer available: {stream}{error}; "
            f"{sources.describe_available()}; start the range there, for example with 'oldest'"
        ) from error
    return BinlogRangeReader(sources.config, plan.database, plan.table)


def _check_stream(sources: ChangeSources, range_: ReplayRange) -> tuple[str, str]:
    """(why the stream does not have the range, "" if it does; the accepted gap in the range, "" for none)."""
    stream = sources.stream
    if stream is None:
        return f"source {sources.source} has no stream with changes of this table", ""
    try:
        if not stream.holds_from(range_.start):
            return f"the stream may have dropped changes after {range_.start}", ""
        if not stream.reaches(range_.until, CATCH_UP_S):
            return f"the stream has not reached {range_.until} yet; check that its tail is running", ""
        return "", find_gap(stream.reader, range_)
    except BinlogSyncError as error:
        return f"the stream cannot be read: {error}", ""
