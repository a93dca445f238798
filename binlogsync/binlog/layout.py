"""The rows of one table under one schema and one choice of columns: from row events to the images of a ChangeBatch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog import rows
from binlogsync.binlog.arena import Arena, aligned_size
from binlogsync.binlog.columns import ColumnBuffers, build_array, is_compressed, reading, skipping, value_width
from binlogsync.binlog.tablemap import TableMap
from binlogsync.binlog.types.temporal import impossible_text
from binlogsync.binlog.types.text import OVERRUN
from binlogsync.binlog.visible_tables import VisibleTable
from binlogsync.schema import Column, TableSchema, arrow_type

Image = Literal["before", "after"]
IMAGES: tuple[Image, Image] = ("before", "after")
Impossible = dict[tuple[Image, str], pa.StringArray]
CREATE, UPDATE, DELETE = 0, 1, 2
_PAGE = 4096


class ColumnError(ValueError):
    """A value of one column cannot be decoded; `event` is its number among those that were decoded together."""

    def __init__(self, reason: str, column: str, event: int) -> None:
        super().__init__(reason)
        self.column = column
        self.event = event


def _rounded(size: int) -> int:
    """A little more, so that sizes repeat and memory is found again."""
    unit = max(1 << 14, 1 << max(size.bit_length() - 4, 0))
    return -(-size // unit) * unit


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """Rows of some events, in order: the count of each event, the op of each row, both images, impossible dates."""

    counts: npt.NDArray[np.int64]
    ops: npt.NDArray[np.int8]
    images: tuple[pa.StructArray, pa.StructArray]
    impossible: Impossible


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """One image: its columns, in order, and how each is read."""

    columns: tuple[Column, ...]
    reading: rows.Table
    least: int = field(init=False)
    widths: tuple[int, ...] = field(init=False)
    kernel: rows.ImageSpec = field(init=False)
    dates: int = field(init=False)
    kind: pa.StructType | None = field(init=False)

    def __post_init__(self) -> None:
        sizes = [int(how[rows.SIZE]) for how, c in zip(self.reading, self.columns, strict=True) if not c.nullable]
        object.__setattr__(self, "least", max(1, (len(self.columns) + 7) // 8 + sum(sizes)))
        skipped = np.isin(self.reading[:, rows.CODE], (rows.SKIP, rows.SKIP_BYTES)).any()
        kind = None if skipped else pa.struct([pa.field(c.name, arrow_type(c)) for c in self.columns])
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "dates", int(np.isin(self.reading[:, rows.CODE], rows.DATES).sum()))
        object.__setattr__(self, "widths", tuple(value_width(tuple(how)) for how in self.reading.tolist()))
        object.__setattr__(self, "kernel", rows.ImageSpec(self.reading, np.array(self.widths, np.int64)))

    @classmethod
    def of(cls, table: TableMap, present: tuple[int, ...], *, captured: bool) -> ImageLayout:
        """The image that holds the columns numbered `present`; raises ColumnError for a type that cannot be decoded."""
        hows = []
        for i in present:
            column, raw = table.schema.columns[i], table.raw[i]
            try:
                hows.append(reading(column, raw) if captured else skipping(column, raw))
            except ValueError as error:
                raise ColumnError(str(error), column.name, 0) from error
        columns = tuple(table.schema.columns[i] for i in present)
        return cls(columns, np.array(hows, np.int64).reshape(-1, 4))

    def string_bytes(self, how: npt.NDArray[np.int64], event_bytes: int, count: int) -> int:
        """The most bytes that a column of strings can take: recoding makes three of one, BINARY pads to its width."""
        if how[rows.CODE] == rows.RECODED:
            return 3 * event_bytes + 4
        return count * int(how[rows.B]) if how[rows.CODE] == rows.PADDED else event_bytes

    def reserve(self, count: int, event_bytes: int) -> int:
        """Bytes of memory for `count` rows out of `event_bytes` bytes of events."""
        total = 0
        for how, width in zip(self.reading, self.widths, strict=True):
            if width:
                total += aligned_size(count * width) + aligned_size((count + 7) // 8)
            elif rows.BYTES <= how[rows.CODE] < rows.SKIP_BYTES:
                text_bytes = self.string_bytes(how, event_bytes, count) + OVERRUN
                total += aligned_size(text_bytes) + aligned_size(4 * (count + 1)) + aligned_size((count + 7) // 8)
        return total

    def targets(self, arena: Arena, count: int, event_bytes: int) -> rows.Table:
        """Places in the arena for every column."""
        targets = np.zeros((len(self.columns), 6), np.int64)
        for how, width, target in zip(self.reading, self.widths, targets, strict=True):
            if width:
                target[rows.VALUES] = arena.take(count * width)
            elif rows.BYTES <= how[rows.CODE] < rows.SKIP_BYTES:
                target[rows.VALUES] = arena.take(self.string_bytes(how, event_bytes, count) + OVERRUN)
                target[rows.OFFSETS] = arena.take(4 * (count + 1))
                arena.view(int(target[rows.OFFSETS]), 1, np.int32)[0] = 0
            else:
                continue
            target[rows.VALID] = arena.take((count + 7) // 8)
        return targets

    def written(self, targets: rows.Table, count: int) -> int:
        """Bytes that `count` rows took, in whole pages."""
        fixed = sum(self.widths) * count + int(targets[:, rows.USED].sum())
        return fixed + (5 * count + 3 * _PAGE) * len(self.columns)

    def array(self, arena: Arena, targets: rows.Table, missing: npt.NDArray[np.bool_]) -> pa.StructArray:
        """The struct array of this image; NULL where the operation has none."""
        count = len(missing)
        children = []
        for column, how, target in zip(self.columns, self.reading.tolist(), targets.tolist(), strict=True):
            if target[rows.USED] > rows.STRING_LIMIT:
                raise ColumnError("more than 2 GiB of text in one event are not supported", column.name, 0)
            try:
                written = ColumnBuffers(arena, target, count, compressed=is_compressed(how))
                children.append(build_array(column, written))
            except (ValueError, pa.ArrowInvalid) as error:
                raise ColumnError(str(error), column.name, 0) from error
        nulls = int(missing.sum())
        validity = pa.py_buffer(np.packbits(~missing, bitorder="little")) if nulls else None
        return pa.Array.from_buffers(self.kind, count, [validity], nulls, children=children)


@dataclass(frozen=True, slots=True)
class Layout:
    """A table's rows with the columns that its images hold. `captured` False: rows are counted and stepped over."""

    schema: TableSchema
    sides: tuple[ImageLayout, ImageLayout]
    captured: bool
    shown_as: VisibleTable | None = None

    @classmethod
    def of(cls, table: TableMap, present: tuple[tuple[int, ...], tuple[int, ...]], *, captured: bool) -> Layout:
        """Images that hold the columns numbered `present`, before and after; raises ColumnError."""
        before, after = (ImageLayout.of(table, numbers, captured=captured) for numbers in present)
        return cls(table.schema, (before, after), captured, table.shown_as)

    def decode(
        self, base: int, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], ops: npt.NDArray[np.int8]
    ) -> DecodedRows:
        """All rows of the events at starts..ends from address `base`; raises ColumnError."""
        try:
            return self._decode(base, starts, ends, ops)
        except ColumnError:
            # What is found when the columns are whole says nothing of the event: look at each alone.
            for n in range(len(starts) if len(starts) > 1 else 0):
                try:
                    self._decode(base, starts[n : n + 1], ends[n : n + 1], ops[n : n + 1])
                except ColumnError as error:
                    raise ColumnError(str(error), error.column, n) from error
            raise

    def _decode(
        self, base: int, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], ops: npt.NDArray[np.int8]
    ) -> DecodedRows:
        event_bytes = _rounded(int((ends - starts).sum()))
        most = event_bytes // min(side.least for side in self.sides) + 1
        size = sum(side.reserve(most, event_bytes) for side in self.sides) + self._notes(most)
        arena = Arena(size, (self.sides[0].widths, self.sides[1].widths))
        targets = tuple(side.targets(arena, most, event_bytes) for side in self.sides)
        notes = arena.take(self._notes(most))
        arena.view(notes, 1, np.int64)[0] = 0
        readings = (self.sides[0].kernel, self.sides[1].kernel)
        counts = rows.decode_rows(base, (starts, ends, ops), readings, (targets[0], targets[1]), notes, most)
        if isinstance(counts, rows.DecodeFault):
            columns = self.sides[counts.image].columns
            column = columns[counts.column].name if columns and counts.status != rows.DecodeStatus.TOO_MANY else ""
            raise ColumnError(rows.REASONS[counts.status], column, counts.event)
        row_ops = np.repeat(ops, counts)
        arena.written(sum(side.written(target, len(row_ops)) for side, target in zip(self.sides, targets, strict=True)))
        if not self.captured:
            nothing = pa.array([], pa.struct([]))
            return DecodedRows(counts, row_ops, (nothing, nothing), {})
        before = self.sides[0].array(arena, targets[0], row_ops == CREATE)
        after = self.sides[1].array(arena, targets[1], row_ops == DELETE)
        noted = int(arena.view(notes, 1, np.int64)[0])
        impossible = arena.view(notes + 8, 4 * noted, np.int64).reshape(-1, 4)
        return DecodedRows(counts, row_ops, (before, after), self._texts(impossible, len(row_ops)))

    def _notes(self, count: int) -> int:
        """Bytes for the impossible dates that `count` rows may hold."""
        return aligned_size(32 * count * (self.sides[0].dates + self.sides[1].dates) + 8)

    def _texts(self, impossible: npt.NDArray[np.int64], count: int) -> Impossible:
        """Impossible dates as MySQL prints them, by image and column."""
        texts: dict[tuple[Image, str], list[str | None]] = {}
        for side, k, row, packed in impossible.tolist():
            column = self.sides[side].columns[k]
            values = texts.setdefault((IMAGES[side], column.name), [None] * count)
            values[row] = impossible_text(packed, column.type, column.fsp or 0)
        return {key: pa.array(values, pa.string()) for key, values in texts.items()}
