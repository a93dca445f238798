"""Reads all messages of one table that a stream retains, oldest first, without affecting the reader's durables."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from binlogsync.nats.durable import temporary_durable
from binlogsync.nats.messages import StreamBatch
from binlogsync.nats.reader import StreamReader

_FETCH = 10_000
_INACTIVE_S = 3600.0


def read_retained_changes(reader: StreamReader, table: tuple[str, str]) -> Generator[Sequence[StreamBatch]]:
    """All changes of (database, table) that the stream has now. Raises SinkError, WireError."""
    durable = temporary_durable("past", table)
    last, at = reader.last_sequence(), 0
    reader.ensure_durable(durable, *table, 1, _INACTIVE_S)
    try:
        while at < last:
            fetched = reader.fetch(durable, _FETCH)
            if fetched:
                at = fetched[-1].last_sequence
                yield fetched
                continue
            left = reader.pending(durable)
            if left is None or (not left.num_pending and left.last_delivered_stream_seq <= at):
                return
    finally:
        reader.delete_durable(durable)
