"""Where to start when there is no checkpoint: now, the oldest binlog, a position, a GTID set, or a time.

The result is a checkpoint at a transaction boundary, with the set of transactions before exactly that boundary where
the server has GTIDs; it is found in the binlog itself. What does not exist or is not such a boundary is a
PositionError; nothing is rounded.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from binlogsync.errors import ConfigError, PositionError, SourceError
from binlogsync.mysql.anonymous_transactions import first_sent
from binlogsync.mysql.config import MySQLConfig, connect
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.gtid_sets import parse_previous_gtids
from binlogsync.mysql.scan import BEGINS_TRANSACTION, EventType, ScannedEvent, scan
from binlogsync.mysql.server import ServerInfo, clock_us, inspect_server, mariadb_gtids_at
from binlogsync.mysql.server_errors import AnonymousTransactionError
from binlogsync.mysql.validate import check_gtids, check_position
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.position_order import compare
from binlogsync.server_version import ServerFlavor
from binlogsync.start_notation import BookmarkStart, StartAt
from binlogsync.text_format import format_time, time_of_us

log = logging.getLogger(__name__)

FIRST_EVENT = 4


def resolve_start(config: MySQLConfig, start: StartAt = "now") -> Checkpoint:
    """The checkpoint to start at.

    A time means the first transaction, in the order of the log, that was committed then or later; the end of the log
    when there is none yet. Raises PositionError when the log does not reach back that far or the position does not
    exist, SourceError when a query fails.
    """
    if isinstance(start, BookmarkStart):
        raise ConfigError(f"bookmark:{start.name}: only the tail, which has a position store, begins at a bookmark")
    info = inspect_server(config)
    info.end()
    if isinstance(start, GtidSet):
        return _after_gtids(config, info, start)
    if isinstance(start, BinlogPosition):
        return _at(config, info, start)
    if isinstance(start, datetime):
        return _from_time(config, info, start)
    if start == "oldest":
        return _oldest(config, info)
    if info.flavor == ServerFlavor.MYSQL and info.executed:
        return _after_gtids(config, info, info.executed)
    return checkpoint_at(config, info, info.end())


def _oldest(config: MySQLConfig, info: ServerInfo) -> Checkpoint:
    """The oldest position that the server sends."""
    number = first_sent(config, info)
    first = info.files[number].name
    if number:
        log.warning(
            "%s: the oldest position that the server sends is the head of %s: the binlogs before it hold transactions "
            "without GTIDs, and gtid_mode is ON",
            config.source,
            first,
        )
    return checkpoint_at(config, info, BinlogPosition(first, FIRST_EVENT))


def _at(config: MySQLConfig, info: ServerInfo, position: BinlogPosition) -> Checkpoint:
    """The checkpoint at a configured position."""
    check_position(config, info, Checkpoint(position, info.server_uuid))
    return checkpoint_at(config, info, position)


def add_gtids(config: MySQLConfig, info: ServerInfo, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its GTIDs, where it was stored before the server had any; itself where they cannot be found.

    So a tail that began without GTIDs can follow a failover once gtid_mode is ON.
    """
    is_here = checkpoint.server_uuid == info.server_uuid
    if checkpoint.gtids is not None or not info.gtids or not is_here or checkpoint.resume is not None:
        return checkpoint
    with suppress(PositionError):
        return replace(checkpoint, gtids=checkpoint_at(config, info, checkpoint.position).gtids)
    return checkpoint


def checkpoint_at(config: MySQLConfig, info: ServerInfo, position: BinlogPosition) -> Checkpoint:
    """The checkpoint at a position of this server's log; reads the file up to there for its GTIDs."""
    if not info.gtids:
        return Checkpoint(position, info.server_uuid)
    gtids = (
        _gtids_before(config, info, position) if info.flavor == ServerFlavor.MYSQL else _mariadb_gtids(config, position)
    )
    return Checkpoint(position, info.server_uuid, gtids)


def _mariadb_gtids(config: MySQLConfig, position: BinlogPosition) -> GtidSet:
    connection = connect(config)
    try:
        gtids = mariadb_gtids_at(config, connection, position)
    finally:
        connection.close()
    if gtids is None:
        raise PositionError(
            f"no event begins at {position}; SHOW BINLOG EVENTS IN '{position.file}' lists where they do"
        )
    return gtids


def file_dump(config: MySQLConfig, info: ServerInfo, file: str) -> BinlogDump:
    """A dump by file that ends at the end of the log."""
    begin = Checkpoint(BinlogPosition(file, FIRST_EVENT), info.server_uuid)
    return BinlogDump(config, begin, blocking=False, info=info)


class _Executed:
    """A MySQL GTID set that grows with the events of a scan; runs of one server are joined before they are added."""

    def __init__(self) -> None:
        self._set = GtidSet(ServerFlavor.MYSQL)
        self._key, self._first, self._last = "", 0, 0

    def see(self, event: ScannedEvent) -> None:
        """Count the transaction that begins here, or take over what came before the file."""
        if event.kind == EventType.PREVIOUS_GTIDS:
            self._set = parse_previous_gtids(event.body)
        elif event.gtid is not None:
            key, number = event.gtid
            if key != self._key or number != self._last + 1:
                self._flush()
                self._key, self._first = key, number
            self._last = number

    def _flush(self) -> None:
        if self._key:
            self._set = self._set.with_run(self._key, self._first, self._last)
        self._key = ""

    def so_far(self) -> GtidSet:
        """The set."""
        self._flush()
        return self._set


def _gtids_before(config: MySQLConfig, info: ServerInfo, position: BinlogPosition) -> GtidSet:
    """All transactions of MySQL's log before a position. Raises PositionError when no transaction can begin there."""
    executed = _Executed()
    begun: ScannedEvent | None = None
    with file_dump(config, info, position.file) as dump:
        for event in scan(dump):
            if event.start == position and event.kind == EventType.QUERY and begun is not None:
                raise PositionError(f"{position} lies inside the transaction that begins at {begun.start}; start there")
            begun = event if event.kind in BEGINS_TRANSACTION else None
            reached = compare(event.start, position).is_at_or_after and event.kind != EventType.FORMAT_DESCRIPTION
            if reached and (position.pos > FIRST_EVENT or event.kind in BEGINS_TRANSACTION):
                if event.start.file == position.file and position.pos > FIRST_EVENT and event.start != position:
                    break
                return executed.so_far()
            executed.see(event)
        else:
            return executed.so_far()
    raise PositionError(f"no event begins at {position}; SHOW BINLOG EVENTS IN '{position.file}' lists where they do")


def _after_gtids(config: MySQLConfig, info: ServerInfo, gtids: GtidSet) -> Checkpoint:
    """The first transaction of the log that is not in the set."""
    if not info.gtids:
        raise PositionError(
            f"the server has no GTIDs (gtid_mode is not ON), so it cannot start after {gtids or 'a GTID set'}"
        )
    if gtids.flavor != info.flavor:
        raise PositionError(f"{gtids} is a GTID set of {gtids.flavor}, the server is {info.flavor}")
    check_gtids(config, info, gtids)
    anywhere = Checkpoint(BinlogPosition(info.files[0].name, FIRST_EVENT), info.server_uuid, gtids)
    with BinlogDump(config, anywhere, blocking=False, info=info) as dump:
        for event in scan(dump):
            if event.kind in BEGINS_TRANSACTION:
                return Checkpoint(event.start, info.server_uuid, gtids)
    return Checkpoint(info.end(), info.server_uuid, gtids)


def _from_time(config: MySQLConfig, info: ServerInfo, moment: datetime) -> Checkpoint:
    if moment.tzinfo is None:
        raise ConfigError(f"start {moment.isoformat()} has no time zone; give an aware datetime")
    wanted_us = round(moment.timestamp() * 1_000_000)
    _refuse_future(config, moment)
    # The header of a file contains its start time in whole seconds.
    number = _last_file_begun_by(config, info, wanted_us - 1_000_000)
    if number < 0:
        oldest = info.files[0]
        if oldest.number > 1 and _begun_us(config, info, oldest.name) >= wanted_us:
            begun = begun_at(config, info, oldest.name)
            raise PositionError(
                f"the binlogs reach back to {format_time(begun)} ({oldest.name}) only, not to {moment.isoformat()}",
                "choose 'oldest' and accept the gap, or take a snapshot",
            )
        number = 0
    try:
        return _first_committed_from(config, info, info.files[number].name, wanted_us)
    except AnonymousTransactionError:
        sent = first_sent(config, info)
        if sent <= number or _begun_us(config, info, info.files[sent].name) > wanted_us:
            raise
        # The transactions that the server does not send were committed before.
        return _first_committed_from(config, info, info.files[sent].name, wanted_us)


def _first_committed_from(config: MySQLConfig, info: ServerInfo, file: str, wanted_us: int) -> Checkpoint:
    executed = _Executed()
    end = BinlogPosition(file, FIRST_EVENT)
    with file_dump(config, info, file) as dump:
        for event in scan(dump):
            if event.kind in BEGINS_TRANSACTION and event.committed_us >= wanted_us:
                end = event.start
                break
            if info.flavor == ServerFlavor.MYSQL and info.gtids:
                executed.see(event)
        else:
            return resolve_start(config, "now")
    if info.flavor == ServerFlavor.MYSQL:
        return Checkpoint(end, info.server_uuid, executed.so_far() if info.gtids else None)
    return checkpoint_at(config, info, end)


def _last_file_begun_by(config: MySQLConfig, info: ServerInfo, wanted_us: int) -> int:
    """Index of the last file that was begun before that time, by binary search; -1 when none was."""
    low, high = 0, len(info.files)
    while low < high:
        middle = (low + high) // 2
        if _begun_us(config, info, info.files[middle].name) < wanted_us:
            low = middle + 1
        else:
            high = middle
    return low - 1


def begun_at(config: MySQLConfig, info: ServerInfo, file: str) -> datetime:
    """When a binlog file was begun. Raises SourceError."""
    return time_of_us(_begun_us(config, info, file))


def _begun_us(config: MySQLConfig, info: ServerInfo, file: str) -> int:
    """When a file was begun: the time of its first event."""
    with file_dump(config, info, file) as dump:
        for event in scan(dump):
            return event.committed_us
    raise SourceError(f"{file} holds no event; SHOW BINARY LOGS lists it, but the server does not send it")


def _refuse_future(config: MySQLConfig, moment: datetime) -> None:
    connection = connect(config)
    try:
        now = clock_us(config, connection) / 1e6
    finally:
        connection.close()
    if moment.timestamp() > now:
        raise PositionError(f"{moment.isoformat()} has not come yet on the server; start at 'now'")
