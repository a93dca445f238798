"""Changes of a few row events whose images are JSON already: a small flush needs no Arrow columns.

A `RenderedBatch` has the JSON of its images, and decodes its row events to columns only when a reader uses these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from binlogsync.binlog.layout import Layout
from binlogsync.binlog.memory import address
from binlogsync.binlog.scan_state import RowEvents
from binlogsync.change import OPS, ImageName, SourceValues
from binlogsync.change_batch import SOURCE_FIELDS, ChangeBatch, build_batch
from binlogsync.lazy_batch import LazyBatch

ImageTexts = tuple[bytes, bytes]
"""JSON of the images before and after; `null` for an image that the operation does not have."""


class ImageRenderer(Protocol):
    """Renders the images of row events as JSON; implemented in codec/image_texts.py."""

    def render(self, events: RowEvents, count: int, layouts: Sequence[Layout]) -> list[list[ImageTexts] | None] | None:
        """The texts of the rows of each of the first `count` events, or None for an event that must become columns;
        None if these are too many events.
        """


class RenderedBatch(LazyBatch):
    """See the module. No change has an impossible date.

    Attributes:
        layout: decodes the row events.
        events: the rows of each event, as logged, and its op as an index in OPS.
        texts, ops, sources: of each change.
    """

    __slots__ = ("events", "layout", "ops", "sources", "texts")

    layout: Layout
    events: Sequence[tuple[bytes, int]]
    texts: Sequence[ImageTexts]
    ops: str
    sources: Sequence[SourceValues]

    def __init__(
        self,
        layout: Layout,
        events: Sequence[tuple[bytes, int]],
        changes: tuple[Sequence[ImageTexts], str, Sequence[SourceValues]],
        server: tuple[str, int],
    ) -> None:
        """`changes` are texts, ops and source values; `server` is (server_uuid, server_id)."""
        (texts, ops, sources), (uuid, number) = changes, server
        own = {"layout": layout, "events": events, "texts": texts, "ops": ops, "sources": sources}
        self._set(schema=layout.schema, server_uuid=uuid, server_id=number, **own)

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def nbytes(self) -> int:
        """Bytes of the row events."""
        return sum(len(data) for data, _ in self.events)

    @property
    def impossible(self) -> Mapping[tuple[ImageName, str], pa.StringArray]:
        """Empty."""
        return {}

    def seqs(self) -> Sequence[int]:
        """`seq` of each change."""
        return [values.seq for values in self.sources]

    def source_values(self, row: int) -> SourceValues:
        """The source columns of one change."""
        return self.sources[row]

    def slice(self, start: int, stop: int) -> ChangeBatch:
        """The changes start..stop-1."""
        return self if (start, stop) == (0, len(self)) else super().slice(start, stop)

    def to_columns(self) -> ChangeBatch:
        """See LazyBatch."""
        joined = np.frombuffer(b"".join(data for data, _ in self.events), np.uint8)
        sizes = np.array([len(data) for data, _ in self.events])
        ends, ops = np.cumsum(sizes), np.array([op for _, op in self.events], np.int8)
        part = self.layout.decode(address(joined), ends - sizes, ends, ops)
        source = {item.name: [getattr(values, item.name) for values in self.sources] for item in SOURCE_FIELDS}
        server = (self.server_uuid, self.server_id)
        return build_batch(self.schema, [OPS[op] for op in part.ops.tolist()], part.images, source, server)
