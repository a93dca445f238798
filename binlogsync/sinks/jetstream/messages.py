"""Converts a flush to messages, grouped into publish units. A unit is stored atomically, with the checkpoint after it.

With one change per message (`json`, the default) messages are in binlog order across all tables, and a unit has as many
messages as an atomic batch allows. With several changes per message, or with `arrow`, a message has changes of one
table, and each table stays in order. Consecutive changes of one table give messages that are units by themselves. If
changes of several tables interleave, the unit is an atomic batch again, because only the position after all its
messages is a checkpoint.

A flush is rendered in parts, so that its first units are sent while the next are built, two threads can build them, and
memory use does not depend on the size of the flush. This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec import subjects
from binlogsync.codec.envelope import (
    ARROW,
    CONTENT_TYPE,
    GAP,
    JSON,
    JSON_LINES,
    SCHEMA,
    SCHEMA_CHANGE,
    EnvelopeContext,
    encode_schema_change,
    envelopes,
    render,
)
from binlogsync.codec.joining import join_batches
from binlogsync.codec.renderers import JsonTexts
from binlogsync.flush import Flush
from binlogsync.nats.protocol_text import MessageBatch, SubjectAndHeaders
from binlogsync.nats.publish_unit import PublishUnit, SingleUnit, UnitBuilder
from binlogsync.position import Checkpoint
from binlogsync.sinks.jetstream.grouping import (
    EncodedMessages,
    Numbers,
    RowRange,
    arrow_messages,
    line_messages,
    segments,
    table_runs,
)
from binlogsync.sinks.jetstream.packing import PackingOptions

MAX_MESSAGES = 999
"""The limit of nats-server for one atomic batch is 1,000; the publisher may add a message with the checkpoint."""
_PART_CHANGES = {"json": 4 * MAX_MESSAGES, "lines": 8 * MAX_MESSAGES, "arrow": 16 * MAX_MESSAGES}
"""Approximate number of changes of a table in one part."""
_PART_BYTES = 8 << 20
_LONG_SEGMENT = MAX_MESSAGES
"""So many consecutive changes of one table become units of their own, apart from those of other tables."""
_NO_BODY = JsonTexts.of([b"\n"])


def unit_builders(flush: Flush, packing: PackingOptions, processed_us: int) -> Iterator[UnitBuilder]:
    """The builders of the flush's units, in order; a flush without changes is one message with only the checkpoint."""
    if packing.as_singles and any(map(len, flush.batches)):
        yield lambda: _single_units(flush, packing, EnvelopeContext(flush.source, processed_us))
        return
    batches = join_batches(flush.batches)
    if batches:
        yield from _Packer(flush, batches, packing, processed_us).unit_builders()
    else:
        headers = {GAP: flush.note} if flush.note else {}
        head, none = SubjectAndHeaders(subjects.checkpoint_subject(flush.source), headers), np.zeros(1, np.int64)
        batch = MessageBatch([head], none, none, none)
        yield lambda: [PublishUnit(batch, (), flush.checkpoint, flush.snapshot_text())]


def publish_units(flush: Flush, packing: PackingOptions, processed_us: int) -> Iterator[PublishUnit]:
    """The units of the flush, in order."""
    for make in unit_builders(flush, packing, processed_us):
        yield from make()


class _Packer:
    """Builds the units of one flush."""

    def __init__(
        self, flush: Flush, batches: Sequence[ChangeBatch], packing: PackingOptions, processed_us: int
    ) -> None:
        self._flush = flush
        self._batches = batches
        self._packing = packing
        self._context = EnvelopeContext(flush.source, processed_us)
        self._heads = [_head(flush, batch, packing) for batch in batches]
        names = [head.subject for head in self._heads]
        self._tables = np.array([names.index(name) for name in names])
        self._which = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
        self._rows = np.concatenate([np.arange(len(batch)) for batch in batches])
        if len(batches) > 1:
            seq = np.concatenate([batch.seqs() for batch in batches])
            order = np.argsort(seq, kind="stable")
            self._which, self._rows = self._which[order], self._rows[order]

    def unit_builders(self) -> Iterator[UnitBuilder]:
        """The builders of all units, in order."""
        count, packing = len(self._which), self._packing
        each = max(1, self._flush.nbytes // count)
        lines = packing.changes_per_message > 1
        many = max(_PART_CHANGES["lines" if lines else packing.format], packing.changes_per_message)
        many *= len(np.unique(self._tables))
        step = max(1, min(many, max(_PART_BYTES, packing.changes_per_message * 1024) // each))
        way = self._change_messages
        if packing.format == "arrow":
            way = self._arrow_messages
        elif lines:
            way = self._line_messages
        for start in range(0, count, step):
            yield partial(_all, way, start, min(start + step, count))

    # One change a message

    def _change_messages(self, start: int, stop: int) -> Iterator[PublishUnit]:
        rendered = self._rendered(start, stop)
        which = self._which[start:stop]
        addresses, sizes = np.empty(stop - start, np.int64), np.empty(stop - start, np.int64)
        for k, (base, offsets, _) in rendered.items():
            own = which == k if len(rendered) > 1 else slice(None)
            addresses[own] = base + offsets[:-1]
            sizes[own] = np.diff(offsets) - 1  # without the line end
        memory = [text for _, _, text in rendered.values()]
        for low, high in self._cuts(sizes, MAX_MESSAGES):
            batch = MessageBatch(self._heads, which[low:high], addresses[low:high], sizes[low:high])
            yield self._unit(batch, memory, start + high)

    # Several a message

    def _line_messages(self, start: int, stop: int) -> Iterator[PublishUnit]:
        rendered = self._rendered(start, stop)
        which, rows = self._which[start:stop], self._rows[start:stop]
        first = {k: int(rows[int(np.argmax(which == k))]) for k in rendered}
        sizes = np.empty(stop - start, np.int64)
        for k, (_, offsets, _) in rendered.items():
            sizes[which == k] = np.diff(offsets)

        def lines(run: RowRange) -> EncodedMessages:
            base, offsets, text = rendered[run.batch]
            own = offsets[run.start - first[run.batch] : run.stop - first[run.batch] + 1]
            return line_messages(own, base, text, self._packing.changes_per_message, self._packing.max_message_bytes)

        most = MAX_MESSAGES * self._packing.changes_per_message
        yield from self._grouped(start, self._cuts(sizes, most), lines)

    def _arrow_messages(self, start: int, stop: int) -> Iterator[PublishUnit]:
        which, limit = self._which[start:stop], self._packing.max_message_bytes
        each = np.array([max(1, batch.nbytes // len(batch)) for batch in self._batches], np.int64)

        def streams(run: RowRange) -> EncodedMessages:
            return arrow_messages(self._batches[run.batch].slice(run.start, run.stop), int(each[run.batch]), limit)

        yield from self._grouped(start, self._cuts(each[which], len(which)), streams)

    def _grouped(
        self, start: int, cuts: Iterable[tuple[int, int]], make: Callable[[RowRange], EncodedMessages]
    ) -> Iterator[PublishUnit]:
        """Units of the messages that `make` builds from changes of one table; `cuts` are relative to `start`."""
        for low, high in cuts:
            for one, end, is_one_table in segments(
                self._tables[self._which[start + low : start + high]], _LONG_SEGMENT
            ):
                here = (start + low + one, start + low + end)
                yield from self._singles(*here, make) if is_one_table else self._mixed(*here, make)

    def _singles(self, low: int, high: int, make: Callable[[RowRange], EncodedMessages]) -> Iterator[PublishUnit]:
        """Units of one message each, for changes of one table."""
        at = low
        for run in table_runs(self._tables, self._which[low:high], self._rows[low:high]):
            made = make(run)
            for address, size, count in zip(made.addresses, made.sizes, made.counts, strict=True):
                at += int(count)
                batch = MessageBatch(self._heads, np.array([run.batch]), np.array([address]), np.array([size]))
                yield self._unit(batch, made.memory, at)

    def _mixed(self, low: int, high: int, make: Callable[[RowRange], EncodedMessages]) -> Iterator[PublishUnit]:
        """The messages of several tables in one unit, or in as few units as possible."""
        middle = high
        while low < high:
            runs = list(table_runs(self._tables, self._which[low:middle], self._rows[low:middle]))
            made = [make(run) for run in runs]
            if sum(len(each.sizes) for each in made) > MAX_MESSAGES:
                middle = low + (middle - low) // 2
                continue
            which = np.repeat([run.batch for run in runs], [len(each.sizes) for each in made])
            addresses, sizes = (np.concatenate([getattr(each, n) for each in made]) for n in ("addresses", "sizes"))
            memory = [each.memory for each in made]
            yield self._unit(MessageBatch(self._heads, which, addresses, sizes), memory, middle)
            low, middle = middle, high

    def _rendered(self, start: int, stop: int) -> dict[int, tuple[int, Numbers, object]]:
        """Address, offsets and memory of the envelopes of each batch in the part, each with a line end."""
        found: dict[int, tuple[int, Numbers, object]] = {}
        which, rows = self._which[start:stop], self._rows[start:stop]
        for k in np.unique(which).tolist():
            own = rows[which == k]
            part = self._batches[k].slice(int(own[0]), int(own[-1]) + 1)
            text = _NO_BODY if part.ddl is not None else render(part, self._context, b"\n")
            found[k] = (text.data.ctypes.data, text.offsets, text)
        return found

    # Splitting, and checkpoints

    def _cuts(self, sizes: Numbers, count: int) -> Iterator[tuple[int, int]]:
        """Split changes with these sizes into (start, stop) ranges that fit into a unit, with at most `count` each."""
        ends, start = np.cumsum(sizes), 0
        while start < len(sizes):
            limit = (int(ends[start - 1]) if start else 0) + self._packing.max_unit_bytes
            stop = min(max(start + 1, int(np.searchsorted(ends, limit, "right"))), start + count, len(sizes))
            yield start, stop
            start = stop

    def _unit(self, batch: MessageBatch, memory: object, stop: int) -> PublishUnit:
        """A unit that ends with change number `stop`."""
        flush, is_last = self._flush, stop == len(self._which)
        return PublishUnit(batch, memory, self._checkpoint(stop), flush.snapshot_text(None if is_last else stop))

    def _checkpoint(self, stop: int) -> Checkpoint:
        """The checkpoint after the first `stop` changes."""
        if stop == len(self._which) or self._flush.has_snapshot_rows:
            return self._flush.checkpoint
        return _checkpoint_after(self._flush, self._batches[self._which[stop - 1]], int(self._rows[stop - 1]))


def _checkpoint_after(flush: Flush, batch: ChangeBatch, row: int) -> Checkpoint:
    """The checkpoint after a change that is not the last one of the flush."""
    if batch.ddl is not None and batch.ddl.kind == "foreign_key":
        return flush.start  # these come before all changes
    values = batch.source_values(row)
    return flush.checkpoint_at(values.seq, values.order, values.ts_us)


def _single_units(flush: Flush, packing: PackingOptions, context: EnvelopeContext) -> list[PublishUnit]:
    """A unit for each of few changes, without NumPy, which takes longer to set up."""
    heads = [_head(flush, batch, packing) for batch in flush.batches]
    bodies = [envelopes(batch, context) if batch.ddl is None else [b""] for batch in flush.batches]
    order = sorted(
        (seq, number, row) for number, batch in enumerate(flush.batches) for row, seq in enumerate(batch.seqs())
    )
    units: list[PublishUnit] = []
    for at, (_, number, row) in enumerate(order, 1):
        is_last = at == len(order)
        checkpoint = flush.checkpoint if is_last else _checkpoint_after(flush, flush.batches[number], row)
        units.append(SingleUnit(heads[number], bodies[number][row], checkpoint, flush.snapshot_text()))
    return units


def _all(way: Callable[[int, int], Iterator[PublishUnit]], start: int, stop: int) -> Sequence[PublishUnit]:
    return list(way(start, stop))


def _head(flush: Flush, batch: ChangeBatch, packing: PackingOptions) -> SubjectAndHeaders:
    name, prefix = (batch.schema.database, batch.schema.table), flush.rows_subject
    subject = (
        subjects.table_subject(flush.source, *name) if prefix is None else subjects.snapshot_subject(prefix, *name)
    )
    if batch.ddl is not None:
        return SubjectAndHeaders(subject, {SCHEMA_CHANGE: encode_schema_change(batch)})
    json = JSON if packing.changes_per_message == 1 else JSON_LINES
    kind = ARROW if packing.format == "arrow" else json
    return SubjectAndHeaders(subject, {SCHEMA: batch.schema.fingerprint, CONTENT_TYPE: kind})
