"""Checks that a checkpoint is valid on this server. If not, the error names what is missing and the options.

A position may be purged (the server has deleted the changes after it), foreign (of another server, without GTIDs to
translate it), or beyond the end (this server has lost or reset what was read from it). A server may have other
transactions under the same GTIDs. A replica that does not have
transactions that were read from another server may still receive them: that is a BehindError, which is retried.
"""

from __future__ import annotations

from typing import NoReturn

from binlogsync.errors import PositionError, ReplicaBehindError
from binlogsync.mysql.config import MySQLConfig, connect
from binlogsync.mysql.divergence import check_same_transactions
from binlogsync.mysql.dump import BinlogDump, find_dump_start
from binlogsync.mysql.identity import check_identity
from binlogsync.mysql.scan import BETWEEN_TRANSACTIONS, EventType, ScannedEvent, scan
from binlogsync.mysql.server import ServerInfo, gtid_subtract, inspect, inspect_server, mariadb_known, mariadb_unknown
from binlogsync.mysql.server_errors import FATAL_READING_BINLOG, DumpEndedError
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor
from binlogsync.text_format import format_time, time_of_us
from binlogsync.waiting import RetryTimer

_ACCEPT = (
    "A gap is accepted, and recorded, by starting the tail once with --accept-gap REASON (in Dagster: accept_gap "
    "in the Launchpad of its job)"
)
_PURGED_ADVICE = (
    "choose: start at 'oldest' and accept the gap, take a new snapshot, or continue on another server that still has "
    f"them. {_ACCEPT}"
)
_NEVER_HAD = "it was promoted without them, so what is stored differs from its tables"
_NEVER_HAD_ADVICE = (
    "choose: continue with a server that has "
    "them, restore them on this one, or rebuild stream and mirrors from it. "
    f"{_ACCEPT}"
)
_LOST = "the server was restored, reset (RESET BINARY LOGS AND GTIDS) or lost data in a crash"
_LOST_ADVICE = (
    f"choose: start at 'oldest' or 'now' and check what is stored against the tables, or take a new snapshot. {_ACCEPT}"
)
_COMMIT_DELAY_S = 2.0
_FIRST_EVENT = 4


def validate(config: MySQLConfig, checkpoint: Checkpoint) -> None:
    """Returns when a dump from the checkpoint continues exactly where it stands; raises PositionError when it cannot.

    Raises SourceError when the server cannot be asked.
    """
    info = inspect_server(config)
    info.end()
    find_dump_start(checkpoint, info)
    is_foreign = checkpoint.server_uuid != info.server_uuid
    by_gtid = checkpoint.gtids is not None and info.gtids
    if checkpoint.gtids is not None and info.gtids:
        check_gtids(config, info, checkpoint.gtids, checkpoint)
        if is_foreign and checkpoint.skip:
            _check_inside(config, info, checkpoint)
        if is_foreign:
            check_same_transactions(config, info, checkpoint)
    if is_foreign:
        return
    check_identity(config, info, checkpoint)
    if by_gtid and info.has_purged(checkpoint.position):
        return  # its file is purged, the transactions after it are not
    check_position(config, info, checkpoint)


def _check_inside(config: MySQLConfig, info: ServerInfo, checkpoint: Checkpoint) -> None:
    """Raises PositionError when reading cannot continue on another server inside the checkpoint's transaction."""
    if checkpoint.inside is None or checkpoint.gtids is None:
        raise PositionError(
            f"{checkpoint} of server {checkpoint.server_uuid} is inside a transaction whose GTID is unknown (it "
            f"was stored by an older release), so the rest of it cannot be read from {info.server_uuid}; tail the "
            "first server until it is idle, or start again"
        )
    needed = checkpoint.gtids.with_gtid(checkpoint.inside)
    check_gtids(config, info, needed, checkpoint)


def check_gtids(config: MySQLConfig, info: ServerInfo, gtids: GtidSet, checkpoint: Checkpoint | None = None) -> None:
    """Raises PositionError if the server has purged transactions outside the set, or does not have some of the set."""
    what = str(checkpoint) if checkpoint else f"GTID set {gtids}"
    missing = _missing(config, info, gtids)
    if missing:
        raise PositionError(
            f"{what}: the server has purged transactions that were not read yet: {missing}{_since(info, checkpoint)}",
            _PURGED_ADVICE,
        )
    timer = RetryTimer(_COMMIT_DELAY_S, 0.1)
    # A transaction can be read from the binlog a moment before the server counts it as executed.
    while lost := _unknown(config, gtids):
        if timer.is_over:
            _raise_lost(info, what, lost, checkpoint)
        timer.pause()


def _raise_lost(info: ServerInfo, what: str, lost: str, checkpoint: Checkpoint | None) -> NoReturn:
    if checkpoint is None or checkpoint.server_uuid == info.server_uuid:
        raise PositionError(
            f"{what}: the server does not know transactions that were read already: {lost}; {_LOST}", _LOST_ADVICE
        )
    missing = f"{what} of server {checkpoint.server_uuid}: {info.server_uuid} does not have stored transactions: {lost}"
    if info.is_read_only:
        raise ReplicaBehindError(f"{missing}; it is read-only, a replica that may still receive them: retrying")
    raise PositionError(f"{missing}; {_NEVER_HAD}", _NEVER_HAD_ADVICE)


def find_unknown_gtids(config: MySQLConfig, gtids: GtidSet) -> str:
    """Transactions of the set that the server has never had, "" without."""
    return _unknown(config, gtids)


def find_known_gtids(config: MySQLConfig, gtids: GtidSet) -> GtidSet:
    """Those transactions of the set that the server has, or had."""
    connection = connect(config)
    try:
        info = inspect(config, connection)
        if info.flavor == ServerFlavor.MARIADB:
            return mariadb_known(config, connection, gtids)
        assert info.executed is not None
        return gtid_subtract(config, connection, gtids, gtid_subtract(config, connection, gtids, info.executed))
    finally:
        connection.close()


def _missing(config: MySQLConfig, info: ServerInfo, gtids: GtidSet) -> str:
    """Purged transactions that are not in the set."""
    if info.purged is None or gtids.contains(info.purged):
        return ""
    if info.flavor == ServerFlavor.MARIADB:
        behind = [
            key
            for key, pairs in info.purged.members.items()
            if not gtids.contains(GtidSet(ServerFlavor.MARIADB, {key: pairs}))
        ]
        return ", ".join(f"domain {key} up to {info.purged.members[key][0][1]}" for key in behind)
    connection = connect(config)
    try:
        return str(gtid_subtract(config, connection, info.purged, gtids))
    finally:
        connection.close()


def _unknown(config: MySQLConfig, gtids: GtidSet) -> str:
    """Transactions of the set that the server has never seen, by a fresh look."""
    connection = connect(config)
    try:
        info = inspect(config, connection)
        if info.executed is None:
            return ""
        if info.flavor == ServerFlavor.MARIADB:
            return ", ".join(mariadb_unknown(config, connection, gtids))
        return "" if info.executed.contains(gtids) else str(gtid_subtract(config, connection, gtids, info.executed))
    finally:
        connection.close()


def _since(info: ServerInfo, checkpoint: Checkpoint | None) -> str:
    """What is known about the time of a gap."""
    parts = [f"; the oldest binlog is {info.files[0].name}"] if info.files else []
    if checkpoint is not None and checkpoint.ts_us:
        parts.append(f"; what is missing was committed after {format_time(time_of_us(checkpoint.ts_us))}")
    return "".join(parts)


def check_position(config: MySQLConfig, info: ServerInfo, checkpoint: Checkpoint) -> None:
    """Raises PositionError unless a transaction can begin at this file and position of the server's log."""
    position = checkpoint.position
    file = info.file(position.file)
    last = info.files[-1]
    if file is None and info.has_purged(position):
        raise PositionError(
            f"{position}: the server has purged {position.file}{_since(info, checkpoint)}", _PURGED_ADVICE
        )
    if file is None:
        raise PositionError(
            f"{position}: the server has no {position.file}, its newest binlog is {last.name}; {_LOST}", _LOST_ADVICE
        )
    if position.pos > _size(config, file.name, file.size, position.pos):
        raise PositionError(f"{position}: {file.name} ends at {file.size}; {_LOST}", _LOST_ADVICE)
    if position.pos == _FIRST_EVENT:
        return
    event = _event_at(config, info, position)
    if event is None or event.start.file != position.file:
        return  # the end of the log, or of a file whose server was killed: the next one begins without a rotation
    if event.start != position or not event.sequential or event.kind not in BETWEEN_TRANSACTIONS | {EventType.QUERY}:
        raise PositionError(
            f"{position}: no transaction begins there (event type {event.kind}); SHOW BINLOG EVENTS IN "
            f"'{position.file}' lists "
            f"where they do. If the position was read from this server, {_LOST}",
            _LOST_ADVICE,
        )
    known = checkpoint.gtids
    if (
        known
        and event.gtid is not None
        and known.contains(GtidSet(known.flavor).with_run(event.gtid[0], event.gtid[1], event.gtid[1]))
    ):
        raise PositionError(
            f"{position}: the transaction there was read before ({event.gtid[0]}:{event.gtid[1]}); {_LOST}",
            _LOST_ADVICE,
        )


def _size(config: MySQLConfig, name: str, size: int, wanted: int) -> int:
    """The file's size, looked at again when it seems too short: it grows."""
    if size >= wanted:
        return size
    again = inspect_server(config).file(name)
    return again.size if again else size


def _event_at(config: MySQLConfig, info: ServerInfo, position: BinlogPosition) -> ScannedEvent | None:
    """The first event that the server sends from there; None at the end of the log."""
    with BinlogDump(config, Checkpoint(position, info.server_uuid), blocking=False, info=info) as dump:
        try:
            return next(scan(dump), None)
        except DumpEndedError as error:
            if error.code != FATAL_READING_BINLOG:
                raise
            # The server takes the bytes at that position for an event, and fails.
            raise PositionError(
                f"{position}: no event begins there ({error}). If it was read here, {_LOST}", _LOST_ADVICE
            ) from error
