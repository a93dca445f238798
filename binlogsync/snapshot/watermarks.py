"""Low and high watermarks of chunks: what a chunk surely contains, and what it cannot contain.

The changes of the table after a checkpoint `start` of the stream are applied to the rows of all chunks, so each chunk
must show every change before `start`. The stream may be ahead of what the server shows: a transaction is sent to it
before its rows become visible. Three ways, in this order of preference:

- MySQL with GTIDs: wait until the server has executed all GTIDs of `start`; then each SELECT shows them.
- MariaDB: each chunk is read in a read view, whose position the server reports; it must not precede `start`.
- MySQL without GTIDs: LOCK TABLES ... READ for a moment, which waits for the transactions that are being committed.

The high watermark is the end of the binlog after the last chunk (on MariaDB, the position of its view). On a replica,
whose binlog has other positions, both watermarks are GTID sets.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from contextlib import closing

from binlogsync.errors import SourceError
from binlogsync.mysql.config import MySQLConfig, connect, fetch, fetch_row
from binlogsync.mysql.server import ServerInfo
from binlogsync.mysql.session import Connection
from binlogsync.position import Checkpoint, GtidSet
from binlogsync.position_order import PositionOrder, compare
from binlogsync.server_version import ServerFlavor
from binlogsync.snapshot.position import PositionReader
from binlogsync.snapshot.view import lock_table

WAIT_S = 120.0
"""How long to wait until the server shows what the stream contains."""
_POLL_S = 0.02


class ReadStoppedError(Exception):
    """Reading was stopped by its caller."""


class Watermarks(ABC):
    """The watermarks of the chunks of one table, read over one connection."""

    def __init__(self, config: MySQLConfig, connection: Connection, info: ServerInfo, start: Checkpoint) -> None:
        self.config = config
        self.connection = connection
        self.start = start
        self.is_same_server = info.server_uuid == start.server_uuid
        self._info = info
        self.positions = PositionReader(config, connection, info)

    def use(self, connection: Connection) -> None:
        """Read over another connection to the same server from now on."""
        self.connection = connection
        self.positions = PositionReader(self.config, connection, self._info)

    @abstractmethod
    def prepare(self, name: tuple[str, str], stop: threading.Event) -> None:
        """Called before the first chunk. Raises SourceError, ReadStoppedError."""

    def begin_chunk(self, stop: threading.Event) -> None:
        """Called before the SELECT of a chunk. Raises SourceError, ReadStoppedError."""
        return

    def end_chunk(self) -> Checkpoint:
        """Called after the SELECT of a chunk; returns its high watermark. Raises SourceError."""
        return self.positions.high(with_gtids=not self.is_same_server)


class ExecutedGtids(Watermarks):
    """MySQL with GTIDs."""

    def prepare(self, name: tuple[str, str], stop: threading.Event) -> None:
        """Wait until the server has executed every transaction that the stream contains."""
        gtids = self.start.gtids or GtidSet(ServerFlavor.MYSQL)
        if self.start.inside is not None:
            gtids = gtids.with_gtid(self.start.inside)
        ends_at = time.monotonic() + WAIT_S
        while not stop.is_set():
            sql = "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 1) AS is_late"
            if not int(fetch_row(self.config, self.connection, sql, (str(gtids),))["is_late"]):
                return
            if time.monotonic() > ends_at:
                raise SourceError(
                    f"{self.config.address} has not executed all transactions of the stream ({gtids}) within "
                    f"{WAIT_S:.0f} s: it is not the source of the stream, or a replica that lags behind it; wait for "
                    "it, or configure the address of that source"
                )
        raise ReadStoppedError


class ViewPositions(Watermarks):
    """MariaDB: a read view for each chunk."""

    def prepare(self, name: tuple[str, str], stop: threading.Event) -> None:
        """Nothing to prepare: each view reports its position."""
        self._at = self.start

    def begin_chunk(self, stop: threading.Event) -> None:
        """Open a view that does not precede the start."""
        ends_at = time.monotonic() + WAIT_S
        while not stop.is_set():
            self._at = self.positions.mariadb_view(with_gtids=not self.is_same_server)
            if contains_start(self._at, self.start):
                return
            fetch(self.config, self.connection, "ROLLBACK")
            if time.monotonic() > ends_at:
                raise SourceError(
                    f"{self.config.address} shows the table at {self._at}, but the stream is at {self.start}: it is "
                    "not the source of the stream, or a replica that lags behind it; configure the address of that "
                    "source"
                )
            stop.wait(_POLL_S)
        raise ReadStoppedError

    def end_chunk(self) -> Checkpoint:
        """End the view; its position is the watermark."""
        fetch(self.config, self.connection, "ROLLBACK")
        return self._at


def contains_start(view: Checkpoint, start: Checkpoint) -> bool:
    """True when a view at that position provably shows every change that the stream has up to `start`.

    A start inside a transaction has the position of its beginning: the view must contain the transaction.
    """
    order = compare(view.at_boundary(), start.at_boundary())
    return order is PositionOrder.AFTER or (order is PositionOrder.SAME and not start.skip)


class MomentaryLock(Watermarks):
    """MySQL without GTIDs."""

    def prepare(self, name: tuple[str, str], stop: threading.Event) -> None:
        """Lock and unlock: then every transaction of the stream on this table is visible."""
        with closing(connect(self.config)) as locking:
            lock_table(self.config, locking, name, stop)
            fetch(self.config, locking, "UNLOCK TABLES")


def choose_watermarks(config: MySQLConfig, connection: Connection, info: ServerInfo, start: Checkpoint) -> Watermarks:
    """The watermarks for this server. Raises SourceError for another server than the stream's without GTIDs."""
    if info.server_uuid != start.server_uuid and (start.gtids is None or not info.gtids):
        raise SourceError(
            f"{config.address} is server {info.server_uuid}, but the stream is of server {start.server_uuid}: without "
            "GTIDs on both, their positions cannot be compared. Configure the address of the stream's source, or turn "
            "GTIDs on"
        )
    if info.flavor == ServerFlavor.MARIADB:
        return ViewPositions(config, connection, info, start)
    has_gtids = info.gtids and start.gtids is not None
    return (ExecutedGtids if has_gtids else MomentaryLock)(config, connection, info, start)
