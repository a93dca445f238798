"""Groups changes into messages, if a message has several changes. A message has changes of one table. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.envelope import encode_arrow

Numbers = npt.NDArray[np.int64]


class RowRange(NamedTuple):
    """Rows start..stop-1 of a batch, by its number."""

    batch: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class EncodedMessages:
    """Encoded messages in order: address, size and number of changes of each, and the object that owns the memory."""

    addresses: Numbers
    sizes: Numbers
    counts: Numbers
    memory: object


def segments(tables: Numbers, long: int) -> Iterator[tuple[int, int, bool]]:
    """Split changes of these tables, in order, into segments (start, stop, whether all are of one table).

    At least `long` consecutive changes of one table form their own segment; shorter runs between those are combined.
    """
    bounds = [0, *(np.flatnonzero(np.diff(tables)) + 1).tolist(), len(tables)]
    begun = 0
    for start, stop in pairwise(bounds):
        if stop - start < long and stop < len(tables):
            continue
        if stop - start >= long:
            if begun < start:
                yield begun, start, bool((tables[begun:start] == tables[begun]).all())
            yield start, stop, True
        else:
            yield begun, stop, bool((tables[begun:stop] == tables[begun]).all())
        begun = stop


def table_runs(tables: Numbers, which: Numbers, rows: Numbers) -> Iterator[RowRange]:
    """The changes (batch and row of each) as row ranges, one table after another, each table in order, also if batches
    of one table interleave; `tables` maps batches to tables.
    """
    table_of = tables[which]
    for table in dict.fromkeys(table_of.tolist()):
        own = np.nonzero(table_of == table)[0]
        breaks = np.nonzero(np.diff(which[own]))[0] + 1
        for part in np.split(own, breaks):
            yield RowRange(int(which[part[0]]), int(rows[part[0]]), int(rows[part[-1]]) + 1)


def line_messages(offsets: Numbers, base: int, text: object, most: int, limit: int) -> EncodedMessages:
    """Messages of lines with these offsets from address `base`: up to `most` lines in each message, and up to `limit`
    bytes unless a single line has more. The line end of the last line is omitted.
    """
    bounds, at, last = [0], 0, len(offsets) - 1
    while at < last:
        fits = int(np.searchsorted(offsets, offsets[at] + limit, "right")) - 1
        at = min(last, at + most, max(fits, at + 1))
        bounds.append(at)
    ends = offsets[bounds]
    return EncodedMessages(base + ends[:-1], np.diff(ends) - 1, np.diff(bounds), text)


def arrow_messages(batch: ChangeBatch, each: int, limit: int) -> EncodedMessages:
    """Messages of one Arrow stream each, about as few as the limit allows, if a change has about `each` bytes. A schema
    change has an empty body.
    """
    parts = [(batch, pa.py_buffer(b""))] if batch.ddl is not None else list(_streams(batch, each, limit))
    bodies = [np.frombuffer(body, np.uint8) for _, body in parts]
    return EncodedMessages(
        np.array([body.ctypes.data for body in bodies], np.int64),
        np.array([len(body) for body in bodies], np.int64),
        np.array([len(part) for part, _ in parts], np.int64),
        bodies,
    )


def _streams(batch: ChangeBatch, each: int, limit: int) -> Iterator[tuple[ChangeBatch, pa.Buffer]]:
    rows = max(1, limit * 9 // 10 // each)
    for start in range(0, len(batch), rows):
        yield from _halved(batch.slice(start, min(start + rows, len(batch))), limit)


def _halved(batch: ChangeBatch, limit: int) -> Iterator[tuple[ChangeBatch, pa.Buffer]]:
    body = encode_arrow(batch)
    if len(body) > limit and len(batch) > 1:
        middle = len(batch) // 2
        yield from _halved(batch.slice(0, middle), limit)
        yield from _halved(batch.slice(middle, len(batch)), limit)
    else:
        yield batch, body
