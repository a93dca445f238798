"""A range of a table's past, and which changes are in it. Pure.

A range is half open: it contains the changes that a restart at `start` reads and a restart at `until` does not.
Changes of one server are compared by binlog position; if the server changed in between, by GTID. Changes that cannot be
compared with a bound raise an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConfigError, PositionError
from binlogsync.nats.reader import StreamBatch
from binlogsync.position import FIRST_ORDINAL, BinlogPosition, Checkpoint
from binlogsync.position_masks import beyond_mask, gtid_is_missing
from binlogsync.position_order import PositionOrder, compare_or_raise


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """The changes of a table between two checkpoints.

    Attributes:
        label: shown to users: the key of its bookmark, or its bounds as the user wrote them.
        start, until: its bounds; equal for an empty range.
    """

    label: str
    start: Checkpoint
    until: Checkpoint

    def __post_init__(self) -> None:
        if compare_or_raise(self.until, _boundary(self.start)) is PositionOrder.BEFORE:
            raise ConfigError(
                f"the range {self.label} ends at {self.until}, before its start at {self.start}; swap its bounds"
            )

    @property
    def is_empty(self) -> bool:
        """True when it cannot contain a change."""
        return compare_or_raise(self.start, self.until).is_at_or_after and _boundary(self.start) == self.start

    def mask(self, batch: ChangeBatch) -> pa.BooleanArray:
        """Mask of the changes of the batch that are in the range. Raises PositionError."""
        return pc.and_(mask_from(batch, self.start), pc.invert(mask_from(batch, self.until)))

    def clip(self, item: StreamBatch) -> StreamBatch | None:
        """The changes of a batch that are in the range; None if there are none."""
        mask = self.mask(item.batch)
        if not mask.true_count:
            return None
        return select_changes(item, mask)


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The ranges that a replay reads. A replay of the same table and request resumes an unfinished one.

    Attributes:
        source, database, table: the table whose changes are replayed.
        request: what the user asked for, as text.
        ranges: in binlog order, not overlapping.
        number: distinguishes this replay from later ones with the same request.
    """

    source: str
    database: str
    table: str
    request: str
    ranges: tuple[ReplayRange, ...]
    number: str

    @property
    def name(self) -> str:
        """ "database.table"."""
        return f"{self.database}.{self.table}"

    def is_same_request(self, other: ReplayPlan) -> bool:
        """True when the other plan has the same table and request."""
        mine, its = ((each.source, each.name, each.request) for each in (self, other))
        return mine == its

    def to_text(self) -> str:
        """One line of JSON."""
        ranges = [[range_.label, range_.start.to_text(), range_.until.to_text()] for range_ in self.ranges]
        record = {
            "source": self.source,
            "database": self.database,
            "table": self.table,
            "words": self.request,
            "spans": ranges,
            "number": self.number,
        }
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | bytes) -> ReplayPlan:
        """Parse the output of to_text. Raises PositionError."""
        try:
            record: Mapping[str, object] = json.loads(text)
            ranges = tuple(
                ReplayRange(label, Checkpoint.from_text(start), Checkpoint.from_text(until))
                for label, start, until in record["spans"]  # type: ignore[attr-defined]
            )
            source, database, table, request = (str(record[name]) for name in ("source", "database", "table", "words"))
            return cls(source, database, table, request, ranges, str(record["number"]))
        except (ValueError, KeyError, TypeError) as error:
            raise PositionError(f"not the plan of a replay: {text!r} ({error!r})") from error


def _boundary(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint; its boundary, if it is among rows that a snapshot has published there."""
    return checkpoint.at_boundary() if checkpoint.skip >= FIRST_ORDINAL else checkpoint


def mask_from(batch: ChangeBatch, checkpoint: Checkpoint) -> pa.BooleanArray:
    """Mask of the changes at or after the checkpoint. Raises PositionError if they cannot be compared with it.

    Rows that a snapshot has published at a checkpoint are before it.
    """
    if batch.server_uuid != checkpoint.server_uuid and (checkpoint.gtids is None or gtid_is_missing(batch)):
        raise PositionError(
            f"{batch.schema.name}: changes of server {batch.server_uuid} cannot be compared with {checkpoint} of "
            f"server {checkpoint.server_uuid} without GTIDs; choose bounds on one side of the change of server"
        )
    return beyond_mask(batch, checkpoint)


def checkpoint_before(batch: ChangeBatch, row: int) -> Checkpoint:
    """The checkpoint directly before a change."""
    file, begin, order, gtid = (batch.data.column(name)[row].as_py() for name in ("file", "txn_pos", "order", "gtid"))
    ts_us = batch.data.column("ts_us")[row].cast(pa.int64()).as_py()
    return Checkpoint(BinlogPosition(file, begin), batch.server_uuid, None, order, ts_us, inside=gtid)


def checkpoint_after(batch: ChangeBatch) -> Checkpoint:
    """The checkpoint directly after the last change of a batch."""
    last = checkpoint_before(batch, len(batch) - 1)
    return replace(last, skip=last.skip + 1)


def select_changes(item: StreamBatch, mask: pa.BooleanArray) -> StreamBatch:
    """The changes of the batch where the mask is true."""
    if mask.false_count == 0:
        return item
    return StreamBatch(item.batch.select(mask), item.sequences[np.asarray(mask.fill_null(False))], item.reply)


def remove_overlaps(ranges: Sequence[ReplayRange]) -> tuple[ReplayRange, ...]:
    """The ranges in binlog order; changes that two ranges share belong to the first of them only.

    Raises PositionError for ranges that cannot be compared.
    """
    ordered: list[ReplayRange] = []
    for range_ in ranges:
        at = len(ordered)
        while at and compare_or_raise(range_.start, ordered[at - 1].start).may_be_before:
            at -= 1
        ordered.insert(at, range_)
    joined: list[ReplayRange] = []
    for range_ in ordered:
        last = joined[-1] if joined else None
        if last is not None and compare_or_raise(range_.start, last.until).may_be_before:
            until = range_.until if compare_or_raise(last.until, range_.until).may_be_before else last.until
            range_ = replace(range_, start=last.until, until=until)
        joined.append(range_)
    return tuple(joined)
