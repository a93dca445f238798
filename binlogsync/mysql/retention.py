"""How long the server retains a position of its binlog, from its retention settings, file sizes and write rate.

A server deletes whole files, the oldest first: those last written to longer ago than it keeps them (it looks when it
begins a file, and when it starts), and those beyond a total size, where it has such a limit (MariaDB's
max_binlog_total_size, Percona's binlog_space_limit). So the answer is the earliest time; it may be later. Read only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

from binlogsync.errors import PositionError
from binlogsync.mysql.config import MySQLConfig, connect
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.gtid_sets import parse_previous_gtids
from binlogsync.mysql.scan import EventType, scan
from binlogsync.mysql.server import BinlogFile, ServerInfo, clock_us, mariadb_gtids_at
from binlogsync.mysql.start import FIRST_EVENT, begun_at
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor

_FILES_FOR_RATE = 8
_SHORTEST_S = 60.0


@dataclass(frozen=True, slots=True)
class PositionRetention:
    """How long a position is retained.

    Attributes:
        file: the first file that a reader needs from there.
        seconds: until the server may purge it, 0 if it may do so now; None if it never purges files by itself.
        bytes_after: size of the binlogs from that file on.
    """

    file: str
    seconds: float | None
    bytes_after: int


class BinlogRetention:
    """One look at the binlogs of a server; heads of files are read at most once."""

    def __init__(self, config: MySQLConfig, info: ServerInfo) -> None:
        """Sends no query yet. Every method raises SourceError when a query fails."""
        self._config = config
        self._info = info
        self._begun: dict[str, float] = {}
        self._previous: dict[str, GtidSet] = {}
        self._now_s = time.time()

    @property
    def keeps_s(self) -> float | None:
        """Seconds for which the server retains a closed file; None without a limit."""
        auto = self._info.variables.get("binlog_expire_logs_auto_purge", "ON").upper() in ("ON", "1")
        return self._info.expire_s if auto else None

    @property
    def limit_bytes(self) -> int | None:
        """Most bytes that it keeps; None without a limit."""
        names = ("max_binlog_total_size", "binlog_space_limit")
        limits = [int(float(self._info.variables.get(name, "0") or 0)) for name in names]
        return min((limit for limit in limits if limit), default=None)

    def bytes_per_s(self) -> float | None:
        """Write rate over the last few files; None if they cover less than a minute."""
        recent = self._info.files[-_FILES_FOR_RATE:]
        if not recent:
            return None
        seconds = self._now_s - self._begun_s(recent[0])
        return sum(file.size for file in recent) / seconds if seconds >= _SHORTEST_S else None

    def assess(self, checkpoint: Checkpoint) -> PositionRetention:
        """Retention of a restart position. Raises PositionError when no file contains the changes after it."""
        checkpoint = checkpoint.read_start()
        files = self._info.files
        index = self._index(checkpoint)
        size = sum(file.size for file in files[index:])
        seconds = [each for each in (self._by_age(index), self._by_size(size)) if each is not None]
        return PositionRetention(files[index].name, min(seconds, default=None), size)

    def _by_age(self, index: int) -> float | None:
        if self.keeps_s is None:
            return None
        if index + 1 == len(self._info.files):
            return self.keeps_s  # it is written to; at the earliest it is ended now
        ended_s = self._begun_s(self._info.files[index + 1])
        return max(0.0, ended_s + self.keeps_s - self._now_s)

    def _by_size(self, size: int) -> float | None:
        limit = self.limit_bytes
        if limit is None:
            return None
        if size >= limit:
            return 0.0
        rate = self.bytes_per_s()
        return (limit - size) / rate if rate else None

    def _index(self, checkpoint: Checkpoint) -> int:
        """Of the file that a restart there reads first."""
        files = self._info.files
        if checkpoint.server_uuid == self._info.server_uuid:
            for index, file in enumerate(files):
                if file.name == checkpoint.position.file:
                    return index
        if checkpoint.gtids is not None and self._info.gtids:
            for index in reversed(range(len(files))):
                with suppress(PositionError):
                    if checkpoint.gtids.contains(self._before(files[index])):
                        return index
        raise PositionError(f"{checkpoint}: no binlog of {self._info.server_uuid} contains the changes after it")

    def _begun_s(self, file: BinlogFile) -> float:
        if file.name not in self._begun:
            self._begun[file.name] = begun_at(self._config, self._info, file.name).timestamp()
        return self._begun[file.name]

    def _before(self, file: BinlogFile) -> GtidSet:
        """All transactions before the file."""
        if file.name not in self._previous:
            self._previous[file.name] = next(self._read_before(file), GtidSet(self._info.flavor))
        return self._previous[file.name]

    def _read_before(self, file: BinlogFile) -> Iterator[GtidSet]:
        begin = BinlogPosition(file.name, FIRST_EVENT)
        if self._info.flavor == ServerFlavor.MARIADB:
            with closing(connect(self._config)) as connection:
                found = mariadb_gtids_at(self._config, connection, begin)
            if found is not None:
                yield found
            return
        start = Checkpoint(begin, self._info.server_uuid)
        with BinlogDump(self._config, start, blocking=False, info=self._info) as dump:
            for number, event in enumerate(scan(dump)):
                if event.kind == EventType.PREVIOUS_GTIDS:
                    yield parse_previous_gtids(event.body)
                if number:
                    return


def clock_ahead_s(config: MySQLConfig) -> float:
    """How far the server's clock is ahead of this machine's, in seconds. Raises SourceError."""
    with closing(connect(config)) as connection:
        sent_s = time.time()
        there = clock_us(config, connection) / 1e6
        return there - (sent_s + time.time()) / 2
