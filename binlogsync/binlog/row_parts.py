"""Decodes the row events of a range: for each layout to columns, or to JSON texts if it has few rows."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import string_at
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog.layout import ColumnError, DecodedRows, Layout
from binlogsync.binlog.memory import address
from binlogsync.binlog.rendered import ImageRenderer, ImageTexts, RenderedBatch
from binlogsync.binlog.scan_state import RowEvents
from binlogsync.binlog.source_columns import SourceColumns
from binlogsync.change import OPS
from binlogsync.change_batch import OP_TYPE, ChangeBatch, build_batch

Longs = npt.NDArray[np.int64]


@cache
def _op_names() -> pa.StringArray:
    """Not made by the import: pyarrow imports pandas for its first array."""
    return pa.array(OPS, pa.string())


@dataclass(frozen=True, slots=True)
class ColumnPart:
    """The rows of the row events with these numbers, decoded to columns."""

    layout: Layout
    events: Longs
    rows: DecodedRows

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.rows.ops)

    def batch(
        self, events: RowEvents, sources: SourceColumns, gtids: pa.Array, server: tuple[str, int]
    ) -> ChangeBatch | None:
        """The rows as a batch; None without rows, or if the table is not captured."""
        if not self.layout.captured or not len(self.rows.ops):
            return None
        ops = pa.DictionaryArray.from_arrays(pa.array(self.rows.ops, OP_TYPE.index_type), _op_names(), safe=False)
        source = sources.columns(events, self.events, gtids)
        return build_batch(self.layout.schema, ops, self.rows.images, source, server, self.rows.impossible)


@dataclass(frozen=True, slots=True)
class TextPart:
    """The rows of the row events with these numbers, as texts for each event."""

    layout: Layout
    events: list[int]
    texts: list[list[ImageTexts]]

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(map(len, self.texts))

    def batch(self, events: RowEvents, sources: SourceColumns, server: tuple[str, int]) -> ChangeBatch | None:
        """See ColumnPart."""
        ops, data = "", []
        if not self.layout.captured or not any(self.texts):
            return None
        for event, texts in zip(self.events, self.texts, strict=True):
            at, op = int(events.at[event]), int(events.op[event])
            data.append((string_at(at, int(events.end[event]) - at), op))
            ops += OPS[op] * len(texts)
        changes = ([each for texts in self.texts for each in texts], ops, sources.values(events, self.events))
        return RenderedBatch(self.layout, data, changes, server)


class Memories:
    """Finds whether row events are in one memory: the same one of `kept`, or the receive buffer with all others."""

    def __init__(self, kept: Sequence[npt.NDArray[np.uint8]]) -> None:
        bounds = sorted((address(memory), len(memory)) for memory in kept)
        self._begins = np.array([begin for begin, _ in bounds], np.int64)
        self._sizes = np.array([size for _, size in bounds], np.int64)

    def are_one(self, at: Longs) -> bool:
        """True when the events at these addresses are in one memory."""
        if not len(self._begins) or not len(at):
            return True
        numbers = np.searchsorted(self._begins, at, "right") - 1
        numbers[at >= self._begins[numbers] + self._sizes[numbers]] = -1
        return bool((numbers == numbers[0]).all())


def decode_parts(
    events: RowEvents, count: int, layouts: Sequence[Layout], renderer: ImageRenderer | None, memories: Memories
) -> tuple[list[ColumnPart | TextPart], Longs]:
    """The rows of the first `count` events by layout, and the number of rows of each event.

    Raises ColumnError, whose event is the number of the row event.
    """
    counts, numbers = np.zeros(count, np.int64), events.layout[:count]
    texts = None if renderer is None else renderer.render(events, count, layouts)
    if texts is None:
        chosen_by = {n: np.flatnonzero(numbers == n) for n in np.unique(numbers).tolist()}
        return [_columns(events, chosen, layouts[n], counts, memories) for n, chosen in chosen_by.items()], counts
    owned: dict[int, list[int]] = {}
    for event, number in enumerate(numbers.tolist()):
        owned.setdefault(number, []).append(event)
    parts: list[ColumnPart | TextPart] = []
    for number, chosen in sorted(owned.items()):
        own = [text for event in chosen if (text := texts[event]) is not None]
        if len(own) == len(chosen):
            parts.append(TextPart(layouts[number], chosen, own))
            counts[chosen] = [len(each) for each in own]
        else:
            parts.append(_columns(events, np.array(chosen), layouts[number], counts, memories))
    return parts, counts


def _columns(events: RowEvents, chosen: Longs, layout: Layout, counts: Longs, memories: Memories) -> ColumnPart:
    """The rows of the chosen events; writes the number of rows of each to `counts`."""
    try:
        at = events.at[chosen]
        is_one = memories.are_one(at)
        decoded = layout.decode(0, at, events.end[chosen], events.op[chosen], is_one_memory=is_one)
    except ColumnError as error:
        raise ColumnError(str(error), error.column, int(chosen[error.event])) from error
    counts[chosen] = decoded.counts
    return ColumnPart(layout, chosen, decoded)
