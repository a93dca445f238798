"""Checks that another server's transactions are the stored ones, and not others with the same GTIDs.

A server that was restored to an older state assigns the GTIDs after that state again, to other transactions. Its
replicas and clones have them under another server UUID, so the identity of the log (identity.py) is not enough. But a
transaction keeps the time at which it was first committed wherever it is replicated to, and the checkpoint has the time
of the last stored one. Transactions whose events the server has purged are not checked, and none of MariaDB: its
replicas log another time for a statement that took more than a second. Read only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from binlogsync.errors import PositionError
from binlogsync.mysql.config import MySQLConfig
from binlogsync.mysql.dump import BinlogDump
from binlogsync.mysql.scan import ScannedEvent, scan
from binlogsync.mysql.server import ServerInfo
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.server_version import ServerFlavor
from binlogsync.text_format import format_time, time_of_us

FIRST_EVENT = 4
_ADVICE = (
    "choose: continue with a server that has the stored transactions, or rebuild stream and mirrors from this one. A "
    "gap is accepted, and recorded, by starting the tail once with --accept-gap REASON (in Dagster: accept_gap in the "
    "Launchpad of its job); check then what is stored against the tables"
)


@dataclass(frozen=True, slots=True)
class _Transaction:
    """A GTID: key as GtidSet.with_run takes it, and number."""

    key: str
    number: int

    def as_set(self, flavor: ServerFlavor) -> GtidSet:
        return GtidSet(flavor).with_run(self.key, self.number, self.number)


def check_same_transactions(config: MySQLConfig, info: ServerInfo, checkpoint: Checkpoint) -> None:
    """Raises PositionError when this server has other transactions under GTIDs that another server's checkpoint has.

    The checkpoint's GTIDs are all in this server's log, or purged from it. Compared are the last transactions of each
    origin: one of them was the last that was stored, so none that was first committed after it can have been stored.
    Raises SourceError when the server cannot be asked.
    """
    known = checkpoint.gtids
    if not checkpoint.ts_us or known is None or not info.gtids or {info.flavor, known.flavor} != {ServerFlavor.MYSQL}:
        return
    found = _find_events(config, info, known, set(_last_in(checkpoint, known)))
    first_committed = {one: time for one, event in found if (time := event.first_committed_us) is not None}
    if not first_committed or checkpoint.ts_us in first_committed.values():
        return
    one, committed_us = max(first_committed.items(), key=lambda item: item[1])
    if committed_us <= checkpoint.ts_us:
        return  # the last stored transaction is of an origin that cannot be compared, or purged here
    raise PositionError(
        f"{checkpoint} of server {checkpoint.server_uuid}: {info.server_uuid} has another transaction "
        f"{one.as_set(info.flavor)} than the stored one: it was committed at {format_time(time_of_us(committed_us))}, "
        f"and the last stored transaction at {format_time(time_of_us(checkpoint.ts_us))}. The server, or the one that "
        "it was copied from, was restored to an older state and has assigned the same GTIDs again",
        _ADVICE,
    )


def _last_in(checkpoint: Checkpoint, known: GtidSet) -> Iterator[_Transaction]:
    """The last transaction of each tag, and the one that the checkpoint is inside, of those first committed there.

    A server logs its own time for a transaction that it has received, so these cannot be compared.
    """
    if checkpoint.inside is not None:
        key, _, number = checkpoint.inside.rpartition(":")
        if _is_origin(key, checkpoint):
            yield _Transaction(key, int(number))
    for key, intervals in known.members.items():
        if _is_origin(key, checkpoint):
            yield _Transaction(key, intervals[-1][1])


def _is_origin(key: str, checkpoint: Checkpoint) -> bool:
    """True for transactions that the checkpoint's server has committed first."""
    return key.partition(":")[0] == checkpoint.server_uuid


def _find_events(
    config: MySQLConfig, info: ServerInfo, known: GtidSet, wanted: set[_Transaction]
) -> Iterator[tuple[_Transaction, ScannedEvent]]:
    """The GTID events of these transactions: the server is asked for what is not in the set without them."""
    left = {one for one in wanted if not (info.purged or GtidSet()).contains(one.as_set(info.flavor))}
    members = dict(known.members)
    for one in left:
        first, last = members.get(one.key, ((0, 0),))[-1]
        if last == one.number:
            shorter = ((first, last - 1),) if first < last else ()
            members[one.key] = (*members[one.key][:-1], *shorter)
    if not left:
        return
    without = GtidSet(info.flavor, {key: intervals for key, intervals in members.items() if intervals})
    start = Checkpoint(BinlogPosition(info.files[0].name, FIRST_EVENT), info.server_uuid, without)
    with BinlogDump(config, start, blocking=False, info=info) as dump:
        for event in scan(dump):
            gtid = event.gtid
            if gtid is not None and (one := _Transaction(*gtid)) in left:
                yield one, event
                left.remove(one)
                if not left:
                    return
