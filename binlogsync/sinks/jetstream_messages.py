"""A flush as messages: pure. Cut into pieces that one atomic batch can hold, each with the checkpoint behind it.

With one change per message (`json`, the default) messages are in binlog order through all tables. With more, or in
`arrow`, a message holds changes of one table: each table stays in order, and a piece is stored whole or not at all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync import subjects
from binlogsync.change import ChangeBatch
from binlogsync.envelope import ARROW, CONTENT_TYPE, JSON, JSON_LINES, SCHEMA, EnvelopeContext, encode_arrow, render
from binlogsync.flush import Flush
from binlogsync.position import Checkpoint

Format = Literal["json", "arrow"]
MAX_MESSAGES = 1000
"""What nats-server takes in one atomic batch."""


class Message(NamedTuple):
    """One message: headers are shared with other messages and must not be changed."""

    subject: str
    headers: dict[str, str]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Messages to store at once, and where a restart begins when they and all before them are stored."""

    messages: list[Message]
    checkpoint: Checkpoint


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
class _Rendered:
    """A batch of the flush, its envelopes (None for arrow), and the sizes of its changes."""

    batch: ChangeBatch
    subject: str
    headers: dict[str, str]
    sizes: npt.NDArray[np.int64]
    text: bytes = b""
    offsets: list[int] = field(default_factory=list)


def pieces(flush: Flush, packing: Packing, processed_us: int) -> Iterator[Piece]:
    """The flush in pieces, in order; a flush without changes is one message that carries only the checkpoint."""
    rendered = [_render(flush.source, batch, packing, processed_us) for batch in flush.batches if len(batch)]
    if not rendered:
        yield Piece([Message(subjects.checkpoint_subject(flush.source), {}, b"")], flush.checkpoint)
        return
    seq = np.concatenate([item.batch.data.column("seq").to_numpy() for item in rendered])
    which = np.repeat(np.arange(len(rendered)), [len(item.batch) for item in rendered])
    rows = np.concatenate([np.arange(len(item.batch)) for item in rendered])
    sizes = np.concatenate([item.sizes for item in rendered])
    if len(rendered) > 1:
        order = np.argsort(seq, kind="stable")
        which, rows, sizes = which[order], rows[order], sizes[order]
    ends = np.cumsum(sizes)
    start = 0
    while start < len(which):
        limit = (ends[start - 1] if start else 0) + packing.max_piece_bytes
        stop = max(start + 1, int(np.searchsorted(ends, limit, "right")))
        stop = min(
            stop,
            len(which),
            start + MAX_MESSAGES * (1 if packing.format == "json" else 1000) * packing.changes_per_message,
        )
        while len(messages := _messages(rendered, which[start:stop], rows[start:stop], packing)) > MAX_MESSAGES:
            stop = start + max(1, (stop - start) // 2)
        yield Piece(
            messages, flush.checkpoint if stop == len(which) else _checkpoint(flush, rendered, which, rows, stop - 1)
        )
        start = stop


def _checkpoint(
    flush: Flush, rendered: list[_Rendered], which: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], last: int
) -> Checkpoint:
    data, row = rendered[which[last]].batch.data, int(rows[last])
    seq, order = data.column("seq")[row].as_py(), data.column("order")[row].as_py()
    return flush.checkpoint_at(seq, order, data.column("ts_us")[row].cast(pa.int64()).as_py())


def _render(source: str, batch: ChangeBatch, packing: Packing, processed_us: int) -> _Rendered:
    subject = subjects.table_subject(source, batch.schema.database, batch.schema.table)
    headers = {SCHEMA: batch.schema.fingerprint}
    if packing.format == "arrow":
        sizes = np.full(len(batch), max(1, batch.nbytes // len(batch)), np.int64)
        return _Rendered(batch, subject, headers | {CONTENT_TYPE: ARROW}, sizes)
    envelopes = render(batch, EnvelopeContext(source, processed_us))
    kind = JSON if packing.changes_per_message == 1 else JSON_LINES
    text = envelopes.data[: int(envelopes.offsets[-1])].tobytes()
    return _Rendered(
        batch, subject, headers | {CONTENT_TYPE: kind}, np.diff(envelopes.offsets), text, envelopes.offsets.tolist()
    )


def _messages(
    rendered: list[_Rendered], which: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], packing: Packing
) -> list[Message]:
    if packing.format == "json" and packing.changes_per_message == 1:
        plain = [(item.subject, item.headers, item.text, item.offsets) for item in rendered]
        return [
            Message(plain[k][0], plain[k][1], plain[k][2][plain[k][3][row] : plain[k][3][row + 1]])
            for k, row in zip(which.tolist(), rows.tolist(), strict=True)
        ]
    messages: list[Message] = []
    for item, start, stop in _table_runs(rendered, which, rows):
        pack = _arrow_messages if packing.format == "arrow" else _line_messages
        messages.extend(pack(item, start, stop, packing))
    return messages


def _table_runs(
    rendered: list[_Rendered], which: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> Iterator[tuple[_Rendered, int, int]]:
    """(batch, start, stop) so that each table's changes keep their order, also where batches of one table
    interleave.
    """
    names = [item.subject for item in rendered]
    table_of = np.array([names.index(name) for name in names])[which]
    for table in dict.fromkeys(table_of.tolist()):
        own = np.nonzero(table_of == table)[0]
        breaks = np.nonzero(np.diff(which[own]))[0] + 1
        for part in np.split(own, breaks):
            yield rendered[which[part[0]]], int(rows[part[0]]), int(rows[part[-1]]) + 1


def _line_messages(item: _Rendered, start: int, stop: int, packing: Packing) -> Iterator[Message]:
    offsets = item.offsets
    while start < stop:
        fits = bisect_right(offsets, offsets[start] + packing.max_message_bytes - packing.changes_per_message) - 1
        end = min(stop, start + packing.changes_per_message, max(fits, start + 1))
        lines = (item.text[offsets[row] : offsets[row + 1]] for row in range(start, end))
        yield Message(item.subject, item.headers, b"\n".join(lines))
        start = end


def _arrow_messages(item: _Rendered, start: int, stop: int, packing: Packing) -> Iterator[Message]:
    payload = encode_arrow(item.batch.slice(start, stop))
    if len(payload) > packing.max_message_bytes and stop - start > 1:
        middle = (start + stop) // 2
        yield from _arrow_messages(item, start, middle, packing)
        yield from _arrow_messages(item, middle, stop, packing)
    else:
        yield Message(item.subject, item.headers, payload)
