"""Reads messages of a table in order, and notices when the stream no longer has some that were to be read."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import nullcontext

import numpy as np

from binlogsync.errors import SinkError
from binlogsync.nats.messages import StreamBatch
from binlogsync.nats.reader import StreamReader
from binlogsync.nats.temporary_durable import Purpose, temporary_durable

_FETCH = 10_000
_AHEAD = 50_000
_SILENCE_S = 60.0


class StreamRecreatedError(Exception):
    """The stream was recreated, or dropped messages that had not been read."""


def fetch_next(
    reader: StreamReader, durable: str, newest: int, limit: int, wait_s: float = 1.0, *, stream: str | None
) -> Sequence[StreamBatch]:
    """What `reader.fetch` returns: the next messages after sequence `newest` of the stream created at `stream`.

    Raises StreamRecreatedError if there may have been others in between. `stream` None is any stream.
    """
    items = reader.fetch(durable, limit, wait_s)
    if stream not in (None, reader.durable_created_at(durable)):
        raise StreamRecreatedError
    if items:
        before = _before_gap(items, newest)
        # A stream drops its oldest messages first: what it still has before the first gap, it has in all of them.
        if before is not None and reader.first_after_fetch(durable) > before + 1:
            raise StreamRecreatedError
    return items


def _before_gap(items: Sequence[StreamBatch], newest: int) -> int | None:
    """The last sequence before the first gap in the sequences from `newest` on; None if there is no gap.

    Messages of other tables are a gap too. Raises StreamRecreatedError if the sequences do not increase.
    """
    first = int(items[0].sequences[0])
    if first <= newest:
        raise StreamRecreatedError
    if first > newest + 1:
        return newest
    if len(items) == len(items[0]) == 1:
        return None
    # One fetch may return several pulls, also within one batch. A message with several changes repeats its sequence.
    sequences = np.concatenate([item.sequences for item in items])
    steps = np.diff(sequences)
    if (steps < 0).any():
        raise StreamRecreatedError
    gaps = np.flatnonzero(steps > 1)
    return int(sequences[gaps[0]]) if len(gaps) else None


def read_sequences(
    reader: StreamReader,
    table: tuple[str, str],
    sequences: tuple[int, int],
    purpose: Purpose,
    *,
    is_ahead: bool = False,
) -> Generator[Sequence[StreamBatch]]:
    """The changes of (database, table) from the first sequence to the last, and maybe later ones, a fetch at a time.

    With `is_ahead`, the next ones are read while the caller processes those before; it must not use the reader then.
    Raises StreamRecreatedError if the stream no longer has all, SinkError, WireError.
    """
    newest, last, stream = sequences[0] - 1, sequences[1], reader.created_at()
    with temporary_durable(reader, purpose, table, newest + 1) as durable:
        received_s = time.monotonic()
        while newest < last:
            items = fetch_next(reader, durable, newest, _FETCH, stream=stream)
            newest = items[-1].last_sequence if items else newest
            with reader.reading_ahead(durable, _AHEAD) if is_ahead and items and newest < last else nullcontext():
                yield items
            if items:
                received_s = time.monotonic()
            elif reader.has_all(durable):
                if reader.first_sequence() > newest + 1:
                    raise StreamRecreatedError
                return
            elif time.monotonic() - received_s > _SILENCE_S:
                raise SinkError(
                    f"stream {reader.stream} delivered nothing for {_SILENCE_S:g} s, though sequence {last} "
                    f"is to be read; check with: nats consumer info {reader.stream} '{durable}'"
                )
