"""A range of a table's past, and which changes lie in it. Pure.

A range is half open: what a restart at `start` reads and one at `until` does not read any more. Within one server the
places decide; where the server changed in between, GTIDs do. What cannot be decided is an error, never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.change import ChangeBatch
from binlogsync.errors import ConfigError, PositionError
from binlogsync.flush import behind
from binlogsync.position import BinlogPosition, Checkpoint
from binlogsync.stream.reader import StreamBatch


@dataclass(frozen=True, slots=True)
class Span:
    """One range.

    Attributes:
        label: what people call it: the key of its bookmark, or its ends as they were written.
        start, until: its ends; equal for an empty range.
    """

    label: str
    start: Checkpoint
    until: Checkpoint

    def __post_init__(self) -> None:
        if self.until.precedes(self.start) and not self.start.precedes(self.until):
            raise ConfigError(
                f"the range {self.label} ends at {self.until}, before it begins at {self.start}; swap its ends"
            )

    @property
    def is_empty(self) -> bool:
        """True when nothing can lie in it."""
        return not self.start.precedes(self.until)

    def mask(self, batch: ChangeBatch) -> pa.BooleanArray:
        """Which changes of the batch lie in it. Raises PositionError."""
        return pc.and_(is_behind(batch, self.start), pc.invert(is_behind(batch, self.until)))

    def cut(self, item: StreamBatch) -> StreamBatch | None:
        """The changes of a batch that lie in it; None for none."""
        mask = self.mask(item.batch)
        if not mask.true_count:
            return None
        return select(item, mask)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backfill is to do; two of the same words and table are the same backfill, which can be gone on with.

    Attributes:
        source, database, table: whose changes.
        words: how it was asked for.
        spans: in the order of the binlog, not overlapping.
        number: tells this backfill from a later one of the same words.
    """

    source: str
    database: str
    table: str
    words: str
    spans: tuple[Span, ...]
    number: str

    @property
    def name(self) -> str:
        """ "database.table"."""
        return f"{self.database}.{self.table}"

    def is_same(self, other: Plan) -> bool:
        """True when the other was asked for in the same words."""
        mine, its = ((each.source, each.name, each.words) for each in (self, other))
        return mine == its

    def to_text(self) -> str:
        """One line of JSON."""
        spans = [[span.label, span.start.to_text(), span.until.to_text()] for span in self.spans]
        record = {
            "source": self.source,
            "database": self.database,
            "table": self.table,
            "words": self.words,
            "spans": spans,
            "number": self.number,
        }
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | bytes) -> Plan:
        """Read what to_text wrote. Raises PositionError."""
        try:
            record: Mapping[str, object] = json.loads(text)
            spans = tuple(
                Span(label, Checkpoint.from_text(start), Checkpoint.from_text(until))
                for label, start, until in record["spans"]  # type: ignore[attr-defined]
            )
            source, database, table, words = (str(record[name]) for name in ("source", "database", "table", "words"))
            return cls(source, database, table, words, spans, str(record["number"]))
        except (ValueError, KeyError, TypeError) as error:
            raise PositionError(f"not the plan of a backfill: {text!r} ({error!r})") from error


def is_behind(batch: ChangeBatch, place: Checkpoint) -> pa.BooleanArray:
    """Which changes are not before the place; raises PositionError where neither place nor GTID can tell."""
    if batch.server_uuid != place.server_uuid and (place.gtids is None or batch.data.column("gtid").null_count):
        raise PositionError(
            f"{batch.schema.name}: changes of server {batch.server_uuid} cannot be compared with {place} of server "
            f"{place.server_uuid} without GTIDs; choose ends on one side of the move to another server"
        )
    return behind(batch, place)


def place_of(batch: ChangeBatch, row: int) -> Checkpoint:
    """The place right before a change."""
    file, begin, order, gtid = (batch.data.column(name)[row].as_py() for name in ("file", "txn_pos", "order", "gtid"))
    ts_us = batch.data.column("ts_us")[row].cast(pa.int64()).as_py()
    return Checkpoint(BinlogPosition(file, begin), batch.server_uuid, None, order, ts_us, inside=gtid)


def place_behind(batch: ChangeBatch) -> Checkpoint:
    """The place right behind the last change of a batch."""
    last = place_of(batch, len(batch) - 1)
    return replace(last, skip=last.skip + 1)


def select(item: StreamBatch, mask: pa.BooleanArray) -> StreamBatch:
    """The changes where the mask is true."""
    if mask.false_count == 0:
        return item
    return StreamBatch(item.batch.select(mask), item.sequences.filter(mask), item.reply)


def join_spans(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans in the order of the binlog, none of them reaching into the next: what two share counts for the first.

    Raises PositionError for spans that cannot be compared.
    """
    ordered: list[Span] = []
    for span in spans:
        at = len(ordered)
        while at and span.start.precedes(ordered[at - 1].start):
            at -= 1
        ordered.insert(at, span)
    joined: list[Span] = []
    for span in ordered:
        last = joined[-1] if joined else None
        if last is not None and span.start.precedes(last.until):
            until = span.until if last.until.precedes(span.until) else last.until
            span = replace(span, start=last.until, until=until)
        joined.append(span)
    return tuple(joined)
