"""Positions of a server and of its read views, each in one or two short statements."""

from __future__ import annotations

from binlogsync.mysql.config import MySQLConfig, fetch, fetch_row, translate_errors
from binlogsync.mysql.server import ServerInfo, clock_us, fetch_either, mariadb_gtids_at
from binlogsync.mysql.session import Connection
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor

BEGIN_VIEW = "START TRANSACTION WITH CONSISTENT SNAPSHOT"


class PositionReader:
    """Reads positions over one connection to the server that `info` describes. Raises SourceError."""

    def __init__(self, config: MySQLConfig, connection: Connection, info: ServerInfo) -> None:
        info.end()  # raises if the account may not see it
        self._config = config
        self._connection = connection
        self._info = info
        self._has_gtids = info.flavor == ServerFlavor.MYSQL and info.gtids

    def end(self) -> BinlogPosition:
        """The end of the binlog."""
        with translate_errors(self._config):
            row = fetch_either(self._config, self._connection, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")[0]
            return BinlogPosition(str(row["File"]), int(row["Position"]))

    def high(self, *, with_gtids: bool) -> Checkpoint:
        """A checkpoint after every change that an earlier SELECT of any connection has seen.

        `with_gtids` includes its GTIDs, for a comparison with positions of another server: a change may be visible
        before its GTID counts as executed, and is owned until then.
        """
        position, gtids = self.end(), None
        if with_gtids and self._has_gtids:
            owned, executed = self._owned_and_executed()
            gtids = executed.union(_parse_owned(owned))
        elif with_gtids:
            gtids = mariadb_gtids_at(self._config, self._connection, position)
        return self._checkpoint(position, gtids)

    def exact_view(self) -> Checkpoint | None:
        """Open a read view of InnoDB tables (REPEATABLE READ), and return its position.

        None if a transaction was being committed meanwhile, so that the position is not known; the view is open then
        too. Always None on MySQL without GTIDs.
        """
        if self._info.flavor == ServerFlavor.MARIADB:
            return self.mariadb_view(with_gtids=True)
        if not self._has_gtids:
            return None
        before = self._owned_and_executed()
        fetch(self._config, self._connection, BEGIN_VIEW)
        position = self.end()
        after = self._owned_and_executed()
        # A transaction owns its GTID from before it is logged until it counts as executed.
        is_exact = not after[0] and before == after
        return self._checkpoint(position, after[1]) if is_exact else None

    def mariadb_view(self, *, with_gtids: bool) -> Checkpoint:
        """Open a read view of InnoDB tables on MariaDB, which reports its exact position."""
        before = self._binlog_gtids() if with_gtids else None
        fetch(self._config, self._connection, BEGIN_VIEW)
        rows = fetch(self._config, self._connection, "SHOW STATUS LIKE 'binlog_snapshot_%%'", ())
        values = {str(row["Variable_name"]).lower(): str(row["Value"]) for row in rows}
        position = BinlogPosition(values["binlog_snapshot_file"], int(values["binlog_snapshot_position"]))
        if not with_gtids:
            return self._checkpoint(position, None)
        # The server finds the GTIDs of a position by reading the binlog; at its end it knows them.
        if self.end() == position and self._binlog_gtids() == before:
            return self._checkpoint(position, before)
        return self._checkpoint(position, mariadb_gtids_at(self._config, self._connection, position))

    def _checkpoint(self, position: BinlogPosition, gtids: GtidSet | None) -> Checkpoint:
        return Checkpoint(position, self._info.server_uuid, gtids, 0, clock_us(self._config, self._connection))

    def _owned_and_executed(self) -> tuple[str, GtidSet]:
        """In this order: a GTID that is neither owned nor executed when both are read was assigned later."""
        sql = "SELECT @@GLOBAL.gtid_owned AS owned, @@GLOBAL.gtid_executed AS executed"
        row = fetch_row(self._config, self._connection, sql)
        return str(row["owned"] or ""), GtidSet.parse(str(row["executed"] or ""), ServerFlavor.MYSQL)

    def _binlog_gtids(self) -> GtidSet:
        row = fetch_row(self._config, self._connection, "SELECT @@GLOBAL.gtid_binlog_pos AS executed")
        return GtidSet.parse(str(row["executed"] or ""), ServerFlavor.MARIADB)


def _parse_owned(text: str) -> GtidSet:
    """The GTIDs of @@gtid_owned: "uuid:7#12:8#13", each with the thread that owns it."""
    found = GtidSet(ServerFlavor.MYSQL)
    for member in filter(None, (part.strip() for part in text.replace("\n", "").split(","))):
        first, *rest = member.split("#")
        key, _, number = first.rpartition(":")
        found = found.with_gtid(f"{key}:{number}")
        for part in rest:
            _, colon, following = part.partition(":")
            if colon:
                found = found.with_gtid(f"{key}:{following}")
    return found
