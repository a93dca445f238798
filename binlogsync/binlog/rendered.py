"""Changes of a few row events whose images are JSON already: a small flush needs no Arrow columns.

To build and read the Arrow columns of one row costs as much as those of a hundred. A `RenderedBatch` is a ChangeBatch
with the JSON of its images. It decodes its row events to columns only when a reader asks for `data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from binlogsync.binlog.layout import Layout
from binlogsync.binlog.memory import address
from binlogsync.binlog.scan_state import RowEvents
from binlogsync.change import OPS, SourceValues
from binlogsync.change_batch import SOURCE_FIELDS, ChangeBatch, build_batch

ImageTexts = tuple[bytes, bytes]
"""JSON of the images before and after; `null` for an image that the operation does not have."""


class ImageRenderer(Protocol):
    """Renders the images of row events as JSON; implemented in codec/image_texts.py."""

    def render(self, events: RowEvents, count: int, layouts: Sequence[Layout]) -> list[list[ImageTexts] | None] | None:
        """The texts of the rows of each of the first `count` events, or None for an event that must become columns;
        None if these are too many events.
        """


class RenderedBatch(ChangeBatch):
    """See the module. No change has an impossible date.

    Attributes:
        layout: decodes the row events.
        events: the rows of each event, as logged, and its op as an index in OPS.
        texts, ops, sources: of each change.
    """

    __slots__ = ("_decoded", "events", "layout", "ops", "sources", "texts")

    layout: Layout
    events: Sequence[tuple[bytes, int]]
    texts: Sequence[ImageTexts]
    ops: str
    sources: Sequence[SourceValues]
    _decoded: ChangeBatch | None

    def __init__(
        self,
        layout: Layout,
        events: Sequence[tuple[bytes, int]],
        changes: tuple[Sequence[ImageTexts], str, Sequence[SourceValues]],
        server: tuple[str, int],
    ) -> None:
        """`changes` are texts, ops and source values; `server` is (server_uuid, server_id)."""
        texts, ops, sources = changes
        values = {
            "schema": layout.schema, "server_uuid": server[0], "server_id": server[1], "ddl": None, "impossible": {},
            "layout": layout, "events": events, "texts": texts, "ops": ops, "sources": sources, "_decoded": None,
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def nbytes(self) -> int:
        """Bytes of the row events."""
        return sum(len(data) for data, _ in self.events)

    @property
    def data(self) -> pa.RecordBatch:
        """The columns, decoded when they are first needed."""
        if self._decoded is None:
            object.__setattr__(self, "_decoded", self._decode())  # equal, if two threads do it at once
        assert self._decoded is not None
        return self._decoded.data

    def seqs(self) -> Sequence[int]:
        """`seq` of each change."""
        return [values.seq for values in self.sources]

    def source_values(self, row: int) -> SourceValues:
        """The source columns of one change."""
        return self.sources[row]

    def slice(self, start: int, stop: int) -> ChangeBatch:
        """The changes start..stop-1."""
        return self if (start, stop) == (0, len(self)) else super().slice(start, stop)

    def _decode(self) -> ChangeBatch:
        """The same changes as columns."""
        joined = np.frombuffer(b"".join(data for data, _ in self.events), np.uint8)
        sizes = np.array([len(data) for data, _ in self.events])
        ends, ops = np.cumsum(sizes), np.array([op for _, op in self.events], np.int8)
        part = self.layout.decode(address(joined), ends - sizes, ends, ops)
        source = {item.name: [getattr(values, item.name) for values in self.sources] for item in SOURCE_FIELDS}
        server = (self.server_uuid, self.server_id)
        return build_batch(self.schema, [OPS[op] for op in part.ops.tolist()], part.images, source, server)
