"""What a tail needs to know to continue a snapshot whose progress is in the stream."""

from __future__ import annotations

import logging

from binlogsync.change import SchemaChange
from binlogsync.codec.snapshot_state import SnapshotState
from binlogsync.position import Checkpoint
from binlogsync.position_order import compare
from binlogsync.snapshot.requests import SnapshotRequest, SnapshotStatus
from binlogsync.tail.snapshot_watch import CurrentSnapshot

log = logging.getLogger(__name__)

PARTLY_PUBLISHED = (
    "consumers have only a part of its rows, because they were reset before: request a snapshot of it again once that "
    "is solved, or rebuild their copies"
)


def is_before(statement: SchemaChange, end: Checkpoint, held: Checkpoint | None) -> bool:
    """True for a statement before the stored progress at `held`, which is read again; `end` is that of its range."""
    if held is None:
        return False
    if held.server_uuid == end.server_uuid:
        return compare(statement.position, held.position).is_at_or_before
    if statement.gtid is not None and held.gtids is not None:
        return held.gtids.has(statement.gtid)
    return compare(end, held).is_at_or_before


def request_of_rest(state: SnapshotState) -> CurrentSnapshot:
    """A request for the rows of the current table alone, whose own request was cancelled after the table was reset."""
    log.info("snapshot %s was cancelled; %s, which was reset, is published first", state.id, ".".join(state.name))
    tables = (*[("", "")] * state.table, state.name)
    request = SnapshotRequest(id=state.id, patterns=("*.*",), created_us=0, subject=state.subject, tables=tables)
    return CurrentSnapshot(request, SnapshotStatus(state="cancelled"))
