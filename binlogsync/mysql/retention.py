"""How long the server will still have a place of its binlog: from sizes, write rate and what it keeps.

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

_FILES_FOR_RATE = 8
_SHORTEST_S = 60.0


@dataclass(frozen=True, slots=True)
class PositionRetention:
    """How long a place is still there.

    Attributes:
        file: name of the file that is read first from there.
        seconds: until it may be deleted, 0 when it may be now; None when the server keeps it for ever, as far as it
            says.
        bytes_after: in the binlogs from that file on.
    """

    file: str
    seconds: float | None
    bytes_after: int


class BinlogRetention:
    """One look at the binlogs of a server; heads of files are read at most once."""

    def __init__(self, config: MySQLConfig, info: ServerInfo) -> None:
        """Asks nothing yet. Every method raises SourceError when the server cannot be asked."""
        self._config = config
        self._info = info
        self._begun: dict[str, float] = {}
        self._previous: dict[str, GtidSet] = {}
        self._now_s = time.time()

    @property
    def keeps_s(self) -> float | None:
        """Seconds for which the server keeps a file that is no longer written to; None for ever."""
        auto = self._info.variables.get("binlog_expire_logs_auto_purge", "ON").upper() in ("ON", "1")
        return self._info.expire_s if auto else None

    @property
    def limit_bytes(self) -> int | None:
        """Most bytes that it keeps; None without a limit."""
        names = ("max_binlog_total_size", "binlog_space_limit")
        limits = [int(float(self._info.variables.get(name, "0") or 0)) for name in names]
        return min((limit for limit in limits if limit), default=None)

    def bytes_per_s(self) -> float | None:
        """What the server writes, over its last few files; None when they are too young to tell."""
        recent = self._info.files[-_FILES_FOR_RATE:]
        if not recent:
            return None
        seconds = self._now_s - self._begun_s(recent[0])
        return sum(file.size for file in recent) / seconds if seconds >= _SHORTEST_S else None

    def assess(self, place: Checkpoint) -> PositionRetention:
        """For a restart there. Raises PositionError when no file holds what comes next."""
        place = place.read_start()
        files = self._info.files
        index = self._index(place)
        behind = sum(file.size for file in files[index:])
        seconds = [each for each in (self._by_age(index), self._by_size(behind)) if each is not None]
        return PositionRetention(files[index].name, min(seconds, default=None), behind)

    def _by_age(self, index: int) -> float | None:
        if self.keeps_s is None:
            return None
        if index + 1 == len(self._info.files):
            return self.keeps_s  # it is written to; at the earliest it is ended now
        ended_s = self._begun_s(self._info.files[index + 1])
        return max(0.0, ended_s + self.keeps_s - self._now_s)

    def _by_size(self, behind: int) -> float | None:
        limit = self.limit_bytes
        if limit is None:
            return None
        if behind >= limit:
            return 0.0
        rate = self.bytes_per_s()
        return (limit - behind) / rate if rate else None

    def _index(self, place: Checkpoint) -> int:
        """Of the file that a restart there reads first."""
        files = self._info.files
        if place.server_uuid == self._info.server_uuid:
            for index, file in enumerate(files):
                if file.name == place.position.file:
                    return index
        if place.gtids is not None and self._info.gtids:
            for index in reversed(range(len(files))):
                with suppress(PositionError):
                    if place.gtids.contains(self._before(files[index])):
                        return index
        raise PositionError(f"{place}: no binlog of {self._info.server_uuid} holds what comes next")

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
        if self._info.flavor == "mariadb":
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
