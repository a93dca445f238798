"""The order of positions: one comparison for all kinds of position, whose result may be "unknown". No I/O.

`compare` uses the information that both positions have; the first difference decides:

| kinds | compared, in this order | unknown if |
| --- | --- | --- |
| BinlogPosition | file number, offset: the caller knows that both are of one server | never |
| GtidSet | a proper subset is before, equal sets are the same | each set has transactions that are not in the other |
| ResumePosition | the GTID sets if both have one, else file number and offset | the GTID sets diverge |
| Checkpoint, one server | file number, offset, `skip` | never |
| Checkpoint, two servers | GTID sets; `skip` if the sets are equal | one has no GTIDs, or the sets diverge |
| EventPosition, one server | file number, offset, row | never |
| EventPosition, two servers | number of the GTID, `order` | the origins differ, or one has no GTID |
| EventPosition and Checkpoint, one server | file number and offset | never |
| EventPosition and Checkpoint, two servers | before if the set has the event's GTID, else after | one has no GTID |
| other pairs of kinds | nothing | always |

A row that a snapshot has published has no GTID.
The origin of a GTID is the server (or MariaDB's domain and server) that assigned its number.
Of the name of a file only its number is compared. `skip` is the number of stored changes after the position of a
checkpoint, `order` the number of a change in its transaction; `resume`, `inside`, `ts_us`, `log` and `sequence` of a
checkpoint are not compared. An event that ends at the position of a checkpoint is the same as it; one after it is
after, even if it is among the `skip` changes that are stored.

Each caller decides what to do if the order is unknown. Comparisons of all rows of a batch are in position_masks.py.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from binlogsync.errors import PositionError
from binlogsync.position import BinlogPosition, Checkpoint, EventPosition, GtidSet, ResumePosition
from binlogsync.server_version import ServerFlavor

AnyPosition: TypeAlias = BinlogPosition | GtidSet | ResumePosition | EventPosition | Checkpoint
_Key: TypeAlias = tuple[int, ...]


class PositionOrder(Enum):
    """Where the first of two positions is, seen from the second."""

    BEFORE = "before"
    SAME = "same"
    AFTER = "after"
    UNKNOWN = "unknown"

    @property
    def may_be_before(self) -> bool:
        """Before, or unknown."""
        return self in (PositionOrder.BEFORE, PositionOrder.UNKNOWN)

    @property
    def is_at_or_before(self) -> bool:
        """Known to be before, or the same."""
        return self in (PositionOrder.BEFORE, PositionOrder.SAME)

    @property
    def is_at_or_after(self) -> bool:
        """Known to be after, or the same."""
        return self in (PositionOrder.AFTER, PositionOrder.SAME)

    @property
    def reversed(self) -> PositionOrder:
        """Where the second position is, seen from the first."""
        return _REVERSED.get(self, self)


_REVERSED = {PositionOrder.BEFORE: PositionOrder.AFTER, PositionOrder.AFTER: PositionOrder.BEFORE}


def compare(one: AnyPosition, other: AnyPosition) -> PositionOrder:
    """Where `one` is, seen from `other`, as the table above defines it.

    Raises PositionError for two files of which one has a name that does not end in a number.
    """
    match one, other:
        case Checkpoint(), Checkpoint():
            return _compare_checkpoints(one, other)
        case BinlogPosition(), BinlogPosition():
            return _compare_positions(one, other)
        case EventPosition(), Checkpoint():
            return _compare_event(one, other)
        case Checkpoint(), EventPosition():
            return _compare_event(other, one).reversed
        case EventPosition(), EventPosition():
            return _compare_events(one, other)
        case GtidSet(), GtidSet():
            return _compare_sets(one, other)
        case ResumePosition(), ResumePosition():
            if one.gtids is not None and other.gtids is not None:
                return _compare_sets(one.gtids, other.gtids)
            return _compare_positions(one.position, other.position)
    return PositionOrder.UNKNOWN


def compare_or_raise(one: Checkpoint, other: Checkpoint) -> PositionOrder:
    """Like `compare`, but two servers without GTIDs are an error; still UNKNOWN if the GTID sets diverge.

    Raises PositionError when the checkpoints are of different servers and one has no GTIDs.
    """
    if one.server_uuid != other.server_uuid and (one.gtids is None or other.gtids is None):
        raise PositionError(
            "positions of different servers without GTIDs cannot be compared: "
            f"{one.position} of {one.server_uuid} and {other.position} of {other.server_uuid}; "
            "turn GTIDs on, or delete the checkpoint of the other server"
        )
    return compare(one, other)


def _compare_positions(one: BinlogPosition, other: BinlogPosition) -> PositionOrder:
    if one.file == other.file:
        return _compare_keys((one.pos,), (other.pos,))
    return _compare_keys((one.file_number, one.pos), (other.file_number, other.pos))


def _compare_keys(one: _Key, other: _Key) -> PositionOrder:
    if one == other:
        return PositionOrder.SAME
    return PositionOrder.BEFORE if one < other else PositionOrder.AFTER


def _break_tie(order: PositionOrder, one: int, other: int) -> PositionOrder:
    """`order`, unless it is SAME: then the order of the two numbers."""
    return _compare_keys((one,), (other,)) if order is PositionOrder.SAME else order


def _compare_sets(one: GtidSet, other: GtidSet) -> PositionOrder:
    match other.contains(one), one.contains(other):
        case True, True:
            return PositionOrder.SAME
        case True, False:
            return PositionOrder.BEFORE
        case False, True:
            return PositionOrder.AFTER
    return PositionOrder.UNKNOWN


def _compare_checkpoints(one: Checkpoint, other: Checkpoint) -> PositionOrder:
    if one.server_uuid == other.server_uuid:
        return _break_tie(_compare_positions(one.position, other.position), one.skip, other.skip)
    if one.gtids is None or other.gtids is None:
        return PositionOrder.UNKNOWN
    return _break_tie(_compare_sets(one.gtids, other.gtids), one.skip, other.skip)


def _compare_event(event: EventPosition, checkpoint: Checkpoint) -> PositionOrder:
    if event.server_uuid == checkpoint.server_uuid:
        return _compare_positions(event.position, checkpoint.position)
    gtids, gtid = checkpoint.gtids, event.transaction
    if gtids is None or gtid is None or (gtids.flavor == ServerFlavor.MYSQL) != (":" in gtid):
        return PositionOrder.UNKNOWN
    return PositionOrder.BEFORE if gtids.has(gtid) else PositionOrder.AFTER


def _compare_events(one: EventPosition, other: EventPosition) -> PositionOrder:
    if one.server_uuid == other.server_uuid:
        return _break_tie(_compare_positions(one.position, other.position), one.row, other.row)
    if one.transaction is None or other.transaction is None:
        return PositionOrder.UNKNOWN
    (origin, number), (other_origin, other_number) = _split(one.transaction), _split(other.transaction)
    if origin != other_origin:
        return PositionOrder.UNKNOWN
    return _compare_keys((number, one.order), (other_number, other.order))


def _split(gtid: str) -> tuple[str, int]:
    """(origin, number) of "uuid:7", "uuid:tag:7" or MariaDB's "0-1-7"; the numbers of one origin increase."""
    origin, _, number = gtid.rpartition(":" if ":" in gtid else "-")
    return origin, int(number)
