"""Checks whether the tail can continue with another server after a failover.

It can if that server logged the stored transactions in the same order: then its binlog continues where the stream
ends, also inside a transaction. A replica keeps the order of its source unless it applies in parallel with
replica_preserve_commit_order=OFF, or has additional transactions between them. Read only.
"""

from __future__ import annotations

from collections.abc import Iterable

from binlogsync.errors import PositionError
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.scan import scan
from binlogsync.mysql.server import ServerInfo
from binlogsync.position import Checkpoint, GtidSet


def check_order(config: MySQLConfig, info: ServerInfo, start: Checkpoint, held: Iterable[Checkpoint]) -> None:
    """Raises PositionError when the order of a dump from `start` does not match the stored transactions.

    Each checkpoint of another server in `held` (what the sinks have) must be a cut of this server's log: what is in it
    first, then the transaction that it lies inside, then the rest. Only as much of the log is read as lies between
    them. Raises SourceError when the server cannot be asked.
    """
    foreign = [each for each in held if each.server_uuid != info.server_uuid and each.gtids is not None]
    waiting = [_Cut(each) for each in foreign if each.skip or each.gtids != start.gtids]
    if not waiting or start.gtids is None or not info.gtids:
        return
    seen = start.gtids
    with BinlogDump(config, start, blocking=False, info=info) as dump:
        for event in scan(dump):
            if event.gtid is None:
                continue
            key, number = event.gtid
            one = GtidSet(info.flavor).with_run(key, number, number)
            seen = seen.with_run(key, number, number)
            for cut in waiting:
                cut.see(one, info)
            waiting = [cut for cut in waiting if not cut.is_passed(seen)]
            if not waiting:
                return


class _Cut:
    """One checkpoint, while the log is read past it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._known = checkpoint.gtids or GtidSet()
        self._first_new: GtidSet | None = None

    def see(self, one: GtidSet, info: ServerInfo) -> None:
        """The next transaction of the log."""
        inside = self._checkpoint.inside
        if self._known.contains(one):
            if self._first_new is not None:
                self._refuse(info, f"{self._first_new} before {one}, and {one} alone is stored")
        elif self._first_new is None:
            self._first_new = one
            if inside is not None and one != GtidSet(one.flavor).with_gtid(inside):
                self._refuse(info, f"{one} before {inside}, of which {self._checkpoint.skip} changes are stored")

    def is_passed(self, seen: GtidSet) -> bool:
        """True when no later transaction can be out of order."""
        return seen.contains(self._known) and (self._checkpoint.inside is None or self._first_new is not None)

    def _refuse(self, info: ServerInfo, what: str) -> None:
        raise PositionError(
            f"{self._checkpoint} of server {self._checkpoint.server_uuid}: {info.server_uuid} logged {what}: it did "
            "not keep the order of its source (replica_preserve_commit_order=OFF), or has additional transactions. "
            "Choose: continue with the first server or with a replica that kept the order, or rebuild the sinks"
        )
