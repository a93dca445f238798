"""Comparisons of all rows of a batch with one position, vectorised over Arrow columns.

They decide as position_order.py does: by file number and offset on one server, by GTID across servers. In addition,
they distinguish the rows of one transaction, by its start and `order` against the boundary and `skip` of a checkpoint.

Rows that a snapshot has published at a boundary come after the transaction before it, and before the one after it. A
checkpoint at the boundary does not show whether they are stored: the tail may publish them before or after it stores
the checkpoint. `not_stored_mask` counts them as not stored, `beyond_mask` as not beyond it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import PositionError
from binlogsync.position import FIRST_ORDINAL, SNAPSHOT, BinlogPosition, Checkpoint, EventPosition, GtidSet
from binlogsync.server_version import ServerFlavor

_AFTER_ROWS = 1 << 32
"""Above the ordinals of all rows that a snapshot publishes, which are uint32."""


def changes_after(batch: ChangeBatch, stored: Checkpoint) -> ChangeBatch:
    """The changes of one batch that are not stored at that checkpoint; see `not_stored_mask`."""
    mask = not_stored_mask(batch, stored)
    return batch if mask.false_count == 0 else batch.select(mask)


def not_stored_mask(batch: ChangeBatch, stored: Checkpoint) -> pa.BooleanArray:
    """Which changes are not stored at that checkpoint: by position on the server of the checkpoint, by GTID on another
    one, where a change without a GTID counts as not stored, as does a row that a snapshot has published.
    """
    if batch.server_uuid != stored.server_uuid:
        return _not_stored_elsewhere(batch, stored)
    number = stored.position.file_number
    later = _of_names(batch, "file", lambda name: BinlogPosition(name, 0).file_number > number)
    same = _of_names(batch, "file", lambda name: BinlogPosition(name, 0).file_number == number)
    txn_pos, order = batch.data.column("txn_pos"), batch.data.column("order")
    at, left = pc.equal(txn_pos, stored.position.pos), pc.greater_equal(order, stored.skip)
    published = batch.published_rows() if stored.skip else None
    if stored.skip >= FIRST_ORDINAL:
        left = True if published is None else pc.or_(left, pc.invert(published))
    elif stored.skip and published is not None:
        left = pc.and_(left, pc.invert(published))
    here = pc.or_(pc.greater(txn_pos, stored.position.pos), pc.and_(at, left))
    return pc.or_(later, pc.and_(same, here))


def beyond_mask(batch: ChangeBatch, at: Checkpoint) -> pa.BooleanArray:
    """Which changes are after everything that can be read up to that checkpoint: those of `not_stored_mask`, without
    the rows that a snapshot has published at its boundary.
    """
    is_at_boundary = batch.server_uuid == at.server_uuid and not at.skip
    return not_stored_mask(batch, replace(at, skip=_AFTER_ROWS) if is_at_boundary else at)


def gtid_is_missing(batch: ChangeBatch) -> bool:
    """True if a change has no GTID by which it can be compared across servers."""
    return bool(batch.data.column("gtid").null_count) or batch.published_rows() is not None


def count_not_after(batch: ChangeBatch, at: EventPosition) -> int:
    """How many changes are the given one or before it. Both are of one server: position and row decide."""
    files = batch.data.column("file")
    numbers = pa.array([BinlogPosition(name, 0).file_number for name in files.dictionary.to_pylist()], pa.int64())
    file = numbers.to_numpy()[files.indices.to_numpy(zero_copy_only=False)]
    pos, row = (batch.data.column(name).to_numpy(zero_copy_only=False) for name in ("pos", "row"))
    number, offset = at.position.file_number, at.position.pos
    mask = (file < number) | ((file == number) & ((pos < offset) | ((pos == offset) & (row <= at.row))))
    return int(mask.sum())


def _not_stored_elsewhere(batch: ChangeBatch, stored: Checkpoint) -> pa.BooleanArray:
    """Which changes are not stored at a checkpoint of another server, by GTID: positions of two servers do not compare.

    A replica logs the rows of a transaction in the order of its source, so the stored changes are the first ones.
    """
    later = pc.invert(_of_names(batch, "gtid", lambda gtid: _has(stored.gtids, gtid)).fill_null(False))
    if stored.inside is None:
        return later
    within = _of_names(batch, "gtid", lambda gtid: gtid == stored.inside).fill_null(False)
    done = pc.and_(within, pc.less(batch.data.column("order"), stored.skip))
    if pc.any(done).as_py():
        _refuse_unordered(batch.select(within), stored)
    return pc.and_(later, pc.invert(done))


def _refuse_unordered(part: ChangeBatch, stored: Checkpoint) -> None:
    """Raise PositionError if the checkpoint is between rows whose order may differ on another server.

    A replica finds the rows of an UPDATE or DELETE event in the order of the table when that has no key (HASH_SCAN).
    """
    at = [pc.index(part.data.column("order"), pa.scalar(stored.skip + d, pa.uint64())).as_py() for d in (-1, 0)]
    is_mysql = stored.gtids is not None and stored.gtids.flavor == ServerFlavor.MYSQL
    if not is_mysql or part.schema.primary_key or -1 in at:
        return
    last, following = (part.data.slice(index, 1).to_pylist()[0] for index in at)
    if last["pos"] == following["pos"] and last["op"] in ("u", "d"):
        raise PositionError(
            f"{stored.inside}: {stored.skip} of its changes are stored, and the next is in the same event of "
            f"{part.schema.name}, which has no primary key: another server may have logged these rows in another "
            f"order. Choose: continue with server {stored.server_uuid}, or start again after this transaction. To "
            "prevent this, add a primary key to the table"
        )


def _of_names(batch: ChangeBatch, column: str, is_so: Callable[[str], bool]) -> pa.BooleanArray:
    """Whether the name of each change meets the condition, evaluated once per distinct name; NULL where the name is."""
    names = batch.data.column(column)
    return pa.array([is_so(name) for name in names.dictionary.to_pylist()], pa.bool_()).take(names.indices)


def _has(gtids: GtidSet | None, gtid: str | None) -> bool:
    """True when the transaction is known to be in the set."""
    return gtids is not None and gtid is not None and not gtid.startswith(SNAPSHOT) and gtids.has(gtid)
