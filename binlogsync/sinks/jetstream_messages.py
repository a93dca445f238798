"""A flush as messages: pure. Cut into pieces that one atomic batch can hold, each with the checkpoint behind it.

With one change per message (`json`, the default) messages are in binlog order through all tables. With more, or in
`arrow`, a message holds changes of one table: each table stays in order, and a piece is stored whole or not at all.

A flush is rendered a stretch at a time, so that its first pieces are on their way while the next are made, and what is
rendered at once stays small however large the flush is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ctypes import string_at
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.change import ChangeBatch
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint
from binlogsync.render import Fragments
from binlogsync.sinks.jetstream_frames import Batch, Head
from binlogsync.wire import subjects
from binlogsync.wire.envelope import (
    ARROW,
    CONTENT_TYPE,
    GAP,
    JSON,
    JSON_LINES,
    LARGE_OBJECT,
    SCHEMA,
    SCHEMA_CHANGE,
    EnvelopeContext,
    encode_arrow,
    encode_schema_change,
    render,
)
from binlogsync.wire.joining import join_batches

Format = Literal["json", "arrow"]
Numbers = npt.NDArray[np.int64]
MAX_MESSAGES = 1000
"""What nats-server takes in one atomic batch."""
_STRETCH = {"json": 4 * MAX_MESSAGES, "arrow": 16 * MAX_MESSAGES}
"""Changes of a table that are rendered at once, about."""
_STRETCH_BYTES = 8 << 20
_NO_BODY = Fragments.of([b"\n"])


@dataclass(frozen=True, slots=True)
class Piece:
    """Messages to store at once, and where a restart begins when they and all before them are stored.

    Attributes:
        batch: the messages; their payloads are read through their addresses.
        memory: what keeps the payloads alive.
    """

    batch: Batch
    memory: Sequence[object]
    checkpoint: Checkpoint

    def __len__(self) -> int:
        return len(self.batch.which)

    def head(self, number: int) -> Head:
        """Subject and headers of a message."""
        return self.batch.heads[int(self.batch.which[number])]

    def payload(self, number: int) -> bytes:
        """The body of a message."""
        return string_at(int(self.batch.addresses[number]), int(self.batch.sizes[number]))

    def larger_than(self, limit: int) -> list[int]:
        """Numbers of the messages with a body of more bytes."""
        return np.flatnonzero(self.batch.sizes > limit).tolist()

    def referring(self, names: dict[int, str]) -> Piece:
        """The piece with the bodies of some messages (by number) left in the object store, under these names."""
        heads, which, sizes = list(self.batch.heads), self.batch.which.copy(), self.batch.sizes.copy()
        for number, name in names.items():
            subject, headers = self.head(number)
            which[number], sizes[number] = len(heads), 0
            heads.append(Head(subject, {**headers, LARGE_OBJECT: name}))
        return Piece(Batch(heads, which, self.batch.addresses, sizes), self.memory, self.checkpoint)


@dataclass(frozen=True, slots=True)
class Packing:
    """How changes become messages.

    Attributes:
        format: "json" or "arrow".
        changes_per_message: of one table, for "json".
        max_piece_bytes: of one atomic batch.
        max_message_bytes: of a message with several changes; one change may be larger.
    """

    format: Format = "json"
    changes_per_message: int = 1
    max_piece_bytes: int = 16 << 20
    max_message_bytes: int = 900_000


@dataclass(slots=True)
class _Messages:
    """Messages as they are made: which head, where, how long."""

    which: list[Numbers] = field(default_factory=list)
    addresses: list[Numbers] = field(default_factory=list)
    sizes: list[Numbers] = field(default_factory=list)
    memory: list[object] = field(default_factory=list)

    def add(self, head: int, addresses: Any, sizes: Any, memory: object) -> None:
        """Messages of one head."""
        self.which.append(np.full(len(sizes), head, np.int64))
        self.addresses.append(np.asarray(addresses, np.int64))
        self.sizes.append(np.asarray(sizes, np.int64))
        self.memory.append(memory)

    def __len__(self) -> int:
        return sum(len(which) for which in self.which)

    def batch(self, heads: Sequence[Head]) -> Batch:
        """All of them, in the order they came."""
        return Batch(heads, np.concatenate(self.which), np.concatenate(self.addresses), np.concatenate(self.sizes))


def pieces(flush: Flush, packing: Packing, processed_us: int) -> Iterator[Piece]:
    """The flush in pieces, in order; a flush without changes is one message that carries only the checkpoint."""
    batches = join_batches(flush.batches)
    if not batches:
        headers = {GAP: flush.note} if flush.note else {}
        head, none = Head(subjects.checkpoint_subject(flush.source), headers), np.zeros(1, np.int64)
        yield Piece(Batch([head], none, none, none), (), flush.checkpoint)
        return
    yield from _Packer(flush, batches, packing, processed_us).pieces()


class _Packer:
    """The pieces of one flush."""

    def __init__(self, flush: Flush, batches: Sequence[ChangeBatch], packing: Packing, processed_us: int) -> None:
        self._flush = flush
        self._batches = batches
        self._packing = packing
        self._context = EnvelopeContext(flush.source, processed_us)
        self._heads = [_head(flush.source, batch, packing) for batch in batches]
        self._which = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
        self._rows = np.concatenate([np.arange(len(batch)) for batch in batches])
        if len(batches) > 1:
            seq = np.concatenate([batch.data.column("seq").to_numpy() for batch in batches])
            order = np.argsort(seq, kind="stable")
            self._which, self._rows = self._which[order], self._rows[order]

    def pieces(self) -> Iterator[Piece]:
        """All of them, rendered as they are asked for."""
        count, packing = len(self._which), self._packing
        each = max(1, self._flush.nbytes // count)
        tables = len({head.subject for head in self._heads})
        many = max(_STRETCH[packing.format], packing.changes_per_message) * tables
        step = max(1, min(many, max(_STRETCH_BYTES, packing.changes_per_message * 1024) // each))
        for start in range(0, count, step):
            stop = min(start + step, count)
            if packing.format == "arrow":
                yield from self._arrow_pieces(start, stop)
            elif packing.changes_per_message > 1:
                yield from self._line_pieces(start, stop)
            else:
                yield from self._single_pieces(start, stop)

    # One change a message

    def _single_pieces(self, start: int, stop: int) -> Iterator[Piece]:
        rendered = self._rendered(start, stop)
        which = self._which[start:stop]
        addresses, sizes = np.empty(stop - start, np.int64), np.empty(stop - start, np.int64)
        for k, (base, offsets, _) in rendered.items():
            own = which == k if len(rendered) > 1 else slice(None)
            addresses[own] = base + offsets[:-1]
            sizes[own] = np.diff(offsets) - 1  # without the line end
        memory = [text for _, _, text in rendered.values()]
        for low, high in self._cuts(sizes, MAX_MESSAGES):
            batch = Batch(self._heads, which[low:high], addresses[low:high], sizes[low:high])
            yield Piece(batch, memory, self._checkpoint(start + high))

    # Several a message, one a line

    def _line_pieces(self, start: int, stop: int) -> Iterator[Piece]:
        rendered = self._rendered(start, stop)
        which, rows = self._which[start:stop], self._rows[start:stop]
        first = {k: int(rows[int(np.argmax(which == k))]) for k in rendered}
        sizes = np.empty(stop - start, np.int64)
        for k, (_, offsets, _) in rendered.items():
            sizes[which == k] = np.diff(offsets)
        for low, high in self._cuts(sizes, MAX_MESSAGES * self._packing.changes_per_message):
            middle = high
            while low < high:
                made = _Messages()
                for k, one, end in _table_runs([head.subject for head in self._heads], which, rows, low, middle):
                    base, offsets, text = rendered[k]
                    lines = _line_bounds(offsets[one - first[k] : end - first[k] + 1], self._packing)
                    made.add(k, base + lines[:-1], np.diff(lines) - 1, text)
                if len(made) > MAX_MESSAGES:
                    middle = low + (middle - low) // 2
                    continue
                yield Piece(made.batch(self._heads), made.memory, self._checkpoint(start + middle))
                low, middle = middle, high

    def _rendered(self, start: int, stop: int) -> dict[int, tuple[int, Numbers, object]]:
        """Address, offsets and memory of the envelopes of each batch that is in the stretch, a line end behind each."""
        found: dict[int, tuple[int, Numbers, object]] = {}
        which, rows = self._which[start:stop], self._rows[start:stop]
        for k in np.unique(which).tolist():
            own = rows[which == k]
            part = self._batches[k].slice(int(own[0]), int(own[-1]) + 1)
            text = _NO_BODY if part.ddl is not None else render(part, self._context, b"\n")
            found[k] = (text.data.ctypes.data, text.offsets, text)
        return found

    # Arrow

    def _arrow_pieces(self, start: int, stop: int) -> Iterator[Piece]:
        which, rows = self._which[start:stop], self._rows[start:stop]
        limit = self._packing.max_message_bytes
        each = np.array([max(1, batch.nbytes // len(batch)) for batch in self._batches], np.int64)
        for low, high in self._cuts(each[which], len(which)):
            middle = high
            while low < high:
                made = _Messages()
                for k, one, end in _table_runs([head.subject for head in self._heads], which, rows, low, middle):
                    part = self._batches[k].slice(one, end)
                    for body in (b"",) if part.ddl is not None else _arrow_bodies(part, int(each[k]), limit):
                        made.add(k, [np.frombuffer(body, np.uint8).ctypes.data], [len(body)], body)
                if len(made) > MAX_MESSAGES:
                    middle = low + (middle - low) // 2
                    continue
                yield Piece(made.batch(self._heads), made.memory, self._checkpoint(start + middle))
                low, middle = middle, high

    # Where to cut, and where that is

    def _cuts(self, sizes: Numbers, count: int) -> Iterator[tuple[int, int]]:
        """(first, last + 1) of changes with these sizes: as many as a piece may hold, at most `count`."""
        ends, start = np.cumsum(sizes), 0
        while start < len(sizes):
            limit = (int(ends[start - 1]) if start else 0) + self._packing.max_piece_bytes
            stop = min(max(start + 1, int(np.searchsorted(ends, limit, "right"))), start + count, len(sizes))
            yield start, stop
            start = stop

    def _checkpoint(self, stop: int) -> Checkpoint:
        """Behind the first `stop` changes."""
        if stop == len(self._which):
            return self._flush.checkpoint
        data, row = self._batches[self._which[stop - 1]].data, int(self._rows[stop - 1])
        seq, order = data.column("seq")[row].as_py(), data.column("order")[row].as_py()
        return self._flush.checkpoint_at(seq, order, data.column("ts_us")[row].cast(pa.int64()).as_py())


def _head(source: str, batch: ChangeBatch, packing: Packing) -> Head:
    subject = subjects.table_subject(source, batch.schema.database, batch.schema.table)
    if batch.ddl is not None:
        return Head(subject, {SCHEMA_CHANGE: encode_schema_change(batch)})
    json = JSON if packing.changes_per_message == 1 else JSON_LINES
    kind = ARROW if packing.format == "arrow" else json
    return Head(subject, {SCHEMA: batch.schema.fingerprint, CONTENT_TYPE: kind})


def _table_runs(
    names: Sequence[str], which: Numbers, rows: Numbers, low: int, high: int
) -> Iterator[tuple[int, int, int]]:
    """(batch, start, stop) of the changes low..high-1, so that each table's keep their order, also where batches of one
    table interleave.
    """
    which, rows = which[low:high], rows[low:high]
    table_of = np.array([names.index(name) for name in names])[which]
    for table in dict.fromkeys(table_of.tolist()):
        own = np.nonzero(table_of == table)[0]
        breaks = np.nonzero(np.diff(which[own]))[0] + 1
        for part in np.split(own, breaks):
            yield int(which[part[0]]), int(rows[part[0]]), int(rows[part[-1]]) + 1


def _line_bounds(offsets: Numbers, packing: Packing) -> Numbers:
    """Where messages begin and end, of lines that do: so many in each, and no more bytes than a message may have."""
    bounds, at, last = [int(offsets[0])], 0, len(offsets) - 1
    while at < last:
        fits = int(np.searchsorted(offsets, offsets[at] + packing.max_message_bytes, "right")) - 1
        at = min(last, at + packing.changes_per_message, max(fits, at + 1))
        bounds.append(int(offsets[at]))
    return np.array(bounds, np.int64)


def _arrow_bodies(batch: ChangeBatch, each: int, limit: int) -> Iterator[bytes]:
    """The batch in about as few messages as the limit allows; a change has `each` bytes, about."""
    rows = max(1, limit * 9 // 10 // each)
    for start in range(0, len(batch), rows):
        yield from _halved(batch.slice(start, min(start + rows, len(batch))), limit)


def _halved(batch: ChangeBatch, limit: int) -> Iterator[bytes]:
    body = encode_arrow(batch)
    if len(body) > limit and len(batch) > 1:
        middle = len(batch) // 2
        yield from _halved(batch.slice(0, middle), limit)
        yield from _halved(batch.slice(middle, len(batch)), limit)
    else:
        yield body
