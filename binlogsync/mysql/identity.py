"""Checks by content (file headers and single events) that a server's log is the one that a checkpoint was read from.

The log is read with short dumps that the server does not register as replicas. Read only.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from binlogsync.binlog import events
from binlogsync.binlog.dump_parser import BrokenLogError, DumpParser, has_checksums
from binlogsync.binlog.event_index import HEADER_SIZE, EventIndex
from binlogsync.binlog.scan_state import ARTIFICIAL
from binlogsync.errors import PositionError, SourceError
from binlogsync.log_identity import EventMark, LogIdentity, digest
from binlogsync.mysql.config import MySQLConfig, connect
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.gtid_sets import parse_previous_gtids
from binlogsync.mysql.server import ServerInfo, mariadb_gtids_at
from binlogsync.mysql.server_errors import FATAL_READING_BINLOG, DumpEndedError, raise_server_error
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.position_order import PositionOrder, compare
from binlogsync.server_version import ServerFlavor

FIRST_EVENT = 4
_EVENTS = 64
_BUFFER = 1 << 16
OTHER_LOG = "the server was restored, reset (RESET BINARY LOGS AND GTIDS, RESET MASTER) or replaced by a clone since"
OTHER_LOG_ADVICE = (
    "choose: start at 'oldest' or 'now' and check what is stored against the tables, or take a new snapshot. A gap is "
    "accepted, and recorded, by starting the tail once with --accept-gap REASON (in Dagster: accept_gap in the "
    "Launchpad of its job)"
)


@dataclass(frozen=True, slots=True)
class _Event:
    """One event of the file itself: its kind, its mark, its size with the checksum, and its body without."""

    kind: int
    mark: EventMark
    size: int
    body: bytes


def read_head(config: MySQLConfig, info: ServerInfo, file: str) -> LogIdentity:
    """The head of one of the server's binlog files. Raises SourceError."""
    heads: list[bytes] = []
    position = BinlogPosition(file, FIRST_EVENT)
    with closing(_events_from(config, info, position, heads)) as found:
        for event in found:
            if event.kind in (events.PREVIOUS_GTIDS, events.MARIADB_GTID_LIST):
                return replace(_head_of(file, heads), previous=digest(event.body))
            if event.kind != events.START_ENCRYPTION:
                break
    return _head_of(file, heads)


def add_log_identity(config: MySQLConfig, info: ServerInfo, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the head of its file, where it does not identify its log and the file is this server's."""
    file = checkpoint.position.file
    if checkpoint.log is not None or checkpoint.server_uuid != info.server_uuid or info.file(file) is None:
        return checkpoint
    return replace(checkpoint, log=read_head(config, info, file))


def check_identity(config: MySQLConfig, info: ServerInfo, checkpoint: Checkpoint) -> None:
    """Raises PositionError when the server's log is not the one that the checkpoint, of this server, was read from.

    A checkpoint without a log identity passes: an older version stored it, or it is the start of reading before an XA
    transaction, by GTID. If the file of the identity is purged, the GTIDs are compared instead, where possible.
    Raises SourceError when a query fails.
    """
    log = checkpoint.log
    if log is None:
        return
    if info.file(log.file) is None:
        _check_previous(config, info, checkpoint)
        return
    head = read_head(config, info, log.file)
    if not log.is_same_head(head):
        raise PositionError(
            f"{checkpoint}: it was read from {log}, and the server now has {head}: {OTHER_LOG}", OTHER_LOG_ADVICE
        )
    if log.event is None:
        return
    begin = BinlogPosition(log.file, log.event.start)
    try:
        with closing(_events_from(config, info, begin, [])) as found:
            event = next(found, None)
    except (PositionError, BrokenLogError, DumpEndedError) as error:
        if isinstance(error, DumpEndedError) and error.code != FATAL_READING_BINLOG:
            raise
        cause = error.reason if isinstance(error, PositionError) else error
        raise PositionError(
            f"{checkpoint}: there is no longer an event at {begin} ({cause}): {OTHER_LOG}", OTHER_LOG_ADVICE
        ) from error
    ends = event is not None and (log.file != checkpoint.position.file or _end(event) == checkpoint.position.pos)
    if event is None or event.mark != log.event or not ends:
        raise PositionError(
            f"{checkpoint}: the event before it, at {begin}, is not the one that was read from there: {OTHER_LOG}",
            OTHER_LOG_ADVICE,
        )


def _check_previous(config: MySQLConfig, info: ServerInfo, checkpoint: Checkpoint) -> None:
    """At the start of a file, the stored transactions must equal those executed before the file.

    The same applies at the oldest file if the file of the position is purged but no later one.
    """
    position, known = checkpoint.position, checkpoint.gtids
    if known is None or not info.gtids or known.flavor != info.flavor:
        return
    if info.has_purged(position):
        position = BinlogPosition(info.files[0].name, FIRST_EVENT)
    elif position.pos != FIRST_EVENT:
        return
    before = _executed_before(config, info, position.file)
    if before is not None and compare(before, known) is not PositionOrder.SAME:
        raise PositionError(
            f"{checkpoint}: the transactions {known} are stored, and the server logged {before} before {position}: "
            f"{OTHER_LOG}",
            OTHER_LOG_ADVICE,
        )


def _executed_before(config: MySQLConfig, info: ServerInfo, file: str) -> GtidSet | None:
    """The transactions executed before a file, None if its header does not contain them."""
    begin = BinlogPosition(file, FIRST_EVENT)
    if info.flavor == ServerFlavor.MARIADB:
        with closing(connect(config)) as connection:
            return mariadb_gtids_at(config, connection, begin)
    with closing(_events_from(config, info, begin, [])) as found:
        event = next(found, None)
    return parse_previous_gtids(event.body) if event is not None and event.kind == events.PREVIOUS_GTIDS else None


def _end(event: _Event) -> int:
    return event.mark.start + event.size


def _head_of(file: str, heads: list[bytes]) -> LogIdentity:
    """From the first format description that came."""
    if not heads:
        raise SourceError(f"{file} holds no event; SHOW BINARY LOGS lists it, but the server does not send it")
    header = heads[0]
    return LogIdentity(file, int.from_bytes(header[:4], "little"), int.from_bytes(header[5:9], "little"))


def _events_from(
    config: MySQLConfig, info: ServerInfo, begin: BinlogPosition, heads: list[bytes]
) -> Generator[_Event, None, None]:
    """The events of one file from `begin` on; the headers of its format descriptions, which count as none, go into
    `heads`.
    """

    def read_format(event: bytes) -> bool:
        heads.append(event[:HEADER_SIZE])
        return has_checksums(event)

    walk, buffer, at = DumpParser(EventIndex.room_for(_EVENTS), read_format), np.empty(_BUFFER, np.uint8), begin.pos
    with BinlogDump(config, Checkpoint(begin, info.server_uuid), blocking=False, info=info) as dump:
        while not walk.ended and (count := dump.readinto(buffer.data)):
            for part in walk.parse(buffer, 0, count):
                for i in range(part.count):
                    event = part.event(i).tobytes()
                    kind, size = event[4], int.from_bytes(event[9:13], "little")
                    if int.from_bytes(event[17:19], "little") & ARTIFICIAL or kind in events.HEARTBEATS:
                        continue
                    yield _Event(kind, EventMark.of(at, event, part.checksum(i)), size, event[HEADER_SIZE:])
                    at += size
                    if kind == events.ROTATE:
                        return
            if walk.server_error is not None:
                raise_server_error(walk.server_error)
